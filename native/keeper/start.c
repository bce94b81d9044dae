/* `start`: from the daemon's command line to a listening keeper and its address on stdout. Everything made is taken
 * back on an error; nothing but the reply is ever written to stdout or stderr, because the daemon reads both as one. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "bootstrap.h"
#include "json.h"
#include "keeper.h"
#include "log.h"
#include "library.h"
#include "paths.h"
#include "socket.h"
#include "verbs.h"

#define STDIN_MAX ((size_t)10 << 20)
#define CONFIG_MAX ((size_t)64 << 20)
#define LISTENER_FD 3
#define GO_FD 4

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#define PR_SCHED_CORE_CREATE 1
#endif
#define SCHED_CORE_PROCESS_GROUP 2

/* What to take back, in the order it was made. */
struct undo {
  struct lm_socket *socket;
  bool address;
  bool link;
  pid_t keeper;
};

static void take_back(struct undo *undo) {
  if (undo->keeper > 0) {
    (void)kill(undo->keeper, SIGKILL);
    while (waitpid(undo->keeper, NULL, 0) < 0 && errno == EINTR) {
    }
  }
  if (undo->address) (void)unlink("address");
  if (undo->link) (void)unlink("s");
  lm_socket_undo(undo->socket);
}

/* The grouping id: containers of one pod share a keeper. */
static int grouping_id(const char *bundle, const char *id, char **group, struct lm_error *err) {
  LM_CLEANUP_BUF struct lm_buf text = {0};
  int result = lm_read_file(AT_FDCWD, "config.json", CONFIG_MAX, &text);
  if (result < 0) return lm_fail(err, -result, "%s/config.json", bundle);
  struct lm_json_want wants[] = {
      {.path = {"annotations", "io.containerd.runc.v2.group"}, .kind = LM_JSON_STRING},
      {.path = {"annotations", "io.kubernetes.cri.sandbox-id"}, .kind = LM_JSON_STRING},
  };
  struct lm_error json;
  if (lm_json_find(text.data, text.len, wants, 2, &json) < 0) {
    return lm_fail(err, 0, "%s/config.json: %s", bundle, json.text);
  }
  const char *found = wants[0].text != NULL ? wants[0].text : wants[1].text != NULL ? wants[1].text : id;
  *group = lm_strdup(*found == '\0' ? id : found);
  lm_json_free(wants, 2);
  /* The socket's name is computed from a cleaned path: "../other/group" would be a keeper of another namespace. */
  return lm_check_no_ascent("group", *group, err);
}

/* A cookie for core scheduling: the process group, and whatever it starts, shares no core with others. */
static int core_schedule(struct lm_error *err) {
  const char *wish = getenv("SCHED_CORE");
  if (wish == NULL || *wish == '\0') return 0;
  if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, SCHED_CORE_PROCESS_GROUP, 0) < 0) {
    return lm_fail(err, errno, "core scheduling, for which SCHED_CORE in the daemon's environment asks");
  }
  return 0;
}

/* The keeper dies a little before the daemon does: the parent's score plus one. Not permitted is not an error, the
 * keeper works with any score. */
static int adjust_oom(pid_t keeper, struct lm_error *err) {
  char path[64], text[16];
  (void)snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)getppid());
  LM_CLEANUP_BUF struct lm_buf score = {0};
  if (lm_read_file(AT_FDCWD, path, 64, &score) < 0) return 0;
  lm_buf_append(&score, "", 1);
  long wanted = strtol((const char *)score.data, NULL, 10) + 1;
  int len = snprintf(text, sizeof text, "%ld", wanted > 1000 ? 1000 : wanted);
  (void)snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)keeper);
  LM_CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno == EACCES || errno == EPERM ? 0 : lm_fail(err, errno, "%s", path);
  if (write(fd, text, (size_t)len) < 0 && errno != EACCES && errno != EPERM) return lm_fail(err, errno, "%s", path);
  return 0;
}

/* In the child. It serves only after `go` has come: until then `start` may still fail and take everything back. */
static _Noreturn void become_keeper(struct lm_identity who, int listener, int go) {
  /* First: the daemon's limit may leave no room for what follows. */
  struct rlimit nofile = lm_keeper_raise_nofile();
  (void)setsid();
  /* Until the loop takes them: a keeper that dies of one on its way there would leave its socket. */
  sigset_t later;
  (void)sigemptyset(&later);
  (void)sigaddset(&later, SIGTERM);
  (void)sigaddset(&later, SIGINT);
  (void)sigprocmask(SIG_BLOCK, &later, NULL);
  int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; fd++) (void)dup2(null, fd);
  int high_listener = fcntl(listener, F_DUPFD, 10);
  int high_go = fcntl(go, F_DUPFD, 10);
  if (null < 0 || high_listener < 0 || high_go < 0) _exit(1);
  (void)dup3(high_listener, LISTENER_FD, O_CLOEXEC);
  (void)dup3(high_go, GO_FD, O_CLOEXEC);
  (void)close_range(GO_FD + 1, ~0U, 0);
  /* Not in the bundle: in a group it is removed while others live. */
  (void)!chdir("/");
  char byte;
  ssize_t n;
  do {
    n = read(GO_FD, &byte, 1);
  } while (n < 0 && errno == EINTR);
  (void)close(GO_FD);
  if (n != 1) {
    (void)unlink(who.socket);
    _exit(1);
  }
  /* Once more, for the credentials alone: those who connect see in SO_PEERCRED who has called listen(2) last, and
   * `start` will be gone. */
  (void)listen(LISTENER_FD, LM_BACKLOG);
#ifdef __SANITIZE_ADDRESS__
  exit(lm_keeper_run(who, LISTENER_FD, nofile));
#else
  _exit(lm_keeper_run(who, LISTENER_FD, nofile));
#endif
}

static char *pick(const char *given, const char *fallback) {
  return lm_strdup(given != NULL && *given != '\0' ? given : fallback != NULL ? fallback : "");
}

static int say(const struct lm_bootstrap *bootstrap, const char *address, struct lm_error *err) {
  LM_CLEANUP_BUF struct lm_buf reply = {0};
  lm_bootstrap_reply(bootstrap->dialect, address, &reply);
  int result = lm_write_all(STDOUT_FILENO, reply.data, reply.len);
  return result < 0 ? lm_fail(err, -result, "write the reply") : 0;
}

/* Forks the keeper, replies, lets it go. */
static int launch(const struct lm_flags *flags, const struct lm_bootstrap *bootstrap, const char *bundle,
                  const char *group, const char *address, struct undo *undo, struct lm_error *err) {
  LM_CLEANUP_CLOSE int go_read = -1;
  LM_CLEANUP_CLOSE int go_write = -1;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return lm_fail(err, errno, "pipe");
  go_read = ends[0];
  go_write = ends[1];
  if (core_schedule(err) < 0) return -1;
  /* Before anything moves the keeper or changes its score. */
  struct lm_home home = lm_home_here();
  undo->keeper = fork();
  if (undo->keeper != 0) lm_home_free(&home);
  if (undo->keeper < 0) return lm_fail(err, errno, "fork");
  if (undo->keeper == 0) {
    (void)close(go_write);
    const struct lm_identity who = {
        .namespace = lm_strdup(flags->namespace),
        .id = lm_strdup(flags->id),
        .group = lm_strdup(group),
        .bundle = lm_strdup(bundle),
        .socket = lm_strdup(undo->socket->path),
        .grpc_address = pick(bootstrap->grpc_address, flags->address),
        .ttrpc_address = pick(bootstrap->ttrpc_address, getenv("TTRPC_ADDRESS")),
        .publish_binary = pick(bootstrap->binary, flags->publish_binary),
        .daemon_version = pick(bootstrap->daemon_version, NULL),
        .debug = flags->debug || bootstrap->debug,
        .home = home,
    };
    become_keeper(who, undo->socket->fd, go_read);
  }
  if (adjust_oom(undo->keeper, err) < 0 || say(bootstrap, address, err) < 0) return -1;
  if (write(go_write, "g", 1) != 1) return lm_fail(err, errno, "keeper");
  return 0;
}

static int serve(const struct lm_flags *flags, const struct lm_bootstrap *bootstrap, const char *bundle,
                 const char *group, struct lm_socket *sock, struct lm_error *err) {
  struct undo undo = {.socket = sock};
  LM_CLEANUP_FREE char *address = lm_format("unix://%s", sock->path);
  int result = 0;
  if (bootstrap->socket_dir != NULL) {
    /* So that whoever recomputes the path later knows the directory. */
    (void)unlink("s");
    if (symlink(bootstrap->socket_dir, "s") < 0) result = lm_fail(err, errno, "%s/s", bundle);
    undo.link = result == 0;
  }
  if (result == 0) {
    /* Before the fork: were it written later, a crash in between would leave a shim that nobody finds again. */
    int written = lm_write_file_atomic(AT_FDCWD, "address", ".address", address, strlen(address), 0644);
    if (written < 0) result = lm_fail(err, -written, "%s/address", bundle);
    undo.address = written == 0;
  }
  if (result == 0) {
    result = sock->joined ? say(bootstrap, address, err) : launch(flags, bootstrap, bundle, group, address, &undo, err);
  }
  if (result < 0) take_back(&undo);
  return result;
}

static int check_path_text(const char *what, const char *text, struct lm_error *err) {
  for (const char *c = text; *c != '\0'; c++) {
    if ((unsigned char)*c < ' ' || *c == '"' || *c == '\\') return lm_fail(err, 0, "%s has unusable characters", what);
  }
  return *text == '/' ? 0 : lm_fail(err, 0, "%s %s is not absolute", what, text);
}

/* The parts of an installed engine lie in one folder, to which engine.cjs leads. Where none of the others is there, it is
 * no release of ours that is to be run: it has to say itself what it lacks. */
static int check_parts(const char *script, struct lm_error *err) {
  static const char *const parts[] = {"engine.js", "lamina.node", "lamina-worker"};
  LM_CLEANUP_FREE char *real = realpath(script, NULL);
  char *slash = real == NULL ? NULL : strrchr(real, '/');
  if (slash == NULL) return lm_fail(err, errno, "engine: %s", script);
  *slash = '\0';
  LM_CLEANUP_FREE char *missing = NULL;
  size_t count = 0;
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    char *path = lm_format("%s/%s", real, parts[i]);
    if (access(path, R_OK) < 0) {
      count++;
      free(missing);
      missing = path;
    } else {
      free(path);
    }
  }
  if (count == 0 || count == sizeof parts / sizeof parts[0]) return 0;
  return lm_fail(err, 0, "engine: %s is missing: install Lamina again (scripts/install PREFIX)", missing);
}

/* Without Node, or without the engine, there would be a shim that never answers: better to say so before there is one.
 */
static int check_engine(struct lm_error *err) {
  LM_CLEANUP_FREE char *library = lm_library_find(err);
  if (library == NULL) return -1;
  LM_CLEANUP_FREE char *script = lm_format("%s/engine.cjs", library);
  if (check_parts(script, err) < 0) return -1;
  LM_CLEANUP_FREE char *node = lm_node_path(library);
  if (node != NULL && access(node, X_OK) == 0) return 0;
  const char *given = getenv("LAMINA_NODE");
  if (given != NULL && *given != '\0') return lm_fail(err, 0, "node: LAMINA_NODE is %s: no such program", given);
  return lm_fail(err, 0, "node: not found in %s: install Lamina again, or let LAMINA_NODE name a node", library);
}

static int start_with(const struct lm_flags *flags, const struct lm_bootstrap *bootstrap, const char *bundle,
                      struct lm_error *err) {
  LM_CLEANUP_FREE char *group = NULL;
  LM_CLEANUP_FREE char *state_dir = lm_state_dir();
  if (grouping_id(bundle, flags->id, &group, err) < 0 || check_engine(err) < 0) return -1;
  /* What the keeper could not do better later, and would say only after a while. */
  if (lm_check_state_dir(state_dir, err) < 0 || lm_make_dirs(state_dir, 0700, NULL, err) < 0) return -1;
  const char *dir = bootstrap->socket_dir != NULL ? bootstrap->socket_dir : LM_SOCKET_DIR;
  if (check_path_text("socket directory", dir, err) < 0) return -1;
  LM_CLEANUP_FREE char *path = lm_socket_path(dir, flags->address, flags->namespace, group);
  struct lm_socket sock;
  if (lm_socket_open(&sock, dir, path, err) < 0) return -1;
  int result = serve(flags, bootstrap, bundle, group, &sock, err);
  lm_socket_free(&sock);
  return result;
}

int lm_start(const struct lm_flags *flags, struct lm_error *err) {
  if (*flags->id == '\0') return lm_fail(err, 0, "shim id cannot be empty");
  if (lm_check_name("id", flags->id, err) < 0 || lm_check_name("namespace", flags->namespace, err) < 0) return -1;
  char bundle[PATH_MAX];
  if (getcwd(bundle, sizeof bundle) == NULL) return lm_fail(err, errno, "working directory");
  LM_CLEANUP_FREE char *log = lm_format("%s/log", bundle);
  lm_log_to(log);
  if (flags->unknown != NULL) lm_log("warning", "ignored the flag %s", flags->unknown);
  LM_CLEANUP_BUF struct lm_buf input = {0};
  int result = lm_read_all(STDIN_FILENO, STDIN_MAX, &input);
  if (result < 0) return lm_fail(err, -result, "stdin");
  struct lm_bootstrap bootstrap;
  if (lm_bootstrap_parse(input.data, input.len, flags, &bootstrap, err) < 0) return -1;
  result = start_with(flags, &bootstrap, bundle, err);
  lm_bootstrap_free(&bootstrap);
  return result;
}
