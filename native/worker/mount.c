/* Mounting a list on a root file system. INVARIANTS: either all of it is mounted in the end, or none; a target never leads out
 * of the root: the kernel resolves it with that as its root, and it is mounted on by descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "worker.h"

#define BUSY_MS 2500
#define RESOLVE_TRIES 32
#define LINK_MAX ((size_t)4096)

struct list {
  char root[PATH_MAX];
  struct lm_buf made; /* char *: where something was mounted, in order */
  struct lm_failure *failure;
};

/* One `mount` of the list. */
struct entry {
  const char *type, *source, *target, *cwd, *data, *uid_map, *gid_map;
  unsigned long flags;
  unsigned long late_flags; /* of these, what a bind mount takes only from a second call */
  unsigned long propagation;
  unsigned long lower_count;
  char **lowers;
  bool loop;
};

/* Opens the target: before the mount the directory, after it what is mounted there. A descriptor, or -1. */
static int open_target(struct list *list, const char *target) {
  LM_CLEANUP_CLOSE int root = open(list->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return lm_failed(list->failure, "open", list->root);
  struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  /* EAGAIN: something was renamed or mounted meanwhile, and the kernel cannot tell that it stayed inside. */
  for (int tries = 1;; tries++) {
    int fd = (int)syscall(SYS_openat2, root, *target == '\0' ? "." : target, &how, sizeof how);
    if (fd >= 0) return fd;
    if ((errno != EAGAIN && errno != EINTR) || tries == RESOLVE_TRIES) return lm_failed(list->failure, "openat2", target);
  }
}

/* Where the target is: a descriptor would keep a mount busy. To be freed; NULL with the failure filled. */
static char *plain_path(struct list *list, const char *target) {
  if (*target == '\0') return lm_strdup(list->root);
  LM_CLEANUP_CLOSE int fd = open_target(list, target);
  if (fd < 0) return NULL;
  LM_CLEANUP_FREE char *link = lm_format("/proc/self/fd/%d", fd);
  char path[LINK_MAX];
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) {
    (void)lm_failed(list->failure, "readlink", target);
    return NULL;
  }
  path[n] = '\0';
  return lm_strdup(path);
}

/* Something is mounted there now, and is to be unmounted again if the list fails. */
static int note(struct list *list, const char *target) {
  char *path = plain_path(list, target);
  if (path == NULL) return -1;
  lm_buf_append(&list->made, &path, sizeof path);
  return 0;
}

static void undo(struct list *list) {
  char **made = (char **)(void *)list->made.data;
  for (size_t i = list->made.len / sizeof *made; i > 0; i--) {
    const char *path = made[i - 1];
    if (lm_unmount_point(path, BUSY_MS) == 0) continue;
    LM_CLEANUP_FREE char *line = lm_format("mount on %s: %s", path, strerror(errno));
    lm_buf_append(&list->failure->extra, line, strlen(line) + 1);
  }
}

/* Mounts on the open target. With `cwd`, paths in the options are relative to it. */
static int mount_on(struct list *list, const char *source, int target, const char *type, unsigned long flags,
                    const char *cwd, const char *data) {
  /* The kernel would cut them off without a word. */
  if (strlen(data) >= (size_t)sysconf(_SC_PAGESIZE)) {
    errno = E2BIG;
    return lm_failed(list->failure, "options", "");
  }
  LM_CLEANUP_FREE char *path = lm_format("/proc/self/fd/%d", target);
  if (*cwd != '\0' && chdir(cwd) < 0) return lm_failed(list->failure, "chdir", cwd);
  int result = mount(source, path, type, flags, *data == '\0' ? NULL : data);
  if (result < 0) (void)lm_failed(list->failure, "mount", "");
  if (*cwd != '\0' && chdir("/") < 0) return lm_failed(list->failure, "chdir", "/");
  return result;
}

static int mount_entry(struct list *list, const struct entry *entry, int target, const char *cwd) {
  char device[32];
  /* Once mounted, or not, nothing but the mount holds the device: it detaches by itself. */
  LM_CLEANUP_CLOSE int loop = -1;
  const char *source = entry->source;
  if (entry->loop) {
    loop = lm_loop_attach(source, (entry->flags & MS_RDONLY) != 0, device, list->failure);
    if (loop < 0) return -1;
    source = device;
  }
  return mount_on(list, source, target, entry->type, entry->flags, cwd, entry->data);
}

/* An overlay on mapped layers: each is bind-mounted through the user namespace at a temporary place, 0 and so on, the
 * overlay is mounted over those, and then they can go: it holds its layers by clones of its own (Linux 5.19). */
static int mount_mapped_overlay(struct list *list, const struct entry *entry, int target, int user_namespace) {
  LM_CLEANUP_FREE char *dir = lm_format("%s/lamina-idmap-XXXXXX", entry->cwd);
  if (mkdtemp(dir) == NULL) return lm_failed(list->failure, "mkdtemp", entry->cwd);
  int result = 0;
  unsigned long made = 0;
  for (; made < entry->lower_count && result == 0; made++) {
    LM_CLEANUP_FREE char *path = lm_format("%s/%lu", dir, made);
    if (mkdir(path, 0700) < 0) {
      result = lm_failed(list->failure, "mkdir", "");
      break;
    }
    result = lm_idmap_mount(entry->lowers[made], path, user_namespace, list->failure);
  }
  if (result == 0) result = mount_entry(list, entry, target, dir);
  for (unsigned long i = 0; i < made; i++) {
    LM_CLEANUP_FREE char *path = lm_format("%s/%lu", dir, i);
    (void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    (void)rmdir(path);
  }
  if (rmdir(dir) < 0 && result == 0) {
    result = note(list, entry->target) < 0 ? -1 : lm_failed(list->failure, "rmdir", "");
  }
  return result;
}

/* The mount itself, with all but what needs calls of its own. */
static int make(struct list *list, const struct entry *entry, int user_namespace) {
  LM_CLEANUP_CLOSE int target = open_target(list, entry->target);
  if (target < 0) return -1;
  if (entry->lower_count > 0) return mount_mapped_overlay(list, entry, target, user_namespace);
  return mount_entry(list, entry, target, entry->cwd);
}

/* A mount that is no overlay, seen through the user namespace: on top of itself. */
static int map_mounted(struct list *list, const struct entry *entry, int user_namespace) {
  LM_CLEANUP_CLOSE int mounted = open_target(list, entry->target);
  if (mounted < 0) return -1;
  LM_CLEANUP_FREE char *path = lm_format("/proc/self/fd/%d", mounted);
  if (lm_idmap_mount(path, path, user_namespace, list->failure) < 0) {
    list->failure->path = ""; /* a descriptor's says nothing */
    return -1;
  }
  return note(list, entry->target);
}

static int finish(struct list *list, const struct entry *entry) {
  LM_CLEANUP_CLOSE int mounted = open_target(list, entry->target);
  if (mounted < 0) return -1;
  if ((entry->flags & MS_BIND) != 0 && entry->late_flags != 0) {
    unsigned long flags = (entry->flags & ~(unsigned long)MS_REC) | MS_REMOUNT;
    if (mount_on(list, "none", mounted, "", flags, "", "") < 0) return -1;
  }
  return entry->propagation == 0 ? 0 : mount_on(list, "none", mounted, "", entry->propagation, "", "");
}

static int do_mount(struct list *list, struct lm_words *words) {
  struct entry entry = {.type = lm_word(words), .source = lm_word(words), .target = lm_word(words)};
  entry.flags = lm_number(words);
  entry.late_flags = lm_number(words);
  entry.propagation = lm_number(words);
  entry.loop = lm_number(words) != 0;
  entry.cwd = lm_word(words);
  entry.data = lm_word(words);
  entry.uid_map = lm_word(words);
  entry.gid_map = lm_word(words);
  entry.lower_count = lm_number(words);
  entry.lowers = words->at;
  for (unsigned long i = 0; i < entry.lower_count; i++) (void)lm_word(words);
  LM_CLEANUP_CLOSE int user_namespace = -1;
  if (*entry.uid_map != '\0') {
    user_namespace = lm_user_namespace(entry.uid_map, entry.gid_map, list->failure);
    if (user_namespace < 0) return -1;
  }
  if (make(list, &entry, user_namespace) < 0) return -1;
  if ((entry.flags & MS_REMOUNT) == 0 && note(list, entry.target) < 0) return -1;
  if (user_namespace >= 0 && entry.lower_count == 0 && map_mounted(list, &entry, user_namespace) < 0) return -1;
  return finish(list, &entry);
}

/* Waits for a helper for so long; kills it then. */
static int await(struct list *list, pid_t pid, const char *program, unsigned long timeout_ms) {
  LM_CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
  struct pollfd wait = {.fd = pidfd, .events = POLLIN};
  bool ended = pidfd < 0 || timeout_ms == 0 || poll(&wait, 1, timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms) > 0;
  if (!ended) (void)kill(pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (ended && WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  LM_CLEANUP_FREE char *how = !ended ? lm_format("%s: killed after %lu ms", program, timeout_ms)
                              : WIFEXITED(status)
                                  ? lm_format("%s: exit status %d", program, WEXITSTATUS(status))
                                  : lm_format("%s: signal %d", program, WTERMSIG(status));
  errno = ended ? ECHILD : ETIMEDOUT;
  return lm_failed(list->failure, "helper", how);
}

/* A program that mounts (`mount.fuse`). What it leaves running becomes the keeper's child. */
static int do_helper(struct list *list, struct lm_words *words) {
  unsigned long timeout_ms = lm_number(words);
  char *program = lm_word(words);
  char *source = lm_word(words);
  const char *target = lm_word(words);
  unsigned long count = lm_number(words);
  char **arguments = words->at;
  for (unsigned long i = 0; i < count; i++) (void)lm_word(words);
  LM_CLEANUP_FREE char *path = plain_path(list, target);
  if (path == NULL) return -1;
  LM_CLEANUP_FREE char **argv = lm_alloc((count + 4) * sizeof *argv);
  argv[0] = program;
  argv[1] = source;
  argv[2] = path;
  if (count > 0) memcpy(argv + 3, arguments, count * sizeof *argv);
  pid_t pid = fork();
  if (pid == 0) {
    (void)dup2(STDERR_FILENO, STDOUT_FILENO);
    (void)execvp(program, argv);
    _exit(127);
  }
  if (pid < 0) return lm_failed(list->failure, "fork", "");
  if (await(list, pid, program, timeout_ms) < 0) return -1;
  return note(list, target);
}

static int do_all(struct list *list, struct lm_words *words) {
  for (; *words->at != NULL; list->failure->index++) {
    const char *kind = lm_word(words);
    bool is_helper = strcmp(kind, "helper") == 0;
    if (!is_helper && strcmp(kind, "mount") != 0) exit(2);
    if ((is_helper ? do_helper(list, words) : do_mount(list, words)) < 0) return -1;
  }
  return 0;
}

int lm_work_mount(struct lm_words *words, struct lm_failure *failure) {
  (void)close_range(FIRST_FOREIGN_FD, ~0U, 0);
  struct list list = {.failure = failure};
  const char *root = lm_word(words);
  if (lm_real_path(root, list.root) < 0) return lm_failed(failure, "open", root);
  if (do_all(&list, words) == 0) return 0;
  undo(&list);
  return -1;
}
