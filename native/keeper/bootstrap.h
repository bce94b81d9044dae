/* What the daemon says on stdin of `start`, and the reply in the same dialect. */
#ifndef LM_BOOTSTRAP_H
#define LM_BOOTSTRAP_H

#include "../common/util.h"
#include "flags.h"

enum lm_dialect {
  LM_DIALECT_PLAIN, /* containerd up to 2.2: a bare address */
  LM_DIALECT_JSON,  /* as above, asked for with LAMINA_BOOTSTRAP=json: JSON, version 3 */
  LM_DIALECT_PROTO, /* containerd 2.3: BootstrapParams in, BootstrapResult out */
};

/* Texts are owned; absent ones are NULL. */
struct lm_bootstrap {
  enum lm_dialect dialect;
  char *daemon_version;
  char *ttrpc_address;
  char *grpc_address;
  char *binary;
  char *socket_dir;
  bool debug;
};

int lm_bootstrap_parse(const uint8_t *data, size_t len, const struct lm_flags *flags, struct lm_bootstrap *out,
                       struct lm_error *err);
void lm_bootstrap_free(struct lm_bootstrap *bootstrap);
/* Appends the reply for an address ("unix://..."). */
void lm_bootstrap_reply(enum lm_dialect dialect, const char *address, struct lm_buf *out);

#endif
