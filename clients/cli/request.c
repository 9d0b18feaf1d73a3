#include "clients/cli/request.h"

#include <stdio.h>
#include <string.h>

#include "http/client.h"
#include "wire/json.h"

struct request {
  struct http *http;
  struct http_call call;
  struct pf_buf *body;
  char error[sizeof(((struct http_call *)NULL)->error)];
};

static void on_done(struct http_call *call) {
  struct request *request = call->arg;
  pf_buf_slice(request->body, pf_buf_view(&call->response));
  memcpy(request->error, call->error, sizeof(request->error));
  http_close(request->http, NULL, NULL);
}

int request_run(const char *method, const char *url, int *ret_status, struct pf_buf *ret_body,
    struct pf_error *reterr) {
  struct request request = {.body = ret_body};
  pf_buf_init(ret_body, HTTP_RESPONSE_MAX_DEFAULT);
  bool writes = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
  request.call = (struct http_call){.method = method,
      .url = url,
      .content_type = writes ? HTTP_CONTENT_JSON : NULL,
      .body = pf_slice_str(writes ? "{}" : NULL),
      .timeout_ms = REQUEST_TIMEOUT_MS,
      .done = on_done,
      .arg = &request};
  uv_loop_t loop;
  PF_ASSERT(uv_loop_init(&loop) == 0);
  int err = http_new(&request.http, &loop);
  if (!err) {
    http_start(request.http, &request.call);
    uv_run(&loop, UV_RUN_DEFAULT);
    err = request.call.err;
  }
  PF_ASSERT(uv_loop_close(&loop) == 0);
  *ret_status = request.call.status;
  if (!err) return ret_body->err;
  return pf_error_set(reterr, err, "%s: %s%s", url,
      request.error[0] ? request.error : pf_err_text(err),
      err == PF_ENET ? "; is it running?" : "");
}

/* Control characters, the second set of them too (U+0080 to U+009F, as UTF-8). */
static int control_length(const char *at, const char *end) {
  unsigned char byte = (unsigned char)*at, next = at + 1 < end ? (unsigned char)at[1] : 0;
  if (byte < ' ' || byte == 0x7f) return 1;
  return byte == 0xc2 && next >= 0x80 && next < 0xa0 ? 2 : 0;
}

void request_print_text(FILE *out, int width, struct pf_slice text) {
  int written = 0;
  for (const char *at = text.data, *end = at + text.len; at < end; written++) {
    int control = control_length(at, end);
    fputc(control ? '?' : *at, out);
    at += control ? control : 1;
  }
  for (; written < width; written++)
    fputc(' ', out);
}

void request_print_error(const char *command, int status, const struct pf_buf *body) {
  struct json *root = NULL;
  struct pf_slice code = {0}, message = pf_buf_view(body);
  if (json_parse(&root, pf_buf_view(body), NULL) == PF_OK) {
    const struct json *error = json_get(root, "error");
    json_string(json_get(error, "message"), &message);
    json_string(json_get(error, "code"), &code);
  }
  fprintf(stderr, "proxyfetch %s: ", command);
  request_print_text(stderr, 0, message);
  fprintf(stderr, " (HTTP %d%s", status, code.len ? ", " : "");
  request_print_text(stderr, 0, code);
  fprintf(stderr, ")\n");
  json_free(root);
}
