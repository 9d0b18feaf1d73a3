/* HTTP connections: reading requests, handing them over, and the life of the connection. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "web/conn.h"
#include "web/guard.h"

enum { BODY_TRUST = 1 << 20 }; /* memory taken for a body on the word of its Content-Length */

static struct web *web_of(const struct httpd_conn *c) {
  return c->base.listener->web;
}

/* ---- life ---- */

static void httpd_on_event(uv_poll_t *poll, int status, int events);

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
  conn_init(&c->base, l, CONN_HEADER);
  httpd_watch(c, UV_READABLE);
}

void httpd_watch(struct httpd_conn *c, int events) {
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

void httpd_close(struct httpd_conn *c) {
  if (c->fd >= 0) close(httpd_detach(c));
}

void httpd_linger(struct httpd_conn *c) {
  conn_release(&c->base);
  drop_input(c);
  pf_list_del(&c->ready);
  /* Closing with bytes unread resets the connection, and the client may lose the answer. */
  shutdown(c->fd, SHUT_WR);
  conn_enter(&c->base, CONN_LINGER);
  httpd_watch(c, UV_READABLE);
}

void httpd_expire(struct httpd_conn *c) {
  bool begun = c->in.len > 0;
  if (c->base.phase == CONN_HEADER) c->head_only = false;
  if (c->base.phase == CONN_BODY || (c->base.phase == CONN_HEADER && begun))
    response_refuse(c, 408, "timeout", "the request came too slowly");
  else
    httpd_close(c);
}

size_t httpd_body_received(const struct httpd_conn *c) {
  return c->in.len - c->head_len;
}

/* ---- checks of a head ---- */

/* What a page in a browser may not do. */
static bool check_browser(struct httpd_conn *c, const struct head *head, bool upgrade) {
  const struct web_listener_config *config = &c->base.listener->config;
  struct pf_slice host, origin, type = {0};
  if (!head_field(head, "host", &host) || !guard_host_known(host, config->allowed_hosts)) {
    response_refuse(c, 403, "host_refused", "this Host is not known here; see --allow-host");
    return false;
  }
  bool reads = head->method == WEB_GET || head->method == WEB_HEAD || head->method == WEB_OPTIONS;
  if (reads && !upgrade) return true;
  if (head_field(head, "origin", &origin) &&
      !guard_origin_allowed(origin, host, config->allowed_origins)) {
    response_refuse(
        c, 403, "origin_refused", "pages of this Origin may not do that; see --allow-origin");
    return false;
  }
  if (head->method != WEB_POST && head->method != WEB_PUT) return true;
  (void)head_field(head, "content-type", &type);
  if (guard_type_is_json(type)) return true;
  response_refuse(c, 415, "unsupported_media_type", "send Content-Type: application/json");
  return false;
}

/* Where the body ends. Two readings of that are a way to smuggle a second request. */
static bool check_framing(struct httpd_conn *c, const struct head *head) {
  struct pf_slice value;
  uint64_t length = 0;
  if (head_field(head, "transfer-encoding", &value)) {
    response_refuse(c, 400, "bad_request", "send a Content-Length, not a Transfer-Encoding");
    return false;
  }
  if (head_field(head, "content-length", &value)) {
    if (head_field_count(head, "content-length") != 1 || !guard_content_length(value, &length)) {
      response_refuse(c, 400, "bad_request", "Content-Length must be one number");
      return false;
    }
  } else if (head->method == WEB_POST || head->method == WEB_PUT) {
    response_refuse(c, 411, "length_required", "a Content-Length is required");
    return false;
  }
  if (length > c->base.listener->config.limits.body_max) {
    response_refuse(c, 413, "too_large", "the body is larger than this server takes");
    return false;
  }
  c->body_len = (size_t)length;
  return true;
}

static bool wants_websocket(const struct head *head) {
  struct pf_slice upgrade;
  return head_field(head, "upgrade", &upgrade) && guard_list_has(upgrade, "websocket");
}

static bool check_head(struct httpd_conn *c, const struct head *head) {
  struct pf_slice host, connection = {0};
  (void)head_field(head, "connection", &connection);
  c->head_only = head->method == WEB_HEAD;
  c->last_request = head->old || guard_list_has(connection, "close");
  if (head_field_count(head, "host") != 1 || !head_field(head, "host", &host) || host.len == 0) {
    response_refuse(c, 400, "bad_request", "one Host header is required");
    return false;
  }
  if (!check_framing(c, head)) return false;
  return !c->base.listener->config.browser_guard || check_browser(c, head, wants_websocket(head));
}

/* ---- handing over ---- */

static bool decode_path(struct httpd_conn *c, const struct head *head, struct pf_slice *ret_path) {
  struct pf_arena *arena = &web_of(c)->arena;
  pf_arena_clear(arena);
  char *path = pf_arena_alloc(arena, head->target.len);
  size_t len;
  if (!head_path(head, path, &len)) {
    response_refuse(c, 400, "bad_request", "the path is malformed");
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

/* Is this an upgrade that lws will accept? It is to refuse nothing by itself. */
static bool check_upgrade(struct httpd_conn *c, const struct head *head, struct pf_slice *ret_key) {
  struct pf_slice version = {0}, connection = {0}, protocol;
  (void)head_field(head, "connection", &connection);
  (void)head_field(head, "sec-websocket-version", &version);
  if (!pf_slice_is(version, "13")) {
    response_refuse(c, 426, "bad_websocket_version", "only version 13 of WebSocket is spoken here");
    return false;
  }
  bool well_formed = head->method == WEB_GET && !head->old && c->body_len == 0 &&
                     guard_list_has(connection, "upgrade") &&
                     head_field_count(head, "sec-websocket-key") == 1 &&
                     head_field(head, "sec-websocket-key", ret_key) && guard_ws_key(*ret_key);
  if (!well_formed) {
    response_refuse(c, 400, "bad_request", "this upgrade is malformed");
    return false;
  }
  if (head_field(head, "sec-websocket-protocol", &protocol) &&
      !guard_list_has(protocol, WEB_SUBPROTOCOL)) {
    response_refuse(c, 400, "bad_request", "the only subprotocol is " WEB_SUBPROTOCOL);
    return false;
  }
  return true;
}

/* The connection leaves for lws, or is refused. early are bytes behind the head. */
static void upgrade(struct httpd_conn *c, const struct head *head, struct pf_slice early) {
  struct web_listener *l = c->base.listener;
  struct pf_slice key, path, protocol;
  if (!check_upgrade(c, head, &key) || !decode_path(c, head, &path)) return;
  if (l->fds[0] < 0) {
    response_refuse(c, 503, "closing", "this server is stopping");
    return;
  }
  struct socket *s;
  int status = socket_new(l, path, &s);
  if (status) {
    response_refuse_status(c, status);
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
    response_refuse_status(c, status);
    return false;
  }
  if (!check_head(c, head)) return false;
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
    if (wants_websocket(head)) {
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
  if ((events & UV_WRITABLE) && c->base.phase == CONN_RESPOND) response_continue(c);
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

/* ---- between two requests ---- */

void httpd_answered(struct httpd_conn *c) {
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
  uv_idle_start(&web->soon, web_on_soon);
}

void httpd_run_ready(struct web *web) {
  struct pf_list now;
  pf_list_init(&now);
  pf_list_splice(&now, &web->ready);
  while (!pf_list_empty(&now)) {
    struct httpd_conn *c = pf_container_of(pf_list_pop(&now), struct httpd_conn, ready);
    feed(c, NULL, 0);
  }
}
