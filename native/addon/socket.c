/* Unix sockets: descriptor passing, listening, connecting, peer credentials. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/scm.h"

static bool arg_type(napi_env env, napi_value value, int *type) {
  AUTO_FREE char *text = NULL;
  if (!arg_string(env, value, "type", &text)) return false;
  if (strcmp(text, "stream") == 0)
    *type = SOCK_STREAM;
  else if (strcmp(text, "seqpacket") == 0)
    *type = SOCK_SEQPACKET;
  else
    return throw_value(env, "type", "must be 'stream' or 'seqpacket'");
  return true;
}

/* The address of a path, or of an abstract name when the text starts with NUL; 0 when it is too long. */
static socklen_t fill_address(struct sockaddr_un *address, const char *path, size_t length) {
  if (length >= sizeof(address->sun_path)) return 0;
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length);
  size_t terminator = length > 0 && path[0] == '\0' ? 0 : 1;
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + terminator);
}

/* Abstract names start with NUL, which would end the message early. */
static const char *printable(const char *path) {
  return path[0] == '\0' ? "@" : path;
}

static napi_value send_message(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int fd, fds[ADDON_FDS_MAX];
  const uint8_t *data;
  size_t length, count;
  if (!get_args(env, info, args, 3, NULL) || !arg_int(env, args[0], "fd", &fd) ||
      !arg_bytes(env, args[1], "data", &data, &length) || !arg_ints(env, args[2], "fds", fds, ADDON_FDS_MAX, &count)) {
    return NULL;
  }
  union {
    char space[CMSG_SPACE(sizeof(fds))];
    struct cmsghdr align;
  } control;
  struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  lm_scm_attach(&message, &control, fds, count);
  ssize_t sent;
  RETRY(sent, sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
  if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return value_bool(env, false);
  if (sent < 0) return throw_errno(env, errno, "sendmsg", NULL);
  /* Stream sockets may take a part. Rather than resume in the middle of a message, say that it does not fit. */
  if ((size_t)sent != length) return throw_errno(env, EMSGSIZE, "sendmsg", NULL);
  return value_bool(env, true);
}

static void close_all(const int *fds, size_t count) {
  for (size_t i = 0; i < count; i++) close_fd(fds[i]);
}

/* Collects the descriptors of all SCM_RIGHTS headers. */
static size_t take_fds(struct msghdr *message, int *fds) {
  size_t count = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds + count, CMSG_DATA(header), here * sizeof(int));
    count += here;
  }
  return count;
}

static napi_value make_received(napi_env env, const uint8_t *data, size_t length, const int *fds, size_t count,
                                bool lost) {
  napi_value result, buffer, array;
  TRY(env, napi_create_object(env, &result));
  TRY(env, napi_create_buffer_copy(env, length, data, NULL, &buffer));
  TRY(env, napi_create_array_with_length(env, count, &array));
  for (size_t i = 0; i < count; i++) {
    napi_value number = value_int(env, fds[i]);
    if (number == NULL) return NULL;
    TRY(env, napi_set_element(env, array, (uint32_t)i, number));
  }
  if (!set_field(env, result, "data", buffer) || !set_field(env, result, "fds", array)) return NULL;
  if (lost && !set_field(env, result, "lost", value_bool(env, true))) return NULL;
  return result;
}

static uint8_t *scratch_of(napi_env env, size_t size) {
  struct instance *instance = NULL;
  if (napi_get_instance_data(env, (void **)&instance) != napi_ok || instance == NULL) return NULL;
  if (size > instance->scratch_size) {
    uint8_t *grown = realloc(instance->scratch, size);
    if (grown == NULL) return NULL;
    instance->scratch = grown;
    instance->scratch_size = size;
  }
  return instance->scratch;
}

static napi_value recv_message(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd;
  uint32_t max;
  if (!get_args(env, info, args, 2, NULL) || !arg_int(env, args[0], "fd", &fd) ||
      !arg_u32(env, args[1], "maxBytes", &max)) {
    return NULL;
  }
  uint8_t *scratch = scratch_of(env, max > 0 ? max : 1);
  if (scratch == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  int fds[ADDON_FDS_MAX];
  union {
    char space[CMSG_SPACE(sizeof(fds))];
    struct cmsghdr align;
  } control;
  struct iovec vector = {.iov_base = scratch, .iov_len = max};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
  ssize_t length;
  RETRY(length, recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return value_null(env);
  if (length < 0) return throw_errno(env, errno, "recvmsg", NULL);
  size_t count = take_fds(&message, fds);
  /* There is room for the most that can be sent: this process can have no more. */
  bool lost = (message.msg_flags & MSG_CTRUNC) != 0;
  if (lost) {
    close_all(fds, count);
    count = 0;
  }
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    close_all(fds, count);
    return throw_errno(env, EMSGSIZE, "recvmsg", NULL);
  }
  napi_value received = make_received(env, scratch, (size_t)length, fds, count, lost);
  if (received == NULL) close_all(fds, count);
  return received;
}

/* Binds and listens; on failure errno and *syscall say what. */
static int bind_and_listen(int fd, const char *path, size_t length, int backlog, mode_t mode, const char **syscall) {
  struct sockaddr_un address;
  bool is_path = length > 0 && path[0] != '\0';
  socklen_t size = fill_address(&address, path, length);
  *syscall = "bind";
  if (size == 0) {
    errno = ENAMETOOLONG;
    return -1;
  }
  /* bind(2) takes the file's mode from the socket's inode: nobody can connect between bind and chmod. */
  if (is_path && fchmod(fd, mode) != 0) return -1;
  if (bind(fd, (struct sockaddr *)&address, size) != 0) return -1;
  /* Once more without the umask. */
  if (is_path && chmod(path, mode) != 0)
    *syscall = "chmod";
  else if (listen(fd, backlog) != 0)
    *syscall = "listen";
  else
    return 0;
  int saved = errno;
  if (is_path) (void)unlink(path);
  errno = saved;
  return -1;
}

static napi_value listen_unix(napi_env env, napi_callback_info info) {
  napi_value args[4];
  AUTO_FREE char *path = NULL;
  size_t length;
  int type, backlog;
  uint32_t mode;
  if (!get_args(env, info, args, 4, NULL) || !arg_address(env, args[0], "path", &path, &length) ||
      !arg_type(env, args[1], &type) || !arg_int(env, args[2], "backlog", &backlog) ||
      !arg_u32(env, args[3], "mode", &mode)) {
    return NULL;
  }
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return throw_errno(env, errno, "socket", NULL);
  const char *syscall;
  if (bind_and_listen(fd, path, length, backlog, (mode_t)mode & 07777, &syscall) != 0) {
    close_fd(fd);
    return throw_errno(env, errno, syscall, printable(path));
  }
  return value_int(env, fd);
}

static napi_value connect_unix(napi_env env, napi_callback_info info) {
  napi_value args[2];
  AUTO_FREE char *path = NULL;
  size_t length;
  int type;
  if (!get_args(env, info, args, 2, NULL) || !arg_address(env, args[0], "path", &path, &length) ||
      !arg_type(env, args[1], &type)) {
    return NULL;
  }
  struct sockaddr_un address;
  socklen_t size = fill_address(&address, path, length);
  if (size == 0) return throw_errno(env, ENAMETOOLONG, "connect", printable(path));
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return throw_errno(env, errno, "socket", NULL);
  int result;
  RETRY(result, connect(fd, (struct sockaddr *)&address, size));
  if (result != 0) {
    close_fd(fd);
    return throw_errno(env, errno, "connect", printable(path));
  }
  return value_int(env, fd);
}

static napi_value accept_unix(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, args, 1, NULL) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  int accepted;
  RETRY(accepted, accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (accepted < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return value_null(env);
  if (accepted < 0) return throw_errno(env, errno, "accept", NULL);
  return value_int(env, accepted);
}

static napi_value socket_pair(napi_env env, napi_callback_info info) {
  napi_value args[1], pair;
  int type, fds[2];
  if (!get_args(env, info, args, 1, NULL) || !arg_type(env, args[0], &type)) return NULL;
  TRY(env, napi_create_array_with_length(env, 2, &pair));
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0) {
    return throw_errno(env, errno, "socketpair", NULL);
  }
  for (uint32_t i = 0; i < 2; i++) {
    napi_value number = value_int(env, fds[i]);
    if (number == NULL || napi_set_element(env, pair, i, number) != napi_ok) {
      close_all(fds, 2);
      throw_status(env);
      return NULL;
    }
  }
  return pair;
}

static napi_value peer_credentials(napi_env env, napi_callback_info info) {
  napi_value args[1], result;
  int fd;
  if (!get_args(env, info, args, 1, NULL) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  struct ucred credentials;
  socklen_t size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return throw_errno(env, errno, "getsockopt", NULL);
  }
  TRY(env, napi_create_object(env, &result));
  if (!set_field(env, result, "pid", value_int(env, credentials.pid)) ||
      !set_field(env, result, "uid", value_int(env, credentials.uid)) ||
      !set_field(env, result, "gid", value_int(env, credentials.gid))) {
    return NULL;
  }
  return result;
}

bool register_socket(napi_env env, napi_value exports) {
  const struct function table[] = {
      {"sendMessage", send_message},         {"recvMessage", recv_message}, {"listenUnix", listen_unix},
      {"connectUnix", connect_unix},         {"acceptUnix", accept_unix},   {"socketPair", socket_pair},
      {"peerCredentials", peer_credentials},
  };
  return REGISTER(env, exports, table);
}
