#include "paths.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/util.h"
#include "sha256.h"
#include "spawn.h"

static const char *env_or_null(const char *name) {
  const char *value = getenv(name);
  return value == NULL || *value == '\0' ? NULL : value;
}

char *lm_node_path(const char *library) {
  const char *given = env_or_null("LAMINA_NODE");
  if (given != NULL) return lm_find_program(given, getenv("PATH"));
  /* Beside the engine that the link leads to: code that V8 has compiled is good for one node only. */
  LM_CLEANUP_FREE char *link = lm_format("%s/engine.cjs", library);
  LM_CLEANUP_FREE char *script = realpath(link, NULL);
  char *slash = script == NULL ? NULL : strrchr(script, '/');
  if (slash != NULL) {
    char *own = lm_format("%.*s/node", (int)(slash - script), script);
    if (access(own, X_OK) == 0) return own;
    free(own);
  }
  char *own = lm_format("%s/node", library);
  if (access(own, X_OK) == 0) return own;
  free(own);
  return NULL;
}

char *lm_state_dir(void) {
  const char *given = env_or_null("LAMINA_STATE_DIR");
  if (given != NULL) return lm_strdup(given);
  if (geteuid() == 0) return lm_strdup("/run/lamina");
  const char *runtime = env_or_null("XDG_RUNTIME_DIR");
  return runtime == NULL ? NULL : lm_format("%s/lamina", runtime);
}

int lm_check_state_dir(const char *directory, struct lm_error *err) {
  static const char elsewhere[] = "let LAMINA_STATE_DIR in the daemon's environment name another directory";
  if (directory == NULL) {
    return lm_fail(err, 0, "no state directory: set LAMINA_STATE_DIR or XDG_RUNTIME_DIR in the daemon's environment");
  }
  if (*directory != '/') return lm_fail(err, 0, "state directory %s is not absolute: %s", directory, elsewhere);
  struct stat info;
  if (lstat(directory, &info) < 0) {
    return errno == ENOENT ? 0 : lm_fail(err, 0, "state directory %s: %s: %s", directory, strerror(errno), elsewhere);
  }
  /* A link's owner may turn it elsewhere. */
  if (!S_ISDIR(info.st_mode)) {
    return lm_fail(err, 0, "state directory %s is %s, not a directory: remove it, or %s", directory,
                   S_ISLNK(info.st_mode) ? "a symbolic link" : "a file", elsewhere);
  }
  if (info.st_uid != geteuid()) {
    return lm_fail(err, 0, "state directory %s belongs to uid %u, not to uid %u: remove it or change its owner, or %s",
                   directory, (unsigned)info.st_uid, (unsigned)geteuid(), elsewhere);
  }
  if ((info.st_mode & 022) != 0) {
    return lm_fail(err, 0, "state directory %s has mode %04o, so others may write there: chmod 0700 %s", directory,
                   (unsigned)info.st_mode & 07777, directory);
  }
  return 0;
}

void lm_engine_key(const char *library, char out[17]) {
  LM_CLEANUP_BUF struct lm_buf text = {0};
  const char *config = getenv("LAMINA_CONFIG");
  const char *node = getenv("LAMINA_NODE");
  LM_CLEANUP_FREE char *head = lm_format("%s\n%s\n%s\n%u\n", library, config == NULL ? "" : config,
                                         node == NULL ? "" : node, (unsigned)geteuid());
  lm_buf_append(&text, head, strlen(head));
  static const char *const spaces[] = {"mnt", "pid", "net", "user"};
  for (unsigned i = 0; i < 4; i++) {
    char path[32], link[64];
    (void)snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i]);
    ssize_t n = readlink(path, link, sizeof link);
    if (n > 0) lm_buf_append(&text, link, (size_t)n);
    lm_buf_append(&text, "\n", 1);
  }
  char hex[65];
  lm_sha256_hex(text.data, text.len, hex);
  memcpy(out, hex, 16);
  out[16] = '\0';
}

int lm_check_name(const char *what, const char *name, struct lm_error *err) {
  if (strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) return 0;
  return lm_fail(err, 0, "%s is not a usable %s", name, what);
}

int lm_check_no_ascent(const char *what, const char *path, struct lm_error *err) {
  for (const char *at = path; *at != '\0'; at += strspn(at, "/")) {
    size_t len = strcspn(at, "/");
    if (len == 2 && at[0] == '.' && at[1] == '.') return lm_fail(err, 0, "%s is not a usable %s", path, what);
    at += len;
  }
  return 0;
}

int lm_make_dirs(const char *path, mode_t mode, struct lm_made *made, struct lm_error *err) {
  if (*path != '/') return lm_fail(err, EINVAL, "mkdir %s", path);
  LM_CLEANUP_FREE char *part = lm_strdup(path);
  size_t len = strlen(part);
  size_t existed = SIZE_MAX;
  for (size_t i = 1; i <= len; i++) {
    if (part[i] != '/' && part[i] != '\0') continue;
    char kept = part[i];
    part[i] = '\0';
    if (mkdir(part, mode) == 0) {
      if (existed == SIZE_MAX) existed = i;
    } else if (errno != EEXIST) {
      int error = errno;
      if (existed != SIZE_MAX) {
        struct lm_made undo = {.path = lm_strdup(part), .first = existed};
        lm_unmake_dirs(&undo);
      }
      return lm_fail(err, error, "mkdir %s", part);
    }
    part[i] = kept;
  }
  struct stat info;
  if (stat(path, &info) < 0 || !S_ISDIR(info.st_mode)) return lm_fail(err, ENOTDIR, "%s", path);
  if (made != NULL && existed != SIZE_MAX) *made = (struct lm_made){.path = lm_strdup(path), .first = existed};
  return 0;
}

void lm_unmake_dirs(struct lm_made *made) {
  if (made->path == NULL) return;
  for (size_t i = strlen(made->path); i >= made->first; i--) {
    if (made->path[i] != '\0' && made->path[i] != '/') continue;
    made->path[i] = '\0';
    if (rmdir(made->path) < 0) break;
  }
  free(made->path);
  *made = (struct lm_made){0};
}
