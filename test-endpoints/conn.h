/* One client connection: reads requests, follows the plan of each answer, closes as the plan says.
 *
 *            ┌──────────────── answer sent, keep ───────────────┐
 *            ▼                                                  │
 *   accept ─► HEAD ── head complete ──► BODY ── body complete ─► ANSWER ── close ──► LINGER ─►
 * CLOSED └── head of a request without a body ────────────┘                             ▲ any
 * state: error, end of input, deadline, RST, drain ──────────────────────────┘
 *
 * An answer without pauses never leaves HEAD: all responses to one read leave in one write.
 *
 * Threads    The loop's.
 * Ownership  A connection frees itself after its close callback.
 * Ordering   Requests are answered one after the other (pipelining).
 * Limits     Of struct server_limits; CONN_INPUT_MAX bytes are read ahead of an answer under way.
 */
#ifndef PF_TEST_ENDPOINTS_CONN_H
#define PF_TEST_ENDPOINTS_CONN_H

#include "server.h"

#define CONN_INPUT_MAX ((size_t)256 * 1024)
#define CONN_LINGER_MS 1000

struct conn;

/* Accepts one connection from the listener. */
void conn_accept(struct server *server, uv_stream_t *listener);
/* Its deadline (see server_deadline_set) has come. */
void conn_on_deadline(struct pf_heap_node *node, int64_t now_ms);
/* Draining: closes the connection if it does nothing. */
void conn_drain(struct pf_list *link);
/* Closes it whatever it does; harmless if it is closing already. */
void conn_abort(struct pf_list *link);

#endif
