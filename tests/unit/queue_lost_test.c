/* Executors that are lost, and who is blamed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "queue_fixture.h"

/* An executor takes all that is ready, and dies. */
static void take_all_and_die(struct world *w, unsigned id) {
  struct queue_action action;
  world_pass(w, 60001); /* longer than any pause between attempts */
  world_beat(w, id, id, 10, NULL, 0);
  world_pass(w, 0);
  while (world_act(w, &action))
    queue_on_dispatch(w->queue, &action, HOP_EXECUTE_TAKEN, w->now_us);
  lose_executor(w);
  while (world_act(w, &action))
    queue_on_status(w->queue, &action, HOP_STATUS_PENDING, w->now_us);
  world_pass(w, 0);
}

static void put_many(struct world *w, uint64_t count) {
  for (uint64_t i = 1; i <= count; i++) {
    struct hop_job job = world_job(i);
    job.retry.attempts = WIRE_ATTEMPTS_MAX;
    job.deadline_ms = job.queue_ms = WIRE_DEADLINE_MS_MAX;
    put(w, &job);
  }
}

static unsigned count_state(const struct world *w, uint64_t count, enum job_state state) {
  unsigned found = 0;
  for (uint64_t i = 1; i <= count; i++)
    found += world_state(w, i) == state;
  return found;
}

/* In whatever order. */
static void expect_deliveries(struct world *w, unsigned count, enum outcome outcome) {
  struct queue_action action;
  struct hop_result result;
  for (; count > 0; count--) {
    assert_true(world_act(w, &action));
    assert_true(queue_view_result(w->queue, &action, &result));
    assert_int_equal(result.outcome, outcome);
  }
  world_expect_none(w);
}

static void test_three_lost_executors_are_poison(void **state) {
  struct world *w = *state;
  put_many(w, QUEUE_SUSPECTS_MAX);
  for (unsigned i = 0; i < QUEUE_LOST_MAX; i++) {
    world_expect_none(w);
    take_all_and_die(w, i + 1);
  }
  expect_deliveries(w, QUEUE_SUSPECTS_MAX, OUTCOME_POISON);
}

/* One more than can be suspected: whoever kills executors under load must not make the innocent
 * guilty. What ends them is the budget of attempts. */
static void test_one_of_many_is_not_blamed(void **state) {
  struct world *w = *state;
  struct queue_stats stats;
  put_many(w, QUEUE_SUSPECTS_MAX + 1);
  for (unsigned i = 0; i < WIRE_ATTEMPTS_MAX; i++) {
    world_expect_none(w);
    take_all_and_die(w, i + 1);
  }
  expect_deliveries(w, QUEUE_SUSPECTS_MAX + 1, OUTCOME_EXECUTOR_LOST);
  queue_read_stats(w->queue, w->now_us, &stats);
  assert_int_equal(stats.poisoned, 0);
}

/* Jobs that were lost together twice do not return together. */
static void test_jobs_lost_together_part(void **state) {
  struct world *w = *state;
  put_many(w, 10);
  take_all_and_die(w, 1);
  assert_int_equal(count_state(w, 10, JOB_READY), 10);
  take_all_and_die(w, 2);
  world_pass(w, 250); /* of up to 500 */
  assert_in_range(count_state(w, 10, JOB_WAITING), 1, 9);
  world_pass(w, 251);
  assert_int_equal(count_state(w, 10, JOB_READY), 10);
}

/* An executor that was only silent took nothing down. */
static void test_blame_is_taken_back_with_the_lease(void **state) {
  struct world *w = *state;
  put_many(w, 1);
  world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0);
  world_pass(w, 0);
  take(w, 1);
  struct hop_held held = held_of(w, 1);
  for (unsigned i = 0; i < QUEUE_LOST_MAX; i++) {
    lose_executor(w);
    world_expect(w, QUEUE_ASK, 1);
    assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
    assert_int_equal(world_state(w, 1), JOB_LEASED);
  }
  lose_executor(w);
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_pass(w, 0);
  assert_int_equal(world_row(w, 1)->lost, 1);
}

/* The same if it tells how the attempt ended, before its next heartbeat. */
static void test_blame_is_taken_back_with_the_report(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  lose_executor(w);
  fail_attempt(w, 1, OUTCOME_CONNECT_FAILED, CERTAINTY_NOT_SENT);
  assert_int_equal(world_state(w, 1), JOB_WAITING);
  world_pass(w, 0);
  assert_int_equal(world_row(w, 1)->lost, 0);
}

static void test_lost_on_the_last_attempt(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  job.retry.attempts = 1;
  put_taken(w, &job);
  lose_executor(w);
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_pass(w, 0);
  struct hop_result result = expect_delivery(w, 1);
  assert_int_equal(result.outcome, OUTCOME_EXECUTOR_LOST);
  assert_int_equal(result.certainty, CERTAINTY_SENT_UNKNOWN);
  assert_int_equal(result.attempt, 1);
}

static void test_missing_from_two_heartbeats_ends_one_lease(void **state) {
  struct world *w = *state;
  join(w);
  put_many_taken(w, 2);
  struct hop_held held = held_of(w, 2);
  for (int beat = 1; beat <= QUEUE_MISSED_MAX; beat++) {
    assert_int_equal(world_state(w, 1), JOB_LEASED);
    assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
    world_pass(w, 1000);
  }
  assert_int_equal(world_state(w, 1), JOB_ASKING);
  assert_int_equal(world_state(w, 2), JOB_LEASED);
  answer_status(w, 1, HOP_STATUS_DONE);
}

static void test_new_incarnation_ends_the_old_one(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  struct hop_held held = held_of(w, 1);
  world_beat(w, EXECUTOR, 0x12, 10, NULL, 0);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
  /* A delayed heartbeat of the old one neither takes the job back nor ends the new one. */
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 1);
  char url[HOP_URL_MAX];
  assert_true(queue_view_executor(w->queue, EXECUTOR, 0x12, url));
  assert_false(queue_view_executor(w->queue, EXECUTOR, INCARNATION, url));
}

static void test_executor_that_was_only_silent_goes_on(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  struct hop_held held = held_of(w, 1);
  lose_executor(w);
  struct queue_action ask = world_expect(w, QUEUE_ASK, 1);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  queue_on_status(w->queue, &ask, HOP_STATUS_PENDING, w->now_us); /* comes too late to matter */
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  assert_true(pf_fence_eq(fence_of(w, 1), held.fence));
}

static void test_a_queue_that_slept_hears_executors_first(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  struct hop_held held = held_of(w, 1);
  world_pass(w, 60000); /* stopped for a minute */
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
  world_pass(w, 2000);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  world_pass(w, 1001);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
}

static void test_restart_rebinds_leases(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  struct hop_held held = held_of(w, 1);
  world_crash(w);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
  world_pass(w, 2999);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  world_expect_none(w);
  complete(w, 1);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
}

int queue_lost_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_three_lost_executors_are_poison),
      TEST(test_one_of_many_is_not_blamed),
      TEST(test_jobs_lost_together_part),
      TEST(test_blame_is_taken_back_with_the_lease),
      TEST(test_blame_is_taken_back_with_the_report),
      TEST(test_lost_on_the_last_attempt),
      TEST(test_missing_from_two_heartbeats_ends_one_lease),
      TEST(test_new_incarnation_ends_the_old_one),
      TEST(test_executor_that_was_only_silent_goes_on),
      TEST(test_a_queue_that_slept_hears_executors_first),
      TEST(test_restart_rebinds_leases),
  };
  return cmocka_run_group_tests_name("queue_lost", tests, NULL, NULL);
}
