/* The life of one job in this process: from the orchestrator's word to the orchestrator's receipt.
 *
 *            +-- repeatable -----------------+
 *            |                               v
 *   taken ---+-- else --> STARTING -- go --> FETCHING --> DELIVERING --> REPORTING --> gone
 *                            |                  |  |  to the origin        ^
 *                            v                  |  +-- another attempt ----+
 *                           gone <- aborted ----+
 *
 * Threads    the loop's
 * Ownership  A job belongs to app->jobs until it is gone. The request's bytes are copied.
 * Ordering   Jobs start in the order taken.
 * Limits     app->slots jobs, whatever their state: results that nobody takes keep new jobs away.
 */
#ifndef PF_EXECUTOR_JOB_H
#define PF_EXECUTOR_JOB_H

#include "executor/app.h"
#include "wire/hop.h"

/* taken, seen or full. */
enum hop_execute_answer job_take(
    struct app *app, const struct hop_execute *item, struct pf_slice request);
/* The orchestrator does not want this transfer any more. What has been fetched already is still
 * delivered. */
void job_abort(struct app *app, const struct hop_held *held);
/* Appends all jobs to a heartbeat. */
void job_list_held(struct app *app, struct pf_buf *buf);
/* For fetch_config: the lease has held from when the job was taken until now. */
bool job_may_send(void *app, const struct fetch *fetch);
size_t job_slots_free(const struct app *app);
extern const char *const job_state_names[JOB_STATES];
/* Looks at what must always hold; counts and logs what does not. */
void job_check(struct app *app);
/* Forgets all jobs, as a crash would. */
void job_drop_all(struct app *app);

#endif
