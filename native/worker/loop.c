/* Loop devices. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "worker.h"

#define TRIES 100

/* One try to take a free device; EBUSY when somebody else was faster. */
static int attach_once(int control, int file, const char *name, bool read_only, char device[32],
                       struct lm_failure *failure) {
  int number = ioctl(control, LOOP_CTL_GET_FREE);
  if (number < 0) return lm_failed(failure, "ioctl", "/dev/loop-control");
  (void)snprintf(device, 32, "/dev/loop%d", number);
  int fd = open(device, O_RDWR | O_CLOEXEC);
  if (fd < 0) return lm_failed(failure, "open", device);
  struct loop_config config = {.fd = (uint32_t)file};
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? (uint32_t)LO_FLAGS_READ_ONLY : 0);
  (void)snprintf((char *)config.info.lo_file_name, sizeof config.info.lo_file_name, "%.63s", name);
  if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) return fd;
  (void)lm_failed(failure, "ioctl", device);
  (void)close(fd);
  return -1;
}

int lm_loop_attach(const char *file, bool read_only, char device[32], struct lm_failure *failure) {
  LM_CLEANUP_CLOSE int fd = open(file, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (fd < 0) return lm_failed(failure, "open", file);
  LM_CLEANUP_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) return lm_failed(failure, "open", "/dev/loop-control");
  for (int i = 1;; i++) {
    int attached = attach_once(control, fd, file, read_only, device, failure);
    if (attached >= 0 || failure->error != EBUSY || i == TRIES) return attached;
  }
}
