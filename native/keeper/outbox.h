/* Bytes on their way into a stream socket that does not take them all at once, in order. */
#ifndef LM_OUTBOX_H
#define LM_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

struct lm_outbox {
  STAILQ_HEAD(, lm_chunk) chunks;
  size_t bytes; /* in all of them, not yet written */
};

void lm_outbox_init(struct lm_outbox *outbox);
void lm_outbox_free(struct lm_outbox *outbox);
static inline bool lm_outbox_is_empty(const struct lm_outbox *outbox) {
  return STAILQ_EMPTY(&outbox->chunks);
}
/* Writes, and queues what the socket does not take. false: the stream is over, as nothing can be left out of it. */
bool lm_outbox_write(struct lm_outbox *outbox, int fd, const void *data, size_t len);
/* Writes what is queued, as far as the socket takes it. false: the stream is over. */
bool lm_outbox_flush(struct lm_outbox *outbox, int fd);

#endif
