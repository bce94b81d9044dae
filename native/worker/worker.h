/* The worker: a short-lived process that does one thing which may take long, in the engine's place. Each operation
 * returns 0, or -1 with what failed in `struct lm_failure`. Nothing here is shared with anybody: it may wait. */
#ifndef LM_WORKER_H
#define LM_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/util.h"

/* Descriptors from here on are what the worker was given: what it is to write to, and what it was executed by. */
#define FIRST_FOREIGN_FD 3

/* The system call that failed, for an error like Node's own. */
struct lm_failure {
  int error; /* errno */
  const char *call;
  const char *path;    /* or ""; lives as long as the process */
  int index;           /* of the mount or write that was under way */
  struct lm_buf extra; /* NUL-terminated lines: what could not be undone */
};

/* Fills it from errno. Always returns -1. */
int lm_failed(struct lm_failure *failure, const char *call, const char *path);

/* The path without symbolic links, of PATH_MAX bytes. What is there is not even looked at: a file system of a tenant's
 * may not answer. 0 or -1 with errno. */
int lm_real_path(const char *path, char *real);

/* The words of the command line that are left. */
struct lm_words {
  char **at;
};
/* The next; the process ends with status 2 when there is none, or it is no number. */
char *lm_word(struct lm_words *words);
unsigned long lm_number(struct lm_words *words);

/* mount ROOTFS (mount TYPE SOURCE TARGET FLAGS LATE_FLAGS PROPAGATION LOOP CWD DATA UID_MAP GID_MAP LOWERS LOWER... |
 * helper TIMEOUT_MS PROGRAM SOURCE TARGET ARGS ARG...)...: mounts all of a list, or none. */
int lm_work_mount(struct lm_words *words, struct lm_failure *failure);
/* unmount PATH BUSY_MS: everything at the path and below. */
int lm_work_unmount(struct lm_words *words, struct lm_failure *failure);
/* write DATA...: each with one write(2) to the descriptors from 3 on, up to the first that fails. */
int lm_work_write(struct lm_words *words, struct lm_failure *failure);

/* Unmounts one mount point, which is fine if it is none; tries again for so long while it is busy. 0 or -1 with errno. */
int lm_unmount_point(const char *path, int64_t busy_ms);

/* A user namespace with these maps as a descriptor, in which nobody lives, or -1. */
int lm_user_namespace(const char *uid_map, const char *gid_map, struct lm_failure *failure);
/* Bind-mounts source on target, either of which may be a descriptor's /proc/self/fd, with owners mapped by the namespace (Linux 5.12). */
int lm_idmap_mount(const char *source, const char *target, int user_namespace, struct lm_failure *failure);
/* Attaches a file to a free loop device, which detaches when nobody holds it any more; its path in `device`. A
 * descriptor that holds it, or -1. */
int lm_loop_attach(const char *file, bool read_only, char device[32], struct lm_failure *failure);

#endif
