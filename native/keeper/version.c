#include "version.h"

const char lm_version[] = LM_VERSION;
const char lm_revision[] = LM_REVISION;
const char lm_build[] = LM_BUILD;
