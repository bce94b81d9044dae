/* The little protobuf the binary itself speaks: reading fields one by one, writing them. Field numbers are
 * containerd's. */
#ifndef LM_PROTO_H
#define LM_PROTO_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/util.h"

enum { LM_WIRE_VARINT = 0, LM_WIRE_FIXED64 = 1, LM_WIRE_BYTES = 2, LM_WIRE_FIXED32 = 5 };

struct lm_proto {
  const uint8_t *at, *end;
  /* the field just read: */
  uint32_t number;
  unsigned wire;
  uint64_t value;       /* varint and fixed */
  const uint8_t *bytes; /* LM_WIRE_BYTES */
  size_t len;
};

/* Reads the next field: 1; at the end 0; -1 when the bytes are no protobuf. */
int lm_proto_next(struct lm_proto *p);
/* The bytes field just read as a string, to be freed; NULL when it holds a NUL. */
char *lm_proto_text(const struct lm_proto *p);

void lm_proto_put_varint(struct lm_buf *out, uint32_t number, uint64_t value);
void lm_proto_put_bytes(struct lm_buf *out, uint32_t number, const void *data, size_t len);
void lm_proto_put_text(struct lm_buf *out, uint32_t number, const char *text);

/* google.protobuf.Any. type_url is copied, value borrowed. */
struct lm_any {
  char *type_url;
  const uint8_t *value;
  size_t len;
};
/* true when data is one Any with a type_url, and nothing else. */
bool lm_any_parse(const uint8_t *data, size_t len, struct lm_any *any);
/* Whether the message named after the last '/' is `name`. */
bool lm_any_is(const struct lm_any *any, const char *name);

#endif
