/* libFuzzer target: everything in the keeper that reads bytes it did not write, one parser per input. The first byte
 * says which. Beyond "no finding of the sanitizers" each has a property of its own.
 *
 * socket.c, unmount.c and answers.c are included for their static functions. */
#include <stdio.h>
#include <sys/socket.h>

#include "../../answers.c"
#undef FRAME_HEADER
#include "../../bootstrap.h"
#include "../../json.h"
#include "../../socket.c"
#include "../../unmount.c"
#include "input.h"

#define CHECK(what)                                                                                                    \
  do {                                                                                                                 \
    if (!(what)) {                                                                                                     \
      (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                                         \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

#define FUZZ_FRAME_HEADER 10

/* The input up to a NUL or its end, as a string to be freed. */
static char *take_text(struct input *in) {
  LM_CLEANUP_BUF struct lm_buf text = {0};
  while (in->at < in->end && *in->at != '\0') lm_buf_append(&text, in->at++, 1);
  if (in->at < in->end) in->at++;
  lm_buf_append(&text, "", 1);
  return lm_strdup((const char *)text.data);
}

static void fuzz_json(struct input in) {
  struct lm_json_want wants[] = {
      {.path = {"annotations", "io.kubernetes.cri.sandbox-id"}, .kind = LM_JSON_STRING},
      {.path = {"linux", "cgroupsPath"}, .kind = LM_JSON_STRING},
      {.path = {"pid"}, .kind = LM_JSON_NUMBER},
      {.path = {"systemd_cgroup"}, .kind = LM_JSON_BOOL},
  };
  struct lm_error err;
  int result = lm_json_find(in.at, (size_t)(in.end - in.at), wants, 4, &err);
  for (int i = 0; i < 4; i++) {
    CHECK(result == 0 || wants[i].text == NULL);
    CHECK(wants[i].text == NULL || strlen(wants[i].text) < (size_t)(in.end - in.at) * 3 + 1);
  }
  lm_json_free(wants, 4);
}

static void fuzz_bootstrap(struct input in) {
  static const struct lm_flags flags = {.id = "one", .namespace = "test"};
  struct lm_bootstrap bootstrap;
  struct lm_error err;
  if (lm_bootstrap_parse(in.at, (size_t)(in.end - in.at), &flags, &bootstrap, &err) < 0) return;
  struct lm_buf reply = {0};
  lm_bootstrap_reply(bootstrap.dialect, "unix:///run/x", &reply);
  CHECK(reply.len > 0);
  lm_buf_free(&reply);
  lm_bootstrap_free(&bootstrap);
}

static void fuzz_any(struct input in) {
  struct lm_any any;
  if (!lm_any_parse(in.at, (size_t)(in.end - in.at), &any)) return;
  CHECK(*any.type_url != '\0');
  CHECK(any.len == 0 || (any.value >= in.at && any.value + any.len <= in.end));
  (void)lm_any_is(&any, "containerd.runc.v1.Options");
  free(any.type_url);
}

static void fuzz_flags(struct input in) {
  char *argv[33] = {(char *)(uintptr_t) "shim"};
  int argc = 1;
  while (argc < 32 && in.at < in.end) argv[argc++] = take_text(&in);
  struct lm_flags flags;
  struct lm_error err;
  if (lm_flags_parse(argc, argv, &flags, &err) == 0) {
    CHECK(flags.id != NULL && flags.namespace != NULL && flags.bundle != NULL && flags.verb != NULL);
  }
  for (int i = 1; i < argc; i++) free(argv[i]);
}

/* Cleaned once is clean: no empty, "." or avoidable ".." component. */
static void fuzz_path(struct input in) {
  LM_CLEANUP_FREE char *a = take_text(&in);
  LM_CLEANUP_FREE char *b = take_text(&in);
  LM_CLEANUP_FREE char *c = take_text(&in);
  LM_CLEANUP_FREE char *clean = join_clean(a, b, c);
  LM_CLEANUP_FREE char *again = join_clean(clean, "", "");
  CHECK(strcmp(clean, again) == 0);
  CHECK(strstr(clean, "//") == NULL && strstr(clean, "/./") == NULL);
  CHECK(clean[0] != '/' || (strstr(clean, "/../") == NULL && strcmp(clean, "/..") != 0));
  struct lm_error err;
  if (lm_check_no_ascent("group", c, &err) == 0 && a[0] == '/' && lm_check_name("namespace", b, &err) == 0 &&
      *b != '\0') {
    /* No group leads out of its namespace. */
    LM_CLEANUP_FREE char *parent = join_clean(a, b, "");
    CHECK(lm_after(clean, parent) != NULL);
  }
}

static void fuzz_mountinfo(struct input in) {
  LM_CLEANUP_FREE char *text = take_text(&in);
  const char *end = text + strlen(text);
  struct lm_mount mount;
  for (char *at = text; lm_mountinfo_next(&at, &mount);) {
    CHECK(mount.point >= text && mount.point + strlen(mount.point) <= end && at <= end);
    (void)is_below(mount.point, "/run/rootfs");
  }
}

static struct lm_blob *as_frame(const uint8_t *bytes, size_t len) {
  struct lm_blob *blob = lm_blob_new((uint32_t)(4 + FUZZ_FRAME_HEADER + len));
  memset(blob->bytes, 0, 4 + FUZZ_FRAME_HEADER);
  blob->bytes[4 + 8] = 1; /* a request */
  if (len > 0) memcpy(blob->bytes + 4 + FUZZ_FRAME_HEADER, bytes, len);
  return blob;
}

/* Two requests are alike in both directions, and a request that has a method equals itself. */
static void fuzz_compare(struct input in) {
  size_t len_a, len_b;
  uint32_t cut = take16(&in);
  const uint8_t *a = take_bytes(&in, cut, &len_a);
  const uint8_t *b = take_bytes(&in, SIZE_MAX, &len_b);
  struct lm_blob *left = as_frame(a, len_a), *right = as_frame(b, len_b);
  enum likeness likeness = compare(left, right);
  CHECK(likeness == compare(right, left));
  enum likeness self = compare(left, left);
  CHECK(likeness != EQUAL || (self == EQUAL && compare(right, right) == EQUAL));
  if (likeness == EQUAL) {
    /* Equal requests have the same fields in the same order, but for the timeout. */
    struct lm_proto p = payload(left), q = payload(right);
    for (;;) {
      int more = next(&p);
      CHECK(more == next(&q) && more >= 0);
      if (more == 0) break;
      CHECK(same_field(&p, &q) && p.number != FIELD_TIMEOUT);
    }
  }
  lm_blob_unref(left);
  lm_blob_unref(right);
}

static void fuzz_wire(struct input in) {
  static int ends[2] = {-1, -1};
  static struct lm_room room;
  if (room.bytes == NULL) lm_room_make(&room, LM_INLINE_MAX);
  if (ends[0] < 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) abort();
  struct lm_message m;
  size_t len = (size_t)(in.end - in.at);
  if (len == 0 || len > 30000) return;
  if (send(ends[0], in.at, len, 0) < 0) abort();
  int result = lm_receive(ends[1], &room, &m);
  CHECK(result == 1 || result == -EBADMSG || result == -EPROTO);
  if (result != 1) return;
  CHECK(m.count <= LM_FIELDS_MAX && m.head.magic == LM_MAGIC && m.head.version == LM_PROTOCOL);
  /* What was understood says the same when sent again. */
  struct lm_blob *body = lm_blob_make(m.fields, m.count, -1);
  if (lm_send(ends[0], &m.head, body, 0) < 0) abort();
  lm_blob_unref(body);
  struct lm_message again;
  result = lm_receive(ends[1], &room, &again);
  /* The first one is as it was: nothing is shared with what comes after it. */
  CHECK(result == 1 && memcmp(&m.head, &again.head, sizeof m.head) == 0);
  CHECK(memcmp(in.at + sizeof m.head, m.bytes, len - sizeof m.head) == 0);
  CHECK(memcmp(in.at + sizeof m.head, again.bytes, len - sizeof m.head) == 0);
  lm_message_end(&m);
  lm_message_end(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static void (*const targets[])(struct input) = {fuzz_json, fuzz_bootstrap, fuzz_any,     fuzz_flags,
                                                  fuzz_path, fuzz_mountinfo, fuzz_compare, fuzz_wire};
  struct input in = {data, data + size};
  uint8_t which = take8(&in);
  targets[which % (sizeof targets / sizeof targets[0])](in);
  return 0;
}
