/* Results and small things every part needs. */
#include "addon.h"

#include <stdlib.h>
#include <unistd.h>

napi_value value_int(napi_env env, int64_t number) {
  napi_value value;
  TRY(env, napi_create_int64(env, number, &value));
  return value;
}

napi_value value_bool(napi_env env, bool flag) {
  napi_value value;
  TRY(env, napi_get_boolean(env, flag, &value));
  return value;
}

napi_value value_null(napi_env env) {
  napi_value value;
  TRY(env, napi_get_null(env, &value));
  return value;
}

napi_value value_undefined(napi_env env) {
  napi_value value;
  TRY(env, napi_get_undefined(env, &value));
  return value;
}

napi_value value_string(napi_env env, const char *text, size_t length) {
  napi_value value;
  TRY(env, napi_create_string_utf8(env, text, length, &value));
  return value;
}

napi_value value_bytes(napi_env env, const char *bytes, size_t length) {
  napi_value value;
  TRY(env, napi_create_string_latin1(env, bytes, length, &value));
  return value;
}

bool set_field(napi_env env, napi_value object, const char *name, napi_value value) {
  if (value == NULL) return false;
  TRY_RET(env, napi_set_named_property(env, object, name, value), false);
  return true;
}

bool add_functions(napi_env env, napi_value exports, const struct function *table, size_t count) {
  for (size_t i = 0; i < count; i++) {
    napi_value function;
    TRY_RET(env, napi_create_function(env, table[i].name, NAPI_AUTO_LENGTH, table[i].callback, NULL, &function), false);
    if (!set_field(env, exports, table[i].name, function)) return false;
  }
  return true;
}

void close_fd(int fd) {
  int saved = errno;
  if (fd >= 0) (void)close(fd);
  errno = saved;
}

void cleanup_free(void *pointer) {
  free(*(void **)pointer);
}
