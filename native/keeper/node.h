/* How Node is run, whatever for: its options, its environment, and what it may not do. See "Running Node" in
 * native/README.md. */
#ifndef LM_NODE_H
#define LM_NODE_H

/* argv of `node <options> <library>/engine.cjs [verb]`; verb may be NULL. One allocation for the list and its texts
 * (but for node and verb, which must live as long), to be freed. */
char **lm_node_argv(char *node, const char *library, char *verb);
/* What an engine gets of an environment, and what we add. The list is to be freed, the texts are those of `from`. */
char **lm_node_env(char *const *from);

#endif
