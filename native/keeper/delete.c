#include "verbs.h"
int lm_delete(const struct lm_flags *flags, struct lm_error *err) {
  (void)flags;
  return lm_fail(err, 0, "wip");
}
