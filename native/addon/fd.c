/* Descriptors: pipes, duplicates, flags, memory files, eventfds, locks. */
#include "addon.h"

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static bool one_fd(napi_env env, napi_callback_info info, int *fd) {
  napi_value args[1];
  return get_args(env, info, args, 1, NULL) && arg_int(env, args[0], "fd", fd);
}

/* The descriptor as a number, closed if that fails. */
static napi_value give_fd(napi_env env, int fd, const char *syscall, const char *path) {
  if (fd < 0) return throw_errno(env, errno, syscall, path);
  napi_value value = value_int(env, fd);
  if (value == NULL) close_fd(fd);
  return value;
}

static napi_value make_pipe(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value pair;
  TRY(env, napi_create_array_with_length(env, 2, &pair));
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return throw_errno(env, errno, "pipe2", NULL);
  for (uint32_t i = 0; i < 2; i++) {
    napi_value number = value_int(env, fds[i]);
    if (number == NULL || napi_set_element(env, pair, i, number) != napi_ok) {
      close_fd(fds[0]);
      close_fd(fds[1]);
      throw_status(env);
      return NULL;
    }
  }
  return pair;
}

static napi_value dup_fd(napi_env env, napi_callback_info info) {
  int fd;
  if (!one_fd(env, info, &fd)) return NULL;
  return give_fd(env, fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl", NULL);
}

static napi_value set_non_blocking(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd;
  bool on;
  if (!get_args(env, info, args, 2, NULL) || !arg_int(env, args[0], "fd", &fd) || !arg_bool(env, args[1], "on", &on)) {
    return NULL;
  }
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return throw_errno(env, errno, "fcntl", NULL);
  int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags && fcntl(fd, F_SETFL, wanted) != 0) return throw_errno(env, errno, "fcntl", NULL);
  return value_undefined(env);
}

static napi_value seek_to_end(napi_env env, napi_callback_info info) {
  int fd;
  if (!one_fd(env, info, &fd)) return NULL;
  if (lseek(fd, 0, SEEK_END) < 0) return throw_errno(env, errno, "lseek", NULL);
  return value_undefined(env);
}

static napi_value bytes_readable(napi_env env, napi_callback_info info) {
  int fd, bytes = 0;
  if (!one_fd(env, info, &fd)) return NULL;
  if (ioctl(fd, FIONREAD, &bytes) != 0) return throw_errno(env, errno, "ioctl", NULL);
  return value_int(env, bytes);
}

static int write_all(int fd, const uint8_t *data, size_t length) {
  while (length > 0) {
    ssize_t written;
    RETRY(written, write(fd, data, length));
    if (written < 0) return -1;
    data += written;
    length -= (size_t)written;
  }
  return lseek(fd, 0, SEEK_SET) < 0 ? -1 : 0;
}

static napi_value make_memfd(napi_env env, napi_callback_info info) {
  napi_value args[2];
  AUTO_FREE char *name = NULL;
  const uint8_t *data;
  size_t length;
  if (!get_args(env, info, args, 2, NULL) || !arg_string(env, args[0], "name", &name) ||
      !arg_bytes(env, args[1], "content", &data, &length)) {
    return NULL;
  }
  int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) return throw_errno(env, errno, "memfd_create", NULL);
  if (write_all(fd, data, length) != 0) {
    close_fd(fd);
    return throw_errno(env, errno, "write", NULL);
  }
  return give_fd(env, fd, "memfd_create", NULL);
}

static napi_value make_eventfd(napi_env env, napi_callback_info info) {
  (void)info;
  return give_fd(env, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd", NULL);
}

static napi_value read_eventfd(napi_env env, napi_callback_info info) {
  int fd;
  if (!one_fd(env, info, &fd)) return NULL;
  uint64_t counter = 0;
  ssize_t length;
  RETRY(length, read(fd, &counter, sizeof(counter)));
  if (length < 0 && errno != EAGAIN) return throw_errno(env, errno, "read", NULL);
  if (length >= 0 && length != sizeof(counter)) return throw_errno(env, EINVAL, "read", NULL);
  napi_value value;
  TRY(env, napi_create_bigint_uint64(env, length < 0 ? 0 : counter, &value));
  return value;
}

static napi_value lock_file(napi_env env, napi_callback_info info) {
  napi_value args[2];
  AUTO_FREE char *how = NULL;
  int fd, operation;
  if (!get_args(env, info, args, 2, NULL) || !arg_int(env, args[0], "fd", &fd) ||
      !arg_string(env, args[1], "how", &how)) {
    return NULL;
  }
  if (strcmp(how, "shared") == 0)
    operation = LOCK_SH;
  else if (strcmp(how, "exclusive") == 0)
    operation = LOCK_EX;
  else if (strcmp(how, "unlock") == 0)
    operation = LOCK_UN;
  else
    return throw_value(env, "how", "must be 'shared', 'exclusive' or 'unlock'"), NULL;
  int result;
  RETRY(result, flock(fd, operation | LOCK_NB));
  if (result != 0 && errno != EWOULDBLOCK) return throw_errno(env, errno, "flock", NULL);
  return value_bool(env, result == 0);
}

bool register_fd(napi_env env, napi_value exports) {
  const struct function table[] = {
      {"pipe", make_pipe},
      {"dupFd", dup_fd},
      {"setNonBlocking", set_non_blocking},
      {"seekToEnd", seek_to_end},
      {"bytesReadable", bytes_readable},
      {"memfd", make_memfd},
      {"eventfd", make_eventfd},
      {"readEventfd", read_eventfd},
      {"flock", lock_file},
  };
  return REGISTER(env, exports, table);
}
