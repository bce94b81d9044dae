/* What the keeper says itself when no engine can be had: a ttrpc response with a status, and nothing else. */
#include <string.h>

#include "keeper.h"
#include "proto.h"

#define FRAME_HEADER 10
#define STREAM_ID_AT 4
#define TYPE_AT 8
#define TYPE_REQUEST 1
#define TYPE_RESPONSE 2
/* Fields of ttrpc's Response and of google.rpc.Status, and its code UNAVAILABLE. */
#define RESPONSE_STATUS 1
#define STATUS_CODE 1
#define STATUS_MESSAGE 2
#define UNAVAILABLE 14

bool lm_refusal(const struct lm_blob *request, const char *why, struct lm_buf *reply) {
  /* A frame as conns.c has it begins after the field's length. */
  const uint8_t *frame = request->bytes + 4;
  if (frame[TYPE_AT] != TYPE_REQUEST) return false;
  LM_CLEANUP_BUF struct lm_buf status = {0};
  LM_CLEANUP_BUF struct lm_buf response = {0};
  lm_proto_put_varint(&status, STATUS_CODE, UNAVAILABLE);
  lm_proto_put_text(&status, STATUS_MESSAGE, why);
  lm_proto_put_bytes(&response, RESPONSE_STATUS, status.data, status.len);
  uint8_t head[FRAME_HEADER] = {[TYPE_AT] = TYPE_RESPONSE};
  for (int i = 0; i < 4; i++) head[i] = (uint8_t)(response.len >> (24 - 8 * i));
  memcpy(head + STREAM_ID_AT, frame + STREAM_ID_AT, 4);
  lm_buf_append(reply, head, sizeof head);
  lm_buf_append(reply, response.data, response.len);
  return true;
}
