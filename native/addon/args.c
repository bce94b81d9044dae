/* Arguments: type checks and conversion. */
#include "addon.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool get_args(napi_env env, napi_callback_info info, napi_value *values, size_t count, napi_value *self) {
  size_t given = count;
  /* Missing ones are filled with undefined by Node, and then refused by their type. */
  TRY_RET(env, napi_get_cb_info(env, info, &given, values, self, NULL), false);
  return true;
}

static bool whole_number(napi_env env, napi_value value, const char *name, double least, double most, double *out) {
  napi_valuetype type;
  TRY_RET(env, napi_typeof(env, value, &type), false);
  if (type != napi_number) return throw_arg(env, name, "of type number");
  TRY_RET(env, napi_get_value_double(env, value, out), false);
  /* Written so that NaN fails. */
  if (!(*out >= least && *out <= most) || trunc(*out) < *out || trunc(*out) > *out) {
    return throw_value(env, name, "is out of range");
  }
  return true;
}

bool arg_int(napi_env env, napi_value value, const char *name, int *out) {
  double number;
  if (!whole_number(env, value, name, INT32_MIN, INT32_MAX, &number)) return false;
  *out = (int)number;
  return true;
}

bool arg_u32(napi_env env, napi_value value, const char *name, uint32_t *out) {
  double number;
  if (!whole_number(env, value, name, 0, UINT32_MAX, &number)) return false;
  *out = (uint32_t)number;
  return true;
}

bool arg_bool(napi_env env, napi_value value, const char *name, bool *out) {
  napi_valuetype type;
  TRY_RET(env, napi_typeof(env, value, &type), false);
  if (type != napi_boolean) return throw_arg(env, name, "of type boolean");
  TRY_RET(env, napi_get_value_bool(env, value, out), false);
  return true;
}

/* size + 1 bytes, or NULL with an exception. */
static char *text_of(napi_env env, size_t size) {
  char *text = malloc(size + 1);
  if (text == NULL) (void)throw_errno(env, ENOMEM, "malloc", NULL);
  return text;
}

static char *copy_string(napi_env env, napi_value value, size_t *size) {
  TRY_RET(env, napi_get_value_string_utf8(env, value, NULL, 0, size), NULL);
  char *text = text_of(env, *size);
  if (text == NULL || napi_get_value_string_utf8(env, value, text, *size + 1, size) == napi_ok) return text;
  free(text);
  throw_status(env);
  return NULL;
}

/* A path that is not UTF-8 comes as its bytes. */
static char *copy_bytes(napi_env env, napi_value value, const char *name, size_t *size) {
  const uint8_t *bytes = NULL;
  if (!arg_bytes(env, value, name, &bytes, size)) return NULL;
  char *text = text_of(env, *size);
  if (text == NULL) return NULL;
  if (*size > 0) memcpy(text, bytes, *size);
  text[*size] = '\0';
  return text;
}

bool arg_address(napi_env env, napi_value value, const char *name, char **out, size_t *length) {
  napi_valuetype type;
  bool is_bytes = false;
  size_t size = 0;
  TRY_RET(env, napi_typeof(env, value, &type), false);
  TRY_RET(env, napi_is_typedarray(env, value, &is_bytes), false);
  if (type != napi_string && !is_bytes) return throw_arg(env, name, "of type string");
  char *text = is_bytes ? copy_bytes(env, value, name, &size) : copy_string(env, value, &size);
  if (text == NULL) return false;
  *length = size;
  size_t from = size > 0 && text[0] == '\0' ? 1 : 0;
  if (memchr(text + from, '\0', size - from) != NULL) {
    free(text);
    return throw_value(env, name, "must not contain null bytes");
  }
  *out = text;
  return true;
}

bool arg_string(napi_env env, napi_value value, const char *name, char **out) {
  size_t length = 0;
  char *text = NULL;
  if (!arg_address(env, value, name, &text, &length)) return false;
  if (length > 0 && text[0] == '\0') {
    free(text);
    return throw_value(env, name, "must not contain null bytes");
  }
  *out = text;
  return true;
}

bool arg_bytes(napi_env env, napi_value value, const char *name, const uint8_t **out, size_t *length) {
  bool is_array = false;
  TRY_RET(env, napi_is_typedarray(env, value, &is_array), false);
  if (!is_array) return throw_arg(env, name, "an instance of Uint8Array");
  napi_typedarray_type type;
  void *data = NULL;
  TRY_RET(env, napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL), false);
  if (type != napi_uint8_array) return throw_arg(env, name, "an instance of Uint8Array");
  *out = data;
  return true;
}

bool arg_ints(napi_env env, napi_value value, const char *name, int *out, size_t max, size_t *count) {
  bool is_array = false;
  TRY_RET(env, napi_is_array(env, value, &is_array), false);
  if (!is_array) return throw_arg(env, name, "an array of numbers");
  uint32_t length = 0;
  TRY_RET(env, napi_get_array_length(env, value, &length), false);
  if (length > max) return throw_value(env, name, "is too long");
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    TRY_RET(env, napi_get_element(env, value, i, &element), false);
    if (!arg_int(env, element, name, &out[i])) return false;
  }
  *count = length;
  return true;
}
