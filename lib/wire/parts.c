#include "wire/parts.h"

#include <string.h>

const char *const include_names[] = {"headers", "body", "timings", "logs", NULL};
const char *const redirect_names[] = {"follow", "manual", "error", NULL};

unsigned include_bit(struct pf_slice word) {
  for (unsigned i = 0; include_names[i]; i++)
    if (pf_slice_is(word, include_names[i])) return PF_BIT(i);
  return 0;
}

void headers_encode(
    struct json_writer *w, const char *name, const struct wire_header *headers, size_t count) {
  json_begin_array(w, name);
  for (size_t i = 0; i < count; i++) {
    json_begin_array(w, NULL);
    json_put_string(w, NULL, headers[i].name);
    json_put_string(w, NULL, headers[i].value);
    json_end_array(w);
  }
  json_end_array(w);
}

static int header_scan(struct json_scan *s, struct wire_header *header, struct pf_arena *arena) {
  struct scan_text text;
  int err = scan_array(s);
  struct pf_slice *parts[] = {&header->name, &header->value};
  for (size_t i = 0; i < PF_COUNT(parts); i++) {
    if (!err) err = scan_element(s);
    if (!err) err = scan_string(s, &text);
    if (err == PF_ENOTFOUND) return scan_fail(s, PF_EINVAL, "a header is [name, value]");
    if (err) return err;
    *parts[i] = scan_text_slice(text, arena);
  }
  err = scan_element(s);
  return err == PF_ENOTFOUND ? PF_OK
         : err               ? err
                             : scan_fail(s, PF_EINVAL, "a header is [name, value]");
}

int headers_scan(struct json_scan *s, struct wire_header **ret_headers, size_t *ret_count,
    size_t max, struct pf_arena *arena) {
  struct wire_header *headers = NULL;
  size_t count = 0, cap = 0;
  int err = scan_array(s);
  while (!err && (err = scan_element(s)) == PF_OK) {
    if (count == max) return scan_fail(s, PF_ELIMIT, "more headers than allowed");
    if (count == cap) {
      cap = cap ? 2 * cap : 8;
      struct wire_header *grown = pf_arena_alloc(arena, cap * sizeof(*grown));
      if (count) memcpy(grown, headers, count * sizeof(*grown));
      headers = grown;
    }
    err = header_scan(s, &headers[count++], arena);
  }
  if (err != PF_ENOTFOUND) return err;
  *ret_headers = headers;
  *ret_count = count;
  return PF_OK;
}

void statuses_encode(struct json_writer *w, const char *name, const struct wire_retry *retry) {
  if (retry->status_count == 0) return;
  json_begin_array(w, name);
  for (size_t i = 0; i < retry->status_count; i++) {
    uint16_t status = retry->statuses[i];
    char text[] = "0xx";
    text[0] = (char)('0' + status % 10);
    if (status < 10)
      json_put_text(w, NULL, text);
    else
      json_put_int(w, NULL, status);
  }
  json_end_array(w);
}

bool status_class_parse(struct pf_slice text, uint16_t *ret_status) {
  if (text.len != 3 || text.data[0] < '1' || text.data[0] > '5') return false;
  if ((text.data[1] | 0x20) != 'x' || (text.data[2] | 0x20) != 'x') return false;
  *ret_status = (uint16_t)(text.data[0] - '0');
  return true;
}

static int status_scan(struct json_scan *s, uint16_t *ret_status) {
  if (scan_peek(s) != '"') {
    int64_t number = 0;
    int err = scan_int(s, 100, 599, &number);
    *ret_status = (uint16_t)number;
    return err;
  }
  struct scan_text text;
  int err = scan_string(s, &text);
  if (err) return err;
  if (!status_class_parse(text.raw, ret_status))
    return scan_fail(s, PF_EINVAL, "a status is 100..599 or \"1xx\"..\"5xx\"");
  return PF_OK;
}

int statuses_scan(struct json_scan *s, struct wire_retry *retry) {
  int err = scan_array(s);
  while (!err && (err = scan_element(s)) == PF_OK) {
    if (retry->status_count == WIRE_STATUSES_MAX)
      return scan_fail(s, PF_ELIMIT, "more statuses than allowed");
    err = status_scan(s, &retry->statuses[retry->status_count++]);
  }
  return err == PF_ENOTFOUND ? PF_OK : err;
}
