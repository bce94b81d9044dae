/* Named bytes and descriptors that outlive the engine. The body of the PUT is stored as it will be replayed. */
#include <errno.h>
#include <string.h>

#include "keeper.h"

/* Far above what any pod needs; keeps a mad engine from taking the machine's memory. */
#define DEPOSIT_MAX ((size_t)64 << 20)

static bool has_name(const struct lm_blob *body, struct lm_field name) {
  uint32_t len;
  memcpy(&len, body->bytes, sizeof len);
  return len == name.len && memcmp(body->bytes + 4, name.data, len) == 0;
}

static struct lm_entry *find(struct lm_keeper *keeper, struct lm_field name) {
  struct lm_entry *e;
  TAILQ_FOREACH (e, &keeper->deposit.entries, entry) {
    if (has_name(e->body, name)) return e;
  }
  return NULL;
}

static size_t cost(const struct lm_blob *body) {
  return sizeof(struct lm_entry) + sizeof *body + body->len;
}

void lm_deposit_init(struct lm_keeper *keeper) {
  TAILQ_INIT(&keeper->deposit.entries);
}

int lm_deposit_put(struct lm_keeper *keeper, struct lm_field name, struct lm_field bytes, int fd) {
  struct lm_deposit *deposit = &keeper->deposit;
  struct lm_blob *body = lm_blob_make((struct lm_field[]){name, bytes}, 2, fd);
  if (body == NULL) return -ENOMEM;
  struct lm_entry *e = find(keeper, name);
  size_t replaced = e == NULL ? 0 : cost(e->body);
  if (deposit->bytes - replaced + cost(body) > DEPOSIT_MAX) {
    lm_blob_unref(body);
    return -ENOSPC;
  }
  if (e == NULL) {
    e = lm_alloc(sizeof *e);
    TAILQ_INSERT_TAIL(&deposit->entries, e, entry);
  } else {
    lm_blob_unref(e->body);
  }
  e->body = body;
  deposit->bytes += cost(body) - replaced;
  return 0;
}

static void drop(struct lm_deposit *deposit, struct lm_entry *e) {
  TAILQ_REMOVE(&deposit->entries, e, entry);
  deposit->bytes -= cost(e->body);
  lm_blob_unref(e->body);
  free(e);
}

void lm_deposit_del(struct lm_keeper *keeper, struct lm_field name) {
  struct lm_entry *e = find(keeper, name);
  if (e != NULL) drop(&keeper->deposit, e);
}

struct lm_blob *lm_deposit_body(struct lm_keeper *keeper, struct lm_field name) {
  const struct lm_entry *e = find(keeper, name);
  return e == NULL ? NULL : lm_blob_ref(e->body);
}

void lm_deposit_replay(struct lm_keeper *keeper) {
  struct lm_entry *e;
  TAILQ_FOREACH (e, &keeper->deposit.entries, entry) {
    lm_link_post(keeper, LM_MSG_ENTRY, 0, 0, 0, lm_blob_ref(e->body));
  }
}

void lm_deposit_free(struct lm_keeper *keeper) {
  while (!TAILQ_EMPTY(&keeper->deposit.entries)) drop(&keeper->deposit, TAILQ_FIRST(&keeper->deposit.entries));
}
