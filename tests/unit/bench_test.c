/* The course of a load (clients/measure/bench_run.h) and assertions on figures (bench_check.h). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "clients/measure/bench_baseline.h"
#include "clients/measure/bench_check.h"
#include "clients/measure/bench_run.h"
#include "clients/measure/stats.h"

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
  struct bench_schedule schedule;
  struct bench_plan plan = {.schedule = &schedule, .duration_ns = SECOND};
  bench_schedule_constant(&schedule, 100, SECOND);
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
  struct bench_schedule schedule;
  struct bench_plan plan = {.schedule = &schedule, .duration_ns = SECOND};
  bench_schedule_constant(&schedule, 10, SECOND);
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

/* A server that answers at once, but at the first instant only of each 10 ms. */
static void serve_in_ticks(struct bench_run *run, int64_t now, int64_t until_ns) {
  int64_t due;
  for (; now < until_ns && bench_run_tick(run, now) != BENCH_OVER; now += 10 * MS)
    while (bench_run_take_due(run, now, &due))
      bench_run_ended(run, due, now, true);
}

static void a_warm_up_offers_the_first_rate_and_the_profile_begins_behind_it(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_schedule schedule;
  assert_int_equal(bench_schedule_parse(&schedule, "1s@100,1s@500,0.5s@0", NULL), PF_OK);
  struct bench_plan plan = {.schedule = &schedule, .warmup_ns = SECOND, .duration_ns = 2500 * MS};
  bench_run_begin(&run, &plan, 7 * SECOND);
  assert_int_equal(run.phase, BENCH_WARMUP);
  serve_in_ticks(&run, 7 * SECOND, 8 * SECOND);
  assert_int_equal(run.cursor.index, 100);
  serve_in_ticks(&run, 8 * SECOND, INT64_MAX);
  assert_int_equal(run.phase, BENCH_OVER);
  assert_int_equal(run.measure_ns, 8 * SECOND);
  assert_int_equal(run.ended, 600);
  assert_int_equal(run.late, 0);
  assert_true(bench_run_seconds(&run) == 2.5);
  bench_run_done(&run);
}

static void a_profile_that_begins_with_nothing_has_no_warm_up(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_schedule schedule;
  int64_t due;
  assert_int_equal(bench_schedule_parse(&schedule, "1s@0:100", NULL), PF_OK);
  struct bench_plan plan = {.schedule = &schedule, .warmup_ns = SECOND, .duration_ns = SECOND};
  bench_run_begin(&run, &plan, 0);
  assert_int_equal(run.phase, BENCH_MEASURING);
  assert_true(run.steady);
  assert_true(bench_run_next_due_ns(&run, &due));
  bench_run_done(&run);
}

static void each_second_has_its_figures(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_plan plan = {.duration_ns = 2300 * MS};
  int64_t due;
  bench_run_begin(&run, &plan, 0);
  for (int64_t now = 0; bench_run_tick(&run, now) != BENCH_OVER;) { /* slower in each second */
    int64_t each = now < SECOND ? 10 * MS : now < 2 * SECOND ? 20 * MS : 50 * MS;
    assert_true(bench_run_take_due(&run, now, &due));
    bench_run_ended(&run, due, now + each, now != 500 * MS);
    now += each;
    if (now == 2 * SECOND) assert_true(bench_run_take_due(&run, now, &due)); /* and never ends */
  }
  bench_run_quantiles(&run);
  assert_int_equal(run.second_count, 3);
  const struct bench_second *s = run.seconds;
  /* What ends at the very end of a second counts for the next. */
  assert_int_equal(s[0].ended, 98);
  assert_int_equal(s[0].failed, 1);
  assert_int_equal(s[0].in_flight, 1); /* the one that ends in this instant */
  assert_int_equal(s[1].ended, 50);
  assert_int_equal(s[2].ended, 6);
  assert_int_equal(s[2].in_flight, 2);
  assert_true(s[0].seconds == 1 && s[1].seconds == 1 && s[2].seconds > 0.299);
  assert_true(s[0].p50_ms == 10 && s[0].p99_ms == 10);
  assert_true(s[1].p50_ms == 20 && s[2].p99_ms == 50);
  assert_int_equal(s[0].ended + s[1].ended + s[2].ended, run.ended);
  bench_run_done(&run);
}

static void a_recorded_load_ends_when_all_of_it_has(void **state) {
  (void)state;
  static const int64_t at[] = {0, 50 * MS, 50 * MS, 300 * MS};
  struct bench_run run;
  struct bench_schedule schedule = {.at_ns = at, .at_count = 4};
  struct bench_plan plan = {.schedule = &schedule,
      .duration_ns = bench_schedule_length_ns(&schedule),
      .drain_ns = 10 * SECOND};
  int64_t due[4], now = SECOND;
  bench_run_begin(&run, &plan, now);
  for (int sent = 0; sent < 4; now += MS) {
    assert_int_equal(bench_run_tick(&run, now), BENCH_MEASURING);
    while (sent < 4 && bench_run_take_due(&run, now, &due[sent]))
      assert_int_equal(due[sent], SECOND + at[sent]), sent++;
  }
  assert_false(bench_run_next_due_ns(&run, &now));
  for (int i = 0; i < 4; i++) {
    assert_int_equal(bench_run_tick(&run, 2 * SECOND), BENCH_MEASURING);
    bench_run_ended(&run, due[i], 2 * SECOND + MS, true);
  }
  assert_int_equal(bench_run_tick(&run, 2 * SECOND + 2 * MS), BENCH_MEASURING);
  assert_int_equal(bench_run_tick(&run, 2100 * MS), BENCH_OVER);
  assert_int_equal(run.ended, 4);
  assert_true(bench_run_seconds(&run) > 1.09 && bench_run_seconds(&run) < 1.11);
  bench_run_done(&run);
}

static void a_recorded_load_waits_for_its_last_answers_no_longer_than_it_may(void **state) {
  (void)state;
  static const int64_t at[] = {0};
  struct bench_run run;
  struct bench_schedule schedule = {.at_ns = at, .at_count = 1};
  struct bench_plan plan = {.schedule = &schedule, .duration_ns = 1, .drain_ns = SECOND};
  int64_t due;
  bench_run_begin(&run, &plan, 0);
  assert_true(bench_run_take_due(&run, 0, &due));
  assert_int_equal(bench_run_tick(&run, SECOND), BENCH_MEASURING);
  assert_int_equal(bench_run_tick(&run, SECOND + 100 * MS), BENCH_OVER);
  bench_run_unended(&run, due);
  assert_int_equal(run.late, 1);
  bench_run_done(&run);
}

static void a_measurement_can_be_cut(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_schedule schedule;
  struct bench_plan plan = {.schedule = &schedule, .duration_ns = 60 * SECOND};
  bench_schedule_constant(&schedule, 10, 60 * SECOND);
  bench_run_begin(&run, &plan, 0);
  serve_in_ticks(&run, 0, 1500 * MS);
  bench_run_cut(&run, 1510 * MS);
  assert_int_equal(bench_run_tick(&run, 1600 * MS), BENCH_OVER);
  assert_int_equal(run.ended, 15);
  assert_int_equal(run.late, 1); /* the one that was due at 1.5 s */
  bench_run_done(&run);
}

/* A baseline keeps no series: those of a day would not fit. */
static void a_day_of_measurement_can_be_shown_and_kept(void **state) {
  (void)state;
  struct bench_run run;
  struct bench_schedule schedule;
  struct bench_plan plan = {.schedule = &schedule, .duration_ns = BENCH_SECONDS_MAX * SECOND};
  struct bench_result result = {.mode = "http", .url = "http://t/", .offer = "x", .run = &run};
  struct pf_buf text;
  bench_schedule_constant(&schedule, 1, plan.duration_ns);
  bench_run_begin(&run, &plan, 0);
  for (int64_t now = 0, due; bench_run_tick(&run, now) != BENCH_OVER; now += SECOND)
    if (bench_run_take_due(&run, now, &due)) bench_run_ended(&run, due, now, true);
  assert_int_equal(run.second_count, BENCH_SECONDS_MAX);
  bench_result_fill(&result);
  pf_buf_init(&text, BENCH_BASELINE_MAX);
  bench_result_json(&result, BENCH_FIGURES_ONLY, &text);
  assert_true(text.len < 10000);
  pf_buf_done(&text);
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  bench_result_json(&result, BENCH_ALL, &text);
  assert_true(text.len > BENCH_BASELINE_MAX);
  pf_buf_done(&text);
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
      cmocka_unit_test(a_warm_up_offers_the_first_rate_and_the_profile_begins_behind_it),
      cmocka_unit_test(a_profile_that_begins_with_nothing_has_no_warm_up),
      cmocka_unit_test(each_second_has_its_figures),
      cmocka_unit_test(a_recorded_load_ends_when_all_of_it_has),
      cmocka_unit_test(a_recorded_load_waits_for_its_last_answers_no_longer_than_it_may),
      cmocka_unit_test(a_measurement_can_be_cut),
      cmocka_unit_test(a_day_of_measurement_can_be_shown_and_kept),
      cmocka_unit_test(assertions_hold_or_not),
      cmocka_unit_test(malformed_assertions_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
