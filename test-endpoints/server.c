#include "server.h"

#include <string.h>

#include "conn.h"
#include "routes.h"

/* ---- deadlines ---- */

static void server_on_timer(uv_timer_t *timer);

/* One timer of the loop for all connections. Set again only when the first deadline moves forward.
 */
static void timer_arm(struct server *server) {
  struct pf_heap_node *first = pf_heap_first(&server->deadlines);
  if (!first || server->closing) return;
  int64_t now = (int64_t)uv_now(server->loop);
  uint64_t wait = first->key > now ? (uint64_t)(first->key - now) : 0;
  PF_ASSERT(uv_timer_start(&server->timer, server_on_timer, wait, 0) == 0);
}

static void server_on_timer(uv_timer_t *timer) {
  struct server *server = timer->data;
  int64_t now = (int64_t)uv_now(server->loop);
  struct pf_heap_node *first;
  while ((first = pf_heap_first(&server->deadlines)) != NULL && first->key <= now) {
    pf_heap_del(&server->deadlines, first);
    conn_on_deadline(first, now); /* may set it again, later than now, or close others */
  }
  timer_arm(server);
}

void server_deadline_set(struct server *server, struct pf_heap_node *node, int64_t at_ms) {
  pf_heap_set(&server->deadlines, node, at_ms);
  if (pf_heap_first(&server->deadlines) == node) timer_arm(server);
}

/* ---- start ---- */

static void server_on_connection(uv_stream_t *listener, int status) {
  if (status == 0) conn_accept(listener->data, listener);
}

static int server_listen(struct server *server, int *fd) {
  uv_tcp_t *listener = &server->listeners[server->listener_count];
  int err = uv_tcp_init(server->loop, listener);
  if (err) return err;
  listener->data = server;
  server->listener_count++;
  err = uv_tcp_open(listener, *fd);
  if (err) return err;
  *fd = -1; /* the handle's now */
  return uv_listen((uv_stream_t *)listener, PF_LISTEN_BACKLOG, server_on_connection);
}

int server_open(struct server *server, uv_loop_t *loop, const struct pf_log *log,
    const struct server_limits *limits, const char *token, struct pf_listeners *listeners,
    struct pf_error *reterr) {
  memset(server, 0, sizeof(*server));
  server->loop = loop;
  server->log = log;
  server->limits = *limits;
  pf_list_init(&server->conns);
  pf_heap_init(&server->deadlines);
  /* The echo of a body of control characters is six times as long; headers come on top. */
  size_t out_max = limits->body_bytes_max * 6 + limits->head_bytes_max * 6 + 4 * SERVER_READ_BYTES;
  pf_buf_init(&server->out, PF_BUF_MAX_DEFAULT + out_max);
  lab_init(&server->lab, token, limits->keys_max, out_max);
  int err = uv_timer_init(loop, &server->timer);
  if (!err) err = uv_timer_init(loop, &server->drain_timer);
  PF_ASSERT(err == 0);
  server->timer.data = server->drain_timer.data = server;
  for (unsigned i = 0; !err && i < listeners->bound.count; i++)
    err = server_listen(server, &listeners->fds[i]);
  if (!err) return PF_OK;
  pf_listen_close(listeners);
  server_drain(server);
  return pf_error_set(reterr, PF_ENET, "cannot listen: %s", uv_strerror(err));
}

/* ---- end ---- */

static void server_close_if_empty(struct server *server) {
  if (!server->draining || server->closing || !pf_list_empty(&server->conns)) return;
  server->closing = true;
  uv_close((uv_handle_t *)&server->timer, NULL);
  uv_close((uv_handle_t *)&server->drain_timer, NULL);
}

void server_conn_gone(struct server *server, struct pf_list *link) {
  pf_list_del(link);
  server->conn_count--;
  server_close_if_empty(server);
}

static void server_on_drain_timer(uv_timer_t *timer) {
  struct server *server = timer->data;
  PF_LIST_EACH(link, &server->conns)
    conn_abort(link);
}

void server_drain(struct server *server) {
  if (server->draining) return;
  server->draining = server->lab.draining = true;
  for (unsigned i = 0; i < server->listener_count; i++)
    uv_close((uv_handle_t *)&server->listeners[i], NULL);
  PF_LIST_EACH(link, &server->conns)
    conn_drain(link);
  PF_ASSERT(uv_timer_start(&server->drain_timer, server_on_drain_timer,
                (uint64_t)server->limits.drain_ms, 0) == 0);
  server_close_if_empty(server);
}

void server_done(struct server *server) {
  PF_ASSERT(server->closing && pf_list_empty(&server->conns));
  pf_heap_done(&server->deadlines);
  pf_buf_done(&server->out);
  lab_done(&server->lab);
}
