/* lamina-worker OPERATION ARGUMENTS...: see worker.h. Run by a keeper on an engine's behalf; both are of one build.
 * Exit status 0: done. 1: what failed is on standard output, as NUL-terminated texts: errno, system call, path, index,
 * and lines of what could not be undone. 2: it was called in a way that it does not know. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "worker.h"

int lm_failed(struct lm_failure *failure, const char *call, const char *path) {
  failure->error = errno;
  failure->call = call;
  failure->path = lm_strdup(path);
  return -1;
}

int lm_real_path(const char *path, char *real) {
  LM_CLEANUP_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) return -1;
  LM_CLEANUP_FREE char *link = lm_format("/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, real, PATH_MAX - 1);
  if (n < 0) return -1;
  real[n] = '\0';
  return 0;
}

char *lm_word(struct lm_words *words) {
  if (*words->at == NULL) exit(2);
  return *words->at++;
}

unsigned long lm_number(struct lm_words *words) {
  const char *text = lm_word(words);
  char *end;
  unsigned long number = strtoul(text, &end, 10);
  if (*text == '\0' || *end != '\0') exit(2);
  return number;
}

static void report(const struct lm_failure *failure) {
  LM_CLEANUP_BUF struct lm_buf text = {0};
  char error[16], index[16];
  (void)snprintf(error, sizeof error, "%d", failure->error);
  (void)snprintf(index, sizeof index, "%d", failure->index);
  const char *const parts[] = {error, failure->call, failure->path, index};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) lm_buf_append(&text, parts[i], strlen(parts[i]) + 1);
  lm_buf_append(&text, failure->extra.data, failure->extra.len);
  (void)lm_write_all(STDOUT_FILENO, text.data, text.len);
}

int main(int argc, char **argv) {
  /* It may have been executed by the number of a descriptor. */
  (void)prctl(PR_SET_NAME, "lamina-worker");
  if (argc < 2) return 2;
  static const struct {
    const char *name;
    int (*work)(struct lm_words *words, struct lm_failure *failure);
  } operations[] = {{"mount", lm_work_mount}, {"unmount", lm_work_unmount}, {"write", lm_work_write}};
  struct lm_words words = {argv + 2};
  struct lm_failure failure = {.call = "", .path = ""};
  for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
    if (strcmp(argv[1], operations[i].name) != 0) continue;
    if (operations[i].work(&words, &failure) == 0) return 0;
    report(&failure);
    return 1;
  }
  return 2;
}
