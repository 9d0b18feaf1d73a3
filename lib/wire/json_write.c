#include <math.h>
#include <string.h>

#include "wire/json.h"
#include "wire/scan.h"

/* ---- pieces ---- */

enum { INT_DIGITS = 20 };

/* Room for `room` bytes of value behind comma and name; NULL on a sticky error. The value ends with
 * value_end. */
static char *value_begin(struct json_writer *w, const char *name, size_t room) {
  size_t name_len = name ? strlen(name) : 0;
  char *out = pf_buf_reserve(w->buf, name_len + room + 4);
  if (!out) return NULL;
  if (w->comma) *out++ = ',';
  w->comma = true;
  if (!name) return out;
  *out++ = '"'; /* names are our own literals: nothing in them needs an escape */
  memcpy(out, name, name_len);
  out += name_len;
  *out++ = '"';
  *out++ = ':';
  return out;
}

static void value_end(struct json_writer *w, const char *end) {
  w->buf->len = (size_t)(end - w->buf->data);
}

static char *put_u64(char *out, uint64_t value) {
  char digits[INT_DIGITS];
  int count = 0;
  do
    digits[count++] = (char)('0' + value % 10);
  while (value /= 10);
  while (count)
    *out++ = digits[--count];
  return out;
}

static char *put_i64(char *out, int64_t value) {
  if (value >= 0) return put_u64(out, (uint64_t)value);
  *out++ = '-';
  return put_u64(out, 0 - (uint64_t)value);
}

/* ---- values ---- */

static void put_bracket(struct json_writer *w, const char *name, char bracket) {
  char *out = value_begin(w, name, 1);
  if (!out) return;
  *out++ = bracket;
  value_end(w, out);
  w->comma = false;
}

static void put_close(struct json_writer *w, const char *bracket) {
  pf_buf_append(w->buf, bracket, 1);
  w->comma = true;
}

void json_begin_object(struct json_writer *w, const char *name) {
  put_bracket(w, name, '{');
}

void json_end_object(struct json_writer *w) {
  put_close(w, "}");
}

void json_begin_array(struct json_writer *w, const char *name) {
  put_bracket(w, name, '[');
}

void json_end_array(struct json_writer *w) {
  put_close(w, "]");
}

void json_put_raw(struct json_writer *w, const char *name, struct pf_slice json) {
  char *out = value_begin(w, name, json.len);
  if (!out) return;
  if (json.len) memcpy(out, json.data, json.len);
  value_end(w, out + json.len);
}

void json_put_null(struct json_writer *w, const char *name) {
  json_put_raw(w, name, pf_slice("null", 4));
}

void json_put_bool(struct json_writer *w, const char *name, bool value) {
  json_put_raw(w, name, value ? pf_slice("true", 4) : pf_slice("false", 5));
}

void json_put_int(struct json_writer *w, const char *name, int64_t value) {
  char *out = value_begin(w, name, INT_DIGITS + 1);
  if (out) value_end(w, put_i64(out, value));
}

void json_put_ms(struct json_writer *w, const char *name, double ms) {
  const double most = 9e15; /* microseconds that a double counts one by one: 285 years */
  double us = isnan(ms) ? 0 : ms * 1000;
  us = us > most ? most : us < -most ? -most : us;
  int64_t whole = (int64_t)(us < 0 ? us - 0.5 : us + 0.5);
  char *out = value_begin(w, name, INT_DIGITS + 5);
  if (!out) return;
  if (whole < 0) *out++ = '-';
  uint64_t rest = whole < 0 ? (uint64_t)-whole : (uint64_t)whole;
  out = put_u64(out, rest / 1000);
  if (rest % 1000) {
    *out++ = '.';
    for (uint64_t unit = 100, part = rest % 1000; part; part %= unit, unit /= 10)
      *out++ = (char)('0' + part / unit);
  }
  value_end(w, out);
}

static void put_u64s(
    struct json_writer *w, const char *name, const uint64_t *values, size_t count) {
  char text[2 * PF_U64_HEX + 1];
  for (size_t i = 0; i < count; i++)
    pf_u64_print(text + i * PF_U64_HEX, values[i]);
  char *out = value_begin(w, name, count * PF_U64_HEX + 2);
  if (!out) return;
  *out++ = '"';
  memcpy(out, text, count * PF_U64_HEX);
  out += count * PF_U64_HEX;
  *out++ = '"';
  value_end(w, out);
}

void json_put_hex64(struct json_writer *w, const char *name, uint64_t value) {
  put_u64s(w, name, &value, 1);
}

void json_put_job(struct json_writer *w, const char *name, struct pf_job_id job) {
  put_u64s(w, name, (const uint64_t[]){job.origin, job.local}, 2);
}

void json_put_fence(struct json_writer *w, const char *name, struct pf_fence fence) {
  put_u64s(w, name, (const uint64_t[]){fence.epoch, fence.counter}, 2);
}

void json_put_hex(struct json_writer *w, const char *name, struct pf_slice bytes) {
  char *out = value_begin(w, name, 2 * bytes.len + 3);
  if (!out) return;
  *out++ = '"';
  pf_hex_print(out, bytes.data, bytes.len);
  out += 2 * bytes.len;
  *out++ = '"';
  value_end(w, out);
}

/* ---- strings ---- */

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

enum { WIDTH_UTF8, WIDTH_PLAIN, WIDTH_SHORT, WIDTH_HEX = 6 };

/* How many bytes a byte takes up within quotes: itself, \n, \u001f; from 0x80 on it begins a
 * sequence. */
static const uint8_t byte_width[256] = {
    [0x00 ... 0x07] = WIDTH_HEX,
    ['\b' ... '\n'] = WIDTH_SHORT, /* backspace, tab, newline */
    [0x0b] = WIDTH_HEX,
    ['\f' ... '\r'] = WIDTH_SHORT,
    [0x0e ... 0x1f] = WIDTH_HEX,
    [' ' ... '!'] = WIDTH_PLAIN,
    ['"'] = WIDTH_SHORT,
    ['#' ... '['] = WIDTH_PLAIN,
    ['\\'] = WIDTH_SHORT,
    [']' ... 0x7f] = WIDTH_PLAIN,
};

static unsigned width_of(char c) {
  return byte_width[(unsigned char)c];
}

/* The sequence at *p, which it steps over, or what stands for an invalid byte. */
static struct pf_slice sequence_take(const char **p, const char *end) {
  const char *at = *p;
  size_t len = utf8_sequence(at, end);
  *p += len ? len : 1;
  return len ? pf_slice(at, len) : pf_slice(replacement, 3);
}

static char *put_escape(char *out, char c, unsigned width) {
  static const char shorts[] = {['"'] = '"',
      ['\\'] = '\\',
      ['\b'] = 'b',
      ['\t'] = 't',
      ['\n'] = 'n',
      ['\f'] = 'f',
      ['\r'] = 'r'};
  static const char hex[] = "0123456789abcdef";
  *out++ = '\\';
  if (width == WIDTH_SHORT) {
    *out++ = shorts[(unsigned char)c];
    return out;
  }
  memcpy(out, "u00", 3);
  out[3] = hex[(unsigned char)c >> 4];
  out[4] = hex[c & 15];
  return out + 5;
}

static size_t escaped_size(const char *p, const char *end) {
  size_t size = 0;
  while (p < end) {
    unsigned width = width_of(*p);
    if (width == WIDTH_UTF8)
      size += sequence_take(&p, end).len;
    else
      size += width, p++;
  }
  return size;
}

/* There is room for escaped_size(p, end) at out. */
static char *put_escaped(char *out, const char *p, const char *end) {
  while (p < end) {
    unsigned width = width_of(*p);
    if (width == WIDTH_PLAIN) {
      *out++ = *p++;
    } else if (width == WIDTH_UTF8) {
      struct pf_slice piece = sequence_take(&p, end);
      memcpy(out, piece.data, piece.len);
      out += piece.len;
    } else {
      out = put_escape(out, *p++, width);
    }
  }
  return out;
}

void json_put_string(struct json_writer *w, const char *name, struct pf_slice text) {
  char *out = value_begin(w, name, text.len + 2);
  if (!out) return;
  *out++ = '"';
  const char *p = text.data, *end = p ? p + text.len : p;
  while (p < end && width_of(*p) == WIDTH_PLAIN)
    *out++ = *p++;
  if (p < end) { /* rarely: what is left may need more room than was reserved */
    value_end(w, out);
    out = pf_buf_reserve(w->buf, escaped_size(p, end) + 1);
    if (!out) return;
    out = put_escaped(out, p, end);
  }
  *out++ = '"';
  value_end(w, out);
}

size_t json_string_size(struct pf_slice text) {
  return 2 + (text.len ? escaped_size(text.data, text.data + text.len) : 0);
}

void json_put_text(struct json_writer *w, const char *name, const char *text) {
  json_put_string(w, name, pf_slice_str(text));
}

/* Whether eight bytes are ASCII without a NUL: subtracting 1 from a NUL sets its highest bit. */
static bool word_is_text(const char *p) {
  uint64_t word;
  memcpy(&word, p, sizeof(word));
  return ((word | (word - 0x0101010101010101)) & 0x8080808080808080) == 0;
}

bool utf8_is_text(struct pf_slice bytes) {
  const char *p = bytes.data, *end = p ? p + bytes.len : p;
  while (p < end) {
    if (end - p >= 8 && word_is_text(p)) {
      p += 8;
      continue;
    }
    size_t len = *p ? utf8_sequence(p, end) : 0;
    if (len == 0) return false;
    p += len;
  }
  return true;
}

/* ---- base64 ---- */

static const char base64_letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t json_base64_size(struct pf_slice bytes) {
  return (bytes.len + 2) / 3 * 4 + 2;
}

void json_put_base64(struct json_writer *w, const char *name, struct pf_slice bytes) {
  char *out = value_begin(w, name, json_base64_size(bytes));
  if (!out) return;
  *out++ = '"';
  const unsigned char *in = (const unsigned char *)bytes.data;
  for (size_t i = 0; i < bytes.len; i += 3) {
    size_t left = bytes.len - i;
    unsigned group = (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0) |
                     (left > 2 ? (unsigned)in[i + 2] : 0);
    *out++ = base64_letters[group >> 18];
    *out++ = base64_letters[group >> 12 & 63];
    *out++ = left > 1 ? base64_letters[group >> 6 & 63] : '=';
    *out++ = left > 2 ? base64_letters[group & 63] : '=';
  }
  *out++ = '"';
  value_end(w, out);
}

static int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Three bytes, or fewer for the last group; -1 if it is malformed or its spare bits are not zero.
 */
static int base64_group(const char in[4], unsigned char out[3]) {
  int pad = in[3] != '=' ? 0 : in[2] != '=' ? 1 : 2;
  unsigned group = 0;
  for (int i = 0; i < 4; i++) {
    int value = i < 4 - pad ? base64_value(in[i]) : 0;
    if (value < 0) return -1;
    group = group << 6 | (unsigned)value;
  }
  if (group & ((1u << 8 * pad) - 1)) return -1;
  out[0] = (unsigned char)(group >> 16);
  out[1] = (unsigned char)(group >> 8);
  out[2] = (unsigned char)group;
  return 3 - pad;
}

int base64_decode(struct pf_buf *ret, struct pf_slice text) {
  if (text.len % 4) return PF_EINVAL;
  if (text.len == 0) return PF_OK;
  size_t pad = text.data[text.len - 1] != '=' ? 0 : text.data[text.len - 2] != '=' ? 1 : 2;
  char *out = pf_buf_reserve(ret, text.len / 4 * 3 - pad);
  if (!out) return ret->err;
  for (size_t i = 0; i < text.len; i += 4) {
    unsigned char bytes[3];
    int count = base64_group(text.data + i, bytes);
    if (count < 0 || (count < 3 && i + 4 < text.len)) return PF_EINVAL;
    memcpy(out, bytes, (size_t)count);
    out += count;
  }
  ret->len = (size_t)(out - ret->data);
  return PF_OK;
}
