/*
 * Test program for containers, static, one binary with several verbs. No output besides what each verb says.
 *
 *   probe bytes N        write N pseudo-random bytes to stdout (always the same ones)
 *   probe sink           read stdin to its end, print "<count> <64-bit sum>"
 *   probe hog N          touch N bytes of memory, print "held", wait for a signal
 *   probe orphans N      start N sleepers whose parent is gone, print "started", exit
 *   probe winsize        print "ROWS COLS" now and after each SIGWINCH until "quit" or the end of stdin
 *   probe drip N         write N numbered lines "line I\n", one write(2) each
 *   probe replace N      run itself anew by execve without end, each time with N busy threads that have to die for it
 *   probe signals        print the name of each SIGTERM, SIGUSR1, SIGHUP as it comes; SIGINT ends with status 7
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t words[8192];

static int write_all(const char *data, size_t length) {
  while (length > 0) {
    ssize_t written = write(1, data, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      perror("write");
      return 1;
    }
    data += written;
    length -= (size_t)written;
  }
  return 0;
}

static int bytes(uint64_t count) {
  uint64_t state = 0x9E3779B97F4A7C15ULL;
  while (count > 0) {
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      words[i] = state;
    }
    size_t chunk = count < sizeof words ? (size_t)count : sizeof words;
    if (write_all((const char *)words, chunk) != 0) return 1;
    count -= chunk;
  }
  return 0;
}

/* The sum depends on every byte and its place, whatever the sizes of the single reads. */
static int sink(void) {
  uint64_t count = 0, sum = 1469598103934665603ULL, word = 0;
  const unsigned char *data = (const unsigned char *)words;
  for (;;) {
    ssize_t got = read(0, words, sizeof words);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      perror("read");
      return 1;
    }
    if (got == 0) break;
    for (ssize_t i = 0; i < got; i++) {
      word = word << 8 | data[i];
      if ((++count & 7) == 0) sum = (sum ^ word) * 1099511628211ULL;
    }
  }
  sum = (sum ^ word) * 1099511628211ULL;
  printf("%llu %016llx\n", (unsigned long long)count, (unsigned long long)sum);
  return 0;
}

static int hog(uint64_t count) {
  char *memory = mmap(NULL, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  for (uint64_t i = 0; i < count; i += 4096) memory[i] = (char)(i >> 12);
  if (write_all("held\n", 5) != 0) return 1;
  pause();
  return 0;
}

static int orphans(uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    pid_t child = fork();
    if (child < 0) {
      perror("fork");
      return 1;
    }
    if (child == 0) {
      close(0);
      for (;;) pause();
    }
  }
  return write_all("started\n", 8);
}

static void on_winch(int number) { (void)number; }

static int print_size(void) {
  struct winsize size;
  char line[32];
  if (ioctl(0, TIOCGWINSZ, &size) != 0) {
    perror("TIOCGWINSZ");
    return 1;
  }
  int length = snprintf(line, sizeof line, "%d %d\n", size.ws_row, size.ws_col);
  return write_all(line, (size_t)length);
}

/* The signal can come only while ppoll waits: no change between a line and the next wait is missed. */
static int winsize(void) {
  struct sigaction action = {.sa_handler = on_winch};
  sigaction(SIGWINCH, &action, NULL);
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGWINCH);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  if (print_size() != 0) return 1;
  for (;;) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    if (ppoll(&input, 1, NULL, &before) < 0) {
      if (errno != EINTR || print_size() != 0) return 1;
      continue;
    }
    ssize_t got = read(0, words, 64);
    if (got <= 0 || memcmp(words, "quit", 4) == 0) return 0;
  }
}

static int drip(uint64_t count) {
  char line[32];
  for (uint64_t i = 0; i < count; i++) {
    int length = snprintf(line, sizeof line, "line %llu\n", (unsigned long long)i);
    if (write_all(line, (size_t)length) != 0) return 1;
  }
  return 0;
}

static int signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, NULL);
  if (write_all("ready\n", 6) != 0) return 1;
  for (;;) {
    int number = 0;
    if (sigwait(&set, &number) != 0) return 1;
    if (number == SIGINT) return 7;
    const char *line = number == SIGTERM ? "TERM\n" : number == SIGHUP ? "HUP\n" : "USR1\n";
    if (write_all(line, strlen(line)) != 0) return 1;
  }
}

static void *spin(void *unused) {
  for (volatile uint64_t turns = 0;; turns++) {
    if (turns % 1024 == 0) usleep(10);
  }
  return unused;
}

static int replace(char **argv) {
  for (unsigned long count = strtoul(argv[2], NULL, 10); count > 0; count--) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, spin, NULL) != 0) return 1;
  }
  usleep(1000);
  execv("/proc/self/exe", argv);
  perror("execv");
  return 1;
}

int main(int argc, char **argv) {
  const char *verb = argc > 1 ? argv[1] : "";
  uint64_t number = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
  if (strcmp(verb, "bytes") == 0) return bytes(number);
  if (strcmp(verb, "sink") == 0) return sink();
  if (strcmp(verb, "hog") == 0) return hog(number);
  if (strcmp(verb, "orphans") == 0) return orphans(number);
  if (strcmp(verb, "winsize") == 0) return winsize();
  if (strcmp(verb, "drip") == 0) return drip(number);
  if (strcmp(verb, "signals") == 0) return signals();
  if (strcmp(verb, "replace") == 0 && argc > 2) return replace(argv);
  fprintf(stderr, "probe: unknown verb \"%s\"\n", verb);
  return 2;
}
