#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int lm_fail(struct lm_error *err, int code, const char *format, ...) {
  err->code = code;
  va_list args;
  va_start(args, format);
  int written = vsnprintf(err->text, sizeof err->text, format, args);
  va_end(args);
  size_t used = written < 0 ? 0 : (size_t)written;
  if (code != 0 && used < sizeof err->text - 1) {
    (void)snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(code));
  }
  return -1;
}
