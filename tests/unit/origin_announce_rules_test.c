/* Rules of telling the queue that fail silently when they are left out: each test here was seen to
 * fail without its rule. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin/parts.h" /* to see when something is due */
#include "origin_fixture.h"

#define IN_FLIGHT_MAX 4096 /* of announce.c */

static struct job *job_at(struct world *world, struct pf_job_id id) {
  struct job *job = jobs_find(&world->core, id.local);
  assert_non_null(job);
  return job;
}

static void answer(struct world *world, struct pf_job_id id, enum hop_job_answer what) {
  struct hop_job_reply reply = {.answer = what};
  world_forget_records(world);
  core_on_announced(&world->core, id.local, PF_OK, &reply);
  world_settle(world);
}

static void fail_call(struct world *world, struct pf_job_id id) {
  world_forget_records(world);
  core_on_announced(&world->core, id.local, PF_ENET, NULL);
  world_settle(world);
}

/* From now until the job is announced again. */
static int64_t due_ms(struct world *world, struct pf_job_id id) {
  const struct job *job = job_at(world, id);
  assert_true(pf_heap_has(&job->announce));
  return (job->announce.key - world->core.now_ns) / 1000000;
}

/* ---- answers ---- */

static void test_full_queue_is_asked_again_soon(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  answer(world, job.job, HOP_JOB_FULL);
  assert_int_equal(world->frames.count, 0); /* not enqueued */
  assert_int_equal(core_outbox(&world->core), 1);
  world_advance(world, 1000);
  assert_int_equal(world->announcements.count, 1);
  answer(world, job.job, HOP_JOB_QUEUED);
  assert_non_null(world_find_frame(world, "\"type\":\"enqueued\""));
  assert_int_equal(core_outbox(&world->core), 0);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(core_outbox(&world->core), 0);
}

/* It will neither fetch nor tell: a job that went on waiting would wait for ever. */
static void test_final_answers_end_a_pending_job(void **state) {
  struct world *world = *state;
  static const struct {
    enum hop_job_answer answer;
    const char *code;
  } cases[] = {{HOP_JOB_DONE, "\"code\":\"queue_lost\""}, {HOP_JOB_LOST, "\"code\":\"queue_lost\""},
      {HOP_JOB_REFUSED, "\"code\":\"bad_request\""}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct hop_job job = start_fetch(world);
    answer(world, job.job, cases[i].answer);
    assert_non_null(world_find_frame(world, cases[i].code));
    assert_int_equal(core_pending(&world->core), 0);
    answer(world, job.job, HOP_JOB_DONE); /* of its end */
    assert_int_equal(core_endings(&world->core), 0);
  }
}

/* A queue that does not understand the end will not do so the next time. */
static void test_end_that_is_refused_is_not_told_again(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  answer(world, job.job, HOP_JOB_QUEUED);
  cancel_job(world, job.job);
  assert_int_equal(core_endings(&world->core), 1);
  answer(world, job.job, HOP_JOB_REFUSED);
  assert_int_equal(core_endings(&world->core), 0);
}

static void test_enqueue_time_of_a_result_that_came_first(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  world->now_ms += 7;
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"enqueueTime\":7"));
}

/* ---- pauses ---- */

static void test_pauses_grow_to_a_limit_and_end_with_an_answer(void **state) {
  struct world *world = *state;
  struct pf_job_id id = start_fetch(world).job, other = start_fetch(world).job;
  for (int64_t most = 100; most < 100000; most *= 2) {
    core_on_queue_down(&world->core);
    fail_call(world, id);
    int64_t limit = most < 5000 ? most : 5000;
    assert_in_range(due_ms(world, id), limit / 2, limit);
    world_advance(world, limit);
    assert_int_equal(world->announcements.count, 1);
  }
  answer(world, other, HOP_JOB_QUEUED); /* by itself it says that the queue is back */
  fail_call(world, id);
  assert_in_range(due_ms(world, id), 50, 100);
  world_advance(world, 100);
  for (int i = 0; i < 10; i++)
    core_on_queue_down(&world->core);
  core_on_queue_epoch(&world->core, EPOCH); /* and so does this */
  fail_call(world, id);
  assert_in_range(due_ms(world, id), 50, 100);
}

/* A crowd that failed together does not return together. */
static void test_pauses_differ(void **state) {
  struct world *world = *state;
  enum { COUNT = 32 };
  struct pf_job_id ids[COUNT];
  int64_t least = INT64_MAX, most = 0;
  for (int i = 0; i < COUNT; i++)
    ids[i] = start_fetch(world).job;
  for (int i = 0; i < COUNT; i++) {
    answer(world, ids[i], HOP_JOB_QUEUED);
    int64_t ms = due_ms(world, ids[i]);
    if (ms < least) least = ms;
    if (ms > most) most = ms;
  }
  assert_in_range(least, world->limits.reannounce_ms / 2, world->limits.reannounce_ms * 5 / 8);
  assert_in_range(most, world->limits.reannounce_ms * 7 / 8, world->limits.reannounce_ms);
}

/* ---- what it says ---- */

/* The tick that will end the job has not come yet, and no jump of the wall clock comes between. */
static void test_deadline_in_an_announcement(void **state) {
  struct world *world = *state;
  struct pf_job_id id = start_fetch(world).job;
  answer(world, id, HOP_JOB_QUEUED);
  world->wall_jump_ms = 31536000000;
  world->now_ms += 1000;
  core_set_time(&world->core, world->now_ms * 1000000, 1700000000000 + world->wall_jump_ms);
  core_on_queue_epoch(&world->core, EPOCH + 1);
  world_settle(world);
  assert_int_equal(world_announced(world, 0).deadline_ms, WIRE_DEADLINE_MS_DEFAULT - 1000);
  answer(world, id, HOP_JOB_QUEUED);
  world->now_ms += WIRE_DEADLINE_MS_DEFAULT + 5000;
  core_set_time(&world->core, world->now_ms * 1000000, 1700000000000 + world->wall_jump_ms);
  core_on_queue_epoch(&world->core, EPOCH + 2);
  world_settle(world);
  assert_int_equal(world_announced(world, 0).deadline_ms, 1);
}

/* Large requests are read again from their rows. */
static void test_only_small_requests_stay_in_memory(void **state) {
  struct world *world = *state;
  char text[8192];
  static const int sizes[] = {100, 6000};
  for (size_t i = 0; i < PF_COUNT(sizes); i++) {
    int len = snprintf(text, sizeof(text),
        "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/\",\"method\":\"PUT\","
        "\"body\":\"%0*d\"}",
        sizes[i], 0);
    assert_in_range(len, 1, (int)sizeof(text) - 1);
    world_say(world, 7, text);
    world_settle(world);
    struct hop_job job = world_announced(world, world->announcements.count - 1);
    size_t body_len = world->announcements.items[world->announcements.count - 1].body_len;
    fail_call(world, job.job);
    assert_int_equal(world->core.request_bytes, i == 0 ? body_len : 0);
    world_advance(world, 100);
    assert_int_equal(world->announcements.items[0].body_len, body_len);
    answer(world, job.job, HOP_JOB_QUEUED);
    assert_int_equal(world->core.request_bytes, 0);
    assert_int_equal(world->core.announcing, 0); /* the look-up counts as one until it is over */
    cancel_job(world, job.job);
    answer(world, job.job, HOP_JOB_DONE);
    world_forget_records(world);
  }
}

/* ---- how much at once ---- */

static void make_batch(struct world *world, int count) {
  char text[160];
  snprintf(text, sizeof(text),
      "{\"type\":\"start-batch-fetch\",\"batchId\":\"b%d\",\"count\":%d,\"url\":"
      "\"http://127.0.0.1:1/\"}",
      count, count);
  world_say(world, 7, text);
  world_settle(world);
}

/* At most so many calls are not answered; the rest follows as they are, also if the job that was
 * asked about has ended meanwhile. An end that waits its turn is told once. */
static void test_calls_in_flight_are_bounded(void **state) {
  struct world *world = *state;
  uint64_t first = world->core.next_local;
  struct pf_job_id id = {world->core.origin_id, first};
  make_batch(world, IN_FLIGHT_MAX + 1);
  assert_int_equal(world->announcements.count, IN_FLIGHT_MAX);
  world_forget_records(world);
  cancel_job(world, id);
  cancel_job(world, (struct pf_job_id){world->core.origin_id, first + 1});
  assert_int_equal(world->announcements.count, 0); /* their ends wait, too */
  fail_call(world, id);
  world_advance(world, 1);
  assert_int_equal(world->announcements.count, 1);
  assert_true(world_announced(world, 0).end);
  world_advance(world, 200);
  assert_int_equal(world->announcements.count, 1); /* the other one has no room yet */
  struct hop_job_reply queued = {.answer = HOP_JOB_QUEUED};
  core_on_announced(&world->core, first + 1, PF_OK, &queued); /* which it makes by itself */
  assert_int_equal(world->announcements.count, 2);
  assert_true(world_announced(world, 1).end);
  core_on_announced(&world->core, first + 2, PF_OK, &queued);
  assert_int_equal(world->announcements.count, 3);
  assert_int_equal(world_announced(world, 2).job.local, first + IN_FLIGHT_MAX);
}

int origin_announce_rules_tests(void) {
#define RULE(name) cmocka_unit_test_setup_teardown(name, setup_rules, teardown)
  const struct CMUnitTest tests[] = {
      RULE(test_full_queue_is_asked_again_soon),
      RULE(test_final_answers_end_a_pending_job),
      RULE(test_end_that_is_refused_is_not_told_again),
      RULE(test_enqueue_time_of_a_result_that_came_first),
      RULE(test_pauses_grow_to_a_limit_and_end_with_an_answer),
      RULE(test_pauses_differ),
      RULE(test_deadline_in_an_announcement),
      RULE(test_only_small_requests_stay_in_memory),
      RULE(test_calls_in_flight_are_bounded),
  };
  return cmocka_run_group_tests_name("origin_announce_rules", tests, NULL, NULL);
}
