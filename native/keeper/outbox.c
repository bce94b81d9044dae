#include "outbox.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#define BYTES_MAX ((size_t)64 << 20) /* an engine that goes on replying to a peer that never reads: hang up */

struct lm_chunk {
  STAILQ_ENTRY(lm_chunk) entry;
  size_t len;
  size_t sent;
  uint8_t bytes[];
};

void lm_outbox_init(struct lm_outbox *outbox) {
  STAILQ_INIT(&outbox->chunks);
  outbox->bytes = 0;
}

static void drop_first(struct lm_outbox *outbox) {
  struct lm_chunk *chunk = STAILQ_FIRST(&outbox->chunks);
  STAILQ_REMOVE_HEAD(&outbox->chunks, entry);
  free(chunk);
}

void lm_outbox_free(struct lm_outbox *outbox) {
  while (!lm_outbox_is_empty(outbox)) drop_first(outbox);
  outbox->bytes = 0;
}

/* As send(2), but 0 where it is to be tried again later. */
static ssize_t send_some(int fd, const void *data, size_t len) {
  ssize_t n;
  do {
    n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  return n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) ? 0 : n;
}

bool lm_outbox_write(struct lm_outbox *outbox, int fd, const void *data, size_t len) {
  ssize_t sent = lm_outbox_is_empty(outbox) ? send_some(fd, data, len) : 0;
  if (sent < 0) return false;
  size_t left = len - (size_t)sent;
  if (left == 0) return true;
  struct lm_chunk *chunk = outbox->bytes > BYTES_MAX ? NULL : malloc(sizeof *chunk + left);
  if (chunk == NULL) return false;
  chunk->len = left;
  chunk->sent = 0;
  memcpy(chunk->bytes, (const uint8_t *)data + sent, left);
  STAILQ_INSERT_TAIL(&outbox->chunks, chunk, entry);
  outbox->bytes += left;
  return true;
}

bool lm_outbox_flush(struct lm_outbox *outbox, int fd) {
  while (!lm_outbox_is_empty(outbox)) {
    struct lm_chunk *chunk = STAILQ_FIRST(&outbox->chunks);
    ssize_t n = send_some(fd, chunk->bytes + chunk->sent, chunk->len - chunk->sent);
    if (n <= 0) return n == 0;
    chunk->sent += (size_t)n;
    outbox->bytes -= (size_t)n;
    if (chunk->sent == chunk->len) drop_first(outbox);
  }
  return true;
}
