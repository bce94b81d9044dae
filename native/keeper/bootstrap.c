#include "bootstrap.h"

#include <string.h>

#include "proto.h"

static void set_text(char **to, const struct lm_proto *p) {
  free(*to);
  *to = lm_proto_text(p);
}

/* containerd.runtime.bootstrap.v1.BootstrapParams. An old options Any has the same wire shape (two length-delimited
 * fields), so it counts only if it names the very id and namespace of the command line. */
static bool parse_params(const uint8_t *data, size_t len, const struct lm_flags *flags, struct lm_bootstrap *out) {
  struct lm_proto p = {.at = data, .end = data + len};
  LM_CLEANUP_FREE char *id = NULL;
  LM_CLEANUP_FREE char *namespace = NULL;
  int more;
  while ((more = lm_proto_next(&p)) > 0) {
    if (p.number == 3 && p.wire == LM_WIRE_VARINT) out->debug = (int64_t)p.value < 0; /* DEBUG -4, TRACE -8 */
    if (p.wire != LM_WIRE_BYTES) continue;
    switch (p.number) {
    case 1:
      set_text(&id, &p);
      break;
    case 2:
      set_text(&namespace, &p);
      break;
    case 4:
      set_text(&out->daemon_version, &p);
      break;
    case 5:
      set_text(&out->ttrpc_address, &p);
      break;
    case 6:
      set_text(&out->grpc_address, &p);
      break;
    case 7:
      set_text(&out->binary, &p);
      break;
    case 9:
      set_text(&out->socket_dir, &p);
      break;
    default:
      break;
    }
  }
  return more == 0 && id != NULL && namespace != NULL && strcmp(id, flags->id) == 0 &&
         strcmp(namespace, flags->namespace) == 0;
}

int lm_bootstrap_parse(const uint8_t *data, size_t len, const struct lm_flags *flags, struct lm_bootstrap *out,
                       struct lm_error *err) {
  *out = (struct lm_bootstrap){0};
  if (len > 0) {
    if (parse_params(data, len, flags, out)) {
      out->dialect = LM_DIALECT_PROTO;
      return 0;
    }
    lm_bootstrap_free(out);
    struct lm_any any;
    if (!lm_any_parse(data, len, &any)) return lm_fail(err, 0, "stdin holds neither bootstrap parameters nor options");
    free(any.type_url);
  }
  const char *wish = getenv("LAMINA_BOOTSTRAP");
  out->dialect = wish != NULL && strcmp(wish, "json") == 0 ? LM_DIALECT_JSON : LM_DIALECT_PLAIN;
  return 0;
}

void lm_bootstrap_free(struct lm_bootstrap *b) {
  free(b->daemon_version);
  free(b->ttrpc_address);
  free(b->grpc_address);
  free(b->binary);
  free(b->socket_dir);
  *b = (struct lm_bootstrap){0};
}

void lm_bootstrap_reply(enum lm_dialect dialect, const char *address, struct lm_buf *out) {
  if (dialect == LM_DIALECT_PROTO) {
    lm_proto_put_varint(out, 1, 3);
    lm_proto_put_text(out, 2, address);
    lm_proto_put_text(out, 3, "ttrpc");
  } else if (dialect == LM_DIALECT_JSON) {
    /* The socket directory is the daemon's own path; characters that JSON would escape are refused before. */
    LM_CLEANUP_FREE char *text = lm_format("{\"version\":3,\"address\":\"%s\",\"protocol\":\"ttrpc\"}", address);
    lm_buf_append(out, text, strlen(text));
  } else {
    lm_buf_append(out, address, strlen(address));
  }
}
