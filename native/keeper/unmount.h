#ifndef LM_UNMOUNT_H
#define LM_UNMOUNT_H

#include "../common/error.h"

/* Unmounts everything mounted at `path` (absolute, without symbolic links) or below, the last mounted first; what is
 * busy is detached. Nothing mounted there is success. */
int lm_unmount_all(const char *path, struct lm_error *err);

#endif
