#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <time.h>

#include "../common/util.h"

#define EXPECT_NS 60000

int lm_loop_init(struct lm_loop *loop, struct lm_error *err) {
  *loop = (struct lm_loop){.epoll = epoll_create1(EPOLL_CLOEXEC)};
  return loop->epoll < 0 ? lm_fail(err, errno, "epoll_create1") : 0;
}

void lm_loop_close(struct lm_loop *loop) {
  lm_close(&loop->epoll);
}

int lm_loop_add(struct lm_loop *loop, struct lm_watch *watch, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = watch};
  if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->fd, &event) < 0) return -errno;
  watch->events = events;
  watch->added = true;
  return 0;
}

void lm_loop_modify(struct lm_loop *loop, struct lm_watch *watch, uint32_t events) {
  if (!watch->added || watch->events == events) return;
  struct epoll_event event = {.events = events, .data.ptr = watch};
  (void)epoll_ctl(loop->epoll, EPOLL_CTL_MOD, watch->fd, &event);
  watch->events = events;
}

void lm_loop_remove(struct lm_loop *loop, struct lm_watch *watch) {
  if (!watch->added) return;
  (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
  watch->added = false;
  for (int i = 0; i < loop->pending_count; i++) {
    if (loop->pending[i].data.ptr == watch) loop->pending[i].data.ptr = NULL;
  }
}

void lm_timer_arm(struct lm_loop *loop, struct lm_timer *timer, int64_t delay_ms) {
  timer->due = lm_now_ms() + delay_ms;
  if (timer->listed) return;
  timer->listed = true;
  timer->next = loop->timers;
  loop->timers = timer;
}

void lm_timer_stop(struct lm_timer *timer) {
  timer->due = 0;
}

static int time_left(const struct lm_loop *loop) {
  int64_t due = INT64_MAX;
  for (const struct lm_timer *t = loop->timers; t != NULL; t = t->next) {
    if (t->due != 0 && t->due < due) due = t->due;
  }
  if (due == INT64_MAX) return -1;
  int64_t left = due - lm_now_ms();
  return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

static int64_t now_ns(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void lm_loop_expect(struct lm_loop *loop) {
  loop->expects_until = now_ns() + EXPECT_NS;
}

static int wait_for(struct lm_loop *loop, struct epoll_event *events, int limit) {
  while (loop->expects_until != 0) {
    int count = epoll_wait(loop->epoll, events, limit, 0);
    if (count != 0) return count;
    /* Who is to send it may be waiting for this very processor. */
    (void)sched_yield();
    if (now_ns() >= loop->expects_until) loop->expects_until = 0;
  }
  return epoll_wait(loop->epoll, events, limit, time_left(loop));
}

void lm_loop_round(struct lm_loop *loop, bool poll) {
  struct epoll_event events[32];
  int count = poll ? epoll_wait(loop->epoll, events, 32, 0) : wait_for(loop, events, 32);
  loop->pending = events;
  loop->pending_count = count < 0 ? 0 : count;
  for (int i = 0; i < loop->pending_count; i++) {
    struct lm_watch *watch = events[i].data.ptr;
    if (watch != NULL) watch->ready(watch, events[i].events);
  }
  loop->pending = NULL;
  loop->pending_count = 0;
  /* Timers after events: after a pause of the whole machine, an answer that has arrived must count before its deadline.
   */
  int64_t now = loop->timers == NULL ? 0 : lm_now_ms();
  for (struct lm_timer *t = loop->timers; t != NULL; t = t->next) {
    if (t->due == 0 || t->due > now) continue;
    t->due = 0;
    t->fire(t);
  }
}
