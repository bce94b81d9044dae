/* Replacing an engine that hangs: it is killed, and when it is gone, or cannot go, another is sought. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>

#include "keeper.h"
#include "log.h"

/* How long a killed engine has to be gone. */
#define DEATH_MS 2000

static bool is_hung_up(int fd) {
  struct pollfd poll_fd = {.fd = fd};
  return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLERR)) != 0;
}

/* The engine's process, when WELCOME has not told it: its starter wrote it into the lock file. As long as it is the one
 * behind our link: another keeper may have replaced it a moment ago. With the lock held nobody does. */
static int pidfd_from_lock(const struct lm_keeper *keeper) {
  const struct lm_engine *engine = &keeper->engine;
  if (engine->lock == NULL || keeper->link.dedicated) return -1;
  LM_CLEANUP_CLOSE int folder = lm_rendezvous_open(engine->state_dir);
  LM_CLEANUP_CLOSE int lock = folder < 0 ? -1 : lm_rendezvous_lock(folder, engine->lock);
  if (lock < 0 || is_hung_up(keeper->link.watch.fd)) return -1;
  LM_CLEANUP_FREE char *script = lm_format("%s/engine.cjs", engine->library);
  return lm_rendezvous_process(folder, lock, engine->record, engine->linked, script);
}

static void leave(struct lm_keeper *keeper) {
  lm_link_close(keeper);
  lm_engine_lost(keeper);
}

/* SIGKILL is pending: a frozen process, or one that waits without end in the kernel, runs no instruction of its own any
 * more, whenever it goes on. But it does not close its socket, so another engine gets one in its place. */
static void dying_fired(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, engine.dying);
  struct lm_engine *engine = &keeper->engine;
  if (!lm_link_up(keeper)) return;
  lm_log("error", "engine %d was killed and does not die, frozen or waiting in the kernel: leaving it behind",
         (int)engine->pid);
  if (!keeper->link.dedicated) engine->undying = engine->linked;
  leave(keeper);
}

void lm_engine_hangs(struct lm_keeper *keeper) {
  struct lm_engine *engine = &keeper->engine;
  if (engine->pidfd < 0) engine->pidfd = pidfd_from_lock(keeper);
  lm_log("error", "engine %d does not answer: replacing it", (int)engine->pid);
  if (engine->pidfd < 0 || pidfd_send_signal(engine->pidfd, SIGKILL, NULL, 0) < 0) {
    leave(keeper);
    return;
  }
  /* Its end closes the link. */
  lm_ping_end(keeper);
  lm_timer_arm(&keeper->loop, &engine->dying, DEATH_MS);
}

bool lm_engine_is_replaced(const struct lm_keeper *keeper) {
  const struct lm_engine *engine = &keeper->engine;
  if (keeper->link.dedicated || engine->socket == NULL) return false;
  LM_CLEANUP_CLOSE int folder = lm_rendezvous_open(engine->state_dir);
  if (folder < 0) return false;
  struct lm_file_id named = lm_rendezvous_named(folder, engine->socket);
  return named.ino != 0 && !lm_same_file(named, engine->linked);
}

void lm_replace_init(struct lm_keeper *keeper) {
  keeper->engine.dying.fire = dying_fired;
}
