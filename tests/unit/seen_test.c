#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/err.h"
#include "base/rand.h"
#include "executor/seen.h"

static struct pf_fence fence(uint64_t epoch, uint64_t counter) {
  return (struct pf_fence){.epoch = epoch, .counter = counter};
}

static void test_each_fence_once(void **state) {
  (void)state;
  struct seen seen;
  seen_init(&seen);
  assert_false(seen_has(&seen, fence(1, 5)));
  seen_put(&seen, fence(1, 5), false);
  assert_true(seen_has(&seen, fence(1, 5)));
  assert_false(seen_has(&seen, fence(1, 4)));
  assert_false(seen_has(&seen, fence(1, 6)));
  assert_false(seen_has(&seen, fence(2, 5)));
  seen_put(&seen, fence(1, 5), false); /* again: no harm */
  assert_true(seen_has(&seen, fence(1, 5)));
  seen_done(&seen);
}

/* The first dispatch that arrives may have overtaken others. */
static void test_earlier_ones_than_the_first(void **state) {
  (void)state;
  struct seen seen;
  seen_init(&seen);
  uint64_t first = (uint64_t)1 << 40;
  seen_put(&seen, fence(7, first), false);
  assert_false(seen_has(&seen, fence(7, first - 1000)));
  seen_put(&seen, fence(7, first - 1000), false);
  assert_true(seen_has(&seen, fence(7, first - 1000)));
  assert_false(seen_has(&seen, fence(7, first - 999)));
  seen_done(&seen);
}

static void test_below_the_window_all_are_seen(void **state) {
  (void)state;
  struct seen seen;
  seen_init(&seen);
  uint64_t newest = 3 * SEEN_WINDOW;
  seen_put(&seen, fence(1, newest), false);
  assert_true(seen_has(&seen, fence(1, newest)));
  uint64_t oldest = newest + 1 - SEEN_WINDOW;
  assert_false(seen_has(&seen, fence(1, oldest)));
  assert_true(seen_has(&seen, fence(1, oldest - 1)));
  assert_true(seen_has(&seen, fence(1, 0)));
  seen_put(&seen, fence(1, 0), false); /* outside: must not touch the bit of another */
  assert_false(seen_has(&seen, fence(1, newest - SEEN_WINDOW + SEEN_WINDOW / 2)));
  seen_done(&seen);
}

/* When the window moves, the bits that it re-uses are clear. */
static void test_the_window_moves(void **state) {
  (void)state;
  struct seen seen;
  seen_init(&seen);
  for (uint64_t c = 0; c < 100; c++)
    seen_put(&seen, fence(1, c), false);
  seen_put(&seen, fence(1, SEEN_WINDOW + 49), false);
  assert_true(seen_has(&seen, fence(1, SEEN_WINDOW + 49)));
  assert_true(seen_has(&seen, fence(1, 99)));
  for (uint64_t c = SEEN_WINDOW; c < SEEN_WINDOW + 49; c++)
    assert_false(seen_has(&seen, fence(1, c)));
  seen_put(&seen, fence(1, SEEN_WINDOW * 10), false); /* a jump over the whole window */
  assert_false(seen_has(&seen, fence(1, SEEN_WINDOW * 10 - 1)));
  assert_false(seen_has(&seen, fence(1, SEEN_WINDOW * 9 + 50)));
  assert_true(seen_has(&seen, fence(1, SEEN_WINDOW * 9)));
  seen_done(&seen);
}

static void test_epochs(void **state) {
  (void)state;
  struct seen seen;
  seen_init(&seen);
  for (uint64_t epoch = 1; epoch <= SEEN_EPOCHS; epoch++)
    seen_put(&seen, fence(epoch, 3), false);
  seen_put(&seen, fence(1, 4), false); /* 2 is now the one used longest ago */
  for (uint64_t epoch = 1; epoch <= SEEN_EPOCHS; epoch++)
    assert_true(seen_has(&seen, fence(epoch, 3)));
  seen_put(&seen, fence(100, 3), false);
  assert_true(seen_has(&seen, fence(100, 3)));
  assert_true(seen_has(&seen, fence(1, 3)));
  assert_false(seen_has(&seen, fence(2, 3)));
  seen_done(&seen);
}

/* What was refused stays so, and what was taken; below the window nobody knows. */
static void test_refusals(void **state) {
  (void)state;
  struct seen seen;
  seen_init(&seen);
  seen_put(&seen, fence(1, 5), true);
  seen_put(&seen, fence(1, 6), false);
  seen_put(&seen, fence(1, 5), false);
  seen_put(&seen, fence(1, 6), true);
  assert_true(seen_has(&seen, fence(1, 5)) && seen_refused(&seen, fence(1, 5)));
  assert_true(seen_has(&seen, fence(1, 6)) && !seen_refused(&seen, fence(1, 6)));
  assert_false(seen_refused(&seen, fence(1, 7)));
  assert_false(seen_refused(&seen, fence(2, 5)));
  seen_put(&seen, fence(1, SEEN_WINDOW + 4), false); /* 5 is the oldest in the window */
  assert_true(seen_refused(&seen, fence(1, 5)));
  seen_put(&seen, fence(1, SEEN_WINDOW + 6), false); /* 5 leaves, 5 + SEEN_WINDOW has its bit */
  assert_true(seen_has(&seen, fence(1, 5)) && !seen_refused(&seen, fence(1, 5)));
  assert_false(seen_has(&seen, fence(1, SEEN_WINDOW + 5)));
  assert_false(seen_refused(&seen, fence(1, SEEN_WINDOW + 5)));
  seen_put(&seen, fence(1, SEEN_WINDOW + 5), true);
  assert_false(seen_refused(&seen, fence(1, 5)));        /* that is the other one's answer */
  seen_put(&seen, fence(1, SEEN_WINDOW * 3 + 5), false); /* a jump over the whole window */
  assert_false(seen_refused(&seen, fence(1, SEEN_WINDOW * 3 + 5)));
  seen_done(&seen);
}

/* Against an array that remembers everything. */
static void test_random_order(void **state) {
  (void)state;
  enum { COUNT = 20000 };
  struct seen seen;
  seen_init(&seen);
  struct pf_rand rand = {.state = 42};
  bool *known = calloc(COUNT, sizeof(bool)), *refused = calloc(COUNT, sizeof(bool));
  for (int i = 0; i < COUNT; i++) {
    uint64_t c = pf_rand_below(&rand, COUNT);
    assert_int_equal(seen_has(&seen, fence(9, c)), known[c]);
    assert_int_equal(seen_refused(&seen, fence(9, c)), refused[c]);
    bool refuse = pf_rand_below(&rand, 3) == 0;
    seen_put(&seen, fence(9, c), refuse);
    if (!known[c]) refused[c] = refuse;
    known[c] = true;
  }
  free(known);
  free(refused);
  seen_done(&seen);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_fence_once),
      cmocka_unit_test(test_earlier_ones_than_the_first),
      cmocka_unit_test(test_below_the_window_all_are_seen),
      cmocka_unit_test(test_the_window_moves),
      cmocka_unit_test(test_epochs),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_random_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
