#include "json.h"

#include <string.h>

#include "../common/util.h"

#define DEPTH_MAX 128
#define PATH_MAX_KEYS 3

struct scan {
  const uint8_t *at, *start, *end;
  struct lm_json_want *wants;
  size_t want_count;
  const char *keys[PATH_MAX_KEYS]; /* of the objects we are in, as far as anything wanted can be that deep */
  struct lm_error *err;
};

static int bad(struct scan *s, const char *what) {
  return lm_fail(s->err, 0, "%s at offset %zu", what, (size_t)(s->at - s->start));
}

static void space(struct scan *s) {
  while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) s->at++;
}

static int hex4(struct scan *s, uint32_t *out) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) {
    if (s->at == s->end) return bad(s, "unterminated string");
    uint8_t c = *s->at++;
    uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 16;
    if (digit == 16) return bad(s, "bad \\u escape");
    value = value << 4 | digit;
  }
  *out = value;
  return 0;
}

static void put_utf8(struct lm_buf *out, uint32_t c) {
  uint8_t b[4];
  size_t n;
  if (c < 0x80) {
    b[0] = (uint8_t)c;
    n = 1;
  } else if (c < 0x800) {
    b[0] = (uint8_t)(0xc0 | c >> 6);
    b[1] = (uint8_t)(0x80 | (c & 0x3f));
    n = 2;
  } else if (c < 0x10000) {
    b[0] = (uint8_t)(0xe0 | c >> 12);
    b[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    b[2] = (uint8_t)(0x80 | (c & 0x3f));
    n = 3;
  } else {
    b[0] = (uint8_t)(0xf0 | c >> 18);
    b[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    b[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    b[3] = (uint8_t)(0x80 | (c & 0x3f));
    n = 4;
  }
  lm_buf_append(out, b, n);
}

static int unicode(struct scan *s, struct lm_buf *out) {
  uint32_t c;
  if (hex4(s, &c) < 0) return -1;
  if (c >= 0xd800 && c < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u') {
    const uint8_t *back = s->at;
    uint32_t low;
    s->at += 2;
    if (hex4(s, &low) < 0) return -1;
    if (low >= 0xdc00 && low < 0xe000) {
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else {
      s->at = back;
    }
  }
  /* Half a surrogate pair has no UTF-8; NUL cannot be in a C string. */
  if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
  if (out != NULL) put_utf8(out, c == 0 ? 0xfffd : c);
  return 0;
}

/* At the opening quote. `out` (may be NULL) gets the decoded text and a NUL. */
static int string(struct scan *s, struct lm_buf *out) {
  s->at++;
  for (;;) {
    const uint8_t *from = s->at;
    while (s->at < s->end && *s->at != '"' && *s->at != '\\' && *s->at >= 0x20) s->at++;
    if (out != NULL) lm_buf_append(out, from, (size_t)(s->at - from));
    if (s->at == s->end) return bad(s, "unterminated string");
    uint8_t c = *s->at;
    if (c < 0x20) return bad(s, "control character in string");
    s->at++;
    if (c == '"') break;
    if (s->at == s->end) return bad(s, "unterminated string");
    c = *s->at++;
    static const char escapes[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *found = c == '\0' ? NULL : strchr(escapes, c);
    if (found != NULL) {
      if (out != NULL) lm_buf_append(out, values + (found - escapes), 1);
    } else if (c != 'u') {
      return bad(s, "bad escape");
    } else if (unicode(s, out) < 0) {
      return -1;
    }
  }
  if (out != NULL) lm_buf_append(out, "", 1);
  return 0;
}

static bool digits(struct scan *s) {
  const uint8_t *from = s->at;
  while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
  return s->at > from;
}

static int number(struct scan *s) {
  if (*s->at == '-') s->at++;
  if (s->at < s->end && *s->at == '0') {
    s->at++;
  } else if (!digits(s)) {
    return bad(s, "bad number");
  }
  if (s->at < s->end && *s->at == '.') {
    s->at++;
    if (!digits(s)) return bad(s, "bad number");
  }
  if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
    s->at++;
    if (s->at < s->end && (*s->at == '+' || *s->at == '-')) s->at++;
    if (!digits(s)) return bad(s, "bad number");
  }
  return 0;
}

static bool word(struct scan *s, const char *text) {
  size_t len = strlen(text);
  if ((size_t)(s->end - s->at) < len || memcmp(s->at, text, len) != 0) return false;
  s->at += len;
  return true;
}

/* The wanted member at the path we are at. */
static struct lm_json_want *wanted(struct scan *s, unsigned depth) {
  if (depth == 0 || depth > PATH_MAX_KEYS) return NULL;
  for (size_t i = 0; i < s->want_count; i++) {
    unsigned k = 0;
    while (k < depth && s->wants[i].path[k] != NULL && strcmp(s->wants[i].path[k], s->keys[k]) == 0) k++;
    if (k == depth && s->wants[i].path[k] == NULL) return &s->wants[i];
  }
  return NULL;
}

/* Whether a wanted member lies below the path we are at: then it must be an object. */
static bool leads_on(struct scan *s, unsigned depth) {
  if (depth >= PATH_MAX_KEYS) return false;
  for (size_t i = 0; i < s->want_count; i++) {
    unsigned k = 0;
    while (k < depth && s->wants[i].path[k] != NULL && strcmp(s->wants[i].path[k], s->keys[k]) == 0) k++;
    if (k == depth && s->wants[i].path[k] != NULL) return true;
  }
  return false;
}

static int value(struct scan *s, unsigned depth, bool tracked);

static int object(struct scan *s, unsigned depth, bool tracked) {
  bool keep = tracked && leads_on(s, depth);
  s->at++;
  space(s);
  if (s->at < s->end && *s->at == '}') {
    s->at++;
    return 0;
  }
  for (;;) {
    LM_CLEANUP_BUF struct lm_buf key = {0};
    space(s);
    if (s->at == s->end || *s->at != '"') return bad(s, "expected a key");
    if (string(s, keep ? &key : NULL) < 0) return -1;
    space(s);
    if (s->at == s->end || *s->at != ':') return bad(s, "expected ':'");
    s->at++;
    if (keep) s->keys[depth] = (const char *)key.data;
    if (value(s, depth + 1, keep) < 0) return -1;
    space(s);
    if (s->at == s->end) return bad(s, "unexpected end");
    if (*s->at == '}') break;
    if (*s->at != ',') return bad(s, "expected ',' or '}'");
    s->at++;
  }
  s->at++;
  return 0;
}

static int array(struct scan *s, unsigned depth) {
  s->at++;
  space(s);
  if (s->at < s->end && *s->at == ']') {
    s->at++;
    return 0;
  }
  for (;;) {
    if (value(s, depth + 1, false) < 0) return -1;
    space(s);
    if (s->at == s->end) return bad(s, "unexpected end");
    if (*s->at == ']') break;
    if (*s->at != ',') return bad(s, "expected ',' or ']'");
    s->at++;
  }
  s->at++;
  return 0;
}

static int scalar(struct scan *s, struct lm_json_want *want) {
  if (*s->at == '"') {
    if (want == NULL) return string(s, NULL);
    if (want->kind != LM_JSON_STRING) return lm_fail(s->err, 0, "%s is a string", want->path[0]);
    struct lm_buf text = {0};
    if (string(s, &text) < 0) {
      lm_buf_free(&text);
      return -1;
    }
    want->text = (char *)text.data;
    return 0;
  }
  if (*s->at == '-' || (*s->at >= '0' && *s->at <= '9')) {
    const uint8_t *from = s->at;
    if (number(s) < 0) return -1;
    if (want == NULL) return 0;
    if (want->kind != LM_JSON_NUMBER) return lm_fail(s->err, 0, "%s is a number", want->path[0]);
    want->text = lm_format("%.*s", (int)(s->at - from), (const char *)from);
    return 0;
  }
  bool truth = word(s, "true");
  if (truth || word(s, "false")) {
    if (want == NULL) return 0;
    if (want->kind != LM_JSON_BOOL) return lm_fail(s->err, 0, "%s is a boolean", want->path[0]);
    want->truth = truth;
    return 0;
  }
  return word(s, "null") ? 0 : bad(s, "unexpected character");
}

static int value(struct scan *s, unsigned depth, bool tracked) {
  space(s);
  if (depth > DEPTH_MAX) return bad(s, "nested too deeply");
  if (s->at == s->end) return bad(s, "unexpected end");
  struct lm_json_want *want = tracked ? wanted(s, depth) : NULL;
  if (want != NULL) {
    free(want->text);
    want->text = NULL;
    want->truth = false;
  }
  bool below = tracked && want == NULL && leads_on(s, depth);
  if (*s->at == '{') {
    return want != NULL ? lm_fail(s->err, 0, "%s is an object", s->keys[depth - 1]) : object(s, depth, tracked);
  }
  if (below && *s->at != 'n') return bad(s, depth == 0 ? "expected an object" : "not an object");
  if (*s->at == '[') {
    return want != NULL ? lm_fail(s->err, 0, "%s is an array", s->keys[depth - 1]) : array(s, depth);
  }
  return scalar(s, want);
}

int lm_json_find(const uint8_t *data, size_t len, struct lm_json_want *wants, size_t count, struct lm_error *err) {
  struct scan s = {.at = data, .start = data, .end = data + len, .wants = wants, .want_count = count, .err = err};
  for (size_t i = 0; i < count; i++) {
    wants[i].text = NULL;
    wants[i].truth = false;
  }
  int result = value(&s, 0, true);
  if (result == 0) {
    space(&s);
    if (s.at != s.end) result = bad(&s, "text after the end");
  }
  if (result < 0) lm_json_free(wants, count);
  return result;
}

void lm_json_free(struct lm_json_want *wants, size_t count) {
  for (size_t i = 0; i < count; i++) {
    free(wants[i].text);
    wants[i].text = NULL;
  }
}
