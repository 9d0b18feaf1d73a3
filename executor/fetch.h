/* External requests: one attempt each, with time budgets, size caps, egress rules and evidence of
 * what has happened. Redirects are followed here, hop by hop, never by libcurl.
 *
 *   QUEUED -> RESOLVING -> DIALING -> SENT -> BODY -> ended
 *               ^ a redirect starts the next hop here
 *
 * This is the only code that dials addresses which strangers chose. It shares no connection, handle
 * or multi with the calls between our own processes (http/client.h).
 *
 * Threads    Everything on the loop given to fetch_engine_new().
 * Ownership  The caller owns struct fetch and what its request points to, in place until done or
 *            fetch_cancel; afterwards the result, until fetch_release.
 * Ordering   done comes from the loop, never from inside fetch_start.
 * Limits     struct fetch_limits; FETCH_STARTS_PER_TURN new transfers in a turn of the loop,
 *            FETCH_PER_MULTI in one multi of libcurl; the caller bounds how many there are. */
#ifndef PF_EXECUTOR_FETCH_H
#define PF_EXECUTOR_FETCH_H

#include <uv.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/id.h"
#include "executor/dns.h"
#include "executor/egress.h"
#include "executor/redirect.h"
#include "executor/timers.h"
#include "wire/hop.h"
#include "wire/outcome.h"
#include "wire/request.h"

#define FETCH_STARTS_PER_TURN 64
#define FETCH_PER_MULTI 600
#define FETCH_HEADERS_MAX HOP_HEADERS_MAX
#define FETCH_HEADER_BYTES_MAX 65536
/* From FETCH_RATIO_BYTES on a decoded body may be at most FETCH_RATIO_MAX times what arrived. */
#define FETCH_RATIO_BYTES (1 << 20)
#define FETCH_RATIO_MAX 200
#define FETCH_ERROR_MAX 512

struct fetch_engine;
struct fetch;

struct fetch_limits {
  int64_t dns_ms, connect_ms, idle_ms;
  size_t body_max;     /* bytes of one decoded body */
  size_t buffered_max; /* bytes of all bodies that are held */
  size_t transfers_max;
};

struct fetch_config {
  struct fetch_limits limits;
  const struct egress_rules *rules;
  const char *ca_file; /* NULL = the system's */
  struct dns_config dns;
  /* Asked right before the first byte of a request leaves: may this process still act? */
  bool (*may_send)(void *arg, const struct fetch *fetch);
  void *arg;
};

struct fetch {
  struct wire_request request; /* redirects change it */
  struct pf_arena *arena;      /* for what the fetch has to keep */
  struct pf_job_id job;        /* sent as X-Job-Id */
  int64_t attempt_ms;
  int64_t taken_ns; /* when the job arrived, for timings.dispatch; 0 = at fetch_start */
  void (*done)(struct fetch *fetch);

  /* Result, valid from done to fetch_release: */
  enum outcome outcome; /* OUTCOME_OK for every complete answer, whatever its status */
  enum certainty certainty;
  bool lapsed;                 /* may_send said no: nothing of this fetch may be reported */
  int status;                  /* 0 = none */
  char error[FETCH_ERROR_MAX]; /* for the client; empty if ok */
  int64_t response_length;     /* decoded bytes */
  struct wire_header *headers; /* if the request wants them */
  size_t header_count;
  struct pf_buf body; /* if the request wants it */
  int64_t retry_after_ms;
  bool reused;
  struct hop_timings timings; /* all but queue */

  struct fetch_engine *engine; /* from here on private */
  enum fetch_state {
    FETCH_IDLE,
    FETCH_QUEUED,
    FETCH_RESOLVING,
    FETCH_DIALING,
    FETCH_SENT,
    FETCH_BODY,
    FETCH_STATES
  } state;
  struct pf_list link; /* in engine.queued */
  struct timer timer;
  struct dns_wait dns_wait;
  struct target target;
  struct handle *handle;
  int64_t stage_ns, attempt_at_ms, active_at_ms;
  unsigned hops, sends; /* sends: times the request of this hop was about to leave */
  bool sent_before;     /* an earlier hop has sent something */
  bool dialed, follows; /* a socket was opened; the answer is a redirect to be followed */
  bool headers_complete, encoded, decodes;
  enum outcome verdict;         /* why a callback broke the transfer off; OUTCOME_OK = it did not */
  char reason[EGRESS_TEXT_MAX]; /* words that go with verdict or a refused address */
  size_t header_bytes;
  struct pf_slice location;
};

PF_MUST_CHECK int fetch_engine_new(
    struct fetch_engine **ret_engine, uv_loop_t *loop, const struct fetch_config *config);
/* request, arena, job, attempt_ms and done are set, the rest is zero. */
void fetch_start(struct fetch_engine *engine, struct fetch *fetch);
/* done will not come. Harmless if the fetch is not under way. Not from inside may_send. */
void fetch_cancel(struct fetch *fetch);
/* Frees the body of the result. */
void fetch_release(struct fetch *fetch);
/* Bytes of bodies that are held now. */
size_t fetch_buffered(const struct fetch_engine *engine);
struct fetch_stats {
  uint64_t opened, reused;     /* sockets; requests on a connection that was used before */
  uint64_t transfers, sockets; /* now */
  struct dns_stats dns;
};
void fetch_read_stats(const struct fetch_engine *engine, struct fetch_stats *ret_stats);
/* No fetch is under way. Calls closed later; engine is gone when it returns. */
void fetch_engine_close(struct fetch_engine *engine, void (*closed)(void *arg), void *arg);

#endif
