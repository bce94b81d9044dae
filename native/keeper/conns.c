/* The daemon's connections: whole frames in, kept until the engine is done with each; bytes out.
 * Of ttrpc only the frame header is known: length u32 BE, stream id u32 BE, type u8, flags u8. */
#include "log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "keeper.h"
#include "outbox.h"

#define FRAME_HEADER 10
#define FRAME_MAX (4U << 20)
#define HELD_MAX ((size_t)16 << 20) /* unanswered frames of a connection; then it is not read */
#define OUT_MAX ((size_t)16 << 20)  /* unwritten replies; then it is not read */
#define READ_SIZE 65536

struct lm_conn {
  TAILQ_ENTRY(lm_conn) entry;
  struct lm_watch watch;
  struct lm_keeper *keeper;
  uint64_t id;
  uint8_t head[FRAME_HEADER];
  uint32_t head_have;
  struct lm_blob *body; /* the frame being read, its field length and header in place */
  uint32_t body_have;
  uint32_t skip;                 /* bytes of an oversized frame still to be thrown away */
  TAILQ_HEAD(, lm_frame) frames; /* not released */
  size_t held;
  struct lm_outbox out;
  bool shut;     /* closed by the engine once `out` is empty */
  bool attached; /* the engine made it, to ask; what comes on it are answers */
};

static size_t frame_cost(const struct lm_frame *f) {
  return sizeof *f + sizeof *f->body + f->body->len;
}

static void drop_frame(struct lm_frame *f) {
  f->conn->held -= frame_cost(f);
  TAILQ_REMOVE(&f->conn->keeper->conns.frames, f, in_order);
  TAILQ_REMOVE(&f->conn->frames, f, of_conn);
  lm_blob_unref(f->body);
  free(f);
}

static void drop_frames(struct lm_conn *c) {
  while (!TAILQ_EMPTY(&c->frames)) drop_frame(TAILQ_FIRST(&c->frames));
  lm_blob_unref(c->body);
  c->body = NULL;
  lm_link_forget_frames(c->keeper, c->id);
}

/* A keeper that was never served has nothing to keep, and nobody to end it. */
static void end_unserved(struct lm_keeper *keeper) {
  if (keeper->conns.refusal != NULL && TAILQ_EMPTY(&keeper->conns.all)) lm_keeper_exit(keeper);
}

static void close_conn(struct lm_conn *c, bool report) {
  struct lm_keeper *keeper = c->keeper;
  lm_loop_remove(&keeper->loop, &c->watch);
  lm_close(&c->watch.fd);
  drop_frames(c);
  lm_outbox_free(&c->out);
  TAILQ_REMOVE(&keeper->conns.all, c, entry);
  if (report && !c->shut) lm_link_post(keeper, LM_MSG_CLOSED, 0, 0, c->id, NULL);
  free(c);
  end_unserved(keeper);
}

static bool reads(const struct lm_conn *c) {
  return !c->shut && c->held <= HELD_MAX && c->out.bytes <= OUT_MAX;
}

static void update(struct lm_conn *c) {
  uint32_t events = (reads(c) ? EPOLLIN : 0U) | (lm_outbox_is_empty(&c->out) ? 0U : EPOLLOUT);
  lm_loop_modify(&c->keeper->loop, &c->watch, events);
}

static void post_frame(struct lm_keeper *keeper, const struct lm_frame *f) {
  lm_link_post(keeper, LM_MSG_FRAME, f->flags, f->seq, f->conn->id, lm_blob_ref(f->body));
}

/* false: the connection is over. */
static bool write_bytes(struct lm_conn *c, const void *data, size_t len) {
  if (!lm_outbox_write(&c->out, c->watch.fd, data, len)) return false;
  if (!lm_outbox_is_empty(&c->out)) update(c);
  return true;
}

static void keep_frame(struct lm_conn *c, uint32_t flags) {
  struct lm_conns *conns = &c->keeper->conns;
  struct lm_frame *f = lm_alloc(sizeof *f);
  if (++conns->next_seq == 0) conns->next_seq = 1;
  *f = (struct lm_frame){.seq = conns->next_seq, .flags = flags, .conn = c, .body = c->body};
  if (!c->attached) f->generation = lm_answers_passing(c->keeper, f->body);
  c->body = NULL;
  c->held += frame_cost(f);
  TAILQ_INSERT_TAIL(&conns->frames, f, in_order);
  TAILQ_INSERT_TAIL(&c->frames, f, of_conn);
  post_frame(c->keeper, f);
}

static void refuse_frames(struct lm_keeper *keeper) {
  struct lm_conns *conns = &keeper->conns;
  /* An engine that is just starting may take them. */
  if (conns->refusal == NULL || lm_link_up(keeper)) return;
  while (!TAILQ_EMPTY(&conns->frames)) {
    struct lm_frame *f = TAILQ_FIRST(&conns->frames);
    LM_CLEANUP_BUF struct lm_buf reply = {0};
    /* What does not go out: the connection is dead, and its event tells. */
    if (lm_refusal(f->body, conns->refusal, &reply)) (void)!write_bytes(f->conn, reply.data, reply.len);
    drop_frame(f);
  }
}

/* The frame that was read is complete: it is answered here, or kept and handed to the engine. false: the connection is
 * over. */
static bool take_frame(struct lm_conn *c, uint32_t flags) {
  c->head_have = 0;
  struct lm_blob *reply = c->attached ? NULL : lm_answers_find(c->keeper, c->body);
  if (reply == NULL) {
    keep_frame(c, flags);
    refuse_frames(c->keeper);
    return true;
  }
  lm_blob_unref(c->body);
  c->body = NULL;
  /* A client that asks for what has not changed asks again. */
  lm_loop_expect(&c->keeper->loop);
  bool open = write_bytes(c, reply->bytes, reply->len);
  lm_blob_unref(reply);
  return open;
}

/* The header is complete: makes room for the frame, or for its header alone. false: the connection is over, for want of
 * memory too. */
static bool begin_frame(struct lm_conn *c) {
  uint32_t len =
      (uint32_t)c->head[0] << 24 | (uint32_t)c->head[1] << 16 | (uint32_t)c->head[2] << 8 | (uint32_t)c->head[3];
  bool oversize = len > FRAME_MAX;
  uint32_t size = FRAME_HEADER + (oversize ? 0 : len);
  c->body = lm_blob_new(4 + size);
  if (c->body == NULL) return false;
  c->body->count = 1;
  memcpy(c->body->bytes, &size, 4);
  memcpy(c->body->bytes + 4, c->head, FRAME_HEADER);
  c->body_have = 4 + FRAME_HEADER;
  if (oversize) {
    c->skip = len;
    return take_frame(c, LM_F_OVERSIZE);
  }
  return len > 0 || take_frame(c, 0);
}

static bool feed(struct lm_conn *c, const uint8_t *data, size_t len) {
  while (len > 0) {
    size_t n;
    if (c->skip > 0) {
      n = len < c->skip ? len : c->skip;
      c->skip -= (uint32_t)n;
    } else if (c->body != NULL) {
      size_t want = c->body->len - c->body_have;
      n = len < want ? len : want;
      memcpy(c->body->bytes + c->body_have, data, n);
      c->body_have += (uint32_t)n;
      if (n == want && !take_frame(c, 0)) return false;
    } else {
      size_t want = FRAME_HEADER - c->head_have;
      n = len < want ? len : want;
      memcpy(c->head + c->head_have, data, n);
      c->head_have += (uint32_t)n;
      if (n == want && !begin_frame(c)) return false;
    }
    data += n;
    len -= n;
  }
  return true;
}

/* One read into the frame that is being read, where most of it is missing, else through the room. What recv(2) said, 0
 * too when the connection is over for another reason; *full: there may be more. */
static ssize_t read_once(struct lm_conn *c, bool *full) {
  size_t missing = c->body == NULL ? 0 : c->body->len - c->body_have;
  ssize_t n;
  if (missing >= READ_SIZE) {
    n = recv(c->watch.fd, c->body->bytes + c->body_have, missing, MSG_DONTWAIT);
    if (n <= 0) return n;
    *full = (size_t)n == missing;
    c->body_have += (uint32_t)n;
    return *full && !take_frame(c, 0) ? 0 : n;
  }
  struct lm_room *room = &c->keeper->conns.room;
  const uint8_t *bytes = lm_room_take(room);
  n = recv(c->watch.fd, room->bytes, READ_SIZE, MSG_DONTWAIT);
  *full = n == READ_SIZE;
  if (n > 0 && !feed(c, bytes, (size_t)n)) n = 0;
  lm_room_leave(room);
  return n;
}

/* Reads a bounded amount per round, so that one busy connection does not starve the rest. false: the connection is
 * over. */
static bool read_some(struct lm_conn *c) {
  for (int turn = 0; turn < 8 && reads(c); turn++) {
    bool full = false;
    ssize_t n = read_once(c, &full);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    /* Less than asked for: the socket is empty, no need to hear EAGAIN. */
    if (!full) return true;
  }
  return true;
}

static void conn_ready(struct lm_watch *watch, uint32_t events) {
  struct lm_conn *c = LM_CONTAINER_OF(watch, struct lm_conn, watch);
  bool open = true;
  if ((events & EPOLLOUT) != 0)
    open = lm_outbox_flush(&c->out, c->watch.fd) && !(c->shut && lm_outbox_is_empty(&c->out));
  if (open && (events & EPOLLIN) != 0) open = read_some(c);
  /* A hang-up while not reading: nobody is there any more to get an answer to what is unread. */
  if (open && (events & (EPOLLHUP | EPOLLERR)) != 0 && !(reads(c) && (events & EPOLLIN) != 0)) open = false;
  if (open) {
    update(c);
  } else {
    close_conn(c, true);
  }
}

static void tell(const struct lm_conn *c, uint32_t serial) {
  lm_link_post(c->keeper, LM_MSG_ACCEPTED, c->attached ? LM_F_ATTACHED : 0, serial, c->id, NULL);
}

/* Takes over a connected socket. NULL with errno when it cannot be watched; it is closed then. */
static struct lm_conn *open_conn(struct lm_keeper *keeper, int fd, bool attached) {
  struct lm_conn *c = lm_alloc(sizeof *c);
  c->watch = (struct lm_watch){.fd = fd, .ready = conn_ready};
  c->keeper = keeper;
  c->attached = attached;
  TAILQ_INIT(&c->frames);
  lm_outbox_init(&c->out);
  int result = lm_loop_add(&keeper->loop, &c->watch, EPOLLIN);
  if (result < 0) {
    (void)close(fd);
    free(c);
    errno = -result;
    return NULL;
  }
  c->id = ++keeper->conns.next_id;
  TAILQ_INSERT_TAIL(&keeper->conns.all, c, entry);
  return c;
}

void lm_conn_accepted(struct lm_keeper *keeper, int fd) {
  const struct lm_conn *c = open_conn(keeper, fd, false);
  if (c != NULL) tell(c, 0);
}

int lm_conn_attach(struct lm_keeper *keeper, int fd, uint32_t serial) {
  int type = 0;
  socklen_t len = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM || lm_set_nonblock(fd) < 0) {
    (void)close(fd);
    return -ENOTSOCK;
  }
  const struct lm_conn *c = open_conn(keeper, fd, true);
  if (c == NULL) return -errno;
  tell(c, serial);
  return 0;
}

void lm_conns_init(struct lm_keeper *keeper) {
  TAILQ_INIT(&keeper->conns.all);
  TAILQ_INIT(&keeper->conns.frames);
  lm_room_make(&keeper->conns.room, READ_SIZE);
}

static struct lm_conn *find(struct lm_keeper *keeper, uint64_t id) {
  struct lm_conn *c;
  TAILQ_FOREACH (c, &keeper->conns.all, entry) {
    if (c->id == id && !c->shut) return c;
  }
  return NULL;
}

void lm_conn_send(struct lm_keeper *keeper, uint64_t id, const void *data, size_t len) {
  struct lm_conn *c = find(keeper, id);
  if (c != NULL && !write_bytes(c, data, len)) close_conn(c, true);
}

static struct lm_frame *find_frame(struct lm_conn *c, uint32_t seq) {
  if (c == NULL) return NULL;
  struct lm_frame *f;
  TAILQ_FOREACH (f, &c->frames, of_conn) {
    if (f->seq == seq) return f;
  }
  return NULL;
}

const struct lm_frame *lm_conn_frame(struct lm_keeper *keeper, uint64_t id, uint32_t seq) {
  return find_frame(find(keeper, id), seq);
}

void lm_conn_release(struct lm_keeper *keeper, uint64_t id, uint32_t seq) {
  struct lm_frame *f = find_frame(find(keeper, id), seq);
  if (f == NULL) return;
  struct lm_conn *c = f->conn;
  drop_frame(f);
  update(c);
}

void lm_conn_shut(struct lm_keeper *keeper, uint64_t id) {
  struct lm_conn *c = find(keeper, id);
  if (c == NULL) return;
  c->shut = true;
  drop_frames(c);
  if (lm_outbox_is_empty(&c->out)) {
    close_conn(c, false);
  } else {
    update(c);
  }
}

void lm_conns_refuse(struct lm_keeper *keeper, const char *why) {
  struct lm_conns *conns = &keeper->conns;
  free(conns->refusal);
  conns->refusal = why == NULL ? NULL : lm_strdup(why);
  refuse_frames(keeper);
  end_unserved(keeper);
}

void lm_conns_replay(struct lm_keeper *keeper) {
  const struct lm_conn *c;
  TAILQ_FOREACH (c, &keeper->conns.all, entry) {
    if (!c->shut) tell(c, 0);
  }
  const struct lm_frame *f;
  TAILQ_FOREACH (f, &keeper->conns.frames, in_order) post_frame(keeper, f);
}

bool lm_conns_flushed(struct lm_keeper *keeper) {
  const struct lm_conn *c;
  TAILQ_FOREACH (c, &keeper->conns.all, entry) {
    if (!lm_outbox_is_empty(&c->out)) return false;
  }
  return true;
}

void lm_conns_free(struct lm_keeper *keeper) {
  lm_conns_refuse(keeper, NULL);
  while (!TAILQ_EMPTY(&keeper->conns.all)) close_conn(TAILQ_FIRST(&keeper->conns.all), false);
  lm_room_free(&keeper->conns.room);
}
