/* Descriptors on their way through a Unix socket; see SCM_RIGHTS in unix(7). */
#ifndef LM_SCM_H
#define LM_SCM_H

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* Lets a message carry descriptors, which stay the caller's. `control` lives as long as the message, is aligned as a
 * struct cmsghdr, and has CMSG_SPACE(count * sizeof(int)) bytes. */
static inline void lm_scm_attach(struct msghdr *message, void *control, const int *fds, size_t count) {
  if (count == 0) return;
  size_t size = count * sizeof(int);
  memset(control, 0, CMSG_SPACE(size));
  message->msg_control = control;
  message->msg_controllen = CMSG_SPACE(size);
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(size);
  memcpy(CMSG_DATA(header), fds, size);
}

#endif
