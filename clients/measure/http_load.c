#include "clients/measure/http_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define READ_BYTES 16384

/*   IDLE ─► CONNECTING ─► HEAD ─► BODY | CHUNK_SIZE ⇄ CHUNK | UNTIL_CLOSE ─► IDLE */
enum conn_state {
  CONN_IDLE,
  CONN_CONNECTING,
  CONN_HEAD,
  CONN_BODY,
  CONN_CHUNK_SIZE,
  CONN_CHUNK,
  CONN_TRAILER,
  CONN_UNTIL_CLOSE
};

struct request {
  struct pf_slice bytes;
  bool head_only; /* its answer has no body */
};

struct conn {
  struct http_load *load;
  const struct request *request;
  enum conn_state state;
  const struct addrinfo *addr; /* that it is connected to */
  uv_tcp_t tcp;
  uv_connect_t connect;
  uv_write_t write;
  struct pf_buf in;
  int64_t left; /* of the body or chunk */
  int status;
  bool open;            /* tcp is initialised and not being closed */
  bool closing;         /* its close callback has not run yet */
  bool connected, last; /* last: the server will not take another request here */
  bool wanted;          /* a request waits for the close callback */
};

struct http_load {
  uv_loop_t *loop;
  struct http_load_handlers handlers;
  struct addrinfo *addrs;
  const struct addrinfo *addr; /* the one in use */
  struct pf_arena arena;
  struct request *requests;
  bool keep_alive, ever_connected, closing;
  size_t open_handles, count;
  struct conn *conns;
};

static void conn_connect(struct conn *c);

/* ---- the end ---- */

static void load_free(struct http_load *load) {
  for (size_t i = 0; i < load->count; i++)
    pf_buf_done(&load->conns[i].in);
  free(load->conns);
  uv_freeaddrinfo(load->addrs);
  pf_arena_done(&load->arena);
  free(load->requests);
  free(load);
}

static void conn_on_closed(uv_handle_t *handle) {
  struct conn *c = handle->data;
  c->closing = false;
  if (--c->load->open_handles == 0 && c->load->closing) {
    load_free(c->load);
  } else if (c->wanted && !c->load->closing) {
    c->wanted = false;
    conn_connect(c);
  }
}

static void conn_close(struct conn *c) {
  if (!c->open) return;
  c->open = c->connected = false;
  c->closing = true;
  pf_buf_clear(&c->in);
  uv_close((uv_handle_t *)&c->tcp, conn_on_closed);
}

static void conn_end(struct conn *c, int status, const char *why) {
  if (c->state == CONN_IDLE) return;
  c->state = CONN_IDLE;
  if (status == 0 || c->last || !c->load->keep_alive) conn_close(c);
  c->load->handlers.done(c->load->handlers.arg, (size_t)(c - c->load->conns), status, why);
}

static void conn_fail(struct conn *c, const char *why) {
  if (c->state == CONN_IDLE)
    conn_close(c);
  else
    conn_end(c, 0, why);
}

/* ---- receiving ---- */

static bool value_has(struct pf_slice value, const char *word) {
  size_t len = strlen(word);
  for (size_t i = 0; i + len <= value.len; i++)
    if (strncasecmp(value.data + i, word, len) == 0) return true;
  return false;
}

/* The head of a response, without the empty line behind it. */
static int read_head(struct conn *c, const char *head, size_t len) {
  if (len < 12 || strncmp(head, "HTTP/1.", 7) != 0) return PF_EINVAL;
  c->status = (int)strtol(head + 9, NULL, 10);
  c->last = head[7] == '0';
  c->state = CONN_UNTIL_CLOSE;
  const char *end = head + len;
  for (const char *line = memchr(head, '\n', len); line && line + 1 < end;) {
    line++;
    const char *line_end = memchr(line, '\r', (size_t)(end - line));
    if (!line_end) line_end = end;
    size_t line_len = (size_t)(line_end - line);
    if (line_len > 15 && strncasecmp(line, "content-length:", 15) == 0) {
      c->left = strtoll(line + 15, NULL, 10);
      if (c->left < 0) return PF_EINVAL;
      c->state = CONN_BODY;
    } else if (line_len > 18 && strncasecmp(line, "transfer-encoding:", 18) == 0 &&
               value_has(pf_slice(line, line_len), "chunked")) {
      c->state = CONN_CHUNK_SIZE;
    } else if (line_len > 11 && strncasecmp(line, "connection:", 11) == 0) {
      c->last = c->last ? !value_has(pf_slice(line, line_len), "keep-alive")
                        : value_has(pf_slice(line, line_len), "close");
    }
    line = memchr(line, '\n', (size_t)(end - line));
  }
  bool empty = c->request->head_only || c->status == 204 || c->status == 304;
  if (empty) c->left = 0, c->state = CONN_BODY;
  c->last |= c->state == CONN_UNTIL_CLOSE;
  return PF_OK;
}

/* Takes what it can from text; 0 if more is needed, negative if it is no HTTP. */
static int64_t conn_take(struct conn *c, struct pf_slice text) {
  const char *end;
  switch (c->state) {
  case CONN_HEAD:
    end = memmem(text.data, text.len, "\r\n\r\n", 4);
    if (!end) return text.len > HTTP_LOAD_HEAD_MAX ? PF_EINVAL : 0;
    if (read_head(c, text.data, (size_t)(end - text.data))) return PF_EINVAL;
    return end + 4 - text.data;
  case CONN_CHUNK_SIZE:
    end = memchr(text.data, '\n', text.len);
    if (!end) return text.len > HTTP_LOAD_HEAD_MAX ? PF_EINVAL : 0;
    c->left = strtoll(text.data, NULL, 16);
    if (c->left < 0) return PF_EINVAL;
    c->state = c->left ? CONN_CHUNK : CONN_TRAILER;
    c->left += 2; /* and its line end */
    return end + 1 - text.data;
  case CONN_TRAILER: /* lines up to an empty one */
    end = memchr(text.data, '\n', text.len);
    if (!end) return text.len > HTTP_LOAD_HEAD_MAX ? PF_EINVAL : 0;
    if (end - text.data <= 1) c->state = CONN_BODY, c->left = 0;
    return end + 1 - text.data;
  case CONN_BODY:
  case CONN_CHUNK: {
    int64_t take = (int64_t)text.len < c->left ? (int64_t)text.len : c->left;
    c->left -= take;
    if (c->left == 0 && c->state == CONN_CHUNK) c->state = CONN_CHUNK_SIZE;
    return take;
  }
  default:
    return (int64_t)text.len;
  }
}

static void conn_read(struct conn *c) {
  size_t at = 0;
  while (c->state >= CONN_HEAD && !(c->state == CONN_BODY && c->left == 0)) {
    if (at == c->in.len) break;
    int64_t taken = conn_take(c, pf_slice(c->in.data + at, c->in.len - at));
    if (taken < 0) {
      conn_fail(c, "the answer is not HTTP/1.1");
      return;
    }
    if (taken == 0) break;
    at += (size_t)taken;
  }
  pf_buf_consume(&c->in, at);
  if (c->state == CONN_BODY && c->left == 0) conn_end(c, c->status, "");
}

static void conn_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  (void)suggested;
  struct conn *c = handle->data;
  char *room = pf_buf_reserve(&c->in, READ_BYTES);
  *buf = uv_buf_init(room, room ? READ_BYTES : 0);
}

static void conn_on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf) {
  (void)buf;
  struct conn *c = stream->data;
  if (!c->open) return;
  if (count == UV_EOF && c->state == CONN_UNTIL_CLOSE) {
    conn_end(c, c->status, "");
  } else if (count < 0) {
    conn_fail(c, count == UV_EOF ? "the server closed the connection" : uv_strerror((int)count));
  } else {
    c->in.len += (size_t)count;
    conn_read(c);
  }
}

/* ---- sending ---- */

static void conn_on_written(uv_write_t *req, int status) {
  struct conn *c = req->data;
  if (status < 0 && c->open) conn_fail(c, uv_strerror(status));
}

static void conn_write(struct conn *c) {
  uv_buf_t buf = uv_buf_init((char *)c->request->bytes.data, (unsigned)c->request->bytes.len);
  c->state = CONN_HEAD;
  int sent = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
  if (sent == (int)buf.len) return;
  if (sent > 0) buf = uv_buf_init(buf.base + sent, (unsigned)buf.len - (unsigned)sent);
  c->write.data = c; /* an error, too, is then told later */
  PF_ASSERT(uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, conn_on_written) == 0);
}

static void conn_on_connected(uv_connect_t *req, int status) {
  struct conn *c = req->data;
  struct http_load *load = c->load;
  if (!c->open || load->closing) return;
  if (status == 0) {
    load->ever_connected = c->connected = true;
    uv_tcp_nodelay(&c->tcp, 1);
    PF_ASSERT(uv_read_start((uv_stream_t *)&c->tcp, conn_on_alloc, conn_on_read) == 0);
    conn_write(c);
  } else if (c->addr != load->addr || (!load->ever_connected && load->addr->ai_next)) {
    if (c->addr == load->addr) load->addr = load->addr->ai_next; /* localhost is two addresses */
    conn_close(c);
    c->wanted = true;
  } else {
    conn_fail(c, uv_strerror(status));
  }
}

static void conn_connect(struct conn *c) {
  PF_ASSERT(uv_tcp_init(c->load->loop, &c->tcp) == 0);
  c->tcp.data = c->connect.data = c;
  c->open = true;
  c->addr = c->load->addr;
  c->load->open_handles++;
  int err = uv_tcp_connect(&c->connect, &c->tcp, c->addr->ai_addr, conn_on_connected);
  PF_ASSERT(err == 0 || err == UV_EMFILE); /* what the network says comes with the callback */
  if (err) conn_fail(c, uv_strerror(err));
}

void http_load_send(struct http_load *load, size_t slot, size_t request) {
  PF_ASSERT(slot < load->count && load->conns[slot].state == CONN_IDLE && !load->closing);
  struct conn *c = &load->conns[slot];
  c->request = &load->requests[request];
  if (c->connected) {
    conn_write(c);
    return;
  }
  c->state = CONN_CONNECTING;
  if (c->closing)
    c->wanted = true;
  else
    conn_connect(c);
}

/* ---- life ---- */

static void request_print(struct pf_buf *out, const struct http_load_plan *plan,
    const struct load_request *request, const char *path) {
  char base[WS_CLIENT_HOST_MAX + 32];
  ws_url_http(&plan->url, "", base, sizeof(base));
  pf_buf_clear(out);
  pf_buf_printf(
      out, "%s %s HTTP/1.1\r\nHost: %s\r\n", request->method.data, path, base + strlen("http://"));
  if (!plan->keep_alive) pf_buf_printf(out, "Connection: close\r\n");
  if (request->body.len)
    pf_buf_printf(
        out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", request->body.len);
  pf_buf_printf(out, "\r\n");
  pf_buf_slice(out, request->body);
  PF_ASSERT(out->err == PF_OK);
}

static void requests_write(struct http_load *load, const struct http_load_plan *plan) {
  struct pf_buf out;
  struct ws_url url;
  pf_buf_init(&out, PF_BUF_MAX_DEFAULT);
  load->requests = pf_alloc(plan->request_count * sizeof(*load->requests));
  for (size_t i = 0; i < plan->request_count; i++) {
    const struct load_request *request = &plan->requests[i];
    PF_ASSERT(ws_url_parse(&url, request->url.data, NULL) == PF_OK);
    request_print(&out, plan, request, url.path);
    load->requests[i] = (struct request){.bytes = pf_arena_copy(&load->arena, pf_buf_view(&out)),
        .head_only = pf_slice_is(request->method, "HEAD")};
  }
  pf_buf_done(&out);
}

int http_load_open(struct http_load **ret_load, uv_loop_t *loop, const struct http_load_plan *plan,
    const struct http_load_handlers *handlers, struct pf_error *reterr) {
  uv_getaddrinfo_t resolve;
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  int err = uv_getaddrinfo(loop, &resolve, NULL, plan->url.host, plan->url.port, &hints);
  if (err)
    return pf_error_set(reterr, PF_ENET, "cannot resolve %s: %s", plan->url.host, uv_strerror(err));
  struct http_load *load = pf_alloc(sizeof(*load));
  *load = (struct http_load){.loop = loop,
      .handlers = *handlers,
      .addrs = resolve.addrinfo,
      .addr = resolve.addrinfo,
      .keep_alive = plan->keep_alive,
      .count = plan->slots};
  requests_write(load, plan);
  load->conns = pf_alloc(plan->slots * sizeof(*load->conns));
  for (size_t i = 0; i < plan->slots; i++) {
    load->conns[i].load = load;
    pf_buf_init(&load->conns[i].in, HTTP_LOAD_HEAD_MAX + 2 * READ_BYTES);
  }
  *ret_load = load;
  return PF_OK;
}

void http_load_close(struct http_load *load) {
  load->closing = true;
  if (load->open_handles == 0) {
    load_free(load);
    return;
  }
  for (size_t i = 0; i < load->count; i++) {
    load->conns[i].state = CONN_IDLE;
    conn_close(&load->conns[i]);
  }
}
