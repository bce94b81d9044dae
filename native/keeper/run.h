/* Running a helper program to its end, with a time limit, its output collected. For the short verbs, not the keeper. */
#ifndef LM_RUN_H
#define LM_RUN_H

#include <stdbool.h>

#include "../common/util.h"

struct lm_run {
  char *const *argv;
  char *const *env; /* NULL: ours */
  bool confined;    /* as for lm_spawn */
  const char *cwd; /* NULL: ours */
  int input; /* descriptor for its stdin, -1: /dev/null */
  int budget_ms;
  /* results: */
  struct lm_buf out, err; /* the first LM_RUN_OUTPUT_MAX bytes of each; to be freed */
  int status;             /* wait(2) format */
  bool timed_out;         /* it was killed */
};

#define LM_RUN_OUTPUT_MAX ((size_t)4 << 20)

/* 0 once the program has ended, however; -1 when it could not be executed. */
int lm_run(struct lm_run *run, struct lm_error *err);
static inline bool lm_run_ok(const struct lm_run *run) {
  return !run->timed_out && run->status == 0;
}
/* How it failed, in words: "exit status 1: <stderr>", to be freed. */
char *lm_run_failure(const struct lm_run *run);
void lm_run_free(struct lm_run *run);

#endif
