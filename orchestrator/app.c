/* What all parts of the process ask for. */
#include "orchestrator/app.h"

#include "base/clock.h"

#define CHECKED_BUCKETS 10000 /* about a millisecond */

int64_t app_now_us(void) {
  return pf_clock_mono_ns() / 1000;
}

void app_check(struct app *app) {
  uint64_t broken = queue_check_some(app->queue, CHECKED_BUCKETS);
  app->invariant_failures += broken;
  if (broken)
    pf_log(&app->log, PF_LOG_ERROR, "invariant_broken", "count=%llu", (unsigned long long)broken);
  uint64_t abandoned = queue_count_abandoned(app->queue);
  if (abandoned > app->abandoned)
    pf_log(&app->log, PF_LOG_WARN, "jobs_abandoned",
        "count=%llu reason=\"their origins have been silent for --undelivered-keep-ms\"",
        (unsigned long long)(abandoned - app->abandoned));
  app->abandoned = abandoned;
}
