/*
 * A container that does what it may to disturb the node, static; all of it at once, until it is killed.
 *
 *   hostile all [SECONDS]   every act below as a child of its own, again and again; ends by itself after SECONDS
 *   hostile ACT             one act: streams messages files forks names signals memory mounts groups
 *
 * The acts stay within the container: signals go to the processes of its own pid namespace, and to those that its
 * user may signal where that namespace is shared. Whatever is refused is tried again; nothing is reported.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Of the keeper's protocol (native/common/protocol.h): what a message begins with, and some types. */
enum { MAGIC = 76, VERSION = 1, MAX_TYPE = 96 };

static uint32_t state = 2463534242u;

static uint32_t chance(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % below;
}

static void pause_ms(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

/* Floods both streams with bytes of all values, in pieces of all sizes. */
static void streams(void) {
  static uint32_t words[65536];
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) words[i] = chance(UINT32_MAX);
  for (;;) {
    if (write(1 + (int)chance(2), words, 1 + chance(sizeof words)) < 0) pause_ms(5);
  }
}

/* Writes what a keeper or an engine would send: headers with every type, counts and lengths that are wrong, programs. */
static void messages(void) {
  static const char fields[] = "\7\0\0\0/bin/sh\2\0\0\0-c\12\0\0\0touch /own\377\377\377\377\0\0\0\0";
  unsigned char message[256];
  for (;;) {
    uint32_t words[4] = {chance(4096), chance(1000), chance(3) == 0 ? UINT32_MAX : chance(20), chance(64)};
    memset(message, 0, sizeof message);
    message[0] = MAGIC;
    message[1] = VERSION;
    message[2] = (unsigned char)chance(MAX_TYPE);
    memcpy(message + 4, words, sizeof words);
    memcpy(message + 24, fields, sizeof fields);
    if (write(1 + (int)chance(2), message, 24 + chance(200)) < 0) pause_ms(5);
  }
}

/* Changes what it was given: flags, owners, modes, sizes, through every name that its descriptors have. */
static void files(void) {
  char path[64];
  for (;;) {
    int fd = (int)chance(8);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", chance(2) == 0 ? 1 : (int)getpid(), fd);
    int other = open(path, (chance(2) == 0 ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
    char some[4096];
    if (other >= 0 && read(other, some, sizeof some) < 0) pause_ms(1);
    int target = other >= 0 ? other : fd;
    fcntl(target, F_SETFL, chance(2) == 0 ? O_NONBLOCK : 0);
    fcntl(target, F_SETPIPE_SZ, 4096 << chance(9));
    fcntl(target, F_SETOWN, 1);
    fchmod(target, 04777);
    fchown(target, 1000, 1000);
    if (ftruncate(target, 0) != 0) pause_ms(1);
    ioctl(target, TIOCSTI, "x");
    if (other >= 0) close(other);
  }
}

/* As many processes as it gets, then none. */
static void forks(void) {
  for (;;) {
    pid_t child = 0;
    for (int count = 0; count < 10000 && child >= 0; count++) {
      child = fork();
      if (child == 0) {
        for (;;) pause();
      }
    }
    pause_ms(20);
    // Its own group: itself too. It is started again.
    kill(0, SIGKILL);
  }
}

/* Goes by the names that the node's own processes have, with the environment they read. */
static void names(void) {
  static char *const environments[] = {"LAMINA_NODE=/bin/hostile", "LAMINA_STATE_DIR=/tmp", "PATH=/tmp",
                                       "LD_PRELOAD=/tmp/own.so", "NODE_OPTIONS=--require=/tmp/own.js", NULL};
  static char *const as[][4] = {{"/usr/local/lib/lamina/engine.cjs", "names", NULL, NULL},
                                {"node", "names", "/usr/local/lib/lamina/engine.cjs", NULL},
                                {"containerd-shim-lamina-v2", "names", "start", NULL},
                                {"a\n b\\ (c) d\xff", "names", "engine.cjs", NULL}};
  prctl(PR_SET_NAME, chance(2) == 0 ? "engine.cjs" : ") R 1 (\n");
  pause_ms(50);
  state ^= (uint32_t)time(NULL) ^ (uint32_t)getpid();
  execve("/proc/self/exe", (char **)as[chance(4)], environments);
}

/* Every signal but those that would stop its own doing, to everything it can name. */
static void signals(void) {
  static const int numbers[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGCHLD, SIGWINCH, SIGPIPE, SIGCONT, SIGURG, SIGIO};
  for (;;) {
    int number = numbers[chance(sizeof numbers / sizeof *numbers)];
    for (int other = 1; other < 400; other++) kill(other, number);
    kill(-1, number);
    kill(-1, 0);
    // Every exec would end before it has begun.
    pause_ms(chance(20) == 0 ? 1000 : 10);
  }
}

/* More memory than there is, in a child that is killed for it. */
static void memory(void) {
  for (;;) {
    pid_t child = fork();
    if (child == 0) {
      for (size_t size = 1 << 20;; size += 1 << 20) {
        char *more = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (more == MAP_FAILED) _exit(1);
        memset(more, (int)size, 1 << 20);
      }
    }
    if (child > 0) waitpid(child, NULL, 0);
    pause_ms(1000);
  }
}

static void put(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd >= 0 && write(fd, text, strlen(text)) < 0) pause_ms(1);
  if (fd >= 0) close(fd);
}

/* Root of namespaces of its own. */
static void unshare_all(int more) {
  char map[64];
  uid_t uid = getuid();
  gid_t gid = getgid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS | more) != 0 && unshare(CLONE_NEWNS | more) != 0) return;
  put("/proc/self/setgroups", "deny");
  snprintf(map, sizeof map, "0 %u 1\n", uid);
  put("/proc/self/uid_map", map);
  snprintf(map, sizeof map, "0 %u 1\n", gid);
  put("/proc/self/gid_map", map);
}

/* A hundred mounts, one on the other, with files in them. */
static void mounts(void) {
  unshare_all(0);
  mkdir("/tmp/m", 0777);
  for (;;) {
    for (int count = 0; count < 100; count++) {
      if (mount("tmpfs", "/tmp/m", "tmpfs", 0, "size=64k") != 0) break;
      put("/tmp/m/file", "x");
    }
    for (int count = 0; count < 100; count++) umount2("/tmp/m", MNT_DETACH);
    pause_ms(20);
  }
}

/* Groups in groups, down from its own, with processes in them and names that are no text. */
static void groups(void) {
  unshare_all(CLONE_NEWCGROUP);
  mkdir("/tmp/g", 0777);
  if (mount("cgroup2", "/tmp/g", "cgroup2", 0, NULL) != 0 && mount("cgroup", "/tmp/g", "cgroup", 0, "pids") != 0) {
    for (;;) pause();
  }
  for (;;) {
    char path[4000] = "/tmp/g";
    for (int depth = 0; depth < 200; depth++) {
      strcat(path, depth % 3 == 0 ? "/\xff\xfe" : depth % 3 == 1 ? "/cgroup.procs\n" : "/g");
      if (mkdir(path, 0777) != 0) break;
    }
    while (strlen(path) > strlen("/tmp/g") && rmdir(path) == 0) *strrchr(path, '/') = 0;
    pause_ms(5);
  }
}

static const char *const ACTS[] = {"streams", "messages", "files",  "forks", "names",
                                   "signals", "memory",   "mounts", "groups"};
enum { ACT_COUNT = sizeof ACTS / sizeof *ACTS };

static void act(const char *name) {
  state ^= (uint32_t)getpid() * 2654435761u;
  if (strcmp(name, "streams") == 0) streams();
  if (strcmp(name, "messages") == 0) messages();
  if (strcmp(name, "files") == 0) files();
  if (strcmp(name, "forks") == 0) forks();
  if (strcmp(name, "names") == 0) names();
  if (strcmp(name, "signals") == 0) signals();
  if (strcmp(name, "memory") == 0) memory();
  if (strcmp(name, "mounts") == 0) mounts();
  if (strcmp(name, "groups") == 0) groups();
}

static pid_t start(int which) {
  pid_t child = fork();
  if (child != 0) return child;
  setpgid(0, 0);
  act(ACTS[which]);
  _exit(1);
}

static int all(int seconds) {
  pid_t children[ACT_COUNT] = {0};
  time_t end = time(NULL) + seconds;
  for (int number = 1; number < NSIG; number++) {
    if (number != SIGCHLD) signal(number, SIG_IGN);
  }
  for (;;) {
    // Not at once: while there are no more processes or no memory, none of the others does anything either.
    for (int i = 0; i < ACT_COUNT; i++) {
      if (children[i] <= 0 && chance(10) == 0) children[i] = start(i);
    }
    int status;
    for (pid_t gone; (gone = waitpid(-1, &status, WNOHANG)) > 0;) {
      for (int i = 0; i < ACT_COUNT; i++) {
        if (children[i] == gone) children[i] = 0;
      }
    }
    if (seconds > 0 && time(NULL) >= end) return (int)chance(256);
    pause_ms(50);
  }
}

/* As root it does nothing outside a pid namespace that it is the init of. */
static int is_contained(void) {
  char mine[256] = "", first[256] = "";
  if (getuid() != 0 || getpid() == 1) return 1;
  return readlink("/proc/self/exe", mine, sizeof mine - 1) > 0 && readlink("/proc/1/exe", first, sizeof first - 1) > 0 &&
         strcmp(mine, first) == 0;
}

int main(int argc, char **argv) {
  const char *verb = argc > 1 ? argv[1] : "";
  if (!is_contained()) {
    fprintf(stderr, "hostile: as root only below an init of its own\n");
    return 2;
  }
  if (strcmp(verb, "all") == 0) return all(argc > 2 ? atoi(argv[2]) : 0);
  act(verb);
  fprintf(stderr, "hostile: unknown act \"%s\"\n", verb);
  return 2;
}
