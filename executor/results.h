/* Results to origins: each goes to the origin that made the job, wherever that is by now, until it
 * has been taken for good.
 *
 * One that nobody takes is given up after its time: the failed try that comes then is the last.
 *
 * An origin is known by its id; its address comes with the jobs and, when nobody answers there or
 * somebody else does, from the orchestrator (GET /v1/origins/{id}).
 *
 * Threads    Everything on the loop of the http given.
 * Ownership  The caller owns struct result_call and its item's head and body, in place until done.
 * Ordering   none
 * Limits     RESULTS_ORIGINS_MAX origins are remembered while nothing is due to them. */
#ifndef PF_EXECUTOR_RESULTS_H
#define PF_EXECUTOR_RESULTS_H

#include "base/log.h"
#include "executor/timers.h"
#include "http/client.h"
#include "http/peer.h"
#include "wire/hop.h"

#define RESULTS_ORIGINS_MAX 1024
#define RESULTS_BACKOFF_MIN_MS 50
#define RESULTS_BACKOFF_MAX_MS 5000

struct results;
struct result_origin;

struct result_call {
  struct http_item item; /* head and body are set by the caller */
  int64_t until_ms;      /* pf_clock_mono_ms() at which it is given up, if no try has helped */
  /* The origin has taken it: accepted, duplicate, stale or unknown. Or `retry`: it is given up. */
  void (*done)(struct result_call *call, enum hop_result_answer answer);
  struct result_origin *origin; /* private */
};

struct results_config {
  struct http *http;
  struct timers *timers;
  const struct pf_log *log;
  const char *orchestrator; /* base URL; kept by the caller */
};

struct results *results_new(const struct results_config *config);
/* Where an origin is, as the orchestrator says. */
void results_learn(struct results *results, uint64_t origin, const char *url);
void results_send(struct results *results, uint64_t origin, struct result_call *call);
struct results_stats {
  uint64_t failures;   /* calls parked because they were not taken */
  size_t held, parked; /* not done; and waiting, among them */
};
void results_read_stats(const struct results *results, struct results_stats *ret_stats);
/* Calls that are not done are forgotten: their done will not come. */
void results_free(struct results *results);

#endif
