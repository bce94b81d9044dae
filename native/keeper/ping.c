/* Whether the linked engine still does something. Pings are counted, not time: after the machine has stood still, the
 * engine gets its chances again. */
#include <sys/eventfd.h>

#include "keeper.h"

#define PING_MS 10000
#define PINGS_MAX 3
/* How often a keeper that no engine has welcomed looks whether it waits at the right door: tenth parts of a ping. */
#define LOOKS 10

/* At the same moments in every keeper, multiples of `every` on the clock they share: the engine wakes up once for all.
 */
static void arm(struct lm_keeper *keeper) {
  struct lm_ping *ping = &keeper->ping;
  lm_timer_arm(&keeper->loop, &ping->timer, ping->every - lm_now_ms() % ping->every);
}

static void forget_pong(struct lm_ping *ping) {
  lm_blob_unref(ping->pong);
  ping->pong = NULL;
}

/* Whether an answer has come since the last look. */
static bool take_pong(const struct lm_ping *ping) {
  uint64_t count;
  return ping->pong != NULL && ping->pong->fd >= 0 &&
         read(ping->pong->fd, &count, sizeof count) == (ssize_t)sizeof count;
}

static void fired(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, ping.timer);
  struct lm_ping *ping = &keeper->ping;
  if (!lm_link_up(keeper)) return;
  lm_keeper_trim(keeper);
  /* Heard of just now: its next turn is soon enough. */
  if (lm_now_ms() - ping->heard_at < ping->every / 2) {
    arm(keeper);
    return;
  }
  if (take_pong(ping)) ping->unanswered = 0;
  if (ping->unanswered >= PINGS_MAX || (ping->unanswered > 0 && lm_engine_is_replaced(keeper))) {
    lm_engine_hangs(keeper);
    return;
  }
  ping->unanswered++;
  arm(keeper);
  lm_link_post(keeper, LM_MSG_PING, 0, ++ping->serial, 0, lm_blob_ref(ping->pong));
}

/* An engine that does not die keeps its socket open, and whoever came before it was replaced waits there. */
static void looked(struct lm_timer *timer) {
  struct lm_keeper *keeper = LM_CONTAINER_OF(timer, struct lm_keeper, ping.look);
  if (!lm_link_up(keeper) || keeper->link.welcomed) return;
  if (lm_engine_is_replaced(keeper)) {
    lm_engine_hangs(keeper);
  } else {
    lm_timer_arm(&keeper->loop, timer, keeper->ping.every / LOOKS + 1);
  }
}

void lm_ping_init(struct lm_keeper *keeper) {
  struct lm_ping *ping = &keeper->ping;
  ping->timer.fire = fired;
  ping->look.fire = looked;
  const char *every = getenv("LAMINA_PING_MS");
  ping->every = every == NULL ? PING_MS : strtol(every, NULL, 10);
  if (ping->every <= 0) ping->every = PING_MS;
}

void lm_ping_heard(struct lm_keeper *keeper) {
  keeper->ping.heard_at = lm_now_ms();
  keeper->ping.unanswered = 0;
}

void lm_ping_begin(struct lm_keeper *keeper) {
  struct lm_ping *ping = &keeper->ping;
  lm_ping_heard(keeper);
  /* One for each link: what an engine before this one still says does not count. Without, the answer is a message. */
  forget_pong(ping);
  ping->pong = lm_blob_make(NULL, 0, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  arm(keeper);
  lm_timer_arm(&keeper->loop, &ping->look, ping->every / LOOKS + 1);
}

void lm_ping_end(struct lm_keeper *keeper) {
  lm_timer_stop(&keeper->ping.timer);
  lm_timer_stop(&keeper->ping.look);
  forget_pong(&keeper->ping);
}
