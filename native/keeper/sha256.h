#ifndef LM_SHA256_H
#define LM_SHA256_H

#include <stddef.h>

/* SHA-256 (FIPS 180-4) of data, as 64 lower-case hex digits and a NUL. */
void lm_sha256_hex(const void *data, size_t len, char out[65]);

#endif
