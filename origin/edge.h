/* The origin's I/O: what the core decides is carried out here with the store, the web server and
 * the HTTP client, and what they report is told to the core.
 *
 * Threads    One loop; the store runs origin_db.c, on its writer thread or on the loop.
 * Ownership  The caller owns struct origin and keeps it until the loop has ended.
 * Ordering   core_flush runs before the loop sleeps and after each batch of I/O.
 * Limits     those of struct origin_config. */
#ifndef ORIGIN_EDGE_H
#define ORIGIN_EDGE_H

#include <stdbool.h>
#include <uv.h>

#include "base/log.h"
#include "http/client.h"
#include "http/peer.h"
#include "loop/lag.h"
#include "loop/signals.h"
#include "origin/core.h"
#include "store/store.h"
#include "web/web.h"

struct origin_config {
  struct pf_listen_addr listen, internal_listen;
  const char *data;         /* directory */
  const char *orchestrator; /* base URL */
  const char *advertise;    /* base URL of the internal listener, NULL = the bound address */
  enum store_sync sync;
  int64_t reserve_bytes;
  const char *const *allowed_origins, *const *allowed_hosts;
  struct core_limits limits;
  struct web_limits web; /* of both listeners, but for */
  unsigned internal_connections_max;
};

struct origin {
  const struct origin_config *config;
  const struct pf_log *log;
  uv_loop_t *loop;
  struct core core;
  struct store *store;
  struct web *web;
  struct http *http;
  struct http_peer *queue; /* POST /v1/jobs */
  struct http_call registration;
  struct pf_buf registration_body;
  char registration_url[HOP_URL_MAX + 64];
  char url[HOP_URL_MAX]; /* of the internal listener, as others are told */
  struct pf_listen_addr bound, internal_bound;
  bool registering, opened, closing;
  int64_t registered_ms; /* last answer */
  bool queue_reached;    /* the last call to the orchestrator was answered */
  int64_t queue_since_ms, opened_ms;
  struct pf_log_limit queue_down_log;
  uv_prepare_t prepare;
  uv_check_t check;
  uv_timer_t tick, beat;
  struct pf_lag lag;
  int64_t tick_ns; /* when the next tick is due, monotonic */
  int open_parts;  /* of web, http, store */
  int open_handles;
  int exit_code;
};

/* Opens everything and starts to serve. On failure what was opened is closed as the loop runs. */
PF_MUST_CHECK int origin_open(struct origin *origin, uv_loop_t *loop,
    const struct origin_config *config, const struct pf_log *log, struct pf_error *reterr);
/* Stops taking work, lets what is under way become durable, closes all. Idempotent. */
void origin_close(struct origin *origin);
/* After the loop has ended. */
void origin_done(struct origin *origin);

/* For api.c: the time, before any call of the core. */
struct core *origin_enter(struct origin *origin);

#endif
