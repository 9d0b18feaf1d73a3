/* What this process tells the orchestrator of itself: heartbeats, which keep the lease.
 *
 * Threads    the loop's
 * Ownership  none
 * Ordering   A heartbeat lists every job that was answered `taken` before it left.
 * Limits     one heartbeat under way */
#ifndef PF_EXECUTOR_CONTROL_H
#define PF_EXECUTOR_CONTROL_H

#include "executor/app.h"
#include "loop/listen.h"

/* Gives the process its address and id, prints the ready line, and begins to send heartbeats. */
void control_open(struct app *app, const struct pf_listen_addr *bound);
/* Tells the orchestrator at once that this process is leaving. */
void control_leave(struct app *app);
/* One last heartbeat without any job, then done. */
void control_deregister(struct app *app, void (*done)(struct app *app));
/* Was the last heartbeat answered, and for how long has that been so? */
bool control_reached(const struct app *app, int64_t *ret_since_ms);
/* Since the last heartbeat that was answered left; -1 if none has been. */
int64_t control_heartbeat_age_ms(const struct app *app);
void control_free(struct app *app);

#endif
