/* The process: what its parts share. Everything runs on one loop.
 *
 *   api.c      what the orchestrator and operators say here
 *   control.c  the heartbeats that keep the lease
 *   job.c      the life of one job in this process
 *   results.c  results to the origins that want them
 *   fetch.c    the request itself */
#ifndef PF_EXECUTOR_APP_H
#define PF_EXECUTOR_APP_H

#include <uv.h>

#include "base/log.h"
#include "base/map.h"
#include "executor/config.h"
#include "executor/egress.h"
#include "executor/fetch.h"
#include "executor/lease.h"
#include "executor/results.h"
#include "executor/seen.h"
#include "executor/timers.h"
#include "http/client.h"
#include "http/peer.h"
#include "loop/lag.h"
#include "loop/signals.h"
#include "web/web.h"

struct control;

/* STARTING: START is being asked for; REPORTING: the queue has to hear how it ended. */
enum job_state { JOB_STARTING, JOB_FETCHING, JOB_DELIVERING, JOB_REPORTING, JOB_STATES };

struct app_stats {
  uint64_t dispatches[HOP_EXECUTE_REFUSED + 1]; /* by hop_execute_answer */
  uint64_t attempts[OUTCOME_COUNT];
  uint64_t starts[2]; /* no, go */
  uint64_t deliveries[HOP_RESULT_RETRY + 1];
  uint64_t retries, undelivered, aborted, lapsed, report_failures, heartbeat_failures,
      invariant_failures;
};

#define APP_URL_MAX (HOP_URL_MAX + 64)

struct app {
  struct config config;
  struct egress_rules rules;
  struct pf_log log;
  uv_loop_t loop;
  struct pf_signals signals;
  struct timers timers;
  struct web *web;
  struct http *http;
  struct fetch_engine *engine;
  struct results *results;
  struct control *control;
  uint64_t id, incarnation; /* id: of the advertised URL; incarnation: of this start */
  char url[HOP_URL_MAX];    /* as advertised */
  size_t slots;
  unsigned callers_max; /* connections to our listener */
  bool draining;

  struct pf_lag lag;
  int64_t opened_ms;
  struct app_stats stats;

  struct pf_map jobs; /* struct job by fence */
  size_t job_count[JOB_STATES];
  struct pf_list idle_jobs; /* pooled */
  struct seen seen;
  struct http_peer *start, *complete; /* to the orchestrator */
  struct lease lease;
  struct pf_log_limit unknown_results, undelivered, refused_jobs;
  struct timer stop; /* draining has taken long enough, or nothing is left to do */
};

/* The lease has not run out. */
bool app_may_act(const struct app *app);
/* All jobs have gone while draining. */
void app_jobs_gone(struct app *app);

#endif
