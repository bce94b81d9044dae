/* The keeper: what one process owns. Everything is touched by the one loop only. */
#ifndef LM_KEEPER_H
#define LM_KEEPER_H

#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "../common/util.h"
#include "../common/wire.h"
#include "home.h"
#include "loop.h"
#include "rendezvous.h"

/* Whom this keeper serves; what HELLO says. All owned. */
struct lm_identity {
  char *namespace;
  char *id;
  char *group;
  char *bundle;
  char *socket; /* path */
  char *grpc_address;
  char *ttrpc_address;
  char *publish_binary;
  char *daemon_version;
  bool debug;
  struct lm_home home;
};

struct lm_out {
  TAILQ_ENTRY(lm_out) entry;
  struct lm_header head;
  struct lm_blob *body;
};

/* The socket to the engine. */
struct lm_link {
  struct lm_watch watch;      /* fd -1: no engine */
  TAILQ_HEAD(, lm_out) queue; /* in order, not yet sent */
  unsigned answers;           /* of these, how many answer requests */
  struct lm_room room;        /* for receiving */
  bool welcomed;
  bool dedicated;        /* to an engine of our own */
  struct lm_timer retry; /* the kernel had no memory or descriptors for a message */
};

struct lm_engine {
  char *state_dir;
  char *library;
  char *socket; /* paths in state_dir, or NULL when nothing can be started */
  char *lock;
  char *record; /* which process serves which socket */
  char *log;
  pid_t pid;            /* of the linked engine, 0 while unknown */
  int pidfd;            /* of it, or -1 */
  bool dedicated;       /* the next one started is to be our own */
  int64_t delay;        /* ms before the next try, after it grew */
  int64_t locked_since; /* the lock has been another's at every try since then; 0: it has not */
  bool served;          /* one has, once */
  unsigned failures;    /* engines in a row that did not serve for long, or could not be started */
  int64_t welcomed_at;
  struct lm_timer seek;
  struct lm_file_id linked;  /* the socket behind which the linked engine is */
  struct lm_file_id undying; /* one whose engine was killed and does not die */
  struct lm_timer dying;     /* the linked engine was killed */
};

struct lm_ping {
  struct lm_timer timer;
  struct lm_timer look; /* until the engine has said who it is */
  int64_t every;       /* ms */
  int64_t heard_at;    /* last message */
  unsigned unanswered; /* pings in a row */
  uint32_t serial;
  struct lm_blob *pong; /* PING's body: an eventfd the engine may answer by, so that the answer wakes nobody */
};

struct lm_entry {
  TAILQ_ENTRY(lm_entry) entry;
  struct lm_blob *body; /* fields name, bytes; its fd */
};

struct lm_deposit {
  TAILQ_HEAD(, lm_entry) entries;
  size_t bytes;
};

struct lm_child {
  TAILQ_ENTRY(lm_child) entry;
  pid_t pid;
  bool engine; /* its end is nobody's business */
  uint32_t name_len;
  char name[];
};

struct lm_report {
  TAILQ_ENTRY(lm_report) entry;
  uint32_t seq;
  pid_t pid;
  bool stranger;
  struct lm_blob *body;
};

struct lm_children {
  TAILQ_HEAD(, lm_child) named;
  TAILQ_HEAD(, lm_report) reports;
  uint32_t next_seq;
  unsigned strangers;
};

TAILQ_HEAD(lm_relay_list, lm_relay);
struct lm_relays {
  struct lm_relay_list all;
  TAILQ_HEAD(, lm_port) shared; /* entries' descriptors that relays use */
  struct lm_room room;          /* for copying */
  unsigned runnable; /* relays that have work without waiting for an event */
  struct lm_timer retry; /* while a file that one goes to is on a full disk */
};

/* Requests that are answered once output was read. */
struct lm_unread {
  TAILQ_HEAD(, lm_read_out) waiting;
  struct lm_timer again;
};

struct lm_frame {
  TAILQ_ENTRY(lm_frame) in_order; /* of all connections */
  TAILQ_ENTRY(lm_frame) of_conn;
  uint32_t seq;
  uint32_t flags;
  uint32_t generation; /* of the standing answers when it went to the engine */
  struct lm_conn *conn;
  struct lm_blob *body; /* one field: the frame */
};

TAILQ_HEAD(lm_answer_list, lm_answer);
struct lm_answers {
  struct lm_answer_list all; /* all of one method */
  unsigned count;
  uint32_t generation;
};

struct lm_listener {
  struct lm_watch watch;
  struct lm_timer again; /* after running out of descriptors */
};

struct lm_conns {
  TAILQ_HEAD(, lm_conn) all;
  TAILQ_HEAD(, lm_frame) frames;
  uint64_t next_id;
  uint32_t next_seq;
  char *refusal;       /* why requests are not served, or NULL */
  struct lm_room room; /* for reading */
};

struct lm_keeper {
  struct lm_loop loop;
  struct lm_identity identity;
  char **env;           /* for children */
  struct rlimit nofile; /* as inherited */
  struct lm_link link;
  struct lm_engine engine;
  struct lm_ping ping;
  struct lm_deposit deposit;
  struct lm_children children;
  struct lm_relays relays;
  struct lm_listener listener;
  struct lm_unread unread;
  struct lm_conns conns;
  struct lm_answers answers;
  struct lm_watch signals;
  bool registered;          /* there is a file of ours in the state directory, see registration.h */
  int signaled;             /* SIGTERM or SIGINT that came; told to every engine until one ends the keeper */
  struct lm_timer orphaned; /* signaled, and no engine comes */
  bool exiting;
  bool done;
  struct lm_timer exit_timer;
  dev_t socket_dev; /* of our socket file, so that no other's is unlinked */
  ino_t socket_ino;
};

/* Allows itself more descriptors than the daemon's default of 1024: a pod has some per process. Returns the limit that
 * was, which children get back. */
struct rlimit lm_keeper_raise_nofile(void);
/* Runs the keeper on a listening socket until EXIT; does not return an error, its life is the loop. */
int lm_keeper_run(struct lm_identity identity, int listener, struct rlimit nofile);
/* EXIT: unlinks the socket, flushes for a second at most, ends. */
void lm_keeper_exit(struct lm_keeper *keeper);
/* Gives back memory that only a burst needed. */
void lm_keeper_trim(struct lm_keeper *keeper);

/* link.c: messages to and from the engine */
/* Starts talking over a connected socket (taken over): HELLO and the replay are queued. */
void lm_link_open(struct lm_keeper *keeper, int fd);
void lm_link_close(struct lm_keeper *keeper);
static inline bool lm_link_up(const struct lm_keeper *keeper) {
  return keeper->link.watch.fd >= 0;
}
/* Queues a message; takes over one reference to body (may be NULL). Without an engine it is dropped: what must not be
 * lost is kept by its owner and replayed. */
void lm_link_post(struct lm_keeper *keeper, uint16_t type, uint32_t flags, uint32_t serial, uint64_t arg,
                  struct lm_blob *body);
/* FAILED for a request; does nothing for one without serial. */
void lm_link_fail(struct lm_keeper *keeper, uint32_t serial, int error, const char *what);
/* DONE for a request that asked for an answer. */
void lm_link_done(struct lm_keeper *keeper, uint32_t serial);
/* Takes frames of a connection that is gone out of the queue. */
void lm_link_forget_frames(struct lm_keeper *keeper, uint64_t conn);
void lm_link_init(struct lm_keeper *keeper);
void lm_link_free(struct lm_keeper *keeper);

/* dispatch.c: one message from the engine */
void lm_dispatch(struct lm_keeper *keeper, struct lm_message *message);

/* engine.c: finding, starting, replacing it */
void lm_engine_init(struct lm_keeper *keeper);
void lm_engine_free(struct lm_keeper *keeper);
void lm_engine_seek(struct lm_keeper *keeper);
void lm_engine_linked(struct lm_keeper *keeper);
void lm_engine_welcome(struct lm_keeper *keeper, uint64_t pid);
/* The link is down: another is sought after a while. */
void lm_engine_lost(struct lm_keeper *keeper);
/* The linked engine does not serve us, by its own word or because its messages have another version: we start one of
 * our own. */
void lm_engine_declined(struct lm_keeper *keeper, unsigned version);

/* replace.c: one that hangs */
void lm_replace_init(struct lm_keeper *keeper);
/* It does not answer: it is killed, and another is sought once it is gone, or after a while. */
void lm_engine_hangs(struct lm_keeper *keeper);
/* Another engine has taken the place of the linked one, which lives on. */
bool lm_engine_is_replaced(const struct lm_keeper *keeper);

/* ping.c: whether it answers */
void lm_ping_init(struct lm_keeper *keeper);
/* There is a link. */
void lm_ping_begin(struct lm_keeper *keeper);
void lm_ping_heard(struct lm_keeper *keeper);
void lm_ping_end(struct lm_keeper *keeper);

/* deposit.c */
void lm_deposit_init(struct lm_keeper *keeper);
void lm_deposit_free(struct lm_keeper *keeper);
/* Stores or replaces; takes over fd. 0 or -errno; what was there under this name is there still, then. */
int lm_deposit_put(struct lm_keeper *keeper, struct lm_field name, struct lm_field bytes, int fd);
void lm_deposit_del(struct lm_keeper *keeper, struct lm_field name);
/* The body of an entry, with a reference for the caller; NULL when there is none. */
struct lm_blob *lm_deposit_body(struct lm_keeper *keeper, struct lm_field name);
void lm_deposit_replay(struct lm_keeper *keeper);

/* children.c */
void lm_children_init(struct lm_keeper *keeper);
void lm_children_free(struct lm_keeper *keeper);
void lm_children_name(struct lm_keeper *keeper, pid_t pid, struct lm_field name, bool engine);
/* 0 when pid is a child, dead or alive, that was not reaped and has no other name than this; else -errno. */
int lm_children_check(struct lm_keeper *keeper, pid_t pid, struct lm_field name);
void lm_children_reap(struct lm_keeper *keeper);
void lm_children_ack(struct lm_keeper *keeper, uint32_t seq);
void lm_children_replay(struct lm_keeper *keeper);

/* keeper.c: a signal came and there is no engine to decide: the keeper goes by itself if none comes soon. */
void lm_keeper_orphaned(struct lm_keeper *keeper);

/* relay.c */
void lm_relays_init(struct lm_keeper *keeper);
void lm_relays_free(struct lm_keeper *keeper);
/* One end of a relay: a descriptor of its own, or that of an entry. */
struct lm_relay_end {
  int fd;                /* -1: that of the entry */
  struct lm_field entry; /* its name */
};
/* Takes over descriptors. 1 when it had something to move, 0 when it had nothing yet, or -errno: EEXIST for a name that
 * is in use, ENOENT for an entry that is not there, ENOTTY for one that is no terminal, EBUSY when another relay has
 * this end of it. */
int lm_relay_start(struct lm_keeper *keeper, struct lm_field name, struct lm_relay_end src, struct lm_relay_end dst);
void lm_relay_drop(struct lm_keeper *keeper, struct lm_field name);
void lm_relay_finish(struct lm_keeper *keeper, struct lm_field name);
void lm_relays_replay(struct lm_keeper *keeper);
/* Goes on with relays that need no event. */
void lm_relays_run(struct lm_keeper *keeper);
/* Gives every relay a turn now. true when one of them has more than its destination takes. */
bool lm_relays_push(struct lm_keeper *keeper);
/* As lm_relays_push, of the relays into this file. */
bool lm_relays_push_into(struct lm_keeper *keeper, const struct stat *dst);

/* unread.c: output that is in a FIFO, and that nobody has read yet */
void lm_unread_init(struct lm_keeper *keeper);
/* A FIFO whose reading end is kept holds something. */
bool lm_unread_any(const struct lm_keeper *keeper);
/* DONE for `serial` once the FIFOs whose reading ends are kept under names that begin so have been read empty, and
 * nothing is on its way there; at the latest after `ms`. A FIFO that nobody else has open for reading is not waited
 * for. */
void lm_unread_await(struct lm_keeper *keeper, uint32_t serial, struct lm_field prefix, int64_t ms);
/* Nobody waits any more. */
void lm_unread_forget(struct lm_keeper *keeper);

/* listener.c */
/* Takes over a listening socket. 0 or -errno. */
int lm_listener_open(struct lm_keeper *keeper, int fd);
void lm_listener_close(struct lm_keeper *keeper);

/* conns.c: the daemon's connections */
void lm_conns_init(struct lm_keeper *keeper);
void lm_conns_free(struct lm_keeper *keeper);
bool lm_conns_flushed(struct lm_keeper *keeper);
void lm_conn_send(struct lm_keeper *keeper, uint64_t id, const void *data, size_t len);
void lm_conn_release(struct lm_keeper *keeper, uint64_t id, uint32_t seq);
/* A frame not released, or NULL. */
const struct lm_frame *lm_conn_frame(struct lm_keeper *keeper, uint64_t id, uint32_t seq);
/* A connection of the daemon; takes over the socket. */
void lm_conn_accepted(struct lm_keeper *keeper, int fd);
/* A connection that the engine has made; takes over the socket. ACCEPTED tells its number. 0 or -errno. */
int lm_conn_attach(struct lm_keeper *keeper, int fd, uint32_t serial);
void lm_conn_shut(struct lm_keeper *keeper, uint64_t id);
void lm_conns_replay(struct lm_keeper *keeper);
/* There is no engine, and may never be: requests, those to come too, are answered with an error, and the keeper ends
 * when nobody is connected any more. NULL: there is one again. */
void lm_conns_refuse(struct lm_keeper *keeper, const char *why);

/* refuse.c: appends the reply to a request frame that says so; false for a frame that gets none */
bool lm_refusal(const struct lm_blob *request, const char *why, struct lm_buf *reply);

/* answers.c: answers that may be given again */
void lm_answers_init(struct lm_keeper *keeper);
/* Something may have changed: no answer stands any more. */
void lm_answers_clear(struct lm_keeper *keeper);
/* The reply frame to a request frame, if an answer to its like stands, with a reference for the caller; else NULL. To be
 * sent before the next call here, which may give the same bytes another stream id. */
struct lm_blob *lm_answers_find(struct lm_keeper *keeper, const struct lm_blob *request);
/* A frame goes to the engine. Returns what to remember as its `generation`. */
uint32_t lm_answers_passing(struct lm_keeper *keeper, const struct lm_blob *frame);
/* The engine's reply to a frame is to stand. */
void lm_answers_keep(struct lm_keeper *keeper, const struct lm_frame *frame, struct lm_field reply);

#endif
