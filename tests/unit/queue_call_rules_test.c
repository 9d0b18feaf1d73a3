/* Rules about calls that come late, twice or not at all: each test here was seen to fail without
 * its rule. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "queue_fixture.h"

#define MORE_MS 30001 /* any pause between two questions to an origin is over */

static int setup_joined(void **state) {
  int code = setup(state);
  join(*state);
  return code;
}

static struct queue_stats stats_of(const struct world *w) {
  struct queue_stats stats;
  queue_read_stats(w->queue, w->now_us, &stats);
  return stats;
}

/* ---- completions ---- */

/* The queue has lost its memory of the job, and the origin's announcement is still under way. */
static void test_delivery_of_an_unknown_job_is_remembered(void **state) {
  struct world *w = *state;
  struct hop_complete item = {.job = world_id(5), .fence = {w->config.epoch ^ 1, 9}};
  queue_complete(w->queue, &item, w->now_us);
  world_pass(w, 0);
  struct hop_job job = world_job(5);
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
}

/* The copy of a report that was dealt with comes when the origin is asked, for its deadline. */
static void test_a_second_report_decides_nothing(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.deadline_ms = 1000;
  put_taken(w, &job);
  struct hop_complete report = {.job = world_id(1),
      .fence = fence_of(w, 1),
      .how = HOP_COMPLETE_RETRY,
      .outcome = OUTCOME_RESET,
      .certainty = CERTAINTY_SENT_UNKNOWN,
      .retry_after_ms = 60000};
  queue_complete(w->queue, &report, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_WAITING);
  world_pass(w, 1001);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
  queue_complete(w->queue, &report, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
}

/* The lease was given up too early: the attempt has ended after all, and how is known now. */
static void test_a_report_after_the_lease_is_the_end_of_the_attempt(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  lose_executor(w);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
  fail_attempt(w, 1, OUTCOME_CONNECT_FAILED, CERTAINTY_NOT_SENT);
  assert_int_equal(world_state(w, 1), JOB_WAITING);
}

/* ---- answers of origins ---- */

/* Nothing is fetched after the deadline; the origin, which is about to end the job, is not asked
 * over and over. */
static void test_pending_past_the_deadline(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.deadline_ms = 5000;
  put_taken(w, &job);
  lose_executor(w);
  world_pass(w, 3000);
  join(w);
  for (int i = 0; i < 3; i++) {
    answer_status(w, 1, HOP_STATUS_PENDING);
    world_pass(w, 999);
    world_expect_none(w);
    world_pass(w, 1);
  }
}

static void test_certainty_without_start(void **state) {
  struct world *w = *state;
  for (uint64_t local = 1; local <= 2; local++) {
    struct hop_job job = world_job(local);
    job.repeatable = local == 1;
    job.retry.attempts = 1;
    put_taken(w, &job);
  }
  lose_executor(w);
  for (uint64_t local = 1; local <= 2; local++)
    answer_status(w, local, HOP_STATUS_PENDING);
  world_pass(w, 0);
  assert_int_equal(expect_delivery(w, 1).certainty, CERTAINTY_SENT_UNKNOWN);
  assert_int_equal(expect_delivery(w, 2).certainty, CERTAINTY_NOT_SENT);
}

/* Asked, taken up again by a heartbeat, lost and asked again: the first answer comes last. */
static void test_answer_to_an_old_question_is_ignored(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  struct hop_held held = held_of(w, 1);
  lose_executor(w);
  struct queue_action old = world_expect(w, QUEUE_ASK, 1);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  lose_executor(w);
  queue_on_status(w->queue, &old, HOP_STATUS_UNKNOWN, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
  answer_status(w, 1, HOP_STATUS_PENDING);
}

static void test_answer_to_an_old_dispatch_is_ignored(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  put(w, &job);
  struct queue_action old = world_expect(w, QUEUE_DISPATCH, 1);
  lose_executor(w);
  answer_status(w, 1, HOP_STATUS_PENDING);
  join(w);
  take(w, 1);
  struct pf_fence fence = fence_of(w, 1);
  queue_on_dispatch(w->queue, &old, HOP_EXECUTE_WRONG_INCARNATION, w->now_us);
  queue_on_dispatch(w->queue, &old, HOP_EXECUTE_FULL, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  assert_true(pf_fence_eq(fence, fence_of(w, 1)));
  assert_int_equal(stats_of(w).full_answers, 0);
}

/* An origin that has taken one failure takes the next one at once; one that is being told is not
 * told twice. */
static void test_an_answer_wakes_what_waits_to_be_told(void **state) {
  struct world *w = *state;
  for (uint64_t local = 1; local <= 3; local++) {
    struct hop_job job = world_job(local);
    job.retry.attempts = 1;
    put_taken(w, &job);
  }
  for (uint64_t local = 1; local <= 3; local++)
    fail_attempt(w, local, OUTCOME_RESET, CERTAINTY_SENT_UNKNOWN);
  world_pass(w, 0);
  struct queue_action told = world_expect(w, QUEUE_DELIVER, 1);
  struct queue_action fails = world_expect(w, QUEUE_DELIVER, 2);
  struct queue_action under_way = world_expect(w, QUEUE_DELIVER, 3);
  queue_on_delivery(w->queue, &fails, QUEUE_NO_ANSWER, w->now_us);
  world_pass(w, 0);
  world_expect_none(w);
  queue_on_delivery(w->queue, &told, HOP_RESULT_ACCEPTED, w->now_us);
  world_pass(w, 0);
  queue_on_delivery(w->queue, &under_way, HOP_RESULT_ACCEPTED, w->now_us);
  assert_int_equal(expect_delivery(w, 2).outcome, OUTCOME_RESET);
  world_pass(w, MORE_MS);
  world_expect_none(w);
}

/* It could not say yet, and is somewhere else now: there nobody has been asked. */
static void test_an_origin_that_has_moved_is_asked_at_once(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  lose_executor(w);
  answer_status(w, 1, HOP_STATUS_RETRY);
  world_pass(w, 0);
  world_expect_none(w);
  world_origin(w, 1, 1); /* only says that it lives */
  world_pass(w, 0);
  world_expect_none(w);
  world_origin(w, 2, 1);
  world_pass(w, 0);
  answer_status(w, 1, HOP_STATUS_DONE);
}

/* ---- leases ---- */

/* Only heartbeats renew a lease: it is about the executor, which counts its own from when they
 * left, and neither the answer to a dispatch nor START says when that was. */
static void test_only_heartbeats_renew(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.repeatable = false;
  put(w, &job);
  world_pass(w, 2900);
  take(w, 1);
  struct hop_held held = held_of(w, 1);
  assert_true(queue_start(w->queue, &held, w->now_us));
  w->now_us += 100 * MS; /* no turn has noticed yet */
  assert_false(queue_start(w->queue, &held, w->now_us));
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
}

/* The dispatch may still be under way: only what was taken can be missing. */
static void test_what_was_not_taken_is_not_missing(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  put(w, &job);
  for (int i = 0; i <= QUEUE_MISSED_MAX; i++) {
    assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0), 0);
    world_pass(w, 1000);
  }
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  take(w, 1);
}

/* Heartbeats may arrive out of order: missing from some that do not follow each other is no loss.
 */
static void test_missing_counts_in_a_row(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  struct hop_held held = held_of(w, 1);
  for (int i = 0; i < 3 * QUEUE_MISSED_MAX; i++) {
    assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, i % 2 ? 1 : 0), 0);
    world_pass(w, 1000);
  }
  assert_int_equal(stats_of(w).leases_lost, 0);
}

static void say_goodbye(struct world *w, const struct hop_held *held, size_t count) {
  struct hop_heartbeat beat = {
      .executor = EXECUTOR, .incarnation = INCARNATION, .slots = 10, .leaving = true};
  struct pf_buf packed, aborts;
  pf_buf_init(&packed, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&aborts, PF_BUF_MAX_DEFAULT);
  for (size_t i = 0; i < count; i++)
    hop_held_append(&packed, &held[i]);
  assert_int_equal(
      queue_heartbeat(w->queue, &beat, pf_buf_view(&packed), w->now_us, &aborts), PF_OK);
  pf_buf_done(&packed);
  pf_buf_done(&aborts);
}

/* It goes at once, also if it says so twice, and its jobs have not taken it down. */
static void test_an_executor_that_leaves(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.retry.attempts = 10;
  for (int i = 0; i <= QUEUE_LOST_MAX; i++) {
    world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0);
    world_pass(w, 0);
    if (i == 0) put(w, &job);
    take(w, 1);
    struct hop_held held = held_of(w, 1);
    say_goodbye(w, &held, 1);
    assert_int_equal(stats_of(w).executors, 1); /* it still works on one */
    assert_int_equal(stats_of(w).free_slots, 0);
    lose_executor(w); /* and is not heard of any more */
    answer_status(w, 1, HOP_STATUS_PENDING);
    world_pass(w, MORE_MS);
    assert_int_equal(world_state(w, 1), JOB_READY); /* no poison */
  }
  join(w);
  take(w, 1);
  complete(w, 1);
  for (int i = 0; i < 2; i++) {
    say_goodbye(w, NULL, 0);
    world_pass(w, 0);
    assert_int_equal(stats_of(w).executors, 0);
  }
  assert_int_equal(stats_of(w).executors_lost, 0);
}

/* One that has less room than slots says so, and is given no more than that. */
static void test_slots_that_an_executor_withholds(void **state) {
  struct world *w = *state;
  struct hop_heartbeat beat = {
      .executor = EXECUTOR, .incarnation = INCARNATION, .slots = 10, .free = 3};
  struct pf_buf aborts;
  pf_buf_init(&aborts, PF_BUF_MAX_DEFAULT);
  assert_int_equal(
      queue_heartbeat(w->queue, &beat, (struct pf_slice){0}, w->now_us, &aborts), PF_OK);
  pf_buf_done(&aborts);
  for (uint64_t local = 1; local <= 5; local++) {
    struct hop_job job = world_job(local);
    put(w, &job);
  }
  assert_int_equal(stats_of(w).by_state[JOB_LEASED], 3);
  assert_int_equal(stats_of(w).by_state[JOB_READY], 2);
}

int queue_call_rules_tests(void) {
#define RULE(name) cmocka_unit_test_setup_teardown(name, setup_joined, teardown)
  const struct CMUnitTest tests[] = {
      RULE(test_delivery_of_an_unknown_job_is_remembered),
      RULE(test_a_second_report_decides_nothing),
      RULE(test_a_report_after_the_lease_is_the_end_of_the_attempt),
      RULE(test_pending_past_the_deadline),
      RULE(test_certainty_without_start),
      RULE(test_answer_to_an_old_question_is_ignored),
      RULE(test_answer_to_an_old_dispatch_is_ignored),
      RULE(test_an_answer_wakes_what_waits_to_be_told),
      RULE(test_an_origin_that_has_moved_is_asked_at_once),
      RULE(test_only_heartbeats_renew),
      RULE(test_what_was_not_taken_is_not_missing),
      RULE(test_missing_counts_in_a_row),
      RULE(test_an_executor_that_leaves),
      RULE(test_slots_that_an_executor_withholds),
  };
  return cmocka_run_group_tests_name("queue_call_rules", tests, NULL, NULL);
}
