/* Standing answers: what the engine said may be said again to an equal request, for as long as nothing has happened
 * since. A State call then costs neither a message nor a wake-up of the engine.
 *
 * An answer stands from SEND with LM_F_STANDING until any of these: a frame of another method goes to the engine (it
 * may change something), a child is reaped, another engine comes. `generation` counts them; an answer whose request was
 * handed over before the last of them is not kept. The engine does not mark answers while it is changing something
 * itself. */
#include <string.h>

#include "keeper.h"
#include "proto.h"

#define FRAME_HEADER 10
#define STREAM_ID_AT 4
#define TYPE_AT 8
#define TYPE_REQUEST 1
/* Fields of ttrpc's Request. */
#define FIELD_METHOD 2
#define FIELD_TIMEOUT 4

#define ANSWERS_MAX 64
#define SIZE_MAX_EACH 4096

struct lm_answer {
  TAILQ_ENTRY(lm_answer) entry;
  struct lm_blob *request; /* as in struct lm_frame */
  struct lm_blob *reply;   /* its bytes are a whole frame, without a field's length */
};

/* A frame as conns.c has it begins after the field's length. */
static const uint8_t *frame_of(const struct lm_blob *body) {
  return body->bytes + 4;
}

static bool is_request(const struct lm_blob *body) {
  return body->len > 4 + FRAME_HEADER && body->len <= SIZE_MAX_EACH && frame_of(body)[TYPE_AT] == TYPE_REQUEST;
}

static struct lm_proto payload(const struct lm_blob *body) {
  return (struct lm_proto){.at = frame_of(body) + FRAME_HEADER, .end = body->bytes + body->len};
}

/* The next field that counts: a deadline does not change what the answer is. */
static int next(struct lm_proto *p) {
  int result;
  do {
    result = lm_proto_next(p);
  } while (result > 0 && p->number == FIELD_TIMEOUT);
  return result;
}

static bool same_field(const struct lm_proto *a, const struct lm_proto *b) {
  if (a->number != b->number || a->wire != b->wire) return false;
  if (a->wire != LM_WIRE_BYTES) return a->value == b->value;
  return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* How much of two requests is equal: nothing, service and method, everything. */
enum likeness { DIFFERENT, SAME_METHOD, EQUAL };

static enum likeness compare(const struct lm_blob *a, const struct lm_blob *b) {
  if (frame_of(a)[TYPE_AT + 1] != frame_of(b)[TYPE_AT + 1]) return DIFFERENT; /* flags */
  struct lm_proto left = payload(a), right = payload(b);
  enum likeness likeness = DIFFERENT;
  for (;;) {
    int more = next(&left);
    if (next(&right) != more || more < 0) return likeness;
    if (more == 0) return likeness == SAME_METHOD ? EQUAL : DIFFERENT;
    if (!same_field(&left, &right)) return likeness;
    if (left.number == FIELD_METHOD) likeness = SAME_METHOD;
  }
}

static void drop(struct lm_answers *answers, struct lm_answer *a) {
  TAILQ_REMOVE(&answers->all, a, entry);
  answers->count--;
  lm_blob_unref(a->request);
  lm_blob_unref(a->reply);
  free(a);
}

void lm_answers_init(struct lm_keeper *keeper) {
  TAILQ_INIT(&keeper->answers.all);
}

void lm_answers_clear(struct lm_keeper *keeper) {
  struct lm_answers *answers = &keeper->answers;
  answers->generation++;
  while (!TAILQ_EMPTY(&answers->all)) drop(answers, TAILQ_FIRST(&answers->all));
}

struct lm_blob *lm_answers_find(struct lm_keeper *keeper, const struct lm_blob *request) {
  if (!is_request(request)) return NULL;
  struct lm_answer *a;
  TAILQ_FOREACH (a, &keeper->answers.all, entry) {
    if (compare(a->request, request) != EQUAL) continue;
    memcpy(a->reply->bytes + STREAM_ID_AT, frame_of(request) + STREAM_ID_AT, 4);
    return lm_blob_ref(a->reply);
  }
  return NULL;
}

uint32_t lm_answers_passing(struct lm_keeper *keeper, const struct lm_blob *frame) {
  const struct lm_answer *a = TAILQ_FIRST(&keeper->answers.all);
  if (a == NULL || !is_request(frame) || compare(a->request, frame) == DIFFERENT) lm_answers_clear(keeper);
  return keeper->answers.generation;
}

void lm_answers_keep(struct lm_keeper *keeper, const struct lm_frame *frame, struct lm_field reply) {
  struct lm_answers *answers = &keeper->answers;
  if (frame->generation != answers->generation || !is_request(frame->body)) return;
  if (reply.len < FRAME_HEADER || reply.len > SIZE_MAX_EACH) return;
  if (answers->count == ANSWERS_MAX) drop(answers, TAILQ_FIRST(&answers->all));
  struct lm_blob *copy = lm_blob_new(reply.len);
  if (copy == NULL) return;
  memcpy(copy->bytes, reply.data, reply.len);
  struct lm_answer *a = lm_alloc(sizeof *a);
  a->request = lm_blob_ref(frame->body);
  a->reply = copy;
  TAILQ_INSERT_TAIL(&answers->all, a, entry);
  answers->count++;
}
