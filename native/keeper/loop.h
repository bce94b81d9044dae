/* One epoll loop for everything: descriptors and a few timers. */
#ifndef LM_LOOP_H
#define LM_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "../common/error.h"

struct lm_watch {
  int fd;
  uint32_t events; /* as registered */
  void (*ready)(struct lm_watch *watch, uint32_t events);
  bool added;
};

struct lm_timer {
  int64_t due; /* CLOCK_MONOTONIC ms; 0 when not armed */
  void (*fire)(struct lm_timer *timer);
  struct lm_timer *next;
  bool listed;
};

struct lm_loop {
  int epoll;
  struct lm_timer *timers;
  struct epoll_event *pending; /* collected in this round, their callbacks still to come */
  int pending_count;
  int64_t expects_until; /* CLOCK_MONOTONIC ns */
};

int lm_loop_init(struct lm_loop *loop, struct lm_error *err);
void lm_loop_close(struct lm_loop *loop);
/* 0 or -errno; EPERM: a file that is always ready and cannot be watched. */
int lm_loop_add(struct lm_loop *loop, struct lm_watch *watch, uint32_t events);
void lm_loop_modify(struct lm_loop *loop, struct lm_watch *watch, uint32_t events);
/* Stops watching. Events already collected are forgotten: no callback comes for them, not even if it is added again, and
 * the watch may be freed at once. */
void lm_loop_remove(struct lm_loop *loop, struct lm_watch *watch);

void lm_timer_arm(struct lm_loop *loop, struct lm_timer *timer, int64_t delay_ms);
void lm_timer_stop(struct lm_timer *timer);

/* Something will come in the next moments, probably: it is looked for without sleeping. To be woken up takes a
 * processor that has gone to rest, in a virtual machine above all, longer than the looking. */
void lm_loop_expect(struct lm_loop *loop);

/* Waits for events (not at all when `poll`), runs their callbacks, then the timers that are due. */
void lm_loop_round(struct lm_loop *loop, bool poll);

#endif
