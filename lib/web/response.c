/* HTTP: answers. Small ones leave at once in one write, larger ones as the socket takes them. */
#include <stdio.h>
#include <string.h>

#include "web/conn.h"

enum { ERROR_BODY = 1024 };

static const struct {
  int status;
  const char *text;
} status_texts[] = {{200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"},
    {304, "Not Modified"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"},
    {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
    {410, "Gone"}, {411, "Length Required"}, {413, "Content Too Large"},
    {415, "Unsupported Media Type"}, {422, "Unprocessable Content"}, {426, "Upgrade Required"},
    {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"}, {501, "Not Implemented"}, {502, "Bad Gateway"},
    {503, "Service Unavailable"}, {504, "Gateway Timeout"}};

static const char *status_text(int status) {
  for (size_t i = 0; i < PF_COUNT(status_texts); i++)
    if (status_texts[i].status == status) return status_texts[i].text;
  return "Status"; /* clients go by the number */
}

/* ---- the answer ---- */

static bool status_has_body(int status) {
  return status >= 200 && status != 204 && status != 304;
}

/* Puts head and body behind LWS_PRE bytes of room. */
static void response_compose(
    struct pf_buf *out, const struct conn *c, const struct web_response *r, bool last) {
  pf_buf_clear(out);
  if (!pf_buf_reserve(out, LWS_PRE)) return;
  out->len = LWS_PRE;
  char head[128];
  int len = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\n", r->status, status_text(r->status));
  if (status_has_body(r->status))
    len += snprintf(head + len, sizeof(head) - (size_t)len, "content-length: %zu\r\n", r->body.len);
  pf_buf_append(out, head, (size_t)len);
  if (r->content_type) {
    pf_buf_str(out, "content-type: ");
    pf_buf_str(out, r->content_type);
    pf_buf_str(out, "\r\n");
  }
  if (r->extra_headers) pf_buf_str(out, r->extra_headers);
  pf_buf_str(out, last ? "connection: close\r\n\r\n" : "\r\n");
  if (c->method != WEB_HEAD && status_has_body(r->status)) pf_buf_slice(out, r->body);
}

/* The answer is with lws and the kernel: ready for the next request, or the end. */
static void response_finish(struct conn *c) {
  pf_buf_done(&c->out);
  conn_outbox_init(c);
  conn_enter(c, CONN_IDLE);
  if (c->last_request || lws_http_transaction_completed(c->wsi))
    conn_doom(c);
  else
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* our own timer watches idle connections */
}

/* Writes the next part of c->out. */
static void response_continue(struct conn *c) {
  size_t left = c->out.len - c->out_at;
  size_t len = left < WEB_IO_BYTES ? left : WEB_IO_BYTES;
  unsigned char *data = (unsigned char *)c->out.data + c->out_at;
  if (lws_write(c->wsi, data, len, len == left ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) <
      (int)len) {
    conn_doom(c);
    return;
  }
  c->out_at += len;
  if (len == left) {
    response_finish(c);
    return;
  }
  conn_enter(c, CONN_RESPOND);
  lws_callback_on_writable(c->wsi);
}

static void respond(struct conn *c, const struct web_response *r) {
  struct pf_buf *scratch = &c->listener->web->scratch;
  response_compose(scratch, c, r, c->last_request);
  if (scratch->err) {
    pf_buf_done(scratch); /* also forgets the error */
    pf_buf_init(scratch, PF_BUF_MAX_DEFAULT);
    conn_doom(c);
    return;
  }
  size_t len = scratch->len - LWS_PRE;
  if (len <= WEB_IO_BYTES) { /* the ordinary case needs no memory of its own */
    unsigned char *data = (unsigned char *)scratch->data + LWS_PRE;
    if (lws_write(c->wsi, data, len, LWS_WRITE_HTTP_FINAL) < (int)len)
      conn_doom(c);
    else
      response_finish(c);
    return;
  }
  PF_ASSERT(c->out.len == 0);
  pf_buf_done(&c->out);
  c->out = *scratch;
  c->out_at = LWS_PRE;
  pf_buf_init(scratch, PF_BUF_MAX_DEFAULT);
  response_continue(c);
}

void web_respond(struct web *web, uint64_t request, const struct web_response *response) {
  struct conn *c = conn_find(web, request);
  if (!c) return;
  PF_ASSERT(c->phase == CONN_WAIT || c->phase == CONN_CLOSING);
  conn_release(c);
  if (c->phase == CONN_WAIT) respond(c, response);
}

/* The text of a JSON string without its quotes, cut at the end of the buffer. */
static size_t json_escape(char *to, size_t max, const char *text) {
  size_t len = 0;
  for (; *text && len + 6 < max; text++) {
    unsigned char byte = (unsigned char)*text;
    if (byte == '"' || byte == '\\') {
      to[len++] = '\\';
      to[len++] = *text;
    } else if (byte < 0x20) {
      len += (size_t)snprintf(to + len, 7, "\\u%04x", byte);
    } else {
      to[len++] = *text;
    }
  }
  to[len] = '\0';
  return len;
}

static void error_compose(char body[ERROR_BODY], const char *code, const char *message) {
  char text[ERROR_BODY - 128];
  json_escape(text, sizeof(text), message);
  snprintf(body, ERROR_BODY, "{\"error\":{\"code\":\"%.64s\",\"message\":\"%s\"}}", code, text);
}

void web_respond_error(
    struct web *web, uint64_t request, int status, const char *code, const char *message) {
  char body[ERROR_BODY];
  error_compose(body, code, message);
  web_respond(web, request,
      &(struct web_response){
          .status = status, .content_type = "application/json", .body = pf_slice_str(body)});
}

int response_refuse(struct conn *c, int status, const char *code, const char *message) {
  char body[ERROR_BODY];
  c->listener->web->stats.refused++;
  error_compose(body, code, message);
  c->last_request = true;
  respond(c, &(struct web_response){
                 .status = status, .content_type = "application/json", .body = pf_slice_str(body)});
  return -1;
}

int response_on_writeable(struct conn *c) {
  if (!c->doomed && c->phase == CONN_RESPOND) response_continue(c);
  return c->doomed ? -1 : 0;
}
