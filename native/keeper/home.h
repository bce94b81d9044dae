/* Where the daemon's `start` was called from: its cgroups and its oom_score_adj. The engine of the node belongs there,
 * whichever keeper starts it, and wherever that keeper was moved to since. */
#ifndef LM_HOME_H
#define LM_HOME_H

#include "spawn.h"

struct lm_home {
  char *groups; /* /proc/self/cgroup; NULL: unknown */
  char *score;  /* /proc/self/oom_score_adj; NULL: unknown */
};

/* Remembers where this process is now. */
struct lm_home lm_home_here(void);
void lm_home_free(struct lm_home *home);
/* The moves that bring a child of ours home, as lm_spawn() takes them; none for hierarchies in which we are there
 * ourselves. To be freed by lm_home_free_moves(). */
struct lm_move *lm_home_moves(const struct lm_home *home, unsigned *count);
void lm_home_free_moves(struct lm_move *moves, unsigned count);

#endif
