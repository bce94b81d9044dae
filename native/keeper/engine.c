/* Finding an engine, and starting one when there is none. See "Finding an engine" in
 * native/README.md. Nothing here waits: a lock held by another keeper, a refused connection, a failed start only arm a
 * timer. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "keeper.h"
#include "library.h"
#include "log.h"
#include "node.h"
#include "paths.h"
#include "rendezvous.h"
#include "spawn.h"

#define DELAY_FIRST_MS 20
#define DELAY_MAX_MS 5000
#define LOCK_RETRY_MS 15
/* An engine that served for less than this before it went may be dying of what it is told: starts are spaced out. */
#define GOOD_LIFE_MS 1000
/* After so many in a row, some 10 s, a keeper that was never served says so to whoever waits. */
#define FAILURES_MAX 10
#define LOG_MAX ((off_t)4 << 20)
#define ENGINE_FD 3

static int64_t jitter(int64_t ms) {
  uint16_t random = 0;
  (void)!getrandom(&random, sizeof random, GRND_NONBLOCK);
  return ms + ms * (random % 256) / 512;
}

static void seek_fired(struct lm_timer *timer) {
  lm_engine_seek(LM_CONTAINER_OF(timer, struct lm_keeper, engine.seek));
}

static void seek_later(struct lm_keeper *keeper) {
  struct lm_engine *engine = &keeper->engine;
  lm_timer_arm(&keeper->loop, &engine->seek, jitter(engine->delay));
  engine->delay = engine->delay == 0 ? DELAY_FIRST_MS : engine->delay * 2;
  if (engine->delay > DELAY_MAX_MS) engine->delay = DELAY_MAX_MS;
}

/* An engine did not start, or did not serve. Said ever more rarely: the 1st, 2nd, 4th, 8th time. Those who wait are told
 * the last words of its log, too: they may see nothing else. */
static void count_failure(struct lm_keeper *keeper, const char *what) {
  struct lm_engine *engine = &keeper->engine;
  unsigned n = ++engine->failures;
  const bool has_log = engine->log != NULL && access(engine->log, R_OK) == 0;
  LM_CLEANUP_FREE char *where = has_log ? lm_format("; its log: %s", engine->log) : lm_strdup("");
  if ((n & (n - 1)) == 0) lm_log("error", "no engine: %s (%u in a row%s)", what, n, where);
  if (n < FAILURES_MAX || engine->served) return;
  LM_CLEANUP_FREE char *words = has_log ? lm_last_words(engine->log) : lm_strdup("");
  LM_CLEANUP_FREE char *why = lm_format("no engine after %u tries: %s%s%s%s", n, what, where,
                                        *words == '\0' ? "" : ", which ends: ", words);
  lm_conns_refuse(keeper, why);
}

static void forget_process(struct lm_engine *engine) {
  engine->pid = 0;
  lm_close(&engine->pidfd);
}

void lm_engine_linked(struct lm_keeper *keeper) {
  lm_timer_stop(&keeper->engine.seek);
  keeper->engine.locked_since = 0;
  lm_ping_begin(keeper);
}

void lm_engine_welcome(struct lm_keeper *keeper, uint64_t arg) {
  struct lm_engine *engine = &keeper->engine;
  keeper->link.welcomed = true;
  engine->served = true;
  lm_conns_refuse(keeper, NULL);
  engine->welcomed_at = lm_now_ms();
  forget_process(engine);
  pid_t pid = (pid_t)arg;
  if (pid > 1 && (uint64_t)pid == arg && pid != getpid()) {
    engine->pid = pid;
    engine->pidfd = pidfd_open(pid, 0);
  }
  if (keeper->signaled != 0) {
    lm_link_post(keeper, LM_MSG_SIGNALED, 0, 0, (uint64_t)keeper->signaled, NULL);
    lm_timer_stop(&keeper->orphaned);
  }
}

void lm_engine_lost(struct lm_keeper *keeper) {
  struct lm_engine *engine = &keeper->engine;
  lm_ping_end(keeper);
  lm_timer_stop(&engine->dying);
  forget_process(engine);
  if (keeper->done) return;
  bool welcomed = keeper->link.welcomed;
  keeper->link.welcomed = false;
  if (welcomed && lm_now_ms() - engine->welcomed_at >= GOOD_LIFE_MS) {
    engine->delay = 0;
    engine->failures = 0;
  } else {
    count_failure(keeper, welcomed ? "it ended soon" : "it ended before it served");
  }
  /* It may have died of the very signal that it was to answer. */
  lm_keeper_orphaned(keeper);
  seek_later(keeper);
}

void lm_engine_declined(struct lm_keeper *keeper, unsigned version) {
  bool own = keeper->link.dedicated;
  if (version != LM_PROTOCOL) lm_log("warning", "the engine speaks version %u, not %u", version, LM_PROTOCOL);
  lm_link_close(keeper);
  if (own) {
    /* There is no other to turn to: it may have been replaced by the next try. */
    lm_log("error", "our own engine does not serve us");
    lm_engine_lost(keeper);
    return;
  }
  lm_ping_end(keeper);
  lm_timer_stop(&keeper->engine.dying);
  keeper->engine.dedicated = true;
  lm_engine_seek(keeper);
}

/* Starts node with `sock` as descriptor 3. Returns its pid or -1. */
static pid_t start_engine(struct lm_keeper *keeper, int sock, bool dedicated, struct lm_error *err) {
  struct lm_engine *engine = &keeper->engine;
  LM_CLEANUP_FREE char *node = lm_node_path(engine->library);
  if (node == NULL) {
    return lm_fail(err, 0, "node: not found in %s: install Lamina again, or let LAMINA_NODE name a node",
                   engine->library);
  }
  if (lm_library_check(engine->library, err) < 0) return -1;
  LM_CLEANUP_CLOSE int log = open(engine->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  struct stat info;
  if (log >= 0 && fstat(log, &info) == 0 && info.st_size > LOG_MAX) (void)!ftruncate(log, 0);
  static char dedicated_flag[] = "--dedicated";
  LM_CLEANUP_FREE char **argv = lm_node_argv(node, engine->library, dedicated ? dedicated_flag : NULL);
  LM_CLEANUP_FREE char **env = lm_node_env(keeper->env);
  int from[] = {sock, log, log};
  int to[] = {ENGINE_FD, 1, 2};
  /* We may have been moved into a container's groups, whose limits are not the engine's. */
  unsigned move_count;
  struct lm_move *moves = lm_home_moves(&keeper->identity.home, &move_count);
  const struct lm_spawn spawn = {
      .program = node,
      .argv = argv,
      .env = env,
      .cwd = "/",
      .from = from,
      .to = to,
      .fd_count = log >= 0 ? 3 : 1,
      .new_session = true,
      .confined = true,
      .nofile = &keeper->nofile,
      .moves = moves,
      .move_count = move_count,
      .oom_score = keeper->identity.home.score,
  };
  pid_t pid = lm_spawn(&spawn, err);
  for (unsigned i = 0; pid > 0 && i < move_count; i++) {
    if (moves[i].error != 0) lm_log("warning", "engine %d: %s: %s", (int)pid, moves[i].procs, strerror(moves[i].error));
  }
  lm_home_free_moves(moves, move_count);
  if (pid > 0) lm_children_name(keeper, pid, (struct lm_field){"engine", 6}, true);
  return pid;
}

static void failed(struct lm_keeper *keeper, const char *what) {
  count_failure(keeper, what);
  seek_later(keeper);
}

static void start_dedicated(struct lm_keeper *keeper) {
  struct lm_error err;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    failed(keeper, strerror(errno));
    return;
  }
  pid_t pid = start_engine(keeper, ends[1], true, &err);
  (void)close(ends[1]);
  if (pid < 0) {
    (void)close(ends[0]);
    failed(keeper, err.text);
    return;
  }
  keeper->engine.dedicated = false;
  keeper->engine.pid = pid;
  keeper->engine.pidfd = pidfd_open(pid, 0);
  keeper->link.dedicated = true;
  lm_link_open(keeper, ends[0]);
}

/* A connection to the engine that is there, or -errno. */
static int connect_to(struct lm_engine *engine, int folder) {
  return lm_rendezvous_connect(folder, engine->socket, engine->undying, &engine->linked);
}

/* With the lock held: looks once more, then starts an engine behind a new socket. A connection, or -1 with err. */
static int start_shared(struct lm_keeper *keeper, int folder, int lock, struct lm_error *err) {
  struct lm_engine *engine = &keeper->engine;
  int fd = connect_to(engine, folder);
  if (fd >= 0) return fd;
  if (fd != -ECONNREFUSED && fd != -ENOENT) return lm_fail(err, -fd, "connect %s", engine->socket);
  (void)unlink(engine->socket);
  LM_CLEANUP_CLOSE int listener = lm_rendezvous_listen(engine->socket);
  if (listener < 0) return lm_fail(err, -listener, "bind %s", engine->socket);
  pid_t pid = start_engine(keeper, listener, false, err);
  if (pid < 0) {
    (void)unlink(engine->socket);
    return -1;
  }
  int result = lm_rendezvous_record(folder, lock, engine->record, pid, lm_rendezvous_named(folder, engine->socket));
  if (result < 0) {
    lm_log("warning", "%s: %s: should the engine hang at once, it is not found", engine->lock, strerror(-result));
  }
  fd = connect_to(engine, folder);
  if (fd < 0) return lm_fail(err, -fd, "connect %s", engine->socket);
  return fd;
}

/* The folder, made if it is not there. A descriptor, or -1 with err. */
static int open_folder(const struct lm_engine *engine, struct lm_error *err) {
  int folder = lm_rendezvous_open(engine->state_dir);
  if (folder == -ENOENT) {
    if (lm_make_dirs(engine->state_dir, 0700, NULL, err) < 0) return -1;
    /* Looked at like any other: somebody may have been faster. */
    folder = lm_rendezvous_open(engine->state_dir);
  }
  if (folder == -EPERM) return lm_fail(err, 0, "the state directory is not ours alone");
  return folder < 0 ? lm_fail(err, -folder, "%s", engine->state_dir) : folder;
}

/* Another keeper is starting an engine right now, or one that has ended took the lock file with it: a matter of
 * milliseconds, unless whoever holds the lock has been stopped. Nobody can take it from them, so an engine of our own
 * has to do. */
static void wait_for_lock(struct lm_keeper *keeper) {
  struct lm_engine *engine = &keeper->engine;
  if (engine->locked_since == 0) engine->locked_since = lm_now_ms();
  if (lm_now_ms() - engine->locked_since < keeper->ping.every) {
    lm_timer_arm(&keeper->loop, &engine->seek, jitter(LOCK_RETRY_MS));
    return;
  }
  lm_log("error", "%s is held by somebody who does not go on: starting an engine of our own", engine->lock);
  engine->locked_since = 0;
  start_dedicated(keeper);
}

void lm_engine_seek(struct lm_keeper *keeper) {
  struct lm_engine *engine = &keeper->engine;
  if (lm_link_up(keeper) || keeper->done) return;
  if (engine->socket == NULL) {
    failed(keeper, engine->library == NULL ? "it is not installed" : "no state directory");
    return;
  }
  if (engine->dedicated) {
    start_dedicated(keeper);
    return;
  }
  struct lm_error err;
  LM_CLEANUP_CLOSE int folder = open_folder(engine, &err);
  if (folder < 0) {
    failed(keeper, err.text);
    return;
  }
  int fd = connect_to(engine, folder);
  if (fd == -ECONNREFUSED || fd == -ENOENT) {
    LM_CLEANUP_CLOSE int lock = lm_rendezvous_lock(folder, engine->lock);
    if (lock == -EWOULDBLOCK) {
      wait_for_lock(keeper);
      return;
    }
    if (lock < 0) {
      failed(keeper, strerror(-lock));
      return;
    }
    fd = start_shared(keeper, folder, lock, &err);
    if (fd < 0) {
      failed(keeper, err.text);
      return;
    }
  }
  if (fd < 0) {
    failed(keeper, strerror(-fd));
    return;
  }
  keeper->link.dedicated = false;
  lm_link_open(keeper, fd);
}

void lm_engine_init(struct lm_keeper *keeper) {
  struct lm_engine *engine = &keeper->engine;
  engine->pidfd = -1;
  engine->seek.fire = seek_fired;
  lm_replace_init(keeper);
  engine->state_dir = lm_state_dir();
  struct lm_error err;
  engine->library = lm_library_find(&err);
  /* The start verb had found it. */
  if (engine->library == NULL) lm_log("error", "%s", err.text);
  if (engine->state_dir == NULL || engine->library == NULL) return;
  char key[17];
  lm_engine_key(engine->library, key);
  engine->socket = lm_format("%s/engine-%s.sock", engine->state_dir, key);
  engine->lock = lm_format("%s/engine-%s.lock", engine->state_dir, key);
  engine->record = lm_format("%s/engine-%s.id", engine->state_dir, key);
  engine->log = lm_format("%s/engine-%s.log", engine->state_dir, key);
}

void lm_engine_free(struct lm_keeper *keeper) {
  struct lm_engine *engine = &keeper->engine;
  forget_process(engine);
  free(engine->state_dir);
  free(engine->library);
  free(engine->socket);
  free(engine->lock);
  free(engine->record);
  free(engine->log);
}
