#include "bench_run.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"

#define WINDOW_NS (BENCH_WINDOW_MS * INT64_C(1000000))
#define NORMAL_95 1.96
#define WINDOWS_MIN 10

static void push(double **items, size_t *count, size_t *room, double value) {
  if (*count == *room) {
    *room = *room ? *room * 2 : 1024;
    *items = pf_realloc(*items, *room * sizeof(**items));
  }
  (*items)[(*count)++] = value;
}

void bench_run_begin(struct bench_run *run, const struct bench_plan *plan, int64_t now_ns) {
  PF_ASSERT(plan->duration_ns > 0 && plan->warmup_ns >= 0 && plan->rate >= 0);
  *run = (struct bench_run){.plan = *plan,
      .begin_ns = now_ns,
      .measure_ns = now_ns,
      .window_ns = now_ns + WINDOW_NS,
      .next_due_ns = now_ns,
      .interval_ns = plan->rate > 0 ? (int64_t)(1e9 / plan->rate) : 0,
      .steady = plan->warmup_ns == 0};
  run->phase = plan->warmup_ns ? BENCH_WARMUP : BENCH_MEASURING;
  run->end_ns = now_ns + plan->duration_ns;
}

bool bench_run_take_due(struct bench_run *run, int64_t now_ns, int64_t *ret_due_ns) {
  if (run->phase == BENCH_OVER) return false;
  if (run->interval_ns == 0) {
    *ret_due_ns = now_ns;
    return true;
  }
  if (run->next_due_ns > now_ns) return false;
  *ret_due_ns = run->next_due_ns;
  run->next_due_ns += run->interval_ns;
  return true;
}

int64_t bench_run_next_due_ns(const struct bench_run *run) {
  return run->next_due_ns;
}

static void keep_latency(struct bench_run *run, int64_t due_ns, int64_t now_ns) {
  if (run->sample_count < BENCH_SAMPLES_MAX)
    push(&run->samples_ms, &run->sample_count, &run->sample_room, (double)(now_ns - due_ns) / 1e6);
}

void bench_run_ended(struct bench_run *run, int64_t due_ns, int64_t now_ns, bool good) {
  (void)bench_run_tick(run, now_ns);
  if (run->phase == BENCH_OVER) return;
  if (good) run->in_window++;
  /* Of an open loop, what was due before is not of this measurement. */
  if (run->phase == BENCH_WARMUP || (run->interval_ns && due_ns < run->measure_ns)) return;
  if (!good) {
    run->failed++;
    return;
  }
  run->ended++;
  keep_latency(run, due_ns, now_ns);
}

static double sum(const double *items, size_t from, size_t to) {
  double total = 0;
  for (size_t i = from; i < to; i++)
    total += items[i];
  return total;
}

/* The last two stretches of half the warm-up have had nearly the same throughput. */
static bool is_steady(const struct bench_run *run) {
  size_t half = (size_t)(run->plan.warmup_ns / WINDOW_NS / 2), end = run->window_count;
  if (half == 0) return true;
  if (end < 2 * half) return false;
  double before = sum(run->windows, end - 2 * half, end - half);
  double after = sum(run->windows, end - half, end);
  return after > 0 && fabs(after - before) < BENCH_STEADY * after;
}

static void measure_begin(struct bench_run *run) {
  run->phase = BENCH_MEASURING;
  run->measure_ns = run->window_ns;
  run->end_ns = run->window_ns + run->plan.duration_ns;
  run->window_count = 0;
}

void bench_run_unended(struct bench_run *run, int64_t due_ns) {
  if (!run->interval_ns || due_ns < run->measure_ns || due_ns >= run->end_ns) return;
  run->late++;
  keep_latency(run, due_ns, run->end_ns);
}

/* What should have been sent long ago counts with the time it has waited so far. */
static void over(struct bench_run *run) {
  run->phase = BENCH_OVER;
  for (int64_t due = run->next_due_ns; run->interval_ns && due < run->end_ns;
       due += run->interval_ns)
    bench_run_unended(run, due);
}

enum bench_phase bench_run_tick(struct bench_run *run, int64_t now_ns) {
  while (run->phase != BENCH_OVER && now_ns >= run->window_ns) {
    push(&run->windows, &run->window_count, &run->window_room, run->in_window);
    run->in_window = 0;
    int64_t warm_ns = run->window_ns - run->begin_ns;
    if (run->phase == BENCH_WARMUP && warm_ns >= run->plan.warmup_ns) {
      run->steady = is_steady(run);
      if (run->steady || warm_ns >= BENCH_WARMUP_TIMES * run->plan.warmup_ns) measure_begin(run);
    } else if (run->phase == BENCH_MEASURING && run->window_ns >= run->end_ns) {
      over(run);
    }
    run->window_ns += WINDOW_NS;
  }
  return run->phase;
}

void bench_run_done(struct bench_run *run) {
  free(run->samples_ms);
  free(run->windows);
  run->samples_ms = run->windows = NULL;
}

double bench_run_seconds(const struct bench_run *run) {
  return (double)run->window_count * BENCH_WINDOW_MS / 1e3;
}

double bench_run_margin(const struct bench_run *run) {
  size_t n = run->window_count;
  if (n < WINDOWS_MIN) return 0;
  double mean = sum(run->windows, 0, n) / (double)n, squares = 0;
  for (size_t i = 0; i < n; i++)
    squares += (run->windows[i] - mean) * (run->windows[i] - mean);
  return mean > 0 ? NORMAL_95 * sqrt(squares / (double)(n - 1) / (double)n) / mean : 0;
}
