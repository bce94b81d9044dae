#ifndef LM_CGROUP_H
#define LM_CGROUP_H

#include <stdint.h>

#include "../common/error.h"

/* Removes a container's cgroup, with those below it, that its runtime had made and not come to note. `path` is the
 * linux.cgroupsPath of config.json: absolute ones are looked for in every hierarchy; a relative one cannot be found,
 * and one of systemd's (slice:prefix:name) goes by itself when it is empty. Waits a moment for processes to go; kills
 * none. However many groups there are, it ends at the deadline (of lm_now_ms). */
int lm_remove_cgroup(const char *path, int64_t deadline, struct lm_error *err);

#endif
