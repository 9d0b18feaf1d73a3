/* Fetches through an origin's WebSocket as a load: slots with one fetch under way each, spread in
 * turns over the sockets of `clients`; or each fetch on a socket of its own.
 *
 * Threads    Everything on the loop given to ws_load_open.
 * Ownership  ws_load_free after the loop has run out.
 * Ordering   opened, when all sockets stand; then ws_load_send, then `done` for that slot. lost, at
 *            most once: a socket of `clients` is gone, and no slot of it will end.
 * Limits     those of ws_client.h; WS_LOAD_CLIENTS_MAX sockets */
#ifndef MEASURE_WS_LOAD_H
#define MEASURE_WS_LOAD_H

#include "clients/measure/record.h"
#include "clients/ws/ws_client.h"

#define WS_LOAD_CLIENTS_MAX 10000

struct ws_load;

struct ws_load_handlers {
  void *arg;
  void (*opened)(void *arg);
  /* status 0: no answer came, why says what happened. */
  void (*done)(void *arg, size_t slot, int status, const char *why);
  void (*lost)(void *arg, int err, const char *why);
};

struct ws_load_plan {
  struct ws_url server;
  const struct load_request *requests; /* bodies are text */
  size_t request_count;
  const char *include; /* "body,logs", or NULL */
  size_t slots;
  size_t clients;
  bool fresh; /* a socket for each fetch; clients counts for nothing */
};

struct ws_load *ws_load_open(
    uv_loop_t *loop, const struct ws_load_plan *plan, const struct ws_load_handlers *handlers);
/* The slot must be free; request: index of the plan's. */
void ws_load_send(struct ws_load *load, size_t slot, size_t request);
/* Fetches under way end without `done`. */
void ws_load_close(struct ws_load *load);
void ws_load_free(struct ws_load *load);

#endif
