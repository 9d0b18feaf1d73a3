#include "web/httpd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "web/guard.h"
#include "web/response.h"
#include "web/socket.h"

enum { BODY_TRUST = 1 << 20 }; /* memory taken for a body on the word of its Content-Length */

struct httpd_conn {
  struct conn base;
  struct pf_list ready;
  uv_poll_t poll;
  int fd;           /* -1: closed, the poll handle is on its way out */
  int events;       /* asked of poll */
  struct pf_buf in; /* what has come and has not been handled */
  size_t scanned;   /* of in, by head_find_end */
  size_t head_len;  /* of the request at the beginning of in, 0 while its head is incomplete */
  size_t body_len;
  bool feeding; /* feed is at work and will go on by itself */
  bool last_request;
  bool head_only;
  struct pf_buf out; /* the part of an answer that the kernel has not taken */
  size_t out_at;
};

static struct httpd_conn *httpd_of(struct conn *c) {
  return pf_container_of(c, struct httpd_conn, base);
}

static struct web *web_of(const struct httpd_conn *c) {
  return c->base.listener->web;
}

/* ---- life ---- */

static void httpd_on_event(uv_poll_t *poll, int status, int events);

static void httpd_watch(struct httpd_conn *c, int events) {
  if (c->events == events) return;
  c->events = events;
  if (events)
    uv_poll_start(&c->poll, events, httpd_on_event);
  else
    uv_poll_stop(&c->poll);
}

static void httpd_handle_closed(uv_handle_t *handle) {
  struct httpd_conn *c = handle->data;
  struct web *web = web_of(c);
  free(c);
  web_handle_gone(web);
}

/* A handler that answers from inside on_request may still look at the body. */
static void drop_input(struct httpd_conn *c) {
  if (!c->feeding) pf_buf_done(&c->in);
}

/* Gives up the connection; what becomes of its socket is the caller's business. */
static int httpd_detach(struct httpd_conn *c) {
  int fd = c->fd;
  c->fd = -1;
  c->events = 0;
  conn_done(&c->base);
  pf_list_del(&c->ready);
  drop_input(c);
  pf_buf_done(&c->out);
  uv_close((uv_handle_t *)&c->poll, httpd_handle_closed);
  return fd;
}

static void httpd_close(struct httpd_conn *c) {
  if (c->fd >= 0) close(httpd_detach(c));
}

/* Closes when the client has seen what was sent. */
static void httpd_linger(struct httpd_conn *c) {
  conn_release(&c->base);
  drop_input(c);
  pf_list_del(&c->ready);
  /* Closing with bytes unread resets the connection, and the client may lose the answer. */
  shutdown(c->fd, SHUT_WR);
  conn_enter(&c->base, CONN_LINGER);
  httpd_watch(c, UV_READABLE);
}

/* ---- answering: at once and in one write; only what the kernel does not take waits ---- */

static void httpd_on_soon(uv_idle_t *soon);

/* The answer is on its way: what comes next. */
static void httpd_answered(struct httpd_conn *c) {
  if (c->last_request) {
    httpd_linger(c);
    return;
  }
  conn_enter(&c->base, CONN_IDLE);
  httpd_watch(c, UV_READABLE);
  if (c->feeding || c->in.len == 0) return;
  /* The next request is here already. Not at once: this may be inside of a handler. */
  struct web *web = web_of(c);
  if (pf_list_empty(&c->ready)) pf_list_push(&web->ready, &c->ready);
  uv_idle_start(&web->soon, httpd_on_soon);
}

/* The number of bytes that the kernel took, or -1: the connection is broken. */
static ssize_t httpd_write(const struct httpd_conn *c, const char *data, size_t len) {
  ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  return n;
}

static void httpd_send(struct httpd_conn *c, const struct web_response *r) {
  struct pf_buf *scratch = &c->base.listener->web->scratch;
  response_compose(scratch, r, c->head_only, c->last_request);
  ssize_t n = scratch->err ? -1 : httpd_write(c, scratch->data, scratch->len);
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

static void httpd_continue(struct httpd_conn *c) {
  ssize_t n = httpd_write(c, c->out.data + c->out_at, c->out.len - c->out_at);
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
  httpd_send(httpd_of(c), response);
}

void web_respond_error(
    struct web *web, uint64_t request, int status, const char *code, const char *message) {
  char body[RESPONSE_ERROR_MAX];
  web_respond(web, request,
      &(struct web_response){.status = status,
          .content_type = "application/json",
          .body = response_error(body, code, message)});
}

/* Answers with an error of this layer and closes. */
static void refuse(struct httpd_conn *c, struct refusal no) {
  char body[RESPONSE_ERROR_MAX];
  web_of(c)->stats.refused++;
  c->last_request = true; /* where the next one begins is not certain any more */
  httpd_send(c, &(struct web_response){.status = no.status,
                    .content_type = "application/json",
                    .extra_headers = no.status == 426 ? "sec-websocket-version: 13\r\n" : NULL,
                    .body = response_error(body, no.code, no.message)});
}

/* ---- handing over ---- */

static bool decode_path(struct httpd_conn *c, const struct head *head, struct pf_slice *ret_path) {
  struct pf_arena *arena = &web_of(c)->arena;
  pf_arena_clear(arena);
  char *path = pf_arena_alloc(arena, head->target.len);
  size_t len;
  if (!head_path(head, path, &len)) {
    refuse(c, (struct refusal){400, "bad_request", "the path is malformed"});
    return false;
  }
  *ret_path = pf_slice(path, len);
  return true;
}

static void dispatch(struct httpd_conn *c, const struct head *head, struct pf_slice body) {
  struct web *web = web_of(c);
  const struct web_handlers *handlers = &c->base.listener->config.handlers;
  struct pf_slice path;
  if (!decode_path(c, head, &path)) return;
  web->stats.requests++;
  conn_name(&c->base);
  conn_enter(&c->base, CONN_WAIT);
  struct web_request request = {.id = c->base.id,
      .method = head->method,
      .path = path,
      .query = head->query,
      .body = body,
      .priv = web};
  handlers->on_request(handlers->arg, &request);
}

/* The connection leaves for lws, or is refused. early are bytes behind the head. */
static void upgrade(struct httpd_conn *c, const struct head *head, struct pf_slice early) {
  struct web_listener *l = c->base.listener;
  struct pf_slice key, path, protocol;
  struct refusal no = guard_upgrade(head, c->body_len, &key);
  if (no.status) {
    refuse(c, no);
    return;
  }
  if (!decode_path(c, head, &path)) return;
  if (l->fds[0] < 0) {
    refuse(c, (struct refusal){503, "closing", "this server is stopping"});
    return;
  }
  struct socket *s;
  int status = socket_new(l, path, &s);
  if (status) {
    refuse(c, guard_refusal_of(status));
    return;
  }
  bool subprotocol = head_field(head, "sec-websocket-protocol", &protocol);
  char copy[GUARD_WS_KEY_LEN]; /* the head may lie in c->in */
  memcpy(copy, key.data, sizeof(copy));
  struct pf_buf in = c->in; /* and so may the early bytes */
  pf_buf_init(&c->in, 0);
  socket_adopt(s, httpd_detach(c), pf_slice(copy, sizeof(copy)), subprotocol, early);
  pf_buf_done(&in);
}

/* ---- reading ---- */

static bool may_begin(const struct httpd_conn *c) {
  return c->fd >= 0 &&
         (c->base.phase == CONN_HEADER || c->base.phase == CONN_BODY || c->base.phase == CONN_IDLE);
}

static void say_continue(struct httpd_conn *c, const struct head *head) {
  static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
  struct pf_slice expect;
  if (!head_field(head, "expect", &expect) || !guard_list_has(expect, "100-continue")) return;
  (void)send(c->fd, text, sizeof(text) - 1, MSG_NOSIGNAL); /* clients go on without it, later */
}

/* Finds the head of the request that begins with data. False: it has not come, or was refused. */
static bool read_head(struct httpd_conn *c, const char *data, size_t len) {
  struct head *head = &web_of(c)->head;
  if (c->head_len) return head_parse(head, data, c->head_len) == 0; /* again: others used it */
  if (len && c->base.phase == CONN_IDLE) conn_enter(&c->base, CONN_HEADER);
  int end = head_find_end(data, len, &c->scanned);
  if (end == 0) return false;
  int status = end < 0 ? -end : head_parse(head, data, (size_t)end);
  if (status) {
    c->head_only = false;
    refuse(c, guard_refusal_of(status));
    return false;
  }
  c->head_only = head->method == WEB_HEAD;
  c->last_request = guard_is_last(head);
  struct refusal no = guard_head(head, &c->base.listener->config, &c->body_len);
  if (no.status) {
    refuse(c, no);
    return false;
  }
  c->head_len = (size_t)end;
  if (len - c->head_len >= c->body_len) return true;
  say_continue(c, head);
  conn_enter(&c->base, CONN_BODY);
  return true;
}

/* Handles all whole requests at the beginning of data, one after the other as they are answered.
 * Returns how many bytes that took. */
static size_t consume(struct httpd_conn *c, const char *data, size_t len) {
  size_t at = 0;
  while (may_begin(c) && at < len && read_head(c, data + at, len - at)) {
    const char *request = data + at;
    size_t have = len - at, whole = c->head_len + c->body_len;
    const struct head *head = &web_of(c)->head;
    if (have < whole) break;
    if (guard_wants_websocket(head)) {
      upgrade(c, head, pf_slice(request + whole, have - whole));
      break;
    }
    struct pf_slice body = pf_slice(request + c->head_len, c->body_len);
    c->scanned = c->head_len = c->body_len = 0;
    at += whole;
    dispatch(c, head, body);
  }
  return at;
}

static void keep_rest(struct httpd_conn *c, const char *data, size_t len) {
  size_t whole = c->head_len + c->body_len;
  size_t trusted = whole < BODY_TRUST ? whole : BODY_TRUST;
  if (trusted > len) (void)pf_buf_reserve(&c->in, trusted);
  pf_buf_append(&c->in, data, len);
  PF_ASSERT(c->in.err != PF_ELIMIT); /* a request is refused before it is that long */
  if (c->in.err) httpd_close(c);
}

/* Takes new bytes, which lie at data, or (data NULL) at the end of c->in. */
static void feed(struct httpd_conn *c, const char *data, size_t len) {
  bool kept = data == NULL;
  c->feeding = true;
  size_t used = consume(c, kept ? c->in.data : data, kept ? c->in.len : len);
  c->feeding = false;
  bool over = c->fd < 0 || c->base.phase == CONN_LINGER;
  if (!over && !kept) keep_rest(c, data + used, len - used);
  if (!over && kept) pf_buf_consume(&c->in, used);
  if (over || (c->in.len == 0 && c->in.cap > WEB_KEEP_BYTES)) pf_buf_done(&c->in);
}

/* While a handler works: has the client gone, or is it only ahead of us? */
static void look_ahead(struct httpd_conn *c) {
  char byte;
  ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK);
  if (n > 0)
    httpd_watch(c, 0); /* until the answer has left */
  else if (n == 0 || errno != EAGAIN)
    httpd_close(c);
}

static void drain(struct httpd_conn *c) {
  ssize_t n = recv(c->fd, web_of(c)->io, WEB_IO_BYTES, 0);
  if (n == 0 || (n < 0 && errno != EAGAIN)) httpd_close(c);
}

static void read_more(struct httpd_conn *c) {
  char *to = web_of(c)->io;
  size_t room = WEB_IO_BYTES;
  bool kept = c->in.len > 0;
  if (kept) {
    size_t whole = c->head_len + c->body_len;
    if (c->head_len && whole > c->in.len && whole - c->in.len < room) room = whole - c->in.len;
    to = pf_buf_reserve(&c->in, room);
    if (!to) {
      httpd_close(c);
      return;
    }
    if (c->head_len) room = c->in.cap - c->in.len;
  }
  ssize_t n = recv(c->fd, to, room, 0);
  if (n == 0 || (n < 0 && errno != EAGAIN)) {
    httpd_close(c);
    return;
  }
  if (n < 0) return;
  if (kept) c->in.len += (size_t)n;
  feed(c, kept ? NULL : to, (size_t)n);
}

static void httpd_on_event(uv_poll_t *poll, int status, int events) {
  struct httpd_conn *c = poll->data;
  if (status < 0) {
    httpd_close(c);
    return;
  }
  if ((events & UV_WRITABLE) && c->base.phase == CONN_RESPOND) httpd_continue(c);
  if (!(events & UV_READABLE) || c->fd < 0) return;
  switch (c->base.phase) {
  case CONN_WAIT:
    look_ahead(c);
    break;
  case CONN_LINGER:
    drain(c);
    break;
  case CONN_RESPOND:
    break;
  default:
    read_more(c);
  }
}

static void httpd_on_soon(uv_idle_t *soon) {
  struct web *web = soon->data;
  uv_idle_stop(soon);
  struct pf_list now;
  pf_list_init(&now);
  pf_list_splice(&now, &web->ready);
  while (!pf_list_empty(&now)) {
    struct httpd_conn *c = pf_container_of(pf_list_pop(&now), struct httpd_conn, ready);
    feed(c, NULL, 0);
  }
}

/* ---- what may become of a connection ---- */

static void httpd_expire(struct conn *base) {
  struct httpd_conn *c = httpd_of(base);
  bool begun = c->in.len > 0;
  if (c->base.phase == CONN_HEADER) c->head_only = false;
  if (c->base.phase == CONN_BODY || (c->base.phase == CONN_HEADER && begun))
    refuse(c, (struct refusal){408, "timeout", "the request came too slowly"});
  else
    httpd_close(c);
}

static void httpd_stall(struct conn *base) {
  web_of(httpd_of(base))->stats.slow_readers++;
  conn_give_up(httpd_of(base)->fd);
  httpd_close(httpd_of(base));
}

static void httpd_stop(struct conn *base) {
  httpd_close(httpd_of(base));
}

static const struct conn_kind httpd_kind = {
    .expire = httpd_expire, .stall = httpd_stall, .stop = httpd_stop};

void httpd_open(struct web_listener *l, int fd) {
  struct httpd_conn *c = pf_alloc(sizeof(*c));
  int err = uv_poll_init(l->web->loop, &c->poll, fd);
  PF_ASSERT(err == 0); /* a fresh socket that nobody else polls */
  l->web->handles++;
  c->poll.data = c;
  c->fd = fd;
  pf_list_init(&c->ready);
  pf_buf_init(&c->in, HEAD_MAX + l->config.limits.body_max + WEB_IO_BYTES);
  pf_buf_init(&c->out, PF_BUF_MAX_DEFAULT);
  conn_init(&c->base, &httpd_kind, l, CONN_HEADER);
  httpd_watch(c, UV_READABLE);
}

/* A body may come slowly, but not so slowly that holding many connections costs nothing. */
static bool body_too_slow(const struct httpd_conn *c, uint64_t now_ms) {
  const struct web_limits *limits = &c->base.listener->config.limits;
  uint64_t ms = now_ms - c->base.since_ms, grace_ms = (uint64_t)limits->body_grace_s * 1000;
  if (ms <= grace_ms) return false;
  size_t received = c->in.len - c->head_len;
  return received < (ms - grace_ms) * limits->body_bytes_per_s / 1000;
}

void httpd_timers(struct web_listener *l, uint64_t now_ms) {
  PF_LIST_EACH(it, &l->phases[CONN_BODY]) {
    struct httpd_conn *c = pf_container_of(it, struct httpd_conn, base.link);
    if (body_too_slow(c, now_ms)) httpd_expire(&c->base);
  }
}
