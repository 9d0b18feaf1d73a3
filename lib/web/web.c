#include "web/web.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "web/internal.h"

enum {
  ACCEPT_BATCH = 64, /* connections taken per readiness of a listening socket */
  TICK_MS = 1000,
  GOODBYE_MS = 200,   /* for close frames, before everything is torn down */
  DESTROY_TURNS = 16, /* loop turns in which lws's own handles close */
};

const struct web_limits web_limits_default = {.body_max = 1 << 20,
    .frame_max = 1 << 20,
    .outbox_max = 4 << 20,
    .fragments_max = 1024,
    .connections_max = 20000,
    .ping_s = 30,
    .pong_s = 10,
    .header_s = 10,
    .body_bytes_per_s = 1024};

/* ---- life ---- */

static void on_timer(uv_timer_t *timer) {
  struct web *web = timer->data;
  int64_t now_ms = pf_clock_mono_ms();
  PF_LIST_EACH(link, &web->all) {
    struct conn *conn = pf_container_of(link, struct conn, link);
    if (conn->wsi) conn_tick(conn, now_ms);
  }
}

static void log_nothing(int level, const char *line) {
  (void)level, (void)line; /* what matters is reported by return values and statistics */
}

int web_new(struct web **ret_web, uv_loop_t *loop, struct pf_error *reterr) {
  lws_set_log_level(0, log_nothing);
  struct web *web = pf_alloc(sizeof(*web));
  web->loop = loop;
  web->next_id = 1;
  pf_list_init(&web->listeners);
  pf_list_init(&web->all);
  void *foreign_loops[] = {loop};
  struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN,
      .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                 LWS_SERVER_OPTION_VALIDATE_UTF8,
      .foreign_loops = foreign_loops,
      .pt_serv_buf_size = WEB_IO_BYTES,
      .gid = -1,
      .uid = -1};
  web->context = lws_create_context(&info);
  if (!web->context) {
    free(web);
    return pf_error_set(
        reterr, PF_ENOMEM, "libwebsockets could not start; is libwebsockets-evlib-uv installed?");
  }
  web->io = pf_alloc(LWS_PRE + WEB_IO_BYTES);
  uv_timer_init(loop, &web->timer);
  uv_idle_init(loop, &web->idle);
  web->timer.data = web->idle.data = web;
  web->handles = 2;
  uv_timer_start(&web->timer, on_timer, TICK_MS, TICK_MS);
  *ret_web = web;
  return PF_OK;
}

/* ---- listening ---- */

static void adopt(struct listener *listener, int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  /* lws takes the connection in as if it had accepted it, and owns fd from here on. */
  struct conn *conn = conn_new(listener);
  struct lws *wsi = lws_adopt_socket_vhost(listener->vhost, fd);
  if (!wsi) {
    conn_free(conn);
    return;
  }
  conn->wsi = wsi;
  lws_set_opaque_user_data(wsi, conn);
}

static void on_connection(uv_poll_t *poll, int status, int events) {
  (void)events;
  struct listener *listener = poll->data;
  int fd;
  if (status < 0 || uv_fileno((uv_handle_t *)poll, &fd)) return;
  for (int i = 0; i < ACCEPT_BATCH; i++) {
    int conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (conn < 0) return;
    if (listener->web->stats.connections >= listener->config.limits.connections_max) {
      listener->web->stats.refused++;
      close(conn);
      continue;
    }
    adopt(listener, conn);
  }
}

static int open_vhost(struct listener *listener, struct pf_error *reterr) {
  char name[32];
  snprintf(name, sizeof(name), "listener-%p", (void *)listener);
  struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN_SERVER,
      .vhost_name = name,
      .protocols = web_protocols,
      .options = LWS_SERVER_OPTION_VALIDATE_UTF8,
      .keepalive_timeout = WEB_KEEPALIVE_S,
      .timeout_secs = (unsigned)listener->config.limits.header_s};
  listener->vhost = lws_create_vhost(listener->web->context, &info);
  return listener->vhost ? PF_OK : pf_error_set(reterr, PF_ENOMEM, "cannot create a virtual host");
}

int web_listen(struct web *web, const struct web_listener_config *config,
    struct pf_listen_addr *ret_bound, struct pf_error *reterr) {
  struct listener *listener = pf_alloc(sizeof(*listener));
  listener->web = web;
  listener->config = *config;
  int err = pf_listen_open(&config->listen, &listener->sockets, reterr);
  if (!err) {
    err = open_vhost(listener, reterr);
    if (err) pf_listen_close(&listener->sockets);
  }
  if (err) {
    free(listener);
    return err;
  }
  listener->poll_count = listener->sockets.bound.count;
  for (unsigned i = 0; i < listener->poll_count; i++) {
    PF_ASSERT(uv_poll_init(web->loop, &listener->polls[i], listener->sockets.fds[i]) == 0);
    listener->polls[i].data = listener;
    uv_poll_start(&listener->polls[i], UV_READABLE, on_connection);
  }
  listener->polls_open = listener->poll_count;
  web->handles += listener->poll_count;
  pf_list_push(&web->listeners, &listener->link);
  *ret_bound = listener->sockets.bound;
  return PF_OK;
}

static void on_handle_closed(struct web *web) {
  web->handles--;
}

static void on_poll_closed(uv_handle_t *handle) {
  struct listener *listener = handle->data;
  if (--listener->polls_open == 0) pf_listen_close(&listener->sockets);
  on_handle_closed(listener->web);
}

void web_stop_listening(struct web *web) {
  PF_LIST_EACH(link, &web->listeners) {
    struct listener *listener = pf_container_of(link, struct listener, link);
    for (unsigned i = 0; i < listener->poll_count; i++)
      uv_close((uv_handle_t *)&listener->polls[i], on_poll_closed);
    listener->poll_count = 0;
  }
}

/* ---- requests ---- */

bool web_request_header(
    const struct web_request *req, const char *name, struct pf_slice *ret_value) {
  struct conn *conn = req->priv;
  char with_colon[64];
  static const struct {
    const char *name;
    enum lws_token_indexes token;
  } known[] = {{"host", WSI_TOKEN_HOST}, {"origin", WSI_TOKEN_ORIGIN},
      {"content-type", WSI_TOKEN_HTTP_CONTENT_TYPE}, {"accept", WSI_TOKEN_HTTP_ACCEPT},
      {"authorization", WSI_TOKEN_HTTP_AUTHORIZATION},
      {"if-none-match", WSI_TOKEN_HTTP_IF_NONE_MATCH}};
  pf_buf_clear(&conn->header);
  char *to = pf_buf_reserve(&conn->header, WEB_HEADER_VALUE_MAX);
  int len = -1;
  for (size_t i = 0; i < PF_COUNT(known); i++)
    if (strcmp(known[i].name, name) == 0)
      len = lws_hdr_copy(conn->wsi, to, WEB_HEADER_VALUE_MAX, known[i].token);
  if (len <= 0) {
    int name_len = snprintf(with_colon, sizeof(with_colon), "%s:", name);
    len = lws_hdr_custom_copy(conn->wsi, to, WEB_HEADER_VALUE_MAX, with_colon, name_len);
  }
  if (len <= 0) return false;
  *ret_value = pf_slice(to, (size_t)len);
  return true;
}

static int hex_digit(char c) {
  return c >= '0' && c <= '9'                 ? c - '0'
         : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                              : -1;
}

static void percent_decode(struct pf_buf *buf, struct pf_slice text) {
  for (size_t i = 0; i < text.len; i++) {
    char c = text.data[i] == '+' ? ' ' : text.data[i];
    if (c == '%' && i + 2 < text.len && hex_digit(text.data[i + 1]) >= 0 &&
        hex_digit(text.data[i + 2]) >= 0) {
      c = (char)(hex_digit(text.data[i + 1]) << 4 | hex_digit(text.data[i + 2]));
      i += 2;
    }
    pf_buf_append(buf, &c, 1);
  }
}

bool web_query_param(struct pf_slice query, const char *name, struct pf_buf *buf) {
  size_t name_len = strlen(name);
  while (query.len > 0) {
    const char *amp = memchr(query.data, '&', query.len);
    size_t len = amp ? (size_t)(amp - query.data) : query.len;
    if (len >= name_len && memcmp(query.data, name, name_len) == 0 &&
        (len == name_len || query.data[name_len] == '=')) {
      size_t skip = len == name_len ? name_len : name_len + 1;
      percent_decode(buf, pf_slice(query.data + skip, len - skip));
      return true;
    }
    size_t next = amp ? len + 1 : len;
    query = pf_slice(query.data + next, query.len - next);
  }
  return false;
}

static const char *reason_phrase(int status) {
  static const struct {
    int status;
    const char *text;
  } phrases[] = {{200, "OK"}, {202, "Accepted"}, {204, "No Content"}, {304, "Not Modified"},
      {400, "Bad Request"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
      {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"}, {413, "Content Too Large"},
      {415, "Unsupported Media Type"}, {422, "Unprocessable Content"}, {429, "Too Many Requests"},
      {500, "Internal Server Error"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
      {504, "Gateway Timeout"}, {507, "Insufficient Storage"}};
  for (size_t i = 0; i < PF_COUNT(phrases); i++)
    if (phrases[i].status == status) return phrases[i].text;
  return "Status";
}

void web_respond(struct web *web, uint64_t request, const struct web_response *response) {
  struct conn *conn = conn_find(web, request);
  if (!conn || conn->is_ws || conn->responding) return;
  conn->responding = true;
  pf_buf_clear(&conn->out);
  conn->out_sent = 0;
  pf_buf_printf(&conn->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n",
      response->status, reason_phrase(response->status),
      response->content_type ? response->content_type : "application/json", response->body.len);
  if (response->extra_headers) pf_buf_str(&conn->out, response->extra_headers);
  if (conn->close_code) pf_buf_str(&conn->out, "Connection: close\r\n");
  pf_buf_str(&conn->out, "\r\n");
  if (!conn->head_only) pf_buf_slice(&conn->out, response->body);
  if (conn->out.err) { /* over PF_BUF_MAX_DEFAULT: no answer of ours is that large */
    conn->responding = false;
    web_respond_error(web, request, 500, "internal", "the answer is too large");
    return;
  }
  conn_want_write(conn);
}

void web_respond_error(
    struct web *web, uint64_t request, int status, const char *code, const char *message) {
  char body[1024];
  /* Codes and messages are our own literals or cleaned text: no escaping is needed beyond quotes.
   */
  int len = snprintf(body, sizeof(body), "{\"error\":{\"code\":\"%s\",\"message\":\"", code);
  for (const char *at = message; *at && (size_t)len < sizeof(body) - 8; at++) {
    if (*at == '"' || *at == '\\') body[len++] = '\\';
    body[len++] = (unsigned char)*at < 0x20 ? ' ' : *at;
  }
  len += snprintf(body + len, sizeof(body) - (size_t)len, "\"}}");
  web_respond(
      web, request, &(struct web_response){.status = status, .body = pf_slice(body, (size_t)len)});
}

/* ---- WebSocket ---- */

void web_ws_send(struct web *web, uint64_t ws, struct pf_slice text) {
  struct conn *conn = conn_find(web, ws);
  if (!conn || !conn->is_ws || conn->doomed) return;
  size_t backlog = conn->out.len - conn->out_sent;
  if (backlog + text.len > conn->listener->config.limits.outbox_max && backlog > 0) {
    web->stats.slow_readers++;
    conn_doom(conn, 1013, "too slow; reconnect and resume");
    return;
  }
  if (conn->out_sent > conn->out.len / 2 && conn->out_sent > WEB_IO_BYTES) {
    pf_buf_consume(&conn->out, conn->out_sent);
    conn->out_sent = 0;
  }
  bool idle = backlog == 0;
  conn_put_frame(conn, 0x1, text);
  web->stats.frames_out++;
  if (idle && conn->established) conn_want_write(conn);
}

void web_ws_close(struct web *web, uint64_t ws, int code, const char *reason) {
  struct conn *conn = conn_find(web, ws);
  if (conn && conn->is_ws) conn_doom(conn, code, reason);
}

size_t web_ws_backlog(const struct web *web, uint64_t ws) {
  const struct conn *conn = conn_find(web, ws);
  return conn && conn->is_ws ? conn->out.len - conn->out_sent : 0;
}

void web_read_stats(const struct web *web, struct web_stats *ret_stats) {
  *ret_stats = web->stats;
}

/* ---- end ---- */

static void finish(struct web *web) {
  PF_ASSERT(pf_list_empty(&web->all));
  while (!pf_list_empty(&web->listeners))
    free(pf_container_of(pf_list_pop(&web->listeners), struct listener, link));
  void (*closed)(void *arg) = web->closed;
  void *arg = web->closed_arg;
  pf_map_done(&web->conns);
  free(web->io);
  free(web);
  closed(arg);
}

static void on_last_handle_closed(uv_handle_t *handle) {
  struct web *web = handle->data;
  if (--web->handles == 0) finish(web);
}

/* lws closes its handles over several turns; the second destroy frees what they stood in. */
static void on_idle(uv_idle_t *idle) {
  struct web *web = idle->data;
  if (--web->turns_left > 0) return;
  lws_context_destroy(web->context);
  uv_close((uv_handle_t *)&web->timer, on_last_handle_closed);
  uv_close((uv_handle_t *)&web->idle, on_last_handle_closed);
}

static void on_goodbye_over(uv_timer_t *timer) {
  struct web *web = timer->data;
  web->turns_left = DESTROY_TURNS;
  lws_context_destroy(web->context);
  uv_idle_start(&web->idle, on_idle);
}

void web_close(struct web *web, void (*closed)(void *arg), void *arg) {
  PF_ASSERT(!web->closing);
  web->closing = true;
  web->closed = closed;
  web->closed_arg = arg;
  web_stop_listening(web);
  bool sockets = false;
  PF_LIST_EACH(link, &web->all) {
    struct conn *conn = pf_container_of(link, struct conn, link);
    if (conn->is_ws) conn_doom(conn, 1001, "the server is going away");
    sockets = sockets || conn->is_ws || conn->responding;
  }
  uv_timer_start(&web->timer, on_goodbye_over, sockets ? GOODBYE_MS : 0, 0);
}
