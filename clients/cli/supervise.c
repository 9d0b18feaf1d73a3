#include "clients/cli/supervise.h"

#include "base/err.h"

void supervise_on_started(struct supervise *s) {
  s->ready = false;
}

void supervise_on_ready(struct supervise *s, int64_t now_ms) {
  s->ready = s->served = true;
  s->ready_at_ms = now_ms;
}

int64_t supervise_on_exited(struct supervise *s, int64_t now_ms) {
  if (!s->served) return -1;
  if (s->ready && now_ms - s->ready_at_ms >= SUPERVISE_STABLE_MS) s->failures = 0;
  s->ready = false;
  unsigned earlier = s->failures++;
  if (earlier == 0) return 0;
  int64_t delay_ms = SUPERVISE_DELAY_MS;
  for (unsigned i = 1; i < earlier && delay_ms < SUPERVISE_DELAY_MAX_MS; i++)
    delay_ms *= 2;
  return delay_ms < SUPERVISE_DELAY_MAX_MS ? delay_ms : SUPERVISE_DELAY_MAX_MS;
}
