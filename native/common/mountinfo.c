#include "mountinfo.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MOUNTINFO_MAX ((size_t)64 << 20)

int lm_mountinfo_read(struct lm_buf *text) {
  int result = lm_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, text);
  if (result == 0) lm_buf_append(text, "", 1);
  return result;
}

/* Octal escapes, \040 and the like. In place. */
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

/* 36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/root rw,errors=continue */
static bool parse(char *line, struct lm_mount *mount) {
  char *save = NULL;
  char *words[6];
  for (int i = 0; i < 6; i++) {
    words[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
    if (words[i] == NULL) return false;
  }
  char *word;
  do {
    word = strtok_r(NULL, " ", &save);
    if (word == NULL) return false;
  } while (strcmp(word, "-") != 0);
  char *type = strtok_r(NULL, " ", &save);
  char *source = strtok_r(NULL, " ", &save);
  char *super = strtok_r(NULL, " ", &save);
  if (super == NULL) super = source; /* an empty source */
  if (super == NULL) return false;
  *mount = (struct lm_mount){.id = (int)strtol(words[0], NULL, 10),
                             .parent = (int)strtol(words[1], NULL, 10),
                             .root = words[3],
                             .point = words[4],
                             .type = type,
                             .super = super};
  unescape(mount->root);
  unescape(mount->point);
  return true;
}

bool lm_mountinfo_next(char **at, struct lm_mount *mount) {
  while (**at != '\0') {
    char *line = *at;
    char *end = strchr(line, '\n');
    if (end == NULL) {
      *at = line + strlen(line);
    } else {
      *end = '\0';
      *at = end + 1;
    }
    if (parse(line, mount)) return true;
  }
  return false;
}
