/* Where keepers meet the engine: a socket, the lock of whoever starts one, and the folder of both. Nothing here waits.
 */
#ifndef LM_RENDEZVOUS_H
#define LM_RENDEZVOUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A file by what it is, not by what it is called. Zeroes are no file. */
struct lm_file_id {
  dev_t dev;
  ino_t ino;
};
static inline bool lm_same_file(struct lm_file_id a, struct lm_file_id b) {
  return a.ino == b.ino && a.dev == b.dev;
}

/* Opens the folder, which must be there, be no link, and be writable for nobody but us. A descriptor, or -errno; -EPERM:
 * others could create files there. */
int lm_rendezvous_open(const char *directory);
/* The file that a path in the folder names; zeroes when there is none. */
struct lm_file_id lm_rendezvous_named(int folder, const char *path);
/* Takes the lock. The descriptor that holds it; -EWOULDBLOCK: another keeper is starting an engine right now, or an
 * engine that has ended took the lock file with it; another -errno. */
int lm_rendezvous_lock(int folder, const char *path);
/* A connection to whoever listens at the socket, and which socket that was, or -errno; -EPERM: somebody else listens
 * there; -ECONNREFUSED: nobody does, or it is the socket `dead`. */
int lm_rendezvous_connect(int folder, const char *path, struct lm_file_id dead, struct lm_file_id *found);
/* A listening socket, or -errno. */
int lm_rendezvous_listen(const char *path);

/* Writes down, with the lock held, which process was started to serve which socket. 0 or -errno. */
int lm_rendezvous_record(int folder, int lock, const char *record, pid_t pid, struct lm_file_id socket);
/* The process that was started to serve this socket, as a pidfd, or -1 when that is not known for certain: pids are used
 * again, and a process can call itself what it likes. `script` is what an engine is known by whose starter wrote down no
 * more than its pid. */
int lm_rendezvous_process(int folder, int lock, const char *record, struct lm_file_id socket, const char *script);

#endif
