/* Copies one descriptor to another until end of file: splice(2) where both are pipes, else by read and write.
 *
 * Both are watched edge-triggered, once: a copy runs until the kernel says it would block and then waits for any edge
 * on either side, so a source whose writers are gone (EPOLLHUP for ever) cannot spin. What epoll cannot watch (files,
 * /dev/null) never blocks. A turn is bounded; what is left over makes the relay "runnable" and goes on in the next
 * round.
 *
 * The descriptor of an entry, a terminal's, is used as it is: by one relay out of it and one into it, which share its
 * watch, for as long as either lasts, whatever becomes of the entry. */
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
#define COPY_MAX 65536
/* How often a full disk is tried again. */
#define ROOM_MS 500

/* What a relay reads from or writes to. */
struct lm_port {
  TAILQ_ENTRY(lm_port) shared; /* with `entry` only */
  struct lm_watch watch;       /* its descriptor, ours unless it is the entry's */
  struct lm_keeper *keeper;
  struct lm_blob *entry;   /* our reference, or NULL */
  struct lm_relay *reader; /* the relay whose source it is, or NULL */
  struct lm_relay *writer; /* the one whose destination it is, or NULL */
};

struct lm_relay {
  TAILQ_ENTRY(lm_relay) entry;
  struct lm_port *src; /* both NULL once it has ended */
  struct lm_port *dst;
  struct lm_keeper *keeper;
  dev_t dst_dev; /* of what dst is */
  ino_t dst_ino;
  bool splice;
  bool to_file; /* dst is a regular file */
  bool full;    /* it had no room */
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

/* Frees a port that no relay uses. */
static void release(struct lm_port *port) {
  if (port->reader != NULL || port->writer != NULL) return;
  lm_loop_remove(&port->keeper->loop, &port->watch);
  if (port->entry != NULL) {
    TAILQ_REMOVE(&port->keeper->relays.shared, port, shared);
    lm_blob_unref(port->entry);
  } else {
    lm_close(&port->watch.fd);
  }
  free(port);
}

static void let_go(struct lm_relay *r) {
  struct lm_port *src = r->src, *dst = r->dst;
  r->src = r->dst = NULL;
  if (src != NULL) {
    src->reader = NULL;
    release(src);
  }
  if (dst != NULL) {
    dst->writer = NULL;
    release(dst);
  }
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
  return ended(r, errno == EIO && isatty(r->src->watch.fd) ? 0 : errno);
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
  return ioctl(r->src->watch.fd, FIONREAD, &bytes) < 0 ? 0 : bytes;
}

static enum turn turn_splice(struct lm_relay *r) {
  for (size_t done = 0; done < TURN_MAX;) {
    size_t most = allowance(r, TURN_MAX);
    if (most == 0) return ended(r, 0);
    ssize_t n = splice(r->src->watch.fd, NULL, r->dst->watch.fd, NULL, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
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

/* A full disk is no reason to end a copy, and with it whoever writes: they wait, as for a reader, until there is room.
 * Nothing tells of that, so it is tried again. */
static bool waits_for_room(struct lm_relay *r, int error) {
  if ((error != ENOSPC && error != EDQUOT) || !r->to_file) return false;
  struct lm_keeper *keeper = r->keeper;
  const struct lm_blob *name = r->name;
  if (!r->full) {
    lm_log("warning", "%.*s: %s: waiting for room", (int)(name->len - 4), (const char *)name->bytes + 4, strerror(error));
  }
  r->full = true;
  lm_timer_arm(&keeper->loop, &keeper->relays.retry, ROOM_MS);
  return true;
}

/* Writes what a short write left over. true when nothing is left. */
static bool write_rest(struct lm_relay *r, enum turn *result) {
  while (r->rest != NULL) {
    ssize_t n = write(r->dst->watch.fd, r->rest + r->rest_sent, r->rest_len - r->rest_sent);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      *result = errno == EAGAIN || waits_for_room(r, errno) ? TURN_BLOCKED : ended(r, errno);
      return false;
    }
    r->moved += (size_t)n;
    r->rest_sent += (size_t)n;
    if (r->rest_sent < r->rest_len) continue;
    free(r->rest);
    r->rest = NULL;
    r->full = false;
  }
  return true;
}

static void keep_rest(struct lm_relay *r, const uint8_t *data, size_t len) {
  r->rest = lm_alloc(len);
  memcpy(r->rest, data, len);
  r->rest_len = len;
  r->rest_sent = 0;
}

static enum turn copy_through(struct lm_relay *r, uint8_t *buffer, size_t size) {
  enum turn result = TURN_BLOCKED;
  if (!write_rest(r, &result)) return result;
  for (size_t done = 0; done < TURN_MAX;) {
    size_t most = allowance(r, size);
    if (most == 0) return ended(r, 0);
    ssize_t got = read(r->src->watch.fd, buffer, most);
    if (got == 0) return ended(r, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return read_failed(r);
    if (r->snapshot) r->left -= (uint64_t)got < r->left ? (uint64_t)got : r->left;
    done += (size_t)got;
    ssize_t put;
    do {
      put = write(r->dst->watch.fd, buffer, (size_t)got);
    } while (put < 0 && errno == EINTR);
    if (put < 0 && errno != EAGAIN && !waits_for_room(r, errno)) return ended(r, errno);
    if (put < 0) put = 0;
    r->moved += (uint64_t)put;
    if (put < got) {
      keep_rest(r, buffer + put, (size_t)(got - put));
      if (!write_rest(r, &result)) return result;
    }
  }
  return TURN_MORE;
}

static enum turn turn_copy(struct lm_relay *r) {
  struct lm_room *room = &r->keeper->relays.room;
  enum turn result = copy_through(r, lm_room_take(room), room->size);
  lm_room_leave(room);
  return result;
}

static void run(struct lm_relay *r) {
  if (r->ended) return;
  enum turn result = r->splice && r->rest == NULL && readable(r) >= SPLICE_MIN ? turn_splice(r) : turn_copy(r);
  if (result == TURN_ENDED) return;
  set_runnable(r, result == TURN_MORE);
}

static void port_ready(struct lm_watch *watch, uint32_t events) {
  const struct lm_port *port = LM_CONTAINER_OF(watch, struct lm_port, watch);
  struct lm_relay *reader = port->reader, *writer = port->writer;
  /* A relay that ends in its turn takes the port with it, unless the other still uses it. */
  if (reader != NULL && (events & ~(uint32_t)EPOLLOUT) != 0) run(reader);
  if (writer != NULL && (events & ~(uint32_t)EPOLLIN) != 0) run(writer);
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
  free(r);
}

static bool is_fifo(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode);
}

/* After a turn: what the source holds, or was read from it, is waiting for room. */
static bool is_held_up(const struct lm_relay *r) {
  return !r->ended && (r->rest != NULL || r->runnable || (r->splice && readable(r) > 0));
}

static struct lm_port *make_port(struct lm_keeper *keeper, int fd, struct lm_blob *entry) {
  struct lm_port *port = lm_alloc(sizeof *port);
  *port = (struct lm_port){.watch = {.fd = fd, .ready = port_ready}, .keeper = keeper, .entry = entry};
  if (entry != NULL) TAILQ_INSERT_TAIL(&keeper->relays.shared, port, shared);
  return port;
}

/* The port of an entry's descriptor. 0 or -errno. */
static int share_port(struct lm_keeper *keeper, struct lm_field name, struct lm_port **port) {
  struct lm_blob *body = lm_deposit_body(keeper, name);
  if (body == NULL || body->fd < 0 || !isatty(body->fd)) {
    int result = body == NULL || body->fd < 0 ? -ENOENT : -ENOTTY;
    lm_blob_unref(body);
    return result;
  }
  TAILQ_FOREACH (*port, &keeper->relays.shared, shared) {
    if ((*port)->entry != body) continue;
    lm_blob_unref(body);
    return 0;
  }
  *port = make_port(keeper, body->fd, body);
  return 0;
}

/* Opens both ends; what is there of them when it fails is released by drop(). 0 or -errno. */
static int open_ends(struct lm_relay *r, struct lm_relay_end src, struct lm_relay_end dst) {
  struct lm_port *port = NULL;
  /* What was handed to us has its owner first. */
  if (src.entry.len == 0) (r->src = make_port(r->keeper, src.fd, NULL))->reader = r;
  if (dst.entry.len == 0) (r->dst = make_port(r->keeper, dst.fd, NULL))->writer = r;
  if (src.entry.len > 0) {
    int result = share_port(r->keeper, src.entry, &port);
    if (result == 0 && port->reader != NULL) result = -EBUSY;
    if (result < 0) return result;
    (r->src = port)->reader = r;
  }
  if (dst.entry.len > 0) {
    int result = share_port(r->keeper, dst.entry, &port);
    if (result == 0 && port->writer != NULL) result = -EBUSY;
    if (result < 0) return result;
    (r->dst = port)->writer = r;
  }
  return 0;
}

static int watch_port(struct lm_port *port) {
  if (port->watch.added) return 0;
  int result = lm_set_nonblock(port->watch.fd);
  if (result < 0) return result;
  uint32_t events = port->entry != NULL ? EPOLLIN | EPOLLOUT : port->reader != NULL ? EPOLLIN : EPOLLOUT;
  result = lm_loop_add(&port->keeper->loop, &port->watch, events | EPOLLET);
  return result == -EPERM ? 0 : result;
}

static int begin(struct lm_relay *r, struct lm_relay_end src, struct lm_relay_end dst) {
  int result = open_ends(r, src, dst);
  if (result < 0) return result;
  struct stat info = {0};
  (void)fstat(r->dst->watch.fd, &info);
  r->dst_dev = info.st_dev;
  r->dst_ino = info.st_ino;
  r->splice = is_fifo(r->src->watch.fd) && S_ISFIFO(info.st_mode);
  r->to_file = S_ISREG(info.st_mode);
  result = watch_port(r->src);
  return result < 0 ? result : watch_port(r->dst);
}

int lm_relay_start(struct lm_keeper *keeper, struct lm_field name, struct lm_relay_end src, struct lm_relay_end dst) {
  struct lm_blob *text = find(keeper, name) != NULL ? NULL : lm_blob_make(&name, 1, -1);
  if (text == NULL) {
    lm_close(&src.fd);
    lm_close(&dst.fd);
    return -EEXIST;
  }
  struct lm_relay *r = lm_alloc(sizeof *r);
  *r = (struct lm_relay){.keeper = keeper, .name = text};
  TAILQ_INSERT_TAIL(&keeper->relays.all, r, entry);
  int result = begin(r, src, dst);
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
  if (is_fifo(r->src->watch.fd)) {
    r->snapshot = true;
    r->left = (uint64_t)readable(r);
  }
  set_runnable(r, true);
}

static void try_again(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, relays.retry);
  struct lm_relay *r, *next;
  for (r = TAILQ_FIRST(&keeper->relays.all); r != NULL; r = next) {
    next = TAILQ_NEXT(r, entry);
    if (r->full) run(r);
  }
}

void lm_relays_init(struct lm_keeper *keeper) {
  TAILQ_INIT(&keeper->relays.all);
  TAILQ_INIT(&keeper->relays.shared);
  lm_room_make(&keeper->relays.room, COPY_MAX);
  keeper->relays.retry.fire = try_again;
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
  lm_timer_stop(&keeper->relays.retry);
  while (!TAILQ_EMPTY(&keeper->relays.all)) drop(TAILQ_FIRST(&keeper->relays.all));
  lm_room_free(&keeper->relays.room);
}
