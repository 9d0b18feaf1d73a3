/* Origins that say nothing, and what they answer when asked. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>

#include "queue_fixture.h"

#define ASKED_WITHIN_MS 2001 /* about the first of its jobs, at the latest */
#define OTHERS_WITHIN_MS 30001
#define KEEP_MS 604800000

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
  join_and_take(w, true);
  world_pass(w, 1000);
  assert_true(silence_us(w) > 0);
  complete(w, 1); /* it has answered the executor for good */
  assert_int_equal(silence_us(w), 0);
}

static void test_nothing_is_sent_again_while_the_origin_is_silent(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  lose_executor(w);
  for (int i = 0; i < 20; i++) {
    answer_status(w, 1, QUEUE_NO_ANSWER);
    world_beat(w, 2, 0x22, 10, NULL, 0);
    world_pass(w, ASKED_WITHIN_MS);
  }
  answer_status(w, 1, HOP_STATUS_PENDING);
  world_pass(w, 0);
  take(w, 1);
}

static void test_origin_that_has_it_closes_the_job(void **state) {
  struct world *w = *state;
  join(w);
  static const int answers[] = {HOP_STATUS_RECEIVED, HOP_STATUS_DONE, HOP_STATUS_UNKNOWN};
  put_many_taken(w, PF_COUNT(answers));
  lose_executor(w);
  for (uint64_t i = 0; i < PF_COUNT(answers); i++) {
    answer_status(w, i + 1, answers[i]);
    assert_int_equal(world_state(w, i + 1), JOB_STATE_COUNT);
  }
}

static void test_origin_that_returns_is_asked_at_once(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  lose_executor(w);
  for (int i = 0; i < 10; i++) {
    answer_status(w, 1, QUEUE_NO_ANSWER);
    world_pass(w, ASKED_WITHIN_MS);
  }
  answer_status(w, 1, QUEUE_NO_ANSWER);
  world_pass(w, 0);
  world_expect_none(w);
  world_origin(w, 2, 1);
  world_pass(w, 0);
  answer_status(w, 1, HOP_STATUS_DONE);
}

static size_t asked(struct world *w) {
  struct queue_action action;
  size_t count = 0;
  for (; world_act(w, &action); count++) {
    assert_int_equal(action.kind, QUEUE_ASK);
    queue_on_status(w->queue, &action, QUEUE_NO_ANSWER, w->now_us);
  }
  return count;
}

/* One of many jobs goes on asking, and its answer wakes the others. */
static void test_a_silent_origin_is_asked_about_one_job(void **state) {
  struct world *w = *state;
  enum { JOBS = 100, SECONDS = 120 };
  world_beat(w, EXECUTOR, INCARNATION, JOBS, NULL, 0);
  put_many_taken(w, JOBS);
  lose_executor(w);
  size_t first = 0, last = 0;
  for (int i = 0; i < SECONDS; i++) {
    size_t now = asked(w);
    first += i == 0 ? now : 0;
    last += i >= SECONDS / 2 ? now : 0;
    world_pass(w, 1000);
  }
  assert_int_equal(first, JOBS);
  assert_in_range(last, SECONDS / 4, SECONDS / 2 + JOBS * 4);
  while (w->action_count == 0)
    world_pass(w, 100);
  struct queue_action action = w->actions[--w->action_count].action;
  (void)asked(w);
  queue_on_status(w->queue, &action, HOP_STATUS_DONE, w->now_us);
  world_pass(w, 0);
  assert_int_equal(w->action_count, JOBS - 1);
}

static void give_up(struct world *w, uint64_t local, const char *detail) {
  struct hop_complete item = {.job = world_id(local),
      .fence = fence_of(w, local),
      .how = HOP_COMPLETE_UNDELIVERED,
      .outcome = OUTCOME_UNDELIVERED,
      .certainty = CERTAINTY_ANSWERED};
  snprintf(item.detail, sizeof(item.detail), "%s", detail);
  queue_complete(w->queue, &item, w->now_us);
  queue_complete(w->queue, &item, w->now_us); /* a copy of the report changes nothing */
}

/* The queue has lost commits meanwhile: it does not know who else may have sent the request, but
 * what came of this dispatch. */
static void test_a_result_of_another_epoch_is_given_up_too(void **state) {
  struct world *w = *state;
  join_and_take(w, false);
  w->config.epoch++;
  world_crash(w);
  world_expect(w, QUEUE_ASK, 1);
  fail_attempt(w, 1, OUTCOME_CONNECT_FAILED, CERTAINTY_NOT_SENT);
  assert_int_equal(world_state(w, 1), JOB_ASKING); /* a retry would need the right to fetch */
  give_up(w, 1, "status 200");
  assert_int_equal(world_state(w, 1), JOB_EXHAUSTED);
  world_pass(w, 0);
  struct hop_result result = expect_delivery(w, 1);
  assert_int_equal(result.outcome, OUTCOME_UNDELIVERED);
  assert_int_equal(result.certainty, CERTAINTY_ANSWERED);
}

static void see_undelivered(const struct queue_undelivered_info *info, void *arg) {
  assert_int_equal(info->outcome, OUTCOME_UNDELIVERED);
  assert_int_equal(info->certainty, CERTAINTY_ANSWERED);
  assert_string_equal(info->detail, "status 200");
  ++*(size_t *)arg;
}

static size_t undelivered(const struct world *w, size_t limit) {
  size_t count = 0;
  queue_each_undelivered(w->queue, w->now_us, limit, see_undelivered, &count);
  return count;
}

/* The executor has dropped the answer: what is left of it waits here, also over a crash, and the
 * request is never made again. */
static void test_a_result_that_was_given_up_waits_for_its_origin(void **state) {
  struct world *w = *state;
  join(w);
  put_many_taken(w, 2);
  give_up(w, 1, "status 200");
  give_up(w, 2, "status 200");
  world_pass(w, 0);
  assert_int_equal(undelivered(w, 1000), 2);
  assert_int_equal(undelivered(w, 1), 1);
  assert_int_equal(undelivered(w, 0), 0);
  world_crash(w);
  assert_int_equal(undelivered(w, 1000), 2);
  world_pass(w, 0);
  for (uint64_t local = 1; local <= 2; local++) {
    struct hop_result result = expect_delivery(w, local);
    assert_int_equal(result.outcome, OUTCOME_UNDELIVERED);
    assert_int_equal(result.certainty, CERTAINTY_ANSWERED);
  }
  assert_int_equal(undelivered(w, 1000), 0);
}

/* It may wait for days, and is never sent again. */
static void test_the_request_of_a_job_that_has_ended_leaves_the_memory(void **state) {
  struct world *w = *state;
  struct queue_stats stats;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  queue_read_stats(w->queue, w->now_us, &stats);
  assert_true(stats.request_bytes > 0);
  give_up(w, 1, "status 200");
  world_pass(w, 0);
  queue_read_stats(w->queue, w->now_us, &stats);
  assert_int_equal(stats.request_bytes, 0);
  world_crash(w);
  queue_read_stats(w->queue, w->now_us, &stats);
  assert_int_equal(stats.request_bytes, 0);
  assert_int_equal(expect_delivery(w, 1).outcome, OUTCOME_UNDELIVERED);
}

static void test_the_origin_is_told_what_was_dropped(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  give_up(w, 1, "status 200");
  world_pass(w, 0);
  struct queue_action action = world_expect(w, QUEUE_DELIVER, 1);
  struct hop_result result;
  assert_true(queue_view_result(w->queue, &action, &result));
  assert_true(pf_slice_is(result.error, "status 200"));
}

/* It comes back, and has ended the job by its deadline: it hears late that there was an answer. */
static void test_an_origin_that_has_ended_the_job_is_told_too(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1), end = {.job = world_id(1), .end = true};
  put_taken(w, &job);
  give_up(w, 1, "status 200");
  world_pass(w, 0);
  assert_int_equal(world_put(w, &end), HOP_JOB_DONE);
  world_pass(w, 0);
  assert_int_equal(expect_delivery(w, 1).outcome, OUTCOME_UNDELIVERED);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
}

/* Its report has arrived, and the answer to that got lost: the executor still holds the job when
 * the origin comes back and ends it. What is left of the answer is told all the same. */
static void test_a_late_heartbeat_does_not_drop_what_is_left(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put_taken(w, &job);
  struct hop_held held = held_of(w, 1);
  give_up(w, 1, "status 200");
  world_pass(w, 0);
  world_origin(w, 1, 2);
  world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1);
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_EXHAUSTED);
  assert_int_equal(expect_delivery(w, 1).outcome, OUTCOME_UNDELIVERED);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
}

static void answer_all(struct world *w, int status, int result) {
  struct queue_action action;
  while (world_act(w, &action)) {
    if (action.kind == QUEUE_ASK)
      queue_on_status(w->queue, &action, status, w->now_us);
    else if (action.kind == QUEUE_DELIVER)
      queue_on_delivery(w->queue, &action, result, w->now_us);
  }
}

/* "Not now" of an origin that lives: each job waits for its own next try, and none wakes the
 * others, or a long list would be asked about again and again. */
static void test_an_origin_that_cannot_answer_yet_is_asked_later(void **state) {
  struct world *w = *state;
  enum { JOBS = 20, ROUNDS = 10 };
  world_beat(w, EXECUTOR, INCARNATION, JOBS, NULL, 0);
  put_many_taken(w, JOBS);
  for (uint64_t local = 2; local <= JOBS; local += 2)
    give_up(w, local, "status 200");
  lose_executor(w);
  for (int i = 0; i < ROUNDS; i++) {
    answer_all(w, HOP_STATUS_RETRY, HOP_RESULT_RETRY);
    world_pass(w, 0);
    world_expect_none(w);
    world_pass(w, ASKED_WITHIN_MS);
    assert_int_equal(w->action_count, JOBS);
  }
  assert_int_equal(world_state(w, 1), JOB_ASKING);
  assert_int_equal(world_state(w, 2), JOB_EXHAUSTED);
}

static void answer_nothing(struct world *w) {
  answer_all(w, QUEUE_NO_ANSWER, QUEUE_NO_ANSWER);
}

/* Until then nobody answers for the origin. */
static void wait_in_vain(struct world *w, int64_t until_us) {
  world_pass(w, 0);
  answer_nothing(w);
  while (w->now_us < until_us) {
    int64_t next_us = queue_next_us(w->queue);
    if (next_us > until_us) next_us = until_us;
    world_pass(w, (next_us - w->now_us + MS - 1) / MS);
    answer_nothing(w);
  }
}

static uint64_t abandoned(const struct world *w) {
  struct queue_stats stats;
  queue_read_stats(w->queue, w->now_us, &stats);
  return stats.abandoned;
}

static void test_jobs_of_an_origin_that_is_gone_are_dropped_after_their_time(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job given_up = world_job(1), lost = world_job(2);
  given_up.deadline_ms = lost.deadline_ms = 60000;
  lost.repeatable = false;
  lost.first_epoch = w->config.epoch;
  put_taken(w, &given_up);
  put_taken(w, &lost);
  int64_t over_us = w->now_us + (60000 + (int64_t)KEEP_MS) * MS;
  give_up(w, 1, "status 200");
  lose_executor(w);
  wait_in_vain(w, over_us - MS);
  assert_int_equal(world_state(w, 1), JOB_EXHAUSTED);
  assert_int_equal(world_state(w, 2), JOB_ASKING);
  assert_int_equal(abandoned(w), 0);
  wait_in_vain(w, over_us + OTHERS_WITHIN_MS * MS);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
  assert_int_equal(world_state(w, 2), JOB_STATE_COUNT);
  assert_int_equal(abandoned(w), 2);
  world_crash(w);
  /* It comes back after all, with a clock that leaves the jobs time: neither is made again. */
  world_origin(w, 2, 1);
  assert_int_equal(world_put(w, &given_up), HOP_JOB_DONE);
  assert_int_equal(world_put(w, &lost), HOP_JOB_DONE);
}

#define DAY_US ((int64_t)86400000 * MS)

/* An executor has given the result of job 1 up, which had a minute. Returns when its origin was
 * heard of last: now. */
static int64_t given_up_at(struct world *w) {
  join(w);
  struct hop_job job = world_job(1);
  job.deadline_ms = 60000;
  put_taken(w, &job);
  give_up(w, 1, "status 200");
  return w->now_us;
}

/* A queue that is restarted each day adds the days up. */
static void test_silence_outlives_a_restart(void **state) {
  struct world *w = *state;
  int64_t heard_us = given_up_at(w);
  int64_t early_us = heard_us + (int64_t)KEEP_MS * MS;
  int64_t late_us = early_us + 60000 * MS + 8 * (int64_t)KEEP_MS * MS / QUEUE_SILENCE_NOTES;
  for (int day = 1; heard_us + day * DAY_US < early_us; day++) {
    wait_in_vain(w, heard_us + day * DAY_US);
    world_crash(w);
  }
  wait_in_vain(w, early_us);
  assert_int_equal(world_state(w, 1), JOB_EXHAUSTED);
  wait_in_vain(w, late_us);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
  assert_int_equal(abandoned(w), 1);
}

/* What it says once ends its silence for good, even if the queue dies with the answer. */
static void test_a_word_before_a_crash_is_remembered(void **state) {
  struct world *w = *state;
  (void)given_up_at(w);
  wait_in_vain(w, w->now_us + 6 * DAY_US);
  world_crash(w);
  assert_true(silence_us(w) > 5 * DAY_US);
  world_origin(w, 2, 1);
  world_turn(w);
  assert_true(w->groups[w->group_count - 1].urgent);
  world_pass(w, 0);
  world_crash(w);
  assert_int_equal(silence_us(w), 0);
  wait_in_vain(w, w->now_us + 6 * DAY_US);
  assert_int_equal(world_state(w, 1), JOB_EXHAUSTED);
}

/* It lives, though it cannot be called. */
static void test_jobs_of_an_origin_that_calls_are_kept(void **state) {
  struct world *w = *state;
  (void)given_up_at(w);
  lose_executor(w);
  for (int day = 0; day < 8; day++) {
    world_origin(w, 1, 1);
    wait_in_vain(w, w->now_us + DAY_US);
  }
  assert_int_equal(world_state(w, 1), JOB_EXHAUSTED);
  assert_int_equal(abandoned(w), 0);
}

int queue_silent_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_origins_that_have_been_silent_are_counted),
      TEST(test_answers_of_an_origin_are_heard),
      TEST(test_nothing_is_sent_again_while_the_origin_is_silent),
      TEST(test_origin_that_has_it_closes_the_job),
      TEST(test_origin_that_returns_is_asked_at_once),
      TEST(test_a_silent_origin_is_asked_about_one_job),
      TEST(test_a_result_that_was_given_up_waits_for_its_origin),
      TEST(test_a_result_of_another_epoch_is_given_up_too),
      TEST(test_the_request_of_a_job_that_has_ended_leaves_the_memory),
      TEST(test_the_origin_is_told_what_was_dropped),
      TEST(test_an_origin_that_has_ended_the_job_is_told_too),
      TEST(test_a_late_heartbeat_does_not_drop_what_is_left),
      TEST(test_an_origin_that_cannot_answer_yet_is_asked_later),
      TEST(test_jobs_of_an_origin_that_is_gone_are_dropped_after_their_time),
      TEST(test_silence_outlives_a_restart),
      TEST(test_a_word_before_a_crash_is_remembered),
      TEST(test_jobs_of_an_origin_that_calls_are_kept),
  };
  return cmocka_run_group_tests_name("queue_silent", tests, NULL, NULL);
}
