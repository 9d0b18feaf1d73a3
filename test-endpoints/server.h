/* The process as an object: listeners, connections, one timer for all of them, and draining.
 *
 * Threads    The loop's.
 * Ownership  The caller keeps struct server in place until the loop has ended.
 * Ordering   server_open, then the loop, server_drain once; the loop ends when the last connection
 *            has gone; then server_done.
 * Limits     struct server_limits. A connection over connections_max is closed at once. */
#ifndef PF_TEST_ENDPOINTS_SERVER_H
#define PF_TEST_ENDPOINTS_SERVER_H

#include <uv.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/listen.h"
#include "respond.h"

#define SERVER_READ_BYTES (64 * 1024)

struct server_limits {
  size_t connections_max;
  size_t head_bytes_max; /* of one request */
  size_t body_bytes_max;
  size_t keys_max;
  int64_t idle_ms;  /* a connection on which nothing moves is closed */
  int64_t drain_ms; /* answers under way may take this long after the first signal */
};

struct server {
  uv_loop_t *loop;
  const struct pf_log *log;
  struct server_limits limits;
  struct lab lab;
  uv_tcp_t listeners[PF_ADDR_MAX];
  unsigned listener_count;
  struct pf_list conns;
  size_t conn_count;
  struct pf_log_limit refused;
  uv_timer_t timer; /* fires at the first deadline of the heap */
  struct pf_heap deadlines;
  uv_timer_t drain_timer;
  bool draining;
  bool closing;                /* the timers are being closed: nothing is left */
  struct http_request request; /* the one being parsed: too large for each connection */
  struct pf_buf out;           /* responses of the current turn of one connection */
  char read[SERVER_READ_BYTES];
};

/* Serves on the listeners, which it takes over. token may be NULL; it must outlive the server. */
PF_MUST_CHECK int server_open(struct server *server, uv_loop_t *loop, const struct pf_log *log,
    const struct server_limits *limits, const char *token, struct pf_listeners *listeners,
    struct pf_error *reterr);
/* Stops accepting, closes idle connections, lets answers finish for drain_ms. */
void server_drain(struct server *server);
/* After the loop has ended. */
void server_done(struct server *server);

/* For connections: calls conn_on_deadline when key (ms of uv_now) has passed. */
void server_deadline_set(struct server *server, struct pf_heap_node *node, int64_t at_ms);
/* For connections: the last use of link. */
void server_conn_gone(struct server *server, struct pf_list *link);

#endif
