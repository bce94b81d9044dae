#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "scm.h"
#include "util.h"

struct lm_blob *lm_blob_new(uint32_t len) {
  struct lm_blob *blob = malloc(sizeof *blob + len);
  if (blob == NULL) return NULL;
  *blob = (struct lm_blob){.refs = 1, .len = len, .fd = -1};
  return blob;
}

struct lm_blob *lm_blob_make(const struct lm_field *fields, uint32_t count, int fd) {
  uint32_t len = 0;
  for (uint32_t i = 0; i < count; i++) len += 4 + fields[i].len;
  struct lm_blob *blob = lm_blob_new(len);
  if (blob == NULL) {
    lm_close(&fd);
    return NULL;
  }
  blob->count = count;
  blob->fd = fd;
  uint8_t *at = blob->bytes;
  for (uint32_t i = 0; i < count; i++) {
    memcpy(at, &fields[i].len, 4);
    if (fields[i].len > 0) memcpy(at + 4, fields[i].data, fields[i].len);
    at += 4 + fields[i].len;
  }
  return blob;
}

struct lm_blob *lm_blob_text(const char *text) {
  return lm_blob_make(&(struct lm_field){text, (uint32_t)strlen(text)}, 1, -1);
}

struct lm_blob *lm_blob_ref(struct lm_blob *blob) {
  if (blob != NULL) blob->refs++;
  return blob;
}

void lm_blob_unref(struct lm_blob *blob) {
  if (blob == NULL || --blob->refs > 0) return;
  lm_close(&blob->fd);
  free(blob);
}

/* A memfd with the body, read by the peer from offset 0. */
static int body_file(const struct lm_blob *body) {
  int fd = memfd_create("lamina-message", MFD_CLOEXEC);
  if (fd < 0) return -errno;
  int written = lm_write_all(fd, body->bytes, body->len);
  if (written < 0) {
    (void)close(fd);
    return written;
  }
  return fd;
}

int lm_send(int sock, const struct lm_header *head, const struct lm_blob *body, int send_flags) {
  struct lm_header sent = *head;
  sent.magic = LM_MAGIC;
  sent.version = LM_PROTOCOL;
  sent.count = body == NULL ? 0 : body->count;
  struct iovec parts[2] = {{&sent, sizeof sent}, {NULL, 0}};
  int fds[2];
  uint32_t fd_count = 0;
  LM_CLEANUP_CLOSE int file = -1;
  if (body != NULL) {
    if (body->fd >= 0) fds[fd_count++] = body->fd;
    if (sizeof sent + body->len > LM_INLINE_MAX) {
      file = body_file(body);
      if (file < 0) return file;
      sent.flags |= LM_F_BODY_FD;
      fds[fd_count++] = file;
    } else {
      parts[1] = (struct iovec){(void *)(uintptr_t)body->bytes, body->len};
    }
  }
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = parts[1].iov_len > 0 ? 2 : 1};
  union {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof fds)];
  } control;
  lm_scm_attach(&message, &control, fds, fd_count);
  for (;;) {
    if (sendmsg(sock, &message, send_flags | MSG_NOSIGNAL) >= 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

/* Collects the descriptors of every control message; more than LM_FDS_MAX are closed and make the message ill-formed.
 */
static bool take_fds(struct msghdr *packet, struct lm_message *message) {
  bool fits = true;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(packet); c != NULL; c = CMSG_NXTHDR(packet, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      if (message->fd_count < LM_FDS_MAX) {
        message->fds[message->fd_count++] = fd;
      } else {
        (void)close(fd);
        fits = false;
      }
    }
  }
  return fits;
}

/* Reads the body out of the memfd. pread into memory of our own, never mmap: the sender could shrink the file under us.
 */
static int read_body(struct lm_message *message, size_t *len) {
  if (message->fd_count == 0) return -EBADMSG;
  LM_CLEANUP_CLOSE int fd = message->fds[--message->fd_count];
  struct stat info;
  if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || info.st_size < 0 || info.st_size > LM_MESSAGE_MAX) {
    return -EBADMSG;
  }
  size_t size = (size_t)info.st_size;
  message->bytes = malloc(size == 0 ? 1 : size);
  if (message->bytes == NULL) return -EBADMSG;
  size_t have = 0;
  while (have < size) {
    ssize_t n = pread(fd, message->bytes + have, size - have, (off_t)have);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -EBADMSG;
    have += (size_t)n;
  }
  *len = size;
  return 0;
}

static int copy_body(struct lm_message *message, const uint8_t *body, size_t len) {
  message->bytes = malloc(len == 0 ? 1 : len);
  if (message->bytes == NULL) return -EBADMSG;
  memcpy(message->bytes, body, len);
  return 0;
}

static int split_fields(struct lm_message *message, const uint8_t *body, size_t len) {
  message->count = 0;
  if (message->head.count > LM_FIELDS_MAX) return -EBADMSG;
  while (message->count < message->head.count) {
    uint32_t size;
    if (len < sizeof size) return -EBADMSG;
    memcpy(&size, body, sizeof size);
    body += sizeof size;
    len -= sizeof size;
    if (size > len) return -EBADMSG;
    message->fields[message->count++] = (struct lm_field){body, size};
    body += size;
    len -= size;
  }
  return len == 0 ? 0 : -EBADMSG;
}

static void start_message(struct lm_message *message) {
  message->head = (struct lm_header){0};
  message->count = 0;
  message->fd_count = 0;
  message->short_of_fds = false;
  message->bytes = NULL;
}

int lm_message_decode(const void *data, size_t len, struct lm_message *message) {
  start_message(message);
  if (len < sizeof message->head) return -EBADMSG;
  memcpy(&message->head, data, sizeof message->head);
  if (message->head.magic != LM_MAGIC || message->head.version != LM_PROTOCOL) return -EBADMSG;
  if ((message->head.flags & LM_F_BODY_FD) != 0) return -EBADMSG;
  return split_fields(message, (const uint8_t *)data + sizeof message->head, len - sizeof message->head);
}

/* The body of a packet whose header is good. 0 or -EBADMSG. */
static int take_body(struct lm_message *message, const uint8_t *body, size_t len) {
  bool in_file = (message->head.flags & LM_F_BODY_FD) != 0;
  if (in_file && len > 0) return -EBADMSG;
  int result = in_file ? read_body(message, &len) : copy_body(message, body, len);
  return result < 0 ? result : split_fields(message, message->bytes, len);
}

/* A packet is in `buffer`; `short_of_fds`: its descriptors were cut off although there was room for them. */
static int take_packet(struct lm_message *message, const uint8_t *buffer, size_t len, bool whole, bool short_of_fds) {
  struct lm_header *head = &message->head;
  memcpy(head, buffer, len < sizeof *head ? len : sizeof *head);
  bool headed = len >= sizeof *head && head->magic == LM_MAGIC;
  if (whole && headed && head->version != LM_PROTOCOL) return -EPROTO;
  if (whole && headed) return take_body(message, buffer + sizeof *head, len - sizeof *head) < 0 ? -EBADMSG : 1;
  if (!headed || !short_of_fds) return -EBADMSG;
  /* What else is in it must not be lost with them: answers, say. */
  for (uint32_t i = 0; i < message->fd_count; i++) lm_close(&message->fds[i]);
  message->fd_count = 0;
  message->short_of_fds = true;
  bool is_batch = head->version == LM_PROTOCOL && head->type == LM_MSG_BATCH && (head->flags & LM_F_BODY_FD) == 0;
  return is_batch && take_body(message, buffer + sizeof *head, len - sizeof *head) == 0 ? 1 : -EMFILE;
}

static int receive_into(int sock, uint8_t *buffer, size_t size, struct lm_message *message) {
  union {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(int) * LM_FDS_MAX)];
  } control;
  struct iovec part = {buffer, size};
  struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n;
  do {
    n = recvmsg(sock, &packet, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  bool fits = take_fds(&packet, message);
  if (n == 0) return 0;
  int cut = packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
  /* Cut off although there was room for them: this process can have no more. */
  bool short_of_fds = message->fd_count < LM_FDS_MAX && cut == MSG_CTRUNC;
  return take_packet(message, buffer, (size_t)n, fits && cut == 0, short_of_fds);
}

int lm_receive(int sock, struct lm_room *room, struct lm_message *message) {
  start_message(message);
  int result = receive_into(sock, lm_room_take(room), room->size, message);
  lm_room_leave(room);
  if (result != 1) lm_message_end(message);
  return result;
}

void lm_message_end(struct lm_message *message) {
  for (uint32_t i = 0; i < message->fd_count; i++) lm_close(&message->fds[i]);
  message->fd_count = 0;
  message->count = 0;
  free(message->bytes);
  message->bytes = NULL;
}

bool lm_message_move_fds(struct lm_message *from, uint32_t index, uint32_t count, struct lm_message *to) {
  if (index > from->fd_count || count > from->fd_count - index || count > LM_FDS_MAX - to->fd_count) return false;
  for (uint32_t i = index; i < index + count; i++) to->fds[to->fd_count++] = lm_message_take_fd(from, i);
  return true;
}

int lm_message_take_fd(struct lm_message *message, uint32_t index) {
  if (index >= message->fd_count) return -1;
  int fd = message->fds[index];
  message->fds[index] = -1;
  return fd;
}
