/* When the requests of an open loop are due (clients/measure/bench_schedule.h). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "clients/measure/bench_schedule.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

static struct bench_schedule parse(const char *profile) {
  struct bench_schedule schedule;
  struct pf_error why = {0};
  if (bench_schedule_parse(&schedule, profile, &why)) fail_msg("%s", why.text);
  return schedule;
}

/* Times rise, each count agrees with them, and the sum is what is wanted. */
static void check_times(const struct bench_schedule *s, int64_t expected) {
  struct bench_cursor cursor = {0};
  int64_t at, before = 0, length = bench_schedule_length_ns(s);
  for (; bench_schedule_due(s, &cursor, &at); cursor.index++) {
    assert_true(at >= before && at < length);
    if (at > before || cursor.index == 0) {
      /* A millionth of a request is rounding, which is some time where the rate is near 0. */
      assert_true(bench_schedule_count(s, at - 500) <= cursor.index);
      assert_true(bench_schedule_count(s, at + MS) > cursor.index);
    }
    before = at;
  }
  assert_int_equal(cursor.index, expected);
  assert_int_equal(bench_schedule_count(s, length), expected);
  assert_int_equal(bench_schedule_count(s, length + SECOND), expected);
  assert_int_equal(bench_schedule_count(s, 0), 0);
}

static void stages_follow_each_other(void **state) {
  (void)state;
  struct bench_schedule s = parse("5s@1000,10@50000,20s@1000");
  assert_int_equal(s.stage_count, 3);
  assert_int_equal(bench_schedule_length_ns(&s), 35 * SECOND);
  assert_true(bench_schedule_first_rate(&s) == 1000);
  assert_int_equal(bench_schedule_count(&s, 5 * SECOND), 5000);
  assert_int_equal(bench_schedule_count(&s, 6 * SECOND), 55000);
  check_times(&s, 525000);
}

static void a_constant_rate_is_evenly_spaced(void **state) {
  (void)state;
  struct bench_schedule s;
  struct bench_cursor cursor = {0};
  int64_t at;
  bench_schedule_constant(&s, 3, 2 * SECOND);
  for (int i = 0; i < 6; i++, cursor.index++) {
    assert_true(bench_schedule_due(&s, &cursor, &at));
    assert_int_equal(at, (int64_t)((double)i * 1e9 / 3 + 0.5));
  }
  assert_false(bench_schedule_due(&s, &cursor, &at));
}

static void a_ramp_rises_and_falls_evenly(void **state) {
  (void)state;
  struct bench_schedule s = parse("10s@0:100");
  assert_int_equal(bench_schedule_count(&s, 5 * SECOND), 125); /* a quarter in half the time */
  check_times(&s, 500);
  struct bench_cursor cursor = {.index = 125};
  int64_t at;
  assert_true(bench_schedule_due(&s, &cursor, &at));
  assert_int_equal(at, 5 * SECOND);
  s = parse("10s@100:0");
  assert_int_equal(bench_schedule_count(&s, 5 * SECOND), 375);
  check_times(&s, 500);
}

static void stages_without_load_and_of_odd_parts(void **state) {
  (void)state;
  struct bench_schedule s = parse("1s@0,0.3s@10,1s@0,0.7s@3.5:0.5,1s@0");
  check_times(&s, 5); /* 3, and the area of 1.4 begins one at 0 and one at 1 */
  struct bench_cursor cursor = {0};
  int64_t at;
  assert_true(bench_schedule_due(&s, &cursor, &at));
  assert_int_equal(at, SECOND);
}

static void recorded_times_are_as_they_are(void **state) {
  (void)state;
  static const int64_t at_ns[] = {0, 7, 7, 7, 12};
  struct bench_schedule s = {.at_ns = at_ns, .at_count = 5};
  struct bench_cursor cursor = {0};
  int64_t at;
  for (; bench_schedule_due(&s, &cursor, &at); cursor.index++)
    assert_int_equal(at, at_ns[cursor.index]);
  assert_int_equal(cursor.index, 5);
  assert_int_equal(bench_schedule_count(&s, 0), 0);
  assert_int_equal(bench_schedule_count(&s, 7), 1);
  assert_int_equal(bench_schedule_count(&s, 8), 4);
  assert_int_equal(bench_schedule_count(&s, bench_schedule_length_ns(&s)), 5);
}

static void what_is_no_profile_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", "5s", "5s@", "@5", "5s@x", "5s@-1", "5s@1,", ",5s@1",
      "5m@1", "5s@1:", "5s@1:2:3", "0s@1", "-1s@1", "0.05s@1", "nan@1", "inf@1", "5s@nan", "5s@inf",
      "5s@1 ", "5s@0", "5s@0:0,3s@0"};
  for (size_t i = 0; i < PF_COUNT(bad); i++) {
    struct bench_schedule s;
    struct pf_error why = {0};
    if (!bench_schedule_parse(&s, bad[i], &why)) fail_msg("'%s' was taken", bad[i]);
    assert_true(why.text[0] != '\0');
  }
}

static int parse_stages(size_t count, const char *stage) {
  struct bench_schedule s;
  struct pf_buf text;
  pf_buf_init(&text, 4096);
  for (size_t i = 0; i < count; i++)
    pf_buf_printf(&text, "%s%s", i ? "," : "", stage);
  size_t len;
  char *profile = pf_buf_take(&text, &len);
  assert_non_null(profile);
  int err = bench_schedule_parse(&s, profile, NULL);
  free(profile);
  return err;
}

static void limits(void **state) {
  (void)state;
  assert_int_equal(parse_stages(BENCH_STAGES_MAX, "1@1"), PF_OK);
  assert_int_equal(parse_stages(BENCH_STAGES_MAX + 1, "1@1"), PF_EINVAL);
  assert_int_equal(parse_stages(1, "1s@10000000"), PF_OK);
  assert_int_equal(parse_stages(1, "1s@10000000.1"), PF_EINVAL);
  assert_int_equal(parse_stages(1, "1s@1:10000001"), PF_EINVAL);
  assert_int_equal(parse_stages(1, "86400s@1"), PF_OK);
  assert_int_equal(parse_stages(1, "86400.1s@1"), PF_EINVAL);
  assert_int_equal(parse_stages(2, "43200s@1"), PF_OK);
  assert_int_equal(parse_stages(2, "43200.1s@1"), PF_EINVAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(stages_follow_each_other),
      cmocka_unit_test(a_constant_rate_is_evenly_spaced),
      cmocka_unit_test(a_ramp_rises_and_falls_evenly),
      cmocka_unit_test(stages_without_load_and_of_odd_parts),
      cmocka_unit_test(recorded_times_are_as_they_are),
      cmocka_unit_test(what_is_no_profile_is_refused),
      cmocka_unit_test(limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
