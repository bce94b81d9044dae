#include "unmount.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "../common/mountinfo.h"
#include "../common/util.h"

static bool is_below(const char *point, const char *path) {
  const char *rest = lm_after(point, path);
  return rest != NULL && (*rest == '\0' || *rest == '/');
}

static int unmount_one(const char *point) {
  if (umount2(point, UMOUNT_NOFOLLOW) == 0) return 0;
  if (errno == EBUSY && umount2(point, UMOUNT_NOFOLLOW | MNT_DETACH) == 0) return 0;
  /* Gone with a mount above it, or by somebody else's hand. */
  return errno == EINVAL || errno == ENOENT ? 0 : -errno;
}

int lm_unmount_all(const char *path, struct lm_error *err) {
  LM_CLEANUP_BUF struct lm_buf text = {0};
  int result = lm_mountinfo_read(&text);
  if (result < 0) return lm_fail(err, -result, "/proc/self/mountinfo");
  /* Lines are in mounting order: the points are gone through from the end. */
  LM_CLEANUP_BUF struct lm_buf points = {0};
  struct lm_mount mount;
  for (char *at = (char *)text.data; lm_mountinfo_next(&at, &mount);) {
    if (is_below(mount.point, path)) lm_buf_append(&points, &mount.point, sizeof mount.point);
  }
  char **point = (char **)(void *)points.data;
  for (size_t i = points.len / sizeof *point; i > 0; i--) {
    result = unmount_one(point[i - 1]);
    if (result < 0) return lm_fail(err, -result, "unmount %s", point[i - 1]);
  }
  return 0;
}
