#ifndef LM_VERSION_H
#define LM_VERSION_H

/* package.json's version and the commit this was built from; the only file the build compiles anew for each commit. */
extern const char lm_version[];
extern const char lm_revision[];
/* The first 16 hex digits of the SHA-256 of the keeper's sources and Makefile: equal for equal code. */
extern const char lm_build[];

#endif
