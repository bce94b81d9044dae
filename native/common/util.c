#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void lm_buf_free(struct lm_buf *buf) {
  free(buf->data);
  *buf = (struct lm_buf){0};
}

void lm_buf_reserve(struct lm_buf *buf, size_t more) {
  if (buf->cap - buf->len >= more) return;
  size_t cap = buf->cap == 0 ? 256 : buf->cap;
  while (cap - buf->len < more) cap *= 2;
  uint8_t *data = realloc(buf->data, cap);
  if (data == NULL) abort();
  buf->data = data;
  buf->cap = cap;
}

void lm_buf_append(struct lm_buf *buf, const void *data, size_t len) {
  if (len == 0) return;
  lm_buf_reserve(buf, len);
  memcpy(buf->data + buf->len, data, len);
  buf->len += len;
}

void *lm_alloc(size_t size) {
  void *p = calloc(1, size);
  if (p == NULL) abort();
  return p;
}

char *lm_strdup(const char *text) {
  char *copy = strdup(text);
  if (copy == NULL) abort();
  return copy;
}

char *lm_format(const char *format, ...) {
  va_list args;
  va_start(args, format);
  char *text = NULL;
  int written = vasprintf(&text, format, args);
  va_end(args);
  if (written < 0) abort();
  return text;
}

void lm_close(int *fd) {
  if (*fd >= 0) (void)close(*fd);
  *fd = -1;
}

int lm_set_nonblock(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  if ((flags & O_NONBLOCK) != 0) return 0;
  return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int lm_write_all(int fd, const void *data, size_t len) {
  const uint8_t *at = data;
  while (len > 0) {
    ssize_t n = write(fd, at, len);
    if (n < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    at += n;
    len -= (size_t)n;
  }
  return 0;
}

int lm_read_all(int fd, size_t max, struct lm_buf *out) {
  size_t start = out->len;
  for (;;) {
    lm_buf_reserve(out, 4096);
    ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
    if (n == 0) return 0;
    if (n < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    out->len += (size_t)n;
    if (out->len - start > max) return -EFBIG;
  }
}

int lm_read_file(int dirfd, const char *path, size_t max, struct lm_buf *out) {
  LM_CLEANUP_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return -errno;
  return lm_read_all(fd, max, out);
}

int lm_write_file_atomic(int dirfd, const char *name, const char *temp, const void *data, size_t len, mode_t mode) {
  /* A file of our own making, whatever stood there: a FIFO would make us wait, a link would be written through. */
  (void)unlinkat(dirfd, temp, 0);
  int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
  if (fd < 0) return -errno;
  int result = lm_write_all(fd, data, len);
  if (close(fd) < 0 && result == 0) result = -errno;
  if (result == 0 && renameat(dirfd, temp, dirfd, name) < 0) result = -errno;
  if (result != 0) (void)unlinkat(dirfd, temp, 0);
  return result;
}

#define TAIL_SIZE 8192
#define WORDS_MAX 300

char *lm_last_words(const char *path) {
  char tail[TAIL_SIZE + 1];
  LM_CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
  ssize_t n = size <= 0 ? 0 : pread(fd, tail, TAIL_SIZE, size > TAIL_SIZE ? size - TAIL_SIZE : 0);
  tail[n < 0 ? 0 : n] = '\0';
  const char *last = "";
  bool is_error = false;
  char *rest = NULL;
  for (char *line = strtok_r(tail, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
    bool tells = lm_after(line, "engine: ") != NULL || strstr(line, "Error: ") != NULL;
    if (is_error && !tells) continue;
    last = line;
    is_error = tells;
  }
  char *words = lm_format("%.*s", WORDS_MAX, last);
  for (char *c = words; *c != '\0'; c++) {
    if ((unsigned char)*c < ' ' || *c == '"' || (unsigned char)*c == 127) *c = ' ';
  }
  return words;
}

int64_t lm_now_ms(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

const char *lm_after(const char *text, const char *prefix) {
  size_t len = strlen(prefix);
  return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}
