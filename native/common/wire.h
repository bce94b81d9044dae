/* Messages of native/README.md on a SOCK_SEQPACKET socket: building, sending, receiving. */
#ifndef LM_WIRE_H
#define LM_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"
#include "room.h"

#define LM_FIELDS_MAX 64

struct lm_field {
  const void *data;
  uint32_t len;
};

/* The body of a message: encoded fields and at most one descriptor, counted by reference, because the same body is what
 * is stored, queued and replayed. The last reference frees it and closes the descriptor. */
struct lm_blob {
  uint32_t refs;
  uint32_t count; /* fields */
  uint32_t len;
  int fd; /* -1 for none */
  uint8_t bytes[];
};

/* Room for `len` encoded bytes, one reference. NULL without memory. */
struct lm_blob *lm_blob_new(uint32_t len);
/* Encodes fields; takes over fd (-1 for none), and closes it when NULL is returned for want of memory. */
struct lm_blob *lm_blob_make(const struct lm_field *fields, uint32_t count, int fd);
/* One field holding a text. */
struct lm_blob *lm_blob_text(const char *text);
struct lm_blob *lm_blob_ref(struct lm_blob *blob);
void lm_blob_unref(struct lm_blob *blob); /* NULL is fine */

/* A message with its bytes: what its fields say holds until lm_message_end(), whatever else is received meanwhile. */
struct lm_message {
  struct lm_header head;
  uint32_t count; /* of fields; 0 after the end */
  struct lm_field fields[LM_FIELDS_MAX];
  int fds[LM_FDS_MAX]; /* -1 once taken over */
  uint32_t fd_count;
  bool short_of_fds; /* of a batch: it had descriptors, and this process can have no more */
  uint8_t *bytes;    /* the fields' own copy; NULL in a part of another message */
};

/* Sends one message, the body through a memfd when it is large. `body` may be NULL. 0 or -errno. */
int lm_send(int sock, const struct lm_header *head, const struct lm_blob *body, int send_flags);

/* Receives one message; `room` is free again when this returns, and has LM_INLINE_MAX bytes or more. 1: a message; 0:
 * end of file; -EBADMSG: one that is ill-formed (head is filled as far as it came, nothing else to release); -EPROTO:
 * one in another version (head is filled, nothing else was looked at); -EMFILE: its descriptors could not all be taken,
 * for want of numbers (as with -EBADMSG); any other negative errno: recvmsg failed. */
int lm_receive(int sock, struct lm_room *room, struct lm_message *message);
void lm_message_end(struct lm_message *message);
/* Decodes a message that is part of another, and must end before that one: its fields point into `data`, and it has no
 * descriptors yet. 0 or -EBADMSG. */
int lm_message_decode(const void *data, size_t len, struct lm_message *message);
/* Moves `count` descriptors of a message, from the one at `index` on, to another. false, and nothing is moved, when it
 * has fewer or the other has no room for them. */
bool lm_message_move_fds(struct lm_message *from, uint32_t index, uint32_t count, struct lm_message *to);
/* Takes a descriptor out of the message: the caller owns it. -1 when there is none. */
int lm_message_take_fd(struct lm_message *message, uint32_t index);

#endif
