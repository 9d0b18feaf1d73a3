#include "loop/lag.h"

#include "base/clock.h"
#include "base/metrics.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S 1e9

static void lag_on_timer(uv_timer_t *timer);

static void lag_arm(struct pf_lag *lag) {
  /* The loop counts whole milliseconds from when it woke, which may be a while ago by now. */
  uv_update_time(lag->timer.loop);
  lag->due_ns = pf_clock_mono_ns() + PF_LAG_EVERY_MS * NS_PER_MS;
  int err = uv_timer_start(&lag->timer, lag_on_timer, PF_LAG_EVERY_MS, 0);
  PF_ASSERT(err == 0);
}

static void lag_on_timer(uv_timer_t *timer) {
  struct pf_lag *lag = timer->data;
  int64_t now_ns = pf_clock_mono_ns();
  if (now_ns - lag->window_began_ns >= PF_LAG_WINDOW_MS * NS_PER_MS) {
    lag->max_ns[1] = lag->max_ns[0];
    lag->max_ns[0] = 0;
    lag->window_began_ns = now_ns;
  }
  lag->last_ns = now_ns > lag->due_ns ? now_ns - lag->due_ns : 0;
  if (lag->last_ns > lag->max_ns[0]) lag->max_ns[0] = lag->last_ns;
  lag_arm(lag);
}

void pf_lag_open(struct pf_lag *lag, uv_loop_t *loop) {
  *lag = (struct pf_lag){.window_began_ns = pf_clock_mono_ns()};
  int err = uv_timer_init(loop, &lag->timer);
  PF_ASSERT(err == 0);
  lag->timer.data = lag;
  uv_unref((uv_handle_t *)&lag->timer);
  lag_arm(lag);
}

int64_t pf_lag_max_ns(const struct pf_lag *lag) {
  return lag->max_ns[0] > lag->max_ns[1] ? lag->max_ns[0] : lag->max_ns[1];
}

void pf_lag_print(const struct pf_lag *lag, struct pf_buf *buf) {
  metrics_gauge(buf, "pf_loop_lag_seconds", "How late the loop was at the last look.",
      (double)lag->last_ns / NS_PER_S);
  metrics_gauge(buf, "pf_loop_lag_seconds_max", "The latest that it was in the last minute or two.",
      (double)pf_lag_max_ns(lag) / NS_PER_S);
}

void pf_lag_close(struct pf_lag *lag) {
  uv_close((uv_handle_t *)&lag->timer, NULL);
}
