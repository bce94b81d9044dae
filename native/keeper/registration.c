#include "registration.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "log.h"
#include "paths.h"
#include "sha256.h"
#include "version.h"

/* A keeper's socket has one name for as long as its container lives; sockets of different folders may share the last
 * part of it. */
static char *file_of(const char *state_dir, const char *prefix, const char *socket) {
  char hex[65];
  lm_sha256_hex(socket, strlen(socket), hex);
  return lm_format("%s/%skeeper-%.16s", state_dir, prefix, hex);
}

static void put(struct lm_buf *out, const char *key, const char *value) {
  LM_CLEANUP_FREE char *text = lm_format("%s=%s", key, value == NULL ? "" : value);
  lm_buf_append(out, text, strlen(text) + 1);
}

void lm_register(struct lm_keeper *keeper) {
  const struct lm_identity *who = &keeper->identity;
  const struct lm_engine *engine = &keeper->engine;
  if (who->socket == NULL || engine->state_dir == NULL) return;
  LM_CLEANUP_FREE char *path = file_of(engine->state_dir, "", who->socket);
  /* One that was there before is a dead keeper's, of the same socket. */
  if (keeper->registered && access(path, F_OK) == 0) return;
  struct lm_error err;
  if (lm_make_dirs(engine->state_dir, 0700, NULL, &err) < 0 || lm_check_state_dir(engine->state_dir, &err) < 0) {
    lm_log("warning", "%s: `lamina` does not know of this keeper", err.text);
    return;
  }
  LM_CLEANUP_FREE char *temp = file_of(engine->state_dir, ".", who->socket);
  LM_CLEANUP_FREE char *pid = lm_format("%d", (int)getpid());
  LM_CLEANUP_BUF struct lm_buf text = {0};
  put(&text, "pid", pid);
  put(&text, "namespace", who->namespace);
  put(&text, "id", who->id);
  put(&text, "socket", who->socket);
  put(&text, "library", engine->library);
  put(&text, "engine", engine->socket);
  put(&text, "version", lm_version);
  put(&text, "build", lm_build);
  int result = lm_write_file_atomic(AT_FDCWD, path, temp, text.data, text.len, 0600);
  keeper->registered = result == 0;
  if (result < 0) lm_log("warning", "%s: %s: `lamina` does not know of this keeper", path, strerror(-result));
}

void lm_unregister(const struct lm_keeper *keeper) {
  if (keeper->identity.socket == NULL || keeper->engine.state_dir == NULL) return;
  LM_CLEANUP_FREE char *path = file_of(keeper->engine.state_dir, "", keeper->identity.socket);
  (void)unlink(path);
}

void lm_unregister_socket(const char *socket) {
  LM_CLEANUP_FREE char *state_dir = lm_state_dir();
  if (state_dir == NULL) return;
  LM_CLEANUP_FREE char *path = file_of(state_dir, "", socket);
  (void)unlink(path);
}
