/* Lines: method, URL, idempotency key, then pairs of header name and value; behind an empty line
 * the body. What the check lets through holds nothing that could be read as more than one request,
 * and survives the way to the executor. The same input also goes in as the bytes that travel. */
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "wire/json.h"
#include "wire/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct pf_slice line_take(struct pf_slice *rest) {
  const char *end = rest->len ? memchr(rest->data, '\n', rest->len) : NULL;
  size_t len = end ? (size_t)(end - rest->data) : rest->len;
  struct pf_slice line = pf_slice(rest->data, len);
  size_t used = len + (end != NULL);
  *rest = pf_slice(rest->data + used, rest->len - used);
  return line;
}

static bool has(struct pf_slice text, char c) {
  return text.len && memchr(text.data, c, text.len);
}

static void accepted_check(const struct wire_request *request, const char *host) {
  PF_ASSERT(strlen(host) < WIRE_HOST_MAX && strrchr(host, ':'));
  PF_ASSERT(!has(request->url, ' ') && !has(request->url, '\r') && !has(request->url, '\0'));
  struct pf_slice authority = request->url;
  const char *slashes = memchr(authority.data, '/', authority.len);
  authority.data = slashes + 2;
  authority.len = strcspn(authority.data, "/?#");
  if (authority.len < strlen(host))
    PF_ASSERT(strncasecmp(authority.data, host, authority.len) == 0); /* the port was added */
  for (size_t i = 0; i < request->header_count; i++) {
    const struct wire_header *header = &request->headers[i];
    PF_ASSERT(header->name.len && !has(header->name, ':') && !has(header->name, ' '));
    PF_ASSERT(!has(header->value, '\r') && !has(header->value, '\n') && !has(header->value, '\0'));
  }
}

/* Messages of clients are valid UTF-8 before they get here; other bytes would become U+FFFD. */
static bool headers_are_text(const struct wire_request *request) {
  for (size_t i = 0; i < request->header_count; i++)
    if (!utf8_is_text(request->headers[i].value)) return false;
  return true;
}

static void round_trip_check(const struct wire_request *request) {
  struct pf_buf bytes, again;
  struct pf_arena arena;
  struct wire_request back;
  pf_buf_init(&bytes, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&again, PF_BUF_MAX_DEFAULT);
  pf_arena_init(&arena);
  wire_request_encode(&bytes, request);
  int err = wire_request_decode(&back, pf_buf_view(&bytes), &arena, NULL);
  PF_ASSERT(err == PF_OK && pf_slice_eq(back.url, request->url));
  PF_ASSERT(pf_slice_eq(back.body, request->body) && back.header_count == request->header_count);
  wire_request_encode(&again, &back);
  PF_ASSERT(pf_slice_eq(pf_buf_view(&bytes), pf_buf_view(&again)));
  pf_buf_done(&bytes);
  pf_buf_done(&again);
  pf_arena_done(&arena);
}

/* The URL is NUL-terminated in the copy, so that the assertions may use string functions. */
static void lines_check(struct pf_slice rest, struct pf_arena *arena) {
  struct wire_header headers[WIRE_HEADERS_MAX];
  struct wire_request request = {.headers = headers};
  char host[WIRE_HOST_MAX];
  struct pf_error why = {0};
  request.method = line_take(&rest);
  request.url = pf_arena_copy(arena, line_take(&rest));
  request.idempotency_key = line_take(&rest);
  while (rest.len && request.header_count < WIRE_HEADERS_MAX) {
    struct pf_slice name = line_take(&rest);
    if (name.len == 0) break;
    headers[request.header_count++] = (struct wire_header){name, line_take(&rest)};
  }
  request.body = rest;
  if (wire_request_check(&request, host, &why)) {
    PF_ASSERT(why.text[0]);
    return;
  }
  accepted_check(&request, host);
  if (headers_are_text(&request)) round_trip_check(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct pf_arena arena;
  struct wire_request request;
  char host[WIRE_HOST_MAX];
  pf_arena_init(&arena);
  lines_check(pf_slice(data, len), &arena);
  if (wire_request_decode(&request, pf_slice(data, len), &arena, NULL) == PF_OK) {
    round_trip_check(&request);
    request.url = pf_arena_copy(&arena, request.url);
    if (wire_request_check(&request, host, NULL) == PF_OK) accepted_check(&request, host);
  }
  pf_arena_done(&arena);
  return 0;
}
