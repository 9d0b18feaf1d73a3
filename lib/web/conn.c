#include <sys/socket.h>

#include "web/conn.h"

void web_handle_gone(struct web *web) {
  PF_ASSERT(web->handles > 0);
  if (--web->handles == 0) web->finish(web);
}

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
  PF_ASSERT((phase >= CONN_OPEN) == conn_is_socket(c));
  c->phase = phase;
  c->since_ms = uv_now(c->listener->web->loop);
  pf_list_del(&c->link);
  pf_list_push(&c->listener->phases[phase], &c->link);
}

void conn_init(struct conn *c, const struct conn_kind *kind, struct web_listener *listener,
    enum conn_phase phase) {
  c->kind = kind;
  c->listener = listener;
  c->phase = phase;
  pf_list_init(&c->link);
  pf_list_init(&c->unread);
  conn_enter(c, phase);
  listener->connections++;
  listener->web->stats.connections++;
}

void conn_done(struct conn *c) {
  conn_release(c);
  conn_unread(c, 0);
  pf_list_del(&c->link);
  PF_ASSERT(c->listener->connections > 0);
  c->listener->connections--;
  c->listener->web->stats.connections--;
}

/* ---- what waits for clients ---- */

void conn_unread(struct conn *c, size_t bytes) {
  struct web_listener *l = c->listener;
  bool moves = bytes < c->unread_bytes || c->unread_bytes == 0;
  l->unread_bytes += bytes - c->unread_bytes;
  l->web->stats.unread += bytes - c->unread_bytes;
  c->unread_bytes = bytes;
  if (!moves) return;
  pf_list_del(&c->unread);
  if (bytes == 0) return;
  c->unread_ms = uv_now(l->web->loop);
  pf_list_push(&l->unread, &c->unread);
}

void conn_give_up(int fd) {
  const struct linger none = {.l_onoff = 1};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)); /* else it takes longer */
}

void conn_make_room(struct conn *c) {
  struct web_listener *l = c->listener;
  while (l->unread_bytes > l->config.limits.unread_max) {
    struct conn *oldest = pf_container_of(l->unread.next, struct conn, unread);
    if (oldest == c) return; /* its own limits bound it */
    oldest->kind->stall(oldest);
  }
}

static void conn_stall_timers(struct web_listener *l, uint64_t now_ms) {
  while (!pf_list_empty(&l->unread)) {
    struct conn *c = pf_container_of(l->unread.next, struct conn, unread);
    if (now_ms - c->unread_ms < (uint64_t)l->config.limits.stall_s * 1000) break;
    c->kind->stall(c);
  }
}

void conn_timers(struct web_listener *l, uint64_t now_ms) {
  const struct web_limits *limits = &l->config.limits;
  const struct {
    enum conn_phase phase;
    int after_s;
  } timers[] = {{CONN_HEADER, limits->header_s}, {CONN_IDLE, limits->idle_s},
      {CONN_LINGER, WEB_LINGER_S}, {CONN_PINGED, limits->pong_s}, {CONN_OPEN, limits->ping_s},
      {CONN_CLOSING, limits->close_s}};
  for (size_t i = 0; i < PF_COUNT(timers); i++) {
    struct pf_list *phase = &l->phases[timers[i].phase];
    while (!pf_list_empty(phase)) { /* not a walk: a handler may move any connection meanwhile */
      struct conn *c = pf_container_of(phase->next, struct conn, link);
      if (now_ms - c->since_ms < (uint64_t)timers[i].after_s * 1000)
        break; /* the rest is younger */
      c->kind->expire(c);
    }
  }
  conn_stall_timers(l, now_ms);
}
