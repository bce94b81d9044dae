/* Which keepers there are: each has a file in the state directory, for the `lamina` command. */
#ifndef LM_REGISTRATION_H
#define LM_REGISTRATION_H

#include "keeper.h"

/* Writes the keeper's file, `keeper-<16 hex digits>`, unless it is there. What fails is a line in the log: the keeper
 * serves without it, and tries again when it links with an engine. */
void lm_register(struct lm_keeper *keeper);
/* Removes it. Before the socket is: whoever binds that path next has the same file. */
void lm_unregister(const struct lm_keeper *keeper);
/* Removes the file that a keeper of that socket has left in the state directory. */
void lm_unregister_socket(const char *socket);

#endif
