/* An engine for tests: stands in for node (LAMINA_NODE), so the keeper starts it with its socket as descriptor 3, and
 * lets the test be the engine through lines on the Unix socket FAKE_CONTROL. Of the daemon's environment an engine gets
 * what begins with LAMINA_, so each FAKE_X below is the variable LAMINA_FAKE_X.
 *
 * To the test:    engine PID ARGV...            open LINK
 *                 msg LINK TYPE FLAGS SERIAL ARG FDS FIELDS     close LINK
 *                 pty FD SLAVE                  fuzzed LINK
 * From the test:  send LINK TYPE FLAGS SERIAL ARG FDS FIELDS    raw LINK HEX [FDS]    fuzz LINK SEED COUNT
 *                 hold LINK | go LINK (stop and go on reading)  drop LINK    pty    shut FD    quit
 * FIELDS: hex joined by ',', '-' for none, '=' for an empty field. FDS: numbers joined by ',', or '-'; when sending
 * also r:PATH, w:PATH, rw:PATH, path:PATH (O_PATH) to open, unix:PATH to connect to. Descriptors that were received
 * stay open (look at /proc/PID/fd). Answers by itself: WELCOME (DECLINE with FAKE_DECLINE set, unless started with
 * --dedicated; FAKE_DECLINE=all: then, too) and PONG (not with FAKE_MUTE; with FAKE_PONG by PING's eventfd).
 * FAKE_VERSION is the version byte of that first answer, FAKE_OWN_VERSION that of one with
 * --dedicated. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../../common/scm.h"
#include "../../common/util.h"
#include "../../common/wire.h"

#define LINKS_MAX 16

static int control = -1;
static int links[LINKS_MAX];
static bool held[LINKS_MAX];
static struct lm_room room;
static bool dedicated;

static void line(struct lm_buf *text) {
  lm_buf_append(text, "\n", 1);
  if (lm_write_all(control, text->data, text->len) < 0) exit(0);
  lm_buf_free(text);
}

#define LINE(...)                                                                                                      \
  do {                                                                                                                 \
    struct lm_buf text_ = {0};                                                                                         \
    LM_CLEANUP_FREE char *formatted_ = lm_format(__VA_ARGS__);                                                         \
    lm_buf_append(&text_, formatted_, strlen(formatted_));                                                             \
    line(&text_);                                                                                                      \
  } while (0)

static void add_link(int fd) {
  for (int i = 0; i < LINKS_MAX; i++) {
    if (links[i] >= 0) continue;
    links[i] = fd;
    held[i] = false;
    LINE("open %d", i);
    return;
  }
  (void)close(fd);
}

static void end_link(int i) {
  lm_close(&links[i]);
  LINE("close %d", i);
}

static void show(int i, const struct lm_message *m) {
  struct lm_buf out = {0};
  LM_CLEANUP_FREE char *head = lm_format("msg %d %u %u %u %" PRIu64 " ", i, m->head.type,
                                         m->head.flags & ~(uint32_t)LM_F_BODY_FD, m->head.serial, m->head.arg);
  lm_buf_append(&out, head, strlen(head));
  for (uint32_t f = 0; f < m->fd_count; f++) {
    LM_CLEANUP_FREE char *number = lm_format("%s%d", f == 0 ? "" : ",", m->fds[f]);
    lm_buf_append(&out, number, strlen(number));
  }
  lm_buf_append(&out, m->fd_count == 0 ? "- " : " ", m->fd_count == 0 ? 2 : 1);
  if (m->count == 0) lm_buf_append(&out, "-", 1);
  for (uint32_t f = 0; f < m->count; f++) {
    if (f > 0) lm_buf_append(&out, ",", 1);
    if (m->fields[f].len == 0) lm_buf_append(&out, "=", 1);
    const uint8_t *bytes = m->fields[f].data;
    for (uint32_t b = 0; b < m->fields[f].len; b++) {
      char hex[3];
      (void)snprintf(hex, sizeof hex, "%02x", bytes[b]);
      lm_buf_append(&out, hex, 2);
    }
  }
  line(&out);
}

static void answer(int i, uint16_t type, uint32_t serial) {
  const struct lm_header head = {.type = type, .serial = serial, .arg = (uint64_t)getpid()};
  (void)lm_send(links[i], &head, NULL, 0);
}

static void answer_hello(int i);

static void from_keeper(int i) {
  struct lm_message m;
  int result = lm_receive(links[i], &room, &m);
  if (result == -EAGAIN) return;
  if (result <= 0) {
    end_link(i);
    return;
  }
  show(i, &m);
  static const uint64_t one = 1;
  bool silent = getenv("LAMINA_FAKE_PONG") != NULL && m.head.type == LM_MSG_PING && m.fd_count == 1 &&
                write(m.fds[0], &one, sizeof one) == (ssize_t)sizeof one;
  m.fd_count = 0; /* kept for the test */
  lm_message_end(&m);
  if (m.head.type == LM_MSG_HELLO) answer_hello(i);
  if (m.head.type == LM_MSG_PING && !silent && getenv("LAMINA_FAKE_MUTE") == NULL) answer(i, LM_MSG_PONG, m.head.serial);
}

static void send_packet(int sock, const void *data, size_t len, int *fds, uint32_t fd_count);

static void answer_hello(int i) {
  const char *decline = getenv("LAMINA_FAKE_DECLINE");
  bool declines = decline != NULL && (!dedicated || strcmp(decline, "all") == 0);
  const char *version = getenv(dedicated ? "LAMINA_FAKE_OWN_VERSION" : "LAMINA_FAKE_VERSION");
  const struct lm_header head = {
      .magic = LM_MAGIC,
      .version = version == NULL ? LM_PROTOCOL : (uint8_t)strtoul(version, NULL, 10),
      .type = declines ? LM_MSG_DECLINE : LM_MSG_WELCOME,
      .arg = (uint64_t)getpid(),
  };
  send_packet(links[i], &head, sizeof head, NULL, 0);
}

static int dial(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) lm_close(&fd);
  return fd;
}

static int open_spec(const char *spec) {
  const char *path;
  int fd;
  if ((path = lm_after(spec, "r:")) != NULL) {
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  } else if ((path = lm_after(spec, "w:")) != NULL) {
    fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
  } else if ((path = lm_after(spec, "rw:")) != NULL) {
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  } else if ((path = lm_after(spec, "path:")) != NULL) {
    fd = open(path, O_PATH | O_CLOEXEC);
  } else if ((path = lm_after(spec, "unix:")) != NULL) {
    fd = dial(path);
  } else {
    fd = fcntl((int)strtol(spec, NULL, 10), F_DUPFD_CLOEXEC, 3);
  }
  if (fd < 0) LINE("error %s: %s", spec, strerror(errno));
  return fd;
}

static size_t unhex(const char *text, size_t len, uint8_t *out) {
  for (size_t i = 0; i + 1 < len; i += 2) {
    char pair[3] = {text[i], text[i + 1], '\0'};
    out[i / 2] = (uint8_t)strtoul(pair, NULL, 16);
  }
  return len / 2;
}

static uint32_t open_all(char *specs, int *fds) {
  uint32_t n = 0;
  if (specs == NULL || strcmp(specs, "-") == 0) return 0;
  char *save = NULL;
  for (char *s = strtok_r(specs, ",", &save); s != NULL && n < 64; s = strtok_r(NULL, ",", &save))
    fds[n++] = open_spec(s);
  return n;
}

/* Sends a packet with any number of descriptors, waiting for room. */
static void send_packet(int sock, const void *data, size_t len, int *fds, uint32_t fd_count) {
  struct iovec part = {(void *)(uintptr_t)data, len};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  union {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(64 * sizeof(int))];
  } space;
  lm_scm_attach(&message, &space, fds, fd_count);
  (void)sendmsg(sock, &message, MSG_NOSIGNAL);
  for (uint32_t i = 0; i < fd_count; i++) (void)close(fds[i]);
}

/* send LINK TYPE FLAGS SERIAL ARG FDS FIELDS */
static void do_send(int i, char *words[]) {
  struct lm_header head = {
      .magic = LM_MAGIC,
      .version = LM_PROTOCOL,
      .type = (uint16_t)strtoul(words[2], NULL, 10),
      .flags = (uint32_t)strtoul(words[3], NULL, 10),
      .serial = (uint32_t)strtoul(words[4], NULL, 10),
      .arg = strtoull(words[5], NULL, 10),
  };
  int fds[65];
  uint32_t fd_count = open_all(words[6], fds);
  struct lm_buf body = {0};
  if (strcmp(words[7], "-") != 0) {
    for (char *at = words[7];; at++) {
      size_t len = strcspn(at, ",");
      uint32_t size = at[0] == '=' ? 0 : (uint32_t)len / 2;
      lm_buf_append(&body, &size, 4);
      lm_buf_reserve(&body, len + 1);
      if (size > 0) body.len += unhex(at, len, body.data + body.len);
      head.count++;
      at += len;
      if (*at == '\0') break;
    }
  }
  if (sizeof head + body.len > LM_INLINE_MAX) {
    LM_CLEANUP_FREE struct lm_blob *blob = lm_blob_new((uint32_t)body.len);
    memcpy(blob->bytes, body.data, body.len);
    blob->count = head.count;
    blob->fd = fd_count > 0 ? fds[0] : -1;
    (void)lm_send(links[i], &head, blob, 0);
    lm_close(&blob->fd);
  } else {
    struct lm_buf packet = {0};
    lm_buf_append(&packet, &head, sizeof head);
    lm_buf_append(&packet, body.data, body.len);
    send_packet(links[i], packet.data, packet.len, fds, fd_count);
    lm_buf_free(&packet);
  }
  lm_buf_free(&body);
}

static uint32_t random_state;
static uint32_t rnd(uint32_t below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return below == 0 ? 0 : random_state % below;
}

/* Nearly right messages: most have a good header, all have some nonsense. Never EXIT, WELCOME or DECLINE, and SPAWN
 * only ill-formed: the keeper is to survive, not to obey. */
static void fuzz(int i, uint32_t seed, unsigned count) {
  random_state = seed == 0 ? 1 : seed;
  for (unsigned n = 0; n < count; n++) {
    uint8_t packet[600];
    for (size_t b = 0; b < sizeof packet; b++) packet[b] = (uint8_t)rnd(256);
    struct lm_header head;
    memcpy(&head, packet, sizeof head);
    if (rnd(8) != 0) head.magic = LM_MAGIC, head.version = LM_PROTOCOL;
    head.type = (uint16_t)(rnd(10) == 0 ? rnd(65536) : LM_MSG_PUT + rnd(10));
    if (head.type == LM_MSG_EXIT || head.type == LM_MSG_WELCOME || head.type == LM_MSG_DECLINE) head.type = LM_MSG_PONG;
    head.flags = rnd(4) == 0 ? head.flags : rnd(64);
    head.serial = rnd(3) == 0 ? 0 : head.serial;
    head.arg = rnd(2) == 0 ? rnd(20) : head.arg;
    head.count = rnd(10) == 0 ? head.count : rnd(7);
    memcpy(packet, &head, sizeof head);
    size_t len = sizeof head;
    for (uint32_t f = 0; f < head.count && f < 7; f++) {
      uint32_t size = rnd(12) == 0 ? rnd(UINT32_MAX) : rnd(60);
      if (len + 4 + 60 > sizeof packet) break;
      memcpy(packet + len, &size, 4);
      len += 4 + (size < 60 ? size : 60);
    }
    if (rnd(6) == 0) len = rnd((uint32_t)len) + 1;
    int fds[64];
    uint32_t fd_count = rnd(3) == 0 ? rnd(rnd(20) == 0 ? 40 : 4) : 0;
    for (uint32_t f = 0; f < fd_count; f++) fds[f] = open("/dev/null", O_RDWR | O_CLOEXEC);
    send_packet(links[i], packet, len, fds, fd_count);
    /* Its complaints must not fill the socket for good. */
    struct lm_message m;
    while (lm_receive(links[i], &room, &m) == 1) lm_message_end(&m);
  }
  LINE("fuzzed %d", i);
}

static void make_pty(void) {
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) {
    LINE("error pty: %s", strerror(errno));
    return;
  }
  LINE("pty %d %s", master, ptsname(master));
}

static void command(char *text) {
  char *words[9] = {0};
  char *save = NULL;
  int n = 0;
  for (char *w = strtok_r(text, " ", &save); w != NULL && n < 8; w = strtok_r(NULL, " ", &save)) words[n++] = w;
  if (n == 0) return;
  int i = n > 1 ? (int)strtol(words[1], NULL, 10) : 0;
  if (strcmp(words[0], "quit") == 0) exit(0);
  if (strcmp(words[0], "pty") == 0) return make_pty();
  if (strcmp(words[0], "shut") == 0) {
    (void)close(i);
    return;
  }
  if (i < 0 || i >= LINKS_MAX || links[i] < 0) return;
  if (strcmp(words[0], "send") == 0 && n == 8) do_send(i, words);
  if (strcmp(words[0], "fuzz") == 0 && n == 4) {
    fuzz(i, (uint32_t)strtoul(words[2], NULL, 10), (unsigned)strtoul(words[3], NULL, 10));
  }
  if (strcmp(words[0], "raw") == 0 && n >= 3) {
    int fds[65];
    uint32_t fd_count = open_all(words[3], fds);
    uint8_t bytes[4096];
    size_t len = strlen(words[2]);
    send_packet(links[i], bytes, unhex(words[2], len > 8192 ? 8192 : len, bytes), fds, fd_count);
  }
  if (strcmp(words[0], "hold") == 0) held[i] = true;
  if (strcmp(words[0], "go") == 0) held[i] = false;
  if (strcmp(words[0], "drop") == 0) end_link(i);
}

static void from_test(struct lm_buf *in) {
  lm_buf_reserve(in, 65536);
  ssize_t n = read(control, in->data + in->len, in->cap - in->len);
  if (n <= 0) exit(0);
  in->len += (size_t)n;
  uint8_t *newline;
  size_t from = 0;
  while ((newline = memchr(in->data + from, '\n', in->len - from)) != NULL) {
    *newline = '\0';
    command((char *)in->data + from);
    from = (size_t)(newline - in->data) + 1;
  }
  memmove(in->data, in->data + from, in->len - from);
  in->len -= from;
}

int main(int argc, char **argv) {
  dedicated = strcmp(argv[argc - 1], "--dedicated") == 0;
  const char *path = getenv("LAMINA_FAKE_CONTROL");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path == NULL || strlen(path) >= sizeof address.sun_path) return 1;
  strcpy(address.sun_path, path);
  lm_room_make(&room, LM_INLINE_MAX);
  control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (control < 0 || connect(control, (struct sockaddr *)&address, sizeof address) < 0) return 1;
  for (int i = 0; i < LINKS_MAX; i++) links[i] = -1;
  struct lm_buf hello = {0};
  LM_CLEANUP_FREE char *head = lm_format("engine %d", (int)getpid());
  lm_buf_append(&hello, head, strlen(head));
  for (int i = 1; i < argc; i++) {
    lm_buf_append(&hello, " ", 1);
    lm_buf_append(&hello, argv[i], strlen(argv[i]));
  }
  line(&hello);
  int listener = 3;
  if (dedicated) {
    listener = -1;
    add_link(3);
  }
  struct lm_buf in = {0};
  for (;;) {
    struct pollfd polls[LINKS_MAX + 2] = {{control, POLLIN, 0}, {listener, POLLIN, 0}};
    for (int i = 0; i < LINKS_MAX; i++) polls[i + 2] = (struct pollfd){held[i] ? -1 : links[i], POLLIN, 0};
    if (poll(polls, LINKS_MAX + 2, -1) < 0) continue;
    if (polls[1].revents != 0) {
      int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      if (fd >= 0) add_link(fd);
    }
    for (int i = 0; i < LINKS_MAX; i++) {
      if (polls[i + 2].revents != 0 && links[i] >= 0) from_keeper(i);
    }
    if (polls[0].revents != 0) from_test(&in);
  }
}
