#include "wire/request.h"

#include <string.h>
#include <strings.h>

#include "wire/batch.h"
#include "wire/fields.h"
#include "wire/parts.h"

bool wire_retry_names(const struct wire_retry *retry, int status) {
  if (status < 100) return false; /* below are the classes */
  for (size_t i = 0; i < retry->status_count; i++)
    if (retry->statuses[i] == status || retry->statuses[i] == status / 100) return true;
  return false;
}

static bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool wire_name_valid(struct pf_slice name) {
  if (name.len == 0 || name.len > WIRE_NAME_MAX || !is_letter(name.data[0])) return false;
  for (size_t i = 1; i < name.len; i++)
    if (!is_letter(name.data[i]) && !is_digit(name.data[i]) && !strchr("_.-", name.data[i]))
      return false;
  return memchr(name.data, '\0', name.len) == NULL;
}

/* ---- methods ---- */

static const struct method {
  const char *name;
  bool repeatable, has_body;
} methods[] = {
    {"GET", true, false},
    {"HEAD", true, false},
    {"POST", false, true},
    {"PUT", true, true},
    {"PATCH", false, true},
    {"DELETE", true, true},
    {"OPTIONS", true, true},
};

static const struct method *method_find(struct pf_slice name) {
  for (size_t i = 0; i < PF_COUNT(methods); i++)
    if (pf_slice_is(name, methods[i].name)) return &methods[i];
  return NULL;
}

bool wire_request_repeatable(const struct wire_request *request) {
  if (request->idempotency_key.len) return true;
  const struct method *method = method_find(request->method);
  return method && method->repeatable;
}

/* ---- URL ---- */

static int url_refused(struct pf_error *reterr, const char *why) {
  return pf_error_set(reterr, PF_EINVAL, "url: %s", why);
}

static bool starts_with(struct pf_slice text, const char *prefix) {
  size_t len = strlen(prefix);
  return text.len >= len && strncasecmp(text.data, prefix, len) == 0;
}

/* Host names that a resolver or libcurl could read differently than we do are not let through:
 * letters, digits, dots, hyphens and underscores only, or an IPv6 literal without a zone. */
static bool host_valid(struct pf_slice host) {
  if (host.len == 0 || host.len > 253) return false;
  bool literal = host.data[0] == '[';
  if (literal) {
    if (host.len < 4 || host.data[host.len - 1] != ']') return false;
    host = pf_slice(host.data + 1, host.len - 2);
  }
  for (size_t i = 0; i < host.len; i++) {
    char c = host.data[i];
    bool hex = is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
    bool fine = literal ? hex || c == ':' || c == '.'
                        : is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_';
    if (!fine) return false;
  }
  return literal || host.data[0] != '.';
}

/* Digits of 1..65535, no leading zero. */
static bool port_valid(struct pf_slice port) {
  if (port.len == 0 || port.len > 5 || port.data[0] == '0') return false;
  unsigned value = 0;
  for (size_t i = 0; i < port.len; i++) {
    if (!is_digit(port.data[i])) return false;
    value = value * 10 + (unsigned)(port.data[i] - '0');
  }
  return value <= 65535;
}

static size_t host_length(struct pf_slice authority) {
  const char *close =
      authority.len && authority.data[0] == '[' ? memchr(authority.data, ']', authority.len) : NULL;
  if (close) return (size_t)(close - authority.data) + 1;
  const char *colon = memchr(authority.data, ':', authority.len);
  return colon ? (size_t)(colon - authority.data) : authority.len;
}

int wire_url_check(struct pf_slice url, char ret_host[WIRE_HOST_MAX], struct pf_error *reterr) {
  if (url.len > WIRE_URL_MAX)
    return pf_error_set(reterr, PF_ELIMIT, "url: longer than %d bytes", WIRE_URL_MAX);
  bool secure = starts_with(url, "https://");
  if (!secure && !starts_with(url, "http://"))
    return url_refused(reterr, "an absolute http:// or https:// URL was expected");
  for (size_t i = 0; i < url.len; i++) {
    unsigned char c = (unsigned char)url.data[i];
    if (c <= 0x20 || c >= 0x7f || c == '\\')
      return url_refused(reterr, "spaces, backslashes, control and non-ASCII characters must be "
                                 "percent-encoded (a host name: in its xn-- form)");
  }
  size_t scheme = secure ? 8 : 7;
  struct pf_slice authority = pf_slice(url.data + scheme, url.len - scheme);
  for (size_t i = 0; i < authority.len; i++)
    if (strchr("/?#", authority.data[i])) authority.len = i;
  if (memchr(authority.data, '@', authority.len))
    return url_refused(reterr, "user and password are not allowed in it; use a header");
  struct pf_slice host = pf_slice(authority.data, host_length(authority));
  if (!host_valid(host)) return url_refused(reterr, "its host name is missing or malformed");
  struct pf_slice port = pf_slice_str(secure ? "443" : "80");
  if (host.len < authority.len) {
    port = pf_slice(host.data + host.len + 1, authority.len - host.len - 1);
    if (host.data[host.len] != ':' || !port_valid(port))
      return url_refused(reterr, "its port is not a number from 1 to 65535");
  }
  char *out = ret_host;
  for (size_t i = 0; i < host.len; i++)
    *out++ =
        host.data[i] >= 'A' && host.data[i] <= 'Z' ? (char)(host.data[i] | 0x20) : host.data[i];
  *out++ = ':';
  memcpy(out, port.data, port.len);
  out[port.len] = '\0';
  return PF_OK;
}

/* ---- headers ---- */

/* Framing, connection control, metadata services, and what proxies and we ourselves add. A name
 * that ends in '*' stands for all that begin so. */
static const char *const headers_denied[] = {"host", "connection", "keep-alive", "proxy-*", "te",
    "trailer", "transfer-encoding", "upgrade", "content-length", "expect", "metadata",
    "metadata-flavor", "x-aws-ec2-metadata-token*", "x-forwarded-*", "x-pf-*"};

static bool header_denied(struct pf_slice name) {
  for (size_t i = 0; i < PF_COUNT(headers_denied); i++) {
    const char *denied = headers_denied[i];
    size_t len = strlen(denied);
    bool prefix = denied[len - 1] == '*';
    len -= prefix;
    if ((prefix ? name.len >= len : name.len == len) && strncasecmp(name.data, denied, len) == 0)
      return true;
  }
  return false;
}

/* RFC 9110 token. */
static bool token_valid(struct pf_slice token) {
  for (size_t i = 0; i < token.len; i++) {
    char c = token.data[i];
    if (!is_letter(c) && !is_digit(c) && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c))) return false;
  }
  return token.len > 0;
}

/* RFC 9110 field value: no control characters but tabs, no white space at either end. */
static bool value_valid(struct pf_slice value) {
  for (size_t i = 0; i < value.len; i++) {
    unsigned char c = (unsigned char)value.data[i];
    if ((c < 0x20 && c != '\t') || c == 0x7f) return false;
  }
  if (value.len == 0) return true;
  char first = value.data[0], last = value.data[value.len - 1];
  return first != ' ' && first != '\t' && last != ' ' && last != '\t';
}

static int header_refused(struct pf_error *reterr, struct pf_slice name, const char *why) {
  int shown = (int)(name.len < 64 ? name.len : 64);
  return pf_error_set(reterr, PF_EINVAL, "headers: %.*s: %s", shown, name.data, why);
}

static int headers_check(const struct wire_request *request, struct pf_error *reterr) {
  if (request->header_count > WIRE_HEADERS_MAX)
    return pf_error_set(reterr, PF_ELIMIT, "headers: more than %d", WIRE_HEADERS_MAX);
  size_t bytes = 0;
  for (size_t i = 0; i < request->header_count; i++) {
    const struct wire_header *header = &request->headers[i];
    bytes += header->name.len + header->value.len;
    if (!token_valid(header->name))
      return pf_error_set(reterr, PF_EINVAL,
          "headers: a name has to be letters, digits or any of !#$%%&'*+-.^_`|~");
    if (!value_valid(header->value))
      return header_refused(
          reterr, header->name, "a value may have no control characters and no space at its ends");
    if (header_denied(header->name))
      return header_refused(reterr, header->name, "this header cannot be set by a request");
    if (request->idempotency_key.len && header->name.len == sizeof("idempotency-key") - 1 &&
        strncasecmp(header->name.data, "idempotency-key", header->name.len) == 0)
      return header_refused(reterr, header->name, "give this or idempotencyKey, not both");
  }
  if (bytes > WIRE_HEADER_BYTES_MAX)
    return pf_error_set(
        reterr, PF_ELIMIT, "headers: more than %d bytes together", WIRE_HEADER_BYTES_MAX);
  return PF_OK;
}

static int key_check(struct pf_slice key, struct pf_error *reterr) {
  if (key.len > WIRE_KEY_MAX)
    return pf_error_set(reterr, PF_ELIMIT, "idempotencyKey: longer than %d bytes", WIRE_KEY_MAX);
  for (size_t i = 0; i < key.len; i++)
    if (key.data[i] <= 0x20 || key.data[i] >= 0x7f)
      return pf_error_set(
          reterr, PF_EINVAL, "idempotencyKey: visible ASCII characters were expected");
  return PF_OK;
}

int wire_request_check(
    const struct wire_request *request, char ret_host[WIRE_HOST_MAX], struct pf_error *reterr) {
  int err = wire_url_check(request->url, ret_host, reterr);
  if (err) return err;
  const struct method *method = method_find(request->method);
  if (!method)
    return pf_error_set(reterr, PF_EINVAL,
        "method: one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS was expected");
  if (request->body.len > WIRE_REQUEST_BODY_MAX)
    return pf_error_set(
        reterr, PF_ELIMIT, "body: longer than %zu bytes", (size_t)WIRE_REQUEST_BODY_MAX);
  if (request->body.len && !method->has_body)
    return pf_error_set(reterr, PF_EINVAL, "body: %s takes none", method->name);
  err = headers_check(request, reterr);
  return err ? err : key_check(request->idempotency_key, reterr);
}

/* ---- the bytes that travel ---- */

static void request_headers_encode(struct json_writer *w, const char *name, const void *base) {
  const struct wire_request *request = base;
  if (request->header_count) headers_encode(w, name, request->headers, request->header_count);
}

static int request_headers_scan(struct json_scan *s, void *base, struct pf_arena *arena) {
  struct wire_request *request = base;
  return headers_scan(s, &request->headers, &request->header_count, WIRE_HEADERS_MAX, arena);
}

static void include_encode(struct json_writer *w, const char *name, const void *base) {
  const struct wire_request *request = base;
  if (!request->include) return;
  json_begin_array(w, name);
  for (unsigned i = 0; include_names[i]; i++)
    if (request->include & PF_BIT(i)) json_put_text(w, NULL, include_names[i]);
  json_end_array(w);
}

static int include_scan(struct json_scan *s, void *base, struct pf_arena *arena) {
  (void)arena;
  struct wire_request *request = base;
  struct scan_text text;
  int err = scan_array(s);
  while (!err && (err = scan_element(s)) == PF_OK && (err = scan_string(s, &text)) == PF_OK) {
    unsigned bit = include_bit(text.raw);
    if (!bit) return scan_fail(s, PF_EINVAL, "an unknown word in include");
    request->include |= bit;
  }
  return err == PF_ENOTFOUND ? PF_OK : err;
}

FIELDS(request_fields, FIELD("url", FIELD_TEXT, struct wire_request, url, .max = WIRE_URL_MAX),
    FIELD("method", FIELD_TEXT, struct wire_request, method, .max = WIRE_METHOD_MAX),
    FIELD_OWN("headers", request_headers_encode, request_headers_scan, FIELD_OPTIONAL),
    FIELD("idempotencyKey", FIELD_TEXT, struct wire_request, idempotency_key, .max = WIRE_KEY_MAX,
        FIELD_OPTIONAL),
    FIELD("redirect", FIELD_CHOICE, struct wire_request, redirect, .names = redirect_names,
        FIELD_OPTIONAL),
    FIELD_OWN("include", include_encode, include_scan, FIELD_OPTIONAL));

void wire_request_encode(struct pf_buf *buf, const struct wire_request *request) {
  size_t record = batch_begin(buf);
  struct json_writer w = json_writer(buf);
  fields_encode(&w, &request_fields, request);
  batch_end(buf, record, request->body);
}

int wire_request_decode(struct wire_request *ret, struct pf_slice bytes, struct pf_arena *arena,
    struct pf_error *reterr) {
  struct batch_reader reader = batch_reader(bytes);
  struct pf_slice head, body;
  *ret = (struct wire_request){0};
  if (batch_next(&reader, &head, &body) || reader.rest.len)
    return pf_error_set(reterr, PF_EINVAL, "the request is not one whole record");
  if (body.len > WIRE_REQUEST_BODY_MAX)
    return pf_error_set(
        reterr, PF_ELIMIT, "body: longer than %zu bytes", (size_t)WIRE_REQUEST_BODY_MAX);
  int err = fields_decode(&request_fields, ret, head, arena, reterr);
  if (!err) ret->body = body;
  return err;
}
