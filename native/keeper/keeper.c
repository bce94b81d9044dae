/* The keeper process: set-up, signals, end. */
#include "keeper.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "log.h"
#include "registration.h"

extern char **environ;

#define ORPHANED_MS 5000
#define EXIT_FLUSH_MS 1000
/* So much may be free within the heap and still be kept. */
#define FREE_MAX ((size_t)128 << 10)

static void take_signal(struct lm_keeper *keeper, int sig) {
  keeper->signaled = sig;
  if (keeper->link.welcomed) {
    lm_link_post(keeper, LM_MSG_SIGNALED, 0, 0, (uint64_t)sig, NULL);
  } else {
    lm_keeper_orphaned(keeper);
  }
}

void lm_keeper_orphaned(struct lm_keeper *keeper) {
  if (keeper->signaled == 0 || keeper->orphaned.due != 0) return;
  lm_timer_arm(&keeper->loop, &keeper->orphaned, ORPHANED_MS);
}

static void signals_ready(struct lm_watch *watch, uint32_t events) {
  (void)events;
  struct lm_keeper *keeper = LM_CONTAINER_OF(watch, struct lm_keeper, signals);
  struct signalfd_siginfo info;
  while (read(watch->fd, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGCHLD) {
      lm_children_reap(keeper);
    } else {
      take_signal(keeper, (int)info.ssi_signo);
    }
  }
}

static int watch_signals(struct lm_keeper *keeper) {
  static const int ignored[] = {SIGPIPE, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGTTOU, SIGTTIN, SIGTSTP};
  for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) (void)signal(ignored[i], SIG_IGN);
  /* An inherited "ignore" would make the kernel reap children by itself. */
  (void)signal(SIGCHLD, SIG_DFL);
  sigset_t set;
  (void)sigemptyset(&set);
  (void)sigaddset(&set, SIGCHLD);
  (void)sigaddset(&set, SIGTERM);
  (void)sigaddset(&set, SIGINT);
  if (sigprocmask(SIG_SETMASK, &set, NULL) < 0) return -errno;
  keeper->signals = (struct lm_watch){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = signals_ready};
  if (keeper->signals.fd < 0) return -errno;
  return lm_loop_add(&keeper->loop, &keeper->signals, EPOLLIN);
}

/* The daemon's environment, as the runtime gets it from the stock shim: without systemd's socket, which runc would
 * talk to, and without the number of threads that the daemon has chosen for a shim in Go. */
static char **child_env(void) {
  size_t n = 0;
  while (environ[n] != NULL) n++;
  char **env = lm_alloc((n + 1) * sizeof *env);
  size_t count = 0;
  for (size_t i = 0; i < n; i++) {
    if (lm_after(environ[i], "NOTIFY_SOCKET=") || lm_after(environ[i], "GOMAXPROCS=")) continue;
    env[count++] = environ[i];
  }
  return env;
}

static void unlink_if_ours(const struct lm_keeper *keeper, const char *path) {
  struct stat info;
  if (lstat(path, &info) == 0 && info.st_dev == keeper->socket_dev && info.st_ino == keeper->socket_ino) {
    (void)unlink(path);
  }
}

/* The daemon may look for the socket where it was told, or where the bundle's link `s` leads: neither may remain. */
static void unlink_socket(struct lm_keeper *keeper) {
  const struct lm_identity *who = &keeper->identity;
  lm_unregister(keeper);
  unlink_if_ours(keeper, who->socket);
  const char *name = strrchr(who->socket, '/');
  LM_CLEANUP_FREE char *other = lm_format("%s/s%s", who->bundle, name == NULL ? "" : name);
  unlink_if_ours(keeper, other);
}

static void exit_time(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, exit_timer);
  keeper->done = true;
}

void lm_keeper_exit(struct lm_keeper *keeper) {
  if (keeper->exiting) return;
  keeper->exiting = true;
  unlink_socket(keeper);
  lm_listener_close(keeper);
  lm_timer_arm(&keeper->loop, &keeper->exit_timer, EXIT_FLUSH_MS);
}

static void orphaned(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, orphaned);
  lm_log("warning", "signal %d and no engine: exiting", keeper->signaled);
  lm_keeper_exit(keeper);
}

struct rlimit lm_keeper_raise_nofile(void) {
  struct rlimit before = {1024, 1024};
  if (getrlimit(RLIMIT_NOFILE, &before) < 0) return before;
  struct rlimit wanted = before;
  wanted.rlim_cur = wanted.rlim_max == RLIM_INFINITY || wanted.rlim_max > 65536 ? 65536 : wanted.rlim_max;
  if (wanted.rlim_cur > before.rlim_cur) (void)setrlimit(RLIMIT_NOFILE, &wanted);
  return before;
}

void lm_keeper_trim(struct lm_keeper *keeper) {
  lm_room_trim(&keeper->link.room);
  lm_room_trim(&keeper->relays.room);
  lm_room_trim(&keeper->conns.room);
  /* Whole pages between what is still in use. */
  if (mallinfo2().fordblks > FREE_MAX) (void)malloc_trim(0);
}

static void free_identity(struct lm_identity *who) {
  char *texts[] = {who->namespace,     who->id,           who->group,         who->bundle,
                   who->socket,        who->grpc_address, who->ttrpc_address, who->publish_binary,
                   who->daemon_version};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) free(texts[i]);
  lm_home_free(&who->home);
}

static void end(struct lm_keeper *keeper) {
  keeper->done = true;
  lm_link_free(keeper);
  lm_ping_end(keeper);
  lm_engine_free(keeper);
  lm_relays_free(keeper);
  lm_listener_close(keeper);
  lm_conns_free(keeper);
  lm_deposit_free(keeper);
  lm_children_free(keeper);
  lm_answers_clear(keeper);
  lm_loop_close(&keeper->loop);
  lm_close(&keeper->signals.fd);
  free_identity(&keeper->identity);
  free(keeper->env);
  free(keeper);
}

/* What holds the keeper's things; no descriptor of it is watched yet. */
static void init_parts(struct lm_keeper *keeper) {
  lm_deposit_init(keeper);
  lm_children_init(keeper);
  lm_answers_init(keeper);
  lm_relays_init(keeper);
  lm_conns_init(keeper);
  lm_unread_init(keeper);
  lm_link_init(keeper);
  lm_ping_init(keeper);
  lm_engine_init(keeper);
}

int lm_keeper_run(struct lm_identity identity, int listener, struct rlimit nofile) {
  /* What a burst of large frames took goes back to the system when it is freed. */
  (void)mallopt(M_MMAP_THRESHOLD, 65536);
  (void)mallopt(M_TRIM_THRESHOLD, 65536);
  /* So does what one of small ones took: freed into the C library's "fast" lists, it would never be put together again
   * and hold the heap's end where it is. */
  (void)mallopt(M_MXFAST, 0);
  struct lm_error err;
  struct lm_keeper *keeper = lm_alloc(sizeof *keeper);
  keeper->identity = identity;
  keeper->orphaned.fire = orphaned;
  keeper->exit_timer.fire = exit_time;
  keeper->env = child_env();
  struct stat info;
  keeper->nofile = nofile;
  if (stat(identity.socket, &info) < 0 || lm_loop_init(&keeper->loop, &err) < 0) {
    lm_log("error", "keeper: %s", strerror(errno));
    (void)unlink(identity.socket);
    return 1;
  }
  keeper->socket_dev = info.st_dev;
  keeper->socket_ino = info.st_ino;
  lm_log_keep_spare();
  init_parts(keeper);
  /* Before anything can be spawned: orphans of what we run come to us. */
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || watch_signals(keeper) < 0 || lm_listener_open(keeper, listener) < 0) {
    lm_log("error", "keeper: %s", strerror(errno));
    unlink_socket(keeper);
    return 1;
  }
  lm_register(keeper);
  lm_engine_seek(keeper);
  while (!keeper->done) {
    lm_loop_round(&keeper->loop, keeper->relays.runnable > 0);
    lm_relays_run(keeper);
    if (keeper->exiting && lm_conns_flushed(keeper)) keeper->done = true;
  }
  end(keeper);
  return 0;
}
