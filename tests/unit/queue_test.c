#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "queue_world.h"

#define EXECUTOR 1u
#define INCARNATION 0x11u

static int setup(void **state) {
  struct world *w = pf_alloc(sizeof(*w));
  world_init(w, 42);
  world_origin(w, 1, 1);
  *state = w;
  return 0;
}

static int teardown(void **state) {
  struct world *w = *state;
  world_done(w);
  free(w);
  return 0;
}

static struct pf_fence fence_of(const struct world *w, uint64_t local) {
  enum job_state state;
  int attempt;
  struct pf_fence fence = {0};
  assert_true(queue_find(w->queue, world_id(local), &state, &attempt, &fence));
  return fence;
}

static int attempt_of(const struct world *w, uint64_t local) {
  enum job_state state;
  int attempt = 0;
  struct pf_fence fence;
  assert_true(queue_find(w->queue, world_id(local), &state, &attempt, &fence));
  return attempt;
}

static struct hop_held held_of(const struct world *w, uint64_t local) {
  return (struct hop_held){world_id(local), fence_of(w, local)};
}

/* An executor with 10 slots that holds nothing. */
static void join(struct world *w) {
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0), 0);
  world_pass(w, 0);
}

static void put(struct world *w, const struct hop_job *job) {
  assert_int_equal(world_put(w, job), HOP_JOB_QUEUED);
  world_pass(w, 0);
}

static void take(struct world *w, uint64_t local) {
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, local);
  queue_on_dispatch(w->queue, &action, HOP_EXECUTE_TAKEN, w->now_us);
}

/* Leased to the executor, which has it. */
static void put_taken(struct world *w, const struct hop_job *job) {
  put(w, job);
  take(w, job->job.local);
}

static void complete(struct world *w, uint64_t local) {
  struct hop_complete item = {.job = world_id(local), .fence = fence_of(w, local)};
  queue_complete(w->queue, &item, w->now_us);
}

static void fail_attempt(
    struct world *w, uint64_t local, enum outcome outcome, enum certainty certainty) {
  struct hop_complete item = {.job = world_id(local),
      .fence = fence_of(w, local),
      .retry = true,
      .outcome = outcome,
      .certainty = certainty};
  queue_complete(w->queue, &item, w->now_us);
}

static void answer_status(struct world *w, uint64_t local, int answer) {
  struct queue_action action = world_expect(w, QUEUE_ASK, local);
  queue_on_status(w->queue, &action, answer, w->now_us);
}

/* Silence long enough to end every lease. */
static void lose_executor(struct world *w) {
  world_pass(w, 3001);
  struct queue_action action;
  assert_true(w->action_count > 0);
  action = w->actions[w->action_count - 1].action;
  assert_int_equal(action.kind, QUEUE_EXECUTOR_GONE);
  w->action_count--;
}

static struct hop_result expect_delivery(struct world *w, uint64_t local) {
  struct queue_action action = world_expect(w, QUEUE_DELIVER, local);
  struct hop_result result;
  assert_true(queue_view_result(w->queue, &action, &result));
  queue_on_delivery(w->queue, &action, HOP_RESULT_ACCEPTED, w->now_us);
  return result;
}

/* ---- inserting ---- */

static void test_insert_is_leased_in_one_write(void **state) {
  struct world *w = *state;
  join(w);
  size_t before = w->group_count;
  struct hop_job job = world_job(1);
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  world_turn(w);
  assert_int_equal(w->group_count, before + 1);
  const struct queue_group *group = &w->groups[before];
  assert_true(group->urgent);
  assert_int_equal(group->row_count, 1);
  assert_true(group->rows[0].insert);
  assert_int_equal(group->rows[0].state, QUEUE_ROW_LEASED);
  assert_int_equal(group->rows[0].incarnation, INCARNATION);
  assert_int_equal(group->rows[0].attempt, 1);
  world_expect_none(w); /* the dispatch waits for the lease */
  world_commit(w);
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, 1);
  struct hop_execute item;
  struct queue_blob *blob;
  int64_t qid;
  assert_true(queue_view_execute(w->queue, &action, w->now_us, &item, &blob, &qid));
  assert_int_equal(item.attempt, 1);
  assert_false(item.last);
  assert_true(pf_slice_is(queue_blob_request(blob), "request"));
  assert_memory_equal(&item.capability, &job.capability, sizeof(item.capability));
  queue_blob_unref(blob);
}

static void test_first_lease_reserves_fences_in_the_same_group(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put(w, &job);
  assert_int_equal(w->fence_next, 1 + QUEUE_FENCE_BLOCK);
  world_crash(w);
  world_beat(w, 2, 0x22, 10, NULL, 0);
  job = world_job(2);
  put(w, &job);
  assert_true(fence_of(w, 2).counter >= 1 + QUEUE_FENCE_BLOCK);
}

static void test_waits_without_executor(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  struct pf_buf head;
  pf_buf_init(&head, 4096);
  hop_job_encode(&head, &job);
  struct hop_job_reply reply =
      queue_put(w->queue, &job, pf_buf_view(&head), pf_slice_str("x"), false, w->now_us);
  pf_buf_done(&head);
  assert_int_equal(reply.answer, HOP_JOB_QUEUED);
  assert_true(reply.no_executor);
  world_pass(w, 0);
  assert_int_equal(world_row(w, 1)->state, QUEUE_ROW_QUEUED);
  world_expect_none(w);
  join(w);
  assert_int_equal(world_row(w, 1)->state, QUEUE_ROW_LEASED);
  take(w, 1);
}

static void test_repeated_insert_is_known_then_done(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  assert_int_equal(world_put(w, &job), HOP_JOB_KNOWN);
  complete(w, 1);
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_pass(w, 0);
  assert_null(world_row(w, 1));
  world_crash(w);
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
}

static void test_completion_is_lazy(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  complete(w, 1);
  size_t before = w->group_count;
  world_turn(w);
  assert_int_equal(w->group_count, before + 1);
  assert_false(w->groups[before].urgent);
  assert_int_equal(w->groups[before].delete_count, 1);
  assert_int_equal(w->groups[before].tomb_count, 1);
}

static void test_below_low_is_done_and_pages_are_forgotten(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(5);
  put_taken(w, &job);
  complete(w, 5);
  world_pass(w, 0);
  assert_int_equal(w->tomb_count, 1);
  world_origin(w, 1, 1024);
  world_pass(w, 0);
  assert_int_equal(w->tomb_count, 0);
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_crash(w);
  world_origin(w, 1, 2); /* a delayed copy of an earlier call */
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
}

static void test_full_at_the_limit(void **state) {
  struct world *w = *state;
  world_done(w);
  world_init(w, 1);
  queue_free(w->queue);
  w->config.jobs_max = 2;
  w->queue = queue_new(&w->config);
  queue_loaded(w->queue);
  for (uint64_t i = 1; i <= 2; i++) {
    struct hop_job job = world_job(i);
    assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  }
  struct hop_job job = world_job(3);
  assert_int_equal(world_put(w, &job), HOP_JOB_FULL);
  job = world_job(2);
  assert_int_equal(world_put(w, &job), HOP_JOB_KNOWN);
}

static void test_requests_over_the_budget_leave_memory(void **state) {
  struct world *w = *state;
  struct queue_stats stats;
  while (queue_has_room(w->queue, 0)) {
    struct hop_job job = world_job(++w->config.epoch);
    assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  }
  world_pass(w, 0);
  queue_read_stats(w->queue, w->now_us, &stats);
  assert_true(stats.request_bytes <= (uint64_t)w->config.request_bytes_max);
  join(w);
  struct queue_action action;
  unsigned missing = 0;
  while (world_act(w, &action)) {
    struct hop_execute item;
    struct queue_blob *blob;
    int64_t qid;
    assert_true(queue_view_execute(w->queue, &action, w->now_us, &item, &blob, &qid));
    if (!blob) missing++;
    assert_true(qid > 0);
    queue_blob_unref(blob);
  }
  assert_true(missing > 0);
}

static void test_other_epoch_may_have_sent_it(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.repeatable = false;
  job.first_epoch = w->config.epoch + 1;
  assert_int_equal(world_put(w, &job), HOP_JOB_LOST);
  job.first_epoch = w->config.epoch;
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  job = world_job(2);
  job.first_epoch = w->config.epoch + 1;
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED); /* may be repeated */
}

/* ---- end ---- */

static void test_end_of_a_leased_job_aborts_it(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  struct hop_held held = held_of(w, 1);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
  job.end = true;
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_turn(w);
  assert_true(w->groups[w->group_count - 1].urgent);
  world_commit(w);
  assert_null(world_row(w, 1));
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 1);
}

/* The `end` itself never came: the watermark says as much. */
static void test_watermark_ends_what_an_executor_holds(void **state) {
  struct world *w = *state;
  join(w);
  for (uint64_t i = 1; i <= 2; i++) {
    struct hop_job job = world_job(i);
    job.repeatable = false;
    put_taken(w, &job);
  }
  struct hop_held held[2] = {held_of(w, 1), held_of(w, 2)};
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, held, 2), 0);
  world_origin(w, 1, 2);
  assert_false(queue_start(w->queue, &held[0], w->now_us));
  assert_true(queue_start(w->queue, &held[1], w->now_us));
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, held, 2), 1);
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
  assert_int_equal(world_state(w, 2), JOB_LEASED);
  assert_null(world_row(w, 1));
}

static void test_end_overtakes_the_insert(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  job.end = true;
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_pass(w, 0);
  world_crash(w);
  job.end = false;
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
}

static void test_insert_and_end_in_one_turn_write_no_row(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  job.end = true;
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_turn(w);
  assert_int_equal(w->groups[w->group_count - 1].row_count, 0);
  assert_int_equal(w->groups[w->group_count - 1].delete_count, 0);
}

/* ---- START ---- */

static void test_start_is_for_the_newest_lease_only(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  job.repeatable = false;
  put_taken(w, &job);
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
  join(w);
  struct hop_job job = world_job(1);
  job.repeatable = false;
  put_taken(w, &job);
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
  join(w);
  struct hop_job job = world_job(1);
  job.repeatable = false;
  put_taken(w, &job);
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
  join(w);
  struct hop_job job = world_job(1);
  job.repeatable = false;
  put_taken(w, &job);
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

/* ---- losing executors ---- */

static void note_silence(const struct queue_origin_info *info, void *arg) {
  assert_int_equal(info->origin, WORLD_ORIGIN);
  *(int64_t *)arg = info->silent_us;
}

static int64_t silence_us(const struct world *w) {
  int64_t silent_us = -1;
  queue_each_origin(w->queue, w->now_us, note_silence, &silent_us);
  return silent_us;
}

static uint64_t silent_origins(const struct world *w) {
  struct queue_stats stats;
  queue_read_stats(w->queue, w->now_us, &stats);
  return stats.silent_origins;
}

/* Goes on until the origin of job 1 has just been silent for too long. */
static void fall_silent(struct world *w) {
  assert_int_equal(silence_us(w), 0);
  world_pass(w, QUEUE_ORIGIN_SILENT_MS);
  assert_int_equal(silence_us(w), QUEUE_ORIGIN_SILENT_MS * INT64_C(1000));
  assert_int_equal(silent_origins(w), 0);
  world_pass(w, 1);
  assert_int_equal(silent_origins(w), 1);
}

static void test_origins_that_have_been_silent_are_counted(void **state) {
  struct world *w = *state;
  world_turn(w);
  world_origin(w, 1, 1);
  world_pass(w, 2 * QUEUE_ORIGIN_SILENT_MS);
  assert_int_equal(silent_origins(w), 0); /* it has no job here, and so nothing to say */
  struct hop_job job = world_job(1);
  put(w, &job);
  assert_int_equal(silent_origins(w), 1); /* the head of the batch is what is heard */
  world_origin(w, 2, 1);
  fall_silent(w);
  world_origin(w, 1, 1); /* a delayed call of an earlier start */
  assert_int_equal(silent_origins(w), 1);
  /* Its deadline is over: what the origin says to that is heard, no answer is not. */
  struct queue_action action = world_expect(w, QUEUE_ASK, 1);
  queue_on_status(w->queue, &action, QUEUE_NO_ANSWER, w->now_us);
  assert_int_equal(silent_origins(w), 1);
  world_crash(w); /* nobody knows when it was heard of before the start */
  world_turn(w);
  fall_silent(w);
  action = world_expect(w, QUEUE_ASK, 1);
  queue_on_status(w->queue, &action, HOP_STATUS_PENDING, w->now_us);
  assert_int_equal(silence_us(w), 0);
  assert_int_equal(silent_origins(w), 0);
}

static void test_answers_of_an_origin_are_heard(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  world_pass(w, 1000);
  assert_true(silence_us(w) > 0);
  complete(w, 1); /* it has answered the executor for good */
  assert_int_equal(silence_us(w), 0);
}

static void test_nothing_is_sent_again_while_the_origin_is_silent(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  lose_executor(w);
  for (int i = 0; i < 20; i++) {
    answer_status(w, 1, QUEUE_NO_ANSWER);
    world_beat(w, 2, 0x22, 10, NULL, 0);
    world_pass(w, 2001);
  }
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_pass(w, 0);
  take(w, 1);
}

static void test_origin_that_has_it_closes_the_job(void **state) {
  struct world *w = *state;
  join(w);
  static const int answers[] = {HOP_STATUS_RECEIVED, HOP_STATUS_DONE, HOP_STATUS_UNKNOWN};
  for (uint64_t i = 0; i < PF_COUNT(answers); i++) {
    struct hop_job job = world_job(i + 1);
    put_taken(w, &job);
  }
  lose_executor(w);
  for (uint64_t i = 0; i < PF_COUNT(answers); i++) {
    answer_status(w, i + 1, answers[i]);
    assert_int_equal(world_state(w, i + 1), JOB_STATE_COUNT);
  }
}

static void test_origin_that_returns_is_asked_at_once(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  lose_executor(w);
  for (int i = 0; i < 10; i++) {
    answer_status(w, 1, QUEUE_NO_ANSWER);
    world_pass(w, 2001);
  }
  answer_status(w, 1, QUEUE_NO_ANSWER);
  world_pass(w, 0);
  world_expect_none(w);
  world_origin(w, 2, 1);
  world_pass(w, 0);
  answer_status(w, 1, HOP_STATUS_DONE);
}

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
  for (uint64_t i = 1; i <= 2; i++) {
    struct hop_job job = world_job(i);
    put_taken(w, &job);
  }
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
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
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
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
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
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
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
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  struct hop_held held = held_of(w, 1);
  world_crash(w);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
  world_pass(w, 2999);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  world_expect_none(w);
  complete(w, 1);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
}

/* ---- answers to dispatches ---- */

static void test_unanswered_dispatch_goes_again_with_the_same_fence(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put(w, &job);
  struct pf_fence fence = fence_of(w, 1);
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, 1);
  queue_on_dispatch(w->queue, &action, QUEUE_NO_ANSWER, w->now_us);
  world_pass(w, 51);
  take(w, 1);
  assert_true(pf_fence_eq(fence_of(w, 1), fence));
  assert_int_equal(attempt_of(w, 1), 1);
}

static void test_full_executor_costs_no_attempt(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put(w, &job);
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, 1);
  queue_on_dispatch(w->queue, &action, HOP_EXECUTE_FULL, w->now_us);
  world_pass(w, 0);
  world_expect_none(w); /* until it speaks again */
  world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0);
  world_pass(w, 0);
  take(w, 1);
  assert_int_equal(attempt_of(w, 1), 1);
}

static void test_wrong_incarnation_is_a_lost_executor(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put(w, &job);
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, 1);
  queue_on_dispatch(w->queue, &action, HOP_EXECUTE_WRONG_INCARNATION, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_ASKING);
}

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
  join(w);
  struct hop_job job = world_job(1);
  job.repeatable = false;
  put_taken(w, &job);
  fail_attempt(w, 1, OUTCOME_RESET, CERTAINTY_SENT_UNKNOWN);
  world_pass(w, 0);
  struct hop_result result = expect_delivery(w, 1);
  assert_int_equal(result.outcome, OUTCOME_RESET);
  assert_int_equal(result.certainty, CERTAINTY_SENT_UNKNOWN);
}

static void test_old_fence_completes_nothing_but_a_delivery(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  struct hop_complete item = {.job = world_id(1), .fence = {w->config.epoch, 999}, .retry = true};
  queue_complete(w->queue, &item, w->now_us);
  assert_int_equal(world_state(w, 1), JOB_LEASED);
  item.retry = false; /* the origin has the result, whoever brought it */
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

/* ---- loading ---- */

static void test_while_loading_new_work_goes_first(void **state) {
  struct world *w = *state;
  struct hop_job old = world_job(10), newer = world_job(11), unknown = world_job(9);
  put(w, &old);
  queue_free(w->queue);
  w->queue = queue_new(&w->config);
  w->action_count = 0;
  queue_load_begin(w->queue, 1);
  queue_load_origin(w->queue, &w->origins[0]);
  assert_int_equal(world_put(w, &unknown), HOP_JOB_FULL); /* may be in a row: later */
  assert_int_equal(world_put(w, &newer), HOP_JOB_QUEUED);
  join(w);
  take(w, 11);
  struct hop_held foreign = {world_id(10), {w->config.epoch, 1}};
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &foreign, 1), 0); /* not yet known */
  queue_load_row(w->queue, world_row(w, 10), &old, world_row(w, 10)->blob, w->now_us);
  queue_loaded(w->queue);
  assert_int_equal(world_put(w, &old), HOP_JOB_KNOWN);
  assert_int_equal(world_put(w, &unknown), HOP_JOB_QUEUED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_insert_is_leased_in_one_write),
      TEST(test_first_lease_reserves_fences_in_the_same_group),
      TEST(test_waits_without_executor),
      TEST(test_repeated_insert_is_known_then_done),
      TEST(test_completion_is_lazy),
      TEST(test_below_low_is_done_and_pages_are_forgotten),
      TEST(test_full_at_the_limit),
      TEST(test_requests_over_the_budget_leave_memory),
      TEST(test_other_epoch_may_have_sent_it),
      TEST(test_end_of_a_leased_job_aborts_it),
      TEST(test_watermark_ends_what_an_executor_holds),
      TEST(test_end_overtakes_the_insert),
      TEST(test_insert_and_end_in_one_turn_write_no_row),
      TEST(test_start_is_for_the_newest_lease_only),
      TEST(test_lost_after_start_is_sent_unknown),
      TEST(test_lost_before_start_goes_again),
      TEST(test_restart_counts_as_started),
      TEST(test_origins_that_have_been_silent_are_counted),
      TEST(test_answers_of_an_origin_are_heard),
      TEST(test_nothing_is_sent_again_while_the_origin_is_silent),
      TEST(test_origin_that_has_it_closes_the_job),
      TEST(test_origin_that_returns_is_asked_at_once),
      TEST(test_three_lost_executors_are_poison),
      TEST(test_one_of_many_is_not_blamed),
      TEST(test_jobs_lost_together_part),
      TEST(test_blame_is_taken_back_with_the_lease),
      TEST(test_lost_on_the_last_attempt),
      TEST(test_missing_from_two_heartbeats_ends_one_lease),
      TEST(test_new_incarnation_ends_the_old_one),
      TEST(test_executor_that_was_only_silent_goes_on),
      TEST(test_a_queue_that_slept_hears_executors_first),
      TEST(test_restart_rebinds_leases),
      TEST(test_unanswered_dispatch_goes_again_with_the_same_fence),
      TEST(test_full_executor_costs_no_attempt),
      TEST(test_wrong_incarnation_is_a_lost_executor),
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
      TEST(test_one_host_gets_half_while_another_waits),
      TEST(test_one_host_alone_gets_everything),
      TEST(test_the_emptiest_executor_is_chosen),
      TEST(test_leaving_executor_gets_nothing),
      TEST(test_while_loading_new_work_goes_first),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
