/* One fetch, from the client to its result, and the limits at which it is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin_fixture.h"

static void test_fetch_goes_the_whole_way(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  assert_int_equal(world->frames.count, 0); /* not enqueued before the queue has it */
  struct hop_job job = world_announced(world, 0);
  world_accept_all(world, HOP_JOB_QUEUED);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"type\":\"enqueued\""));
  uint64_t request = world_deliver(world, &job, 200, NULL);
  assert_int_equal(world_answer(world, request), -1); /* not before it is durable */
  assert_int_equal(world->frames.count, 1);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_ACCEPTED);
  const char *result = world_find_frame(world, "\"type\":\"result\"");
  assert_non_null(result);
  assert_non_null(strstr(result, "\"clientId\":\"c1\""));
  assert_non_null(strstr(result, "\"success\":true"));
  assert_int_equal(world_count_rows(world, "jobs"), 0);
  assert_int_equal(world_count_rows(world, "results"), 1);
  assert_int_equal(core_pending(&world->core), 0);
}

static void test_absent_client_id_is_not_echoed(void **state) {
  struct world *world = *state;
  world_say(world, 7, "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/x\"}");
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  world_accept_all(world, HOP_JOB_QUEUED);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world->frames.count, 2);
  assert_int_equal(world_count_frames(world, "clientId"), 0);
}

static void test_nothing_leaves_before_the_commit(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("c1"));
  core_flush(&world->core);
  assert_int_equal(world->announcements.count, 0);
  world_restart(world); /* the commit was never applied: nobody was told of the job */
  world_settle(world);
  assert_int_equal(world->announcements.count, 0);
  assert_int_equal(world_count_rows(world, "jobs"), 0);
}

static void test_wait_that_is_shorter_than_the_commit(void **state) {
  struct world *world = *state;
  core_on_api_fetch(&world->core, 99, pf_slice_str("proxy"), pf_slice_str("default"),
      pf_slice_str("{\"url\":\"http://127.0.0.1:1/\"}"), 1);
  core_flush(&world->core);
  world->now_ms += 5;
  core_set_time(&world->core, world->now_ms * 1000000, 1700000000000 + world->now_ms);
  core_on_tick(&world->core);
  assert_null(world_find_response(world, 99)); /* the id is not durable yet */
  world_settle(world);
  assert_int_equal(world_find_response(world, 99)->code, 202);
}

static void test_job_is_announced_again_after_a_restart(void **state) {
  struct world *world = *state;
  struct hop_job before = announce_fetch(world);
  world_restart(world);
  core_on_queue_epoch(&world->core, 0xe1);
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  struct hop_job after = world_announced(world, 0);
  assert_true(pf_job_id_eq(before.job, after.job));
  assert_memory_equal(&before.capability, &after.capability, sizeof(before.capability));
  assert_true(world->announcements.items[0].body_len > 0); /* with its request, read from the row */
}

/* While no queue has ever answered, a job that must not be repeated waits for its epoch, which is
 * durable before the first announcement. */
static void test_epoch_is_written_before_the_first_announcement(void **state) {
  struct world *world = *state;
  world_restart(world); /* this run has not heard of any queue */
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  world_say(world, 8, FETCH_POST);
  world_settle(world);
  assert_int_equal(world->announcements.count, 0);
  core_on_queue_epoch(&world->core, 0xe1);
  core_flush(&world->core);
  assert_int_equal(world->announcements.count, 0);
  core_on_tick(&world->core); /* looks at the invariants */
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  assert_int_equal(world_announced(world, 0).first_epoch, 0xe1); /* also in the very first one */
  assert_int_equal(world->core.stats.invariant_failures, 0);
  world_restart(world);
  core_on_queue_epoch(&world->core, 0xe2);
  world_settle(world);
  assert_int_equal(world_announced(world, 0).first_epoch, 0xe1);
}

/* The rows of earlier runs are read page by page, and by then there are rows of this run too. */
static void test_recovery_leaves_new_jobs_alone(void **state) {
  struct world *world = *state;
  enum { OLD = 2 * LOOKUP_PAGE + 1 };
  char text[160];
  snprintf(text, sizeof(text),
      "{\"type\":\"start-batch-fetch\",\"batchId\":\"b\",\"count\":%d,\"url\":\"http://127.0.0.1:1/"
      "\"}",
      OLD);
  world_say(world, 7, text);
  world_settle(world);
  world_restart(world);
  core_on_queue_epoch(&world->core, 0xe1);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  assert_true(world_step(world)); /* the first page is in */
  assert_true(world_step(world)); /* and the actor; two more pages are to come */
  world_say(world, 8, FETCH("new"));
  world_settle(world);
  assert_int_equal(core_pending(&world->core), OLD + 1);
  size_t count = world->announcements.count;
  assert_int_equal(count, OLD + 1);
  struct hop_job *jobs = pf_alloc(count * sizeof(*jobs));
  for (size_t i = 0; i < count; i++)
    jobs[i] = world_announced(world, i);
  world_accept_all(world, HOP_JOB_QUEUED);
  for (size_t i = 0; i < count; i++)
    world_deliver(world, &jobs[i], 200, NULL);
  free(jobs);
  world_settle(world);
  assert_int_equal(core_pending(&world->core), 0);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1); /* the new one's */
}

static void test_result_before_the_enqueue_answer(void **state) {
  struct world *world = *state;
  struct hop_job job = announce_fetch(world);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world->frames.count, 2);
  assert_non_null(strstr(world->frames.items[0].text, "\"type\":\"enqueued\""));
  assert_non_null(strstr(world->frames.items[1].text, "\"type\":\"result\""));
  world_accept_all(world, HOP_JOB_QUEUED); /* late, and without effect */
  world_settle(world);
  assert_int_equal(world->frames.count, 2);
}

static void test_job_that_is_not_read_yet_is_found(void **state) {
  struct world *world = *state;
  struct pf_job_id id = announce_fetch(world).job;
  world_restart(world);
  core_on_api_job(&world->core, 5, id, 0); /* before any row is in memory */
  core_on_api_job(&world->core, 6, (struct pf_job_id){id.origin, id.local + 1}, 0);
  world_settle(world);
  assert_int_equal(world_find_response(world, 5)->code, 200);
  assert_non_null(strstr(world_find_response(world, 5)->text, "\"state\":\"pending\""));
  assert_int_equal(world_find_response(world, 6)->code, 404);
}

/* One more request than may wait is answered as if its time were over. */
static void test_waiters_max(void **state) {
  struct world *world = *state;
  struct hop_job job = announce_fetch(world);
  for (uint64_t i = 0; i < CORE_WAITERS_MAX; i++)
    core_on_api_job(&world->core, 1000 + i, job.job, 10000);
  world_settle(world);
  assert_int_equal(world->core.waiters.count, CORE_WAITERS_MAX);
  assert_null(world_find_response(world, 1000));
  core_on_api_job(&world->core, 5, job.job, 10000);
  world_settle(world);
  assert_non_null(strstr(world_find_response(world, 5)->text, "\"state\":\"pending\""));
  world_accept_all(world, HOP_JOB_QUEUED);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world->core.waiters.count, 0);
  assert_non_null(
      strstr(world_find_response(world, 999 + CORE_WAITERS_MAX)->text, "\"state\":\"done\""));
}

static void test_second_result_is_a_duplicate(void **state) {
  struct world *world = *state;
  struct hop_job job = announce_fetch(world);
  world_deliver(world, &job, 200, NULL);
  uint64_t second = world_deliver(world, &job, 200, NULL); /* before the first is durable */
  assert_int_equal(world_answer(world, second), -1);
  world_settle(world);
  assert_int_equal(world_answer(world, second), HOP_RESULT_DUPLICATE);
  assert_int_equal(deliver_result(world, &job, 500), HOP_RESULT_DUPLICATE);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
  world_restart(world);
  world_settle(world);
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_DUPLICATE);
}

static void test_wrong_capability_and_unknown_job_look_alike(void **state) {
  struct world *world = *state;
  struct hop_job forged = announce_fetch(world);
  forged.capability.bytes[31] ^= 1;
  assert_int_equal(deliver_result(world, &forged, 200), HOP_RESULT_UNKNOWN);
  forged.job.local += 100;
  assert_int_equal(deliver_result(world, &forged, 200), HOP_RESULT_UNKNOWN);
  assert_int_equal(world_count_rows(world, "jobs"), 1);
}

/* ---- limits ---- */

static void test_pending_max(void **state) {
  struct world *world = *state;
  world->limits.pending_max = 2;
  world_say(world, 7, FETCH("1"));
  world_say(world, 7, FETCH("2"));
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 0);
  world_say(world, 7, FETCH("3"));
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 1);
  assert_int_equal(world_count_rows(world, "jobs"), 2);
}

/* A batch multiplies its body: what is small in the message need not be so in memory. */
static void test_pending_bytes_max(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("1"));
  world->limits.pending_bytes_max = (int64_t)world->core.request_bytes + 1;
  world_say(world, 7, FETCH("2"));
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 0);
  world->limits.pending_bytes_max = (int64_t)world->core.request_bytes;
  world_say(world, 7, FETCH("3"));
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 1);
  world->limits.pending_bytes_max++;
  world_say(world, 7,
      "{\"type\":\"start-batch-fetch\",\"batchId\":\"b\",\"count\":2,\"url\":\"http://127.0.0.1:1/"
      "\"}");
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 2); /* all of it or nothing */
  assert_int_equal(world_count_rows(world, "jobs"), 2);
  world_accept_all(world, HOP_JOB_QUEUED);
  assert_int_equal(world->core.request_bytes, 0);
  core_on_queue_epoch(&world->core, 0xe2); /* wanted again: read from the rows */
  world_settle(world);
  assert_int_equal(world->announcements.count, 2);
  assert_int_equal(world->announcements.items[0].body_len, world->core.request_bytes / 2);
}

static void test_full_disk_refuses_new_work_only(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  world->space_low = true;
  world_say(world, 7, FETCH("2"));
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"disk_full\""), 1);
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_ACCEPTED);
}

int origin_fetch_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_fetch_goes_the_whole_way),
      TEST(test_absent_client_id_is_not_echoed),
      TEST(test_nothing_leaves_before_the_commit),
      TEST(test_wait_that_is_shorter_than_the_commit),
      TEST(test_job_is_announced_again_after_a_restart),
      TEST(test_epoch_is_written_before_the_first_announcement),
      TEST(test_recovery_leaves_new_jobs_alone),
      TEST(test_result_before_the_enqueue_answer),
      TEST(test_job_that_is_not_read_yet_is_found),
      TEST(test_waiters_max),
      TEST(test_second_result_is_a_duplicate),
      TEST(test_wrong_capability_and_unknown_job_look_alike),
      TEST(test_pending_max),
      TEST(test_pending_bytes_max),
      TEST(test_full_disk_refuses_new_work_only),
  };
  return cmocka_run_group_tests_name("origin_fetch", tests, NULL, NULL);
}
