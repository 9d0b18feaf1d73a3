/* How long this process may act without a word of the orchestrator.
 *
 * The orchestrator renews a lease when a heartbeat arrives, so here it counts from when that one
 * left: whatever the answer took, ours ends first. When the answer came is not even asked for.
 *
 * Threads    pure
 * Ownership  The caller owns struct lease; all zero is one that was never granted.
 * Ordering   lease_ask, then lease_grant if that heartbeat was answered; one at a time.
 * Limits     none */
#ifndef PF_EXECUTOR_LEASE_H
#define PF_EXECUTOR_LEASE_H

#include <stdbool.h>
#include <stdint.h>

struct lease {
  int64_t asked_ms;   /* when the latest heartbeat left */
  int64_t granted_ms; /* when the latest one that was answered left */
  int64_t until_ms;   /* no request leaves from then on; 0 = none was granted yet */
  unsigned lapses;    /* times it had run out before it was renewed */
};

/* A heartbeat leaves. */
void lease_ask(struct lease *lease, int64_t now_ms);
/* It has been answered. */
void lease_grant(struct lease *lease, int64_t lease_ms);
bool lease_holds(const struct lease *lease, int64_t now_ms);
/* Since the latest answered heartbeat left; -1 = none was. */
int64_t lease_age_ms(const struct lease *lease, int64_t now_ms);

#endif
