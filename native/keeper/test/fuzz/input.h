/* Takes a fuzzer's input apart. Beyond its end everything is 0, so that a shorter input is a simpler one. */
#ifndef LM_FUZZ_INPUT_H
#define LM_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
  const uint8_t *at, *end;
};

static inline uint8_t take8(struct input *in) {
  return in->at < in->end ? *in->at++ : 0;
}

static inline uint32_t take16(struct input *in) {
  uint32_t low = take8(in);
  return low | (uint32_t)take8(in) << 8;
}

static inline uint32_t take32(struct input *in) {
  uint32_t low = take16(in);
  return low | take16(in) << 16;
}

/* At most `most` bytes, fewer at the end of the input. */
static inline const uint8_t *take_bytes(struct input *in, size_t most, size_t *len) {
  const uint8_t *from = in->at;
  size_t left = (size_t)(in->end - in->at);
  *len = most < left ? most : left;
  in->at += *len;
  return from;
}

#endif
