/* libFuzzer target: a whole keeper in one process, between an engine and a daemon that do what the input says. Programs
 * are not run, pids and time are invented (the linker's --wrap), everything else is the keeper's own code. After each
 * input nothing may be left: no descriptor, and no memory, which the leak sanitizer looks after.
 *
 * keeper.c and children.c are included for their static functions. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../../../common/scm.h"
#include "../../keeper.c"
#include "../../spawn.h"
#include "input.h"

#define CONNS 4
#define FIRST_PID 1000
#define STEPS_MAX 400
#define FDS_CHECKED 96

static int64_t now_ms = 1000;
static pid_t next_pid = FIRST_PID;
static pid_t dying; /* what waitpid(2) is to report */
static int dying_status;
static bool may_run; /* the input itself has such a command */

int64_t __wrap_lm_now_ms(void);
int64_t __wrap_lm_now_ms(void) {
  return now_ms;
}

pid_t __wrap_lm_spawn(const struct lm_spawn *spawn, struct lm_error *err);
pid_t __wrap_lm_spawn(const struct lm_spawn *spawn, struct lm_error *err) {
  /* The command of write_commands(), which no input can say. */
  if (spawn->argv[0][0] == '!' && spawn->argv[0][1] == '\0' && !may_run) abort();
  if (spawn->argv[0][0] == 'x') return lm_fail(err, ENOENT, "execve %s", spawn->argv[0]);
  return next_pid++;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options) {
  (void)pid;
  (void)options;
  pid_t dead = dying;
  *status = dying_status;
  dying = 0;
  return dead;
}

int __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options);
int __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options) {
  (void)type;
  (void)info;
  (void)options;
  errno = ECHILD;
  return (pid_t)id < FIRST_PID + 100 ? 0 : -1;
}

int __wrap_pidfd_open(pid_t pid, unsigned flags);
int __wrap_pidfd_open(pid_t pid, unsigned flags) {
  (void)flags;
  return pid % 7 == 6 ? -1 : eventfd(0, EFD_CLOEXEC);
}

int __wrap_pidfd_send_signal(int fd, int sig, siginfo_t *info, unsigned flags);
int __wrap_pidfd_send_signal(int fd, int sig, siginfo_t *info, unsigned flags) {
  (void)fd;
  (void)sig;
  (void)info;
  (void)flags;
  return 0;
}

struct bed {
  struct lm_keeper *keeper;
  int engine; /* our end of the link, or -1 */
  int conns[CONNS];

  struct sockaddr_un address;
  socklen_t address_len;
  uint32_t seq; /* of the last frame handed to the engine, and its connection */
  uint64_t conn;
};

static void set_up(struct bed *bed) {
  struct lm_keeper *keeper = lm_alloc(sizeof *keeper);
  struct lm_error err;
  char *empty[9];
  for (int i = 0; i < 9; i++) empty[i] = lm_strdup("");
  keeper->identity = (struct lm_identity){empty[0], empty[1], empty[2], empty[3], empty[4],
                                          empty[5], empty[6], empty[7], empty[8], false};
  keeper->orphaned.fire = orphaned;
  keeper->exit_timer.fire = exit_time;
  keeper->env = child_env();
  if (lm_loop_init(&keeper->loop, &err) < 0) abort();
  keeper->signals.fd = -1;
  init_parts(keeper);
  /* It cannot start one. */
  free(keeper->engine.socket);
  keeper->engine.socket = NULL;
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bed->address_len = sizeof bed->address;
  bed->address.sun_family = AF_UNIX;
  if (bind(listener, (struct sockaddr *)&bed->address, sizeof(sa_family_t)) < 0 || listen(listener, 8) < 0 ||
      getsockname(listener, (struct sockaddr *)&bed->address, &bed->address_len) < 0 ||
      lm_listener_open(keeper, listener) < 0) {
    abort();
  }
  bed->keeper = keeper;
}

static void join(struct bed *bed) {
  int ends[2];
  if (bed->engine >= 0 || lm_link_up(bed->keeper)) return;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) abort();
  bed->engine = ends[1];
  lm_link_open(bed->keeper, ends[0]);
}

static void part(struct bed *bed) {
  lm_close(&bed->engine);
}

/* What a container writes: a batch that runs a program, over and over, so that it lies wherever a message is looked for.
 * The length of its parts is a divisor of the whole's. */
static void write_commands(int fd, uint8_t how) {
  static const char spawn[] = {
      LM_MAGIC, LM_PROTOCOL, LM_MSG_SPAWN, 0, 0, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      1,        0,           0,            0, 'c',                                               /* name */
      0,        0,           0,            0,                                                    /* cwd */
      2,        0,           0,            0, '!', 0,                                            /* argv */
      0,        0,           0,            0, 0, 0, 0, 0,                                        /* env, map */
  };
  static const uint16_t sizes[] = {1, 8, 40, 200, 1000, 4000, 15000, 40000};
  size_t size = sizes[how % 8];
  char *text = lm_alloc(size);
  size_t shift = how / 8;
  for (size_t i = 0; i < size; i++) text[i] = i < shift ? ' ' : spawn[(i - shift) % sizeof spawn];
  (void)!write(fd, text, size);
  free(text);
}

/* Both ends of a terminal; what is written into it waits at the master. */
static int some_terminal(uint8_t how) {
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) return open("/dev/null", O_RDWR | O_CLOEXEC);
  if (unlockpt(master) < 0) abort();
  int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (slave < 0) abort();
  if (how % 2 == 0) write_commands(slave, how);
  (void)close(slave);
  return master;
}

static int some_file(uint8_t kind) {
  int ends[2];
  if (kind >= 128 && kind < 192) {
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) abort();
    write_commands(ends[1], kind);
    (void)close(ends[1]);
    return ends[0];
  }
  if (kind >= 192 && kind < 224) return some_terminal(kind);
  switch (kind % 7) {
  case 0:
    return open("/dev/null", O_RDWR | O_CLOEXEC);
  case 1:
  case 2:
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) abort();
    if (kind % 7 == 1) (void)!write(ends[1], "some bytes", 10);
    (void)close(ends[kind % 7 == 1]);
    return ends[kind % 7 != 1];
  case 3:
    return memfd_create("fuzz", MFD_CLOEXEC);
  case 4:
    return eventfd(1, EFD_CLOEXEC);
  case 5:
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) abort();
    (void)!write(ends[1], "\0\0\0\1\0\0\0\1\2\0x", 11); /* a response */
    (void)close(ends[1]);
    return ends[0];
  default:
    return open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  }
}

static void send_packet(const struct bed *bed, const void *bytes, size_t len, const int *fds, unsigned count) {
  struct iovec part = {(void *)(uintptr_t)bytes, len};
  union {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(20 * sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  lm_scm_attach(&message, &control, fds, count);
  (void)sendmsg(bed->engine, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  for (unsigned i = 0; i < count; i++) (void)close(fds[i]);
}

static unsigned take_files(struct input *in, int *fds) {
  uint8_t how = take8(in);
  unsigned count = how < 160 ? 0 : how < 250 ? how % 4 : how % 20;
  for (unsigned i = 0; i < count; i++) fds[i] = some_file(take8(in));
  return count;
}

static struct lm_header some_header(const struct bed *bed, struct input *in, unsigned types) {
  struct lm_header head = {.magic = LM_MAGIC, .version = LM_PROTOCOL};
  head.type = (uint16_t)(LM_MSG_WELCOME + take8(in) % types);
  head.flags = ((uint32_t)take8(in) << 1) & ~(uint32_t)LM_F_BODY_FD;
  uint8_t numbers = take8(in);
  head.serial = (numbers & 1) != 0 ? bed->seq : take8(in);
  head.arg = (numbers & 2) != 0 ? bed->conn : (numbers & 4) != 0 ? (uint64_t)(FIRST_PID + take8(in)) : take8(in);
  head.count = take8(in) % 8;
  if (head.type == LM_MSG_BATCH && (numbers & 8) != 0) head.flags |= LM_F_COUNTED;
  return head;
}

static void some_fields(struct input *in, uint32_t count, struct lm_buf *body) {
  for (uint32_t i = 0; i < count; i++) {
    size_t got;
    const uint8_t *bytes = take_bytes(in, take8(in), &got);
    uint32_t len = (uint32_t)got;
    lm_buf_append(body, &len, 4);
    lm_buf_append(body, bytes, got);
  }
}

/* Fields that are messages themselves. */
static void some_parts(const struct bed *bed, struct input *in, uint32_t count, struct lm_buf *body) {
  for (uint32_t i = 0; i < count; i++) {
    LM_CLEANUP_BUF struct lm_buf fields = {0};
    struct lm_header head = some_header(bed, in, LM_MSG_READ_OUT - LM_MSG_WELCOME + 1);
    some_fields(in, head.count, &fields);
    uint32_t len = (uint32_t)(sizeof head + fields.len);
    lm_buf_append(body, &len, 4);
    lm_buf_append(body, &head, sizeof head);
    lm_buf_append(body, fields.data, fields.len);
  }
}

/* Whose the batch's descriptors are: more often than not, it adds up. */
static void some_counts(struct input *in, uint32_t parts, unsigned fds, struct lm_buf *body) {
  lm_buf_append(body, &parts, 4);
  for (uint32_t i = 0; i < parts; i++) {
    uint8_t n = take8(in);
    if (n < 0xf0) n = (uint8_t)(i + 1 == parts ? fds : n % (fds + 1));
    fds -= n < fds ? n : fds;
    lm_buf_append(body, &n, 1);
  }
}

/* A message whose parts fit together; what they say is the input's. */
static void say(const struct bed *bed, struct input *in) {
  LM_CLEANUP_BUF struct lm_buf packet = {0};
  LM_CLEANUP_BUF struct lm_buf body = {0};
  struct lm_header head = some_header(bed, in, LM_MSG_READ_OUT - LM_MSG_WELCOME + 2);
  int fds[20];
  unsigned count = take_files(in, fds);
  if (head.type == LM_MSG_BATCH) {
    if ((head.flags & LM_F_COUNTED) != 0) some_counts(in, head.count, count, &body);
    some_parts(bed, in, head.count, &body);
    if ((head.flags & LM_F_COUNTED) != 0) head.count++;
  } else {
    some_fields(in, head.count, &body);
  }
  if ((head.serial & 0xe0) == 0x20) {
    head.flags |= LM_F_BODY_FD;
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    (void)lm_write_all(file, body.data, body.len);
    fds[count++] = file;
    body.len = 0;
  }
  lm_buf_append(&packet, &head, sizeof head);
  lm_buf_append(&packet, body.data, body.len);
  send_packet(bed, packet.data, packet.len, fds, count);
}

static void add_part(struct lm_buf *body, uint16_t type, const struct lm_field *fields, uint32_t count, uint64_t arg) {
  struct lm_header head = {.magic = LM_MAGIC, .version = LM_PROTOCOL, .type = type, .serial = 7, .count = count};
  head.arg = arg;
  struct lm_blob *blob = lm_blob_make(fields, count, -1);
  uint32_t len = (uint32_t)sizeof head + blob->len;
  lm_buf_append(body, &len, 4);
  lm_buf_append(body, &head, sizeof head);
  lm_buf_append(body, blob->bytes, blob->len);
  lm_blob_unref(blob);
}

/* A batch that connects a process's streams, with bytes waiting in them, and goes on; a terminal by its entry's name. */
static void connect_streams(const struct bed *bed, struct input *in) {
  LM_CLEANUP_BUF struct lm_buf packet = {0};
  uint8_t how = take8(in), source = take8(in), sink = take8(in), fill = take8(in);
  static const char *names[] = {"io/a", "io/b", "io/c", "io/d"};
  struct lm_field name = {names[how % 4], 4}, tty = {"io/tty", 6}, none = {"", 0};
  bool terminal = (how & 4) != 0;
  int fds[] = {some_file(terminal ? 192 | source : 128 | source % 64), some_file(sink)};
  uint8_t counts[] = {terminal ? 1 : 0, terminal ? 1 : 2, 0, 0};
  uint32_t len = sizeof counts;
  struct lm_header head = {.magic = LM_MAGIC, .version = LM_PROTOCOL, .type = LM_MSG_BATCH, .flags = LM_F_COUNTED};
  head.count = 5;
  lm_buf_append(&packet, &head, sizeof head);
  lm_buf_append(&packet, &len, 4);
  lm_buf_append(&packet, counts, sizeof counts);
  LM_CLEANUP_FREE uint8_t *bytes = lm_alloc((size_t)fill * 64 + 1);
  add_part(&packet, LM_MSG_PUT, (struct lm_field[]){tty, none}, 2, 0);
  add_part(&packet, LM_MSG_RELAY, (struct lm_field[]){name, terminal ? tty : none, none}, 3, 0);
  add_part(&packet, LM_MSG_READ_OUT, &(struct lm_field){"io/", 3}, 1, fill);
  add_part(&packet, LM_MSG_PUT, (struct lm_field[]){{"kept", 4}, {bytes, (uint32_t)fill * 64}}, 2, 0);
  send_packet(bed, packet.data, packet.len, fds, 2);
}

static void shout(const struct bed *bed, struct input *in) {
  int fds[20];
  unsigned count = take_files(in, fds);
  size_t len;
  const uint8_t *bytes = take_bytes(in, take16(in) % 2048, &len);
  send_packet(bed, bytes, len, fds, count);
}

static void listen_to_keeper(struct bed *bed) {
  static struct lm_room room;
  if (room.bytes == NULL) lm_room_make(&room, LM_INLINE_MAX);
  struct lm_message m;
  while (bed->engine >= 0) {
    int result = lm_receive(bed->engine, &room, &m);
    if (result == -EAGAIN) return;
    if (result != 1) {
      /* The keeper hung up; it never says anything ill-formed. */
      if (result == -EBADMSG || result == -EPROTO) abort();
      part(bed);
      return;
    }
    if (m.head.type == LM_MSG_FRAME) {
      bed->seq = m.head.serial;
      bed->conn = m.head.arg;
    }
    lm_message_end(&m);
  }
}

static void call(struct bed *bed, int i) {
  if (bed->conns[i] >= 0 || bed->keeper->listener.watch.fd < 0) return;
  bed->conns[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (connect(bed->conns[i], (struct sockaddr *)&bed->address, bed->address_len) < 0) lm_close(&bed->conns[i]);
}

/* A frame that is whole; with `request` one of a few requests that resemble each other. */
static void ask(const struct bed *bed, int i, struct input *in) {
  uint8_t frame[10 + 512] = {0};
  uint8_t shape = take8(in);
  size_t len;
  const uint8_t *bytes = take_bytes(in, shape & 0x3f, &len);
  size_t at = 10;
  if ((shape & 0x40) != 0) {
    static const uint8_t request[] = {0x0a, 1, 's', 0x12, 1, 'm', 0x1a, 1, 'p'};
    memcpy(frame + at, request, sizeof request);
    frame[at + 5] = (uint8_t)('m' + (shape & 1));
    at += sizeof request;
  }
  memcpy(frame + at, bytes, len);
  at += len;
  frame[3] = (uint8_t)(at - 10);
  frame[7] = take8(in);
  frame[8] = (shape & 0x80) != 0 ? 1 : take8(in);
  (void)send(bed->conns[i], frame, at, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void babble(const struct bed *bed, int i, struct input *in) {
  size_t len;
  const uint8_t *bytes = take_bytes(in, take16(in) % 1024, &len);
  (void)send(bed->conns[i], bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void step(struct bed *bed, struct input *in) {
  uint8_t what = take8(in);
  int i = (what >> 4) % CONNS;
  switch (what & 15) {
  case 0:
  case 1:
  case 2:
    say(bed, in);
    break;
  case 3:
    connect_streams(bed, in);
    break;
  case 4:
    shout(bed, in);
    break;
  case 5:
    listen_to_keeper(bed);
    break;
  case 6:
    call(bed, i);
    break;
  case 7:
  case 8:
    ask(bed, i, in);
    break;
  case 9:
    babble(bed, i, in);
    break;
  case 10:
    lm_close(&bed->conns[i]);
    break;
  case 11:
    part(bed);
    break;
  case 12:
    join(bed);
    break;
  case 13:
    dying = FIRST_PID + take8(in) % 16;
    dying_status = take8(in);
    lm_children_reap(bed->keeper);
    break;
  case 14:
    now_ms += (int64_t)take8(in) * 100;
    break;
  default:
    if (take8(in) % 16 == 0) take_signal(bed->keeper, SIGTERM);
    (void)recv(bed->conns[i], (uint8_t[4096]){0}, 4096, MSG_DONTWAIT);
  }
}

static void turn(struct lm_keeper *keeper) {
  lm_loop_round(&keeper->loop, true);
  lm_relays_run(keeper);
  if (keeper->exiting && lm_conns_flushed(keeper)) keeper->done = true;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  (void)signal(SIGPIPE, SIG_IGN);
  return setenv("LAMINA_STATE_DIR", "/proc/nonexistent", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  /* The fuzzer's own come and go between inputs (a symboliser's pipes). */
  bool inherited[FDS_CHECKED];
  for (int fd = 0; fd < FDS_CHECKED; fd++) inherited[fd] = fcntl(fd, F_GETFD) >= 0;
  struct input in = {data, data + size};
  may_run = memchr(data, '!', size) != NULL;
  struct bed bed = {.engine = -1, .conns = {-1, -1, -1, -1}};
  set_up(&bed);
  join(&bed);
  for (int steps = 0; steps < STEPS_MAX && in.at < in.end && !bed.keeper->done; steps++) {
    step(&bed, &in);
    turn(bed.keeper);
  }
  end(bed.keeper);
  part(&bed);
  for (int i = 0; i < CONNS; i++) lm_close(&bed.conns[i]);
  next_pid = FIRST_PID;
  for (int fd = 0; fd < FDS_CHECKED; fd++) {
    if (inherited[fd] || fcntl(fd, F_GETFD) < 0) continue;
    char path[32], target[64] = "";
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    (void)!readlink(path, target, sizeof target - 1);
    (void)fprintf(stderr, "descriptor %d is left: %s\n", fd, target);
    abort();
  }
  return 0;
}
