/* The process: what its parts share. Everything runs on one loop.
 *
 *   control.c  what the orchestrator says here, and the heartbeats that keep the lease
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
#include "executor/results.h"
#include "executor/seen.h"
#include "executor/timers.h"
#include "http/client.h"
#include "http/peer.h"
#include "loop/signals.h"
#include "web/web.h"

struct control;

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
  bool draining;

  struct pf_map jobs;       /* struct job by fence */
  struct pf_list idle_jobs; /* pooled */
  struct seen seen;
  struct http_peer *start, *complete; /* to the orchestrator */
  int64_t lease_until_ms;             /* no request leaves from then on */
  unsigned lapses;                    /* times the lease had run out before it was renewed */
  struct pf_log_limit unknown_results, refused_jobs;
  struct timer stop; /* draining has taken long enough, or nothing is left to do */
};

/* The lease has not run out. */
bool app_may_act(const struct app *app);
/* All jobs have gone while draining. */
void app_jobs_gone(struct app *app);

#endif
