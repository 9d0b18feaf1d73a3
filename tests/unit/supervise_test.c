/* The restart schedule of clients/cli/supervise.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "clients/cli/supervise.h"

static void never_served_gives_up(void **state) {
  (void)state;
  struct supervise s = {0};
  supervise_on_started(&s);
  assert_int_equal(supervise_on_exited(&s, 1000), -1);
}

static void delays_double_up_to_the_maximum(void **state) {
  (void)state;
  struct supervise s = {0};
  int64_t now = 1000;
  static const int64_t expected[] = {0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
  for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
    supervise_on_started(&s);
    supervise_on_ready(&s, now);
    now += SUPERVISE_STABLE_MS - 1;
    assert_int_equal(supervise_on_exited(&s, now), expected[i]);
  }
}

static void a_stable_run_wipes_the_record(void **state) {
  (void)state;
  struct supervise s = {0};
  for (int i = 0; i < 5; i++) {
    supervise_on_started(&s);
    supervise_on_ready(&s, 0);
    (void)supervise_on_exited(&s, 1);
  }
  supervise_on_started(&s);
  supervise_on_ready(&s, 1000);
  assert_int_equal(supervise_on_exited(&s, 1000 + SUPERVISE_STABLE_MS), 0);
}

/* One that served before and now cannot even start (its port is taken) is tried again. */
static void a_failed_restart_is_tried_again(void **state) {
  (void)state;
  struct supervise s = {0};
  supervise_on_started(&s);
  supervise_on_ready(&s, 0);
  assert_int_equal(supervise_on_exited(&s, SUPERVISE_STABLE_MS), 0);
  supervise_on_started(&s);
  /* Not ready in this run: the time since the former one is no sign of health. */
  assert_int_equal(supervise_on_exited(&s, 10 * SUPERVISE_STABLE_MS), 100);
  supervise_on_started(&s);
  assert_int_equal(supervise_on_exited(&s, 20 * SUPERVISE_STABLE_MS), 200);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(never_served_gives_up),
      cmocka_unit_test(delays_double_up_to_the_maximum),
      cmocka_unit_test(a_stable_run_wipes_the_record),
      cmocka_unit_test(a_failed_restart_is_tried_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
