#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "../common/util.h"

static char *log_path;
/* Given up for a moment when there is no other descriptor: of all things this has to be logged. */
static int spare = -1;

void lm_log_keep_spare(void) {
  if (spare < 0) spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void lm_log_to(const char *path) {
  free(log_path);
  log_path = path == NULL ? NULL : lm_strdup(path);
}

static int open_log(void) {
  return open(log_path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_APPEND | O_NOCTTY | O_NOFOLLOW);
}

/* Copies text as the inside of a quoted logrus value. */
static size_t quote(char *out, size_t size, const char *text) {
  size_t n = 0;
  for (; *text != '\0' && n + 3 < size; text++) {
    if (*text == '"' || *text == '\\') {
      out[n++] = '\\';
      out[n++] = *text;
    } else {
      out[n++] = (unsigned char)*text < ' ' ? ' ' : *text;
    }
  }
  out[n] = '\0';
  return n;
}

void lm_log(const char *level, const char *format, ...) {
  if (log_path == NULL) return;
  int fd = open_log();
  bool gave_up = fd < 0 && (errno == EMFILE || errno == ENFILE) && spare >= 0;
  if (gave_up) {
    lm_close(&spare);
    fd = open_log();
  }
  if (fd < 0) {
    if (gave_up) lm_log_keep_spare();
    return;
  }
  char text[600];
  va_list args;
  va_start(args, format);
  (void)vsnprintf(text, sizeof text, format, args);
  va_end(args);
  char quoted[1000];
  (void)quote(quoted, sizeof quoted, text);
  struct timespec now;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  struct tm utc;
  (void)gmtime_r(&now.tv_sec, &utc);
  char line[1300];
  int n = snprintf(
      line, sizeof line, "time=\"%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ\" level=%s msg=\"%s\" component=keeper\n",
      utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec, level, quoted);
  /* Below PIPE_BUF, so the line is written whole or not at all. */
  if (n > 0 && (size_t)n < sizeof line) (void)!write(fd, line, (size_t)n);
  (void)close(fd);
  if (gave_up) lm_log_keep_spare();
}
