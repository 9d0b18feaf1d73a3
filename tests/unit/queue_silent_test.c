/* Origins that say nothing, and what they answer when asked. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "queue_fixture.h"

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
  join_and_take(w, true);
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

int queue_silent_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_origins_that_have_been_silent_are_counted),
      TEST(test_answers_of_an_origin_are_heard),
      TEST(test_nothing_is_sent_again_while_the_origin_is_silent),
      TEST(test_origin_that_has_it_closes_the_job),
      TEST(test_origin_that_returns_is_asked_at_once),
  };
  return cmocka_run_group_tests_name("queue_silent", tests, NULL, NULL);
}
