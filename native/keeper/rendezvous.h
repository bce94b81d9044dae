/* Where keepers meet the engine: a socket, the lock of whoever starts one, and the folder of both. Nothing here waits.
 */
#ifndef LM_RENDEZVOUS_H
#define LM_RENDEZVOUS_H

#include <stdbool.h>

/* Whether nobody else can create files there. Absent is fine: it will be ours. */
bool lm_rendezvous_is_private(const char *directory);
/* Takes the lock. The descriptor that holds it; -EWOULDBLOCK: another keeper is starting an engine right now, or an
 * engine that has ended took the lock file with it; another -errno. */
int lm_rendezvous_lock(const char *path);
/* A connection, or -errno; -EPERM: somebody else listens there. */
int lm_rendezvous_connect(const char *path);
/* A listening socket, or -errno. */
int lm_rendezvous_listen(const char *path);

#endif
