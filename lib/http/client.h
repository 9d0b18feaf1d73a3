/* Outgoing HTTP/1.1 between our own processes: libcurl's multi interface on a libuv loop.
 *
 * This is the control plane. It dials only addresses that the operator or the registry gave, never
 * the URL of a job; those go through executor/fetch.h, with handles and rules of its own.
 *
 * Threads    Everything on the loop given to http_new().
 * Ownership  The caller owns struct http_call and its url and body, and keeps them in place from
 *            http_start() until done has been called; done may free or start it again.
 * Ordering   none between calls.
 * Limits     response_max bytes of answer; timeout_ms for the whole call.
 * A request is sent once: libcurl's own silent repetition on a dead kept-alive connection is
 * switched off (the call then fails with PF_ENET, and the sender's retry rule decides). */
#ifndef PF_HTTP_CLIENT_H
#define PF_HTTP_CLIENT_H

#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"

struct http;

#define HTTP_TIMEOUT_MS_DEFAULT 5000
#define HTTP_RESPONSE_MAX_DEFAULT ((size_t)16 << 20)
#define HTTP_CONTENT_BATCH "application/x-proxyfetch-batch"
#define HTTP_CONTENT_JSON "application/json"

struct http_call {
  const char *method; /* a literal: "GET", "POST", "PUT", "DELETE" */
  const char *url;
  const char *content_type; /* NULL without a body */
  struct pf_slice body;
  int64_t timeout_ms;  /* 0 = default */
  size_t response_max; /* 0 = default */
  void (*done)(struct http_call *call);
  void *arg;

  /* Result, valid in done: */
  int err;    /* PF_OK (any status), PF_ENET, PF_ETIMEOUT, PF_ELIMIT, PF_ENOMEM, PF_ECANCEL */
  int status; /* HTTP status if err is PF_OK */
  struct pf_buf response; /* freed after done returns */
  char error[128];        /* what went wrong, for the log */

  struct http_transfer *priv;
};

PF_MUST_CHECK int http_new(struct http **ret_http, uv_loop_t *loop);
/* done is always called, later, never from inside http_start. */
void http_start(struct http *http, struct http_call *call);
/* The call ends with PF_ECANCEL (done is called, later). Harmless if it is not under way. */
void http_cancel(struct http *http, struct http_call *call);
/* Cancels all calls, then calls closed (or nothing, if it is NULL); http is gone when it returns. A
 * call started from now on ends with PF_ECANCEL too. */
void http_close(struct http *http, void (*closed)(void *arg), void *arg);

/* Work to be done once at the end of the present turn, however often it is asked for: what many
 * callbacks of a turn have queued up leaves as one batch. Owned by the caller until run. */
struct http_soon {
  struct pf_list link; /* pf_list_init() before first use */
  void (*run)(struct http_soon *soon);
};
void http_soon(struct http *http, struct http_soon *soon);
/* Harmless if it is not waiting. */
void http_soon_cancel(struct http_soon *soon);

#endif
