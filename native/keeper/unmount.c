#include "unmount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

#include "../common/util.h"

#define MOUNTINFO_MAX ((size_t)64 << 20)
#define MOUNTPOINT_FIELD 4

/* Octal escapes of proc_pid_mountinfo(5): \040 and the like. In place. */
static void unescape(char *text) {
  char *to = text;
  for (const char *at = text; *at != '\0'; at++) {
    if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' && at[3] >= '0' && at[3] <= '7') {
      *to++ = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
      at += 3;
    } else {
      *to++ = *at;
    }
  }
  *to = '\0';
}

static char *mount_point(char *line) {
  char *save = NULL;
  char *word = strtok_r(line, " ", &save);
  for (int i = 0; word != NULL && i < MOUNTPOINT_FIELD; i++) word = strtok_r(NULL, " ", &save);
  if (word != NULL) unescape(word);
  return word;
}

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
  int result = lm_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text);
  if (result < 0) return lm_fail(err, -result, "/proc/self/mountinfo");
  lm_buf_append(&text, "", 1);
  /* Lines are in mounting order: cut them off from the end. */
  char *start = (char *)text.data;
  while (*start != '\0') {
    char *line = strrchr(start, '\n');
    line = line == NULL ? start : line;
    char *from = line == start ? start : line + 1;
    char *point = mount_point(from);
    if (point != NULL && is_below(point, path)) {
      result = unmount_one(point);
      if (result < 0) return lm_fail(err, -result, "unmount %s", point);
    }
    *line = '\0';
  }
  return 0;
}
