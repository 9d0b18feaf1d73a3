#include "web/head.h"

#include <string.h>
#include <strings.h>

#include "base/id.h"

int head_find_end(const char *data, size_t len, size_t *scanned) {
  while (*scanned < len) {
    const char *lf = memchr(data + *scanned, '\n', len - *scanned);
    if (!lf) break;
    size_t at = (size_t)(lf - data);
    if (at == 0 || data[at - 1] != '\r') return -400;
    *scanned = at + 1;
    if (*scanned > HEAD_MAX) return -431;
    if (at >= 3 && data[at - 2] == '\n') return (int)*scanned;
  }
  if (len > HEAD_MAX) return -431;
  *scanned = len; /* no LF up to here */
  return 0;
}

/* RFC 9110 token */
static bool is_token(struct pf_slice s) {
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.data[i];
    bool alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    if (!alnum && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c))) return false;
  }
  return s.len > 0;
}

static enum web_method method_of(struct pf_slice name) {
  static const struct {
    const char *name;
    enum web_method method;
  } methods[] = {{"GET", WEB_GET}, {"HEAD", WEB_HEAD}, {"POST", WEB_POST}, {"PUT", WEB_PUT},
      {"DELETE", WEB_DELETE}, {"OPTIONS", WEB_OPTIONS}};
  for (size_t i = 0; i < PF_COUNT(methods); i++)
    if (pf_slice_is(name, methods[i].name)) return methods[i].method;
  return WEB_OTHER;
}

/* Up to the byte, which is skipped; false if it does not come. */
static bool cut(struct pf_slice *rest, char byte, struct pf_slice *ret_part) {
  const char *end = memchr(rest->data, byte, rest->len);
  if (!end) return false;
  *ret_part = pf_slice(rest->data, (size_t)(end - rest->data));
  *rest = pf_slice(end + 1, rest->len - ret_part->len - 1);
  return true;
}

static int parse_request_line(struct head *head, struct pf_slice line) {
  struct pf_slice method, target;
  if (!cut(&line, ' ', &method) || !cut(&line, ' ', &target) || !is_token(method)) return 400;
  if (line.len != 8 || memcmp(line.data, "HTTP/", 5) != 0) return 400;
  head->old = pf_slice_is(line, "HTTP/1.0");
  if (!head->old && !pf_slice_is(line, "HTTP/1.1")) return 505;
  head->method = method_of(method);
  if (target.len == 0 || target.data[0] != '/') return 400; /* no proxy: no absolute form */
  for (size_t i = 0; i < target.len; i++)
    if (target.data[i] <= ' ' || target.data[i] > '~' || target.data[i] == '#') return 400;
  head->target = target;
  head->query = pf_slice(NULL, 0);
  const char *mark = memchr(target.data, '?', target.len);
  if (mark) {
    head->target.len = (size_t)(mark - target.data);
    head->query = pf_slice(mark + 1, target.len - head->target.len - 1);
  }
  return 0;
}

static int parse_field(struct head *head, struct pf_slice line) {
  struct pf_slice name;
  if (!cut(&line, ':', &name) || !is_token(name)) return 400; /* a folded line has no name */
  for (size_t i = 0; i < line.len; i++) {
    unsigned char c = (unsigned char)line.data[i];
    if ((c < ' ' && c != '\t') || c == 0x7f) return 400;
  }
  while (line.len && (line.data[0] == ' ' || line.data[0] == '\t'))
    line = pf_slice(line.data + 1, line.len - 1);
  while (line.len && (line.data[line.len - 1] == ' ' || line.data[line.len - 1] == '\t'))
    line.len--;
  if (head->count == HEAD_FIELDS_MAX) return 431;
  head->fields[head->count++] = (struct head_field){.name = name, .value = line};
  return 0;
}

int head_parse(struct head *head, const char *data, size_t len) {
  struct pf_slice rest = pf_slice(data, len), line;
  head->count = 0;
  int status = 400;
  for (bool first = true; cut(&rest, '\n', &line); first = false) {
    if (line.len == 0 || line.data[line.len - 1] != '\r') return 400;
    line.len--;
    if (line.len == 0) return status; /* the end; 400 if nothing came before it */
    status = first ? parse_request_line(head, line) : parse_field(head, line);
    if (status) return status;
  }
  return 400;
}

int head_hex_byte(const char *two) {
  int high = pf_hex_value(two[0]);
  int low = high < 0 ? -1 : pf_hex_value(two[1]);
  return low < 0 ? -1 : high << 4 | low;
}

bool head_path(const struct head *head, char *to, size_t *ret_len) {
  size_t len = 0;
  for (size_t i = 0; i < head->target.len; i++) {
    int byte = (unsigned char)head->target.data[i];
    if (byte == '%') {
      if (i + 2 >= head->target.len) return false;
      byte = head_hex_byte(head->target.data + i + 1);
      i += 2;
    }
    if (byte < ' ' || byte == 0x7f) return false;
    to[len++] = (char)byte;
  }
  *ret_len = len;
  return true;
}

static bool is_named(const struct head_field *field, const char *name, size_t len) {
  return field->name.len == len && strncasecmp(field->name.data, name, len) == 0;
}

bool head_field(const struct head *head, const char *name, struct pf_slice *ret_value) {
  size_t len = strlen(name);
  for (unsigned i = 0; i < head->count; i++) {
    if (!is_named(&head->fields[i], name, len)) continue;
    *ret_value = head->fields[i].value;
    return true;
  }
  return false;
}

unsigned head_field_count(const struct head *head, const char *name) {
  size_t len = strlen(name);
  unsigned count = 0;
  for (unsigned i = 0; i < head->count; i++)
    count += is_named(&head->fields[i], name, len);
  return count;
}
