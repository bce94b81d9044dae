/* Identity-mapped mounts: a user namespace as a descriptor, and a bind mount seen through it. */
#include "addon.h"

#include <fcntl.h>
#include <linux/mount.h> /* not sys/mount.h, which lacks these before glibc 2.36 and clashes with it after */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SOURCE, TARGET };
enum { UID_MAP, GID_MAP };

static int write_map(struct job *job, pid_t pid, const char *file, const char *map) {
  char path[48];
  (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  ssize_t written = -1;
  if (fd >= 0) RETRY(written, write(fd, map, strlen(map)));
  if (written < 0) job_fail(job, "write", strcmp(file, "uid_map") == 0 ? "uid_map" : "gid_map");
  close_fd(fd);
  return written < 0 ? -1 : 0;
}

/* A namespace can be made only by a process in it: a child that does nothing but wait to be killed. It is made by the
 * bare system call, with no exit signal, so that neither libc's fork handlers run nor libuv's SIGCHLD handler hears of
 * it. */
static void run_user_namespace(struct job *job) {
  pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)CLONE_NEWUSER, 0UL, 0UL, 0UL, 0UL);
  if (pid == 0) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) (void)pause();
  }
  if (pid < 0) {
    job_fail(job, "clone", NULL);
    return;
  }
  if (write_map(job, pid, "uid_map", job->text[UID_MAP]) == 0 &&
      write_map(job, pid, "gid_map", job->text[GID_MAP]) == 0) {
    char path[48];
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    job->result_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (job->result_fd < 0) job_fail(job, "open", NULL);
  }
  (void)kill(pid, SIGKILL);
  pid_t reaped;
  RETRY(reaped, waitpid(pid, NULL, (int)__WCLONE));
}

static napi_value user_namespace(napi_env env, napi_callback_info info) {
  napi_value args[2];
  if (!get_args(env, info, args, 2, NULL)) return NULL;
  struct job *job = job_new(run_user_namespace);
  if (job == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  if (!arg_string(env, args[0], "uidMap", &job->text[UID_MAP]) ||
      !arg_string(env, args[1], "gidMap", &job->text[GID_MAP])) {
    job_free(job);
    return NULL;
  }
  job->kind = JOB_FD;
  return job_start(env, job, "lamina.userns");
}

static void run_idmap_mount(struct job *job) {
  int tree = (int)syscall(SYS_open_tree, AT_FDCWD, job->text[SOURCE], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) {
    job_fail(job, "open_tree", job->text[SOURCE]);
    return;
  }
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint32_t)job->fd};
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) != 0) {
    job_fail(job, "mount_setattr", job->text[SOURCE]);
  } else if (syscall(SYS_move_mount, tree, "", AT_FDCWD, job->text[TARGET], MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    job_fail(job, "move_mount", job->text[TARGET]);
  }
  close_fd(tree);
}

static napi_value idmap_mount(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int fd;
  if (!get_args(env, info, args, 3, NULL)) return NULL;
  struct job *job = job_new(run_idmap_mount);
  if (job == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  if (!arg_string(env, args[0], "source", &job->text[SOURCE]) ||
      !arg_string(env, args[1], "target", &job->text[TARGET]) || !arg_int(env, args[2], "userNamespace", &fd)) {
    job_free(job);
    return NULL;
  }
  /* The caller may close its own as soon as we return. */
  job->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (job->fd < 0) {
    job_free(job);
    return throw_errno(env, errno, "fcntl", NULL);
  }
  return job_start(env, job, "lamina.idmap");
}

bool register_idmap(napi_env env, napi_value exports) {
  const struct function table[] = {{"userNamespace", user_namespace}, {"idmapMount", idmap_mount}};
  return REGISTER(env, exports, table);
}
