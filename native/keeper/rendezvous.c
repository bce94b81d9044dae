#include "rendezvous.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../common/util.h"

/* Whoever can create files there could pose as the engine, and be handed every descriptor. A link is not private: its
 * owner may turn it elsewhere. */
bool lm_rendezvous_is_private(const char *directory) {
  struct stat info;
  if (lstat(directory, &info) < 0) return errno == ENOENT;
  return S_ISDIR(info.st_mode) && info.st_uid == geteuid() && (info.st_mode & 022) == 0;
}

/* Whether `path` still names the file behind fd: a lock on a file that was removed keeps nobody out. */
static bool still_at(int fd, const char *path) {
  struct stat held, named;
  return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

int lm_rendezvous_lock(const char *path) {
  LM_CLEANUP_CLOSE int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0) return -errno;
  if (flock(lock, LOCK_EX | LOCK_NB) < 0 || !still_at(lock, path)) return -EWOULDBLOCK;
  int taken = lock;
  lock = -1;
  return taken;
}

static int address_of(const char *path, struct sockaddr_un *address) {
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
  strcpy(address->sun_path, path);
  return 0;
}

/* Who listens there will be handed descriptors and obeyed. These are the credentials of listen(2): a keeper's. */
static bool is_trusted(int fd) {
  struct ucred peer;
  socklen_t len = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

int lm_rendezvous_connect(const char *path) {
  struct sockaddr_un address;
  int result = address_of(path, &address);
  if (result < 0) return result;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  result = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : is_trusted(fd) ? 0 : -EPERM;
  if (result == 0) return fd;
  (void)close(fd);
  return result;
}

int lm_rendezvous_listen(const char *path) {
  struct sockaddr_un address;
  int result = address_of(path, &address);
  if (result < 0) return result;
  LM_CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return -errno;
  if (chmod(path, 0600) < 0 || listen(fd, 4096) < 0) return -errno;
  int taken = fd;
  fd = -1;
  return taken;
}
