#include "library.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/util.h"

#define SELF "/proc/self/exe"
#define CONFIG_FILE "/etc/lamina/config.toml"
#define CONFIG_MAX ((size_t)1 << 20)
/* What scripts/install appends to the program, between line ends, followed by the library directory. A copy has it. */
#define NOTE "\nlamina-library:"

static const char *const standard_places[] = {"/usr/local/lib/lamina", "/usr/lib/lamina", "/opt/lamina/lib/lamina"};

/* The path of our own program, to be freed, or NULL. An upgrade replaces the file under a running keeper. */
static char *own_path(void) {
  char self[PATH_MAX];
  ssize_t n = readlink(SELF, self, sizeof self - 1);
  if (n <= 0) return NULL;
  self[n] = '\0';
  char *deleted = strstr(self, " (deleted)");
  if (deleted != NULL && deleted[10] == '\0') *deleted = '\0';
  return lm_strdup(self);
}

/* ../lib/lamina as seen from the program's directory. */
static char *beside_program(const char *self) {
  const char *end = self == NULL ? NULL : strrchr(self, '/');
  while (end > self && end[-1] != '/') end--;
  return end == NULL || end == self ? NULL : lm_format("%.*slib/lamina", (int)(end - self), self);
}

/* Where scripts/install has put the library of this program. */
static char *noted_in_program(void) {
  char tail[PATH_MAX + sizeof NOTE + 1];
  LM_CLEANUP_CLOSE int fd = open(SELF, O_RDONLY | O_CLOEXEC);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) < 0) return NULL;
  off_t at = info.st_size > (off_t)sizeof tail ? info.st_size - (off_t)sizeof tail : 0;
  ssize_t n = pread(fd, tail, sizeof tail, at);
  if (n < (ssize_t)sizeof NOTE || tail[n - 1] != '\n') return NULL;
  size_t len = (size_t)n - 1;
  for (size_t begin = len - (sizeof NOTE - 1) + 1; begin-- > 0;) {
    if (memcmp(tail + begin, NOTE, sizeof NOTE - 1) != 0) continue;
    begin += sizeof NOTE - 1;
    return lm_format("%.*s", (int)(len - begin), tail + begin);
  }
  return NULL;
}

/* `library = "…"` of the configuration, as it stands on a line of its own before the first table: the parser for the
 * rest is part of what is being looked for. */
static char *named_in_config(void) {
  const char *config = getenv("LAMINA_CONFIG");
  LM_CLEANUP_BUF struct lm_buf text = {0};
  if (lm_read_file(AT_FDCWD, config != NULL && *config != '\0' ? config : CONFIG_FILE, CONFIG_MAX, &text) < 0) return NULL;
  lm_buf_append(&text, "", 1);
  char *state = NULL;
  for (char *line = strtok_r((char *)text.data, "\n", &state); line != NULL; line = strtok_r(NULL, "\n", &state)) {
    line += strspn(line, " \t");
    if (*line == '[') return NULL;
    const char *value = lm_after(line, "library");
    if (value == NULL) continue;
    value += strspn(value, " \t");
    if (*value++ != '=') continue;
    value += strspn(value, " \t");
    char quote = *value++;
    if (quote != '"' && quote != '\'') continue;
    const char *end = strchr(value, quote);
    if (end != NULL) return lm_format("%.*s", (int)(end - value), value);
  }
  return NULL;
}

struct trust {
  const char *self; /* our program's path, or NULL */
  uid_t owner;      /* its owner */
};

static struct trust trust_of(const char *self) {
  struct stat info;
  return (struct trust){.self = self, .owner = stat(SELF, &info) == 0 ? info.st_uid : 0};
}

/* Whether others than those who can change our program could change this file or directory. What leads to our program,
 * too, is not looked at: whoever can change that has no need of the library. */
static int check_part(const char *path, size_t len, const struct trust *trust, struct lm_error *err) {
  if (len > 1 && trust->self != NULL && strncmp(trust->self, path, len) == 0 && trust->self[len] == '/') return 0;
  LM_CLEANUP_FREE char *part = lm_format("%.*s", (int)(len == 0 ? 1 : len), path);
  struct stat info;
  if (lstat(part, &info) < 0) return lm_fail(err, errno, "%s", part);
  if (info.st_uid != 0 && info.st_uid != geteuid() && info.st_uid != trust->owner) {
    return lm_fail(err, 0, "%s belongs to user %u", part, (unsigned)info.st_uid);
  }
  /* In a directory such as /tmp nobody can replace what is another's. */
  bool is_shared = S_ISDIR(info.st_mode) && (info.st_mode & S_ISVTX) != 0;
  if (S_ISLNK(info.st_mode) || is_shared || (info.st_mode & S_IWOTH) == 0) return 0;
  return lm_fail(err, 0, "%s can be written by anybody", part);
}

/* The file, links resolved, and every directory on the way to it. */
static int check_file(const char *path, const struct trust *trust, struct lm_error *err) {
  LM_CLEANUP_FREE char *real = realpath(path, NULL);
  if (real == NULL) return lm_fail(err, errno, "%s", path);
  for (size_t at = 1; real[at] != '\0'; at++) {
    if (real[at] == '/' && check_part(real, at, trust, err) < 0) return -1;
  }
  return check_part(real, strlen(real), trust, err);
}

/* The links in the library itself are as good as what they lead to. */
static int check(const char *library, const struct trust *trust, struct lm_error *err) {
  if (*library != '/') return lm_fail(err, 0, "%s is not absolute", library);
  if (check_file(library, trust, err) < 0) return -1;
  static const char *const parts[] = {"engine.cjs", "engine.js", "engine.cache", "lamina.node", "node"};
  LM_CLEANUP_FREE char *script = lm_format("%s/engine.cjs", library);
  LM_CLEANUP_FREE char *real = realpath(script, NULL);
  if (real == NULL) return lm_fail(err, errno, "%s", script);
  int folder = (int)(strrchr(real, '/') - real);
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    LM_CLEANUP_FREE char *part = lm_format("%.*s/%s", folder, real, parts[i]);
    if ((i == 0 || access(part, F_OK) == 0) && check_file(part, trust, err) < 0) return -1;
  }
  return 0;
}

int lm_library_check(const char *library, struct lm_error *err) {
  LM_CLEANUP_FREE char *self = own_path();
  const struct trust trust = trust_of(self);
  return check(library, &trust, err);
}

/* Takes a place that may be NULL; true when the engine is there. What speaks against it is added to `tried`. */
static bool try_place(char *place, const struct trust *trust, struct lm_buf *tried) {
  struct lm_error err;
  if (place == NULL) return false;
  if (check(place, trust, &err) == 0) return true;
  /* Most are installed in a standard place, and noted there. */
  if (tried->len == 0 || memmem(tried->data, tried->len, err.text, strlen(err.text)) == NULL) {
    if (tried->len > 0) lm_buf_append(tried, "; ", 2);
    lm_buf_append(tried, err.text, strlen(err.text));
  }
  free(place);
  return false;
}

char *lm_library_find(struct lm_error *err) {
  LM_CLEANUP_FREE char *self = own_path();
  const struct trust trust = trust_of(self);
  LM_CLEANUP_BUF struct lm_buf tried = {0};
  const char *given = getenv("LAMINA_LIB");
  char *place = given != NULL && *given != '\0' ? lm_strdup(given) : named_in_config();
  bool is_named = place != NULL;
  if (try_place(place, &trust, &tried)) return place;
  /* Somebody wants that one and no other. */
  if (!is_named) {
    char *places[] = {beside_program(self), noted_in_program()};
    for (size_t i = 0; i < 2; i++) {
      if (!try_place(places[i], &trust, &tried)) continue;
      for (size_t left = i + 1; left < 2; left++) free(places[left]);
      return places[i];
    }
    for (size_t i = 0; i < sizeof standard_places / sizeof standard_places[0]; i++) {
      place = lm_strdup(standard_places[i]);
      if (try_place(place, &trust, &tried)) return place;
    }
  }
  lm_buf_append(&tried, "", 1);
  (void)lm_fail(err, 0, "engine: not found (%s): install Lamina, or let `library` in %s name its lib/lamina",
                (const char *)tried.data, CONFIG_FILE);
  return NULL;
}
