/* A strict JSON scanner (RFC 8259) that finds a few members of an object and checks all the rest. */
#ifndef LM_JSON_H
#define LM_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/error.h"

enum lm_json_kind { LM_JSON_NONE, LM_JSON_STRING, LM_JSON_NUMBER, LM_JSON_BOOL };

/* One member to look for: `path` is its keys from the top, "annotations\0a.b\0" style, as an array ending with NULL. */
struct lm_json_want {
  const char *path[4];
  enum lm_json_kind kind; /* what it must be; null counts as absent */
  char *text;             /* out: string decoded to UTF-8, or a number's own text; to be freed; NULL when absent */
  bool truth;             /* out: for LM_JSON_BOOL */
};

/* Checks the whole text and fills what is wanted; as in Go's decoder the last of equal keys wins. A value on a wanted
 * path that is of another kind is an error. Texts found before an error are freed. */
int lm_json_find(const uint8_t *data, size_t len, struct lm_json_want *wants, size_t count, struct lm_error *err);
void lm_json_free(struct lm_json_want *wants, size_t count);

#endif
