#include "conn.h"

#include <stdlib.h>

#include "routes.h"

#define NEVER INT64_MAX
/* Steps of one answer before others get their turn: 1 MiB of a fast source. */
#define TURN_STEPS 16

enum conn_state { CONN_HEAD, CONN_BODY, CONN_ANSWER, CONN_LINGER, CONN_CLOSED };

struct conn {
  struct server *server;
  struct pf_list link;
  enum conn_state state;
  uv_tcp_t tcp;
  uv_write_t write;
  uv_shutdown_t shutdown;
  bool writing;   /* sending is with the kernel; nothing else is sent meanwhile */
  bool paused;    /* reading stopped: enough input is waiting */
  bool eof;       /* the client will send no more */
  bool keep_body; /* of the request being read */
  struct pf_heap_node deadline;
  int64_t wake_at_ms; /* the deadline really meant: the node may fire earlier and is then set again,
                         so that a busy connection does not touch the heap for each request */
  struct pf_buf in;   /* received, not yet parsed */
  struct pf_buf head; /* of the request whose body is arriving; it is parsed again at its end */
  struct pf_buf body; /* decoded, if the route wants it */
  struct http_body decoder;
  struct answer answer;  /* the plan, in ANSWER */
  struct pf_buf held;    /* its bytes that wait */
  struct pf_buf sending; /* what the kernel did not take at once */
};

static void conn_resume(struct conn *c);

/* ---- closing ---- */

static void conn_on_closed(uv_handle_t *handle) {
  struct conn *c = handle->data;
  struct server *server = c->server;
  pf_buf_done(&c->in);
  pf_buf_done(&c->head);
  pf_buf_done(&c->body);
  pf_buf_done(&c->held);
  pf_buf_done(&c->sending);
  server_conn_gone(server, &c->link);
  free(c);
}

static void conn_close(struct conn *c, bool reset) {
  if (c->state == CONN_CLOSED) return;
  c->state = CONN_CLOSED;
  pf_heap_del(&c->server->deadlines, &c->deadline);
  /* After a FIN of ours libuv refuses to reset, and there is no need to. */
  if (!reset || uv_tcp_close_reset(&c->tcp, conn_on_closed))
    uv_close((uv_handle_t *)&c->tcp, conn_on_closed);
}

static void conn_wake_at(struct conn *c, int64_t at_ms) {
  c->wake_at_ms = at_ms;
  if (at_ms != NEVER && (!pf_heap_has(&c->deadline) || c->deadline.key > at_ms))
    server_deadline_set(c->server, &c->deadline, at_ms);
}

static void conn_wake_idle(struct conn *c) {
  conn_wake_at(c, (int64_t)uv_now(c->server->loop) + c->server->limits.idle_ms);
}

static void conn_on_shutdown(uv_shutdown_t *req, int status) {
  struct conn *c = req->handle->data;
  if (status < 0) conn_close(c, false);
}

/* FIN, then reads on until the client closes too: closing with unread input would make the kernel
 * send RST, which can destroy the response on its way. */
static void conn_linger(struct conn *c) {
  c->state = CONN_LINGER;
  conn_wake_at(c, (int64_t)uv_now(c->server->loop) + CONN_LINGER_MS);
  if (c->eof || uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, conn_on_shutdown))
    conn_close(c, false);
}

/* ---- sending ---- */

static void conn_on_written(uv_write_t *req, int status) {
  struct conn *c = req->handle->data;
  c->writing = false;
  pf_buf_done(&c->sending);
  if (c->state == CONN_CLOSED) return;
  if (status < 0)
    conn_close(c, false);
  else
    conn_resume(c);
}

/* Sends server->out and empties it. What the kernel does not take at once is copied. */
static void conn_flush(struct conn *c) {
  struct pf_buf *out = &c->server->out;
  if (out->len == 0 && !out->err) return;
  PF_ASSERT(!c->writing);
  uv_buf_t bytes = uv_buf_init(out->data, (unsigned)out->len);
  int sent = out->err ? UV_ENOMEM : uv_try_write((uv_stream_t *)&c->tcp, &bytes, 1);
  if (sent == UV_EAGAIN) sent = 0;
  if (sent >= 0 && (size_t)sent < out->len) {
    pf_buf_append(&c->sending, out->data + sent, out->len - (size_t)sent);
    bytes = uv_buf_init(c->sending.data, (unsigned)c->sending.len);
    sent = c->sending.err ? UV_ENOMEM
                          : uv_write(&c->write, (uv_stream_t *)&c->tcp, &bytes, 1, conn_on_written);
    c->writing = sent == 0;
    conn_wake_idle(c); /* a client that does not read is given up */
  }
  if (sent < 0) conn_close(c, false);
  pf_buf_clear(out);
  if (out->cap > 16 * SERVER_READ_BYTES)
    pf_buf_done(out); /* one large echo is no reason to keep it */
}

/* ---- answering ---- */

static void answer_end(struct conn *c) {
  switch (c->answer.end) {
  case ANSWER_KEEP:
    c->state = CONN_HEAD;
    conn_wake_idle(c);
    break;
  case ANSWER_CLOSE:
    conn_linger(c);
    break;
  case ANSWER_RESET:
    conn_close(c, true);
    break;
  case ANSWER_HANG:
    conn_wake_at(c, NEVER);
    break;
  }
}

/* Half-closed clients still get what is on its way; one that waits for more is taken for gone. */
static bool conn_is_sending(const struct conn *c) {
  return c->writing || (c->state == CONN_ANSWER && answer_is_flowing(&c->answer));
}

static void answer_wait(struct conn *c) {
  if (c->eof && !conn_is_sending(c)) {
    conn_close(c, false);
    return;
  }
  /* uv_now may lie behind, and is cut to milliseconds: never early, at most a millisecond late. */
  uv_update_time(c->server->loop);
  conn_wake_at(c, (int64_t)uv_now(c->server->loop) + c->answer.wait_ms + 1);
  c->answer.wait_ms = 0;
}

/* Follows the plan until it has to wait, or has ended. */
static void answer_go_on(struct conn *c) {
  for (unsigned steps = 0; c->state == CONN_ANSWER && !c->writing; steps++) {
    if (steps == TURN_STEPS && c->answer.wait_ms == 0) c->answer.wait_ms = 1;
    if (c->answer.wait_ms > 0) {
      answer_wait(c);
      return;
    }
    if (answer_step(&c->answer, &c->held, &c->server->out)) {
      conn_flush(c);
    } else {
      answer_end(c);
      return;
    }
  }
}

/* A plan with pauses takes the bytes from out[start] on; what lies before them leaves now. */
static void answer_begin(struct conn *c, const struct answer *answer, size_t start) {
  struct pf_buf *out = &c->server->out;
  c->answer = *answer;
  c->state = CONN_ANSWER;
  pf_buf_append(&c->held, out->data + start, out->len - start);
  out->len = start;
  if (c->held.err) out->err = c->held.err;
  conn_flush(c);
}

/* ---- reading requests ---- */

static void request_refuse(struct conn *c, int status) {
  struct server *server = c->server;
  struct answer close = {.end = ANSWER_CLOSE};
  size_t start = server->out.len;
  respond_refusal(&server->lab, &server->out, status);
  pf_log(server->log, PF_LOG_DEBUG, "request_refused", "status=%d", status);
  answer_begin(c, &close, start);
}

static void request_answer(struct conn *c, const struct http_request *request) {
  struct server *server = c->server;
  size_t start = server->out.len;
  struct answer answer = routes_answer(&server->lab, request, pf_buf_view(&c->body), &server->out);
  c->state = CONN_HEAD;
  if (c->head.cap) {
    pf_buf_done(&c->head);
    pf_buf_done(&c->body);
  }
  if (server->log->level >= PF_LOG_DEBUG)
    pf_log(server->log, PF_LOG_DEBUG, "request", "method=%.*s path=%.*s", (int)request->method.len,
        request->method.data, (int)request->path.len, request->path.data);
  if (!answer_is_plain(&answer)) answer_begin(c, &answer, start);
}

/* Takes one head. Returns the bytes taken; 0 if there is more to come. */
static size_t read_head(struct conn *c, const char *data, size_t len) {
  struct server *server = c->server;
  struct http_request *request = &server->request;
  int taken = http_parse_head(request, data, len, server->limits.head_bytes_max);
  if (taken < 0) request_refuse(c, -taken);
  if (taken <= 0) return 0;
  http_body_init(&c->decoder, request);
  if (c->decoder.state == HTTP_BODY_DONE) {
    request_answer(c, request);
    return (size_t)taken;
  }
  if (request->content_length > server->limits.body_bytes_max) {
    request_refuse(c, 413);
    return (size_t)taken;
  }
  c->state = CONN_BODY;
  c->keep_body = routes_keep_body(request);
  pf_buf_append(&c->head, data, (size_t)taken);
  if (request->expect_continue && (size_t)taken == len)
    pf_buf_str(&server->out, "HTTP/1.1 100 Continue\r\n\r\n");
  return (size_t)taken;
}

/* Takes one piece of the body. Returns the bytes taken. */
static size_t read_body(struct conn *c, const char *data, size_t len) {
  struct server *server = c->server;
  struct pf_slice piece;
  int taken = http_body_feed(&c->decoder, data, len, &piece);
  if (taken < 0) {
    request_refuse(c, -taken);
    return 0;
  }
  if (c->keep_body) pf_buf_slice(&c->body, piece);
  if (c->decoder.total > server->limits.body_bytes_max || c->body.err || c->head.err) {
    request_refuse(c, 413);
  } else if (c->decoder.state == HTTP_BODY_DONE) {
    int again =
        http_parse_head(&server->request, c->head.data, c->head.len, server->limits.head_bytes_max);
    PF_ASSERT(again > 0);
    request_answer(c, &server->request);
  }
  return (size_t)taken;
}

static bool conn_is_reading(const struct conn *c) {
  return (c->state == CONN_HEAD || c->state == CONN_BODY) && !c->writing;
}

/* Reads and answers as far as possible. Returns how many bytes of data were taken. */
static size_t conn_run(struct conn *c, const char *data, size_t len) {
  size_t at = 0;
  for (;;) {
    if (c->state == CONN_ANSWER) answer_go_on(c);
    if (!conn_is_reading(c) || at == len) break;
    enum conn_state before = c->state;
    size_t taken = (before == CONN_HEAD ? read_head : read_body)(c, data + at, len - at);
    at += taken;
    if (taken == 0 && c->state == before) break;
  }
  if (!c->writing && c->state != CONN_CLOSED) conn_flush(c);
  pf_buf_clear(&c->server->out); /* of a connection that broke */
  if (c->eof && conn_is_reading(c)) conn_close(c, false);
  return at;
}

static void conn_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  struct conn *c = handle->data;
  (void)suggested;
  *buf = uv_buf_init(c->server->read, SERVER_READ_BYTES);
}

static void conn_on_eof(struct conn *c) {
  c->eof = true;
  uv_read_stop((uv_stream_t *)&c->tcp);
  if (!conn_is_sending(c)) conn_close(c, false);
}

static void conn_on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf) {
  struct conn *c = stream->data;
  if (count == UV_EOF) {
    conn_on_eof(c);
  } else if (count < 0) {
    conn_close(c, false);
  } else if (c->state == CONN_LINGER) {
    return; /* thrown away */
  } else if (conn_is_reading(c) && c->in.len == 0) {
    conn_wake_idle(c);
    size_t taken = conn_run(c, buf->base, (size_t)count);
    if (c->state != CONN_CLOSED) pf_buf_append(&c->in, buf->base + taken, (size_t)count - taken);
  } else {
    pf_buf_append(&c->in, buf->base, (size_t)count);
    if (conn_is_reading(c)) conn_resume(c);
  }
  if (c->in.err) conn_close(c, false);
  if (c->in.len > CONN_INPUT_MAX && !c->paused && c->state != CONN_CLOSED) {
    c->paused = true;
    uv_read_stop(stream);
  }
}

/* After a wait: goes on with the answer, then with the input that has piled up. */
static void conn_resume(struct conn *c) {
  if (conn_is_reading(c)) conn_wake_idle(c);
  size_t taken = conn_run(c, c->in.data, c->in.len);
  if (c->state == CONN_CLOSED) return;
  if (c->state == CONN_LINGER) taken = c->in.len;
  pf_buf_consume(&c->in, taken);
  if (c->in.len == 0) pf_buf_done(&c->in); /* idle connections cost no buffer */
  if (c->paused && c->in.len <= CONN_INPUT_MAX) {
    c->paused = false;
    if (!c->eof) uv_read_start((uv_stream_t *)&c->tcp, conn_on_alloc, conn_on_read);
  }
}

/* ---- from the server ---- */

void conn_accept(struct server *server, uv_stream_t *listener) {
  struct conn *c = pf_alloc(sizeof(*c));
  c->server = server;
  size_t in_max = server->limits.head_bytes_max + CONN_INPUT_MAX + SERVER_READ_BYTES;
  pf_buf_init(&c->in, in_max);
  pf_buf_init(&c->head, server->limits.head_bytes_max);
  pf_buf_init(&c->body, server->limits.body_bytes_max);
  pf_buf_init(&c->held, server->out.max);
  pf_buf_init(&c->sending, server->out.max);
  PF_ASSERT(uv_tcp_init(server->loop, &c->tcp) == 0);
  c->tcp.data = c;
  server->conn_count++;
  pf_list_push(&server->conns, &c->link);
  if (uv_accept(listener, (uv_stream_t *)&c->tcp) ||
      server->conn_count > server->limits.connections_max) {
    if (pf_log_allow(&server->refused, (int64_t)uv_now(server->loop), 1, 1000))
      pf_log(server->log, PF_LOG_WARN, "connection_refused", "connections=%zu",
          server->conn_count - 1);
    conn_close(c, true);
    return;
  }
  uv_tcp_nodelay(&c->tcp, 1);
  conn_wake_idle(c);
  if (uv_read_start((uv_stream_t *)&c->tcp, conn_on_alloc, conn_on_read)) conn_close(c, false);
}

void conn_on_deadline(struct pf_heap_node *node, int64_t now_ms) {
  struct conn *c = pf_container_of(node, struct conn, deadline);
  if (c->wake_at_ms > now_ms) {
    conn_wake_at(c, c->wake_at_ms); /* the client has been busy since */
  } else if (c->state == CONN_ANSWER && !c->writing) {
    conn_resume(c);
  } else {
    conn_close(c, false); /* idle, or not reading, for too long */
  }
}

void conn_drain(struct pf_list *link) {
  struct conn *c = pf_container_of(link, struct conn, link);
  if (c->state == CONN_HEAD && !c->writing && c->in.len == 0) conn_close(c, false);
}

void conn_abort(struct pf_list *link) {
  conn_close(pf_container_of(link, struct conn, link), false);
}
