/* The course of a load (clients/cli/bench_run.h) and assertions on figures (bench_check.h). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "bench_check.h"
#include "bench_run.h"
#include "stats.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

/* One request at a time, each of so many ms, until the end. */
static void serve_one_by_one(struct bench_run *run, int64_t now, int64_t each_ns) {
  int64_t due;
  while (bench_run_tick(run, now) != BENCH_OVER) {
    assert_true(bench_run_take_due(run, now, &due));
    now += each_ns;
    bench_run_ended(run, due, now, true);
  }
}

static void a_closed_loop_counts_what_ended_in_its_time(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_plan plan = {.duration_ns = 2 * SECOND};
  bench_run_begin(&run, &plan, 5 * SECOND);
  assert_int_equal(run.phase, BENCH_MEASURING);
  serve_one_by_one(&run, 5 * SECOND, 10 * MS);
  assert_in_range(run.ended, 199, 200);
  assert_true(bench_run_seconds(&run) == 2);
  struct stats s = stats_of(run.samples_ms, run.sample_count);
  assert_true(s.min == 10 && s.max == 10);
  assert_true(bench_run_margin(&run) < 0.02);
  bench_run_done(&run);
}

static void a_warm_up_ends_when_steady(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_plan plan = {.duration_ns = SECOND, .warmup_ns = SECOND};
  bench_run_begin(&run, &plan, 0);
  serve_one_by_one(&run, 0, 10 * MS);
  assert_true(run.steady);
  assert_int_equal(run.measure_ns, SECOND);
  assert_int_equal(run.end_ns, 2 * SECOND);
  bench_run_done(&run);
}

static void a_warm_up_that_never_gets_steady_ends_too(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_plan plan = {.duration_ns = SECOND, .warmup_ns = SECOND};
  bench_run_begin(&run, &plan, 0);
  /* Each window sees twice as many as the one before. */
  for (int64_t now = 50 * MS, count = 1; bench_run_tick(&run, now) == BENCH_WARMUP;
       now += BENCH_WINDOW_MS * MS, count += count < 4096 ? count : count / 4)
    for (int64_t i = 0; i < count; i++)
      bench_run_ended(&run, now, now, true);
  assert_false(run.steady);
  assert_int_equal(run.measure_ns, BENCH_WARMUP_TIMES * SECOND);
  assert_int_equal(run.ended, 0);
  bench_run_done(&run);
}

/* A server that answers at once, but stalls for half a second: the requests that were due then have
 * waited, although a single client would only have seen one slow answer. */
static void a_stall_is_charged_to_all_that_were_due(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_plan plan = {.rate = 100, .duration_ns = SECOND};
  bench_run_begin(&run, &plan, 0);
  int64_t due;
  for (int64_t now = 0; bench_run_tick(&run, now) != BENCH_OVER; now += MS) {
    if (now >= 200 * MS && now < 700 * MS) continue;
    while (bench_run_take_due(&run, now, &due))
      bench_run_ended(&run, due, now, true);
  }
  assert_int_equal(run.ended, 100);
  assert_int_equal(run.late, 0);
  struct stats s = stats_of(run.samples_ms, run.sample_count);
  assert_true(s.max == 500);
  assert_true(s.p90 >= 390 && s.p90 <= 410);
  assert_true(stats_quantile(run.samples_ms, run.sample_count, 0.45) < 1);
  bench_run_done(&run);
}

static void what_never_ended_counts_with_the_time_so_far(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_plan plan = {.rate = 10, .duration_ns = SECOND};
  bench_run_begin(&run, &plan, 0);
  int64_t due;
  assert_true(bench_run_take_due(&run, 0, &due)); /* under way to the end, and no other is sent */
  assert_int_equal(bench_run_tick(&run, SECOND), BENCH_OVER);
  bench_run_unended(&run, due);
  assert_int_equal(run.late, 10);
  struct stats s = stats_of(run.samples_ms, run.sample_count);
  assert_true(s.max == 1000 && s.min == 100);
  assert_false(bench_run_take_due(&run, 2 * SECOND, &due));
  bench_run_done(&run);
}

static void a_failure_has_no_latency(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_plan plan = {.duration_ns = SECOND};
  bench_run_begin(&run, &plan, 0);
  bench_run_ended(&run, 0, 5 * MS, false);
  bench_run_ended(&run, 0, 6 * MS, true);
  assert_int_equal(run.failed, 1);
  assert_int_equal(run.ended, 1);
  assert_int_equal(run.sample_count, 1);
  bench_run_done(&run);
}

/* ---- assertions ---- */

struct seen {
  int held, failed;
};

static void see(void *arg, const char *assertion, size_t len, double value, bool holds) {
  (void)assertion, (void)len, (void)value;
  struct seen *seen = arg;
  *(holds ? &seen->held : &seen->failed) += 1;
}

static const struct bench_figure figures[] = {{"fetches_per_s", 5000}, {"p99_ms", 49.5}};

static void assertions_hold_or_not(void **state) {
  (void)state;
  static const struct {
    const char *text;
    struct seen seen;
  } cases[] = {{"fetches_per_s>4999,p99_ms<50", {2, 0}}, {"fetches_per_s>5000", {0, 1}},
      {"fetches_per_s>=5000", {1, 0}}, {"fetches_per_s<=5000", {1, 0}},
      {"fetches_per_s=5000", {1, 0}}, {"p99_ms<49.5", {0, 1}}, {"p99_ms>1e2,p99_ms<1e2", {1, 1}},
      {"", {0, 0}}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct seen seen = {0};
    assert_int_equal(bench_check(cases[i].text, figures, 2, see, &seen, NULL), PF_OK);
    assert_int_equal(seen.held, cases[i].seen.held);
    assert_int_equal(seen.failed, cases[i].seen.failed);
  }
}

static void malformed_assertions_are_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"p99_ms", "p99_ms<", "<5", "p99_ms<5x", "p99_ms<5,,",
      "p98_ms<5", "p99_ms<5 ,p99_ms>1", "a_name_of_more_than_31_characters<5"};
  for (size_t i = 0; i < PF_COUNT(bad); i++) {
    struct seen seen = {0};
    struct pf_error why = {0};
    assert_int_equal(bench_check(bad[i], figures, 2, see, &seen, &why), PF_EINVAL);
    assert_true(why.text[0] != '\0');
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_closed_loop_counts_what_ended_in_its_time),
      cmocka_unit_test(a_warm_up_ends_when_steady),
      cmocka_unit_test(a_warm_up_that_never_gets_steady_ends_too),
      cmocka_unit_test(a_stall_is_charged_to_all_that_were_due),
      cmocka_unit_test(what_never_ended_counts_with_the_time_so_far),
      cmocka_unit_test(a_failure_has_no_latency),
      cmocka_unit_test(assertions_hold_or_not),
      cmocka_unit_test(malformed_assertions_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
