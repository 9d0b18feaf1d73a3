#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/origin_world.h"
#include "wire/batch.h"

#define FETCH(id)                                                                                  \
  "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/x\",\"clientId\":\"" id "\"}"

static int setup(void **state) {
  struct world *world = pf_alloc(sizeof(*world));
  world_init(world, NULL);
  assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0);
  world_settle(world);
  core_on_queue_epoch(&world->core, 0xe1);
  *state = world;
  return 0;
}

static int teardown(void **state) {
  world_done(*state);
  free(*state);
  return 0;
}

/* ---- one fetch ---- */

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
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job before = world_announced(world, 0);
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
  world_say(world, 8,
      "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/"
      "\",\"clientId\":\"p\",\"method\":\"POST\"}");
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
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
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
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct pf_job_id id = world_announced(world, 0).job;
  world_restart(world);
  core_on_api_job(&world->core, 5, id, 0); /* before any row is in memory */
  core_on_api_job(&world->core, 6, (struct pf_job_id){id.origin, id.local + 1}, 0);
  world_settle(world);
  assert_int_equal(world_find_response(world, 5)->code, 200);
  assert_non_null(strstr(world_find_response(world, 5)->text, "\"state\":\"pending\""));
  assert_int_equal(world_find_response(world, 6)->code, 404);
}

static void test_second_result_is_a_duplicate(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  world_deliver(world, &job, 200, NULL);
  uint64_t second = world_deliver(world, &job, 200, NULL); /* before the first is durable */
  assert_int_equal(world_answer(world, second), -1);
  world_settle(world);
  assert_int_equal(world_answer(world, second), HOP_RESULT_DUPLICATE);
  uint64_t third = world_deliver(world, &job, 500, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, third), HOP_RESULT_DUPLICATE);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
  world_restart(world);
  world_settle(world);
  uint64_t fourth = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, fourth), HOP_RESULT_DUPLICATE);
}

static void test_wrong_capability_and_unknown_job_look_alike(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job forged = world_announced(world, 0);
  forged.capability.bytes[31] ^= 1;
  uint64_t request = world_deliver(world, &forged, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_UNKNOWN);
  forged.job.local += 100;
  request = world_deliver(world, &forged, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_UNKNOWN);
  assert_int_equal(world_count_rows(world, "jobs"), 1);
}

/* ---- ends that come from the origin ---- */

static void test_cancel_then_late_result(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
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
  uint64_t request = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
}

static void cancel_job(struct world *world, struct pf_job_id id) {
  core_on_api_cancel(&world->core, id.local, id);
  world_settle(world);
}

/* The queue that does not hear of the end would go on fetching. */
static void test_end_is_told_until_it_is_confirmed(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
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
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct pf_job_id id = world_announced(world, 0).job;
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
  world_say(world, 8,
      "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/"
      "\",\"clientId\":\"p\",\"method\":\"POST\"}");
  world_settle(world);
  cancel_job(world, (struct pf_job_id){world->core.origin_id, world->core.next_local - 1});
  assert_non_null(world_find_frame(world, "\"code\":\"canceled\""));
  assert_int_equal(core_endings(&world->core), 0);
  assert_int_equal(world->announcements.count, 0);
}

/* Accepted by the queue, in batches. */
static void make_jobs(struct world *world, int count) {
  enum { BATCH = 4096 };
  char text[160];
  world->limits.pending_max = 1000000;
  for (; count > 0; count -= BATCH) {
    snprintf(text, sizeof(text),
        "{\"type\":\"start-batch-fetch\",\"batchId\":\"b%d\",\"count\":%d,\"url\":"
        "\"http://127.0.0.1:1/\"}",
        count, count < BATCH ? count : BATCH);
    world_say(world, 7, text);
    world_settle(world);
    world_accept_all(world, HOP_JOB_QUEUED);
    world_settle(world);
  }
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

static void test_late_result_needs_the_capability(void **state) {
  struct world *world = *state;
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  core_on_api_cancel(&world->core, 5, job.job);
  world_settle(world);
  struct hop_job forged = job;
  forged.capability.bytes[0] ^= 1;
  uint64_t request = world_deliver(world, &forged, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_UNKNOWN);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 0);
  request = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 1);
}

static void test_late_result_twice_at_once(void **state) {
  struct world *world = *state;
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  core_on_api_cancel(&world->core, 5, job.job);
  world_settle(world);
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
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  uint64_t request = world_declare(world, &job, OUTCOME_EXECUTOR_LOST);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_ACCEPTED);
  assert_non_null(world_find_frame(world, "\"code\":\"executor_lost\""));
  request = world_declare(world, &job, OUTCOME_EXECUTOR_LOST); /* its answer was lost */
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 0);
  request = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_STALE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 1);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
}

/* A failure of the attempt itself is its end: whatever comes again is a copy. */
static void test_no_late_result_after_an_answer(void **state) {
  struct world *world = *state;
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  world_deliver(world, &job, 0, NULL);
  world_settle(world);
  uint64_t request = world_deliver(world, &job, 0, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_DUPLICATE);
  assert_int_equal(world_count_frames(world, "\"type\":\"late-result\""), 0);
}

/* While the end is being written there is nothing yet that could hold a late result. */
static void test_late_result_meets_the_end(void **state) {
  struct world *world = *state;
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  core_on_api_cancel(&world->core, 5, job.job);
  core_flush(&world->core);
  assert_int_equal(world->core.job_count[JOB_FINISHING], 1);
  uint64_t request = world_deliver(world, &job, 200, NULL);
  assert_int_equal(world_answer(world, request), HOP_RESULT_RETRY);
  world_settle(world);
  request = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_STALE);
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
  world_say(world, 7,
      "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/"
      "\",\"clientId\":\"p\",\"method\":\"POST\"}");
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

/* ---- batches ---- */

static void test_batch_counts_across_a_restart(void **state) {
  struct world *world = *state;
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7,
      "{\"type\":\"start-batch-fetch\",\"batchId\":\"b\",\"count\":10,\"url\":\"http://127.0.0.1:1/"
      "\"}");
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"batch-started\""), 1);
  assert_int_equal(world->announcements.count, 10);
  struct hop_job jobs[10];
  for (size_t i = 0; i < 10; i++)
    jobs[i] = world_announced(world, i);
  for (size_t i = 0; i < 6; i++)
    world_deliver(world, &jobs[i], i == 0 ? 0 : 200, NULL);
  world_settle(world);
  world_restart(world);
  world_settle(world);
  for (size_t i = 4; i < 10; i++) /* two of them for the second time */
    world_deliver(world, &jobs[i], 200, NULL);
  world_settle(world);
  assert_int_equal(core_pending(&world->core), 0);
  assert_int_equal(world_count_rows(world, "events"), 1); /* batch-complete waits for its session */
}

/* The finished batches of sessions that never return must not fill the actor for good. */
static void test_batches_of_old_sessions_make_room(void **state) {
  struct world *world = *state;
  world_say(world, 7, FETCH("c1")); /* gives the actor its row */
  world_settle(world);
  assert_int_equal(sqlite3_exec(world->db,
                       "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
                       "33286) INSERT INTO state SELECT 1, CAST(printf('batch/s%016x/%0475d', i, "
                       "1) AS BLOB), CAST('1 1 1' AS BLOB) FROM n",
                       NULL, NULL, NULL),
      SQLITE_OK);
  world_restart(world);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  world_say(world, 8, "{\"type\":\"resume\"}");
  for (char id = 'a'; id <= 'z'; id++) {
    char text[512];
    snprintf(text, sizeof(text),
        "{\"type\":\"start-batch-fetch\",\"batchId\":\"%c%0250d\",\"count\":1,\"url\":"
        "\"http://127.0.0.1:1/\"}",
        id, 0);
    world_say(world, 8, text);
  }
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"error\""), 0);
  assert_int_equal(world_count_frames(world, "\"type\":\"batch-started\""), 26);
  assert_true(world_count_rows(world, "state") < 33286);
}

/* ---- sessions ---- */

static void session_of(const struct world *world, char *session) {
  const char *frame = world_find_frame(world, "\"type\":\"session\"");
  assert_non_null(frame);
  const char *at = strstr(frame, "\"session\":\"");
  memcpy(session, at + 11, 32);
  session[32] = '\0';
}

static void test_session_replays_what_was_missed(void **state) {
  struct world *world = *state;
  char session[33], text[160];
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7, FETCH("a"));
  world_say(world, 7, FETCH("b"));
  world_settle(world);
  session_of(world, session);
  struct hop_job a = world_announced(world, 0), b = world_announced(world, 1);
  world_deliver(world, &a, 200, NULL);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"offset\":1"));
  core_on_ws_close(&world->core, 7);
  world_deliver(world, &b, 200, NULL);
  world_settle(world);
  assert_null(world_find_frame(world, "\"offset\":2"));
  world_restart(world);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":0}", session);
  world_say(world, 8, text);
  world_settle(world);
  assert_int_equal(world->frames.count, 3); /* session, then both results in order */
  assert_non_null(strstr(world->frames.items[1].text, "\"offset\":1"));
  assert_non_null(strstr(world->frames.items[2].text, "\"offset\":2"));
  world_say(world, 8, "{\"type\":\"ack\",\"offset\":2}");
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 0);
}

static void test_session_takeover_closes_the_first_socket(void **state) {
  struct world *world = *state;
  char session[33], text[160];
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_settle(world);
  session_of(world, session);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":0}", session);
  world_say(world, 8, text);
  world_settle(world);
  assert_int_equal(world->closes.count, 1);
  assert_int_equal(world->closes.items[0].id, 7);
  assert_int_equal(world->closes.items[0].code, 4001);
}

/* A connection that the network held back delivers its frames after the client has returned by
 * another: the same submit is one job, not one inside the session and one outside. */
static void test_a_taken_over_socket_is_not_heard(void **state) {
  struct world *world = *state;
  char session[33], text[160];
  const char *submit = "{\"type\":\"start-fetch\",\"url\":\"http://a.test/"
                       "\",\"clientId\":\"a\",\"submitKey\":\"k\"}";
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_settle(world);
  session_of(world, session);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":0}", session);
  world_say(world, 7, submit); /* its key is still looked up when the other connection comes */
  world_say(world, 8, text);
  world_say(world, 7, submit);
  world_say(world, 8, submit);
  world_settle(world);
  assert_int_equal(world_count_rows(world, "jobs"), 1);
  struct hop_job job = world_announced(world, 0);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"offset\":1"));
}

static void test_session_of_another_actor_is_unknown(void **state) {
  struct world *world = *state;
  char session[33], text[160];
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_settle(world);
  session_of(world, session);
  assert_int_equal(core_on_ws_open(&world->core, 9, pf_slice_str("/actors/proxy/other")), 0);
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":0}", session);
  world_say(world, 9, text);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"code\":\"session_unknown\""));
}

static void test_retention_announces_a_gap(void **state) {
  struct world *world = *state;
  char session[33], text[160];
  world->limits.session_events_max = 2;
  world_say(world, 7, "{\"type\":\"resume\"}");
  for (int i = 0; i < 4; i++)
    world_say(world, 7, FETCH("x"));
  world_settle(world);
  session_of(world, session);
  struct hop_job jobs[4];
  for (size_t i = 0; i < 4; i++)
    jobs[i] = world_announced(world, i);
  core_on_ws_close(&world->core, 7);
  for (size_t i = 0; i < 4; i++)
    world_deliver(world, &jobs[i], 200, NULL);
  world_settle(world);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":0}", session);
  world_say(world, 8, text);
  world_settle(world);
  assert_non_null(world_find_frame(world, "{\"type\":\"gap\",\"from\":1,\"to\":2}"));
  assert_null(world_find_frame(world, "\"offset\":2,"));
  assert_non_null(world_find_frame(world, "\"offset\":4"));
}

/* A connection that asks for a session; false if it was refused. */
static bool open_session(struct world *world, uint64_t ws) {
  size_t refused = world_count_frames(world, "\"code\":\"sessions_full\"");
  assert_int_equal(core_on_ws_open(&world->core, ws, pf_slice_str("/")), 0);
  world_say(world, ws, "{\"type\":\"resume\"}");
  world_settle(world);
  return world_count_frames(world, "\"code\":\"sessions_full\"") == refused;
}

static void close_session(struct world *world, uint64_t ws) {
  world->now_ms += 1000;
  core_set_time(&world->core, world->now_ms * 1000000, 1700000000000 + world->now_ms);
  core_on_ws_close(&world->core, ws);
  world_settle(world);
}

/* Of four sessions one has a client, one a job, one an event; only the fourth may go. */
static void test_sessions_max_spares_who_would_lose_something(void **state) {
  struct world *world = *state;
  world->limits.sessions_max = 4;
  for (uint64_t ws = 11; ws <= 14; ws++)
    assert_true(open_session(world, ws));
  world_say(world, 12, FETCH("job"));
  world_say(world, 13, FETCH("event"));
  world_settle(world);
  struct hop_job done = world_announced(world, 1);
  for (uint64_t ws = 12; ws <= 14; ws++)
    close_session(world, ws);
  world_deliver(world, &done, 200, NULL);
  world_settle(world);
  assert_true(open_session(world, 15));
  assert_int_equal(world->core.stats.sessions_evicted, 1);
  assert_int_equal(world_count_rows(world, "sessions"), 4);
  assert_false(open_session(world, 16)); /* the fifth has a client, too */
  world_say(world, 16, FETCH("plain"));  /* and goes on without a session */
  world_settle(world);
  assert_int_equal(world_count_rows(world, "jobs"), 2);
  assert_int_equal(world_count_rows(world, "sessions"), 4);
  assert_int_equal(world_count_rows(world, "events"), 1);
  world_restart(world);
  assert_int_equal(core_on_ws_open(&world->core, 21, pf_slice_str("/")), 0);
  assert_true(world->core.loading);
  core_on_ws_message(&world->core, 21, pf_slice_str("{\"type\":\"resume\"}"));
  world_settle(world); /* the client of 11 has not come back, nor that of 15 */
  assert_int_equal(world_count_rows(world, "sessions"), 4);
  assert_int_equal(world_count_rows(world, "jobs"), 2);
  assert_int_equal(world_count_rows(world, "events"), 1);
}

static void test_sessions_max_takes_the_oldest(void **state) {
  struct world *world = *state;
  world->limits.sessions_max = 3;
  uint64_t first = world->core.next_session;
  for (uint64_t ws = 11; ws <= 13; ws++)
    assert_true(open_session(world, ws));
  assert_int_equal(world->core.stats.sessions_evicted, 0);
  close_session(world, 12); /* left first */
  close_session(world, 11);
  assert_true(open_session(world, 14));
  assert_true(open_session(world, 15));
  assert_int_equal(world->core.stats.sessions_evicted, 2);
  assert_int_equal(world->core.sessions_by_id.count, 3);
  assert_false(open_session(world, 16));
  assert_int_equal(world->core.next_session, first + 5);
}

/* A limit that was lowered is reached step by step. */
static void test_sessions_max_lowered(void **state) {
  struct world *world = *state;
  for (uint64_t ws = 100; ws < 300; ws++) {
    assert_true(open_session(world, ws));
    close_session(world, ws);
  }
  world->limits.sessions_max = 1;
  for (uint64_t ws = 300; ws < 303; ws++)
    assert_false(open_session(world, ws));
  assert_true(open_session(world, 303));
  assert_int_equal(world_count_rows(world, "sessions"), 1);
}

/* An id that returned would meet the submit keys and late results of the session that had it. */
static void test_session_ids_never_return(void **state) {
  struct world *world = *state;
  world->limits.session_keep_ms = 1000;
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_settle(world);
  uint64_t first = world->core.next_session - 1;
  core_on_ws_close(&world->core, 7);
  world_settle(world);
  world_advance(world, 120000);
  assert_int_equal(world_count_rows(world, "sessions"), 0);
  world_restart(world);
  assert_true(world->core.next_session > first);
}

/* A crash of the origin is not the fault of a client that was connected all the time. */
static void test_connected_session_outlives_a_restart(void **state) {
  struct world *world = *state;
  world->limits.session_keep_ms = 600000;
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_settle(world);
  for (int i = 0; i < 20; i++)
    world_advance(world, 60000);
  world_restart(world);
  world_advance(world, 60000);
  assert_int_equal(world->core.sessions_by_id.count, 1);
  world_advance(world, 700000);
  assert_int_equal(world->core.sessions_by_id.count, 0);
}

static void test_two_takeovers_at_once_replay_each_event_once(void **state) {
  struct world *world = *state;
  char session[33], text[160];
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7, FETCH("a"));
  world_settle(world);
  session_of(world, session);
  struct hop_job job = world_announced(world, 0);
  core_on_ws_close(&world->core, 7);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  assert_int_equal(core_on_ws_open(&world->core, 9, pf_slice_str("/")), 0);
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":0}", session);
  world_say(world, 8, text);
  world_say(world, 9, text);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"offset\":1,"), 2); /* session frame of 8 and 9 */
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
}

/* ---- submitKey ---- */

#define KEYED(id, url)                                                                             \
  "{\"type\":\"start-fetch\",\"url\":\"" url "\",\"clientId\":\"" id "\",\"submitKey\":\"k\"}"

static void test_submit_key_gives_the_same_job(void **state) {
  struct world *world = *state;
  world_say(world, 7, KEYED("a", "http://127.0.0.1:1/"));
  world_say(world, 7, KEYED("b", "http://127.0.0.1:1/")); /* while the first is being looked up */
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  world_say(world, 7, KEYED("c", "http://127.0.0.1:2/"));
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"code\":\"submit_key_conflict\""));
  struct hop_job job = world_announced(world, 0);
  world_accept_all(world, HOP_JOB_QUEUED);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"type\":\"enqueued\"")); /* under the newest clientId */
  assert_non_null(strstr(world_find_frame(world, "\"type\":\"enqueued\""), "\"clientId\":\"b\""));
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  size_t results = world_count_frames(world, "\"type\":\"result\"");
  world_say(world, 7, KEYED("a", "http://127.0.0.1:1/")); /* done: its stored result */
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), results + 1);
  assert_int_equal(world->announcements.count, 0);
}

static void test_submit_keys_are_forgotten_by_age(void **state) {
  struct world *world = *state;
  world->limits.submit_keep_ms = 100000;
  world_say(world, 7, KEYED("a", "http://127.0.0.1:1/"));
  world_settle(world);
  world_advance(world, WIRE_DEADLINE_MS_DEFAULT + 100000); /* from its job's deadline on */
  assert_int_equal(world_count_rows(world, "submits"), 1);
  world_advance(world, 1001);
  assert_int_equal(world_count_rows(world, "submits"), 0);
}

static void say_keyed(struct world *world, int key) {
  char text[160];
  snprintf(text, sizeof(text),
      "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/\",\"clientId\":\"c%d\","
      "\"submitKey\":\"k%d\"}",
      key, key);
  world_say(world, 7, text);
  world_settle(world);
}

static void test_submit_count_max(void **state) {
  struct world *world = *state;
  world->limits.submit_count_max = 2;
  world->limits.submit_keep_ms = 100000;
  say_keyed(world, 1);
  struct hop_job job = world_announced(world, 0);
  world_deliver(world, &job, 200, NULL);
  say_keyed(world, 2);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 0);
  say_keyed(world, 3);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 1);
  core_on_api_fetch(&world->core, 99, pf_slice_str("proxy"), pf_slice_str("default"),
      pf_slice_str("{\"url\":\"http://127.0.0.1:1/\",\"submitKey\":\"k4\"}"), 0);
  world_settle(world);
  assert_int_equal(world_find_response(world, 99)->code, 503);
  /* What is known stays so, done or not, and what has no key needs no room. */
  say_keyed(world, 1);
  say_keyed(world, 2);
  world_say(world, 7, FETCH("free"));
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 1);
  assert_int_equal(world_count_rows(world, "submits"), 2);
  assert_int_equal(world_count_rows(world, "jobs"), 2);
  world_advance(world, WIRE_DEADLINE_MS_DEFAULT + 100001);
  world_advance(world, 1000);
  assert_int_equal(world_count_rows(world, "submits"), 0);
  assert_int_equal(world->core.submit_rows, 0);
  say_keyed(world, 3);
  assert_int_equal(world_count_frames(world, "\"code\":\"busy\""), 1);
  world_restart(world);
  assert_int_equal(world->core.submit_rows, 1);
}

/* Millions of keys that expire together go a few at a time. */
static void test_submit_sweep_is_bounded(void **state) {
  struct world *world = *state;
  world->limits.submit_keep_ms = 1000;
  assert_int_equal(sqlite3_exec(world->db,
                       "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
                       "5001) INSERT INTO submits SELECT 1, CAST(i AS BLOB), x'00', i, i FROM n",
                       NULL, NULL, NULL),
      SQLITE_OK);
  world_restart(world);
  assert_int_equal(world->core.submit_rows, 5001);
  world_advance(world, 1000);
  assert_int_equal(world_count_rows(world, "submits"), 1);
  world_advance(world, 1000);
  assert_int_equal(world_count_rows(world, "submits"), 0);
  assert_int_equal(world->core.submit_rows, 0);
}

/* Between the commit's closing and its end the job is neither pending nor a stored result. */
static void test_submit_key_of_a_job_that_is_finishing(void **state) {
  struct world *world = *state;
  world_say(world, 7, KEYED("a", "http://127.0.0.1:1/"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  world_accept_all(world, HOP_JOB_QUEUED);
  world_deliver(world, &job, 200, NULL);
  core_flush(&world->core);
  assert_int_equal(world->core.job_count[JOB_FINISHING], 1);
  world_say(world, 7, KEYED("a", "http://127.0.0.1:1/"));
  core_on_api_fetch(&world->core, 99, pf_slice_str("proxy"), pf_slice_str("default"),
      pf_slice_str("{\"url\":\"http://127.0.0.1:1/\",\"submitKey\":\"k\"}"), 10000);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 2);
  assert_non_null(world_find_response(world, 99));
  assert_int_equal(world_find_response(world, 99)->code, 200);
  assert_int_equal(world->core.waiters.count, 0);
}

/* ---- stored results ---- */

static int64_t sum_stored(struct world *world) {
  sqlite3_stmt *stmt;
  assert_int_equal(sqlite3_prepare_v2(world->db,
                       "SELECT sum(length(message) + ifnull(length(body), 0) + length(whom) +"
                       " ifnull(length(late), 0)) FROM results",
                       -1, &stmt, NULL),
      SQLITE_OK);
  assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
  int64_t sum = sqlite3_column_int64(stmt, 0);
  sqlite3_finalize(stmt);
  return sum;
}

/* A job that ends with a body which is kept. */
static struct hop_job store_result(struct world *world, const char *body) {
  world_forget_records(world);
  core_on_api_fetch(&world->core, 99, pf_slice_str("proxy"), pf_slice_str("default"),
      pf_slice_str("{\"url\":\"http://127.0.0.1:1/\",\"include\":[\"body\"]}"), 0);
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  world_accept_all(world, HOP_JOB_QUEUED);
  world_deliver(world, &job, 200, body);
  world_settle(world);
  return job;
}

static int read_job(struct world *world, struct pf_job_id id) {
  world_forget_records(world);
  core_on_api_job(&world->core, 98, id, 0);
  world_settle(world);
  return world_find_response(world, 98)->code;
}

static void test_result_bytes_max(void **state) {
  struct world *world = *state;
  struct hop_job jobs[3];
  static const char *const bodies[] = {"first", "second, longer", "third"};
  for (size_t i = 0; i < 3; i++)
    jobs[i] = store_result(world, bodies[i]);
  assert_int_equal(world_count_rows(world, "results"), 3);
  assert_int_equal(world->core.result_bytes, sum_stored(world));
  world->limits.result_bytes_max = world->core.result_bytes;
  world_advance(world, 1000);
  assert_int_equal(world_count_rows(world, "results"), 3);
  world->limits.result_bytes_max--;
  world_advance(world, 1000);
  assert_int_equal(world_count_rows(world, "results"), 2);
  assert_int_equal(world->core.result_rows, 2);
  assert_int_equal(world->core.result_bytes, sum_stored(world));
  /* As if its time had passed. */
  assert_int_equal(read_job(world, jobs[0].job), 404);
  assert_non_null(strstr(world_find_response(world, 98)->text, "job_unknown"));
  assert_int_equal(read_job(world, jobs[1].job), 200);
  assert_int_equal(read_job(world, jobs[2].job), 200);
  int64_t bytes = world->core.result_bytes;
  world_restart(world);
  assert_int_equal(world->core.result_bytes, bytes);
  world->limits.result_bytes_max = 0;
  world_advance(world, 1000);
  assert_int_equal(world_count_rows(world, "results"), 0);
  assert_int_equal(world->core.result_bytes, 0);
}

/* Late results count; those that find their row swept do not. */
static void test_result_bytes_of_late_results(void **state) {
  struct world *world = *state;
  for (int swept = 0; swept < 2; swept++) {
    world_forget_records(world);
    world_say(world, 7, FETCH("c"));
    world_settle(world);
    struct hop_job job = world_announced(world, 0);
    world_accept_all(world, HOP_JOB_QUEUED);
    cancel_job(world, job.job);
    int64_t before = world->core.result_bytes;
    assert_int_equal(before, sum_stored(world));
    world_deliver(world, &job, 200, "late");
    assert_true(world_step(world)); /* the row is found */
    if (swept)
      assert_int_equal(sqlite3_exec(world->db, "DELETE FROM results", NULL, NULL, NULL), SQLITE_OK);
    world_settle(world);
    assert_true(
        swept ? world->core.result_bytes == before
              : world->core.result_bytes > before && world->core.result_bytes == sum_stored(world));
  }
}

/* Until a sweep is durable, what it deletes is still counted: it must not be deleted twice. */
static void test_result_sweeps_do_not_overlap(void **state) {
  struct world *world = *state;
  for (size_t i = 0; i < 3; i++)
    store_result(world, "body");
  world->limits.result_bytes_max = world->core.result_bytes - 1;
  for (size_t i = 0; i < 3; i++) {
    world->now_ms += 1000;
    core_set_time(&world->core, world->now_ms * 1000000, 1700000000000 + world->now_ms);
    core_on_tick(&world->core);
  }
  world_settle(world);
  assert_int_equal(world_count_rows(world, "results"), 2);
}

/* A sweep frees so many rows and bytes and no more, but goes on soon while there is too much. */
static void test_result_sweep_is_bounded(void **state) {
  struct world *world = *state;
  enum { MIB = 1 << 20 };
  static const char small[] =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5001)"
      " INSERT INTO results(id, actor, done_ms, ended, message)"
      " SELECT i, 1, 1800000000000, 0, x'7b7d' FROM n";
  static const char large[] =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 17)"
      " INSERT INTO results(id, actor, done_ms, ended, message, body)"
      " SELECT i, 1, %s, 0, x'', zeroblob(1048576) FROM n";
  assert_int_equal(sqlite3_exec(world->db, small, NULL, NULL, NULL), SQLITE_OK);
  world_restart(world);
  assert_int_equal(world->core.result_bytes, 2 * 5001);
  world->limits.result_bytes_max = 0;
  world_advance(world, 1000);
  assert_int_equal(world_count_rows(world, "results"), 1);
  assert_true(core_next_tick_ms(&world->core) <= 100);
  world_advance(world, 100);
  assert_int_equal(world_count_rows(world, "results"), 0);
  static const char *const done_ms[] = {"1800000000000", "1"}; /* too much, too old */
  for (size_t i = 0; i < 2; i++) {
    char text[512];
    snprintf(text, sizeof(text), large, done_ms[i]);
    assert_int_equal(sqlite3_exec(world->db, text, NULL, NULL, NULL), SQLITE_OK);
    world_restart(world);
    assert_int_equal(world->core.result_bytes, (int64_t)17 * MIB);
    world->limits.result_bytes_max = i == 0 ? 0 : (int64_t)17 * MIB;
    world_advance(world, 1000);
    assert_int_equal(world_count_rows(world, "results"), 1);
    assert_int_equal(world->core.result_bytes, MIB);
    world_advance(world, 1000);
    assert_int_equal(world_count_rows(world, "results"), 0);
    assert_int_equal(world->core.result_bytes, 0);
  }
}

/* ---- lists for operators ---- */

static const char *list(
    struct world *world, const char *state, int64_t limit, uint64_t after, unsigned *ret_steps) {
  struct pf_job_id id = {world->core.origin_id, after};
  *ret_steps = 0;
  world_forget_records(world);
  core_on_api_list(&world->core, 99, pf_slice_str(state), limit, id);
  for (; world->responses.count == 0; ++*ret_steps)
    assert_true(world_step(world));
  assert_int_equal(world->responses.items[0].code, 200);
  return world->responses.items[0].text;
}

static size_t count_text(const char *text, const char *part) {
  size_t count = 0;
  for (; (text = strstr(text, part)) != NULL; text++)
    count++;
  return count;
}

/* Each step looks at a page, whether or not anything in it is wanted. */
static void test_long_list_is_read_in_pages(void **state) {
  struct world *world = *state;
  enum { JOBS = 100000, PAGES = JOBS / LOOKUP_IDS_PAGE };
  unsigned steps;
  uint64_t first = world->core.next_local, after = 0;
  make_jobs(world, JOBS);
  const char *text = list(world, "", 1, 0, &steps);
  assert_int_equal(steps, 1);
  assert_non_null(strstr(text, "\"total\":100000"));
  text = list(world, "parked", 100, 0, &steps);
  assert_in_range(steps, PAGES, PAGES + 1);
  assert_non_null(strstr(text, "\"jobs\":[]"));
  assert_non_null(strstr(text, "\"total\":0"));
  assert_null(strstr(text, "\"next\""));
  size_t listed = 0;
  char id[PF_ID_TEXT];
  do { /* all of them, each once, the oldest first */
    text = list(world, "enqueued", CORE_LIST_MAX + 1, after, &steps);
    size_t count = count_text(text, "\"reqId\"");
    assert_true(count <= CORE_LIST_MAX && steps <= 2);
    for (size_t i = 0; i < count; i++) {
      pf_job_id_print(id, (struct pf_job_id){world->core.origin_id, first + listed++});
      assert_non_null(text = strstr(text, id));
    }
    after = first + listed - 1;
  } while ((text = strstr(text, "\"next\":")) != NULL);
  assert_int_equal(listed, JOBS);
  text = list(world, "", 0, 0, &steps);
  assert_non_null(strstr(text, "\"jobs\":[]"));
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
  uint64_t request = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_ACCEPTED);
}

/* ---- the checkout chain ---- */

static struct hop_job newest_announced(struct world *world) {
  struct hop_job job = world_announced(world, world->announcements.count - 1);
  world_accept_all(world, HOP_JOB_QUEUED);
  return job;
}

static void test_checkout_chain_survives_restarts(void **state) {
  struct world *world = *state;
  assert_int_equal(core_on_ws_open(&world->core, 9, pf_slice_str("/actors/checkout/shop")), 0);
  world_say(world, 9, "{\"type\":\"resume\"}");
  world_say(world, 9,
      "{\"type\":\"checkout\",\"clientId\":\"c\",\"base\":\"http://127.0.0.1:1\",\"items\":2}");
  world_settle(world);
  struct hop_job token = newest_announced(world);
  world_deliver(world, &token, 200, "{\"uuid\":\"tok\"}");
  world_step(world); /* the result is safe, its continuation has not run */
  world_restart(world);
  core_on_queue_epoch(&world->core, 0xe1);
  world_settle(world);
  assert_int_equal(world->announcements.count, 1); /* the user, asked for once */
  struct hop_job user = newest_announced(world);
  world_deliver(world, &user, 200, NULL);
  world_settle(world);
  assert_int_equal(world->announcements.count, 2);
  struct hop_job items[2] = {world_announced(world, 0), world_announced(world, 1)};
  world_accept_all(world, HOP_JOB_QUEUED);
  world_deliver(world, &items[0], 200, "{\"uuid\":\"i0\"}");
  world_settle(world);
  world_restart(world);
  world_settle(world);
  world_deliver(world, &items[1], 200, "{\"uuid\":\"i1\"}");
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 1);
  assert_int_equal(world_count_rows(world, "state"), 0);
  assert_int_equal(core_pending(&world->core), 0);
}

/* ---- continuations that fail ---- */

static int fail_always(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  if (actor_put(actor, pf_slice_str("trace"), pf_slice_str("left behind"))) return -1;
  actor_reply(actor, result);
  return -1;
}

static int start_failing(struct actor *actor, const struct actor_client *client,
    const struct client_message *message, struct pf_slice text) {
  (void)text;
  struct actor_fetch spec = {.fetch = &message->fetch, .continuation = "fail", .client = *client};
  struct pf_job_id job;
  return actor_fetch(actor, &spec, &job, NULL);
}

static const struct actor_continuation failing_continuations[] = {
    {.name = "fail", .run = fail_always}};
static const struct actor_class failing = {.name = "proxy",
    .on_message = start_failing,
    .continuations = failing_continuations,
    .continuation_count = 1};
static const struct actor_class *const failing_classes[] = {&failing, NULL};

/* Answers, thinks better of it, and answers again. */
static int answer_twice(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  actor_log(actor, "first");
  actor_reply(actor, result);
  actor_undo(actor);
  actor_log(actor, "second");
  actor_reply(actor, result);
  return 0;
}

static const struct actor_continuation undoing_continuations[] = {
    {.name = "fail", .cannot_crash = true, .run = answer_twice}};
static const struct actor_class undoing = {.name = "proxy",
    .on_message = start_failing,
    .continuations = undoing_continuations,
    .continuation_count = 1};
static const struct actor_class *const undoing_classes[] = {&undoing, NULL};

static void test_undo_takes_lines_and_events_back(void **state) {
  (void)state;
  struct world *world = pf_alloc(sizeof(*world));
  world_init(world, undoing_classes);
  world->log.fd = -1;
  world->limits.session_events_max = 1;
  assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0);
  core_on_queue_epoch(&world->core, 0xe1);
  world_say(world, 7, "{\"type\":\"resume\"}");
  for (int i = 0; i < 2; i++)
    world_say(world, 7,
        "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/x\",\"include\":[\"logs\"]}");
  world_settle(world);
  struct hop_job jobs[2] = {world_announced(world, 0), world_announced(world, 1)};
  for (int i = 0; i < 2; i++) {
    world_deliver(world, &jobs[i], 200, NULL);
    world_settle(world);
  }
  assert_int_equal(world_count_frames(world, "\"logs\":[\"second\"]"), 2);
  assert_non_null(world_find_frame(world, "\"offset\":2"));
  assert_int_equal(world_count_rows(world, "events"), 1);
  assert_int_equal(world->core.stats.invariant_failures, 0);
  world_done(world);
  free(world);
}

static void test_poison_continuation_is_parked(void **state) {
  (void)state;
  struct world *world = pf_alloc(sizeof(*world));
  world_init(world, failing_classes);
  world->log.fd = -1; /* the parking is expected */
  assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0);
  world_say(world, 7, FETCH("c1"));
  core_on_queue_epoch(&world->core, 0xe1);
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  uint64_t request = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_ACCEPTED);
  assert_int_equal(world->core.stats.turns_undone, JOB_RUNS_MAX);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
  assert_non_null(world_find_frame(world, "\"code\":\"continuation_failed\""));
  assert_int_equal(world_count_rows(world, "jobs"), 1);
  assert_int_equal(world_count_rows(world, "state"), 0); /* nothing of the failed runs remains */
  assert_int_equal(world->core.job_count[JOB_PARKED], 1);
  core_on_api_rerun(&world->core, 99, job.job); /* a new budget, spent the same way */
  world_settle(world);
  assert_int_equal(world_find_response(world, 99)->code, 202);
  assert_int_equal(world->core.stats.turns_undone, 2 * JOB_RUNS_MAX);
  assert_int_equal(world->core.job_count[JOB_PARKED], 1);
  core_on_api_cancel(&world->core, 100, job.job); /* an operator gives it up */
  assert_null(world_find_response(world, 100));
  world_settle(world);
  assert_int_equal(world_find_response(world, 100)->code, 200);
  assert_non_null(strstr(world_find_response(world, 100)->text, "\"state\":\"discarded\""));
  assert_int_equal(world_count_rows(world, "jobs"), 0);
  assert_int_equal(world->core.jobs.count, 0);
  world_done(world);
  free(world);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
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
      TEST(test_second_result_is_a_duplicate),
      TEST(test_wrong_capability_and_unknown_job_look_alike),
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
      TEST(test_batch_counts_across_a_restart),
      TEST(test_batches_of_old_sessions_make_room),
      TEST(test_session_replays_what_was_missed),
      TEST(test_session_takeover_closes_the_first_socket),
      TEST(test_a_taken_over_socket_is_not_heard),
      TEST(test_session_of_another_actor_is_unknown),
      TEST(test_retention_announces_a_gap),
      TEST(test_sessions_max_spares_who_would_lose_something),
      TEST(test_sessions_max_takes_the_oldest),
      TEST(test_sessions_max_lowered),
      TEST(test_session_ids_never_return),
      TEST(test_connected_session_outlives_a_restart),
      TEST(test_two_takeovers_at_once_replay_each_event_once),
      TEST(test_submit_key_gives_the_same_job),
      TEST(test_submit_keys_are_forgotten_by_age),
      TEST(test_submit_count_max),
      TEST(test_submit_sweep_is_bounded),
      TEST(test_submit_key_of_a_job_that_is_finishing),
      TEST(test_result_bytes_max),
      TEST(test_result_bytes_of_late_results),
      TEST(test_result_sweeps_do_not_overlap),
      TEST(test_result_sweep_is_bounded),
      TEST(test_long_list_is_read_in_pages),
      TEST(test_pending_max),
      TEST(test_pending_bytes_max),
      TEST(test_full_disk_refuses_new_work_only),
      TEST(test_checkout_chain_survives_restarts),
      cmocka_unit_test(test_undo_takes_lines_and_events_back),
      cmocka_unit_test(test_poison_continuation_is_parked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
