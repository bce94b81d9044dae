#include "rendezvous.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../common/util.h"

#define COMMAND_MAX 65536
#define STAT_MAX 4096
#define START_FIELD 22

static const char *name_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

/* Whoever can create files there could pose as the engine, and be handed every descriptor. A link is not private: its
 * owner may turn it elsewhere. */
int lm_rendezvous_open(const char *directory) {
  LM_CLEANUP_CLOSE int folder = open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  /* A link is -ENOTDIR here. */
  if (folder < 0) return errno == ENOTDIR ? -EPERM : -errno;
  struct stat info;
  if (fstat(folder, &info) < 0) return -errno;
  if (info.st_uid != geteuid() || (info.st_mode & 022) != 0) return -EPERM;
  int taken = folder;
  folder = -1;
  return taken;
}

struct lm_file_id lm_rendezvous_named(int folder, const char *path) {
  struct stat info;
  if (fstatat(folder, name_of(path), &info, AT_SYMLINK_NOFOLLOW) < 0) return (struct lm_file_id){0};
  return (struct lm_file_id){info.st_dev, info.st_ino};
}

/* Whether `path` still names the file behind fd: a lock on a file that was removed keeps nobody out. */
static bool still_at(int fd, int folder, const char *path) {
  struct stat held;
  return fstat(fd, &held) == 0 &&
         lm_same_file(lm_rendezvous_named(folder, path), (struct lm_file_id){held.st_dev, held.st_ino});
}

int lm_rendezvous_lock(int folder, const char *path) {
  LM_CLEANUP_CLOSE int lock = openat(folder, name_of(path), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0) return -errno;
  if (flock(lock, LOCK_EX | LOCK_NB) < 0 || !still_at(lock, folder, path)) return -EWOULDBLOCK;
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

int lm_rendezvous_connect(int folder, const char *path, struct lm_file_id dead, struct lm_file_id *found) {
  struct sockaddr_un address;
  int result = address_of(path, &address);
  if (result < 0) return result;
  *found = lm_rendezvous_named(folder, path);
  if (found->ino != 0 && lm_same_file(*found, dead)) return -ECONNREFUSED;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  result = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : is_trusted(fd) ? 0 : -EPERM;
  /* Replaced meanwhile: which of the two has taken us is not known. */
  if (result == 0 && !lm_same_file(*found, lm_rendezvous_named(folder, path))) result = -EAGAIN;
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

/* When a process was started, in clock ticks since the machine was; 0 when it is gone. See proc_pid_stat(5). */
static uint64_t start_of(pid_t pid) {
  LM_CLEANUP_FREE char *path = lm_format("/proc/%d/stat", (int)pid);
  LM_CLEANUP_BUF struct lm_buf text = {0};
  if (lm_read_file(AT_FDCWD, path, STAT_MAX, &text) < 0) return 0;
  lm_buf_append(&text, "", 1);
  /* Its second field is what the process calls itself. */
  char *at = strrchr((char *)text.data, ')');
  for (int field = 2; at != NULL && field < START_FIELD; field++) at = strchr(at + 1, ' ');
  return at == NULL ? 0 : strtoull(at, NULL, 10);
}

/* In this order: where the disk is full, what there is room for is the last text's place. */
static int replace_text(int fd, const char *text) {
  ssize_t len = (ssize_t)strlen(text);
  ssize_t written = pwrite(fd, text, (size_t)len, 0);
  if (written != len) return written < 0 ? -errno : -ENOSPC;
  return ftruncate(fd, len) < 0 ? -errno : 0;
}

int lm_rendezvous_record(int folder, int lock, const char *record, pid_t pid, struct lm_file_id socket) {
  char text[96];
  (void)snprintf(text, sizeof text, "%d\n", (int)pid);
  int result = replace_text(lock, text);
  LM_CLEANUP_CLOSE int fd = openat(folder, name_of(record), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -errno;
  (void)snprintf(text, sizeof text, "%d %" PRIu64 " %ju\n", (int)pid, start_of(pid), (uintmax_t)socket.ino);
  int recorded = replace_text(fd, text);
  return result < 0 ? result : recorded;
}

/* Our user's, and in our namespaces: no container's. */
static bool is_of_our_kind(pid_t pid) {
  static const char *const spaces[] = {"mnt", "pid", "user"};
  LM_CLEANUP_FREE char *folder = lm_format("/proc/%d", (int)pid);
  struct stat theirs, ours;
  if (stat(folder, &theirs) < 0 || theirs.st_uid != geteuid()) return false;
  for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
    LM_CLEANUP_FREE char *their_path = lm_format("%s/ns/%s", folder, spaces[i]);
    LM_CLEANUP_FREE char *our_path = lm_format("/proc/self/ns/%s", spaces[i]);
    if (stat(their_path, &theirs) < 0 || stat(our_path, &ours) < 0) return false;
    if (theirs.st_ino != ours.st_ino || theirs.st_dev != ours.st_dev) return false;
  }
  return true;
}

static bool has_command(pid_t pid, const char *script) {
  LM_CLEANUP_BUF struct lm_buf command = {0};
  LM_CLEANUP_FREE char *path = lm_format("/proc/%d/cmdline", (int)pid);
  return lm_read_file(AT_FDCWD, path, COMMAND_MAX, &command) == 0 &&
         memmem(command.data, command.len, script, strlen(script)) != NULL;
}

/* The text of a file, cut off at `size` - 1. false when there is none. */
static bool read_text(int fd, char *text, size_t size) {
  ssize_t n = fd < 0 ? -1 : pread(fd, text, size - 1, 0);
  text[n < 0 ? 0 : n] = '\0';
  return n > 0;
}

int lm_rendezvous_process(int folder, int lock, const char *record, struct lm_file_id socket, const char *script) {
  char text[96];
  if (!read_text(lock, text, sizeof text)) return -1;
  pid_t pid = (pid_t)strtol(text, NULL, 10);
  if (pid <= 1 || pid == getpid()) return -1;
  int recorded = 0;
  uint64_t start = 0;
  uintmax_t ino = 0;
  LM_CLEANUP_CLOSE int file = openat(folder, name_of(record), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  bool has_record = read_text(file, text, sizeof text);
  if (has_record && sscanf(text, "%d %" SCNu64 " %ju", &recorded, &start, &ino) != 3) return -1;
  /* Another engine than the one that we are connected to: it has been replaced. */
  if (has_record && (recorded != pid || ino != socket.ino)) return -1;
  int fd = pidfd_open(pid, 0);
  if (fd < 0) return -1;
  /* Read after the pidfd was opened: what it says is then true of the process behind the pidfd. */
  bool is_it = is_of_our_kind(pid) && (has_record ? start != 0 && start_of(pid) == start : has_command(pid, script));
  if (is_it) return fd;
  (void)close(fd);
  return -1;
}
