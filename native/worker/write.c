/* Writing files whose writes may take long: a memory limit that is lowered reclaims inside the write. They are open
 * already, so that nothing here depends on how a path is written. */
#include <errno.h>
#include <string.h>

#include "worker.h"

int lm_work_write(struct lm_words *words, struct lm_failure *failure) {
  for (int fd = FIRST_FOREIGN_FD; *words->at != NULL; fd++) {
    const char *data = lm_word(words);
    ssize_t written;
    do {
      written = write(fd, data, strlen(data));
    } while (written < 0 && errno == EINTR);
    failure->index = fd - FIRST_FOREIGN_FD;
    if (written < 0) return lm_failed(failure, "write", "");
  }
  return 0;
}
