/* The child shares our memory until exec (CLONE_VM | CLONE_VFORK: no page tables are copied, and it can tell what went
 * wrong by writing it down), so it calls nothing but system calls and touches nothing but its stack and `struct
 * attempt`. */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../common/util.h"

struct attempt {
  const struct lm_spawn *spawn;
  const char *path;
  pid_t parent;
  const char *step;
  int error;
};

/* The shadow of a stack that ends in exec is never cleaned. */
#define NO_ASAN __attribute__((no_sanitize("address", "undefined")))

NO_ASAN static int child_fail(struct attempt *a, const char *step) {
  a->step = step;
  a->error = errno == 0 ? EINVAL : errno;
  return 127;
}

/* The child's table is a copy of ours, which may be full: first room is made. Absent before Linux 5.9, and then it is a
 * child that finds no room. */
NO_ASAN static void close_others(const struct lm_spawn *spawn) {
  unsigned at = 3;
  for (;;) {
    unsigned next = ~0U;
    for (unsigned i = 0; i < spawn->fd_count; i++) {
      if (spawn->from[i] >= (int)at && (unsigned)spawn->from[i] < next) next = (unsigned)spawn->from[i];
    }
    if (next > at) (void)close_range(at, next == ~0U ? next : next - 1, 0);
    if (next == ~0U) return;
    at = next + 1;
  }
}

/* Puts every mapped descriptor on its number. First all are duplicated above every target, so that no dup2 can
 * overwrite one still needed; then placed; then everything else is closed. */
NO_ASAN static const char *place_fds(const struct lm_spawn *spawn) {
  close_others(spawn);
  int high = 2;
  bool wanted[LM_SPAWN_FD_LIMIT] = {false};
  for (unsigned i = 0; i < spawn->fd_count; i++) {
    wanted[spawn->to[i]] = true;
    if (spawn->to[i] > high) high = spawn->to[i];
  }
  int moved[LM_SPAWN_FDS_MAX];
  for (unsigned i = 0; i < spawn->fd_count; i++) {
    moved[i] = fcntl(spawn->from[i], F_DUPFD_CLOEXEC, high + 1);
    if (moved[i] < 0) return "dup";
  }
  int null = -1;
  for (int fd = 0; fd < 3; fd++) {
    if (wanted[fd]) continue;
    if (null < 0) {
      int opened = open("/dev/null", O_RDWR | O_CLOEXEC);
      if (opened < 0) return "open /dev/null";
      null = fcntl(opened, F_DUPFD_CLOEXEC, high + 1);
      if (null < 0) return "dup";
    }
    if (dup2(null, fd) < 0) return "dup2";
    wanted[fd] = true;
  }
  for (unsigned i = 0; i < spawn->fd_count; i++) {
    if (dup2(moved[i], spawn->to[i]) < 0) return "dup2";
  }
  for (int fd = 3; fd <= high; fd++) {
    if (!wanted[fd]) (void)close(fd);
  }
  /* Everything of ours is close-on-exec already; this is for descriptors that are not ours. Absent before Linux 5.9. */
  (void)close_range((unsigned)high + 1, ~0U, 0);
  return NULL;
}

/* What Node has doors for and we have no use for: its inspector listens on a TCP port, and libuv makes a ring for
 * every loop, whatever UV_USE_IO_URING says. No sandbox: whoever runs code in there is root. Kernels without seccomp
 * filters leave the doors as Node does. */
static struct sock_filter closed_doors[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 4, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 2),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 2),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
};

NO_ASAN static void close_doors(void) {
  const struct sock_fprog program = {sizeof closed_doors / sizeof closed_doors[0], closed_doors};
  unsigned flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0 || errno != EACCES) return;
  /* Without CAP_SYS_ADMIN. An engine runs no program that would lose by it. */
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
    (void)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  }
}

/* One write(2), as cgroup files want it. 0 or an errno. */
NO_ASAN static int put(const char *path, const char *text, size_t len) {
  int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno;
  int error = write(fd, text, len) < 0 ? errno : 0;
  (void)close(fd);
  return error;
}

/* Not by the parent: the program's very first memory is to be charged there. */
NO_ASAN static void move(const struct lm_spawn *spawn) {
  for (unsigned i = 0; i < spawn->move_count; i++) {
    struct lm_move *to = &spawn->moves[i];
    to->error = put(to->procs, "0", 1);
    if (to->error == ENOENT || to->error == ENODEV) to->error = put(to->fallback, "0", 1);
  }
  if (spawn->oom_score != NULL) (void)put("/proc/self/oom_score_adj", spawn->oom_score, strlen(spawn->oom_score));
}

NO_ASAN static int child_main(void *arg) {
  struct attempt *a = arg;
  const struct lm_spawn *spawn = a->spawn;
  for (int sig = 1; sig < NSIG; sig++) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    (void)sigaction(sig, &action, NULL);
  }
  if (spawn->die_with_parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return child_fail(a, "prctl PR_SET_PDEATHSIG");
    /* The parent may have died before the call above. */
    if (getppid() != a->parent) return 127;
  }
  if (spawn->new_session) {
    if (setsid() < 0) return child_fail(a, "setsid");
  } else if (setpgid(0, 0) < 0) {
    return child_fail(a, "setpgid");
  }
  if (chdir(spawn->cwd) < 0) return child_fail(a, "chdir");
  const char *failed = place_fds(spawn);
  if (failed != NULL) return child_fail(a, failed);
  /* Not before: there may have been no room for a descriptor. */
  move(spawn);
  /* Not before: it may be less than the numbers in use here. */
  if (spawn->nofile != NULL) (void)setrlimit(RLIMIT_NOFILE, spawn->nofile);
  sigset_t mask;
  (void)sigemptyset(&mask);
  if (spawn->confined) {
    close_doors();
    /* Node blocks it, too, and with --disable-sigusr1 never stops to; but it must not die of one before that. */
    (void)sigaddset(&mask, SIGUSR1);
  }
  (void)sigprocmask(SIG_SETMASK, &mask, NULL);
  (void)execve(a->path, spawn->argv, spawn->env);
  return child_fail(a, "execve");
}

static bool is_program(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

char *lm_find_program(const char *name, const char *path_list) {
  if (strchr(name, '/') != NULL) return lm_strdup(name);
  const char *at = path_list != NULL ? path_list : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  if (*name == '\0') at = "";
  while (*at != '\0') {
    size_t len = strcspn(at, ":");
    if (len > 0) {
      char *path = lm_format("%.*s/%s", (int)len, at, name);
      if (is_program(path)) return path;
      free(path);
    }
    at += len;
    if (*at == ':') at++;
  }
  errno = ENOENT;
  return NULL;
}

static const char *path_of(char *const *env) {
  for (; *env != NULL; env++) {
    const char *value = lm_after(*env, "PATH=");
    if (value != NULL) return value;
  }
  return NULL;
}

pid_t lm_spawn(const struct lm_spawn *spawn, struct lm_error *err) {
  if (spawn->fd_count > LM_SPAWN_FDS_MAX) return lm_fail(err, E2BIG, "descriptor map");
  for (unsigned i = 0; i < spawn->fd_count; i++) {
    if (spawn->to[i] < 0 || spawn->to[i] >= LM_SPAWN_FD_LIMIT) return lm_fail(err, EBADF, "descriptor map");
    for (unsigned j = 0; j < i; j++) {
      if (spawn->to[i] == spawn->to[j]) return lm_fail(err, EINVAL, "descriptor map");
    }
  }
  LM_CLEANUP_FREE char *path = lm_find_program(spawn->program, path_of(spawn->env));
  if (path == NULL) return lm_fail(err, errno, "execve %s", spawn->program);

  static _Alignas(64) uint8_t stack[32768];
  struct attempt attempt = {.spawn = spawn, .path = path, .parent = getpid()};
  /* No signal may run a handler in the child while it shares our memory. */
  sigset_t all, before;
  (void)sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, &before);
  pid_t pid = clone(child_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &attempt);
  int error = errno;
  (void)sigprocmask(SIG_SETMASK, &before, NULL);
  if (pid < 0) return lm_fail(err, error, "clone");
  if (attempt.error == 0) return pid;
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
  }
  const char *subject = strcmp(attempt.step, "execve") == 0  ? path
                        : strcmp(attempt.step, "chdir") == 0 ? spawn->cwd
                                                             : "";
  return lm_fail(err, attempt.error, "%s%s%s", attempt.step, *subject == '\0' ? "" : " ", subject);
}
