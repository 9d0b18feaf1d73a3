/* A plain HTTP/1.1 client for load: a fixed number of connections, at most one request under way on
 * each, the bytes of all requests written before. It does as little as possible, so that the server
 * is measured and not the client.
 *
 * Threads    Everything on the loop given to http_load_open.
 * Ownership  http_load_close frees it, when the loop has run. The requests are copied.
 * Ordering   http_load_send, then `done` for that slot, exactly once; it may
 *            come from inside the send if there is no socket to be had.
 * Limits     HTTP_LOAD_HEAD_MAX bytes of response head. Bodies are counted and thrown away. */
#ifndef MEASURE_HTTP_LOAD_H
#define MEASURE_HTTP_LOAD_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "clients/measure/record.h"
#include "clients/ws/ws_client.h"

#define HTTP_LOAD_HEAD_MAX 65536

struct http_load;

struct http_load_handlers {
  void *arg;
  /* status 0: no answer came, why says what happened. */
  void (*done)(void *arg, size_t slot, int status, const char *why);
};

struct http_load_plan {
  struct ws_url url; /* whom to connect to; ws_url_parse takes http:// too */
  /* Their URLs are such that ws_url_parse takes, of the host and port of `url`. A body is sent as
   * JSON. */
  const struct load_request *requests;
  size_t request_count;
  size_t slots;
  bool keep_alive;
};

/* Resolves the name; connections are made when they are needed. Errors: PF_ENET with a text. */
PF_MUST_CHECK int http_load_open(struct http_load **ret_load, uv_loop_t *loop,
    const struct http_load_plan *plan, const struct http_load_handlers *handlers,
    struct pf_error *reterr);
/* The slot must be free; request: index of the plan's. */
void http_load_send(struct http_load *load, size_t slot, size_t request);
/* Requests under way end without `done`. */
void http_load_close(struct http_load *load);

#endif
