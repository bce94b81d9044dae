/* Errors in the shape Node's own modules throw. */
#include "addon.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* By hand, because strerrorname_np is glibc's alone. */
#define NAME(number)                                                                                                   \
  case number:                                                                                                         \
    return #number;

static const char *errno_name(int err) {
  switch (err) {
    NAME(E2BIG)
    NAME(EACCES)
    NAME(EADDRINUSE)
    NAME(EADDRNOTAVAIL)
    NAME(EAFNOSUPPORT)
    NAME(EAGAIN)
    NAME(EALREADY)
    NAME(EBADF)
    NAME(EBADMSG)
    NAME(EBUSY)
    NAME(ECANCELED)
    NAME(ECHILD)
    NAME(ECONNABORTED)
    NAME(ECONNREFUSED)
    NAME(ECONNRESET)
    NAME(EDEADLK)
    NAME(EDESTADDRREQ)
    NAME(EDOM)
    NAME(EDQUOT)
    NAME(EEXIST)
    NAME(EFAULT)
    NAME(EFBIG)
    NAME(EILSEQ)
    NAME(EINPROGRESS)
    NAME(EINTR)
    NAME(EINVAL)
    NAME(EIO)
    NAME(EISCONN)
    NAME(EISDIR)
    NAME(ELOOP)
    NAME(EMFILE)
    NAME(EMLINK)
    NAME(EMSGSIZE)
    NAME(ENAMETOOLONG)
    NAME(ENFILE)
    NAME(ENOBUFS)
    NAME(ENODATA)
    NAME(ENODEV)
    NAME(ENOENT)
    NAME(ENOEXEC)
    NAME(ENOLCK)
    NAME(ENOMEM)
    NAME(ENOSPC)
    NAME(ENOSYS)
    NAME(ENOTBLK)
    NAME(ENOTCONN)
    NAME(ENOTDIR)
    NAME(ENOTEMPTY)
    NAME(ENOTSOCK)
    NAME(ENOTSUP)
    NAME(ENOTTY)
    NAME(ENXIO)
    NAME(EOVERFLOW)
    NAME(EPERM)
    NAME(EPIPE)
    NAME(EPROTO)
    NAME(EPROTONOSUPPORT)
    NAME(EPROTOTYPE)
    NAME(ERANGE)
    NAME(EREMOTE)
    NAME(EROFS)
    NAME(ESHUTDOWN)
    NAME(ESPIPE)
    NAME(ESRCH)
    NAME(ESTALE)
    NAME(ETIMEDOUT)
    NAME(ETOOMANYREFS)
    NAME(ETXTBSY)
    NAME(EUCLEAN)
    NAME(EUSERS)
    NAME(EXDEV)
  default:
    return NULL;
  }
}

void throw_status(napi_env env) {
  const napi_extended_error_info *info = NULL;
  bool pending = false;
  if (napi_get_last_error_info(env, &info) != napi_ok) info = NULL;
  const char *message = info != NULL && info->error_message != NULL ? info->error_message : "Node-API call failed";
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending) return;
  (void)napi_throw_error(env, "ERR_NODE_API", message);
}

napi_value make_errno(napi_env env, int err, const char *syscall, const char *path) {
  char unknown[24];
  char message[4600];
  const char *code = errno_name(err);
  if (code == NULL) {
    (void)snprintf(unknown, sizeof(unknown), "E%d", err);
    code = unknown;
  }
  int prefix = snprintf(message, sizeof(message), "%s: ", code);
  int length = prefix + snprintf(message + prefix, sizeof(message) - (size_t)prefix, "%s, %s", strerror(err), syscall);
  message[prefix] = (char)tolower((unsigned char)message[prefix]);
  if (path != NULL) (void)snprintf(message + length, sizeof(message) - (size_t)length, " '%s'", path);

  napi_value code_value, text, error, number;
  TRY(env, napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &code_value));
  TRY(env, napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text));
  TRY(env, napi_create_error(env, code_value, text, &error));
  TRY(env, napi_create_int32(env, -err, &number));
  if (!set_field(env, error, "errno", number)) return NULL;
  if (!set_field(env, error, "syscall", value_string(env, syscall, NAPI_AUTO_LENGTH))) return NULL;
  if (path != NULL && !set_field(env, error, "path", value_string(env, path, NAPI_AUTO_LENGTH))) return NULL;
  return error;
}

napi_value throw_errno(napi_env env, int err, const char *syscall, const char *path) {
  napi_value error = make_errno(env, err, syscall, path);
  if (error != NULL) (void)napi_throw(env, error);
  return NULL;
}

bool throw_arg(napi_env env, const char *name, const char *expected) {
  char message[128];
  (void)snprintf(message, sizeof(message), "The \"%s\" argument must be %s", name, expected);
  (void)napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
  return false;
}

bool throw_value(napi_env env, const char *name, const char *why) {
  char message[128];
  (void)snprintf(message, sizeof(message), "The argument '%s' %s", name, why);
  (void)napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", message);
  return false;
}
