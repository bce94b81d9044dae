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
#define WAIT_MS 1000
#define STEP_NS 10000000L

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

static bool is_group(int parent, const struct dirent *entry) {
  if (entry->d_name[0] == '.') return false;
  struct stat info;
  return fstatat(parent, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

/* The lowest first. 0, or a negative errno: -EBUSY while somebody is in one of them. */
static int remove_tree(int parent, const char *name) {
  if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
  int result = -errno;
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? 0 : -errno;
  DIR *dir = fdopendir(fd);
  if (dir == NULL) {
    lm_close(&fd);
    return result;
  }
  for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
    if (is_group(dirfd(dir), entry)) (void)remove_tree(dirfd(dir), entry->d_name);
  }
  (void)closedir(dir);
  return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

static int remove_at(const char *directory, int64_t deadline) {
  for (;;) {
    int result = remove_tree(AT_FDCWD, directory);
    if (result != -EBUSY || lm_now_ms() >= deadline) return result;
    (void)nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);
  }
}

int lm_remove_cgroup(const char *path, struct lm_error *err) {
  if (!is_usable(path)) return 0;
  const int64_t deadline = lm_now_ms() + WAIT_MS;
  if (access(ROOT "/cgroup.controllers", F_OK) == 0) {
    LM_CLEANUP_FREE char *directory = lm_format(ROOT "%s", path);
    int result = remove_at(directory, deadline);
    return result < 0 ? lm_fail(err, -result, "remove %s", directory) : 0;
  }
  DIR *hierarchies = opendir(ROOT);
  if (hierarchies == NULL) return lm_fail(err, errno, ROOT);
  int worst = 0;
  for (struct dirent *entry = readdir(hierarchies); entry != NULL; entry = readdir(hierarchies)) {
    if (!is_group(dirfd(hierarchies), entry)) continue;
    LM_CLEANUP_FREE char *directory = lm_format(ROOT "/%s%s", entry->d_name, path);
    int result = remove_at(directory, deadline);
    if (result < 0 && worst == 0) worst = lm_fail(err, -result, "remove %s", directory);
  }
  (void)closedir(hierarchies);
  return worst;
}
