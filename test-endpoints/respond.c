#include "respond.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/query.h"
#include "text.h"

static const struct {
  int status;
  const char *reason;
} reasons[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {417, "Expectation Failed"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

static const char *reason_of(int status) {
  for (size_t i = 0; i < PF_COUNT(reasons); i++)
    if (reasons[i].status == status) return reasons[i].reason;
  return "Status";
}

static const char *date_text(struct respond_date *date) {
  time_t now = (time_t)(pf_clock_wall_ms() / 1000);
  if (now != date->second) {
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(date->text, sizeof(date->text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    date->second = now;
  }
  return date->text;
}

static bool status_has_no_body(int status) {
  return status == 204 || status == 304;
}

/* Everything up to the header that tells the length. Put together piece by piece: this is the hot
 * path, and printf would take longer than the rest of the request. */
static void head_begin(struct pf_buf *out, struct respond_date *date, int status, const char *type,
    const char *headers) {
  pf_buf_str(out, "HTTP/1.1 ");
  text_decimal(out, (uint64_t)status);
  pf_buf_str(out, " ");
  pf_buf_str(out, reason_of(status));
  pf_buf_str(out, "\r\nDate: ");
  pf_buf_str(out, date_text(date));
  if (type && !status_has_no_body(status)) {
    pf_buf_str(out, "\r\nContent-Type: ");
    pf_buf_str(out, type);
  }
  pf_buf_str(out, "\r\n");
  pf_buf_str(out, headers);
}

/* Says whether the connection stays, and sees to it. */
static void head_end(struct call *call) {
  struct pf_slice close;
  bool leave = pf_query_find(call->request->query, "close", &close) && pf_slice_is(close, "1");
  bool keep = call->request->keep_alive && !call->lab->draining && !leave;
  if (!keep && call->answer.end == ANSWER_KEEP) call->answer.end = ANSWER_CLOSE;
  if (call->answer.end == ANSWER_CLOSE)
    pf_buf_str(call->out, "Connection: close\r\n");
  else if (call->request->minor == 0)
    pf_buf_str(call->out, "Connection: keep-alive\r\n");
  pf_buf_str(call->out, "\r\n");
  if (pf_slice_is(call->request->method, "HEAD")) {
    call->answer.source = ANSWER_NOTHING;
    call->answer.chunked = false;
  }
}

void respond_head(
    struct call *call, int status, const char *type, const char *headers, uint64_t length) {
  head_begin(call->out, &call->lab->date, status, type, headers);
  if (!status_has_no_body(status)) {
    pf_buf_str(call->out, "Content-Length: ");
    text_decimal(call->out, length);
    pf_buf_str(call->out, "\r\n");
  }
  head_end(call);
}

void respond_head_stream(struct call *call, int status, const char *type, const char *headers) {
  head_begin(call->out, &call->lab->date, status, type, headers);
  call->answer.chunked = call->request->minor == 1;
  if (call->answer.chunked)
    pf_buf_str(call->out, "Transfer-Encoding: chunked\r\n");
  else
    call->answer.end = ANSWER_CLOSE;
  head_end(call);
}

void respond(
    struct call *call, int status, const char *type, const char *headers, struct pf_slice body) {
  respond_head(call, status, type, headers, body.len);
  if (!status_has_no_body(status) && !pf_slice_is(call->request->method, "HEAD"))
    pf_buf_slice(call->out, body);
}

void respond_json(struct call *call, int status, const char *fmt, ...) {
  char text[512];
  va_list args;
  va_start(args, fmt);
  int len = vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  PF_ASSERT(len >= 0 && (size_t)len < sizeof(text));
  respond(call, status, "application/json", "", pf_slice(text, (size_t)len));
}

static void error_body(struct pf_buf *body, const char *code, const char *message) {
  pf_buf_clear(body);
  pf_buf_printf(body, "{\"error\":{\"code\":\"%s\",\"message\":", code);
  text_json_string(body, pf_slice_str(message));
  pf_buf_str(body, "}}");
}

void respond_error(
    struct call *call, int status, const char *headers, const char *code, const char *message) {
  struct pf_buf *body = &call->lab->scratch;
  error_body(body, code, message);
  respond(call, status, "application/json", headers, pf_buf_view(body));
}

void respond_refusal(struct lab *lab, struct pf_buf *out, int status) {
  struct pf_buf *body = &lab->scratch;
  error_body(body, "bad_request", reason_of(status));
  head_begin(out, &lab->date, status, "application/json", "Connection: close\r\n");
  pf_buf_printf(out, "Content-Length: %zu\r\n\r\n", body->len);
  pf_buf_slice(out, pf_buf_view(body));
}
