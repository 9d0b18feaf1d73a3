/* Ends that come from the origin or the queue, and results that come after them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "origin_fixture.h"

static void test_cancel_then_late_result(void **state) {
  struct world *world = *state;
  struct hop_job job = announce_fetch(world);
  world_accept_all(world, HOP_JOB_QUEUED);
  char text[128], id[PF_ID_TEXT];
  pf_job_id_print(id, job.job);
  snprintf(text, sizeof(text), "{\"type\":\"cancel\",\"reqId\":\"%s\"}", id);
  world_say(world, 7, text);
  world_settle(world);
  const char *result = world_find_frame(world, "\"type\":\"result\"");
  assert_non_null(result);
  assert_non_null(strstr(result, "\"code\":\"canceled\""));
  assert_non_null(strstr(result, "\"certainty\":\"sent_unknown\""));
  assert_int_equal(world->announcements.count, 1); /* the queue is told */
  assert_true(world_announced(world, 0).end);
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
}

/* The queue that does not hear of the end would go on fetching. */
static void test_end_is_told_until_it_is_confirmed(void **state) {
  struct world *world = *state;
  struct hop_job job = announce_fetch(world);
  cancel_job(world, job.job);
  assert_int_equal(world->announcements.count, 2);
  assert_true(world_announced(world, 1).end);
  world_forget_records(world);
  /* The answer to its own announcement, which left earlier, says nothing of the end. */
  struct hop_job_reply queued = {.answer = HOP_JOB_QUEUED};
  core_on_announced(&world->core, job.job.local, PF_OK, &queued);
  assert_int_equal(core_endings(&world->core), 1);
  core_on_announced(&world->core, job.job.local, PF_ETIMEOUT, NULL); /* the first one is lost */
  assert_true(core_next_tick_ms(&world->core) <= 100);
  for (int i = 0; i < 2; i++) {
    world_advance(world, 101);
    assert_int_equal(world->announcements.count, 1);
    assert_true(world_announced(world, 0).end);
    assert_int_equal(world_announced(world, 0).job.local, job.job.local);
    if (i > 0) break;
    world_forget_records(world);
    core_on_announced(&world->core, job.job.local, PF_ETIMEOUT, NULL);
  }
  world_accept_all(world, HOP_JOB_DONE);
  assert_int_equal(core_endings(&world->core), 0);
  world_advance(world, 60000);
  assert_int_equal(world->announcements.count, 0);
}

static void test_end_is_told_at_once_when_the_queue_returns(void **state) {
  struct world *world = *state;
  struct pf_job_id id = announce_fetch(world).job;
  cancel_job(world, id);
  world_forget_records(world);
  for (int i = 0; i < 20; i++)
    core_on_queue_down(&world->core);
  core_on_announced(&world->core, id.local, PF_ENET, NULL); /* of the announcement */
  core_on_announced(&world->core, id.local, PF_ENET, NULL); /* and of the end */
  world_advance(world, 1000);
  assert_int_equal(world->announcements.count, 0);
  core_on_queue_epoch(&world->core, 0xe1);
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  assert_true(world_announced(world, 0).end);
}

/* A queue that cannot know the job has nothing to end. */
static void test_end_of_a_job_that_nobody_knows_is_not_told(void **state) {
  struct world *world = *state;
  world_restart(world); /* no queue has been heard of: a POST waits for its epoch */
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  world_say(world, 8, FETCH_POST);
  world_settle(world);
  cancel_job(world, (struct pf_job_id){world->core.origin_id, world->core.next_local - 1});
  assert_non_null(world_find_frame(world, "\"code\":\"canceled\""));
  assert_int_equal(core_endings(&world->core), 0);
  assert_int_equal(world->announcements.count, 0);
}

/* Nobody confirms, and one more than the limit: the oldest is left to the watermark. */
static void test_endings_max(void **state) {
  struct world *world = *state;
  uint64_t first = world->core.next_local;
  make_jobs(world, ENDINGS_MAX + 1);
  core_on_queue_down(&world->core);
  for (uint64_t local = first; local <= first + ENDINGS_MAX; local++) {
    if (local == first + ENDINGS_MAX) assert_int_equal(core_endings(&world->core), ENDINGS_MAX);
    cancel_job(world, (struct pf_job_id){world->core.origin_id, local});
    if (world->announcements.count > 0) core_on_announced(&world->core, local, PF_ENET, NULL);
    world_forget_records(world);
  }
  assert_int_equal(core_endings(&world->core), ENDINGS_MAX);
}

static struct hop_job fetch_in_session(struct world *world) {
  world_say(world, 7, "{\"type\":\"resume\"}");
  return announce_fetch(world);
}

static void test_late_result_needs_the_capability(void **state) {
  struct world *world = *state;
  struct hop_job job = fetch_in_session(world);
  cancel_job(world, job.job);
  struct hop_job forged = job;
  forged.capability.bytes[0] ^= 1;
  assert_int_equal(deliver_result(world, &forged, 200), HOP_RESULT_UNKNOWN);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 0);
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 1);
}

static void test_late_result_twice_at_once(void **state) {
  struct world *world = *state;
  struct hop_job job = fetch_in_session(world);
  cancel_job(world, job.job);
  uint64_t first = world_deliver(world, &job, 200, NULL);
  core_flush(&world->core);  /* both are looked up before either is recorded */
  world->core.stats.turns++; /* of which the request id is made */
  uint64_t second = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, first), HOP_RESULT_STALE);
  assert_int_equal(world_answer(world, second), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 1);
}

/* Not only the origin declares failures: the executor that the queue gave up may still have the
 * target's answer. */
static void test_late_result_after_the_queue_gave_up(void **state) {
  struct world *world = *state;
  struct hop_job job = fetch_in_session(world);
  uint64_t request = world_declare(world, &job, OUTCOME_EXECUTOR_LOST);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_ACCEPTED);
  assert_non_null(world_find_frame(world, "\"code\":\"executor_lost\""));
  request = world_declare(world, &job, OUTCOME_EXECUTOR_LOST); /* its answer was lost */
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 0);
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 1);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
}

/* A failure of the attempt itself is its end: whatever comes again is a copy. */
static void test_no_late_result_after_an_answer(void **state) {
  struct world *world = *state;
  struct hop_job job = fetch_in_session(world);
  world_deliver(world, &job, 0, NULL);
  world_settle(world);
  assert_int_equal(deliver_result(world, &job, 0), HOP_RESULT_DUPLICATE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 0);
}

/* While the end is being written there is nothing yet that could hold a late result. */
static void test_late_result_meets_the_end(void **state) {
  struct world *world = *state;
  struct hop_job job = fetch_in_session(world);
  core_on_api_cancel(&world->core, 5, job.job);
  core_flush(&world->core);
  assert_int_equal(world->core.job_count[JOB_FINISHING], 1);
  uint64_t request = world_deliver(world, &job, 200, NULL);
  assert_int_equal(world_answer(world, request), HOP_RESULT_RETRY);
  world_settle(world);
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 1);
}

static void test_deadline_ends_a_job_once(void **state) {
  struct world *world = *state;
  world_say(world, 7,
      "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/"
      "\",\"clientId\":\"d\",\"deadlineMs\":1000}");
  world_settle(world);
  world_advance(world, 999);
  assert_int_equal(world_count_frames(world, "\"code\":\"deadline\""), 0);
  world_advance(world, 2);
  assert_int_equal(world_count_frames(world, "\"code\":\"deadline\""), 1);
  world_advance(world, 5000);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
  assert_int_equal(core_pending(&world->core), 0);
}

static void test_job_lost_by_the_queue(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH_POST);
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  world_accept_all(world, HOP_JOB_QUEUED);
  core_on_queue_epoch(&world->core, 0xe2); /* another queue: announce again, naming the first one */
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  assert_int_equal(world_announced(world, 0).first_epoch, 0xe1);
  world_accept_all(world, HOP_JOB_LOST);
  world_settle(world);
  const char *result = world_find_frame(world, "\"code\":\"queue_lost\"");
  assert_non_null(result);
  assert_non_null(strstr(result, "\"certainty\":\"sent_unknown\""));
  assert_non_null(strstr(result, "\"owner\":\"orchestrator\""));
}

int origin_end_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_cancel_then_late_result),
      TEST(test_end_is_told_until_it_is_confirmed),
      TEST(test_end_is_told_at_once_when_the_queue_returns),
      TEST(test_end_of_a_job_that_nobody_knows_is_not_told),
      TEST(test_endings_max),
      TEST(test_late_result_needs_the_capability),
      TEST(test_late_result_twice_at_once),
      TEST(test_late_result_after_the_queue_gave_up),
      TEST(test_no_late_result_after_an_answer),
      TEST(test_late_result_meets_the_end),
      TEST(test_deadline_ends_a_job_once),
      TEST(test_job_lost_by_the_queue),
  };
  return cmocka_run_group_tests_name("origin_end", tests, NULL, NULL);
}
