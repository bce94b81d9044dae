/* Unmounting: the last unmount of a file system writes what is unwritten of it, however long its disk takes. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>

#include "../common/mountinfo.h"
#include "worker.h"

#define BUSY_RETRY_MS 50

int lm_unmount_point(const char *path, int64_t busy_ms) {
  const int64_t deadline = lm_now_ms() + busy_ms;
  for (;;) {
    if (umount2(path, UMOUNT_NOFOLLOW) == 0) return 0;
    /* EINVAL: no mount point. ENOENT: it was below one that has been unmounted since the list was read. */
    if (errno == EINVAL || errno == ENOENT) return 0;
    if (errno != EBUSY || lm_now_ms() + BUSY_RETRY_MS > deadline) return -1;
    /* Nothing tells when the last user of a mount goes. */
    (void)nanosleep(&(struct timespec){.tv_nsec = BUSY_RETRY_MS * 1000000L}, NULL);
  }
}

struct found {
  struct lm_mount mount;
  bool done;
};

/* A mount after all that is mounted on it, the latest of those first: it may hide the others. The order comes from the
 * mounts' parents, because with mounts on top of each other a path alone does not tell which is reached by it. */
static int visit(struct found *all, size_t count, size_t index, int64_t busy_ms, struct lm_failure *failure) {
  all[index].done = true;
  for (size_t i = count; i > 0; i--) {
    struct found *child = &all[i - 1];
    if (child->done || child->mount.parent != all[index].mount.id) continue;
    if (visit(all, count, i - 1, busy_ms, failure) < 0) return -1;
  }
  const char *point = all[index].mount.point;
  return lm_unmount_point(point, busy_ms) < 0 ? lm_failed(failure, "umount", point) : 0;
}

static bool has_parent(const struct found *all, size_t count, size_t index) {
  for (size_t i = 0; i < count; i++) {
    if (i != index && all[i].mount.id == all[index].mount.parent) return true;
  }
  return false;
}

int lm_work_unmount(struct lm_words *words, struct lm_failure *failure) {
  const char *path = lm_word(words);
  int64_t busy_ms = (int64_t)lm_number(words);
  (void)close_range(FIRST_FOREIGN_FD, ~0U, 0);
  char real[PATH_MAX];
  if (lm_real_path(path, real) < 0) return errno == ENOENT ? 0 : lm_failed(failure, "open", path);
  LM_CLEANUP_BUF struct lm_buf text = {0};
  int result = lm_mountinfo_read(&text);
  if (result < 0) {
    errno = -result;
    return lm_failed(failure, "read", "/proc/self/mountinfo");
  }
  LM_CLEANUP_BUF struct lm_buf list = {0};
  struct found found = {0};
  for (char *at = (char *)text.data; lm_mountinfo_next(&at, &found.mount);) {
    const char *rest = strcmp(real, "/") == 0 ? "" : lm_after(found.mount.point, real);
    if (rest != NULL && (*rest == '\0' || *rest == '/')) lm_buf_append(&list, &found, sizeof found);
  }
  struct found *all = (struct found *)(void *)list.data;
  size_t count = list.len / sizeof *all;
  for (size_t i = count; i > 0; i--) {
    if (all[i - 1].done || has_parent(all, count, i - 1)) continue;
    if (visit(all, count, i - 1, busy_ms, failure) < 0) return -1;
  }
  return 0;
}
