/* The link to the engine: an ordered queue of messages towards it, and reading what it says. Nothing here ever waits.
 */
#include "log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "keeper.h"
#include "registration.h"
#include "version.h"

#define READ_TURNS 64
/* An engine that asks without ever listening is not read until it listens. */
#define ANSWERS_MAX 4096
#define RETRY_MS 20

static void link_ready(struct lm_watch *watch, uint32_t events);

static struct lm_keeper *keeper_of(struct lm_watch *watch) {
  return LM_CONTAINER_OF(watch, struct lm_keeper, link.watch);
}

static bool is_answer(uint16_t type) {
  return type == LM_MSG_SPAWNED || type == LM_MSG_ADOPTED || type == LM_MSG_FAILED || type == LM_MSG_DONE;
}

static void drop(struct lm_link *link, struct lm_out *out) {
  TAILQ_REMOVE(&link->queue, out, entry);
  if (is_answer(out->head.type)) link->answers--;
  lm_blob_unref(out->body);
  free(out);
}

static void update(struct lm_keeper *keeper) {
  struct lm_link *link = &keeper->link;
  if (!lm_link_up(keeper)) return;
  bool waiting = link->retry.due != 0; /* writable, but the kernel refuses for another reason */
  uint32_t events =
      (link->answers > ANSWERS_MAX ? 0U : EPOLLIN) | (TAILQ_EMPTY(&link->queue) || waiting ? 0U : EPOLLOUT);
  lm_loop_modify(&keeper->loop, &link->watch, events);
}

/* Sends as much as goes. false: the link is broken. */
static bool flush(struct lm_keeper *keeper) {
  struct lm_link *link = &keeper->link;
  while (!TAILQ_EMPTY(&link->queue)) {
    struct lm_out *out = TAILQ_FIRST(&link->queue);
    int result = lm_send(link->watch.fd, &out->head, out->body, MSG_DONTWAIT);
    if (result == -EAGAIN) return true;
    if (result == -ENOBUFS || result == -ENOMEM || result == -EMFILE || result == -ENFILE || result == -ETOOMANYREFS) {
      lm_timer_arm(&keeper->loop, &link->retry, RETRY_MS);
      return true;
    }
    if (result < 0) return false;
    drop(link, out);
  }
  return true;
}

static void retry(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, link.retry);
  if (!lm_link_up(keeper)) return;
  if (flush(keeper)) {
    update(keeper);
  } else {
    lm_link_close(keeper);
    lm_engine_lost(keeper);
  }
}

void lm_link_init(struct lm_keeper *keeper) {
  keeper->link.watch = (struct lm_watch){.fd = -1, .ready = link_ready};
  keeper->link.retry.fire = retry;
  TAILQ_INIT(&keeper->link.queue);
  lm_room_make(&keeper->link.room, LM_INLINE_MAX);
}

void lm_link_free(struct lm_keeper *keeper) {
  lm_link_close(keeper);
  lm_room_free(&keeper->link.room);
}

static void enqueue(struct lm_link *link, const struct lm_header *head, struct lm_blob *body) {
  struct lm_out *out = lm_alloc(sizeof *out);
  out->head = *head;
  out->body = body;
  TAILQ_INSERT_TAIL(&link->queue, out, entry);
  if (is_answer(head->type)) link->answers++;
}

void lm_link_post(struct lm_keeper *keeper, uint16_t type, uint32_t flags, uint32_t serial, uint64_t arg,
                  struct lm_blob *body) {
  struct lm_link *link = &keeper->link;
  if (!lm_link_up(keeper)) {
    lm_blob_unref(body);
    return;
  }
  struct lm_header head = {.type = type, .flags = flags, .serial = serial, .arg = arg};
  /* The usual case: nothing waits, and the socket takes it. Errors are left to the event that follows them. */
  if (TAILQ_EMPTY(&link->queue) && lm_send(link->watch.fd, &head, body, MSG_DONTWAIT) == 0) {
    lm_blob_unref(body);
    return;
  }
  enqueue(link, &head, body);
  update(keeper);
}

void lm_link_fail(struct lm_keeper *keeper, uint32_t serial, int error, const char *what) {
  lm_link_post(keeper, LM_MSG_FAILED, 0, serial, (uint64_t)error, lm_blob_text(what));
}

void lm_link_done(struct lm_keeper *keeper, uint32_t serial) {
  if (serial != 0) lm_link_post(keeper, LM_MSG_DONE, 0, serial, 0, NULL);
}

void lm_link_forget_frames(struct lm_keeper *keeper, uint64_t conn) {
  struct lm_out *out, *next;
  for (out = TAILQ_FIRST(&keeper->link.queue); out != NULL; out = next) {
    next = TAILQ_NEXT(out, entry);
    if (out->head.type == LM_MSG_FRAME && out->head.arg == conn) drop(&keeper->link, out);
  }
}

static struct lm_blob *hello(const struct lm_keeper *keeper) {
  const struct lm_identity *who = &keeper->identity;
  const struct {
    const char *key, *value;
  } pairs[] = {
      {"namespace", who->namespace},
      {"id", who->id},
      {"group", who->group},
      {"bundle", who->bundle},
      {"socket", who->socket},
      {"grpc_address", who->grpc_address},
      {"ttrpc_address", who->ttrpc_address},
      {"publish_binary", who->publish_binary},
      {"debug", who->debug ? "1" : "0"},
      {"state_dir", keeper->engine.state_dir == NULL ? "" : keeper->engine.state_dir},
      {"daemon_version", who->daemon_version},
      {"version", lm_version},
      {"build", lm_build},
      {"features", "batch batch-fds attach reopen read-out relay-entry"},
  };
  enum { COUNT = sizeof pairs / sizeof pairs[0] };
  char *texts[COUNT];
  struct lm_field fields[COUNT];
  for (int i = 0; i < COUNT; i++) {
    texts[i] = lm_format("%s=%s", pairs[i].key, pairs[i].value);
    fields[i] = (struct lm_field){texts[i], (uint32_t)strlen(texts[i])};
  }
  struct lm_blob *blob = lm_blob_make(fields, COUNT, -1);
  for (int i = 0; i < COUNT; i++) free(texts[i]);
  return blob;
}

void lm_link_open(struct lm_keeper *keeper, int fd) {
  struct lm_link *link = &keeper->link;
  link->watch.fd = fd;
  link->welcomed = false;
  if (lm_set_nonblock(fd) < 0 || lm_loop_add(&keeper->loop, &link->watch, EPOLLIN) < 0) {
    lm_close(&link->watch.fd);
    lm_engine_lost(keeper);
    return;
  }
  lm_answers_clear(keeper);
  lm_link_post(keeper, LM_MSG_HELLO, 0, 0, (uint64_t)getpid(), hello(keeper));
  lm_deposit_replay(keeper);
  lm_relays_replay(keeper);
  lm_conns_replay(keeper);
  lm_children_replay(keeper);
  lm_link_post(keeper, LM_MSG_REPLAYED, 0, 0, 0, NULL);
  lm_register(keeper);
  lm_engine_linked(keeper);
}

void lm_link_close(struct lm_keeper *keeper) {
  struct lm_link *link = &keeper->link;
  if (!lm_link_up(keeper)) return;
  lm_timer_stop(&link->retry);
  lm_unread_forget(keeper);
  lm_loop_remove(&keeper->loop, &link->watch);
  lm_close(&link->watch.fd);
  while (!TAILQ_EMPTY(&link->queue)) drop(link, TAILQ_FIRST(&link->queue));
}

/* Reads a bounded number of messages. false: the engine is gone. */
static bool read_some(struct lm_keeper *keeper) {
  struct lm_link *link = &keeper->link;
  struct lm_message message;
  for (int turn = 0; turn < READ_TURNS && link->answers <= ANSWERS_MAX; turn++) {
    int result = lm_receive(link->watch.fd, &link->room, &message);
    /* An engine that went with messages of ours unread. It is told once, ahead of what the engine had sent: DECLINE,
     * say. */
    if (result == -ECONNRESET) result = lm_receive(link->watch.fd, &link->room, &message);
    if (result == -EAGAIN) return true;
    if (result == -EPROTO && !link->welcomed) {
      lm_engine_declined(keeper, message.head.version);
      return true;
    }
    if (result == -EMFILE) {
      lm_ping_heard(keeper);
      lm_log("warning", "no descriptors left for what the engine gives us");
      lm_link_fail(keeper, message.head.serial, EMFILE, "take descriptors");
      continue;
    }
    if (result == -EBADMSG || result == -EPROTO) {
      lm_link_fail(keeper, message.head.serial, EBADMSG, "message");
      continue;
    }
    if (result <= 0) return false;
    lm_ping_heard(keeper);
    lm_dispatch(keeper, &message);
    lm_message_end(&message);
    /* The message may have ended the link (DECLINE) or the keeper. */
    if (!lm_link_up(keeper) || keeper->done) return true;
  }
  return true;
}

static void link_ready(struct lm_watch *watch, uint32_t events) {
  struct lm_keeper *keeper = keeper_of(watch);
  bool alive = true;
  if ((events & EPOLLOUT) != 0) alive = flush(keeper);
  if (alive && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    bool reads = keeper->link.answers <= ANSWERS_MAX;
    alive = reads ? read_some(keeper) : (events & (EPOLLHUP | EPOLLERR)) == 0;
  }
  if (!lm_link_up(keeper)) return;
  if (alive) {
    update(keeper);
  } else {
    lm_link_close(keeper);
    lm_engine_lost(keeper);
  }
}
