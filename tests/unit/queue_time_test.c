/* Retries, waits, deadlines, and epochs. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "queue_fixture.h"

/* ---- retries ---- */

static void test_retry_waits_and_counts(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  job.retry.attempts = 2;
  put_taken(w, &job);
  fail_attempt(w, 1, OUTCOME_CONNECT_FAILED, CERTAINTY_NOT_SENT);
  assert_int_equal(world_state(w, 1), JOB_WAITING);
  world_turn(w);
  assert_true(w->groups[w->group_count - 1].urgent); /* its sender is told after this */
  world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0);
  world_pass(w, 501);
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, 1);
  struct hop_execute item;
  struct queue_blob *blob;
  int64_t qid;
  assert_true(queue_view_execute(w->queue, &action, w->now_us, &item, &blob, &qid));
  queue_blob_unref(blob);
  assert_int_equal(item.attempt, 2);
  assert_true(item.last);
}

static void test_retry_after_is_honoured_up_to_the_cap(void **state) {
  struct world *w = *state;
  struct pf_rand rand = {1};
  for (int i = 0; i < 1000; i++) {
    assert_in_range(retry_delay_ms(&w->config.retry, 1, 0, &rand), 0, 500);
    assert_in_range(retry_delay_ms(&w->config.retry, 3, 0, &rand), 0, 2000);
    assert_in_range(retry_delay_ms(&w->config.retry, 16, 0, &rand), 0, 60000);
    assert_in_range(retry_delay_ms(&w->config.retry, 1, 7000, &rand), 7000, 7000);
  }
  assert_int_equal(retry_delay_ms(&w->config.retry, 1, 300000, &rand), 300000);
  assert_int_equal(retry_delay_ms(&w->config.retry, 1, 300001, &rand), 300000);
}

static void test_sent_request_of_other_methods_is_not_repeated(void **state) {
  struct world *w = *state;
  join_and_take(w, false);
  fail_attempt(w, 1, OUTCOME_RESET, CERTAINTY_SENT_UNKNOWN);
  world_pass(w, 0);
  struct hop_result result = expect_delivery(w, 1);
  assert_int_equal(result.outcome, OUTCOME_RESET);
  assert_int_equal(result.certainty, CERTAINTY_SENT_UNKNOWN);
}

static void test_old_fence_completes_nothing_but_a_delivery(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  struct hop_complete item = {
      .job = world_id(1), .fence = {w->config.epoch, 999}, .how = HOP_COMPLETE_RETRY};
  queue_complete(w->queue, &item, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  item.how = HOP_COMPLETE_UNDELIVERED;
  queue_complete(w->queue, &item, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  item.how = HOP_COMPLETE_DELIVERED; /* the origin has the result, whoever brought it */
  queue_complete(w->queue, &item, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
}

/* ---- time ---- */

static void test_queue_wait_ends_once(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  put(w, &job);
  world_pass(w, 59999);
  world_expect_none(w);
  world_pass(w, 2);
  struct hop_result result = expect_delivery(w, 1);
  assert_int_equal(result.outcome, OUTCOME_QUEUE_TIMEOUT);
  assert_int_equal(result.certainty, CERTAINTY_NOT_SENT);
  assert_int_equal(result.fence.counter, 0);
}

static void test_deadline_is_the_origins_to_end(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.deadline_ms = 1000;
  put(w, &job);
  world_pass(w, 1001);
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_pass(w, 1001);
  answer_status(w, 1, HOP_STATUS_DONE);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
}

/* The origin's clock went back and it was started anew: it waits longer than it had said, and so
 * must the queue. */
static void test_deadline_grows_with_the_announcement(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.deadline_ms = 1000;
  put(w, &job);
  world_pass(w, 1001);
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
  job.deadline_ms = 5000;
  assert_int_equal(world_put(w, &job), HOP_JOB_KNOWN);
  world_pass(w, 1001);
  answer_status(w, 1, HOP_STATUS_PENDING);
  assert_int_equal(world_state(w, 1), JOB_READY);
  job.deadline_ms = 8000;
  assert_int_equal(world_put(w, &job), HOP_JOB_KNOWN);
  job.deadline_ms = 1; /* a delayed copy */
  assert_int_equal(world_put(w, &job), HOP_JOB_KNOWN);
  world_pass(w, 7999);
  world_expect_none(w);
  join(w);
  take(w, 1);
}

/* The check that a running orchestrator makes, before the turn in which the queue looks at it. */
static void test_a_failure_after_the_deadline_leaves_nothing_unsound(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.deadline_ms = 1000;
  join(w);
  put_taken(w, &job);
  world_pass(w, 1500);
  fail_attempt(w, 1, OUTCOME_RESET, CERTAINTY_SENT_UNKNOWN);
  assert_int_equal(queue_check_some(w->queue, 1000), 0);
  world_pass(w, 0);
  world_expect(w, QUEUE_ASK, 1);
}

static void test_renewed_epoch_doubts_what_must_not_be_repeated(void **state) {
  struct world *w = *state;
  for (uint64_t i = 1; i <= 2; i++) {
    struct hop_job job = world_job(i);
    job.repeatable = i == 2;
    put(w, &job);
  }
  w->config.epoch++;
  world_crash(w);
  world_commit(w);
  world_origin(w, 1, 1);
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_pass(w, 0);
  struct hop_result result = expect_delivery(w, 1);
  assert_int_equal(result.outcome, OUTCOME_QUEUE_LOST);
  assert_int_equal(result.certainty, CERTAINTY_SENT_UNKNOWN);
  join(w);
  take(w, 2);
  assert_int_equal(fence_of(w, 2).epoch, w->config.epoch);
}

static void test_exhausted_survives_a_restart(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  put(w, &job);
  world_pass(w, 60001);
  world_crash(w);
  world_commit(w);
  join(w);
  assert_int_equal(expect_delivery(w, 1).outcome, OUTCOME_QUEUE_TIMEOUT);
  world_expect_none(w);
}

int queue_time_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_retry_waits_and_counts),
      TEST(test_retry_after_is_honoured_up_to_the_cap),
      TEST(test_sent_request_of_other_methods_is_not_repeated),
      TEST(test_old_fence_completes_nothing_but_a_delivery),
      TEST(test_queue_wait_ends_once),
      TEST(test_deadline_is_the_origins_to_end),
      TEST(test_deadline_grows_with_the_announcement),
      TEST(test_a_failure_after_the_deadline_leaves_nothing_unsound),
      TEST(test_renewed_epoch_doubts_what_must_not_be_repeated),
      TEST(test_exhausted_survives_a_restart),
  };
  return cmocka_run_group_tests_name("queue_time", tests, NULL, NULL);
}
