#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "spawn.h"

extern char **environ;

/* Reads what is there; false at end of file. Beyond the limit output is read and forgotten, so that nobody blocks. */
static bool drain(int fd, struct lm_buf *to) {
  char bytes[8192];
  for (;;) {
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    if (to->len < LM_RUN_OUTPUT_MAX) lm_buf_append(to, bytes, (size_t)n);
  }
}

/* Until the program ends (not: until its output does, which its own children may hold open) or time is up. */
static void collect(struct lm_run *run, int pidfd, int out, int err) {
  int64_t deadline = lm_now_ms() + run->budget_ms;
  struct pollfd polls[3] = {{pidfd, POLLIN, 0}, {out, POLLIN, 0}, {err, POLLIN, 0}};
  for (;;) {
    int64_t left = deadline - lm_now_ms();
    if (left <= 0) {
      run->timed_out = true;
      return;
    }
    if (poll(polls, 3, (int)left) < 0 && errno != EINTR) return;
    if (polls[1].revents != 0 && !drain(out, &run->out)) polls[1].fd = -1;
    if (polls[2].revents != 0 && !drain(err, &run->err)) polls[2].fd = -1;
    if (polls[0].revents != 0) break;
  }
  (void)drain(out, &run->out);
  (void)drain(err, &run->err);
}

int lm_run(struct lm_run *run, struct lm_error *err) {
  int out[2], errs[2];
  if (pipe2(out, O_CLOEXEC) < 0) return lm_fail(err, errno, "pipe");
  LM_CLEANUP_CLOSE int out_read = out[0];
  LM_CLEANUP_CLOSE int out_write = out[1];
  if (pipe2(errs, O_CLOEXEC) < 0) return lm_fail(err, errno, "pipe");
  LM_CLEANUP_CLOSE int err_read = errs[0];
  LM_CLEANUP_CLOSE int err_write = errs[1];
  (void)lm_set_nonblock(out_read);
  (void)lm_set_nonblock(err_read);
  const int from[] = {out_write, err_write, run->input};
  const int to[] = {1, 2, 0};
  const struct lm_spawn spawn = {
      .program = run->argv[0],
      .argv = run->argv,
      .env = run->env != NULL ? run->env : environ,
      .confined = run->confined,
      .cwd = run->cwd != NULL ? run->cwd : ".",
      .from = from,
      .to = to,
      .fd_count = run->input >= 0 ? 3 : 2,
      .die_with_parent = true,
  };
  pid_t pid = lm_spawn(&spawn, err);
  if (pid < 0) return -1;
  lm_close(&out_write);
  lm_close(&err_write);
  LM_CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
  collect(run, pidfd, out_read, err_read);
  if (run->timed_out) {
    (void)kill(-pid, SIGKILL);
    (void)kill(pid, SIGKILL);
  }
  while (waitpid(pid, &run->status, 0) < 0 && errno == EINTR) {
  }
  return 0;
}

char *lm_run_failure(const struct lm_run *run) {
  int len = (int)(run->err.len > 300 ? 300 : run->err.len);
  while (len > 0 && run->err.data[len - 1] == '\n') len--;
  const char *text = len == 0 ? "" : (const char *)run->err.data;
  if (run->timed_out) return lm_format("killed after %d ms: %.*s", run->budget_ms, len, text);
  if (WIFSIGNALED(run->status)) return lm_format("signal %d: %.*s", WTERMSIG(run->status), len, text);
  return lm_format("exit status %d: %.*s", WEXITSTATUS(run->status), len, text);
}

void lm_run_free(struct lm_run *run) {
  lm_buf_free(&run->out);
  lm_buf_free(&run->err);
}
