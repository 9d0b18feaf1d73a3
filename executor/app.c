/* What the parts of the process ask of the whole. */
#include "executor/app.h"

#include "base/clock.h"

bool app_may_act(const struct app *app) {
  return lease_holds(&app->lease, pf_clock_mono_ms());
}

void app_jobs_gone(struct app *app) {
  /* Not from here: the last job has ended inside a callback of what is to be closed. */
  timer_set(&app->timers, &app->stop, pf_clock_mono_ms());
}
