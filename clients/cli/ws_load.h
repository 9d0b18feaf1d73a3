/* Fetches through an origin's WebSocket as a load: slots with one fetch under way each, all on one
 * connection.
 *
 * Threads    Everything on the loop given to ws_load_open.
 * Ownership  ws_load_free after `closed`.
 * Ordering   opened, then ws_load_send, then `done` for that slot; closed is the last.
 * Limits     those of ws_client.h */
#ifndef CLI_WS_LOAD_H
#define CLI_WS_LOAD_H

#include "ws_client.h"

struct ws_load;

struct ws_load_handlers {
  void *arg;
  void (*opened)(void *arg);
  /* status 0: no answer came, why says what happened. */
  void (*done)(void *arg, size_t slot, int status, const char *why);
  void (*closed)(void *arg, int err, const char *why);
};

struct ws_load_plan {
  struct ws_url server;
  const char *target, *method;
  const char *include;  /* "body,logs", or NULL */
  struct pf_slice body; /* text; none if empty */
  size_t slots;
};

struct ws_load *ws_load_open(
    uv_loop_t *loop, const struct ws_load_plan *plan, const struct ws_load_handlers *handlers);
void ws_load_send(struct ws_load *load, size_t slot);
void ws_load_close(struct ws_load *load);
void ws_load_free(struct ws_load *load);

#endif
