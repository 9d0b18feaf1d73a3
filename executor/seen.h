/* Which dispatches this executor has answered, taken or refused for want of room: a second copy of
 * one must not be fetched.
 *
 * A fence's counter is given to one dispatch only and grows, so one bit for each counter of a
 * sliding window is enough. What lies below the window counts as seen: the set never forgets, it
 * only gets cautious. (The orchestrator notices that nobody holds the job, and dispatches it anew.)
 *
 * A second bit says that it was refused, so that each copy gets the answer of the first: `full`
 * proves that nothing of this fence was fetched or will be, also if an earlier answer was lost.
 *
 * Threads    pure
 * Ownership  The caller owns struct seen.
 * Ordering   Any within the window.
 * Limits     SEEN_WINDOW counters behind the newest (minutes at any rate that one orchestrator
 *            reaches) for each of the SEEN_EPOCHS latest epochs of the queue. */
#ifndef PF_EXECUTOR_SEEN_H
#define PF_EXECUTOR_SEEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"

#define SEEN_WINDOW ((uint64_t)1 << 22)
#define SEEN_EPOCHS 4

struct seen_epoch {
  uint64_t epoch;    /* 0 = unused */
  uint64_t end;      /* all counters below end - SEEN_WINDOW are taken as seen */
  uint64_t used;     /* order of last use */
  uint64_t *bits;    /* SEEN_WINDOW of them, indexed by counter modulo SEEN_WINDOW */
  uint64_t *refused; /* likewise, behind them */
};

struct seen {
  struct seen_epoch epochs[SEEN_EPOCHS];
  uint64_t uses;
};

void seen_init(struct seen *seen);
void seen_done(struct seen *seen);
bool seen_has(const struct seen *seen, struct pf_fence fence);
/* Whether it was refused; false for what lies below the window: nobody knows. */
bool seen_refused(const struct seen *seen, struct pf_fence fence);
/* How many of the epochs are in use. */
unsigned seen_epochs(const struct seen *seen);
/* Remembers fence. What it was first is not changed. */
void seen_put(struct seen *seen, struct pf_fence fence, bool refused);

#endif
