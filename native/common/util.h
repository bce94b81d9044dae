/* Descriptors, files, buffers and cleanup attributes. Nothing here knows what Lamina is. */
#ifndef LM_UTIL_H
#define LM_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "error.h"

#define LM_CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void lm_cleanup_freep(void *p) {
  free(*(void **)p);
}
static inline void lm_cleanup_closep(const int *fd) {
  if (*fd >= 0) (void)close(*fd);
}
#define LM_CLEANUP_FREE __attribute__((cleanup(lm_cleanup_freep)))
#define LM_CLEANUP_CLOSE __attribute__((cleanup(lm_cleanup_closep)))

/* A growing byte buffer; zero-initialised is empty. */
struct lm_buf {
  uint8_t *data;
  size_t len;
  size_t cap;
};
void lm_buf_free(struct lm_buf *buf);
#define LM_CLEANUP_BUF __attribute__((cleanup(lm_buf_free)))
/* Makes room for `more` bytes after len. Aborts without memory: only used with bounded sizes. */
void lm_buf_reserve(struct lm_buf *buf, size_t more);
void lm_buf_append(struct lm_buf *buf, const void *data, size_t len);

/* Small allocations that cannot reasonably fail: zeroed, aborting when they do. */
void *lm_alloc(size_t size);
char *lm_strdup(const char *text);
/* A formatted string, to be freed. */
char *lm_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Closes *fd unless it is negative, and makes it -1. */
void lm_close(int *fd);
int lm_set_nonblock(int fd);
/* 0 or -errno. */
int lm_write_all(int fd, const void *data, size_t len);
/* Appends everything up to end of file; more than max bytes is an error (EFBIG). 0 or -errno. */
int lm_read_all(int fd, size_t max, struct lm_buf *out);
/* Reads a whole file relative to dirfd. 0 or -errno. */
int lm_read_file(int dirfd, const char *path, size_t max, struct lm_buf *out);
/* Writes dirfd/name through dirfd/temp and rename(2), so that readers see all or nothing. 0 or -errno. */
int lm_write_file_atomic(int dirfd, const char *name, const char *temp, const void *data, size_t len, mode_t mode);

/* Of the end of a log: the last line that tells of an error, else the last that is not empty. Printable and short; empty
 * when there is none. To be freed. */
char *lm_last_words(const char *path);

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t lm_now_ms(void);

/* The text after `prefix`, or NULL. */
const char *lm_after(const char *text, const char *prefix);

#endif
