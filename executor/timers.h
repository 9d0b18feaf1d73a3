/* Many deadlines on one uv timer.
 *
 * Threads    Everything on the loop given.
 * Ownership  The caller owns each struct timer and keeps it in place while it is set.
 * Ordering   Earliest deadline first. fire is called from the loop, with the timer not set; it may
 *            set it again, and set or stop others.
 * Limits     none */
#ifndef PF_EXECUTOR_TIMERS_H
#define PF_EXECUTOR_TIMERS_H

#include <uv.h>

#include "base/heap.h"

struct timer {
  struct pf_heap_node node; /* zeroed = not set */
  void (*fire)(struct timer *timer);
};

struct timers {
  uv_timer_t uv;
  struct pf_heap heap; /* key: monotonic milliseconds */
  int64_t armed_at_ms; /* when uv fires; INT64_MAX = stopped */
  void (*closed)(void *arg);
  void *arg;
};

void timers_open(struct timers *timers, uv_loop_t *loop);
/* Calls timer->fire at at_ms by pf_clock_mono_ms(), or right after. Moves a timer that is set. */
void timer_set(struct timers *timers, struct timer *timer, int64_t at_ms);
void timer_stop(struct timers *timers, struct timer *timer);
/* No timer may be set any more. */
void timers_close(struct timers *timers, void (*closed)(void *arg), void *arg);

#endif
