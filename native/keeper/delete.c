/* `delete`: what the daemon runs when a shim is gone, to clear up after it. It may run several times, at the same time,
 * or after somebody else has removed things: nothing missing is an error. Whatever fails is a warning, the reply always
 * comes. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cgroup.h"
#include "json.h"
#include "paths.h"
#include "proto.h"
#include "registration.h"
#include "run.h"
#include "socket.h"
#include "unmount.h"
#include "verbs.h"

#define DEFAULT_ROOT "/run/containerd/runc"
#define DEFAULT_RUNTIME "runc"
/* The daemon kills this verb after 5 s; runc's own patience is 10 s. */
#define RUNTIME_BUDGET_MS 4000
#define STATUS_KILLED 137
#define FILE_MAX ((size_t)1 << 20)
/* As much as `start` takes. */
#define CONFIG_MAX ((size_t)64 << 20)
/* From its begin; then the answer has to be there. */
#define VERB_MS 4500

struct answer {
  uint64_t pid;
  uint64_t status;
  int64_t seconds;
  int64_t nanos;
};

static void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void warn(const char *format, ...) {
  va_list args;
  va_start(args, format);
  LM_CLEANUP_FREE char *text = NULL;
  if (vasprintf(&text, format, args) < 0) text = NULL;
  va_end(args);
  if (text == NULL) return;
  LM_CLEANUP_FREE char *line = lm_format("%s: warning: %s\n", LM_NAME, text);
  (void)lm_write_all(STDERR_FILENO, line, strlen(line));
}

/* A small file of the bundle as text without surrounding white space, to be freed; NULL when it is absent or empty. */
static char *read_text(int bundle, const char *name) {
  LM_CLEANUP_BUF struct lm_buf text = {0};
  int result = lm_read_file(bundle, name, FILE_MAX, &text);
  if (result < 0) {
    if (result != -ENOENT) warn("%s: %s", name, strerror(-result));
    return NULL;
  }
  while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL) text.len--;
  if (text.len == 0) return NULL;
  return lm_format("%.*s", (int)text.len, (const char *)text.data);
}

/* Finds members of a JSON file of the bundle. false when it is absent or broken. */
static bool read_json(int bundle, const char *name, size_t max, struct lm_json_want *wants, size_t count) {
  LM_CLEANUP_BUF struct lm_buf text = {0};
  int result = lm_read_file(bundle, name, max, &text);
  if (result < 0) {
    if (result != -ENOENT) warn("%s: %s", name, strerror(-result));
    return false;
  }
  struct lm_error err;
  if (lm_json_find(text.data, text.len, wants, count, &err) == 0) return true;
  warn("%s: %s", name, err.text);
  return false;
}

/* The runtime knows a cgroup from its state file, which it writes after it has made the cgroup: killed in between, it
 * leaves one that its own `delete` does not find. */
static void remove_left_cgroup(int bundle, int64_t deadline) {
  struct lm_json_want want = {.path = {"linux", "cgroupsPath"}, .kind = LM_JSON_STRING};
  if (bundle < 0 || !read_json(bundle, "config.json", CONFIG_MAX, &want, 1)) return;
  struct lm_error err;
  if (want.text != NULL && lm_remove_cgroup(want.text, deadline, &err) < 0) warn("%s", err.text);
  lm_json_free(&want, 1);
}

/* @param path of the bundle, where the runtime, and with it its hooks, are to run */
static void delete_container(int bundle, const char *path, const char *namespace, const char *id, int64_t deadline) {
  struct lm_json_want options[] = {
      {.path = {"root"}, .kind = LM_JSON_STRING},
      {.path = {"systemd_cgroup"}, .kind = LM_JSON_BOOL},
  };
  if (bundle >= 0) (void)read_json(bundle, "options.json", FILE_MAX, options, 2);
  const char *base = options[0].text != NULL && *options[0].text != '\0' ? options[0].text : DEFAULT_ROOT;
  LM_CLEANUP_FREE char *root = lm_format("%s/%s", base, namespace);
  LM_CLEANUP_FREE char *state = lm_format("%s/%s", root, id);
  lm_json_free(options, 2);
  struct stat info;
  if (lstat(state, &info) < 0) return;

  static char default_runtime[] = DEFAULT_RUNTIME, root_flag[] = "--root", systemd_flag[] = "--systemd-cgroup",
              verb[] = "delete", force_flag[] = "--force";
  LM_CLEANUP_FREE char *given = bundle >= 0 ? read_text(bundle, "runtime") : NULL;
  char *argv[8];
  int argc = 0;
  argv[argc++] = given != NULL ? given : default_runtime;
  argv[argc++] = root_flag;
  argv[argc++] = root;
  if (options[1].truth) argv[argc++] = systemd_flag;
  argv[argc++] = verb;
  argv[argc++] = force_flag;
  argv[argc++] = (char *)(uintptr_t)id;
  argv[argc] = NULL;
  struct lm_run run = {
      .argv = argv, .cwd = bundle >= 0 ? path : NULL, .input = -1, .budget_ms = RUNTIME_BUDGET_MS};
  struct lm_error err;
  if (lm_run(&run, &err) < 0) {
    warn("delete of %s: %s", id, err.text);
  } else if (!lm_run_ok(&run)) {
    LM_CLEANUP_FREE char *failure = lm_run_failure(&run);
    warn("%s delete --force %s: %s", argv[0], id, failure);
  }
  lm_run_free(&run);
  remove_left_cgroup(bundle, deadline);
}

static void unmount_rootfs(const char *bundle) {
  char real[PATH_MAX];
  /* Only the bundle is resolved: were `rootfs` itself a link, what it points to is none of our mounts. */
  if (realpath(bundle, real) == NULL) return;
  LM_CLEANUP_FREE char *rootfs = lm_format("%s/rootfs", real);
  struct lm_error err;
  if (lm_unmount_all(rootfs, &err) < 0) warn("%s", err.text);
}

static void remove_dead_socket(int bundle) {
  LM_CLEANUP_FREE char *address = read_text(bundle, "address");
  const char *path = address == NULL ? NULL : lm_after(address, "unix://");
  if (path == NULL || *path != '/') return;
  /* In a pod the others' shim may still answer there. */
  int live = lm_socket_probe(path);
  if (live == 0 || live == -ENOENT) lm_unregister_socket(path);
  if (live == 0) (void)unlink(path);
}

static int64_t integer(const char *text) {
  return text == NULL ? 0 : strtoll(text, NULL, 10);
}

static struct answer how_it_ended(int bundle) {
  struct timespec now;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  struct answer answer = {.status = STATUS_KILLED, .seconds = now.tv_sec, .nanos = now.tv_nsec};
  if (bundle < 0) return answer;
  /* The engine has written down how init ended, when it had seen it. */
  struct lm_json_want wants[] = {
      {.path = {"pid"}, .kind = LM_JSON_NUMBER},
      {.path = {"exitStatus"}, .kind = LM_JSON_NUMBER},
      {.path = {"exitedAtSeconds"}, .kind = LM_JSON_NUMBER},
      {.path = {"exitedAtNanos"}, .kind = LM_JSON_NUMBER},
  };
  if (read_json(bundle, "lamina-exit.json", FILE_MAX, wants, 4)) {
    bool whole = wants[1].text != NULL && wants[2].text != NULL;
    if (whole) {
      answer = (struct answer){
          .pid = (uint64_t)integer(wants[0].text) & UINT32_MAX,
          .status = (uint64_t)integer(wants[1].text) & UINT32_MAX,
          .seconds = integer(wants[2].text),
          .nanos = integer(wants[3].text),
      };
    }
    lm_json_free(wants, 4);
    if (whole) return answer;
    warn("lamina-exit.json: exitStatus or exitedAtSeconds is missing");
  }
  LM_CLEANUP_FREE char *pid = read_text(bundle, "init.pid");
  answer.pid = (uint64_t)integer(pid) & UINT32_MAX;
  return answer;
}

static int reply(const struct answer *answer, struct lm_error *err) {
  LM_CLEANUP_BUF struct lm_buf time = {0};
  lm_proto_put_varint(&time, 1, (uint64_t)answer->seconds);
  lm_proto_put_varint(&time, 2, (uint64_t)answer->nanos);
  LM_CLEANUP_BUF struct lm_buf out = {0};
  lm_proto_put_varint(&out, 1, answer->pid);
  lm_proto_put_varint(&out, 2, answer->status);
  lm_proto_put_bytes(&out, 3, time.data, time.len);
  int result = lm_write_all(STDOUT_FILENO, out.data, out.len);
  return result < 0 ? lm_fail(err, -result, "write the reply") : 0;
}

/* -bundle, else the directory of that id beside the working directory (which may be another container's), else that
 * one. */
static char *bundle_of(const struct lm_flags *flags) {
  if (*flags->bundle != '\0') return lm_strdup(flags->bundle);
  LM_CLEANUP_FREE char *sibling = lm_format("../%s", flags->id);
  return lm_strdup(access(sibling, F_OK) == 0 ? sibling : ".");
}

int lm_delete(const struct lm_flags *flags, struct lm_error *err) {
  if (*flags->id == '\0') return lm_fail(err, 0, "shim id cannot be empty");
  if (lm_check_name("id", flags->id, err) < 0 || lm_check_name("namespace", flags->namespace, err) < 0) return -1;
  (void)unsetenv("NOTIFY_SOCKET");
  const int64_t deadline = lm_now_ms() + VERB_MS;
  LM_CLEANUP_FREE char *path = bundle_of(flags);
  LM_CLEANUP_CLOSE int bundle = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (bundle < 0 && errno != ENOENT) warn("%s: %s", path, strerror(errno));
  delete_container(bundle, path, flags->namespace, flags->id, deadline);
  if (bundle >= 0) {
    unmount_rootfs(path);
    remove_dead_socket(bundle);
  }
  const struct answer answer = how_it_ended(bundle);
  return reply(&answer, err);
}
