/* The daemon's way in: the listening socket. It is watched, or a timer runs after which it is watched again, or it is
 * closed. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "keeper.h"
#include "log.h"

#define ACCEPT_PAUSE_MS 500

static void accept_one(struct lm_keeper *keeper, int fd) {
  struct ucred peer;
  socklen_t len = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid != geteuid() && peer.uid != 0)) {
    lm_log("warning", "refused a connection from uid %u: only root and uid %u may", (unsigned)peer.uid,
           (unsigned)geteuid());
    (void)close(fd);
    return;
  }
  lm_conn_accepted(keeper, fd);
}

static void ready(struct lm_watch *watch, uint32_t events) {
  (void)events;
  struct lm_keeper *keeper = LM_CONTAINER_OF(watch, struct lm_keeper, listener.watch);
  for (int turn = 0; turn < 16; turn++) {
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      accept_one(keeper, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      /* The connection stays in the backlog and would wake us at once, again and again. */
      lm_log("warning", "cannot accept: %s", strerror(errno));
      lm_loop_remove(&keeper->loop, watch);
      lm_timer_arm(&keeper->loop, &keeper->listener.again, ACCEPT_PAUSE_MS);
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

static void again(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, listener.again);
  if (keeper->listener.watch.fd >= 0) (void)lm_loop_add(&keeper->loop, &keeper->listener.watch, EPOLLIN);
}

int lm_listener_open(struct lm_keeper *keeper, int fd) {
  struct lm_listener *listener = &keeper->listener;
  listener->again.fire = again;
  listener->watch = (struct lm_watch){.fd = fd, .ready = ready};
  int result = lm_set_nonblock(fd);
  return result < 0 ? result : lm_loop_add(&keeper->loop, &listener->watch, EPOLLIN);
}

void lm_listener_close(struct lm_keeper *keeper) {
  struct lm_listener *listener = &keeper->listener;
  lm_timer_stop(&listener->again);
  lm_loop_remove(&keeper->loop, &listener->watch);
  lm_close(&listener->watch.fd);
}
