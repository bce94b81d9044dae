#include "flags.h"

#include <stddef.h>
#include <string.h>

enum kind { TEXT, BOOL };

static const struct {
  const char *name;
  enum kind kind;
  size_t offset;
} known[] = {
    {"namespace", TEXT, offsetof(struct lm_flags, namespace)},
    {"address", TEXT, offsetof(struct lm_flags, address)},
    {"publish-binary", TEXT, offsetof(struct lm_flags, publish_binary)},
    {"id", TEXT, offsetof(struct lm_flags, id)},
    {"bundle", TEXT, offsetof(struct lm_flags, bundle)},
    {"socket", TEXT, offsetof(struct lm_flags, socket)},
    {"debug-socket", TEXT, offsetof(struct lm_flags, debug_socket)},
    {"debug", BOOL, offsetof(struct lm_flags, debug)},
    {"info", BOOL, offsetof(struct lm_flags, info)},
    {"v", BOOL, offsetof(struct lm_flags, version)},
    {"version", BOOL, offsetof(struct lm_flags, version)},
};

static bool parse_bool(const char *text, bool *value) {
  static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
  static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
  for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
    if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
      *value = strcmp(text, yes[i]) == 0;
      return true;
    }
  }
  return false;
}

int lm_flags_parse(int argc, char **argv, struct lm_flags *flags, struct lm_error *err) {
  *flags = (struct lm_flags){.namespace = "",
                             .address = "",
                             .publish_binary = "",
                             .id = "",
                             .bundle = "",
                             .socket = "",
                             .debug_socket = "",
                             .verb = ""};
  int at = 1;
  while (at < argc) {
    const char *word = argv[at];
    if (word[0] != '-' || word[1] == '\0') break;
    at++;
    const char *name = word + (word[1] == '-' ? 2 : 1);
    if (*name == '\0') break; /* "--" ends the flags */
    if (*name == '-' || *name == '=') return lm_fail(err, 0, "bad flag syntax: %s", word);
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    size_t i = 0;
    while (i < sizeof known / sizeof known[0] && (strncmp(known[i].name, name, len) != 0 || known[i].name[len] != '\0'))
      i++;
    if (i == sizeof known / sizeof known[0]) {
      /* Without "=" nobody can tell whether the next word is its value. */
      if (value == NULL) return lm_fail(err, 0, "flag provided but not defined: -%s", name);
      flags->unknown = word;
    } else if (known[i].kind == BOOL) {
      bool set = true;
      if (value != NULL && !parse_bool(value, &set)) {
        return lm_fail(err, 0, "invalid boolean value \"%s\" for -%s", value, known[i].name);
      }
      *(bool *)(void *)((char *)flags + known[i].offset) = set;
    } else {
      if (value == NULL) {
        if (at == argc) return lm_fail(err, 0, "flag needs an argument: -%s", name);
        value = argv[at++];
      }
      *(const char **)(void *)((char *)flags + known[i].offset) = value;
    }
  }
  if (at < argc) flags->verb = argv[at];
  return 0;
}
