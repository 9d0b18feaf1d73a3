/* Who gets a job: START, answers to dispatches, fairness. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "queue_fixture.h"

/* ---- START ---- */

static void test_start_is_for_the_newest_lease_only(void **state) {
  struct world *w = *state;
  join_and_take(w, false);
  struct hop_held held = held_of(w, 1), other = held;
  other.fence.counter++;
  assert_false(queue_start(w->queue, &other, w->now_us));
  assert_true(queue_start(w->queue, &held, w->now_us));
  assert_true(queue_start(w->queue, &held, w->now_us)); /* the answer was lost: asked again */
  w->now_us += 3001 * MS;                               /* silent for a lease, not yet noticed */
  assert_false(queue_start(w->queue, &held, w->now_us));
}

static void test_lost_after_start_is_sent_unknown(void **state) {
  struct world *w = *state;
  join_and_take(w, false);
  struct hop_held held = held_of(w, 1);
  assert_true(queue_start(w->queue, &held, w->now_us));
  lose_executor(w);
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_turn(w);
  world_expect_none(w); /* the row says exhausted before the origin hears of it */
  world_commit(w);
  assert_int_equal(world_row(w, 1)->state, QUEUE_ROW_EXHAUSTED);
  struct hop_result result = expect_delivery(w, 1);
  assert_int_equal(result.outcome, OUTCOME_EXECUTOR_LOST);
  assert_int_equal(result.certainty, CERTAINTY_SENT_UNKNOWN);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
}

static void test_lost_before_start_goes_again(void **state) {
  struct world *w = *state;
  join_and_take(w, false);
  struct hop_held old = held_of(w, 1);
  lose_executor(w);
  assert_false(queue_start(w->queue, &old, w->now_us)); /* a zombie comes too late */
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_beat(w, 2, 0x22, 10, NULL, 0);
  world_pass(w, 0);
  take(w, 1);
  assert_int_equal(attempt_of(w, 1), 2);
  assert_false(queue_start(w->queue, &old, w->now_us));
}

static void test_restart_counts_as_started(void **state) {
  struct world *w = *state;
  join_and_take(w, false);
  world_crash(w);
  world_commit(w);
  world_origin(w, 1, 1);
  world_pass(w, 4999);
  world_expect_none(w); /* a lease and the grace */
  world_pass(w, 2);
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_pass(w, 0);
  assert_int_equal(world_expect(w, QUEUE_EXECUTOR_GONE, 0).executor, EXECUTOR);
  assert_int_equal(expect_delivery(w, 1).certainty, CERTAINTY_SENT_UNKNOWN);
}

/* ---- answers to dispatches ---- */

/* Job 1 goes to the executor, which has not answered. */
static struct queue_action dispatch_one(struct world *w) {
  struct hop_job job = world_job(1);
  join(w);
  put(w, &job);
  return world_expect(w, QUEUE_DISPATCH, 1);
}

static void test_unanswered_dispatch_goes_again_with_the_same_fence(void **state) {
  struct world *w = *state;
  struct queue_action action = dispatch_one(w);
  struct pf_fence fence = fence_of(w, 1);
  queue_on_dispatch(w->queue, &action, QUEUE_NO_ANSWER, w->now_us);
  world_pass(w, 51);
  take(w, 1);
  assert_true(pf_fence_eq(fence_of(w, 1), fence));
  assert_int_equal(attempt_of(w, 1), 1);
}

static void test_full_executor_costs_no_attempt(void **state) {
  struct world *w = *state;
  struct queue_action action = dispatch_one(w);
  queue_on_dispatch(w->queue, &action, HOP_EXECUTE_FULL, w->now_us);
  world_pass(w, 0);
  world_expect_none(w); /* until it speaks again */
  world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0);
  world_pass(w, 0);
  take(w, 1);
  assert_int_equal(attempt_of(w, 1), 1);
}

/* The executor answers each copy of a dispatch alike: `full` says that no copy was taken or will
 * be, also if the answer to the first was lost. */
static void test_full_after_a_lost_answer_costs_no_attempt(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.retry.attempts = 1;
  job.repeatable = false;
  join(w);
  put(w, &job);
  struct pf_fence first = fence_of(w, 1);
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, 1);
  queue_on_dispatch(w->queue, &action, QUEUE_NO_ANSWER, w->now_us);
  world_pass(w, 51);
  action = world_expect(w, QUEUE_DISPATCH, 1);
  queue_on_dispatch(w->queue, &action, HOP_EXECUTE_FULL, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_READY);
  world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0);
  world_pass(w, 0);
  take(w, 1);
  assert_int_equal(attempt_of(w, 1), 1);
  assert_false(pf_fence_eq(fence_of(w, 1), first));
}

/* It cannot be true of a dispatch that the executor has asked to start, or has listed. */
static void test_full_is_not_believed_of_what_is_held(void **state) {
  struct world *w = *state;
  join(w);
  for (uint64_t i = 1; i <= 2; i++) {
    struct hop_job job = world_job(i);
    job.repeatable = false;
    put(w, &job);
    struct queue_action action = world_expect(w, QUEUE_DISPATCH, i);
    struct hop_held held = held_of(w, i);
    if (i == 1)
      assert_true(queue_start(w->queue, &held, w->now_us));
    else
      assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
    queue_on_dispatch(w->queue, &action, HOP_EXECUTE_FULL, w->now_us);
    assert_int_equal(world_state(w, i), JOB_LEASED);
    world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0); /* not full any more */
  }
}

static void test_wrong_incarnation_is_a_lost_executor(void **state) {
  struct world *w = *state;
  struct queue_action action = dispatch_one(w);
  queue_on_dispatch(w->queue, &action, HOP_EXECUTE_WRONG_INCARNATION, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
}

/* ---- fairness ---- */

static void test_one_host_gets_half_while_another_waits(void **state) {
  struct world *w = *state;
  uint64_t local = 1;
  for (int host = 0; host < 2; host++) {
    for (int i = 0; i < 20; i++) {
      struct hop_job job = world_job(local++);
      job.host[0] = (char)('a' + host);
      assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
    }
  }
  world_pass(w, 0);
  join(w); /* 10 slots */
  unsigned of_first = 0, all = 0;
  struct queue_action action;
  for (; world_act(w, &action); all++)
    of_first += action.job.local <= 20;
  assert_int_equal(all, 10);
  assert_int_equal(of_first, 5);
}

static void test_one_host_alone_gets_everything(void **state) {
  struct world *w = *state;
  for (uint64_t i = 1; i <= 20; i++) {
    struct hop_job job = world_job(i);
    assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  }
  world_pass(w, 0);
  join(w);
  unsigned all = 0;
  struct queue_action action;
  while (world_act(w, &action))
    all++;
  assert_int_equal(all, 10);
}

static void test_the_emptiest_executor_is_chosen(void **state) {
  struct world *w = *state;
  world_beat(w, 1, 0x11, 4, NULL, 0);
  world_beat(w, 2, 0x22, 6, NULL, 0);
  unsigned count[3] = {0};
  for (uint64_t i = 1; i <= 10; i++) {
    struct hop_job job = world_job(i);
    assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  }
  world_pass(w, 0);
  struct queue_action action;
  while (world_act(w, &action))
    count[action.executor]++;
  assert_int_equal(count[1], 4);
  assert_int_equal(count[2], 6);
}

static void test_leaving_executor_gets_nothing(void **state) {
  struct world *w = *state;
  struct hop_heartbeat beat = {
      .executor = 1, .incarnation = 0x11, .slots = 10, .free = 10, .leaving = true};
  struct pf_buf aborts;
  pf_buf_init(&aborts, 1024);
  struct hop_job job = world_job(1);
  put(w, &job);
  assert_int_equal(
      queue_heartbeat(w->queue, &beat, (struct pf_slice){0}, w->now_us, &aborts), PF_OK);
  pf_buf_done(&aborts);
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_READY);
}

static int beat_of(struct world *w, uint64_t executor, bool leaving) {
  struct hop_heartbeat beat = {
      .executor = executor, .incarnation = 0x11, .slots = 1, .free = 1, .leaving = leaving};
  struct pf_buf aborts;
  pf_buf_init(&aborts, 1024);
  int err = queue_heartbeat(w->queue, &beat, (struct pf_slice){0}, w->now_us, &aborts);
  pf_buf_done(&aborts);
  return err;
}

static void test_executors_max(void **state) {
  struct world *w = *state;
  for (uint64_t i = 1; i <= QUEUE_EXECUTORS_MAX; i++)
    assert_int_equal(beat_of(w, i, false), PF_OK);
  assert_int_equal(beat_of(w, QUEUE_EXECUTORS_MAX + 1, false), PF_ELIMIT);
  assert_int_equal(beat_of(w, 1, true), PF_OK); /* those that are known go on, or leave */
  assert_int_equal(beat_of(w, QUEUE_EXECUTORS_MAX + 1, false), PF_OK);
  assert_int_equal(beat_of(w, 1, false), PF_ELIMIT);
}

/* The process is about to end: what is leased is to be answered for, the rest stays. */
static void test_leasing_stops(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job first = world_job(1), second = world_job(2);
  put(w, &first);
  assert_true(queue_has_untaken(w->queue));
  queue_stop_leasing(w->queue);
  put(w, &second);
  take(w, 1);
  assert_false(queue_has_untaken(w->queue));
  world_expect_none(w);
  assert_int_equal(world_state(w, 2), JOB_READY);
  world_crash(w);
  join(w);
  take(w, 2);
}

int queue_lease_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_start_is_for_the_newest_lease_only),
      TEST(test_lost_after_start_is_sent_unknown),
      TEST(test_lost_before_start_goes_again),
      TEST(test_restart_counts_as_started),
      TEST(test_unanswered_dispatch_goes_again_with_the_same_fence),
      TEST(test_full_executor_costs_no_attempt),
      TEST(test_full_after_a_lost_answer_costs_no_attempt),
      TEST(test_full_is_not_believed_of_what_is_held),
      TEST(test_wrong_incarnation_is_a_lost_executor),
      TEST(test_one_host_gets_half_while_another_waits),
      TEST(test_one_host_alone_gets_everything),
      TEST(test_the_emptiest_executor_is_chosen),
      TEST(test_leaving_executor_gets_nothing),
      TEST(test_executors_max),
      TEST(test_leasing_stops),
  };
  return cmocka_run_group_tests_name("queue_lease", tests, NULL, NULL);
}
