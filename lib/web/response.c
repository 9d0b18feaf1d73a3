/* HTTP: answers. They leave at once and in one write; only what the kernel does not take waits. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

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
    {503, "Service Unavailable"}, {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"}};

static const char *status_text(int status) {
  for (size_t i = 0; i < PF_COUNT(status_texts); i++)
    if (status_texts[i].status == status) return status_texts[i].text;
  return "Status"; /* clients go by the number */
}

static bool status_has_body(int status) {
  return status >= 200 && status != 204 && status != 304;
}

static void response_compose(
    struct pf_buf *out, const struct httpd_conn *c, const struct web_response *r) {
  char head[128];
  int len = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\n", r->status, status_text(r->status));
  if (status_has_body(r->status))
    len += snprintf(head + len, sizeof(head) - (size_t)len, "content-length: %zu\r\n", r->body.len);
  pf_buf_clear(out);
  pf_buf_append(out, head, (size_t)len);
  if (r->content_type) {
    pf_buf_str(out, "content-type: ");
    pf_buf_str(out, r->content_type);
    pf_buf_str(out, "\r\n");
  }
  if (r->extra_headers) pf_buf_str(out, r->extra_headers);
  pf_buf_str(out, c->last_request ? "connection: close\r\n\r\n" : "\r\n");
  if (!c->head_only && status_has_body(r->status)) pf_buf_slice(out, r->body);
}

/* The number of bytes that the kernel took, or -1: the connection is broken. */
static ssize_t response_write(const struct httpd_conn *c, const char *data, size_t len) {
  ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  return n;
}

void response_send(struct httpd_conn *c, const struct web_response *r) {
  struct pf_buf *scratch = &c->base.listener->web->scratch;
  response_compose(scratch, c, r);
  ssize_t n = scratch->err ? -1 : response_write(c, scratch->data, scratch->len);
  if (n < 0) {
    httpd_close(c); /* also an answer that cannot be built ends like this */
  } else if ((size_t)n == scratch->len) {
    httpd_answered(c);
  } else {
    pf_buf_done(&c->out);
    c->out = *scratch;
    c->out_at = (size_t)n;
    pf_buf_init(scratch, PF_BUF_MAX_DEFAULT);
    conn_enter(&c->base, CONN_RESPOND);
    httpd_watch(c, UV_WRITABLE);
    conn_unread(&c->base, c->out.len - c->out_at);
    conn_make_room(&c->base);
    return;
  }
  if (scratch->cap > WEB_IO_BYTES) pf_buf_done(scratch);
}

void response_continue(struct httpd_conn *c) {
  ssize_t n = response_write(c, c->out.data + c->out_at, c->out.len - c->out_at);
  if (n < 0) {
    httpd_close(c);
    return;
  }
  c->out_at += (size_t)n;
  conn_unread(&c->base, c->out.len - c->out_at);
  if (c->out_at < c->out.len) return;
  pf_buf_done(&c->out);
  c->out_at = 0;
  httpd_answered(c);
}

void web_respond(struct web *web, uint64_t request, const struct web_response *response) {
  struct conn *c = conn_find(web, request);
  if (!c) return;
  PF_ASSERT(c->phase == CONN_WAIT);
  conn_release(c);
  response_send(pf_container_of(c, struct httpd_conn, base), response);
}

/* The text of a JSON string without its quotes, cut at the end of the buffer. */
static void json_escape(char *to, size_t max, const char *text) {
  size_t len = 0;
  for (; *text && len + 7 < max; text++) {
    unsigned char byte = (unsigned char)*text;
    if (byte == '"' || byte == '\\') {
      to[len++] = '\\';
      to[len++] = *text;
    } else if (byte < 0x20) {
      len += (size_t)snprintf(to + len, max - len, "\\u%04x", byte);
    } else {
      to[len++] = *text;
    }
  }
  to[len] = '\0';
}

static struct pf_slice error_compose(char body[ERROR_BODY], const char *code, const char *message) {
  char text[ERROR_BODY - 128];
  json_escape(text, sizeof(text), message);
  int len =
      snprintf(body, ERROR_BODY, "{\"error\":{\"code\":\"%.64s\",\"message\":\"%s\"}}", code, text);
  return pf_slice(body, (size_t)len);
}

void web_respond_error(
    struct web *web, uint64_t request, int status, const char *code, const char *message) {
  char body[ERROR_BODY];
  web_respond(web, request,
      &(struct web_response){.status = status,
          .content_type = "application/json",
          .body = error_compose(body, code, message)});
}

void response_refuse(struct httpd_conn *c, int status, const char *code, const char *message) {
  char body[ERROR_BODY];
  c->base.listener->web->stats.refused++;
  c->last_request = true; /* where the next one begins is not certain any more */
  response_send(c, &(struct web_response){.status = status,
                       .content_type = "application/json",
                       .extra_headers = status == 426 ? "sec-websocket-version: 13\r\n" : NULL,
                       .body = error_compose(body, code, message)});
}

void response_refuse_status(struct httpd_conn *c, int status) {
  switch (status) {
  case 404:
    response_refuse(c, 404, "not_found", "there is no WebSocket under this path");
    return;
  case 431:
    response_refuse(c, 431, "head_too_large", "the head of the request is too large");
    return;
  case 505:
    response_refuse(c, 505, "bad_http_version", "HTTP/1.1 is spoken here");
    return;
  case 503:
    response_refuse(c, 503, "closing", "no more sockets now");
    return;
  default:
    response_refuse(c, status, "bad_request", "the request is malformed");
  }
}
