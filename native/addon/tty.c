/* Terminals: window size, new pseudo terminals. */
#include "addon.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static napi_value make_pair(napi_env env, napi_value first, napi_value second) {
  napi_value pair;
  if (first == NULL || second == NULL) return NULL;
  TRY(env, napi_create_array_with_length(env, 2, &pair));
  TRY(env, napi_set_element(env, pair, 0, first));
  TRY(env, napi_set_element(env, pair, 1, second));
  return pair;
}

static napi_value set_window_size(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int fd;
  uint32_t columns, rows;
  if (!get_args(env, info, args, 3, NULL) || !arg_int(env, args[0], "fd", &fd) ||
      !arg_u32(env, args[1], "columns", &columns) || !arg_u32(env, args[2], "rows", &rows)) {
    return NULL;
  }
  if (columns > USHRT_MAX || rows > USHRT_MAX) return throw_errno(env, EINVAL, "ioctl", NULL);
  struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
  if (ioctl(fd, TIOCSWINSZ, &size) != 0) return throw_errno(env, errno, "ioctl", NULL);
  return value_undefined(env);
}

static napi_value window_size(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, args, 1, NULL) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  struct winsize size;
  if (ioctl(fd, TIOCGWINSZ, &size) != 0) return throw_errno(env, errno, "ioctl", NULL);
  return make_pair(env, value_int(env, size.ws_col), value_int(env, size.ws_row));
}

static napi_value open_pty(napi_env env, napi_callback_info info) {
  (void)info;
  char slave[64];
  int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return throw_errno(env, errno, "posix_openpt", "/dev/ptmx");
  if (unlockpt(fd) != 0 || ptsname_r(fd, slave, sizeof(slave)) != 0) {
    int err = errno;
    close_fd(fd);
    return throw_errno(env, err, "unlockpt", "/dev/ptmx");
  }
  napi_value pair = make_pair(env, value_int(env, fd), value_string(env, slave, NAPI_AUTO_LENGTH));
  if (pair == NULL) close_fd(fd);
  return pair;
}

bool register_tty(napi_env env, napi_value exports) {
  const struct function table[] = {
      {"setWindowSize", set_window_size}, {"windowSize", window_size}, {"openPty", open_pty}};
  return REGISTER(env, exports, table);
}
