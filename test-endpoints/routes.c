#include "routes.h"

#include <stdio.h>
#include <string.h>

#include "base/query.h"
#include "text.h"

#define DAY_MS (24u * 3600 * 1000)
#define BYTES_MAX ((uint64_t)1 << 30)
#define ARRAY_MAX 10000
#define UNITS_MAX 1000000u
#define JSON "application/json"

/* A page of real compression, so that a client that does not decode it cannot pass by luck:
 * {"gzipped":true,"text":"proxyfetch proxyfetch …"}, 245 bytes. */
static const unsigned char gzip_page[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02,
    0x03, 0xab, 0x56, 0x4a, 0xaf, 0xca, 0x2c, 0x28, 0x48, 0x4d, 0x51, 0xb2, 0x2a, 0x29, 0x2a, 0x4d,
    0xd5, 0x51, 0x2a, 0x49, 0xad, 0x28, 0x51, 0xb2, 0x52, 0x2a, 0x28, 0xca, 0xaf, 0xa8, 0x4c, 0x4b,
    0x2d, 0x49, 0xce, 0x50, 0x18, 0x6e, 0x4c, 0xa5, 0x5a, 0x00, 0xd7, 0xe7, 0x20, 0x93, 0xf5, 0x00,
    0x00, 0x00};

/* ---- arguments ---- */

/* A numeric query parameter within [0, max], or `fallback`. */
static uint64_t query_number(
    const struct call *call, const char *name, uint64_t max, uint64_t fallback) {
  struct pf_slice text;
  uint64_t value;
  if (!pf_query_find(call->request->query, name, &text)) return fallback;
  return text_number(text, max, &value) ? value : fallback;
}

static bool query_is(const struct call *call, const char *name, const char *value) {
  struct pf_slice text;
  return pf_query_find(call->request->query, name, &text) && pf_slice_is(text, value);
}

/* "?status=" among the redirects, else 302. */
static int redirect_status(const struct call *call) {
  int status = (int)query_number(call, "status", 308, 302);
  return status == 301 || status == 303 || status >= 307 ? status : 302;
}

/* True for the first `times` requests of the key. */
static bool fail_once_more(struct call *call, uint64_t times) {
  if (call->entry->failures >= times) return false;
  call->entry->failures++;
  return true;
}

/* ---- ordinary answers ---- */

static void answer_uuid(struct call *call) {
  static const char digits[] = "0123456789abcdef";
  uint64_t bits[2] = {pf_rand_u64(&call->lab->rand), pf_rand_u64(&call->lab->rand)};
  bits[0] = (bits[0] & ~(uint64_t)0xf000) | 0x4000;                 /* version 4 */
  bits[1] = (bits[1] & ~((uint64_t)3 << 62)) | ((uint64_t)2 << 62); /* variant 1 */
  char text[] = "{\"uuid\":\"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx\"}";
  char *at = text + strlen("{\"uuid\":\"");
  for (unsigned i = 0; i < 32; i++) {
    if (*at == '-') at++;
    *at++ = digits[bits[i / 16] >> (60 - i % 16 * 4) & 15];
  }
  respond(call, 200, JSON, "", pf_slice(text, sizeof(text) - 1));
}

static void answer_array(struct call *call) {
  struct pf_buf text;
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  for (uint64_t i = 0; i < call->number; i++)
    pf_buf_printf(&text, "%c{\"id\":%llu,\"name\":\"item %llu\",\"ok\":true}", i ? ',' : '[',
        (unsigned long long)i, (unsigned long long)i);
  pf_buf_str(&text, call->number ? "]" : "[]");
  respond(call, 200, JSON, "", pf_buf_view(&text));
  pf_buf_done(&text);
}

static void answer_json(struct call *call) {
  respond(call, 200, JSON, "",
      pf_slice_str(
          "{\"name\":\"proxyfetch\",\"numbers\":[1,2.5,-3e2],\"nested\":{\"list\":[true,false,"
          "null],\"text\":\"gr\u00fc\u00dfe \\\"quoted\\\" \u2713\"}}"));
}

static void answer_health(struct call *call) {
  respond(call, 200, JSON, "", pf_slice_str("{\"status\":\"ok\"}"));
}

static void answer_status(struct call *call) {
  if (call->number < 200)
    respond_error(call, 400, "", "bad_argument", "a status is a number from 200 to 599");
  else
    respond_json(call, (int)call->number, "{\"status\":%d}", (int)call->number);
}

static void answer_delay(struct call *call) {
  call->answer.wait_ms = (int64_t)call->number;
  respond_json(call, 200, "{\"delayMs\":%llu}", (unsigned long long)call->number);
}

static void append_headers(struct pf_buf *out, const struct http_request *request) {
  pf_buf_str(out, "\"headers\":[");
  for (unsigned i = 0; i < request->header_count; i++) {
    pf_buf_str(out, i ? ",[" : "[");
    text_json_string(out, request->headers[i].name);
    pf_buf_str(out, ",");
    text_json_string(out, request->headers[i].value);
    pf_buf_str(out, "]");
  }
  pf_buf_str(out, "]");
}

static void answer_headers(struct call *call) {
  struct pf_buf *json = &call->lab->scratch;
  pf_buf_clear(json);
  pf_buf_str(json, "{");
  append_headers(json, call->request);
  pf_buf_str(json, "}");
  respond(call, 200, JSON, "", pf_buf_view(json));
}

static void answer_echo(struct call *call) {
  struct pf_buf *json = &call->lab->scratch;
  pf_buf_clear(json);
  pf_buf_str(json, "{\"method\":");
  text_json_string(json, call->request->method);
  pf_buf_str(json, ",\"path\":");
  text_json_string(json, call->request->path);
  pf_buf_str(json, ",\"query\":");
  text_json_string(json, call->request->query);
  pf_buf_str(json, ",");
  append_headers(json, call->request);
  if (text_is_utf8(call->body)) {
    pf_buf_str(json, ",\"body\":");
    text_json_string(json, call->body);
  } else {
    pf_buf_str(json, ",\"bodyBase64\":\"");
    text_base64(json, call->body);
    pf_buf_str(json, "\"");
  }
  pf_buf_str(json, "}");
  if (json->err)
    respond_error(call, 413, "", "too_large", "the echo of this request would be too large");
  else
    respond(call, 200, JSON, "", pf_buf_view(json));
}

/* ---- sizes and streams ---- */

static void answer_bytes(struct call *call) {
  call->answer.source = ANSWER_PATTERN;
  call->answer.count = call->number;
  respond_head(call, 200, "text/plain", "", call->number);
}

static void answer_stream(struct call *call) {
  call->answer.source = ANSWER_LINES;
  call->answer.count = call->number;
  call->answer.pace_ms = (int64_t)query_number(call, "ms", DAY_MS, 0);
  respond_head_stream(call, 200, "application/x-ndjson", "");
}

static void answer_drip(struct call *call) {
  call->answer.source = ANSWER_PATTERN;
  call->answer.count = query_number(call, "bytes", UNITS_MAX, 10);
  call->answer.pace_ms = (int64_t)query_number(call, "ms", DAY_MS, 100);
  respond_head(call, 200, "text/plain", "", call->answer.count);
}

static void answer_sse(struct call *call) {
  call->answer.source = ANSWER_EVENTS;
  call->answer.count = query_number(call, "count", UNITS_MAX, 10);
  call->answer.pace_ms = (int64_t)query_number(call, "ms", DAY_MS, 100);
  respond_head_stream(call, 200, "text/event-stream", "Cache-Control: no-store\r\n");
}

static void answer_gzip(struct call *call) {
  respond(call, 200, JSON, "Content-Encoding: gzip\r\n", pf_slice(gzip_page, sizeof(gzip_page)));
}

static void answer_gzip_bomb(struct call *call) {
  call->answer.source = ANSWER_ZIPPED;
  call->answer.count = ANSWER_ZIPPED_BYTES;
  respond_head(
      call, 200, "application/octet-stream", "Content-Encoding: gzip\r\n", ANSWER_ZIPPED_BYTES);
}

/* ---- redirects and retries ---- */

static void respond_redirect(struct call *call, const struct pf_buf *location) {
  struct pf_buf *headers = &call->lab->scratch;
  pf_buf_clear(headers);
  pf_buf_str(headers, "Location: ");
  pf_buf_slice(headers, pf_buf_view(location));
  pf_buf_append(headers, "\r\n", 3); /* with its NUL */
  if (headers->err)
    respond_error(call, 400, "", "bad_argument", "the location is too long");
  else
    respond(call, redirect_status(call), NULL, headers->data, pf_slice("", 0));
}

/* Keeps the prefix and the query, so that a token in it goes along. */
static void answer_redirect(struct call *call) {
  if (call->number == 0) {
    respond_json(call, 200, "{\"redirected\":true}");
    return;
  }
  struct pf_buf *location = &call->lab->text;
  pf_buf_clear(location);
  pf_buf_slice(location, call->prefix);
  pf_buf_printf(location, "/redirect/%llu", (unsigned long long)call->number - 1);
  if (call->request->query.len) pf_buf_str(location, "?");
  pf_buf_slice(location, call->request->query);
  respond_redirect(call, location);
}

static void answer_redirect_to(struct call *call) {
  struct pf_buf *location = &call->lab->text;
  struct pf_slice url = {0};
  bool bad = !pf_query_find(call->request->query, "url", &url) || url.len == 0;
  pf_buf_clear(location);
  pf_percent_decode(location, url, true);
  for (size_t i = 0; i < location->len; i++)
    if ((unsigned char)location->data[i] <= 0x20) bad = true;
  if (bad)
    respond_error(call, 400, "", "bad_argument", "?url= must be a URL without blanks");
  else
    respond_redirect(call, location);
}

static void answer_flaky(struct call *call) {
  if (!fail_once_more(call, call->number))
    respond_json(
        call, 200, "{\"flaky\":false,\"failures\":%llu}", (unsigned long long)call->number);
  else if (query_is(call, "fail", "reset"))
    call->answer.end = ANSWER_RESET;
  else
    respond_error(call, 503, "", "flaky", "failed on purpose");
}

static void answer_retry_after(struct call *call) {
  uint64_t times = query_number(call, "times", UNITS_MAX, UINT64_MAX);
  int status = (int)query_number(call, "status", 599, 503);
  char header[64];
  snprintf(header, sizeof(header), "Retry-After: %llu\r\n", (unsigned long long)call->number);
  if (times != UINT64_MAX && !fail_once_more(call, times))
    respond_json(call, 200, "{\"retryAfter\":%llu}", (unsigned long long)call->number);
  else
    respond_error(call, status < 400 ? 503 : status, header, "retry_after", "come back later");
}

/* ---- misbehaviour ---- */

static void answer_hang(struct call *call) {
  call->answer.end = ANSWER_HANG;
}

static void answer_slow_headers(struct call *call) {
  call->answer.trickle = true;
  call->answer.pace_ms = (int64_t)query_number(call, "ms", DAY_MS, 100);
  respond_json(call, 200, "{\"slow\":true}");
}

/* Without ?bytes= before the first byte of the response, else behind that many of its body. */
static void answer_reset(struct call *call) {
  struct pf_slice text;
  call->answer.end = ANSWER_RESET;
  call->answer.pause_ms = (int64_t)query_number(call, "ms", DAY_MS, 0);
  if (!pf_query_find(call->request->query, "bytes", &text)) return;
  call->answer.source = ANSWER_PATTERN;
  call->answer.count = query_number(call, "bytes", UNITS_MAX, 0);
  respond_head(call, 200, "text/plain", "", call->answer.count + 1000);
}

/* Promises more than it sends, and closes. */
static void answer_truncate(struct call *call) {
  call->answer.end = ANSWER_CLOSE;
  call->answer.source = ANSWER_PATTERN;
  call->answer.count = query_number(call, "bytes", UNITS_MAX, 500);
  respond_head(call, 200, "text/plain", "", call->answer.count + 500);
}

static void answer_close_after_request(struct call *call) {
  call->answer.end = ANSWER_CLOSE;
}

/* ---- counters ---- */

static void answer_hits(struct call *call) {
  struct hits *hits = &call->lab->hits;
  if (pf_slice_is(call->request->method, "DELETE")) {
    if (call->arg.len)
      hits_forget(hits, call->arg);
    else
      hits_clear(hits);
  }
  struct pf_buf *json = &call->lab->scratch;
  pf_buf_clear(json);
  if (call->arg.len) {
    struct hits_entry *entry = hits_find(hits, call->arg);
    pf_buf_str(json, "{\"key\":");
    text_json_string(json, call->arg);
    pf_buf_printf(json, ",\"hits\":%llu}", entry ? (unsigned long long)entry->requests : 0);
  } else {
    pf_buf_printf(json, "{\"keys\":%zu}", hits->map.count);
  }
  respond(call, 200, JSON, "", pf_buf_view(json));
}

static void answer_index(struct call *call);

/* ---- the table ---- */

enum arg { ARG_NONE, ARG_NUMBER, ARG_TEXT, ARG_TEXT_OPTIONAL };

enum {
  KEEPS_BODY = PF_BIT(0),
  WITHOUT_TOKEN = PF_BIT(1),
  UNCOUNTED = PF_BIT(2), /* a look at a counter is no hit */
  NEEDS_KEY = PF_BIT(3), /* without one the path is the key */
};

struct route {
  const char *name;
  enum arg arg;
  uint64_t arg_max;
  void (*answer)(struct call *call);
  const char *methods; /* as in Allow, or NULL for any */
  unsigned flags;
  const char *usage, *help;
};

static const struct route routes[] = {
    {"uuid", ARG_NONE, 0, answer_uuid, NULL, 0, "uuid", "a random UUID, 47 bytes of JSON"},
    {"json", ARG_NONE, 0, answer_json, NULL, 0, "json", "a fixed JSON document"},
    {"status", ARG_NUMBER, 599, answer_status, NULL, 0, "status/{code}", "that status"},
    {"delay", ARG_NUMBER, DAY_MS, answer_delay, NULL, 0, "delay/{ms}", "answers after ms"},
    {"echo", ARG_NONE, 0, answer_echo, NULL, KEEPS_BODY, "echo", "the request as JSON"},
    {"headers", ARG_NONE, 0, answer_headers, NULL, 0, "headers", "the request's headers as JSON"},
    {"bytes", ARG_NUMBER, BYTES_MAX, answer_bytes, NULL, 0, "bytes/{n}", "n bytes of text"},
    {"stream", ARG_NUMBER, UNITS_MAX, answer_stream, NULL, 0,
        "stream/{n}?ms=", "n lines of JSON, each a chunk"},
    {"array", ARG_NUMBER, ARRAY_MAX, answer_array, NULL, 0, "array/{n}",
        "a JSON array of n objects"},
    {"drip", ARG_NONE, 0, answer_drip, NULL, 0, "drip?bytes=&ms=", "a byte each ms"},
    {"redirect", ARG_NUMBER, 1000, answer_redirect, NULL, 0,
        "redirect/{n}?status=", "n redirects, then 200"},
    {"redirect-to", ARG_NONE, 0, answer_redirect_to, NULL, 0,
        "redirect-to?url=&status=", "a redirect to url"},
    {"flaky", ARG_NUMBER, UNITS_MAX, answer_flaky, NULL, NEEDS_KEY,
        "flaky/{n}?fail=status|reset&key=", "fails n times per key, then 200"},
    {"retry-after", ARG_NUMBER, 86400, answer_retry_after, NULL, NEEDS_KEY,
        "retry-after/{s}?status=&times=&key=", "503 with Retry-After"},
    {"gzip", ARG_NONE, 0, answer_gzip, NULL, 0, "gzip", "a compressed JSON document"},
    {"gzip-bomb", ARG_NONE, 0, answer_gzip_bomb, NULL, 0, "gzip-bomb",
        "260 KiB that decode to 262 MiB"},
    {"hang", ARG_NONE, 0, answer_hang, NULL, 0, "hang", "no answer, the connection stays open"},
    {"slow-headers", ARG_NONE, 0, answer_slow_headers, NULL, 0,
        "slow-headers?ms=", "the response, a byte each ms"},
    {"reset", ARG_NONE, 0, answer_reset, NULL, 0,
        "reset?bytes=&ms=", "RST, at once or inside the body"},
    {"truncate", ARG_NONE, 0, answer_truncate, NULL, 0,
        "truncate?bytes=", "closes before the end of the body"},
    {"close-after-request", ARG_NONE, 0, answer_close_after_request, NULL, 0, "close-after-request",
        "reads the request, closes without an answer"},
    {"sse", ARG_NONE, 0, answer_sse, NULL, 0, "sse?count=&ms=", "server-sent events"},
    {"hits", ARG_TEXT_OPTIONAL, 0, answer_hits, "GET, HEAD, DELETE", UNCOUNTED, "hits/{key}",
        "requests with ?key= or X-Key so far; DELETE resets"},
    {"health", ARG_NONE, 0, answer_health, "GET, HEAD", WITHOUT_TOKEN | UNCOUNTED, "health",
        "for load balancers"},
    {"", ARG_NONE, 0, answer_index, "GET, HEAD", UNCOUNTED, "", "this list"},
};

static void answer_index(struct call *call) {
  struct pf_buf *list = &call->lab->scratch;
  pf_buf_clear(list);
  for (size_t i = 0; i < PF_COUNT(routes); i++)
    pf_buf_printf(list, "/%-40s %s\n", routes[i].usage, routes[i].help);
  respond(call, 200, "text/plain", "", pf_buf_view(list));
}

/* ---- finding the route ---- */

enum match { MATCH_NONE, MATCH_BAD_ARG, MATCH };

/* path begins with '/'. Splits off the first segment, which has no slash. */
static struct pf_slice segment_take(struct pf_slice *path) {
  const char *start = path->data + 1;
  const char *slash = memchr(start, '/', path->len - 1);
  size_t len = slash ? (size_t)(slash - start) : path->len - 1;
  *path = pf_slice(start + len, path->len - 1 - len);
  return pf_slice(start, len);
}

static enum match route_match(
    const struct route *route, struct pf_slice name, struct pf_slice rest, struct call *call) {
  if (!pf_slice_is(name, route->name)) return MATCH_NONE;
  call->arg = pf_slice("", 0);
  if (rest.len == 0)
    return route->arg == ARG_NONE || route->arg == ARG_TEXT_OPTIONAL ? MATCH : MATCH_NONE;
  if (route->arg == ARG_NONE) return MATCH_NONE;
  call->arg = segment_take(&rest);
  if (rest.len || call->arg.len == 0) return MATCH_NONE;
  if (route->arg != ARG_NUMBER) return MATCH;
  return text_number(call->arg, route->arg_max, &call->number) ? MATCH : MATCH_BAD_ARG;
}

/* Tries the whole path, then the path without its first segment: /uuid and /latency-test/uuid. */
static enum match route_find(
    const struct http_request *request, struct call *call, const struct route **ret_route) {
  enum match best = MATCH_NONE;
  struct pf_slice rest = request->path;
  for (unsigned skipped = 0; skipped < 2 && rest.len; skipped++) {
    call->prefix = pf_slice(request->path.data, request->path.len - rest.len);
    struct pf_slice name = segment_take(&rest);
    if (skipped && name.len == 0) break; /* "/status/" is a slip, not a wish for the index */
    for (size_t i = 0; i < PF_COUNT(routes); i++) {
      enum match match = route_match(&routes[i], name, rest, call);
      if (match <= best) continue;
      *ret_route = &routes[i];
      best = match;
      if (match == MATCH) return MATCH;
    }
  }
  return best;
}

bool routes_keep_body(const struct http_request *request) {
  const struct route *route;
  struct call call = {0};
  return route_find(request, &call, &route) == MATCH && (route->flags & KEEPS_BODY);
}

/* ---- answering ---- */

static bool method_allowed(const char *methods, struct pf_slice method) {
  if (!methods) return true;
  const char *at = memmem(methods, strlen(methods), method.data, method.len);
  return at && (at == methods || at[-1] == ' ') &&
         (at[method.len] == '\0' || at[method.len] == ',');
}

static bool token_matches(struct pf_slice given, const char *token) {
  size_t len = strlen(token);
  unsigned char differs = given.len != len;
  for (size_t i = 0; i < given.len && i < len; i++)
    differs |= (unsigned char)(given.data[i] ^ token[i]); /* in a time that tells nothing */
  return !differs;
}

static bool token_given(const struct lab *lab, const struct http_request *request) {
  if (!lab->token) return true;
  const struct http_header *header = http_header_find(request, "x-test-token");
  if (header) return token_matches(header->value, lab->token);
  struct pf_slice raw;
  if (!pf_query_find(request->query, "token", &raw)) return false;
  struct pf_buf given;
  pf_buf_init(&given, HTTP_TARGET_MAX);
  pf_percent_decode(&given, raw, true);
  bool right = token_matches(pf_buf_view(&given), lab->token);
  pf_buf_done(&given);
  return right;
}

/* Counts the request under its key, if it has one or must have one. Errors as hits_get. */
static int count_hit(const struct route *route, struct call *call) {
  struct pf_buf *key = &call->lab->text;
  const struct http_header *header = http_header_find(call->request, "x-key");
  struct pf_slice raw;
  pf_buf_clear(key);
  if (header)
    pf_buf_slice(key, header->value);
  else if (pf_query_find(call->request->query, "key", &raw))
    pf_percent_decode(key, raw, true);
  else if (route->flags & NEEDS_KEY)
    pf_buf_slice(key, call->request->path);
  else
    return PF_OK;
  int err = hits_get(&call->lab->hits, pf_buf_view(key), &call->entry);
  if (!err) call->entry->requests++;
  return err;
}

/* The path argument as text: decoded into lab->text, which count_hit no longer needs. */
static void decode_arg(struct call *call) {
  struct pf_buf *text = &call->lab->text;
  pf_buf_clear(text);
  pf_percent_decode(text, call->arg, false);
  call->arg = pf_buf_view(text);
}

static void route_answer(const struct route *route, struct call *call) {
  char allow[64];
  if (!(route->flags & WITHOUT_TOKEN) && !token_given(call->lab, call->request)) {
    respond_error(call, 401, "", "unauthorized", "X-Test-Token or ?token= is missing or wrong");
    return;
  }
  if (!method_allowed(route->methods, call->request->method)) {
    snprintf(allow, sizeof(allow), "Allow: %s\r\n", route->methods);
    respond_error(
        call, 405, allow, "method_not_allowed", "this endpoint does not take this method");
    return;
  }
  int err = route->flags & UNCOUNTED ? PF_OK : count_hit(route, call);
  if (err == PF_EINVAL)
    respond_error(call, 400, "", "bad_key", "a key has 1 to 256 bytes");
  else if (err)
    respond_error(call, 503, "", "too_many_keys", "DELETE /hits, or raise --keys-max");
  if (err) return;
  if (call->arg.len) decode_arg(call);
  route->answer(call);
}

struct answer routes_answer(
    struct lab *lab, const struct http_request *request, struct pf_slice body, struct pf_buf *out) {
  struct call call = {.lab = lab, .request = request, .body = body, .out = out};
  const struct route *route = NULL;
  switch (route_find(request, &call, &route)) {
  case MATCH:
    route_answer(route, &call);
    break;
  case MATCH_BAD_ARG:
    respond_error(&call, 400, "", "bad_argument", "the number in the path is out of range");
    break;
  case MATCH_NONE:
    respond_error(&call, 404, "", "not_found", "no such endpoint; GET / lists them");
    break;
  }
  return call.answer;
}

void lab_init(struct lab *lab, const char *token, size_t keys_max, size_t text_max) {
  *lab = (struct lab){.token = token, .rand.state = pf_rand_secret_u64()};
  hits_init(&lab->hits, keys_max);
  pf_buf_init(&lab->scratch, text_max);
  pf_buf_init(&lab->text, HTTP_TARGET_MAX * 2);
}

void lab_done(struct lab *lab) {
  hits_done(&lab->hits);
  pf_buf_done(&lab->scratch);
  pf_buf_done(&lab->text);
}
