#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "executor/lease.h"

#define LEASE_MS 3000

static void beat(struct lease *lease, int64_t sent_ms) {
  lease_ask(lease, sent_ms);
  lease_grant(lease, LEASE_MS);
}

static void test_nothing_holds_before_the_first_grant(void **state) {
  (void)state;
  struct lease lease = {0};
  assert_false(lease_holds(&lease, 0));
  assert_int_equal(lease_age_ms(&lease, 5), -1);
  lease_ask(&lease, 10);
  assert_false(lease_holds(&lease, 10));
  assert_int_equal(lease_age_ms(&lease, 15), -1);
}

/* The orchestrator may have renewed it as soon as the heartbeat left, and not later than that the
 * answer tells. */
static void test_it_counts_from_when_the_heartbeat_left(void **state) {
  (void)state;
  struct lease lease = {0};
  beat(&lease, 1000);
  assert_true(lease_holds(&lease, 1000 + LEASE_MS - 1));
  assert_false(lease_holds(&lease, 1000 + LEASE_MS));
  assert_int_equal(lease_age_ms(&lease, 1700), 700);
  lease_ask(&lease, 2000);
  assert_false(lease_holds(&lease, 1000 + LEASE_MS)); /* asked for is not granted */
  assert_int_equal(lease_age_ms(&lease, 2500), 1500);
  lease_grant(&lease, LEASE_MS); /* whenever */
  assert_true(lease_holds(&lease, 2000 + LEASE_MS - 1));
  assert_false(lease_holds(&lease, 2000 + LEASE_MS));
  assert_int_equal(lease_age_ms(&lease, 2500), 500);
}

/* What was taken before may be somebody else's by now, though the lease holds again. */
static void test_a_lapse_is_counted_when_it_is_over(void **state) {
  (void)state;
  struct lease lease = {0};
  beat(&lease, 1000);
  unsigned lapses = lease.lapses;
  beat(&lease, 1000 + LEASE_MS - 1); /* the last moment */
  assert_int_equal(lease.lapses, lapses);
  beat(&lease, 1000 + LEASE_MS - 1 + LEASE_MS); /* one too late */
  assert_int_equal(lease.lapses, lapses + 1);
  assert_true(lease_holds(&lease, 1000 + LEASE_MS + LEASE_MS));
  beat(&lease, 1000 + LEASE_MS + LEASE_MS);
  assert_int_equal(lease.lapses, lapses + 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_nothing_holds_before_the_first_grant),
      cmocka_unit_test(test_it_counts_from_when_the_heartbeat_left),
      cmocka_unit_test(test_a_lapse_is_counted_when_it_is_over),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
