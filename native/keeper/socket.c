#include "socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../common/util.h"
#include "sha256.h"

/* Go's filepath.Join of three elements: empty ones are skipped, and the result is cleaned of "//", "." and "..". */
static char *join_clean(const char *a, const char *b, const char *c) {
  const char *parts[] = {a, b, c};
  LM_CLEANUP_BUF struct lm_buf joined = {0};
  for (int i = 0; i < 3; i++) {
    if (*parts[i] == '\0') continue;
    if (joined.len > 0) lm_buf_append(&joined, "/", 1);
    lm_buf_append(&joined, parts[i], strlen(parts[i]));
  }
  if (joined.len == 0) return lm_strdup("");
  lm_buf_append(&joined, "", 1);
  const char *at = (const char *)joined.data;
  bool rooted = *at == '/';
  char *out = lm_alloc(joined.len + 2);
  size_t len = 0, floor = 0; /* ".." cannot go below floor */
  if (rooted) out[len++] = '/';
  floor = len;
  while (*at != '\0') {
    size_t n = strcspn(at, "/");
    if (n == 2 && at[0] == '.' && at[1] == '.') {
      if (len > floor) {
        while (len > floor && out[len - 1] != '/') len--;
        if (len > floor) len--;
      } else if (!rooted) {
        if (len > 0) out[len++] = '/';
        memcpy(out + len, "..", 2);
        len += 2;
        floor = len;
      }
    } else if (n > 0 && !(n == 1 && at[0] == '.')) {
      if (len > 0 && out[len - 1] != '/') out[len++] = '/';
      memcpy(out + len, at, n);
      len += n;
    }
    at += n;
    if (*at == '/') at++;
  }
  if (len == 0) out[len++] = '.';
  out[len] = '\0';
  return out;
}

char *lm_socket_path(const char *dir, const char *grpc_address, const char *namespace, const char *group) {
  LM_CLEANUP_FREE char *name = join_clean(grpc_address, namespace, group);
  char hex[65];
  lm_sha256_hex(name, strlen(name), hex);
  return lm_format("%s/%s", dir, hex);
}

static void address_of(const char *path, struct sockaddr_un *address) {
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  memcpy(address->sun_path, path, strlen(path) + 1);
}

int lm_socket_probe(const char *path) {
  struct sockaddr_un address;
  struct stat info;
  if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  if (lstat(path, &info) < 0) return -errno;
  /* connect(2) says "refused" of any file, and who hears it unlinks. */
  if (!S_ISSOCK(info.st_mode)) return -ENOTSOCK;
  address_of(path, &address);
  LM_CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return 1;
  /* A full backlog is a listener, too. */
  if (errno == EAGAIN || errno == EINPROGRESS) return 1;
  return errno == ECONNREFUSED ? 0 : -errno;
}

static int bind_at(const char *path) {
  struct sockaddr_un address;
  address_of(path, &address);
  LM_CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return -errno;
  /* Before listen(): nobody can connect while the mode is still the umask's. */
  if (chmod(path, 0600) < 0 || listen(fd, LM_BACKLOG) < 0) {
    int result = -errno;
    (void)unlink(path);
    return result;
  }
  int taken = fd;
  fd = -1;
  return taken;
}

int lm_socket_open(struct lm_socket *sock, const char *dir, const char *path, struct lm_error *err) {
  *sock = (struct lm_socket){.fd = -1};
  if (strlen(path) > LM_SOCKET_PATH_MAX) {
    return lm_fail(err, 0, "socket path %s is longer than %d bytes: give the daemon a shorter socket directory", path,
                   LM_SOCKET_PATH_MAX);
  }
  struct lm_made made = {0};
  if (lm_make_dirs(dir, 0700, &made, err) < 0) return -1;
  int fd = bind_at(path);
  bool joined = false;
  if (fd == -EADDRINUSE) {
    int live = lm_socket_probe(path);
    if (live > 0) {
      joined = true;
    } else if (live == 0 || live == -ENOENT) {
      (void)unlink(path);
      fd = bind_at(path);
      /* Somebody was faster: then that one serves us as well. */
      joined = fd == -EADDRINUSE && lm_socket_probe(path) > 0;
    } else {
      fd = live;
    }
  }
  if (fd < 0 && !joined) {
    lm_unmake_dirs(&made);
    if (fd == -ENOTSOCK) return lm_fail(err, 0, "bind %s: %s: remove what is there", path, strerror(-fd));
    return lm_fail(err, -fd, "bind %s", path);
  }
  *sock = (struct lm_socket){.path = lm_strdup(path), .fd = joined ? -1 : fd, .joined = joined, .made = made};
  return 0;
}

void lm_socket_undo(struct lm_socket *sock) {
  if (sock->fd >= 0) {
    (void)unlink(sock->path);
    lm_close(&sock->fd);
  }
  lm_unmake_dirs(&sock->made);
}

void lm_socket_free(struct lm_socket *sock) {
  lm_close(&sock->fd);
  free(sock->path);
  free(sock->made.path);
  *sock = (struct lm_socket){.fd = -1};
}
