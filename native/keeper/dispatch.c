/* What the engine asks for. Every message is checked here before anything acts on it; an ill-formed one is answered
 * with FAILED EBADMSG and changes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "keeper.h"
#include "log.h"
#include "spawn.h"

#define NAME_MAX_LEN 1024
#define STRINGS_MAX 131072
#define ENV_EDITS_MAX 4096 /* each is compared with all that is there */
#define FDS_RESERVED 32
#define READ_OUT_MS_MAX 86400000 /* as the engine's longest */

static bool is_name(struct lm_field f) {
  return f.len > 0 && f.len <= NAME_MAX_LEN;
}

static void do_welcome(struct lm_keeper *keeper, struct lm_message *m) {
  lm_engine_welcome(keeper, m->head.arg);
}

static void do_decline(struct lm_keeper *keeper, struct lm_message *m) {
  lm_engine_declined(keeper, m->head.version);
}

/* In place of a descriptor of a FIFO, one of our own with both its ends. Whoever waits at the other end of it never
 * sees the engine go. Takes over fd; -errno. */
static int reopen_fifo(int fd) {
  struct stat info;
  int result = -EINVAL;
  if (fd >= 0 && fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode)) {
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    result = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (result < 0) result = -errno;
  }
  lm_close(&fd);
  return result;
}

/* The last numbers are for what frees others: the descriptors of `runc delete`, a pidfd, a line in the log. What would
 * take one of them for good is refused. */
static bool is_short_of_fds(struct lm_keeper *keeper, const struct lm_message *m) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return false;
  for (uint32_t i = 0; i < m->fd_count; i++) {
    if (m->fds[i] < 0 || (rlim_t)m->fds[i] + FDS_RESERVED < limit.rlim_cur) continue;
    lm_log("warning", "nearly no descriptors left: nothing more is taken");
    lm_link_fail(keeper, m->head.serial, EMFILE, "take descriptors");
    return true;
  }
  return false;
}

static void do_put(struct lm_keeper *keeper, struct lm_message *m) {
  if (is_short_of_fds(keeper, m)) return;
  int fd = lm_message_take_fd(m, 0);
  int result = 0;
  if ((m->head.flags & LM_F_REOPEN) != 0) {
    fd = reopen_fifo(fd);
    if (fd < 0) result = fd;
  }
  if (result == 0) result = lm_deposit_put(keeper, m->fields[0], m->fields[1], fd);
  if (result < 0) {
    lm_link_fail(keeper, m->head.serial, -result, "put");
  } else if ((m->head.flags & LM_F_QUIET) == 0) {
    lm_link_done(keeper, m->head.serial);
  }
}

static void do_del(struct lm_keeper *keeper, struct lm_message *m) {
  lm_deposit_del(keeper, m->fields[0]);
}

/* NUL-terminated strings to a NULL-terminated array of pointers into a copy. NULL when the last one is not terminated
 * or there are too many. Both the array and *copy are the caller's. */
static char **strings(struct lm_field f, char **copy, unsigned *count) {
  if (f.len > 0 && ((const char *)f.data)[f.len - 1] != '\0') return NULL;
  unsigned n = 0;
  for (uint32_t i = 0; i < f.len; i++) n += ((const char *)f.data)[i] == '\0';
  if (n > STRINGS_MAX) return NULL;
  *copy = malloc((size_t)f.len + 1);
  char **array = malloc((n + 1) * sizeof *array);
  if (*copy == NULL || array == NULL) {
    free(array);
    return NULL;
  }
  if (f.len > 0) memcpy(*copy, f.data, f.len);
  char *at = *copy;
  for (unsigned i = 0; i < n; i++) {
    array[i] = at;
    at += strlen(at) + 1;
  }
  array[n] = NULL;
  *count = n;
  return array;
}

static bool same_key(const char *a, const char *edit) {
  size_t len = strcspn(edit, "=");
  return strncmp(a, edit, len) == 0 && a[len] == '=';
}

/* The environment for a child: base (unless it starts empty) with each edit applied in order. Pointers are borrowed. */
static char **edited_env(char **base, char **edits, unsigned edit_count) {
  unsigned n = 0;
  while (base[n] != NULL) n++;
  char **env = malloc((n + edit_count + 1) * sizeof *env);
  if (env == NULL) return NULL;
  unsigned count = 0;
  for (; count < n; count++) env[count] = base[count];
  for (unsigned e = 0; e < edit_count; e++) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
      if (!same_key(env[i], edits[e])) env[kept++] = env[i];
    }
    count = kept;
    if (strchr(edits[e], '=') != NULL) env[count++] = edits[e];
  }
  env[count] = NULL;
  return env;
}

static void spawn_parsed(struct lm_keeper *keeper, struct lm_message *m, char **argv, char **env, const char *cwd) {
  int to[LM_FDS_MAX];
  memcpy(to, m->fields[4].data, m->fields[4].len);
  const struct lm_spawn spawn = {
      .program = argv[0],
      .argv = argv,
      .env = env,
      .cwd = cwd,
      .from = m->fds,
      .to = to,
      .fd_count = m->fd_count,
      .die_with_parent = (m->head.flags & LM_F_DIE_WITH_KEEPER) != 0,
      .nofile = &keeper->nofile,
  };
  struct lm_error err;
  pid_t pid = lm_spawn(&spawn, &err);
  if (pid < 0) {
    lm_link_fail(keeper, m->head.serial, err.code, err.text);
    return;
  }
  lm_children_name(keeper, pid, m->fields[0], false);
  lm_link_post(keeper, LM_MSG_SPAWNED, 0, m->head.serial, (uint64_t)pid, lm_blob_make(NULL, 0, pidfd_open(pid, 0)));
}

static void do_spawn(struct lm_keeper *keeper, struct lm_message *m) {
  LM_CLEANUP_FREE char *argv_text = NULL;
  LM_CLEANUP_FREE char *env_text = NULL;
  unsigned argc = 0, edits = 0;
  LM_CLEANUP_FREE char **argv = strings(m->fields[2], &argv_text, &argc);
  LM_CLEANUP_FREE char **edit = strings(m->fields[3], &env_text, &edits);
  struct lm_field where = m->fields[1];
  if (argv == NULL || edit == NULL || argc == 0 || edits > ENV_EDITS_MAX ||
      m->fd_count > LM_FDS_MAX || m->fields[4].len != m->fd_count * sizeof(int32_t) || memchr(where.data, '\0', where.len) != NULL) {
    lm_link_fail(keeper, m->head.serial, EBADMSG, "spawn");
    return;
  }
  static char *none[] = {NULL};
  LM_CLEANUP_FREE char **env = edited_env((m->head.flags & LM_F_CLEAR_ENV) != 0 ? none : keeper->env, edit, edits);
  LM_CLEANUP_FREE char *cwd = lm_format("%.*s", (int)where.len, (const char *)where.data);
  if (env == NULL) {
    lm_link_fail(keeper, m->head.serial, ENOMEM, "spawn");
    return;
  }
  spawn_parsed(keeper, m, argv, env, *cwd == '\0' ? "/" : cwd);
}

static void do_adopt(struct lm_keeper *keeper, struct lm_message *m) {
  pid_t pid = (pid_t)m->head.arg;
  if (pid <= 0 || (uint64_t)pid != m->head.arg || lm_children_check(keeper, pid, m->fields[0]) < 0) {
    lm_link_fail(keeper, m->head.serial, ESRCH, "adopt");
    return;
  }
  int fd = pidfd_open(pid, 0);
  if (fd < 0 && errno != EMFILE && errno != ENFILE && errno != ENOMEM) {
    lm_link_fail(keeper, m->head.serial, errno, "pidfd_open");
    return;
  }
  lm_children_name(keeper, pid, m->fields[0], false);
  lm_link_post(keeper, LM_MSG_ADOPTED, 0, m->head.serial, (uint64_t)pid, lm_blob_make(NULL, 0, fd));
}

static void do_ack(struct lm_keeper *keeper, struct lm_message *m) {
  lm_children_ack(keeper, m->head.serial != 0 ? m->head.serial : (uint32_t)m->head.arg);
}

static void do_send(struct lm_keeper *keeper, struct lm_message *m) {
  if (m->head.serial != 0) {
    const struct lm_frame *answered = lm_conn_frame(keeper, m->head.arg, m->head.serial);
    if (answered != NULL && (m->head.flags & LM_F_STANDING) != 0) lm_answers_keep(keeper, answered, m->fields[0]);
    lm_conn_release(keeper, m->head.arg, m->head.serial);
  }
  lm_conn_send(keeper, m->head.arg, m->fields[0].data, m->fields[0].len);
}

static void do_release(struct lm_keeper *keeper, struct lm_message *m) {
  lm_conn_release(keeper, m->head.arg, m->head.serial);
}

static void do_shut(struct lm_keeper *keeper, struct lm_message *m) {
  lm_conn_shut(keeper, m->head.arg);
}

/* An end of a relay: the entry that field `i` names, or the next descriptor. */
static struct lm_relay_end relay_end(struct lm_message *m, uint32_t i, uint32_t *fd) {
  if (i < m->count && m->fields[i].len > 0) return (struct lm_relay_end){-1, m->fields[i]};
  return (struct lm_relay_end){lm_message_take_fd(m, (*fd)++), {NULL, 0}};
}

static void do_relay(struct lm_keeper *keeper, struct lm_message *m) {
  if (is_short_of_fds(keeper, m)) return;
  uint32_t fds = 0;
  struct lm_relay_end src = relay_end(m, 1, &fds);
  struct lm_relay_end dst = relay_end(m, 2, &fds);
  int result = fds == m->fd_count ? 0 : -EBADMSG;
  if (result == 0) {
    result = lm_relay_start(keeper, m->fields[0], src, dst);
  } else {
    lm_close(&src.fd);
    lm_close(&dst.fd);
  }
  if (result < 0) {
    lm_link_fail(keeper, m->head.serial, -result, "relay");
  } else if (m->head.serial != 0) {
    lm_link_post(keeper, LM_MSG_DONE, 0, m->head.serial, (uint64_t)result, NULL);
  }
}

static void do_unrelay(struct lm_keeper *keeper, struct lm_message *m) {
  if ((m->head.flags & LM_F_FINISH) != 0) {
    lm_relay_finish(keeper, m->fields[0]);
  } else {
    lm_relay_drop(keeper, m->fields[0]);
  }
}

static void do_exit(struct lm_keeper *keeper, struct lm_message *m) {
  (void)m;
  lm_keeper_exit(keeper);
}

static void do_pong(struct lm_keeper *keeper, struct lm_message *m) {
  /* That a message came is all there is to know. */
  (void)keeper;
  (void)m;
}

static void do_attach(struct lm_keeper *keeper, struct lm_message *m) {
  int result = lm_conn_attach(keeper, lm_message_take_fd(m, 0), m->head.serial);
  if (result < 0) lm_link_fail(keeper, m->head.serial, -result, "attach");
}

static void do_read_out(struct lm_keeper *keeper, struct lm_message *m) {
  int64_t ms = m->head.arg > READ_OUT_MS_MAX ? READ_OUT_MS_MAX : (int64_t)m->head.arg;
  lm_unread_await(keeper, m->head.serial, m->fields[0], ms);
}

static void do_batch(struct lm_keeper *keeper, struct lm_message *m);

static const struct {
  void (*act)(struct lm_keeper *keeper, struct lm_message *message);
  uint8_t fields;
  uint8_t fds_min, fds_max;
  bool named; /* field 0 is a name */
} table[] = {
    [LM_MSG_WELCOME - LM_MSG_WELCOME] = {do_welcome, 0, 0, 0, false},
    [LM_MSG_DECLINE - LM_MSG_WELCOME] = {do_decline, 0, 0, 0, false},
    [LM_MSG_PUT - LM_MSG_WELCOME] = {do_put, 2, 0, 1, true},
    [LM_MSG_DEL - LM_MSG_WELCOME] = {do_del, 1, 0, 0, true},
    [LM_MSG_SPAWN - LM_MSG_WELCOME] = {do_spawn, 5, 0, LM_FDS_MAX, true},
    [LM_MSG_ADOPT - LM_MSG_WELCOME] = {do_adopt, 1, 0, 0, true},
    [LM_MSG_ACK - LM_MSG_WELCOME] = {do_ack, 0, 0, 0, false},
    [LM_MSG_SEND - LM_MSG_WELCOME] = {do_send, 1, 0, 0, false},
    [LM_MSG_RELEASE - LM_MSG_WELCOME] = {do_release, 0, 0, 0, false},
    [LM_MSG_SHUT - LM_MSG_WELCOME] = {do_shut, 0, 0, 0, false},
    [LM_MSG_RELAY - LM_MSG_WELCOME] = {do_relay, 1, 0, 2, true},
    [LM_MSG_UNRELAY - LM_MSG_WELCOME] = {do_unrelay, 1, 0, 0, true},
    [LM_MSG_EXIT - LM_MSG_WELCOME] = {do_exit, 0, 0, 0, false},
    [LM_MSG_PONG - LM_MSG_WELCOME] = {do_pong, 0, 0, 0, false},
    [LM_MSG_BATCH - LM_MSG_WELCOME] = {do_batch, 0, 0, LM_FDS_MAX, false},
    [LM_MSG_ATTACH - LM_MSG_WELCOME] = {do_attach, 0, 1, 1, false},
    [LM_MSG_READ_OUT - LM_MSG_WELCOME] = {do_read_out, 1, 0, 0, true},
};

/* A batch taken apart. Its parts end before the message they came in. */
struct batch {
  struct lm_message *parts;
  uint32_t count;
};

static void end_batch(struct batch *batch) {
  for (uint32_t i = 0; i < batch->count; i++) lm_message_end(&batch->parts[i]);
  free(batch->parts);
}

/* Gives each part its descriptors: LM_F_COUNTED puts a byte for each ahead of them. false: they do not add up. */
static bool share_fds(struct lm_message *m, const struct batch *batch, const uint8_t *counts) {
  uint32_t taken = 0;
  for (uint32_t i = 0; i < batch->count; i++) {
    struct lm_message *part = &batch->parts[i];
    if (m->short_of_fds) {
      part->short_of_fds = counts[i] > 0;
    } else {
      if (!lm_message_move_fds(m, taken, counts[i], part)) return false;
      taken += counts[i];
    }
  }
  return m->short_of_fds || taken == m->fd_count;
}

/* Decodes every part, once. 0 or -errno; what is in *batch is to be ended in any case. */
static int take_apart(struct lm_message *m, struct batch *batch) {
  bool counted = (m->head.flags & LM_F_COUNTED) != 0;
  static const uint8_t none[LM_FIELDS_MAX];
  const uint8_t *counts = none;
  uint32_t first = 0;
  if (counted) {
    if (m->count == 0 || m->fields[0].len != m->count - 1) return -EBADMSG;
    counts = m->fields[0].data;
    first = 1;
  }
  batch->parts = malloc((m->count - first + 1) * sizeof *batch->parts);
  if (batch->parts == NULL) return -ENOMEM;
  while (batch->count < m->count - first) {
    struct lm_message *part = &batch->parts[batch->count];
    const struct lm_field *field = &m->fields[first + batch->count];
    if (lm_message_decode(field->data, field->len, part) < 0 || part->head.type == LM_MSG_BATCH) return -EBADMSG;
    batch->count++;
  }
  return share_fds(m, batch, counts) ? 0 : -EBADMSG;
}

/* All parts or, when one is ill-formed, none. */
static void do_batch(struct lm_keeper *keeper, struct lm_message *m) {
  struct batch batch = {0};
  int result = take_apart(m, &batch);
  if (result < 0) lm_link_fail(keeper, m->head.serial, -result, "batch");
  for (uint32_t i = 0; result == 0 && i < batch.count && lm_link_up(keeper) && !keeper->done; i++) {
    struct lm_message *part = &batch.parts[i];
    if (part->short_of_fds) {
      lm_link_fail(keeper, part->head.serial, EMFILE, "take descriptors");
      continue;
    }
    lm_dispatch(keeper, part);
    lm_message_end(part);
    /* The rest is from an engine that is no longer ours, and its answers would go to the next. */
    if (part->head.type == LM_MSG_DECLINE) break;
  }
  end_batch(&batch);
}

void lm_dispatch(struct lm_keeper *keeper, struct lm_message *message) {
  unsigned index = (unsigned)message->head.type - LM_MSG_WELCOME;
  if (index >= sizeof table / sizeof table[0]) {
    lm_link_fail(keeper, message->head.serial, EOPNOTSUPP, "message type");
    return;
  }
  bool formed = message->count >= table[index].fields && message->fd_count >= table[index].fds_min &&
                message->fd_count <= table[index].fds_max && (!table[index].named || is_name(message->fields[0]));
  if (!formed) {
    lm_link_fail(keeper, message->head.serial, EBADMSG, "message");
    return;
  }
  table[index].act(keeper, message);
}
