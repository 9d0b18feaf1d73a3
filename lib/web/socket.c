#include "web/socket.h"

#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
  FRAME_TEXT = 0x81,
  FRAME_CLOSE = 0x88,
  FRAME_PING = 0x89,
  FRAME_HEAD_MAX = 10,
  CLOSE_PAYLOAD_MAX = 125,
  CONTROL_ROOM = 2 * (FRAME_HEAD_MAX + CLOSE_PAYLOAD_MAX), /* in a full outbox: a ping, a close */
};

struct socket {
  struct conn base;
  struct lws *wsi;
  struct pf_buf in;  /* a message in fragments */
  struct pf_buf out; /* LWS_PRE bytes of room, then frames; or empty */
  size_t out_at;     /* what lies before has been written */
  bool established;
  bool writing;    /* WRITEABLE has been asked for */
  bool frame_open; /* more of the current frame is to come */
  bool closing;    /* a close frame is in the outbox, or behind it, or has come */
  unsigned fragments;
};

static struct socket *socket_of(struct conn *c) {
  return pf_container_of(c, struct socket, base);
}

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

static size_t outbox_left(const struct socket *s) {
  return s->out.len - s->out_at;
}

static void outbox_clear(struct socket *s) {
  if (s->out.cap > WEB_IO_BYTES)
    pf_buf_done(&s->out);
  else
    pf_buf_clear(&s->out);
  s->out_at = 0;
  conn_unread(&s->base, 0);
}

/* Whole frames, up to one write's worth, at least one: between two writes lws may put a pong. */
static size_t outbox_portion(const struct socket *s) {
  size_t left = outbox_left(s), len = 0;
  while (len < left) {
    size_t size = frame_size((const unsigned char *)s->out.data + s->out_at + len);
    if (len && len + size > WEB_IO_BYTES) break;
    len += size;
  }
  PF_ASSERT(len <= left);
  return len;
}

static void outbox_wake(struct socket *s) {
  if (s->writing || !s->established) return;
  s->writing = true;
  lws_callback_on_writable(s->wsi);
}

static void outbox_append(struct socket *s, unsigned char first, struct pf_slice payload) {
  unsigned char head[FRAME_HEAD_MAX];
  size_t head_len = frame_head(head, first, payload.len);
  if (s->out.len == 0) { /* room for lws before the first byte, which also marks an outbox in use */
    s->out_at = LWS_PRE;
    if (pf_buf_reserve(&s->out, LWS_PRE + head_len + payload.len)) s->out.len = LWS_PRE;
  } else if (s->out_at > s->out.cap / 2) { /* a socket that is never quite empty */
    pf_buf_consume(&s->out, s->out_at - LWS_PRE);
    s->out_at = LWS_PRE;
  }
  pf_buf_append(&s->out, head, head_len);
  pf_buf_slice(&s->out, payload);
  conn_unread(&s->base, outbox_left(s));
  outbox_wake(s);
}

/* ---- for the application ---- */

static struct socket *socket_find(const struct web *web, uint64_t ws) {
  struct conn *c = conn_find(web, ws);
  return c && conn_is_socket(c) ? socket_of(c) : NULL;
}

static void socket_close(struct socket *s, int code, const char *reason) {
  if (s->closing) return;
  unsigned char payload[CLOSE_PAYLOAD_MAX] = {(unsigned char)(code >> 8), (unsigned char)code};
  size_t len = reason ? strnlen(reason, sizeof(payload) - 2) : 0;
  memcpy(payload + 2, reason ? reason : "", len);
  outbox_append(s, FRAME_CLOSE, pf_slice(payload, len + 2));
  s->closing = true;
  conn_enter(&s->base, CONN_CLOSING); /* until the client has answered */
}

/* Gives up a client that does not read: it is told so, should it ever read again. */
static void socket_stall(struct conn *base) {
  struct socket *s = socket_of(base);
  outbox_clear(s); /* what it has not read by now would only keep the close from it */
  if (s->closing) return;
  base->listener->web->stats.slow_readers++;
  socket_close(s, 1013, "reading too slowly");
}

void web_ws_send(struct web *web, uint64_t ws, struct pf_slice text) {
  struct socket *s = socket_find(web, ws);
  if (!s || s->closing) return;
  if (outbox_left(s) + FRAME_HEAD_MAX + text.len <= s->base.listener->config.limits.outbox_max) {
    web->stats.frames_out++;
    outbox_append(s, FRAME_TEXT, text);
    if (!s->out.err) {
      conn_make_room(&s->base);
      return;
    }
  }
  socket_stall(&s->base);
}

void web_ws_close(struct web *web, uint64_t ws, int code, const char *reason) {
  struct socket *s = socket_find(web, ws);
  if (s) socket_close(s, code, reason);
}

size_t web_ws_backlog(const struct web *web, uint64_t ws) {
  const struct socket *s = socket_find(web, ws);
  return s ? outbox_left(s) : 0;
}

/* ---- life ---- */

static void socket_expire(struct conn *base) {
  struct socket *s = socket_of(base);
  if (s->base.phase == CONN_OPEN && s->established) {
    outbox_append(s, FRAME_PING, pf_slice("pf", 2)); /* lws does not report an empty pong */
    conn_enter(&s->base, CONN_PINGED);
    return;
  }
  conn_enter(&s->base, CONN_CLOSING); /* lws may need another while */
  /* lws first wants to get rid of what the kernel has not taken: it never will, and so fails now.
   */
  conn_give_up(lws_get_socket_fd(s->wsi));
  (void)shutdown(lws_get_socket_fd(s->wsi), SHUT_RDWR);
  lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
}

static void socket_stop(struct conn *base) {
  socket_close(socket_of(base), 1001, "this server is stopping");
}

static const struct conn_kind socket_kind = {
    .expire = socket_expire, .stall = socket_stall, .stop = socket_stop};

static void socket_free(struct socket *s) {
  conn_done(&s->base);
  pf_buf_done(&s->in);
  pf_buf_done(&s->out);
  free(s);
}

int socket_new(struct web_listener *l, struct pf_slice path, struct socket **ret_socket) {
  const struct web_limits *limits = &l->config.limits;
  const struct web_handlers *handlers = &l->config.handlers;
  if (!handlers->on_ws_open) return 404;
  struct socket *s = pf_alloc(sizeof(*s));
  pf_buf_init(&s->in, limits->frame_max);
  pf_buf_init(&s->out, LWS_PRE + limits->outbox_max + CONTROL_ROOM);
  conn_init(&s->base, &socket_kind, l, CONN_OPEN);
  conn_name(&s->base);
  int status = handlers->on_ws_open(handlers->arg, s->base.id, path);
  if (status) {
    socket_free(s);
    return status;
  }
  l->web->stats.sockets_opened++;
  l->web->stats.sockets++;
  *ret_socket = s;
  return 0;
}

static void socket_gone(struct socket *s) {
  struct web *web = s->base.listener->web;
  const struct web_handlers *handlers = &s->base.listener->config.handlers;
  uint64_t id = s->base.id;
  if (web->adopting == s) web->adopting = NULL;
  web->stats.sockets--;
  socket_free(s);
  handlers->on_ws_close(handlers->arg, id);
}

void socket_adopt(
    struct socket *s, int fd, struct pf_slice key, bool subprotocol, struct pf_slice early) {
  struct web *web = s->base.listener->web;
  struct pf_buf request;
  pf_buf_init(&request, PF_BUF_MAX_DEFAULT);
  pf_buf_str(&request, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                       "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
  if (subprotocol) pf_buf_str(&request, "Sec-WebSocket-Protocol: " WEB_SUBPROTOCOL "\r\n");
  pf_buf_str(&request, "Sec-WebSocket-Key: ");
  pf_buf_slice(&request, key);
  pf_buf_str(&request, "\r\n\r\n");
  pf_buf_slice(&request, early);
  web->adopting = s; /* lws handles the request before it returns */
  struct lws *wsi =
      lws_adopt_socket_vhost_readbuf(s->base.listener->vhost, fd, request.data, request.len);
  pf_buf_done(&request);
  if (!wsi && web->adopting == s && !s->wsi) socket_gone(s); /* lws has closed fd */
  web->adopting = NULL;
}

/* ---- callbacks of lws ---- */

static void socket_alive(struct socket *s) {
  bool news = s->base.since_ms != uv_now(s->base.listener->web->loop);
  if (s->base.phase == CONN_PINGED || (s->base.phase == CONN_OPEN && news))
    conn_enter(&s->base, CONN_OPEN);
}

static void on_established(struct socket *s) {
  lws_set_timeout(s->wsi, NO_PENDING_TIMEOUT, 0); /* our own timer watches */
  s->established = true;
  if (s->out.len) outbox_wake(s);
}

/* Ends a socket that breaks a rule. lws closes without a frame if it is told to from here. */
static int refuse(struct socket *s, int code, const char *reason) {
  socket_close(s, code, reason);
  pf_buf_done(&s->in);
  return 0;
}

static void deliver(struct socket *s, struct pf_slice text) {
  const struct web_handlers *handlers = &s->base.listener->config.handlers;
  s->base.listener->web->stats.frames_in++;
  handlers->on_ws_message(handlers->arg, s->base.id, text);
}

static int on_receive(struct socket *s, const char *data, size_t len) {
  const struct web_limits *limits = &s->base.listener->config.limits;
  socket_alive(s);
  if (s->closing) return 0; /* nobody listens any more */
  size_t left = lws_remaining_packet_payload(s->wsi);
  bool first = lws_is_first_fragment(s->wsi), final = lws_is_final_fragment(s->wsi);
  if (lws_frame_is_binary(s->wsi)) return refuse(s, 1003, "text only");
  if (first) {
    pf_buf_clear(&s->in);
    s->fragments = 0;
  }
  if (!s->frame_open && ++s->fragments > limits->fragments_max)
    return refuse(s, 1009, "too many fragments");
  s->frame_open = left > 0;
  if (left > limits->frame_max || s->in.len + len + left > limits->frame_max)
    return refuse(s, 1009, "message too large");
  if (first && final) {
    deliver(s, pf_slice(data, len)); /* as it lies in the read buffer */
    return 0;
  }
  pf_buf_append(&s->in, data, len);
  if (s->in.err == PF_ENOMEM) return refuse(s, 1013, "out of memory");
  PF_ASSERT(!s->in.err); /* its limit has been looked at */
  if (!final) return 0;
  deliver(s, pf_buf_view(&s->in));
  if (s->in.cap > WEB_KEEP_BYTES)
    pf_buf_done(&s->in);
  else
    pf_buf_clear(&s->in);
  return 0;
}

/* The answer to our close, or theirs, which lws answers: what comes behind it is not heard. */
static int on_close(struct socket *s) {
  if (s->closing) return -1;
  s->closing = true;
  conn_enter(&s->base, CONN_CLOSING);
  return 0;
}

static int on_writeable(struct socket *s) {
  s->writing = false;
  if (outbox_left(s) == 0) return 0; /* it also comes unasked */
  size_t len = outbox_portion(s);
  unsigned char *data = (unsigned char *)s->out.data + s->out_at;
  if (lws_write(s->wsi, data, len, LWS_WRITE_HTTP) < (int)len) return -1;
  s->out_at += len;
  if (outbox_left(s) == 0) {
    outbox_clear(s);
  } else {
    conn_unread(&s->base, outbox_left(s));
    outbox_wake(s);
  }
  return 0;
}

static int on_event(
    struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len) {
  (void)user;
  if (!wsi) return 0;
  struct socket *s = lws_get_opaque_user_data(wsi);
  struct web *web = lws_context_user(lws_get_context(wsi));
  if (!s && reason == LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED && web->adopting) {
    s = web->adopting;
    s->wsi = wsi;
    lws_set_opaque_user_data(wsi, s);
  }
  if (!s) return 0; /* a wsi of lws itself */
  switch (reason) {
  case LWS_CALLBACK_ESTABLISHED:
    on_established(s);
    return 0;
  case LWS_CALLBACK_RECEIVE:
    return on_receive(s, in, len);
  case LWS_CALLBACK_RECEIVE_PONG:
    socket_alive(s);
    return 0;
  case LWS_CALLBACK_SERVER_WRITEABLE:
    return on_writeable(s);
  case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
    return on_close(s);
  case LWS_CALLBACK_WSI_DESTROY:
    lws_set_opaque_user_data(wsi, NULL);
    socket_gone(s);
    return 0;
  default:
    return 0;
  }
}

/* The first serves clients that ask for no subprotocol. */
static const struct lws_protocols protocols[] = {
    {.name = "none",
        .callback = on_event,
        .rx_buffer_size = WEB_RX_BYTES,
        .tx_packet_size = WEB_IO_BYTES},
    {.name = WEB_SUBPROTOCOL,
        .callback = on_event,
        .rx_buffer_size = WEB_RX_BYTES,
        .tx_packet_size = WEB_IO_BYTES},
    {0},
};

const struct lws_protocols *socket_protocols(void) {
  return protocols;
}
