/* Copies one descriptor to another until end of file: splice(2) where both are pipes, else one shared buffer.
 *
 * Both are watched edge-triggered, once: a copy runs until the kernel says it would block and then waits for any edge
 * on either side, so a source whose writers are gone (EPOLLHUP for ever) cannot spin. What epoll cannot watch (files,
 * /dev/null) never blocks. A turn is bounded; what is left over makes the relay "runnable" and goes on in the next
 * round. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "keeper.h"
#include "log.h"

#define TURN_MAX ((size_t)1 << 20)
/* Less than this is copied: splice(2) moves page by page, and sixteen pages with a few bytes each fill a FIFO, where a
 * write would have been appended to the last one. */
#define SPLICE_MIN 16384

struct lm_relay {
  TAILQ_ENTRY(lm_relay) entry;
  struct lm_watch src;
  struct lm_watch dst;
  struct lm_keeper *keeper;
  dev_t dst_dev; /* of what dst is */
  ino_t dst_ino;
  bool splice;
  bool snapshot; /* finishing: at most `left` bytes more are read */
  bool finishing;
  bool ended;
  bool runnable;
  int error;
  uint64_t moved;
  uint64_t left;
  uint8_t *rest; /* read but not yet written */
  size_t rest_len;
  size_t rest_sent;
  struct lm_blob *name;
};

enum turn { TURN_BLOCKED, TURN_MORE, TURN_ENDED };

static void set_runnable(struct lm_relay *r, bool runnable) {
  if (r->runnable == runnable) return;
  r->runnable = runnable;
  if (runnable) {
    r->keeper->relays.runnable++;
  } else {
    r->keeper->relays.runnable--;
  }
}

static void let_go(struct lm_relay *r) {
  lm_loop_remove(&r->keeper->loop, &r->src);
  lm_loop_remove(&r->keeper->loop, &r->dst);
  lm_close(&r->src.fd);
  lm_close(&r->dst.fd);
  free(r->rest);
  r->rest = NULL;
  set_runnable(r, false);
}

static void end(struct lm_relay *r, int error) {
  let_go(r);
  r->ended = true;
  r->error = error;
  lm_link_post(r->keeper, LM_MSG_RELAYED, 0, (uint32_t)error, r->moved, lm_blob_ref(r->name));
}

static enum turn ended(struct lm_relay *r, int error) {
  end(r, error);
  return TURN_ENDED;
}

/* A pty's master says EIO once its last slave is closed and everything was read: its end of file. */
static enum turn read_failed(struct lm_relay *r) {
  if (errno == EAGAIN) return r->finishing ? ended(r, 0) : TURN_BLOCKED;
  return ended(r, errno == EIO && isatty(r->src.fd) ? 0 : errno);
}

static size_t allowance(const struct lm_relay *r, size_t most) {
  return r->snapshot && r->left < most ? (size_t)r->left : most;
}

static void count(struct lm_relay *r, size_t n) {
  r->moved += n;
  if (r->snapshot) r->left -= n < r->left ? n : r->left;
}

static int readable(const struct lm_relay *r) {
  int bytes = 0;
  return ioctl(r->src.fd, FIONREAD, &bytes) < 0 ? 0 : bytes;
}

static enum turn turn_splice(struct lm_relay *r) {
  for (size_t done = 0; done < TURN_MAX;) {
    size_t most = allowance(r, TURN_MAX);
    if (most == 0) return ended(r, 0);
    ssize_t n = splice(r->src.fd, NULL, r->dst.fd, NULL, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n == 0) return ended(r, 0);
    if (n > 0) {
      done += (size_t)n;
      count(r, (size_t)n);
    } else if (errno == EAGAIN && r->finishing) {
      /* Source empty, or destination full? Only the first ends it. */
      return readable(r) == 0 ? ended(r, 0) : TURN_BLOCKED;
    } else if (errno == EAGAIN) {
      return TURN_BLOCKED;
    } else if (errno != EINTR) {
      return ended(r, errno);
    }
  }
  return TURN_MORE;
}

/* Writes what a short write left over. true when nothing is left. */
static bool write_rest(struct lm_relay *r, enum turn *result) {
  while (r->rest != NULL) {
    ssize_t n = write(r->dst.fd, r->rest + r->rest_sent, r->rest_len - r->rest_sent);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      *result = errno == EAGAIN ? TURN_BLOCKED : ended(r, errno);
      return false;
    }
    r->moved += (size_t)n;
    r->rest_sent += (size_t)n;
    if (r->rest_sent < r->rest_len) continue;
    free(r->rest);
    r->rest = NULL;
  }
  return true;
}

static void keep_rest(struct lm_relay *r, const uint8_t *data, size_t len) {
  r->rest = lm_alloc(len);
  memcpy(r->rest, data, len);
  r->rest_len = len;
  r->rest_sent = 0;
}

static enum turn turn_copy(struct lm_relay *r) {
  enum turn result = TURN_BLOCKED;
  if (!write_rest(r, &result)) return result;
  for (size_t done = 0; done < TURN_MAX;) {
    size_t most = allowance(r, LM_SCRATCH_SIZE);
    if (most == 0) return ended(r, 0);
    ssize_t got = read(r->src.fd, r->keeper->scratch, most);
    if (got == 0) return ended(r, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return read_failed(r);
    if (r->snapshot) r->left -= (uint64_t)got < r->left ? (uint64_t)got : r->left;
    done += (size_t)got;
    ssize_t put;
    do {
      put = write(r->dst.fd, r->keeper->scratch, (size_t)got);
    } while (put < 0 && errno == EINTR);
    if (put < 0 && errno != EAGAIN) return ended(r, errno);
    if (put < 0) put = 0;
    r->moved += (uint64_t)put;
    if (put < got) {
      keep_rest(r, r->keeper->scratch + put, (size_t)(got - put));
      if (!write_rest(r, &result)) return result;
    }
  }
  return TURN_MORE;
}

static void run(struct lm_relay *r) {
  if (r->ended) return;
  enum turn result = r->splice && r->rest == NULL && readable(r) >= SPLICE_MIN ? turn_splice(r) : turn_copy(r);
  if (result == TURN_ENDED) return;
  set_runnable(r, result == TURN_MORE);
}

static void src_ready(struct lm_watch *watch, uint32_t events) {
  (void)events;
  run(LM_CONTAINER_OF(watch, struct lm_relay, src));
}

static void dst_ready(struct lm_watch *watch, uint32_t events) {
  (void)events;
  run(LM_CONTAINER_OF(watch, struct lm_relay, dst));
}

static struct lm_relay *find(struct lm_keeper *keeper, struct lm_field name) {
  struct lm_relay *r;
  TAILQ_FOREACH (r, &keeper->relays.all, entry) {
    if (r->name->len - 4 == name.len && memcmp(r->name->bytes + 4, name.data, name.len) == 0) return r;
  }
  return NULL;
}

static void drop(struct lm_relay *r) {
  let_go(r);
  TAILQ_REMOVE(&r->keeper->relays.all, r, entry);
  lm_blob_unref(r->name);
  r->name = NULL;
  lm_loop_free_later(&r->keeper->loop, r);
}

static bool is_fifo(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode);
}

/* After a turn: what the source holds, or was read from it, is waiting for room. */
static bool is_held_up(const struct lm_relay *r) {
  return !r->ended && (r->rest != NULL || r->runnable || (r->splice && readable(r) > 0));
}

static int watch_fd(struct lm_keeper *keeper, struct lm_watch *watch, uint32_t events) {
  int result = lm_loop_add(&keeper->loop, watch, events | EPOLLET);
  return result == -EPERM ? 0 : result;
}

int lm_relay_start(struct lm_keeper *keeper, struct lm_field name, int src, int dst) {
  struct lm_blob *text = find(keeper, name) != NULL ? NULL : lm_blob_make(&name, 1, -1);
  if (text == NULL) {
    lm_close(&src);
    lm_close(&dst);
    return -EEXIST;
  }
  struct lm_relay *r = lm_alloc(sizeof *r);
  struct stat info = {0};
  (void)fstat(dst, &info);
  *r = (struct lm_relay){
      .src = {.fd = src, .ready = src_ready},
      .dst = {.fd = dst, .ready = dst_ready},
      .keeper = keeper,
      .name = text,
      .dst_dev = info.st_dev,
      .dst_ino = info.st_ino,
      .splice = is_fifo(src) && S_ISFIFO(info.st_mode),
  };
  TAILQ_INSERT_TAIL(&keeper->relays.all, r, entry);
  int result = lm_set_nonblock(src);
  if (result == 0) result = lm_set_nonblock(dst);
  if (result == 0) result = watch_fd(keeper, &r->src, EPOLLIN);
  if (result == 0) result = watch_fd(keeper, &r->dst, EPOLLOUT);
  if (result < 0) {
    drop(r);
    return result;
  }
  /* Adding reports an edge for what is ready already; files give none. And whoever is told that the relay has begun may
   * count on what the source held. */
  run(r);
  return r->moved > 0 || is_held_up(r) ? 1 : 0;
}

void lm_relay_drop(struct lm_keeper *keeper, struct lm_field name) {
  struct lm_relay *r = find(keeper, name);
  if (r != NULL) drop(r);
}

void lm_relay_finish(struct lm_keeper *keeper, struct lm_field name) {
  struct lm_relay *r = find(keeper, name);
  if (r == NULL) {
    lm_link_post(keeper, LM_MSG_RELAYED, 0, ENOENT, 0, lm_blob_make(&name, 1, -1));
    return;
  }
  if (r->ended || r->finishing) return;
  r->finishing = true;
  /* What a pipe holds can be counted, and then a writer that goes on for ever cannot keep the relay. A terminal's count
   * leaves out what is still on its way through the line discipline: it is read until it would block. */
  if (is_fifo(r->src.fd)) {
    r->snapshot = true;
    r->left = (uint64_t)readable(r);
  }
  set_runnable(r, true);
}

void lm_relays_init(struct lm_keeper *keeper) {
  TAILQ_INIT(&keeper->relays.all);
}

void lm_relays_replay(struct lm_keeper *keeper) {
  const struct lm_relay *r;
  TAILQ_FOREACH (r, &keeper->relays.all, entry) {
    lm_link_post(keeper, LM_MSG_RELAY_STATE, r->ended ? LM_F_ENDED : 0, (uint32_t)r->error, r->moved,
                 lm_blob_ref(r->name));
  }
}

void lm_relays_run(struct lm_keeper *keeper) {
  if (keeper->relays.runnable == 0) return;
  struct lm_relay *r, *next;
  /* A turn may end its own relay but removes none from the list. */
  for (r = TAILQ_FIRST(&keeper->relays.all); r != NULL; r = next) {
    next = TAILQ_NEXT(r, entry);
    if (r->runnable) run(r);
  }
}

bool lm_relays_push(struct lm_keeper *keeper) {
  bool held_up = false;
  struct lm_relay *r;
  TAILQ_FOREACH (r, &keeper->relays.all, entry) {
    run(r);
    held_up |= is_held_up(r);
  }
  return held_up;
}

bool lm_relays_push_into(struct lm_keeper *keeper, const struct stat *dst) {
  bool held_up = false;
  struct lm_relay *r;
  TAILQ_FOREACH (r, &keeper->relays.all, entry) {
    if (r->ended || r->dst_ino != dst->st_ino || r->dst_dev != dst->st_dev) continue;
    run(r);
    held_up |= is_held_up(r);
  }
  return held_up;
}

void lm_relays_free(struct lm_keeper *keeper) {
  while (!TAILQ_EMPTY(&keeper->relays.all)) drop(TAILQ_FIRST(&keeper->relays.all));
}
