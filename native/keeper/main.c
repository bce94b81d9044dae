/* containerd-shim-lamina-v2: flags, then one verb. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/util.h"
#include "verbs.h"
#include "version.h"

static void complain(const char *text) {
  LM_CLEANUP_FREE char *line = lm_format("%s: %s\n", LM_NAME, text);
  (void)lm_write_all(STDERR_FILENO, line, strlen(line));
}

/* Standard descriptors that are closed would be taken by the first files opened. Others are not ours. */
static void settle_descriptors(void) {
  for (int fd = 0; fd < 3; fd++) {
    if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", O_RDWR);
  }
  (void)close_range(3, ~0U, 0);
}

static int print_version(void) {
  LM_CLEANUP_FREE char *text = lm_format("%s:\n  Version:  %s\n  Revision: %s\n  Build:    %s\n\n", LM_NAME, lm_version,
                                         lm_revision, lm_build);
  return lm_write_all(STDOUT_FILENO, text, strlen(text)) < 0 ? 1 : 0;
}

int main(int argc, char **argv) {
  settle_descriptors();
  /* A daemon that no longer reads must be an error to undo things after, not a sudden end. */
  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGCHLD, SIG_DFL);
  struct lm_flags flags;
  struct lm_error err;
  if (lm_flags_parse(argc, argv, &flags, &err) < 0) {
    complain(err.text);
    return 2;
  }
  if (flags.version) return print_version();
  int result;
  if (flags.info) {
    result = lm_info(&err);
  } else if (*flags.namespace == '\0') {
    result = lm_fail(&err, 0, "shim namespace cannot be empty");
  } else if (strcmp(flags.verb, "start") == 0) {
    result = lm_start(&flags, &err);
  } else if (strcmp(flags.verb, "delete") == 0) {
    result = lm_delete(&flags, &err);
  } else {
    result = lm_fail(&err, 0,
                     *flags.verb == '\0' ? "no verb: expected start or delete%s"
                                         : "unknown verb %s: expected start or delete",
                     flags.verb);
  }
  if (result == 0) return 0;
  complain(err.text);
  return 1;
}
