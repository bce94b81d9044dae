/* `-info`: what this shim and its OCI runtime can do, as containerd's RuntimeInfo. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "library.h"
#include "node.h"
#include "paths.h"
#include "proto.h"
#include "run.h"
#include "verbs.h"
#include "version.h"

#define STDIN_MAX ((size_t)10 << 20)
#define BUDGET_MS 8000
#define CONFIG_FILE "/etc/lamina/config.toml"
#define FEATURES_TYPE "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
#define RUNTIME_NAME "io.containerd.lamina.v2"
#define OPTIONS_BINARY_NAME 6

/* binary_name of containerd.runc.v1.Options, to be freed; NULL when it is not set. */
static char *binary_name(const struct lm_any *options) {
  struct lm_proto p = {.at = options->value, .end = options->value + options->len};
  char *name = NULL;
  while (lm_proto_next(&p) > 0) {
    if (p.number != OPTIONS_BINARY_NAME || p.wire != LM_WIRE_BYTES) continue;
    free(name);
    name = lm_proto_text(&p);
  }
  if (name != NULL && *name != '\0') return name;
  free(name);
  return NULL;
}

/* Where TOML comes in, the engine is asked: it has the one parser. */
static char *ask_engine(const struct lm_buf *input, struct lm_error *err) {
  LM_CLEANUP_FREE char *library = lm_library_find(err);
  if (library == NULL) return NULL;
  LM_CLEANUP_FREE char *node = lm_node_path(library);
  if (node == NULL) {
    (void)lm_fail(err, 0, "no node program to read the configuration with");
    return NULL;
  }
  LM_CLEANUP_CLOSE int file = memfd_create("lamina-options", MFD_CLOEXEC);
  if (file < 0 || lm_write_all(file, input->data, input->len) < 0 || lseek(file, 0, SEEK_SET) < 0) {
    (void)lm_fail(err, errno, "options");
    return NULL;
  }
  static char print_flag[] = "--print-runtime";
  LM_CLEANUP_FREE char **argv = lm_node_argv(node, library, print_flag);
  LM_CLEANUP_FREE char **env = lm_node_env(environ);
  struct lm_run run = {.argv = argv, .env = env, .confined = true, .input = file, .budget_ms = BUDGET_MS};
  if (lm_run(&run, err) < 0) return NULL;
  char *runtime = NULL;
  while (run.out.len > 0 && run.out.data[run.out.len - 1] == '\n') run.out.len--;
  if (!lm_run_ok(&run)) {
    LM_CLEANUP_FREE char *failure = lm_run_failure(&run);
    (void)lm_fail(err, 0, "configuration: %s", failure);
  } else if (run.out.len == 0) {
    (void)lm_fail(err, 0, "configuration: the engine names no runtime");
  } else {
    runtime = lm_format("%.*s", (int)run.out.len, (const char *)run.out.data);
  }
  lm_run_free(&run);
  return runtime;
}

static char *runtime_of(const struct lm_any *options, const struct lm_buf *input, struct lm_error *err) {
  if (options->type_url != NULL && lm_any_is(options, "containerd.runc.v1.Options")) {
    char *name = binary_name(options);
    if (name != NULL) return name;
  }
  const char *config = getenv("LAMINA_CONFIG");
  bool configured = (config != NULL && *config != '\0') || access(CONFIG_FILE, F_OK) == 0;
  if (configured || (options->type_url != NULL && lm_any_is(options, "runtimeoptions.v1.Options"))) {
    return ask_engine(input, err);
  }
  return lm_strdup("runc");
}

/* Appends field 4. A runtime that does not know the command is fine, one that does not exist is not. */
static int put_features(struct lm_buf *out, char *runtime, struct lm_error *err) {
  static char features[] = "features";
  char *argv[] = {runtime, features, NULL};
  struct lm_run run = {.argv = argv, .input = -1, .budget_ms = BUDGET_MS};
  if (lm_run(&run, err) < 0) return -1;
  if (lm_run_ok(&run) && run.out.len > 0 && run.out.data[0] == '{') {
    LM_CLEANUP_BUF struct lm_buf any = {0};
    lm_proto_put_text(&any, 1, FEATURES_TYPE);
    lm_proto_put_bytes(&any, 2, run.out.data, run.out.len);
    lm_proto_put_bytes(out, 4, any.data, any.len);
  }
  lm_run_free(&run);
  return 0;
}

static int print_info(const struct lm_any *options, const struct lm_buf *input, struct lm_error *err) {
  LM_CLEANUP_FREE char *runtime = runtime_of(options, input, err);
  if (runtime == NULL) return -1;
  LM_CLEANUP_BUF struct lm_buf version = {0};
  lm_proto_put_text(&version, 1, lm_version);
  lm_proto_put_text(&version, 2, lm_revision);
  LM_CLEANUP_BUF struct lm_buf out = {0};
  lm_proto_put_text(&out, 1, RUNTIME_NAME);
  lm_proto_put_bytes(&out, 2, version.data, version.len);
  if (input->len > 0) lm_proto_put_bytes(&out, 3, input->data, input->len);
  if (put_features(&out, runtime, err) < 0) return -1;
  int result = lm_write_all(STDOUT_FILENO, out.data, out.len);
  return result < 0 ? lm_fail(err, -result, "write the reply") : 0;
}

int lm_info(struct lm_error *err) {
  LM_CLEANUP_BUF struct lm_buf input = {0};
  int result = isatty(STDIN_FILENO) ? 0 : lm_read_all(STDIN_FILENO, STDIN_MAX, &input);
  if (result < 0) return lm_fail(err, -result, "stdin");
  struct lm_any options = {0};
  if (input.len > 0 && !lm_any_parse(input.data, input.len, &options)) return lm_fail(err, 0, "stdin holds no options");
  /* Not for the runtime: it would talk to systemd. */
  (void)unsetenv("NOTIFY_SOCKET");
  result = print_info(&options, &input, err);
  free(options.type_url);
  return result;
}
