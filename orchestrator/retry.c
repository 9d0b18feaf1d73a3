#include "orchestrator/retry.h"

#define HOP_BASE_MS 50
#define HOP_CAP_MS 2000
#define ORIGIN_CAP_MS 30000

static int64_t bound_ms(int64_t base_ms, int64_t cap_ms, int doublings) {
  int64_t bound = base_ms;
  for (int i = 0; i < doublings && bound < cap_ms; i++)
    bound *= 2;
  return bound < cap_ms ? bound : cap_ms;
}

static int64_t jitter(struct pf_rand *rand, int64_t bound) {
  return (int64_t)pf_rand_below(rand, (uint64_t)bound + 1);
}

int64_t retry_delay_ms(
    const struct retry_policy *policy, int attempts, int64_t retry_after_ms, struct pf_rand *rand) {
  int64_t delay = jitter(rand, bound_ms(policy->base_ms, policy->cap_ms, attempts - 1));
  int64_t wished = retry_after_ms < policy->after_cap_ms ? retry_after_ms : policy->after_cap_ms;
  return delay > wished ? delay : wished;
}

static int64_t hop_ms(int64_t cap_ms, int tries, struct pf_rand *rand) {
  int64_t bound = bound_ms(HOP_BASE_MS, cap_ms, tries - 1);
  return bound / 2 + jitter(rand, bound / 2);
}

int64_t retry_hop_ms(int tries, struct pf_rand *rand) {
  return hop_ms(HOP_CAP_MS, tries, rand);
}

int64_t retry_origin_ms(int tries, struct pf_rand *rand) {
  return hop_ms(ORIGIN_CAP_MS, tries, rand);
}
