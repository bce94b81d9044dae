/* Where things are: node, the state directory. See "Finding an engine" in native/README.md. */
#ifndef LM_PATHS_H
#define LM_PATHS_H

#include <sys/types.h>

#include "../common/error.h"

/* The node program: LAMINA_NODE, else that of the installed release, else the library's. To be freed; NULL when there
 * is none. PATH is not searched: what else is called node on the machine is no business of a root service. */
char *lm_node_path(const char *library);
/* LAMINA_STATE_DIR, /run/lamina or $XDG_RUNTIME_DIR/lamina; to be freed; NULL when none of these is known. */
char *lm_state_dir(void);
/* That nobody else can create files in the state directory, who could pose as the engine there. One that is not there
 * yet is fine. 0, or -1 with err: what is wrong with which directory, and what to do. */
int lm_check_state_dir(const char *directory, struct lm_error *err);
/* 16 hex digits of what makes engines different. */
void lm_engine_key(const char *library, char out[17]);

/* That a name is one component of a path, neither "." nor "..": it becomes part of the runtime's paths. 0, or -1 with
 * err. */
int lm_check_name(const char *what, const char *name, struct lm_error *err);
/* That no component of a relative path is "..". 0, or -1 with err. */
int lm_check_no_ascent(const char *what, const char *path, struct lm_error *err);

/* The made part of a path, for undoing. */
struct lm_made {
  char *path;   /* as given, NULL when nothing was made */
  size_t first; /* length of the shortest part that is new */
};
/* mkdir -p; `made` (may be NULL) remembers which directories are new. */
int lm_make_dirs(const char *path, mode_t mode, struct lm_made *made, struct lm_error *err);
/* Removes what lm_make_dirs() made, as far as it is empty, and frees the memory. */
void lm_unmake_dirs(struct lm_made *made);

#endif
