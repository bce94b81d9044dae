#include "home.h"

#include <fcntl.h>
#include <string.h>

#include "../common/mountinfo.h"
#include "../common/util.h"

#define TEXT_MAX ((size_t)1 << 20)

static char *read_text(const char *path) {
  LM_CLEANUP_BUF struct lm_buf text = {0};
  if (lm_read_file(AT_FDCWD, path, TEXT_MAX, &text) < 0) return NULL;
  lm_buf_append(&text, "", 1);
  return lm_strdup((const char *)text.data);
}

struct lm_home lm_home_here(void) {
  return (struct lm_home){.groups = read_text("/proc/self/cgroup"), .score = read_text("/proc/self/oom_score_adj")};
}

void lm_home_free(struct lm_home *home) {
  free(home->groups);
  free(home->score);
  *home = (struct lm_home){0};
}

/* Whether the text has this very line. */
static bool has_line(const char *text, const char *line) {
  size_t len = strlen(line);
  for (const char *at = text; at != NULL && *at != '\0'; at = strchr(at, '\n'), at = at == NULL ? NULL : at + 1) {
    if (strncmp(at, line, len) == 0 && (at[len] == '\n' || at[len] == '\0')) return true;
  }
  return false;
}

/* Whether a list separated by commas has this word. */
static bool has_word(const char *list, const char *word, size_t len) {
  for (const char *at = list; *at != '\0'; at += *at == ',') {
    size_t n = strcspn(at, ",");
    if (n == len && memcmp(at, word, len) == 0) return true;
    at += n;
  }
  return false;
}

static bool is_hierarchy(const struct lm_mount *mount, const char *controllers) {
  if (*controllers == '\0') return strcmp(mount->type, "cgroup2") == 0;
  return strcmp(mount->type, "cgroup") == 0 && has_word(mount->super, controllers, strcspn(controllers, ","));
}

/* `path` of a hierarchy as this mount of it shows it; NULL: not at all. */
static const char *below_root(const struct lm_mount *mount, const char *path) {
  if (strcmp(mount->root, "/") == 0) return path;
  const char *rest = lm_after(path, mount->root);
  return rest != NULL && (*rest == '\0' || *rest == '/') ? rest : NULL;
}

/* The move into the group that a line of /proc/PID/cgroup tells of, "4:memory:/system.slice". */
static bool find_move(char *line, struct lm_move *move) {
  char *controllers = strchr(line, ':');
  char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
  if (path == NULL) return false;
  *controllers++ = '\0';
  *path++ = '\0';
  LM_CLEANUP_BUF struct lm_buf text = {0};
  if (*path != '/' || lm_mountinfo_read(&text) < 0) return false;
  struct lm_mount mount;
  for (char *at = (char *)text.data; lm_mountinfo_next(&at, &mount);) {
    const char *shown = is_hierarchy(&mount, controllers) ? below_root(&mount, path) : NULL;
    if (shown == NULL) continue;
    move->procs = lm_format("%s%s/cgroup.procs", mount.point, shown);
    move->fallback = lm_format("%s/cgroup.procs", mount.point);
    return true;
  }
  return false;
}

struct lm_move *lm_home_moves(const struct lm_home *home, unsigned *count) {
  *count = 0;
  LM_CLEANUP_FREE char *now = read_text("/proc/self/cgroup");
  if (home->groups == NULL || now == NULL || strcmp(home->groups, now) == 0) return NULL;
  LM_CLEANUP_FREE char *groups = lm_strdup(home->groups);
  size_t lines = 1;
  for (const char *at = groups; *at != '\0'; at++) lines += *at == '\n';
  struct lm_move *moves = lm_alloc(lines * sizeof *moves);
  char *save = NULL;
  for (char *line = strtok_r(groups, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
    if (!has_line(now, line) && find_move(line, &moves[*count])) (*count)++;
  }
  return moves;
}

void lm_home_free_moves(struct lm_move *moves, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    free(moves[i].procs);
    free(moves[i].fallback);
  }
  free(moves);
}
