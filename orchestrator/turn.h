/* The end of a turn of the loop: time passes for the queue, what changed becomes one part of a
 * group commit, and what must not be seen before it is durable waits for it.
 *
 * Threads    the loop's
 * Ownership  struct turn belongs to struct app. turn_answer takes over the body.
 * Ordering   Actions and answers leave in the order of their turns, each after the last urgent
 *            group that was submitted before or with it.
 * Limits     none of its own: the queue and the server bound what can be waiting. */
#ifndef PF_ORCHESTRATOR_TURN_H
#define PF_ORCHESTRATOR_TURN_H

#include <uv.h>

#include "base/buf.h"
#include "base/list.h"

struct app;

struct turn {
  uv_prepare_t prepare; /* runs before the loop waits: after all events of a turn */
  uv_timer_t timer;
  int64_t next_us;             /* what the timer is set to */
  uint64_t submitted, durable; /* number of urgent groups */
  struct pf_list held;         /* of struct held, for durable to reach theirs */
  struct pf_list answers;      /* of struct held, of this turn */
  unsigned handles;            /* not closed yet */
};

void turn_open(struct app *app);
/* Answers a request with a batch once all that was decided so far is durable. */
void turn_answer(struct app *app, uint64_t request, struct pf_buf *body);
/* Writes what has changed, now. */
void turn_flush(struct app *app);
/* The loop may end. What is still held is dropped. */
void turn_close(struct app *app);

#endif
