#include "wire/scan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "wire/json.h"

enum { PLAIN, CONTROL, QUOTE, ESCAPE, HIGH };
static const unsigned char byte_class[256] = {
    [0 ... 0x1f] = CONTROL,
    ['"'] = QUOTE,
    ['\\'] = ESCAPE,
    [0x80 ... 0xff] = HIGH,
};

static unsigned char byte_at(const char *p) {
  return (unsigned char)*p;
}

int scan_fail(struct json_scan *s, int code, const char *text) {
  return pf_error_set(s->reterr, code, "byte %zu: %s", (size_t)(s->at - s->start), text);
}

char scan_peek(struct json_scan *s) {
  while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
    s->at++;
  return s->at < s->end ? *s->at : 0;
}

static int token(struct json_scan *s) {
  s->comma = true;
  if (++s->tokens > JSON_TOKENS_MAX) return scan_fail(s, PF_ELIMIT, "more tokens than allowed");
  return PF_OK;
}

/* ---- text ---- */

size_t utf8_sequence(const char *p, const char *end) {
  size_t left = (size_t)(end - p);
  unsigned char a = byte_at(p);
  if (a < 0x80) return 1;
  size_t len = a >= 0xf0 ? 4 : a >= 0xe0 ? 3 : 2;
  if (a < 0xc2 || a > 0xf4 || left < len) return 0;
  unsigned char low = 0x80,
                high = 0xbf; /* the second byte excludes overlong forms and surrogates */
  if (a == 0xe0) low = 0xa0;
  if (a == 0xed) high = 0x9f;
  if (a == 0xf0) low = 0x90;
  if (a == 0xf4) high = 0x8f;
  if (byte_at(p + 1) < low || byte_at(p + 1) > high) return 0;
  for (size_t i = 2; i < len; i++)
    if ((byte_at(p + i) & 0xc0) != 0x80) return 0;
  return len;
}

/* The four digits behind \u, or -1. */
static int32_t escape_unit(const char *p, const char *end) {
  if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
  int32_t unit = 0;
  for (int i = 2; i < 6; i++) {
    char c = p[i];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) return -1;
    unit = unit << 4 | digit;
  }
  return unit;
}

/* Length of the escape at p and the character it stands for; 0 if it is malformed, a lone
 * surrogate or NUL. */
static size_t escape_read(const char *p, const char *end, uint32_t *ret_char) {
  static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  if (end - p < 2) return 0;
  if (p[1] != 'u') {
    const char *letter = p[1] ? strchr(letters, p[1]) : NULL;
    if (!letter) return 0;
    *ret_char = byte_at(meanings + (letter - letters));
    return 2;
  }
  int32_t unit = escape_unit(p, end);
  if (unit <= 0 || (unit >= 0xdc00 && unit < 0xe000)) return 0;
  *ret_char = (uint32_t)unit;
  if (unit < 0xd800 || unit >= 0xe000) return 6;
  int32_t low = escape_unit(p + 6, end);
  if (low < 0xdc00 || low >= 0xe000) return 0;
  *ret_char = 0x10000u + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
  return 12;
}

static size_t utf8_write(char out[4], uint32_t c) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (size_t i = len - 1; i > 0; i--, c >>= 6)
    out[i] = (char)(0x80 | (c & 0x3f));
  out[0] = (char)((0xf00u >> len & 0xf0) | c); /* 2: 0xc0, 3: 0xe0, 4: 0xf0 */
  return len;
}

bool scan_text_copy(struct scan_text text, char *out, size_t size, size_t *ret_len) {
  size_t len = 0;
  const char *p = text.raw.data, *end = p + text.raw.len;
  if (!text.escaped) {
    if (text.raw.len > size) return false;
    if (text.raw.len) memcpy(out, p, text.raw.len);
    *ret_len = text.raw.len;
    return true;
  }
  while (p < end) {
    char bytes[4];
    size_t n = 1;
    if (*p == '\\') {
      uint32_t c = 0;
      p += escape_read(p, end, &c);
      n = utf8_write(bytes, c);
    } else {
      bytes[0] = *p++;
    }
    if (n > size - len) return false;
    memcpy(out + len, bytes, n);
    len += n;
  }
  *ret_len = len;
  return true;
}

struct pf_slice scan_text_slice(struct scan_text text, struct pf_arena *arena) {
  if (!text.escaped) return text.raw;
  char *copy = pf_arena_alloc(arena, text.raw.len + 1);
  size_t len = 0;
  bool fits = scan_text_copy(text, copy, text.raw.len, &len);
  PF_ASSERT(fits);
  return pf_slice(copy, len);
}

int scan_string(struct json_scan *s, struct scan_text *ret_text) {
  if (scan_peek(s) != '"') return scan_fail(s, PF_EINVAL, "a string was expected");
  const char *begin = s->at + 1, *p = begin;
  bool escaped = false;
  for (;;) {
    while (p < s->end && byte_class[byte_at(p)] == PLAIN)
      p++;
    s->at = p;
    if (p == s->end) return scan_fail(s, PF_EINVAL, "the text ends inside a string");
    uint32_t ignored;
    size_t len = 0;
    switch (byte_class[byte_at(p)]) {
    case QUOTE:
      s->at = p + 1;
      *ret_text = (struct scan_text){pf_slice(begin, (size_t)(p - begin)), escaped};
      return token(s);
    case CONTROL:
      return scan_fail(s, PF_EINVAL, "a control character in a string");
    case ESCAPE:
      len = escape_read(p, s->end, &ignored);
      if (len == 0)
        return scan_fail(s, PF_EINVAL, "a bad escape, a lone surrogate or NUL in a string");
      escaped = true;
      break;
    default:
      len = utf8_sequence(p, s->end);
      if (len == 0) return scan_fail(s, PF_EINVAL, "invalid UTF-8");
      break;
    }
    p += len;
  }
}

/* ---- numbers and words ---- */

static const char *digits_end(const char *p, const char *end) {
  while (p < end && *p >= '0' && *p <= '9')
    p++;
  return p;
}

/* RFC 8259: minus, no leading zero, digits on both sides of the point. */
static int scan_number(struct json_scan *s, struct pf_slice *ret_number) {
  (void)scan_peek(s);
  const char *p = s->at, *end = s->end;
  if (p < end && *p == '-') p++;
  const char *digits = p;
  p = digits_end(p, end);
  if (p == digits) return scan_fail(s, PF_EINVAL, "a value was expected");
  if (*digits == '0' && p - digits > 1)
    return scan_fail(s, PF_EINVAL, "a number with a leading zero");
  if (p < end && *p == '.') {
    digits = ++p;
    p = digits_end(p, end);
    if (p == digits) return scan_fail(s, PF_EINVAL, "a number without digits behind the point");
  }
  if (p < end && (*p == 'e' || *p == 'E')) {
    p++;
    if (p < end && (*p == '+' || *p == '-')) p++;
    digits = p;
    p = digits_end(p, end);
    if (p == digits) return scan_fail(s, PF_EINVAL, "a number without digits in its exponent");
  }
  if (p - s->at > JSON_NUMBER_MAX)
    return scan_fail(s, PF_ELIMIT, "a number with more characters than allowed");
  *ret_number = pf_slice(s->at, (size_t)(p - s->at));
  s->at = p;
  return token(s);
}

static int out_of_range(struct json_scan *s, int64_t min, int64_t max) {
  return pf_error_set(s->reterr, PF_EINVAL,
      "byte %zu: a whole number from %lld to %lld was expected", (size_t)(s->at - s->start),
      (long long)min, (long long)max);
}

int scan_int(struct json_scan *s, int64_t min, int64_t max, int64_t *ret_value) {
  struct pf_slice text;
  int err = scan_number(s, &text);
  if (err) return err;
  bool negative = text.data[0] == '-';
  uint64_t value = 0, limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
  for (size_t i = negative; i < text.len; i++) {
    uint64_t digit = (uint64_t)(unsigned char)text.data[i] - '0';
    if (digit > 9 || value > (limit - digit) / 10) return out_of_range(s, min, max);
    value = value * 10 + digit;
  }
  int64_t number = negative ? (int64_t)(0 - value) : (int64_t)value;
  if (number < min || number > max) return out_of_range(s, min, max);
  *ret_value = number;
  return PF_OK;
}

/* Mantissa below 2^53 and a small power of ten: one exact division gives the nearest double. All
 * that our own processes print is of that kind. */
static bool double_simple(struct pf_slice text, double *ret_value) {
  static const double tens[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
  bool negative = text.data[0] == '-', point = false;
  uint64_t mantissa = 0;
  size_t decimals = 0;
  if (text.len > 16) return false;
  for (size_t i = negative; i < text.len; i++) {
    char c = text.data[i];
    if (c == '.') {
      point = true;
    } else if (c >= '0' && c <= '9') {
      mantissa = mantissa * 10 + (uint64_t)(c - '0');
      decimals += point;
    } else {
      return false;
    }
  }
  if (decimals >= PF_COUNT(tens) || mantissa > (uint64_t)1 << 53) return false;
  double value = (double)mantissa / tens[decimals];
  *ret_value = negative ? -value : value;
  return true;
}

int scan_double(struct json_scan *s, double *ret_value) {
  struct pf_slice text;
  int err = scan_number(s, &text);
  if (err || double_simple(text, ret_value)) return err;
  char copy[JSON_NUMBER_MAX + 1];
  memcpy(copy, text.data, text.len);
  copy[text.len] = '\0';
  double value = strtod(copy, NULL);
  if (!isfinite(value)) return scan_fail(s, PF_EINVAL, "a number that is too large");
  *ret_value = value;
  return PF_OK;
}

static int scan_word(struct json_scan *s, const char *word) {
  size_t len = strlen(word);
  if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
    return scan_fail(s, PF_EINVAL, "a value was expected");
  s->at += len;
  return token(s);
}

int scan_bool(struct json_scan *s, bool *ret_value) {
  char c = scan_peek(s);
  if (c != 't' && c != 'f') return scan_fail(s, PF_EINVAL, "true or false was expected");
  *ret_value = c == 't';
  return scan_word(s, c == 't' ? "true" : "false");
}

/* ---- containers ---- */

static int container_open(struct json_scan *s, char bracket, const char *expected) {
  if (scan_peek(s) != bracket) return scan_fail(s, PF_EINVAL, expected);
  if (++s->depth > JSON_DEPTH_MAX) return scan_fail(s, PF_ELIMIT, "nested deeper than allowed");
  s->at++;
  int err = token(s);
  s->comma = false;
  return err;
}

/* PF_OK where the next entry begins, PF_ENOTFOUND behind the closing bracket. */
static int container_next(struct json_scan *s, char bracket, const char *expected) {
  char c = scan_peek(s);
  if (c == bracket) {
    s->at++;
    s->depth--;
    s->comma = true;
    return PF_ENOTFOUND;
  }
  if (!s->comma) return PF_OK;
  if (c != ',') return scan_fail(s, PF_EINVAL, expected);
  s->at++;
  if (scan_peek(s) == bracket) return scan_fail(s, PF_EINVAL, "a comma before a closing bracket");
  return PF_OK;
}

int scan_object(struct json_scan *s) {
  return container_open(s, '{', "an object was expected");
}

int scan_array(struct json_scan *s) {
  return container_open(s, '[', "an array was expected");
}

int scan_member(struct json_scan *s, struct scan_text *ret_name) {
  int err = container_next(s, '}', "a comma or a closing brace was expected");
  if (err) return err;
  err = scan_string(s, ret_name);
  if (err) return err;
  if (scan_peek(s) != ':') return scan_fail(s, PF_EINVAL, "a colon was expected");
  s->at++;
  return PF_OK;
}

int scan_element(struct json_scan *s) {
  return container_next(s, ']', "a comma or a closing bracket was expected");
}

int scan_end(struct json_scan *s) {
  (void)scan_peek(s); /* it skips white space; the byte itself may be NUL */
  return s->at == s->end ? PF_OK : scan_fail(s, PF_EINVAL, "text after the end of the value");
}

/* ---- whole values ---- */

enum { KEYS_FIXED = 64, KEYS_PAIRWISE = 12 };

/* The names of all objects that are open, innermost last. */
struct scan_keys {
  struct pf_slice *items;
  size_t count, cap;
  struct pf_arena arena; /* meanings of names with escapes */
  struct pf_slice fixed[KEYS_FIXED];
};

static void keys_push(struct scan_keys *keys, struct scan_text name) {
  if (keys->count == keys->cap) {
    bool moved = keys->items == keys->fixed;
    keys->cap *= 2; /* at most JSON_TOKENS_MAX names come here */
    keys->items = pf_realloc(moved ? NULL : keys->items, keys->cap * sizeof(*keys->items));
    if (moved) memcpy(keys->items, keys->fixed, sizeof(keys->fixed));
  }
  keys->items[keys->count++] = scan_text_slice(name, &keys->arena);
}

static int key_compare(const void *left, const void *right) {
  const struct pf_slice *a = left, *b = right;
  if (a->len != b->len) return a->len < b->len ? -1 : 1;
  return a->len ? memcmp(a->data, b->data, a->len) : 0;
}

/* Few names are compared each with each, many are sorted: an outsider cannot make this quadratic.
 */
static const struct pf_slice *keys_duplicate(struct pf_slice *items, size_t count) {
  if (count > KEYS_PAIRWISE) {
    qsort(items, count, sizeof(*items), key_compare);
    for (size_t i = 1; i < count; i++)
      if (key_compare(&items[i - 1], &items[i]) == 0) return &items[i];
    return NULL;
  }
  for (size_t i = 1; i < count; i++)
    for (size_t k = 0; k < i; k++)
      if (pf_slice_eq(items[i], items[k])) return &items[i];
  return NULL;
}

static int scan_value(struct json_scan *s, struct scan_keys *keys);

static int scan_members(struct json_scan *s, struct scan_keys *keys) {
  size_t base = keys ? keys->count : 0;
  struct scan_text name;
  int err = scan_object(s);
  while (!err && (err = scan_member(s, &name)) == PF_OK) {
    if (keys) keys_push(keys, name);
    err = scan_value(s, keys);
  }
  if (err != PF_ENOTFOUND) return err;
  if (!keys) return PF_OK;
  const struct pf_slice *twice = keys_duplicate(keys->items + base, keys->count - base);
  keys->count = base;
  if (!twice) return PF_OK;
  return pf_error_set(s->reterr, PF_EINVAL,
      "byte %zu: the name \"%.*s\" comes twice in this object", (size_t)(s->at - s->start),
      (int)(twice->len < 64 ? twice->len : 64), twice->data);
}

/* Recursion is bounded by JSON_DEPTH_MAX. */
static int scan_value(struct json_scan *s, struct scan_keys *keys) {
  struct scan_text text;
  struct pf_slice number;
  switch (scan_peek(s)) {
  case '{':
    return scan_members(s, keys);
  case '[': {
    int err = scan_array(s);
    while (!err && (err = scan_element(s)) == PF_OK)
      err = scan_value(s, keys);
    return err == PF_ENOTFOUND ? PF_OK : err;
  }
  case '"':
    return scan_string(s, &text);
  case 't':
    return scan_word(s, "true");
  case 'f':
    return scan_word(s, "false");
  case 'n':
    return scan_word(s, "null");
  default:
    return scan_number(s, &number);
  }
}

int scan_skip(struct json_scan *s) {
  return scan_value(s, NULL);
}

int scan_guard(struct json_scan *s) {
  struct scan_keys keys; /* its fixed part is not worth clearing */
  keys.items = keys.fixed;
  keys.count = 0;
  keys.cap = KEYS_FIXED;
  pf_arena_init(&keys.arena);
  int err = scan_value(s, &keys);
  if (keys.items != keys.fixed) free(keys.items);
  pf_arena_done(&keys.arena);
  return err;
}
