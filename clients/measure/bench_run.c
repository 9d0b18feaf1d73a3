#include "clients/measure/bench_run.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "clients/measure/stats.h"

#define WINDOW_NS (BENCH_WINDOW_MS * INT64_C(1000000))
#define SECOND_NS INT64_C(1000000000)
#define NORMAL_95 1.96
#define WINDOWS_MIN 10

/* Room for one more item at the end of an array that grows. */
static void *grow(void *items, size_t count, size_t *room, size_t size) {
  if (count < *room) return items;
  *room = *room ? *room * 2 : 1024;
  return pf_realloc(items, *room * size);
}

static void push(double **items, size_t *count, size_t *room, double value) {
  *items = grow(*items, *count, room, sizeof(**items));
  (*items)[(*count)++] = value;
}

void bench_run_begin(struct bench_run *run, const struct bench_plan *plan, int64_t now_ns) {
  PF_ASSERT(plan->duration_ns > 0 && plan->warmup_ns >= 0 && plan->drain_ns >= 0);
  double rate = plan->schedule ? bench_schedule_first_rate(plan->schedule) : 0;
  bool warm = plan->warmup_ns && (!plan->schedule || rate > 0);
  *run = (struct bench_run){.plan = *plan,
      .begin_ns = now_ns,
      .measure_ns = now_ns,
      .second_ns = now_ns,
      .window_ns = now_ns + WINDOW_NS,
      .steady = !warm};
  if (warm && rate > 0)
    bench_schedule_constant(&run->warmup, rate, plan->warmup_ns * (BENCH_WARMUP_TIMES + 1));
  run->phase = warm ? BENCH_WARMUP : BENCH_MEASURING;
  run->end_ns = now_ns + plan->duration_ns + plan->drain_ns;
}

bool bench_run_next_due_ns(struct bench_run *run, int64_t *ret_at_ns) {
  bool warm = run->phase == BENCH_WARMUP;
  const struct bench_schedule *schedule = warm ? &run->warmup : run->plan.schedule;
  if (run->phase == BENCH_OVER || !schedule) return false;
  int64_t at_ns;
  if (!bench_schedule_due(schedule, &run->cursor, &at_ns)) return false;
  *ret_at_ns = (warm ? run->begin_ns : run->measure_ns) + at_ns;
  return true;
}

bool bench_run_take_due(struct bench_run *run, int64_t now_ns, int64_t *ret_due_ns) {
  if (run->phase == BENCH_OVER) return false;
  int64_t due_ns = now_ns;
  if (run->plan.schedule && (!bench_run_next_due_ns(run, &due_ns) || due_ns > now_ns)) return false;
  run->cursor.index++;
  run->in_flight++;
  *ret_due_ns = due_ns;
  return true;
}

static void keep_latency(struct bench_run *run, int64_t due_ns, int64_t now_ns) {
  if (run->sample_count < BENCH_SAMPLES_MAX)
    push(&run->samples_ms, &run->sample_count, &run->sample_room, (double)(now_ns - due_ns) / 1e6);
}

void bench_run_ended(struct bench_run *run, int64_t due_ns, int64_t now_ns, bool good) {
  (void)bench_run_tick(run, now_ns);
  if (run->phase == BENCH_OVER) return;
  run->in_flight--;
  if (good) run->in_window++;
  /* Of an open loop, what was due before is not of this measurement. */
  if (run->phase == BENCH_WARMUP || (run->plan.schedule && due_ns < run->measure_ns)) return;
  if (!good) {
    run->failed++;
    run->second.failed++;
    return;
  }
  run->ended++;
  run->second.ended++;
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
  run->measure_ns = run->second_ns = run->window_ns;
  run->end_ns = run->window_ns + run->plan.duration_ns + run->plan.drain_ns;
  run->window_count = 0;
  run->cursor = (struct bench_cursor){0};
}

void bench_run_unended(struct bench_run *run, int64_t due_ns) {
  if (!run->plan.schedule || due_ns < run->measure_ns || due_ns >= run->end_ns) return;
  run->late++;
  keep_latency(run, due_ns, run->end_ns);
}

/* What should have been sent long ago counts with the time it has waited so far. */
static void over(struct bench_run *run) {
  int64_t due_ns;
  if (run->plan.schedule) {
    int64_t due = bench_schedule_count(run->plan.schedule, run->end_ns - run->measure_ns);
    run->late += due > run->cursor.index ? due - run->cursor.index : 0;
  }
  while (run->sample_count < BENCH_SAMPLES_MAX && bench_run_next_due_ns(run, &due_ns) &&
         due_ns < run->end_ns) {
    keep_latency(run, due_ns, run->end_ns);
    run->cursor.index++;
  }
  run->phase = BENCH_OVER;
}

static void second_end(struct bench_run *run) {
  struct bench_second *s = &run->second;
  s->seconds = (double)(run->window_ns - run->second_ns) / 1e9;
  s->in_flight = run->in_flight;
  s->sample_count = run->sample_count - s->first_sample;
  run->seconds = grow(run->seconds, run->second_count, &run->second_room, sizeof(*run->seconds));
  run->seconds[run->second_count++] = *s;
  run->second = (struct bench_second){.first_sample = run->sample_count};
  run->second_ns = run->window_ns;
}

static void window_end(struct bench_run *run) {
  push(&run->windows, &run->window_count, &run->window_room, run->in_window);
  run->in_window = 0;
  if (run->phase == BENCH_WARMUP) {
    int64_t warm_ns = run->window_ns - run->begin_ns;
    if (warm_ns < run->plan.warmup_ns) return;
    run->steady = is_steady(run);
    if (run->steady || warm_ns >= BENCH_WARMUP_TIMES * run->plan.warmup_ns) measure_begin(run);
    return;
  }
  bool last = run->window_ns >= run->end_ns;
  if (last || run->window_ns - run->second_ns >= SECOND_NS) second_end(run);
  if (last) over(run);
}

static bool is_drained(struct bench_run *run) {
  int64_t due_ns;
  return run->plan.drain_ns && run->phase == BENCH_MEASURING && run->in_flight == 0 &&
         !bench_run_next_due_ns(run, &due_ns);
}

void bench_run_cut(struct bench_run *run, int64_t now_ns) {
  if (run->phase == BENCH_MEASURING && now_ns < run->end_ns) run->end_ns = now_ns;
}

enum bench_phase bench_run_tick(struct bench_run *run, int64_t now_ns) {
  if (is_drained(run)) bench_run_cut(run, now_ns);
  for (; run->phase != BENCH_OVER && now_ns >= run->window_ns; run->window_ns += WINDOW_NS)
    window_end(run);
  return run->phase;
}

void bench_run_quantiles(struct bench_run *run) {
  for (size_t i = 0; i < run->second_count; i++) {
    struct bench_second *s = &run->seconds[i];
    struct stats stats = stats_of(run->samples_ms + s->first_sample, s->sample_count);
    s->p50_ms = stats.p50;
    s->p99_ms = stats.p99;
  }
}

void bench_run_done(struct bench_run *run) {
  free(run->samples_ms);
  free(run->windows);
  free(run->seconds);
  run->samples_ms = run->windows = NULL;
  run->seconds = NULL;
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
