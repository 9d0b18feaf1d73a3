/* Rules of the queue that fail silently when they are left out: each test here was seen to fail
 * without its rule. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "orchestrator/queue_impl.h" /* to break what must not break */
#include "queue_fixture.h"

static int setup_joined(void **state) {
  int code = setup(state);
  join(*state);
  return code;
}

static void answer_dispatch(struct world *w, uint64_t local, int answer) {
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, local);
  queue_on_dispatch(w->queue, &action, answer, w->now_us);
}

static struct hop_held put_one(struct world *w, uint64_t local) {
  struct hop_job job = world_job(local);
  put_taken(w, &job);
  return held_of(w, local);
}

static void beat_without(struct world *w) {
  for (int i = 0; i < QUEUE_MISSED_MAX; i++) {
    assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0), 0);
    world_pass(w, 1000);
  }
}

/* The executor that lost the first dispatch of a job and was given a second one does not renew the
 * second by listing the first. */
static void test_heartbeat_with_an_old_fence_renews_nothing(void **state) {
  struct world *w = *state;
  struct hop_held old = put_one(w, 1);
  beat_without(w);
  struct queue_action ask = world_expect(w, QUEUE_ASK, 1);
  queue_on_status(w->queue, &ask, HOP_STATUS_PENDING, w->now_us);
  world_pass(w, 0);
  answer_dispatch(w, 1, HOP_EXECUTE_TAKEN);
  assert_false(pf_fence_eq(old.fence, held_of(w, 1).fence));
  for (int i = 0; i < QUEUE_MISSED_MAX; i++) {
    assert_int_equal(world_state(w, 1), JOB_LEASED);
    assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &old, 1), 1); /* to be aborted */
    world_pass(w, 1000);
  }
  assert_int_equal(world_state(w, 1), JOB_ASKING);
}

/* The origin that answers `retry` has not got it. */
static void test_delivery_goes_on_until_the_answer_is_final(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.retry.attempts = 1;
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  world_pass(w, 0);
  answer_dispatch(w, 1, HOP_EXECUTE_TAKEN);
  fail_attempt(w, 1, OUTCOME_RESET, CERTAINTY_SENT_UNKNOWN);
  world_pass(w, 0);
  static const int answers[] = {HOP_RESULT_RETRY, QUEUE_NO_ANSWER, HOP_RESULT_ACCEPTED};
  for (size_t i = 0; i < PF_COUNT(answers); i++) {
    struct queue_action action = world_expect(w, QUEUE_DELIVER, 1);
    assert_int_equal(world_state(w, 1), JOB_EXHAUSTED);
    queue_on_delivery(w->queue, &action, answers[i], w->now_us);
    world_pass(w, 2001);
  }
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
  assert_null(world_row(w, 1));
}

/* `refused` answers the copy that came second: the first may have been taken, and its answer lost.
 */
static void test_refusal_of_a_second_copy_decides_nothing(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  world_pass(w, 0);
  answer_dispatch(w, 1, QUEUE_NO_ANSWER);
  struct hop_held held = held_of(w, 1);
  world_pass(w, 51);
  answer_dispatch(w, 1, HOP_EXECUTE_REFUSED);
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0); /* it was */
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  assert_true(pf_fence_eq(held.fence, held_of(w, 1).fence));
  beat_without(w); /* and if it was not, the heartbeats tell */
  assert_int_equal(world_state(w, 1), JOB_ASKING);
}

/* The first and only copy: nothing was sent, and no other executor would read it differently. */
static void test_a_dispatch_that_cannot_be_read_ends_the_job(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  world_pass(w, 0);
  answer_dispatch(w, 1, HOP_EXECUTE_REFUSED);
  world_pass(w, 0);
  struct hop_result result = expect_delivery(w, 1);
  assert_int_equal(result.outcome, OUTCOME_EXECUTOR_INTERNAL);
  assert_int_equal(result.certainty, CERTAINTY_NOT_SENT);
}

/* Its origin has finished with it while it waited for a slot. */
static void test_a_ready_job_that_is_over_is_not_dispatched(void **state) {
  struct world *w = *state;
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 0, NULL, 0), 0); /* no slots */
  for (uint64_t i = 1; i <= 2; i++) {
    struct hop_job job = world_job(i);
    assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  }
  world_pass(w, 0);
  world_origin(w, 1, 2); /* job 1 is below */
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0), 0);
  world_pass(w, 0);
  answer_dispatch(w, 2, HOP_EXECUTE_TAKEN);
  world_expect_none(w);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
  assert_null(world_row(w, 1));
}

/* A disk that is nearly full: what is known stays known, and what is new is put off. */
static void test_a_full_disk_puts_new_jobs_off(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  static const struct pf_slice none = {0};
  assert_int_equal(queue_put(w->queue, &job, none, none, true, w->now_us).answer, HOP_JOB_KNOWN);
  job = world_job(2);
  assert_int_equal(queue_put(w->queue, &job, none, none, true, w->now_us).answer, HOP_JOB_FULL);
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
}

static void test_origins_and_executors_at_their_limits(void **state) {
  struct world *w = *state;
  struct hop_jobs_head origin = {.origin_epoch = 1, .url = "http://127.0.0.1:1"};
  for (uint64_t i = 1; i <= QUEUE_ORIGINS_MAX + 1; i++) { /* with that of the world */
    origin.origin = 1000 + i;
    bool fits = i < QUEUE_ORIGINS_MAX;
    assert_int_equal(queue_origin_seen(w->queue, &origin, w->now_us), fits ? PF_OK : PF_ELIMIT);
  }
  struct hop_job job = world_job(1);
  job.job.origin = origin.origin;
  assert_int_equal(world_put(w, &job), HOP_JOB_REFUSED);
  origin.origin = 1001;
  assert_int_equal(queue_origin_seen(w->queue, &origin, w->now_us), PF_OK); /* is known */

  struct pf_buf aborts;
  pf_buf_init(&aborts, 1024);
  struct hop_heartbeat beat = {
      .slots = 1, .free = 1, .incarnation = 1, .url = "http://127.0.0.1:1"};
  for (uint64_t i = 1; i <= QUEUE_EXECUTORS_MAX + 1; i++) {
    beat.executor = 1000 + i;
    bool fits = i < QUEUE_EXECUTORS_MAX;
    assert_int_equal(queue_heartbeat(w->queue, &beat, (struct pf_slice){0}, w->now_us, &aborts),
        fits ? PF_OK : PF_ELIMIT);
  }
  pf_buf_done(&aborts);
}

/* The request names the statuses with which also a job that must not be repeated is tried again,
 * and that as often as it may be tried. */
static void test_named_status_is_repeated_up_to_the_last_attempt(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.repeatable = false;
  job.retry.attempts = 2;
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  world_pass(w, 0);
  answer_dispatch(w, 1, HOP_EXECUTE_TAKEN);
  fail_attempt(w, 1, OUTCOME_STATUS_NAMED, CERTAINTY_ANSWERED);
  assert_int_equal(world_state(w, 1), JOB_WAITING);
  world_pass(w, 2000);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0), 0);
  world_pass(w, 0);
  answer_dispatch(w, 1, HOP_EXECUTE_TAKEN);
  fail_attempt(w, 1, OUTCOME_STATUS_NAMED, CERTAINTY_ANSWERED);
  assert_int_equal(world_state(w, 1), JOB_EXHAUSTED);
}

/* What another epoch of the queue sent is not known here, and its result still worth having. */
static void test_dispatches_of_another_epoch_go_on(void **state) {
  struct world *w = *state;
  struct hop_held held = put_one(w, 1);
  held.job.local = 5;
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 1);
  held.fence.epoch ^= 1;
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
}

/* The counter that is looked at in production counts what the tests assert. */
static void test_broken_invariants_are_counted(void **state) {
  struct world *w = *state;
  put_one(w, 1);
  assert_int_equal(queue_check_some(w->queue, 1000), 0);
  w->queue->slots++;
  assert_int_equal(queue_check_some(w->queue, 1000), 1);
  w->queue->slots--;
  struct job *job = job_find(w->queue, world_id(1));
  job->executor = NULL; /* leased to nobody */
  assert_true(queue_check_some(w->queue, 1000) > 0);
  job->executor = executor_find(w->queue, EXECUTOR, INCARNATION);
  assert_int_equal(queue_check_some(w->queue, 1000), 0);
}

static void test_a_job_that_nothing_will_move_on_is_counted(void **state) {
  struct world *w = *state;
  struct queue *queue = w->queue;
  put_one(w, 1);
  struct job *job = job_find(queue, world_id(1));
  job->taken = false; /* by nobody, and no answer is awaited */
  assert_int_equal(queue_check_some(queue, 1000), 1);
  job->taken = true;
  fail_attempt(w, 1, OUTCOME_RESET, CERTAINTY_SENT_UNKNOWN);
  assert_int_equal(world_state(w, 1), JOB_WAITING);
  world_pass(w, 0);
  assert_int_equal(queue_check_some(queue, 1000), 0);
  int64_t at_us = job->timer.key;
  pf_heap_del(&queue->timers, &job->timer);
  assert_int_equal(queue_check_some(queue, 1000), 1);
  pf_heap_set(&queue->timers, &job->timer, queue->settled_us - 1); /* missed by the last settle */
  assert_int_equal(queue_check_some(queue, 1000), 1);
  pf_heap_set(&queue->timers, &job->timer, at_us);
  assert_int_equal(queue_check_some(queue, 1000), 0);

  put_one(w, 2);
  beat_without(w);
  struct job *asking = job_find(queue, world_id(2));
  assert_int_equal(asking->state, JOB_ASKING);
  asking->asked = false;
  assert_int_equal(queue_check_some(queue, 1000), 1);
  asking->asked = true;

  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 0, NULL, 0), 0); /* no slots */
  struct hop_job more = world_job(3);
  assert_int_equal(world_put(w, &more), HOP_JOB_QUEUED);
  struct job *ready = job_find(queue, world_id(3));
  assert_int_equal(ready->state, JOB_READY);
  at_us = ready->timer.key;
  pf_heap_del(&queue->timers, &ready->timer);
  assert_int_equal(queue_check_some(queue, 1000), 1);
  pf_heap_set(&queue->timers, &ready->timer, at_us);
  assert_int_equal(queue_check_some(queue, 1000), 0);
}

/* A fence that no durable block covers could be given out again after a restart. */
static void test_fences_that_are_not_covered_are_counted(void **state) {
  struct world *w = *state;
  struct queue *queue = w->queue;
  put_one(w, 1);
  uint64_t reserved = queue->fence_reserved;
  queue->fence_reserved = queue->fence_next - 1;
  assert_int_equal(queue_check_some(queue, 1000), 1);
  queue->fence_reserved = reserved;
  struct job *job = job_find(queue, world_id(1));
  job->fence.counter += 1; /* the next one's */
  assert_int_equal(queue_check_some(queue, 1000), 1);
  job->fence.counter -= 1;
  assert_int_equal(queue_check_some(queue, 1000), 0);
}

int queue_rules_tests(void) {
#define RULE(name) cmocka_unit_test_setup_teardown(name, setup_joined, teardown)
  const struct CMUnitTest tests[] = {
      RULE(test_heartbeat_with_an_old_fence_renews_nothing),
      RULE(test_delivery_goes_on_until_the_answer_is_final),
      RULE(test_refusal_of_a_second_copy_decides_nothing),
      RULE(test_a_dispatch_that_cannot_be_read_ends_the_job),
      RULE(test_a_ready_job_that_is_over_is_not_dispatched),
      RULE(test_a_full_disk_puts_new_jobs_off),
      RULE(test_origins_and_executors_at_their_limits),
      RULE(test_named_status_is_repeated_up_to_the_last_attempt),
      RULE(test_dispatches_of_another_epoch_go_on),
      RULE(test_broken_invariants_are_counted),
      RULE(test_a_job_that_nothing_will_move_on_is_counted),
      RULE(test_fences_that_are_not_covered_are_counted),
  };
  return cmocka_run_group_tests_name("queue_rules", tests, NULL, NULL);
}
