/* Running a program: everything between clone and exec. */
#ifndef LM_SPAWN_H
#define LM_SPAWN_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../common/error.h"

#define LM_SPAWN_FDS_MAX 32
#define LM_SPAWN_FD_LIMIT 256 /* numbers in the child are below this */

/* A cgroup that the child joins before it executes the program. */
struct lm_move {
  char *procs;    /* the group's cgroup.procs ... */
  char *fallback; /* ... and the one to be joined where there is no such group any more */
  int error;      /* out: errno when it could join neither, which keeps nothing else from being done */
};

struct lm_spawn {
  const char *program; /* a path, or a name looked up in the child's PATH */
  char *const *argv;
  char *const *env;
  const char *cwd;
  const int *from; /* our descriptors ... */
  const int *to;   /* ... and their numbers in the child */
  unsigned fd_count;
  bool new_session;
  bool die_with_parent;
  bool confined; /* for Node: SIGUSR1 stays blocked, no sockets but those of AF_UNIX, no io_uring */
  const struct rlimit *nofile; /* RLIMIT_NOFILE to restore, or NULL */
  struct lm_move *moves;
  unsigned move_count;
  const char *oom_score; /* for oom_score_adj, or NULL; a failure is passed over */
};

/* Starts the program and returns its pid; a failure of any step up to and including execve is an error whose text names
 * the step ("execve /usr/bin/runc"), and leaves no child behind. Waits for the exec, like vfork. */
pid_t lm_spawn(const struct lm_spawn *spawn, struct lm_error *err);

/* Finds `name` in a PATH list (NULL: the usual one). A path to be freed, or NULL with errno. */
char *lm_find_program(const char *name, const char *path_list);

#endif
