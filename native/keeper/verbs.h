/* The verbs of the binary. Each returns 0 or fills err; main() prints it. */
#ifndef LM_VERBS_H
#define LM_VERBS_H

#include "../common/error.h"
#include "flags.h"

#define LM_NAME "containerd-shim-lamina-v2"

/* Becomes the keeper in a child; returns in the parent (0 or error), while the child calls _exit itself. */
int lm_start(const struct lm_flags *flags, struct lm_error *err);
int lm_delete(const struct lm_flags *flags, struct lm_error *err);
int lm_info(struct lm_error *err);

#endif
