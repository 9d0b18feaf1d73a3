#include "web/conn.h"

#include <stdlib.h>
#include <strings.h>

/* ---- ids ---- */

static bool node_has_id(const struct pf_map_node *node, const void *key) {
  return pf_container_of(node, struct conn, node)->id == *(const uint64_t *)key;
}

struct conn *conn_find(const struct web *web, uint64_t id) {
  struct pf_map_node *node = id ? pf_map_find(&web->ids, pf_hash_u64(id), node_has_id, &id) : NULL;
  return node ? pf_container_of(node, struct conn, node) : NULL;
}

void conn_name(struct conn *c) {
  struct web *web = c->listener->web;
  PF_ASSERT(c->id == 0);
  c->id = ++web->last_id;
  pf_map_put(&web->ids, &c->node, pf_hash_u64(c->id));
}

void conn_release(struct conn *c) {
  if (c->id == 0) return;
  pf_map_del(&c->listener->web->ids, &c->node);
  c->id = 0;
}

/* ---- phases and their timers ---- */

void conn_enter(struct conn *c, enum conn_phase phase) {
  c->phase = phase;
  c->since_ms = uv_now(c->listener->web->loop);
  pf_list_del(&c->link);
  pf_list_push(&c->listener->phases[phase], &c->link);
}

void conn_doom(struct conn *c) {
  c->doomed = true;
  if (c->phase == CONN_CLOSING) return;
  conn_enter(c, CONN_CLOSING);
  lws_callback_on_writable(c->wsi);
}

void conn_kill(struct conn *c) {
  c->doomed = true;
  conn_enter(c, CONN_CLOSING);
  lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
}

/* A body may come slowly, but not so slowly that holding many connections costs nothing. */
static bool body_too_slow(const struct conn *c, uint64_t now_ms) {
  uint64_t ms = now_ms - c->since_ms;
  if (ms <= WEB_BODY_GRACE_S * 1000) return false;
  return c->in.len <
         (ms - WEB_BODY_GRACE_S * 1000) * c->listener->config.limits.body_bytes_per_s / 1000;
}

static void conn_expire(struct conn *c) {
  switch (c->phase) {
  case CONN_OPEN:
    socket_ping(c);
    return;
  case CONN_HEADER:
  case CONN_BODY:
    (void)response_refuse(
        c, 408, "timeout", "the request came too slowly"); /* it is closed anyway */
    break;
  default:
    break;
  }
  conn_kill(c);
}

void conn_timers(struct web_listener *l, uint64_t now_ms) {
  const struct web_limits *limits = &l->config.limits;
  const struct {
    enum conn_phase phase;
    int after_s;
  } timers[] = {{CONN_HEADER, limits->header_s}, {CONN_IDLE, WEB_IDLE_S},
      {CONN_RESPOND, WEB_STALL_S}, {CONN_PINGED, limits->pong_s}, {CONN_OPEN, limits->ping_s},
      {CONN_CLOSING, WEB_CLOSE_S}};
  for (size_t i = 0; i < PF_COUNT(timers); i++) {
    PF_LIST_EACH(it, &l->phases[timers[i].phase]) {
      struct conn *c = pf_container_of(it, struct conn, link);
      if (now_ms - c->since_ms < (uint64_t)timers[i].after_s * 1000)
        break; /* the rest is younger */
      conn_expire(c);
    }
  }
  PF_LIST_EACH(it, &l->phases[CONN_BODY]) {
    struct conn *c = pf_container_of(it, struct conn, link);
    if (body_too_slow(c, now_ms)) conn_expire(c);
  }
}

/* ---- callbacks of lws ---- */

static void conn_on_gone(struct conn *c) {
  struct web_listener *l = c->listener;
  lws_set_opaque_user_data(c->wsi, NULL);
  socket_on_gone(c);
  conn_release(c);
  pf_list_del(&c->link);
  pf_buf_done(&c->in);
  pf_buf_done(&c->out);
  l->connections--;
  l->web->stats.connections--;
  free(c);
}

static int conn_dispatch(struct conn *c, enum lws_callback_reasons reason, void *in, size_t len) {
  switch (reason) {
  case LWS_CALLBACK_FILTER_HTTP_CONNECTION:
    return request_on_headers(c);
  case LWS_CALLBACK_HTTP:
    return request_on_begin(c);
  case LWS_CALLBACK_HTTP_BODY:
    return request_on_body(c, in, len);
  case LWS_CALLBACK_HTTP_BODY_COMPLETION:
    return request_on_complete(c);
  case LWS_CALLBACK_HTTP_WRITEABLE:
    return response_on_writeable(c);
  case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
    if (strcasecmp(in, "websocket") != 0) /* lws would go on in HTTP/2 */
      return response_refuse(c, 400, "bad_request", "only WebSocket is spoken here");
    return 0;
  case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    return socket_on_upgrade(c);
  case LWS_CALLBACK_ESTABLISHED:
    socket_on_established(c);
    return 0;
  case LWS_CALLBACK_RECEIVE:
    return socket_on_receive(c, in, len);
  case LWS_CALLBACK_RECEIVE_PONG:
    socket_on_alive(c);
    return 0;
  case LWS_CALLBACK_SERVER_WRITEABLE:
    return socket_on_writeable(c);
  case LWS_CALLBACK_CLOSED:
    socket_on_gone(c);
    return 0;
  case LWS_CALLBACK_RAW_ADOPT: /* CONNECT makes lws leave HTTP */
  case LWS_CALLBACK_RAW_RX:
  case LWS_CALLBACK_RAW_WRITEABLE:
    return -1;
  default:
    return 0;
  }
}

static int web_on_event(
    struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len) {
  (void)user;
  struct conn *c = wsi ? lws_get_opaque_user_data(wsi) : NULL;
  if (!c) return 0; /* a wsi of lws itself, or one that is still being adopted */
  if (reason == LWS_CALLBACK_WSI_DESTROY) {
    conn_on_gone(c);
    return 0;
  }
  return conn_dispatch(c, reason, in, len);
}

/* The first serves HTTP and clients that ask for no subprotocol. */
const struct lws_protocols web_protocols[] = {
    {.name = "http",
        .callback = web_on_event,
        .rx_buffer_size = WEB_IO_BYTES,
        .tx_packet_size = WEB_IO_BYTES},
    {.name = WEB_SUBPROTOCOL,
        .callback = web_on_event,
        .rx_buffer_size = WEB_IO_BYTES,
        .tx_packet_size = WEB_IO_BYTES},
    {0},
};
