#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../common/util.h"

#define ROOT "/sys/fs/cgroup"
/* How long processes may take to go, from the last group on that could be removed. */
#define WAIT_MS 1000
#define STEP_NS 10000000L
/* A directory without others in it: "." and its parent's entry. kernfs keeps that count. */
#define LEAF_LINKS 2

/* No "..", and more than the root. */
static bool is_usable(const char *path) {
  if (*path != '/') return false;
  const char *name = path;
  bool has_name = false;
  while (*name != '\0') {
    name += strspn(name, "/");
    size_t length = strcspn(name, "/");
    if (length == 2 && name[0] == '.' && name[1] == '.') return false;
    if (length > 0 && !(length == 1 && name[0] == '.')) has_name = true;
    name += length;
  }
  return has_name;
}

/* A group that is being walked through, above the one that is open. */
struct level {
  char *name; /* of the group below that was gone into */
  long next;  /* where to read on in its parent */
};

/* Depth costs memory, and neither stack nor descriptors: a container may nest groups by the thousand. */
struct walk {
  DIR *at;
  struct lm_buf levels; /* of struct level */
  int64_t deadline;
  bool removed; /* any */
};

static bool pop(struct walk *w, struct level *level) {
  if (w->levels.len == 0) return false;
  w->levels.len -= sizeof *level;
  memcpy(level, w->levels.data + w->levels.len, sizeof *level);
  return true;
}

static void walk_free(struct walk *w) {
  if (w->at != NULL) (void)closedir(w->at);
  for (struct level level; pop(w, &level);) free(level.name);
  lm_buf_free(&w->levels);
}

static bool remove_group(struct walk *w, int parent, const char *name) {
  if (unlinkat(parent, name, AT_REMOVEDIR) < 0) return errno == ENOENT;
  w->removed = true;
  return true;
}

static DIR *open_at(int parent, const char *name) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return NULL;
  DIR *dir = fdopendir(fd);
  if (dir == NULL) lm_close(&fd);
  return dir;
}

static bool is_group(int parent, const char *name, struct stat *info) {
  if (name[0] == '.') return false;
  return fstatat(parent, name, info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info->st_mode);
}

/* Removes what can be removed here. The name of a group that has others below, to be freed; NULL: there is none left. */
static char *remove_here(struct walk *w) {
  struct dirent *entry;
  while (lm_now_ms() < w->deadline && (entry = readdir(w->at)) != NULL) {
    struct stat info;
    if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) continue;
    if (!is_group(dirfd(w->at), entry->d_name, &info)) continue;
    if (!remove_group(w, dirfd(w->at), entry->d_name) && info.st_nlink > LEAF_LINKS) return lm_strdup(entry->d_name);
  }
  return NULL;
}

static void go_down(struct walk *w, char *name) {
  DIR *below = open_at(dirfd(w->at), name);
  if (below == NULL) {
    free(name); /* It has gone, or the next pass meets it again. */
    return;
  }
  /* Positions of kernfs are hashes of names, so they hold for another open of the same directory. */
  const struct level level = {.name = name, .next = telldir(w->at)};
  lm_buf_append(&w->levels, &level, sizeof level);
  (void)closedir(w->at);
  w->at = below;
}

/* Through "..": a group can never be moved below another. */
static bool go_up(struct walk *w) {
  struct level level;
  if (!pop(w, &level)) return false;
  DIR *above = open_at(dirfd(w->at), "..");
  if (above != NULL) {
    (void)closedir(w->at);
    w->at = above;
    (void)remove_group(w, dirfd(w->at), level.name);
    seekdir(w->at, level.next);
  }
  free(level.name);
  return above != NULL;
}

/* The lowest first. 0, or a negative errno: -EBUSY while there are processes in one of them. */
static int remove_tree(const char *path, struct walk *w) {
  if (remove_group(w, AT_FDCWD, path)) return 0;
  int result = -errno;
  w->at = open_at(AT_FDCWD, path);
  if (w->at == NULL) return errno == ENOENT ? 0 : result;
  for (;;) {
    char *name = remove_here(w);
    if (name != NULL) {
      go_down(w, name);
    } else if (!go_up(w)) {
      break;
    }
  }
  return remove_group(w, AT_FDCWD, path) ? 0 : -errno;
}

static int remove_at(const char *directory, int64_t deadline) {
  for (int64_t patience = lm_now_ms() + WAIT_MS;;) {
    struct walk walk = {.deadline = deadline};
    int result = remove_tree(directory, &walk);
    walk_free(&walk);
    int64_t now = lm_now_ms();
    if (walk.removed) patience = now + WAIT_MS;
    if (result != -EBUSY || now >= patience || now >= deadline) return result;
    (void)nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);
  }
}

int lm_remove_cgroup(const char *path, int64_t deadline, struct lm_error *err) {
  if (!is_usable(path)) return 0;
  if (access(ROOT "/cgroup.controllers", F_OK) == 0) {
    LM_CLEANUP_FREE char *directory = lm_format(ROOT "%s", path);
    int result = remove_at(directory, deadline);
    return result < 0 ? lm_fail(err, -result, "remove %s", directory) : 0;
  }
  DIR *hierarchies = opendir(ROOT);
  if (hierarchies == NULL) return lm_fail(err, errno, ROOT);
  int worst = 0;
  for (struct dirent *entry = readdir(hierarchies); entry != NULL; entry = readdir(hierarchies)) {
    struct stat info;
    if (!is_group(dirfd(hierarchies), entry->d_name, &info)) continue;
    LM_CLEANUP_FREE char *directory = lm_format(ROOT "/%s%s", entry->d_name, path);
    int result = remove_at(directory, deadline);
    if (result < 0 && worst == 0) worst = lm_fail(err, -result, "remove %s", directory);
  }
  (void)closedir(hierarchies);
  return worst;
}
