/* Identity-mapped mounts: a user namespace as a descriptor, and a bind mount seen through it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h> /* not sys/mount.h, which lacks these before glibc 2.36 and clashes with it after */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "worker.h"

static int write_map(pid_t pid, const char *file, const char *map, struct lm_failure *failure) {
  LM_CLEANUP_FREE char *path = lm_format("/proc/%d/%s", (int)pid, file);
  LM_CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
  return fd < 0 || write(fd, map, strlen(map)) < 0 ? lm_failed(failure, "write", file) : 0;
}

/* A namespace can be made only by a process in it: a child that does nothing but wait to be killed. */
int lm_user_namespace(const char *uid_map, const char *gid_map, struct lm_failure *failure) {
  pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)CLONE_NEWUSER | SIGCHLD, 0UL, 0UL, 0UL, 0UL);
  if (pid == 0) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) (void)pause();
  }
  if (pid < 0) return lm_failed(failure, "clone", "");
  int fd = -1;
  if (write_map(pid, "uid_map", uid_map, failure) == 0 && write_map(pid, "gid_map", gid_map, failure) == 0) {
    LM_CLEANUP_FREE char *path = lm_format("/proc/%d/ns/user", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) (void)lm_failed(failure, "open", "/proc/PID/ns/user");
  }
  (void)kill(pid, SIGKILL);
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
  }
  return fd;
}

int lm_idmap_mount(const char *source, const char *target, int user_namespace, struct lm_failure *failure) {
  LM_CLEANUP_CLOSE int tree = (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) return lm_failed(failure, "open_tree", source);
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint32_t)user_namespace};
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0) {
    return lm_failed(failure, "mount_setattr", source);
  }
  if (syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) < 0) {
    return lm_failed(failure, "move_mount", target);
  }
  return 0;
}
