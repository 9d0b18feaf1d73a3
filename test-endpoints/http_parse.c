#include "http_parse.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

#include "base/id.h"
#include "text.h"

/* RFC 9110 tchar: what methods and header names are made of. */
static bool is_token_char(unsigned char c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
  return c && strchr("!#$%&'*+-.^_`|~", c);
}

static bool is_token(struct pf_slice text) {
  for (size_t i = 0; i < text.len; i++)
    if (!is_token_char((unsigned char)text.data[i])) return false;
  return text.len > 0;
}

static bool slice_is_nocase(struct pf_slice a, const char *text) {
  return a.len == strlen(text) && strncasecmp(a.data, text, a.len) == 0;
}

static struct pf_slice slice_trim(struct pf_slice text) {
  while (text.len && (*text.data == ' ' || *text.data == '\t'))
    text.data++, text.len--;
  while (text.len && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t'))
    text.len--;
  return text;
}

/* The line at data up to CRLF. Returns its length with the CRLF; 0 if it has not ended; -400 for a
 * bare LF, or a CR or NUL inside. */
static int line_take(const char *data, size_t len, struct pf_slice *ret_line) {
  const char *end = memchr(data, '\n', len);
  if (!end) return 0;
  size_t line = (size_t)(end - data);
  if (line == 0 || data[line - 1] != '\r') return -400;
  if (memchr(data, '\r', line - 1) || memchr(data, '\0', line - 1)) return -400;
  *ret_line = pf_slice(data, line - 1);
  return (int)line + 1;
}

/* Absolute form ("GET http://host/path") is what proxies are sent; only the path matters here. */
static int parse_target(struct http_request *req, struct pf_slice target) {
  if (target.len > HTTP_TARGET_MAX) return -414;
  for (size_t i = 0; i < target.len; i++)
    if ((unsigned char)target.data[i] <= 0x20 || target.data[i] == 0x7f) return -400;
  if (target.len > 7 && strncasecmp(target.data, "http://", 7) == 0) {
    const char *slash = memchr(target.data + 7, '/', target.len - 7);
    if (!slash) return -400;
    target = pf_slice(slash, target.len - (size_t)(slash - target.data));
  }
  if (target.len == 0 || target.data[0] != '/') return -400;
  const char *mark = memchr(target.data, '?', target.len);
  size_t path_len = mark ? (size_t)(mark - target.data) : target.len;
  req->path = pf_slice(target.data, path_len);
  req->query = mark ? pf_slice(mark + 1, target.len - path_len - 1) : pf_slice("", 0);
  return 0;
}

static int parse_request_line(struct http_request *req, struct pf_slice line) {
  const char *first = memchr(line.data, ' ', line.len);
  const char *last = memrchr(line.data, ' ', line.len);
  if (!first || first == last) return -400;
  req->method = pf_slice(line.data, (size_t)(first - line.data));
  struct pf_slice version = pf_slice(last + 1, line.len - (size_t)(last + 1 - line.data));
  if (!is_token(req->method)) return -400;
  if (version.len != 8 || memcmp(version.data, "HTTP/", 5) != 0 || version.data[6] != '.')
    return -400;
  if (version.data[5] != '1' || version.data[7] < '0' || version.data[7] > '9') return -505;
  req->minor = version.data[7] == '0' ? 0 : 1;
  return parse_target(req, pf_slice(first + 1, (size_t)(last - first - 1)));
}

static int parse_header(struct http_request *req, struct pf_slice line) {
  if (req->header_count == HTTP_HEADERS_MAX) return -431;
  const char *colon = memchr(line.data, ':', line.len);
  if (!colon) return -400;
  struct http_header *header = &req->headers[req->header_count++];
  header->name = pf_slice(line.data, (size_t)(colon - line.data));
  header->value = slice_trim(pf_slice(colon + 1, line.len - header->name.len - 1));
  if (!is_token(header->name)) return -400; /* also a folded line, which begins with a blank */
  for (size_t i = 0; i < header->value.len; i++) {
    unsigned char c = (unsigned char)header->value.data[i];
    if ((c < 0x20 && c != '\t') || c == 0x7f) return -400;
  }
  return 0;
}

/* "Connection: Keep-Alive, Upgrade" */
static void read_connection(struct http_request *req, struct pf_slice list) {
  while (list.len) {
    const char *comma = memchr(list.data, ',', list.len);
    size_t len = comma ? (size_t)(comma - list.data) : list.len;
    struct pf_slice item = slice_trim(pf_slice(list.data, len));
    if (slice_is_nocase(item, "close")) req->keep_alive = false;
    if (slice_is_nocase(item, "keep-alive") && req->minor == 0) req->keep_alive = true;
    len += comma ? 1 : 0;
    list = pf_slice(list.data + len, list.len - len);
  }
}

/* What the headers say about the message itself. */
static int interpret_headers(struct http_request *req) {
  unsigned hosts = 0, lengths = 0, codings = 0;
  req->keep_alive = req->minor == 1;
  for (unsigned i = 0; i < req->header_count; i++) {
    struct pf_slice name = req->headers[i].name, value = req->headers[i].value;
    switch (name.len) { /* spares most headers the comparisons */
    case 4:
      if (slice_is_nocase(name, "host")) hosts++;
      break;
    case 6:
      if (slice_is_nocase(name, "expect")) {
        if (!slice_is_nocase(value, "100-continue")) return -417;
        req->expect_continue = req->minor == 1;
      }
      break;
    case 10:
      if (slice_is_nocase(name, "connection")) read_connection(req, value);
      break;
    case 14:
      if (slice_is_nocase(name, "content-length")) {
        if (lengths++ || !text_number(value, UINT64_MAX, &req->content_length)) return -400;
      }
      break;
    case 17:
      if (slice_is_nocase(name, "transfer-encoding")) {
        codings++;
        if (!slice_is_nocase(value, "chunked")) return -501;
        req->chunked = true;
      }
      break;
    default:
      break;
    }
  }
  if (hosts > 1 || (hosts == 0 && req->minor == 1)) return -400;
  if (codings > 1 || (codings && (lengths || req->minor == 0))) return -400;
  return 0;
}

int http_parse_head(
    struct http_request *ret_request, const char *data, size_t len, size_t head_max) {
  struct http_request *req = ret_request;
  PF_ASSERT(head_max <= INT_MAX);
  /* Clearing 3 KB of headers for each request would cost more than parsing it. */
  memset(req, 0, offsetof(struct http_request, headers));
  bool cut = len > head_max;
  if (cut) len = head_max;
  size_t at = 0;
  /* An empty line before a request is a leftover of some clients' last body. */
  while (len - at >= 2 && data[at] == '\r' && data[at + 1] == '\n')
    at += 2;
  for (bool first = true;; first = false) {
    struct pf_slice line;
    int taken = line_take(data + at, len - at, &line);
    if (taken < 0) return taken;
    if (taken == 0) {
      if (first && len - at > HTTP_TARGET_MAX + 64) return -414;
      return cut || len == head_max ? -431 : 0;
    }
    at += (size_t)taken;
    if (!first && line.len == 0) break;
    int err = first ? parse_request_line(req, line) : parse_header(req, line);
    if (err) return err;
  }
  int err = interpret_headers(req);
  return err ? err : (int)at;
}

const struct http_header *http_header_find(const struct http_request *request, const char *name) {
  for (unsigned i = 0; i < request->header_count; i++)
    if (slice_is_nocase(request->headers[i].name, name)) return &request->headers[i];
  return NULL;
}

/* ---- body ---- */

void http_body_init(struct http_body *body, const struct http_request *request) {
  *body = (struct http_body){.left = request->content_length};
  if (request->chunked)
    body->state = HTTP_BODY_CHUNK_SIZE;
  else if (request->content_length == 0)
    body->state = HTTP_BODY_DONE;
}

static int chunk_size_end(struct http_body *body) {
  if (body->digits == 0) return -400;
  body->state = body->left ? HTTP_BODY_CHUNK_DATA : HTTP_BODY_TRAILER;
  body->line_len = body->digits = 0;
  body->in_extension = false;
  body->line_empty = true;
  return 0;
}

/* One byte of "1f;name=value\r\n". Extensions are skipped. */
static int chunk_size_byte(struct http_body *body, char c) {
  if (++body->line_len > HTTP_CHUNK_LINE_MAX) return -400;
  if (body->saw_cr) {
    body->saw_cr = false;
    return c == '\n' ? chunk_size_end(body) : -400;
  }
  if (c == '\r') return body->saw_cr = true, 0;
  if (c == '\n' || c == '\0') return -400;
  if (body->in_extension) return 0;
  if (c == ';' && body->digits) return body->in_extension = true, 0;
  int digit = pf_hex_value(c);
  if (digit < 0 || ++body->digits > 15) return -400; /* 15 digits cannot overflow */
  body->left = body->left << 4 | (uint64_t)digit;
  return 0;
}

/* The CRLF behind a chunk's data. */
static int chunk_end_byte(struct http_body *body, char c) {
  if (c != (body->saw_cr ? '\n' : '\r')) return -400;
  if (body->saw_cr) body->state = HTTP_BODY_CHUNK_SIZE;
  body->saw_cr = !body->saw_cr;
  return 0;
}

/* Trailers are skipped up to the empty line. */
static int trailer_byte(struct http_body *body, char c) {
  if (++body->line_len > HTTP_TRAILER_MAX) return -400;
  if (body->saw_cr) {
    body->saw_cr = false;
    if (c != '\n') return -400;
    if (body->line_empty) body->state = HTTP_BODY_DONE;
    body->line_empty = true;
    return 0;
  }
  if (c == '\r') return body->saw_cr = true, 0;
  if (c == '\n' || c == '\0') return -400;
  body->line_empty = false;
  return 0;
}

static size_t body_take(
    struct http_body *body, const char *data, size_t len, struct pf_slice *ret_piece) {
  size_t taken = body->left < len ? (size_t)body->left : len;
  *ret_piece = pf_slice(data, taken);
  body->left -= taken;
  body->total += taken;
  if (body->left == 0)
    body->state = body->state == HTTP_BODY_RAW ? HTTP_BODY_DONE : HTTP_BODY_CHUNK_END;
  return taken;
}

int http_body_feed(
    struct http_body *body, const char *data, size_t len, struct pf_slice *ret_piece) {
  size_t at = 0;
  *ret_piece = pf_slice("", 0);
  if (len > INT_MAX) len = INT_MAX;
  while (at < len && body->state != HTTP_BODY_DONE) {
    int err = 0;
    switch (body->state) {
    case HTTP_BODY_RAW:
    case HTTP_BODY_CHUNK_DATA:
      return (int)(at + body_take(body, data + at, len - at, ret_piece));
    case HTTP_BODY_CHUNK_SIZE:
      err = chunk_size_byte(body, data[at]);
      break;
    case HTTP_BODY_CHUNK_END:
      err = chunk_end_byte(body, data[at]);
      break;
    case HTTP_BODY_TRAILER:
      err = trailer_byte(body, data[at]);
      break;
    case HTTP_BODY_DONE:
      break;
    }
    if (err) return err;
    at++;
  }
  return (int)at;
}
