/* The lines of /proc/PID/mountinfo, see proc_pid_mountinfo(5). */
#ifndef LM_MOUNTINFO_H
#define LM_MOUNTINFO_H

#include <stdbool.h>

#include "util.h"

struct lm_mount {
  int id;
  int parent;
  char *root;  /* what of its file system is seen there */
  char *point; /* where it is mounted */
  char *type;
  char *super; /* options of the file system */
};

/* Reads /proc/self/mountinfo as text that lm_mountinfo_next() takes apart. 0 or -errno. */
int lm_mountinfo_read(struct lm_buf *text);
/* Takes the next line off `*at`, in place; what `mount` points to lives as long as the text. false at its end. Lines of
 * another form are passed over. */
bool lm_mountinfo_next(char **at, struct lm_mount *mount);

#endif
