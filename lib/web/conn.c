/* One connection: requests, WebSocket messages, and what is written to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "web/internal.h"

/* ---- names ---- */

static bool id_eq(const struct pf_map_node *node, const void *arg) {
  return pf_container_of(node, struct conn, node)->id == *(const uint64_t *)arg;
}

struct conn *conn_find(const struct web *web, uint64_t id) {
  if (!id) return NULL;
  struct pf_map_node *node = pf_map_find(&web->conns, pf_hash_u64(id), id_eq, &id);
  return node ? pf_container_of(node, struct conn, node) : NULL;
}

void conn_unname(struct conn *conn) {
  if (!conn->id) return;
  pf_map_del(&conn->listener->web->conns, &conn->node);
  conn->id = 0;
}

void conn_name(struct conn *conn) {
  conn_unname(conn);
  conn->id = conn->listener->web->next_id++;
  pf_map_put(&conn->listener->web->conns, &conn->node, pf_hash_u64(conn->id));
}

struct conn *conn_new(struct listener *listener) {
  struct conn *conn = pf_alloc(sizeof(*conn));
  const struct web_limits *limits = &listener->config.limits;
  conn->listener = listener;
  conn->since_ms = pf_clock_mono_ms();
  size_t in_max = limits->body_max > limits->frame_max ? limits->body_max : limits->frame_max;
  pf_buf_init(&conn->in, in_max);
  pf_buf_init(&conn->out, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&conn->path, WEB_IO_BYTES);
  pf_buf_init(&conn->query, WEB_IO_BYTES);
  pf_buf_init(&conn->header, WEB_IO_BYTES);
  pf_list_push(&listener->web->all, &conn->link);
  listener->web->stats.connections++;
  return conn;
}

void conn_free(struct conn *conn) {
  struct web *web = conn->listener->web;
  if (conn->is_ws) {
    const struct web_handlers *handlers = &conn->listener->config.handlers;
    uint64_t id = conn->id;
    conn_unname(conn);
    web->stats.sockets--;
    if (handlers->on_ws_close) handlers->on_ws_close(handlers->arg, id);
  }
  conn_unname(conn);
  pf_list_del(&conn->link);
  web->stats.connections--;
  pf_buf_done(&conn->in);
  pf_buf_done(&conn->out);
  pf_buf_done(&conn->path);
  pf_buf_done(&conn->query);
  pf_buf_done(&conn->header);
  free(conn);
}

/* ---- writing ---- */

void conn_want_write(struct conn *conn) {
  if (conn->wsi) lws_callback_on_writable(conn->wsi);
}

/* One write of at most WEB_IO_BYTES. lws keeps what the kernel does not take. */
static int conn_write(struct conn *conn, bool http_final) {
  struct web *web = conn->listener->web;
  size_t left = conn->out.len - conn->out_sent;
  size_t len = left < WEB_IO_BYTES ? left : WEB_IO_BYTES;
  memcpy(web->io + LWS_PRE, conn->out.data + conn->out_sent, len);
  bool last = len == left;
  int written = lws_write(conn->wsi, (unsigned char *)web->io + LWS_PRE, len,
      http_final && last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP);
  if (written < (int)len) return -1;
  conn->out_sent += len;
  if (last) {
    if (conn->out.cap > 4 * WEB_IO_BYTES)
      pf_buf_done(&conn->out); /* a large answer's memory is not held by an idle connection */
    pf_buf_clear(&conn->out);
    conn->out_sent = 0;
  }
  return 0;
}

/* RFC 6455 5.2: unmasked, final. */
void conn_put_frame(struct conn *conn, unsigned char opcode, struct pf_slice payload) {
  unsigned char head[10] = {(unsigned char)(0x80 | opcode)};
  size_t len = 2;
  if (payload.len < 126) {
    head[1] = (unsigned char)payload.len;
  } else if (payload.len < 65536) {
    head[1] = 126;
    head[2] = (unsigned char)(payload.len >> 8);
    head[3] = (unsigned char)payload.len;
    len = 4;
  } else {
    head[1] = 127;
    for (int i = 0; i < 8; i++)
      head[2 + i] = (unsigned char)(payload.len >> (56 - 8 * i));
    len = 10;
  }
  pf_buf_append(&conn->out, head, len);
  pf_buf_append(&conn->out, payload.data, payload.len);
}

void conn_doom(struct conn *conn, int code, const char *reason) {
  if (conn->doomed) return;
  conn->doomed = true;
  conn->close_code = code;
  snprintf(conn->close_reason, sizeof(conn->close_reason), "%s", reason ? reason : "");
  conn->since_ms = pf_clock_mono_ms();
  conn_want_write(conn);
}

static int ws_on_writable(struct conn *conn) {
  while (conn->out.len > conn->out_sent) {
    if (conn_write(conn, false)) return -1;
    if (lws_partial_buffered(conn->wsi) || lws_send_pipe_choked(conn->wsi)) {
      if (conn->out.len > conn->out_sent || conn->doomed) conn_want_write(conn);
      return 0;
    }
  }
  if (!conn->doomed) return 0;
  lws_close_reason(conn->wsi, (enum lws_close_status)conn->close_code,
      (unsigned char *)conn->close_reason, strlen(conn->close_reason));
  return -1;
}

static int http_on_writable(struct conn *conn) {
  if (!conn->responding) return 0;
  if (conn->out.len > conn->out_sent && conn_write(conn, true)) return -1;
  if (conn->out.len > conn->out_sent) {
    conn_want_write(conn);
    return 0;
  }
  conn->responding = false;
  conn_unname(conn);
  conn->since_ms = pf_clock_mono_ms();
  if (conn->close_code) return -1;
  return lws_http_transaction_completed(conn->wsi) ? -1 : 0;
}

/* ---- requests ---- */

static const struct {
  enum lws_token_indexes token;
  enum web_method method;
} method_tokens[] = {
    {WSI_TOKEN_GET_URI, WEB_GET},
    {WSI_TOKEN_POST_URI, WEB_POST},
    {WSI_TOKEN_PUT_URI, WEB_PUT},
    {WSI_TOKEN_DELETE_URI, WEB_DELETE},
    {WSI_TOKEN_HEAD_URI, WEB_HEAD},
    {WSI_TOKEN_OPTIONS_URI, WEB_OPTIONS},
    {WSI_TOKEN_PATCH_URI, WEB_OTHER},
};

static bool copy_token(struct lws *wsi, enum lws_token_indexes token, struct pf_buf *buf) {
  int len = lws_hdr_total_length(wsi, token);
  if (len <= 0) return false;
  pf_buf_clear(buf);
  char *to = pf_buf_reserve(buf, (size_t)len + 1);
  if (!to || lws_hdr_copy(wsi, to, len + 1, token) < 0) return false;
  buf->len = (size_t)len;
  return true;
}

static void read_request_line(struct conn *conn) {
  conn->method = WEB_OTHER;
  pf_buf_clear(&conn->path);
  for (size_t i = 0; i < PF_COUNT(method_tokens); i++) {
    if (!copy_token(conn->wsi, method_tokens[i].token, &conn->path)) continue;
    conn->method = method_tokens[i].method;
    break;
  }
  pf_buf_clear(&conn->query);
  copy_token(conn->wsi, WSI_TOKEN_HTTP_URI_ARGS, &conn->query);
}

static void refuse(struct conn *conn, int status, const char *code, const char *message) {
  conn->listener->web->stats.refused++;
  conn->close_code = 1; /* what follows on this connection cannot be trusted */
  conn_name(conn);
  conn->head_only = conn->method == WEB_HEAD;
  web_respond_error(conn->listener->web, conn->id, status, code, message);
}

/* Framing: what an attacker and we might read differently is refused. */
static bool check_framing(struct conn *conn) {
  if (lws_hdr_total_length(conn->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
    refuse(conn, 400, "bad_request", "send a Content-Length, not a Transfer-Encoding");
    return false;
  }
  conn->body_expected = 0;
  if (copy_token(conn->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, &conn->header) &&
      !guard_content_length(conn->header.data, conn->header.len, &conn->body_expected)) {
    refuse(conn, 400, "bad_request", "Content-Length must be one number");
    return false;
  }
  if (lws_hdr_total_length(conn->wsi, WSI_TOKEN_HOST) <= 0) {
    refuse(conn, 400, "bad_request", "a Host header is required");
    return false;
  }
  if (conn->body_expected > conn->listener->config.limits.body_max) {
    refuse(conn, 413, "too_large", "the request body is larger than this server takes");
    return false;
  }
  return true;
}

static const char *token_text(struct conn *conn, enum lws_token_indexes token, struct pf_buf *buf) {
  if (!copy_token(conn->wsi, token, buf)) return NULL;
  buf->data[buf->len] = '\0'; /* copy_token reserved one more */
  return buf->data;
}

/* What keeps other web pages out (docs/protocol.md). 0, or the status that refuses. */
static int browser_guard(
    struct conn *conn, bool upgrade, const char **ret_code, const char **ret_why) {
  const struct web_listener_config *config = &conn->listener->config;
  if (!config->browser_guard) return 0;
  struct pf_buf host_buf, buf;
  pf_buf_init(&host_buf, WEB_IO_BYTES);
  pf_buf_init(&buf, WEB_IO_BYTES);
  const char *host = token_text(conn, WSI_TOKEN_HOST, &host_buf);
  bool writes = conn->method != WEB_GET && conn->method != WEB_HEAD && conn->method != WEB_OPTIONS;
  int status = 0;
  const char *text;
  if (!host || !guard_host(host, config->allowed_hosts)) {
    status = 403, *ret_code = "host_refused";
    *ret_why = "this Host is not known here; allow it with --allow-host";
  } else if ((upgrade || writes) && (text = token_text(conn, WSI_TOKEN_ORIGIN, &buf)) != NULL &&
             !guard_origin(text, host, config->allowed_origins)) {
    status = 403, *ret_code = "origin_refused";
    *ret_why = "pages of this Origin may not do that; allow them with --allow-origin";
  } else if (conn->method == WEB_POST || conn->method == WEB_PUT) {
    text = token_text(conn, WSI_TOKEN_HTTP_CONTENT_TYPE, &buf);
    if (!text || !guard_is_json(text)) {
      status = 415, *ret_code = "unsupported_media_type";
      *ret_why = "send Content-Type: application/json";
    }
  }
  pf_buf_done(&host_buf);
  pf_buf_done(&buf);
  return status;
}

static void deliver_request(struct conn *conn) {
  struct web *web = conn->listener->web;
  const struct web_handlers *handlers = &conn->listener->config.handlers;
  conn_name(conn);
  conn->head_only = conn->method == WEB_HEAD;
  web->stats.requests++;
  lws_set_timeout(conn->wsi, NO_PENDING_TIMEOUT, 0); /* the handler may take its time */
  struct web_request request = {.id = conn->id,
      .method = conn->method,
      .path = pf_buf_view(&conn->path),
      .query = pf_buf_view(&conn->query),
      .body = pf_buf_view(&conn->in),
      .priv = conn};
  handlers->on_request(handlers->arg, &request);
  conn->in_request = false;
  if (conn->in.cap > 4 * WEB_IO_BYTES) pf_buf_done(&conn->in);
  pf_buf_clear(&conn->in);
}

static int http_on_request(struct conn *conn) {
  read_request_line(conn);
  conn->in_request = true;
  conn->since_ms = pf_clock_mono_ms();
  pf_buf_clear(&conn->in);
  if (!check_framing(conn)) return 0;
  const char *code, *why;
  int status = browser_guard(conn, false, &code, &why);
  if (status)
    refuse(conn, status, code, why);
  else if (conn->body_expected == 0)
    deliver_request(conn);
  return 0;
}

static int http_on_body(struct conn *conn, const void *bytes, size_t len) {
  if (conn->responding || conn->close_code) return 0; /* refused already */
  pf_buf_append(&conn->in, bytes, len);
  if (conn->in.err) refuse(conn, 413, "too_large", "the request body is larger than announced");
  return 0;
}

static int http_on_body_complete(struct conn *conn) {
  if (!conn->responding && !conn->close_code) deliver_request(conn);
  return 0;
}

/* ---- WebSocket ---- */

/* In the callback that may still refuse the upgrade. */
static int ws_on_upgrade(struct conn *conn) {
  struct web *web = conn->listener->web;
  const struct web_handlers *handlers = &conn->listener->config.handlers;
  read_request_line(conn);
  const char *code, *why;
  int status = lws_hdr_total_length(conn->wsi, WSI_TOKEN_HOST) <= 0 ? 400 : 0;
  if (!status) status = browser_guard(conn, true, &code, &why);
  if (!status && !handlers->on_ws_open) status = 404;
  conn_name(conn);
  if (!status) status = handlers->on_ws_open(handlers->arg, conn->id, pf_buf_view(&conn->path));
  if (status) {
    conn_unname(conn);
    web->stats.refused++;
    lws_return_http_status(conn->wsi, (unsigned)status, NULL);
    return -1;
  }
  conn->is_ws = true;
  web->stats.sockets++;
  web->stats.sockets_opened++;
  return 0;
}

static int ws_refuse(struct conn *conn, int code, const char *reason) {
  char text[124];
  snprintf(text, sizeof(text), "%s", reason);
  lws_close_reason(conn->wsi, (enum lws_close_status)code, (unsigned char *)text, strlen(text));
  return -1;
}

static void ws_deliver(struct conn *conn, struct pf_slice text) {
  const struct web_handlers *handlers = &conn->listener->config.handlers;
  conn->listener->web->stats.frames_in++;
  handlers->on_ws_message(handlers->arg, conn->id, text);
}

static int ws_on_receive(struct conn *conn, const char *bytes, size_t len) {
  const struct web_limits *limits = &conn->listener->config.limits;
  conn->since_ms = conn->doomed ? conn->since_ms : pf_clock_mono_ms();
  conn->pinged = false;
  if (conn->doomed) return 0;
  bool first = lws_is_first_fragment(conn->wsi), final = lws_is_final_fragment(conn->wsi);
  if (lws_frame_is_binary(conn->wsi)) return ws_refuse(conn, 1003, "text frames only");
  if (first) {
    pf_buf_clear(&conn->in);
    conn->fragments = 0;
  }
  if (conn->in.len + len + lws_remaining_packet_payload(conn->wsi) > limits->frame_max)
    return ws_refuse(conn, 1009, "the message is too large");
  if (++conn->fragments > limits->fragments_max && !final)
    return ws_refuse(conn, 1009, "too many fragments");
  if (first && final) {
    ws_deliver(conn, pf_slice(bytes, len));
    return 0;
  }
  pf_buf_append(&conn->in, bytes, len);
  if (conn->in.err) return ws_refuse(conn, 1009, "the message is too large");
  if (final) {
    ws_deliver(conn, pf_buf_view(&conn->in));
    pf_buf_done(&conn->in); /* long messages are rare; idle sockets hold no memory for them */
  }
  return 0;
}

/* ---- clocks ---- */

static void conn_kill(struct conn *conn) {
  /* Legal here: a timer of ours, not a callback of this connection. */
  lws_set_timeout(conn->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

static void ws_tick(struct conn *conn, int64_t now_ms) {
  const struct web_limits *limits = &conn->listener->config.limits;
  int64_t silent_ms = now_ms - conn->since_ms;
  if (conn->doomed) {
    if (silent_ms > WEB_DOOMED_MS) conn_kill(conn);
  } else if (!conn->established) {
    if (silent_ms > limits->header_s * 1000) conn_kill(conn);
  } else if (conn->pinged && silent_ms > (limits->ping_s + limits->pong_s) * 1000) {
    conn_kill(conn);
  } else if (!conn->pinged && silent_ms > limits->ping_s * 1000) {
    conn->pinged = true;
    conn_put_frame(conn, 0x9, (struct pf_slice){0});
    conn_want_write(conn);
  }
}

static void http_tick(struct conn *conn, int64_t now_ms) {
  const struct web_limits *limits = &conn->listener->config.limits;
  int64_t ms = now_ms - conn->since_ms;
  if (conn->in_request && !conn->responding && conn->in.len < conn->body_expected) {
    int64_t seconds = ms / 1000 - 5; /* of grace */
    if (seconds > 0 && (int64_t)conn->in.len < seconds * limits->body_bytes_per_s)
      refuse(conn, 408, "timeout", "the request body arrives too slowly");
  } else if (conn->close_code && ms > WEB_DOOMED_MS * 5) {
    conn_kill(conn);
  } else if (!conn->id && !conn->in_request &&
             ms > (conn->established ? WEB_KEEPALIVE_S : limits->header_s) * 1000) {
    conn_kill(conn);
  }
}

void conn_tick(struct conn *conn, int64_t now_ms) {
  if (conn->is_ws)
    ws_tick(conn, now_ms);
  else
    http_tick(conn, now_ms);
}

/* ---- lws ---- */

static int on_callback(
    struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len) {
  (void)user;
  struct conn *conn = lws_get_opaque_user_data(wsi);
  if (!conn) return 0;
  conn->wsi = wsi;
  switch (reason) {
  case LWS_CALLBACK_HTTP:
    conn->established = true; /* its first request has come */
    return http_on_request(conn);
  case LWS_CALLBACK_HTTP_BODY:
    return http_on_body(conn, in, len);
  case LWS_CALLBACK_HTTP_BODY_COMPLETION:
    return http_on_body_complete(conn);
  case LWS_CALLBACK_HTTP_WRITEABLE:
    return http_on_writable(conn);
  case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    return ws_on_upgrade(conn);
  case LWS_CALLBACK_ESTABLISHED:
    conn->established = true;
    conn->since_ms = pf_clock_mono_ms();
    if (conn->out.len) conn_want_write(conn);
    return 0;
  case LWS_CALLBACK_RECEIVE:
    return ws_on_receive(conn, in, len);
  case LWS_CALLBACK_RECEIVE_PONG:
    conn->pinged = false;
    if (!conn->doomed) conn->since_ms = pf_clock_mono_ms();
    return 0;
  case LWS_CALLBACK_SERVER_WRITEABLE:
    return ws_on_writable(conn);
  case LWS_CALLBACK_WSI_DESTROY:
    lws_set_opaque_user_data(wsi, NULL);
    conn->wsi = NULL;
    conn_free(conn);
    return 0;
  default:
    return 0;
  }
}

/* A client may name our subprotocol, or none. */
const struct lws_protocols web_protocols[] = {
    {.name = "default",
        .callback = on_callback,
        .rx_buffer_size = WEB_IO_BYTES,
        .tx_packet_size = WEB_IO_BYTES},
    {.name = "proxyfetch.v1",
        .callback = on_callback,
        .rx_buffer_size = WEB_IO_BYTES,
        .tx_packet_size = WEB_IO_BYTES},
    {0},
};
