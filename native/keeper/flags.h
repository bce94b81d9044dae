/* The command line as Go's flag package reads it: -x v, -x=v, --x v, --x=v; flags end at the first other word. */
#ifndef LM_FLAGS_H
#define LM_FLAGS_H

#include <stdbool.h>

#include "../common/error.h"

struct lm_flags {
  const char *namespace;
  const char *address;
  const char *publish_binary;
  const char *id;
  const char *bundle;
  const char *socket;
  const char *debug_socket;
  bool debug;
  bool info;
  bool version;
  const char *verb; /* the first word, "" when there is none */
  const char
      *unknown; /* the last flag with a value that is not known, or NULL: accepted, but worth a line in the log */
};

/* Borrows from argv. An error is a wrong command line: exit status 2. */
int lm_flags_parse(int argc, char **argv, struct lm_flags *flags, struct lm_error *err);

#endif
