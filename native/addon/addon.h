/* What the addon's files share: instance data, arguments, errors. Nothing in it waits: what may is the
 * worker's (native/worker).
 *
 * Conventions. Functions that can throw return NULL or false with a JavaScript exception pending. Nothing here is
 * static data: the addon may be loaded by several environments (worker threads) of one process. */
#ifndef LM_ADDON_H
#define LM_ADDON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Linux: SCM_MAX_FD, the most descriptors one message can carry. */
#define ADDON_FDS_MAX 253

/* One per environment. JavaScript thread only. */
struct instance {
  uint8_t *scratch; /* receive buffer, grown to the largest size asked for */
  size_t scratch_size;
};

struct function {
  const char *name;
  napi_callback callback;
};

/* Returns from the calling function (with `ret`) when a Node-API call fails, leaving an exception pending. */
#define TRY_RET(env, call, ret)                                                                                        \
  do {                                                                                                                 \
    if ((call) != napi_ok) {                                                                                           \
      throw_status(env);                                                                                               \
      return ret;                                                                                                      \
    }                                                                                                                  \
  } while (0)
#define TRY(env, call) TRY_RET(env, call, NULL)

/* Retries a system call that a signal interrupted. */
#define RETRY(result, call)                                                                                            \
  do {                                                                                                                 \
    (result) = (call);                                                                                                 \
  } while ((result) == -1 && errno == EINTR)

/* error.c */
void throw_status(napi_env env);
/* An Error as Node's own: code, negative errno, syscall, path (may be NULL). */
napi_value make_errno(napi_env env, int err, const char *syscall, const char *path);
/* Throws it; always NULL. */
napi_value throw_errno(napi_env env, int err, const char *syscall, const char *path);
/* ERR_INVALID_ARG_TYPE; always false. */
bool throw_arg(napi_env env, const char *name, const char *expected);
/* ERR_INVALID_ARG_VALUE; always false. */
bool throw_value(napi_env env, const char *name, const char *why);

/* args.c: false with a pending exception when the argument is not what it should be. */
bool get_args(napi_env env, napi_callback_info info, napi_value *values, size_t count, napi_value *self);
bool arg_int(napi_env env, napi_value value, const char *name, int *out);
bool arg_u32(napi_env env, napi_value value, const char *name, uint32_t *out);
bool arg_bool(napi_env env, napi_value value, const char *name, bool *out);
/* A string, or the bytes of one that is not UTF-8. The caller frees *out. NUL bytes are refused. */
bool arg_string(napi_env env, napi_value value, const char *name, char **out);
/* As arg_string, for socket addresses: a NUL byte may come first. */
bool arg_address(napi_env env, napi_value value, const char *name, char **out, size_t *length);
/* Points into the array's own memory. */
bool arg_bytes(napi_env env, napi_value value, const char *name, const uint8_t **out, size_t *length);
bool arg_ints(napi_env env, napi_value value, const char *name, int *out, size_t max, size_t *count);

/* value.c: results; NULL with a pending exception. */
napi_value value_int(napi_env env, int64_t number);
napi_value value_bool(napi_env env, bool flag);
napi_value value_null(napi_env env);
napi_value value_undefined(napi_env env);
napi_value value_string(napi_env env, const char *text, size_t length);
/* A string with a character for each byte, whatever their encoding. */
napi_value value_bytes(napi_env env, const char *bytes, size_t length);
bool set_field(napi_env env, napi_value object, const char *name, napi_value value);
bool add_functions(napi_env env, napi_value exports, const struct function *table, size_t count);
/* Closes fd unless it is negative; errno is kept. */
void close_fd(int fd);
void cleanup_free(void *pointer);
#define AUTO_FREE __attribute__((cleanup(cleanup_free)))

/* One per source file; false with a pending exception. */
bool register_poller(napi_env env, napi_value exports);
bool register_socket(napi_env env, napi_value exports);
bool register_fd(napi_env env, napi_value exports);
bool register_process(napi_env env, napi_value exports);
bool register_tty(napi_env env, napi_value exports);
bool register_inotify(napi_env env, napi_value exports);
bool register_bpf(napi_env env, napi_value exports);

#define REGISTER(env, exports, table) add_functions(env, exports, table, sizeof(table) / sizeof((table)[0]))

#endif
