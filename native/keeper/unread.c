/* Output that is in a FIFO whose reading end is kept, and that its reader has not taken yet. There is no event for a
 * pipe that has been read empty: while somebody waits for it, it is looked at again and again, ever more rarely. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "keeper.h"

/* The pause before the next look: a millisecond, and an eighth of what has been waited. */
#define PAUSE_SHARE 8

struct lm_read_out {
  TAILQ_ENTRY(lm_read_out) entry;
  int64_t since;
  int64_t deadline;
  uint32_t serial;
  uint32_t prefix_len;
  char prefix[];
};

static int bytes_in(int fd) {
  int bytes = 0;
  return ioctl(fd, FIONREAD, &bytes) < 0 ? 0 : bytes;
}

/* The descriptor of an entry that is the reading end of a FIFO, else -1. */
static int reading_end(const struct lm_blob *body, struct stat *info) {
  if (body->fd < 0 || fstat(body->fd, info) < 0 || !S_ISFIFO(info->st_mode)) return -1;
  int mode = fcntl(body->fd, F_GETFL);
  return mode < 0 || (mode & O_ACCMODE) == O_WRONLY ? -1 : body->fd;
}

static int open_again(int fd, int mode) {
  char path[32];
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return open(path, mode | O_NONBLOCK | O_CLOEXEC);
}

/* Whether anybody else has the FIFO open for reading. A pipe says only that it has no reader at all: so ours is closed
 * for the moment, under cover of a writing end that keeps what is in there. Whoever writes from elsewhere just then,
 * into a FIFO without a reader, is told that there is none. */
static bool has_reader(struct lm_blob *body) {
  int writer = open_again(body->fd, O_WRONLY);
  if (writer < 0) return true;
  lm_close(&body->fd);
  struct pollfd watch = {.fd = writer};
  bool alone = poll(&watch, 1, 0) > 0 && (watch.revents & POLLERR) != 0;
  body->fd = open_again(writer, O_RDONLY);
  if (body->fd < 0) {
    /* Better than nothing: what is in the FIFO stays. */
    body->fd = writer;
  } else {
    lm_close(&writer);
  }
  return !alone;
}

static bool is_unread(struct lm_keeper *keeper, const struct lm_read_out *wanted) {
  struct lm_entry *e;
  TAILQ_FOREACH (e, &keeper->deposit.entries, entry) {
    uint32_t len;
    struct stat info;
    memcpy(&len, e->body->bytes, sizeof len);
    if (len < wanted->prefix_len || memcmp(e->body->bytes + sizeof len, wanted->prefix, wanted->prefix_len) != 0) {
      continue;
    }
    int fd = reading_end(e->body, &info);
    /* The relays first: what they have moved is in the FIFO when that is looked at. */
    if (fd >= 0 && (lm_relays_push_into(keeper, &info) || bytes_in(fd) > 0) && has_reader(e->body)) return true;
  }
  return false;
}

static void look(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, unread.again);
  int64_t now = lm_now_ms();
  int64_t pause = INT64_MAX;
  struct lm_read_out *r, *next;
  for (r = TAILQ_FIRST(&keeper->unread.waiting); r != NULL; r = next) {
    next = TAILQ_NEXT(r, entry);
    if (now < r->deadline && is_unread(keeper, r)) {
      int64_t own = 1 + (now - r->since) / PAUSE_SHARE;
      if (own > r->deadline - now) own = r->deadline - now;
      if (own < pause) pause = own;
      continue;
    }
    TAILQ_REMOVE(&keeper->unread.waiting, r, entry);
    lm_link_done(keeper, r->serial);
    free(r);
  }
  if (pause != INT64_MAX) lm_timer_arm(&keeper->loop, timer, pause);
}

void lm_unread_init(struct lm_keeper *keeper) {
  TAILQ_INIT(&keeper->unread.waiting);
  keeper->unread.again.fire = look;
}

bool lm_unread_any(const struct lm_keeper *keeper) {
  const struct lm_entry *e;
  TAILQ_FOREACH (e, &keeper->deposit.entries, entry) {
    struct stat info;
    if (e->body->fd >= 0 && bytes_in(e->body->fd) > 0 && reading_end(e->body, &info) >= 0) return true;
  }
  return false;
}

void lm_unread_await(struct lm_keeper *keeper, uint32_t serial, struct lm_field prefix, int64_t ms) {
  struct lm_read_out *r = lm_alloc(sizeof *r + prefix.len);
  r->since = lm_now_ms();
  r->deadline = r->since + ms;
  r->serial = serial;
  r->prefix_len = prefix.len;
  memcpy(r->prefix, prefix.data, prefix.len);
  TAILQ_INSERT_TAIL(&keeper->unread.waiting, r, entry);
  look(&keeper->unread.again);
}

void lm_unread_forget(struct lm_keeper *keeper) {
  struct lm_read_out *r;
  while ((r = TAILQ_FIRST(&keeper->unread.waiting)) != NULL) {
    TAILQ_REMOVE(&keeper->unread.waiting, r, entry);
    free(r);
  }
  lm_timer_stop(&keeper->unread.again);
}
