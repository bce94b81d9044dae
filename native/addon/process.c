/* Processes: pidfds, signals, the subreaper flag, and this one's pages. */
#include "addon.h"

#include <limits.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/pidfd.h since 6.13 and, for exit_code, 6.15; older headers lack it. */
struct info_v0 {
  uint64_t mask;
  uint64_t cgroupid;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
_Static_assert(sizeof(struct info_v0) == 64, "struct pidfd_info, version 0");
#define INFO_EXIT (UINT64_C(1) << 3)
#define GET_INFO _IOWR(0xFF, 11, struct info_v0)

static napi_value pidfd_open_(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int pid;
  if (!get_args(env, info, args, 1, NULL) || !arg_int(env, args[0], "pid", &pid)) return NULL;
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return throw_errno(env, errno, "pidfd_open", NULL);
  return value_int(env, fd);
}

static napi_value pidfd_send_signal_(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd, number;
  if (!get_args(env, info, args, 2, NULL) || !arg_int(env, args[0], "pidfd", &fd) ||
      !arg_int(env, args[1], "signal", &number)) {
    return NULL;
  }
  if (syscall(SYS_pidfd_send_signal, fd, number, NULL, 0) != 0)
    return throw_errno(env, errno, "pidfd_send_signal", NULL);
  return value_undefined(env);
}

static napi_value pidfd_exit_status(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, args, 1, NULL) || !arg_int(env, args[0], "pidfd", &fd)) return NULL;
  struct info_v0 data;
  memset(&data, 0, sizeof(data));
  data.mask = INFO_EXIT;
  if (ioctl(fd, GET_INFO, &data) != 0) {
    /* ENOTTY, EINVAL: the kernel is older than 6.13. ESRCH: it is older than 6.15, or the pidfd was opened after the
     * reaping. */
    if (errno == ENOTTY || errno == EINVAL || errno == ESRCH) return value_null(env);
    return throw_errno(env, errno, "ioctl", NULL);
  }
  return (data.mask & INFO_EXIT) != 0 ? value_int(env, data.exit_code) : value_null(env);
}

/* linux/pidfd.h since 6.9. */
#define SIGNAL_PROCESS_GROUP (1U << 2)

/* The group that the process behind a pidfd leads. Before Linux 6.9 only while the leader was not reaped: its number
 * is then nobody else's. */
static napi_value pidfd_signal_group(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int fd, pid, number;
  if (!get_args(env, info, args, 3, NULL) || !arg_int(env, args[0], "pidfd", &fd) ||
      !arg_int(env, args[1], "pid", &pid) || !arg_int(env, args[2], "signal", &number)) {
    return NULL;
  }
  long result = syscall(SYS_pidfd_send_signal, fd, number, NULL, SIGNAL_PROCESS_GROUP);
  if (result != 0 && errno == EINVAL && pid > 1) {
    result = syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0);
    if (result == 0) result = kill(-pid, number);
  }
  if (result != 0) return throw_errno(env, errno, "pidfd_send_signal", NULL);
  return value_undefined(env);
}

static napi_value set_subreaper(napi_env env, napi_callback_info info) {
  napi_value args[1];
  bool on;
  if (!get_args(env, info, args, 1, NULL) || !arg_bool(env, args[0], "on", &on)) return NULL;
  if (prctl(PR_SET_CHILD_SUBREAPER, on ? 1UL : 0UL, 0UL, 0UL, 0UL) != 0) return throw_errno(env, errno, "prctl", NULL);
  return value_undefined(env);
}

static void release(uintptr_t begin, uintptr_t end) {
  (void)madvise((void *)begin, end - begin, MADV_RANDOM);
  (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* The program has no name here; what has no file, the kernel's own, is left alone. */
static int release_segments(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  const uintptr_t page = *(const uintptr_t *)data;
  if (info->dlpi_name[0] != '\0' && info->dlpi_name[0] != '/') return 0;
  for (size_t i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) != 0) continue;
    uintptr_t begin = (info->dlpi_addr + segment->p_vaddr + page - 1) & ~(page - 1);
    uintptr_t end = (info->dlpi_addr + segment->p_vaddr + segment->p_memsz) & ~(page - 1);
    if (begin >= end) continue;
    release(begin, end);
  }
  return 0;
}

/* V8 maps its built-in functions once more, near the code it compiles: a segment that only /proc/self/maps knows of. */
static void release_builtins(void) {
  struct stat program;
  FILE *maps = fopen("/proc/self/maps", "re");
  if (maps == NULL) return;
  char line[PATH_MAX + 128];
  bool is_known = stat("/proc/self/exe", &program) == 0;
  while (is_known && fgets(line, sizeof line, maps) != NULL) {
    unsigned long begin, end, inode;
    char access[5];
    /* Nothing writes to code: what is mapped again is the file's. */
    if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &begin, &end, access, &inode) != 4) continue;
    if (strcmp(access, "r-xp") == 0 && inode == program.st_ino) release((uintptr_t)begin, (uintptr_t)end);
  }
  (void)fclose(maps);
}

/* Unmaps the pages of code and constants (the files', which nothing has written to): what is used again
 * is mapped again, page by page and without its neighbours. And gives free heap back. */
static napi_value release_program(napi_env env, napi_callback_info info) {
  (void)info;
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  (void)dl_iterate_phdr(release_segments, &page);
  release_builtins();
  (void)malloc_trim(0);
  return value_undefined(env);
}

bool register_process(napi_env env, napi_value exports) {
  const struct function table[] = {
      {"pidfdOpen", pidfd_open_},
      {"pidfdSendSignal", pidfd_send_signal_},
      {"pidfdExitStatus", pidfd_exit_status},
      {"pidfdSignalGroup", pidfd_signal_group},
      {"setSubreaper", set_subreaper},
      {"releaseProgram", release_program},
  };
  return REGISTER(env, exports, table);
}
