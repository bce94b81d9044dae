#include "verbs.h"
int lm_info(struct lm_error *err) {
  return lm_fail(err, 0, "wip");
}
