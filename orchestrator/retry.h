/* How long to wait before the next try: full jitter over an exponential bound.
 *
 * Threads    pure
 * Ownership  none
 * Ordering   none
 * Limits     The result is within [0, cap_ms], or within [wished, after_cap_ms] where the target
 *            named a time by Retry-After. */
#ifndef PF_ORCHESTRATOR_RETRY_H
#define PF_ORCHESTRATOR_RETRY_H

#include <stdint.h>

#include "base/rand.h"

struct retry_policy {
  int64_t base_ms;      /* bound of the first wait; doubles with each attempt */
  int64_t cap_ms;       /* bound of every wait */
  int64_t after_cap_ms; /* the longest Retry-After that is honoured */
};

/* attempts: how many were made (1 = the first one has just failed). retry_after_ms: 0 = none. */
int64_t retry_delay_ms(
    const struct retry_policy *policy, int attempts, int64_t retry_after_ms, struct pf_rand *rand);

/* The same shape for a call between processes: at least half of the bound, so that a peer that has
 * gone is not asked in a tight loop. tries: 1 = the first call has just failed. */
int64_t retry_hop_ms(int tries, struct pf_rand *rand);
/* To an origin, about a job beside which another goes on asking. */
int64_t retry_origin_ms(int tries, struct pf_rand *rand);

#endif
