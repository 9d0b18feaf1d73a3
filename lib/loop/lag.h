/* How late a loop is: a timer that measures when it really fires. What blocks the loop (a long
 * turn, a page fault, a stopped process) shows here before anything else suffers.
 *
 * Threads    The loop's.
 * Ownership  The caller owns struct pf_lag and keeps it until the loop has run after pf_lag_close.
 * Ordering   none
 * Limits     A delay shorter than PF_LAG_EVERY_MS may fall between two looks. The handle does not
 *            keep the loop alive. */
#ifndef PF_LOOP_LAG_H
#define PF_LOOP_LAG_H

#include <stdint.h>
#include <uv.h>

#include "base/buf.h"

#define PF_LAG_EVERY_MS 100
#define PF_LAG_WINDOW_MS 60000

struct pf_lag {
  uv_timer_t timer;
  int64_t due_ns;
  int64_t last_ns;   /* the last measurement */
  int64_t max_ns[2]; /* of this window and of the one before */
  int64_t window_began_ns;
};

void pf_lag_open(struct pf_lag *lag, uv_loop_t *loop);
/* The largest of the last one to two minutes. */
int64_t pf_lag_max_ns(const struct pf_lag *lag);
/* Appends pf_loop_lag_seconds and pf_loop_lag_seconds_max. */
void pf_lag_print(const struct pf_lag *lag, struct pf_buf *buf);
void pf_lag_close(struct pf_lag *lag);

#endif
