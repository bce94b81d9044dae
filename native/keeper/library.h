/* Where the engine is installed, for a shim that may have been copied or linked elsewhere. See "Finding an engine" in
 * native/README.md. */
#ifndef LM_LIBRARY_H
#define LM_LIBRARY_H

#include "../common/error.h"

/* The library directory (PREFIX/lib/lamina), to be freed; NULL with err, which names every place that was tried. */
char *lm_library_find(struct lm_error *err);
/* That nobody but root, us and the owner of our own program can change what would be run from there. 0, or -1 with
 * err. */
int lm_library_check(const char *library, struct lm_error *err);

#endif
