/*
 * A logging binary (`--log-uri binary://…`): copies the container's stdout (fd 3) and stderr (fd 4) to the file given as
 * the value of the URI's `file` key, after a header line with its arguments and environment. fd 5 is the readiness pipe.
 * With the key `mode`: `unready` exits before it is ready; `mute` closes fd 5 without a byte and then logs;
 * `stubborn` ignores SIGTERM, and stays when there is nothing more to log.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int copy(int from, const char *prefix, FILE *to) {
  char data[4096];
  ssize_t got = read(from, data, sizeof data);
  if (got <= 0) return -1;
  fprintf(to, "%s:%.*s", prefix, (int)got, data);
  fflush(to);
  return 0;
}

int main(int argc, char **argv) {
  const char *file = NULL, *mode = "";
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "file") == 0) file = argv[i + 1];
    if (strcmp(argv[i], "mode") == 0) mode = argv[i + 1];
  }
  if (file == NULL || strcmp(mode, "unready") == 0) return 3;
  if (strcmp(mode, "stubborn") == 0) (void)signal(SIGTERM, SIG_IGN);
  FILE *out = fopen(file, "ae");
  if (out == NULL) return 4;
  for (char **entry = environ; *entry != NULL; entry++) fprintf(out, "env:%s\n", *entry);
  fflush(out);
  if (strcmp(mode, "mute") != 0 && write(5, "x", 1) != 1) return 5;
  close(5);
  struct pollfd streams[2] = {{.fd = 3, .events = POLLIN}, {.fd = 4, .events = POLLIN}};
  while (streams[0].fd >= 0 || streams[1].fd >= 0) {
    if (poll(streams, 2, -1) < 0) continue;
    for (int i = 0; i < 2; i++) {
      if (streams[i].fd >= 0 && streams[i].revents != 0 && copy(streams[i].fd, i == 0 ? "out" : "err", out) != 0) {
        streams[i].fd = -1;
      }
    }
  }
  while (strcmp(mode, "stubborn") == 0) (void)pause();
  return fclose(out) == 0 ? 0 : 6;
}
