#include "node.h"

#include <stdbool.h>
#include <string.h>

#include "../common/protocol.h"
#include "../common/util.h"

/* The next word of a list that is separated by spaces; 0 at its end. */
static size_t next_word(const char **at) {
  while (**at == ' ') (*at)++;
  return strcspn(*at, " ");
}

static size_t count_words(const char *list) {
  size_t count = 0;
  for (size_t len = next_word(&list); len > 0; len = next_word(&list)) {
    count++;
    list += len;
  }
  return count;
}

char **lm_node_argv(char *node, const char *library, char *verb) {
  static const char options[] = LM_ENGINE_OPTIONS;
  static const char script[] = "/engine.cjs";
  size_t slots = count_words(options) + 4;
  char **argv = lm_alloc(slots * sizeof *argv + sizeof options + strlen(library) + sizeof script);
  char *text = (char *)(argv + slots);
  size_t count = 0;
  argv[count++] = node;
  memcpy(text, options, sizeof options);
  const char *at = text;
  for (size_t len = next_word(&at); len > 0; len = next_word(&at)) {
    argv[count] = text + (at - text);
    at += len;
    if (*at != '\0') argv[count][len] = '\0', at++;
    count++;
  }
  argv[count] = text + sizeof options;
  memcpy(argv[count], library, strlen(library));
  memcpy(argv[count] + strlen(library), script, sizeof script);
  argv[count + 1] = verb;
  return argv;
}

static bool is_wanted(const char *variable) {
  if (lm_after(variable, "LAMINA_") != NULL) return true;
  const char *at = LM_ENGINE_VARIABLES;
  for (size_t len = next_word(&at); len > 0; len = next_word(&at)) {
    if (strncmp(variable, at, len) == 0 && variable[len] == '=') return true;
    at += len;
  }
  return false;
}

char **lm_node_env(char *const *from) {
  /* Where the kernel allows it, libuv would use a ring for some calls. */
  static char no_ring[] = "UV_USE_IO_URING=0";
  size_t n = 0;
  while (from[n] != NULL) n++;
  char **env = lm_alloc((n + 2) * sizeof *env);
  size_t count = 0;
  for (size_t i = 0; i < n; i++) {
    if (is_wanted(from[i])) env[count++] = from[i];
  }
  env[count] = no_ring;
  return env;
}
