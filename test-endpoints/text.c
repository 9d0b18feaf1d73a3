#include "text.h"

#include <string.h>

bool text_number(struct pf_slice text, uint64_t max, uint64_t *ret_value) {
  uint64_t value = 0;
  if (text.len == 0 || text.len > 18) return false; /* 18 digits cannot overflow */
  for (size_t i = 0; i < text.len; i++) {
    if (text.data[i] < '0' || text.data[i] > '9') return false;
    value = value * 10 + (uint64_t)(text.data[i] - '0');
  }
  if (value > max) return false;
  *ret_value = value;
  return true;
}

/* Length of the UTF-8 sequence at text, or 0. Refuses overlong forms, surrogates, > U+10FFFF. */
static size_t utf8_sequence(const unsigned char *text, size_t len) {
  unsigned char c = text[0];
  size_t need = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : 4;
  if ((c >= 0x80 && c < 0xc2) || c > 0xf4 || need > len) return 0;
  for (size_t i = 1; i < need; i++)
    if ((text[i] & 0xc0) != 0x80) return 0;
  if (c == 0xe0 && text[1] < 0xa0) return 0;
  if (c == 0xed && text[1] > 0x9f) return 0;
  if (c == 0xf0 && text[1] < 0x90) return 0;
  if (c == 0xf4 && text[1] > 0x8f) return 0;
  return need;
}

bool text_is_utf8(struct pf_slice text) {
  for (size_t i = 0; i < text.len;) {
    size_t step = utf8_sequence((const unsigned char *)text.data + i, text.len - i);
    if (step == 0 || text.data[i] == '\0') return false;
    i += step;
  }
  return true;
}

void text_json_string(struct pf_buf *out, struct pf_slice text) {
  bool utf8 = text_is_utf8(text);
  size_t plain = 0; /* start of the run that needs no escape */
  pf_buf_str(out, "\"");
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.data[i];
    if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && (c < 0x80 || utf8)) continue;
    pf_buf_append(out, text.data + plain, i - plain);
    plain = i + 1;
    if (c == '"' || c == '\\')
      pf_buf_printf(out, "\\%c", c);
    else
      pf_buf_printf(out, "\\u%04x", c);
  }
  if (text.len > plain) pf_buf_append(out, text.data + plain, text.len - plain);
  pf_buf_str(out, "\"");
}

void text_base64(struct pf_buf *out, struct pf_slice data) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const unsigned char *from = (const unsigned char *)data.data;
  char *to = pf_buf_reserve(out, (data.len + 2) / 3 * 4);
  if (!to) return;
  for (size_t i = 0; i < data.len; i += 3) {
    size_t have = data.len - i < 3 ? data.len - i : 3;
    unsigned bits = (unsigned)from[i] << 16;
    if (have > 1) bits |= (unsigned)from[i + 1] << 8;
    if (have > 2) bits |= from[i + 2];
    *to++ = digits[bits >> 18];
    *to++ = digits[bits >> 12 & 63];
    *to++ = have > 1 ? digits[bits >> 6 & 63] : '=';
    *to++ = have > 2 ? digits[bits & 63] : '=';
    out->len += 4;
  }
}

void text_decimal(struct pf_buf *out, uint64_t value) {
  char text[20];
  size_t at = sizeof(text);
  do {
    text[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value);
  pf_buf_append(out, text + at, sizeof(text) - at);
}
