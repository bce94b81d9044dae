/* Who our children are called, and the report of each one's end, kept until the engine acknowledges it. */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "keeper.h"

#define STRANGERS_MAX 16384

void lm_children_init(struct lm_keeper *keeper) {
  TAILQ_INIT(&keeper->children.named);
  TAILQ_INIT(&keeper->children.reports);
}

static struct lm_child *find(struct lm_keeper *keeper, pid_t pid) {
  struct lm_child *c;
  TAILQ_FOREACH (c, &keeper->children.named, entry) {
    if (c->pid == pid) return c;
  }
  return NULL;
}

static void forget(struct lm_keeper *keeper, struct lm_child *c) {
  TAILQ_REMOVE(&keeper->children.named, c, entry);
  free(c);
}

void lm_children_name(struct lm_keeper *keeper, pid_t pid, struct lm_field name, bool engine) {
  struct lm_child *old = find(keeper, pid);
  if (old != NULL) forget(keeper, old);
  struct lm_child *c = lm_alloc(sizeof *c + name.len);
  c->pid = pid;
  c->engine = engine;
  c->name_len = name.len;
  if (name.len > 0) memcpy(c->name, name.data, name.len);
  TAILQ_INSERT_TAIL(&keeper->children.named, c, entry);
}

int lm_children_check(struct lm_keeper *keeper, pid_t pid, struct lm_field name) {
  siginfo_t info;
  if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) return -errno;
  /* A runtime that wrote down another's pid must not get that one's exit, nor the power to kill it. */
  const struct lm_child *c = find(keeper, pid);
  return c == NULL || (c->name_len == name.len && memcmp(c->name, name.data, name.len) == 0) ? 0 : -ESRCH;
}

static void drop_report(struct lm_children *children, struct lm_report *r) {
  if (r->stranger) children->strangers--;
  TAILQ_REMOVE(&children->reports, r, entry);
  lm_blob_unref(r->body);
  free(r);
}

static void post(struct lm_keeper *keeper, const struct lm_report *r, bool unread) {
  lm_link_post(keeper, LM_MSG_EXITED, unread ? LM_F_UNREAD : 0, r->seq, (uint64_t)r->pid, lm_blob_ref(r->body));
}

static void report(struct lm_keeper *keeper, pid_t pid, int32_t status, struct lm_field name, bool unread) {
  bool stranger = name.len == 0;
  struct lm_children *children = &keeper->children;
  lm_answers_clear(keeper);
  if (stranger && children->strangers >= STRANGERS_MAX) {
    struct lm_report *r = TAILQ_FIRST(&children->reports);
    while (!r->stranger) r = TAILQ_NEXT(r, entry);
    drop_report(children, r);
  }
  struct timespec now;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  int64_t time = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
  struct lm_blob *body = lm_blob_make((struct lm_field[]){name, {&status, sizeof status}, {&time, sizeof time}}, 3, -1);
  if (body == NULL) abort();
  struct lm_report *r = lm_alloc(sizeof *r);
  if (++children->next_seq == 0) children->next_seq = 1;
  *r = (struct lm_report){.seq = children->next_seq, .pid = pid, .stranger = stranger, .body = body};
  if (stranger) children->strangers++;
  TAILQ_INSERT_TAIL(&children->reports, r, entry);
  post(keeper, r, unread);
}

void lm_children_reap(struct lm_keeper *keeper) {
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG | __WALL);
    if (pid < 0 && errno == EINTR) continue;
    if (pid <= 0) return;
    /* What it wrote before it died is passed on before its exit is told, as far as readers leave room. Whose output is
     * not read yet is for the engine to ask, if there is any. */
    bool unread = lm_relays_push(keeper) || lm_unread_any(keeper);
    struct lm_child *c = find(keeper, pid);
    if (c == NULL) {
      report(keeper, pid, status, (struct lm_field){"", 0}, unread);
    } else {
      if (!c->engine) report(keeper, pid, status, (struct lm_field){c->name, c->name_len}, unread);
      forget(keeper, c);
    }
  }
}

void lm_children_ack(struct lm_keeper *keeper, uint32_t seq) {
  struct lm_report *r;
  TAILQ_FOREACH (r, &keeper->children.reports, entry) {
    if (r->seq != seq) continue;
    drop_report(&keeper->children, r);
    return;
  }
}

void lm_children_replay(struct lm_keeper *keeper) {
  /* The dead first: a child that lives may have the pid of one of them. */
  const struct lm_report *r;
  TAILQ_FOREACH (r, &keeper->children.reports, entry) post(keeper, r, true);
  const struct lm_child *c;
  TAILQ_FOREACH (c, &keeper->children.named, entry) {
    if (c->engine) continue;
    struct lm_field name = {c->name, c->name_len};
    lm_link_post(keeper, LM_MSG_CHILD, 0, 0, (uint64_t)c->pid, lm_blob_make(&name, 1, -1));
  }
}

void lm_children_free(struct lm_keeper *keeper) {
  while (!TAILQ_EMPTY(&keeper->children.named)) forget(keeper, TAILQ_FIRST(&keeper->children.named));
  while (!TAILQ_EMPTY(&keeper->children.reports)) {
    drop_report(&keeper->children, TAILQ_FIRST(&keeper->children.reports));
  }
}
