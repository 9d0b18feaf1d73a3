#include "web/response.h"

#include <stdio.h>
#include <string.h>

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

void response_compose(struct pf_buf *out, const struct web_response *r, bool head_only, bool last) {
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
  pf_buf_str(out, last ? "connection: close\r\n\r\n" : "\r\n");
  if (!head_only && status_has_body(r->status)) pf_buf_slice(out, r->body);
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

struct pf_slice response_error(
    char body[RESPONSE_ERROR_MAX], const char *code, const char *message) {
  char text[RESPONSE_ERROR_MAX - 128];
  json_escape(text, sizeof(text), message);
  int len = snprintf(
      body, RESPONSE_ERROR_MAX, "{\"error\":{\"code\":\"%.64s\",\"message\":\"%s\"}}", code, text);
  return pf_slice(body, (size_t)len);
}
