/* Errors: every function that can fail takes `struct lm_error *err` last, returns a negative value and fills it; on
 * success it is untouched. */
#ifndef LM_ERROR_H
#define LM_ERROR_H

struct lm_error {
  int code; /* errno, or 0 when no system call failed */
  char text[1024];
};

/* Fills err with the text, followed by ": " and the errno's own text unless code is 0. Always returns -1. */
int lm_fail(struct lm_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
