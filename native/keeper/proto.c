#include "proto.h"

#include <string.h>

static int varint(struct lm_proto *p, uint64_t *out) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    if (p->at == p->end) return -1;
    uint8_t byte = *p->at++;
    /* The tenth byte has room for one bit. */
    if (shift == 63 && byte > 1) return -1;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) {
      *out = value;
      return 0;
    }
  }
  return -1;
}

static int fixed(struct lm_proto *p, size_t size) {
  if ((size_t)(p->end - p->at) < size) return -1;
  p->value = 0;
  memcpy(&p->value, p->at, size);
  p->at += size;
  return 1;
}

int lm_proto_next(struct lm_proto *p) {
  if (p->at == p->end) return 0;
  uint64_t tag;
  if (varint(p, &tag) < 0 || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return -1;
  p->number = (uint32_t)(tag >> 3);
  p->wire = tag & 7;
  switch (p->wire) {
  case LM_WIRE_VARINT:
    return varint(p, &p->value) < 0 ? -1 : 1;
  case LM_WIRE_FIXED64:
    return fixed(p, 8);
  case LM_WIRE_FIXED32:
    return fixed(p, 4);
  case LM_WIRE_BYTES: {
    uint64_t len;
    if (varint(p, &len) < 0 || len > (uint64_t)(p->end - p->at)) return -1;
    p->bytes = p->at;
    p->len = (size_t)len;
    p->at += len;
    return 1;
  }
  default: /* groups: nobody sends them */
    return -1;
  }
}

char *lm_proto_text(const struct lm_proto *p) {
  if (p->len > 0 && memchr(p->bytes, '\0', p->len) != NULL) return NULL;
  return lm_format("%.*s", (int)p->len, p->len == 0 ? "" : (const char *)p->bytes);
}

static void put_raw(struct lm_buf *out, uint64_t value) {
  uint8_t bytes[10];
  size_t n = 0;
  do {
    bytes[n++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>= 7;
  } while (value != 0);
  lm_buf_append(out, bytes, n);
}

void lm_proto_put_varint(struct lm_buf *out, uint32_t number, uint64_t value) {
  if (value == 0) return; /* proto3: the default is not sent */
  put_raw(out, (uint64_t)number << 3 | LM_WIRE_VARINT);
  put_raw(out, value);
}

void lm_proto_put_bytes(struct lm_buf *out, uint32_t number, const void *data, size_t len) {
  put_raw(out, (uint64_t)number << 3 | LM_WIRE_BYTES);
  put_raw(out, len);
  lm_buf_append(out, data, len);
}

void lm_proto_put_text(struct lm_buf *out, uint32_t number, const char *text) {
  if (*text != '\0') lm_proto_put_bytes(out, number, text, strlen(text));
}

bool lm_any_parse(const uint8_t *data, size_t len, struct lm_any *any) {
  *any = (struct lm_any){0};
  struct lm_proto p = {.at = data, .end = data + len};
  int more;
  while ((more = lm_proto_next(&p)) > 0) {
    if (p.wire != LM_WIRE_BYTES || p.number > 2) break;
    if (p.number == 1) {
      free(any->type_url);
      any->type_url = lm_proto_text(&p);
    } else {
      any->value = p.bytes;
      any->len = p.len;
    }
  }
  if (more == 0 && any->type_url != NULL && *any->type_url != '\0') return true;
  free(any->type_url);
  any->type_url = NULL;
  return false;
}

bool lm_any_is(const struct lm_any *any, const char *name) {
  const char *slash = strrchr(any->type_url, '/');
  return strcmp(slash == NULL ? any->type_url : slash + 1, name) == 0;
}
