#include "executor/lease.h"

void lease_ask(struct lease *lease, int64_t now_ms) {
  lease->asked_ms = now_ms;
}

void lease_grant(struct lease *lease, int64_t lease_ms) {
  if (!lease_holds(lease, lease->asked_ms)) lease->lapses++;
  lease->granted_ms = lease->asked_ms;
  lease->until_ms = lease->asked_ms + lease_ms;
}

bool lease_holds(const struct lease *lease, int64_t now_ms) {
  return now_ms < lease->until_ms;
}

int64_t lease_age_ms(const struct lease *lease, int64_t now_ms) {
  return lease->until_ms == 0 ? -1 : now_ms - lease->granted_ms;
}
