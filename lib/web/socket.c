/* WebSocket: messages in, frames out, and the ways a socket ends. */
#include <stdio.h>
#include <string.h>

#include "web/conn.h"

enum { FRAME_TEXT = 0x81, FRAME_PING = 0x89, FRAME_HEAD_MAX = 10 };

/* ---- frames ---- */

static size_t frame_head(unsigned char head[FRAME_HEAD_MAX], unsigned char first, size_t len) {
  head[0] = first;
  if (len < 126) {
    head[1] = (unsigned char)len;
    return 2;
  }
  if (len <= 0xffff) {
    head[1] = 126;
    head[2] = (unsigned char)(len >> 8);
    head[3] = (unsigned char)len;
    return 4;
  }
  head[1] = 127;
  for (int i = 0; i < 8; i++)
    head[2 + i] = (unsigned char)((uint64_t)len >> (56 - 8 * i));
  return 10;
}

/* The size of the frame that starts here, which frame_head() has begun. */
static size_t frame_size(const unsigned char *frame) {
  if (frame[1] < 126) return 2u + frame[1];
  if (frame[1] == 126) return 4u + ((size_t)frame[2] << 8 | frame[3]);
  uint64_t len = 0;
  for (int i = 2; i < 10; i++)
    len = len << 8 | frame[i];
  return 10u + (size_t)len;
}

/* ---- the outbox ---- */

static size_t outbox_left(const struct conn *c) {
  return c->out.len - c->out_at;
}

static void outbox_clear(struct conn *c) {
  if (c->out.cap > WEB_IO_BYTES)
    pf_buf_done(&c->out);
  else
    pf_buf_clear(&c->out);
  c->out_at = 0;
}

/* Whole frames, up to one write's worth, at least one: between two writes lws may put a pong. */
static size_t outbox_portion(const struct conn *c) {
  size_t left = outbox_left(c), len = 0;
  while (len < left) {
    size_t size = frame_size((const unsigned char *)c->out.data + c->out_at + len);
    if (len && len + size > WEB_IO_BYTES) break;
    len += size;
  }
  PF_ASSERT(len <= left);
  return len;
}

static void outbox_wake(struct conn *c) {
  if (c->writing || !c->established) return;
  c->writing = true;
  lws_callback_on_writable(c->wsi);
}

static void outbox_append(struct conn *c, unsigned char first, struct pf_slice payload) {
  unsigned char head[FRAME_HEAD_MAX];
  size_t head_len = frame_head(head, first, payload.len);
  if (c->out.len == 0) { /* room for lws before the first byte, which also marks an outbox in use */
    c->out_at = LWS_PRE;
    if (pf_buf_reserve(&c->out, LWS_PRE + head_len + payload.len)) c->out.len = LWS_PRE;
  } else if (c->out_at > c->out.cap / 2) { /* a socket that is never quite empty */
    pf_buf_consume(&c->out, c->out_at - LWS_PRE);
    c->out_at = LWS_PRE;
  }
  pf_buf_append(&c->out, head, head_len);
  pf_buf_slice(&c->out, payload);
  outbox_wake(c);
}

/* ---- for the application ---- */

static struct conn *socket_find(const struct web *web, uint64_t ws) {
  struct conn *c = conn_find(web, ws);
  return c && c->upgraded ? c : NULL;
}

void socket_close(struct conn *c, int code, const char *reason) {
  if (c->close_code || c->doomed) return;
  c->close_code = code;
  snprintf(c->close_reason, sizeof(c->close_reason), "%s", reason ? reason : "");
  conn_enter(c, CONN_CLOSING);
  outbox_wake(c);
}

void web_ws_send(struct web *web, uint64_t ws, struct pf_slice text) {
  struct conn *c = socket_find(web, ws);
  if (!c || c->close_code) return;
  if (outbox_left(c) + FRAME_HEAD_MAX + text.len <= c->listener->config.limits.outbox_max) {
    web->stats.frames_out++;
    outbox_append(c, FRAME_TEXT, text);
    if (!c->out.err) return;
  }
  web->stats.slow_readers++;
  outbox_clear(c); /* what it has not read by now would only keep the close from it */
  socket_close(c, 1013, "reading too slowly");
}

void web_ws_close(struct web *web, uint64_t ws, int code, const char *reason) {
  struct conn *c = socket_find(web, ws);
  if (c) socket_close(c, code, reason);
}

size_t web_ws_backlog(const struct web *web, uint64_t ws) {
  const struct conn *c = socket_find(web, ws);
  return c ? outbox_left(c) : 0;
}

/* ---- events ---- */

int socket_on_upgrade(struct conn *c) {
  const struct web_handlers *handlers = &c->listener->config.handlers;
  struct pf_slice path;
  if (request_on_upgrade(c, &path)) return -1;
  if (!handlers->on_ws_open) return response_refuse(c, 404, "not_found", "no WebSocket here");
  if (c->listener->fds[0] < 0) return response_refuse(c, 503, "closing", "the server is stopping");
  conn_name(c);
  c->upgraded = true;
  c->listener->web->stats.sockets_opened++;
  c->listener->web->stats.sockets++;
  int status = handlers->on_ws_open(handlers->arg, c->id, path);
  if (status == 0) {
    conn_enter(c, c->close_code ? CONN_CLOSING : CONN_OPEN);
    return 0;
  }
  c->upgraded = false;
  c->listener->web->stats.sockets_opened--;
  c->listener->web->stats.sockets--;
  conn_release(c);
  pf_buf_clear(&c->out);
  return response_refuse(c, status, "refused", "no WebSocket under this path");
}

void socket_on_established(struct conn *c) {
  lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0);
  c->established = true;
  if (c->out.len || c->close_code) outbox_wake(c);
}

void socket_on_alive(struct conn *c) {
  bool watched = c->phase == CONN_OPEN || c->phase == CONN_PINGED;
  if (watched && c->since_ms != uv_now(c->listener->web->loop)) conn_enter(c, CONN_OPEN);
}

void socket_ping(struct conn *c) {
  outbox_append(c, FRAME_PING, pf_slice("", 0));
  conn_enter(c, CONN_PINGED);
}

/* Closes from inside a callback of lws. */
static int close_now(struct conn *c, int code, const char *reason) {
  lws_close_reason(
      c->wsi, (enum lws_close_status)code, (unsigned char *)(uintptr_t)reason, strlen(reason));
  c->close_code = code;
  c->doomed = true;
  conn_enter(c, CONN_CLOSING);
  return -1;
}

static void deliver(struct conn *c, struct pf_slice text) {
  const struct web_handlers *handlers = &c->listener->config.handlers;
  c->listener->web->stats.frames_in++;
  handlers->on_ws_message(handlers->arg, c->id, text);
}

int socket_on_receive(struct conn *c, const char *data, size_t len) {
  const struct web_limits *limits = &c->listener->config.limits;
  socket_on_alive(c);
  if (c->doomed) return -1;
  if (c->close_code) return 0; /* nobody listens any more */
  size_t left = lws_remaining_packet_payload(c->wsi);
  bool first = lws_is_first_fragment(c->wsi), final = lws_is_final_fragment(c->wsi);
  if (lws_frame_is_binary(c->wsi)) return close_now(c, 1003, "text only");
  if (first) {
    pf_buf_clear(&c->in);
    c->fragments = 0;
  }
  if (!c->frame_open && ++c->fragments > limits->fragments_max)
    return close_now(c, 1009, "too many fragments");
  c->frame_open = left > 0;
  if (left > limits->frame_max || c->in.len + len + left > limits->frame_max)
    return close_now(c, 1009, "message too large");
  if (first && final) {
    deliver(c, pf_slice(data, len)); /* as it lies in the read buffer */
    return c->doomed ? -1 : 0;
  }
  pf_buf_append(&c->in, data, len);
  if (c->in.err) return close_now(c, 1009, "message too large");
  if (!final) return 0;
  deliver(c, pf_buf_view(&c->in));
  if (c->in.cap > WEB_BODY_KEEP)
    pf_buf_done(&c->in);
  else
    pf_buf_clear(&c->in);
  return c->doomed ? -1 : 0;
}

int socket_on_writeable(struct conn *c) {
  c->writing = false;
  if (c->doomed) return -1;
  size_t len = outbox_left(c);
  if (len == 0) return c->close_code ? close_now(c, c->close_code, c->close_reason) : 0;
  len = outbox_portion(c);
  unsigned char *data = (unsigned char *)c->out.data + c->out_at;
  if (lws_write(c->wsi, data, len, LWS_WRITE_HTTP) < (int)len) return -1;
  c->out_at += len;
  if (outbox_left(c) == 0) outbox_clear(c);
  if (outbox_left(c) || c->close_code) outbox_wake(c);
  return 0;
}

void socket_on_gone(struct conn *c) {
  if (!c->upgraded) return;
  const struct web_handlers *handlers = &c->listener->config.handlers;
  uint64_t id = c->id;
  c->upgraded = false;
  c->listener->web->stats.sockets--;
  conn_release(c);
  handlers->on_ws_close(handlers->arg, id);
}
