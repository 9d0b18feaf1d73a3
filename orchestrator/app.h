/* The orchestrator's process: its parts, and how they are tied together.
 *
 *   api.c       calls come in, become events of the queue
 *   api_queue.c, metrics.c   what operators see
 *   turn.c      once per turn of the loop: what changed is written; what has to wait for it, waits
 *   dispatch.c  calls go out: /v1/execute, /__status, /__receiveResult
 *   queue*.c    decides (pure);  queue_db.c, queue_db_rows.c  rows
 *
 * Threads    one loop; rows are written on the store's thread.
 * Ownership  struct app owns all parts; main.c opens and closes them in order. */
#ifndef PF_ORCHESTRATOR_APP_H
#define PF_ORCHESTRATOR_APP_H

#include <uv.h>

#include "base/data_dir.h"
#include "base/log.h"
#include "loop/lag.h"
#include "loop/signals.h"
#include "orchestrator/config.h"
#include "orchestrator/queue.h"
#include "orchestrator/queue_db.h"
#include "orchestrator/turn.h"

struct dispatch;
struct http;
struct web;

struct app {
  uv_loop_t *loop;
  struct config config;
  char dir[PF_DATA_DIR_MAX];
  struct pf_log log;
  struct pf_signals signals;
  struct pf_lag lag;
  struct queue *queue;
  struct queue_db *db;
  struct http *http;
  struct web *web;
  struct dispatch *dispatch; /* NULL: nothing goes out any more */
  struct turn turn;
  unsigned callers_max; /* connections to our listener */
  bool draining;        /* no new leases */
  int64_t drain_until_us;
  uv_timer_t drain;
  bool stopped; /* nothing is written any more */
  int exit_code;
  int64_t opened_ms;
  uint64_t invariant_failures; /* must stay 0; see app_check */
  uint64_t abandoned;          /* as logged last */
  struct pf_log_limit refused_items;
  struct pf_buf scratch; /* of one handler at a time */
};

/* ---- app.c ---- */

/* The queue's clock. */
int64_t app_now_us(void);
/* Looks at some of what must always hold; counts and logs what does not, and what was dropped. */
void app_check(struct app *app);

/* ---- main.c ---- */

/* Ends the process in order: what has been decided is committed first. Harmless if repeated. */
void app_drain(struct app *app);

/* ---- api.c ---- */

/* Listens, and prints the line that says so. */
PF_MUST_CHECK int api_open(struct app *app, struct pf_error *reterr);

/* ---- dispatch.c ---- */

struct dispatch *dispatch_new(struct app *app);
/* All calls end without an answer, from inside. */
void dispatch_free(struct dispatch *dispatch);
/* Its group is durable: makes the call. */
void dispatch_act(struct dispatch *dispatch, const struct queue_action *action);

#endif
