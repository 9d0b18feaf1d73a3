/* Rules of the delivery contract that fail silently when they are left out: each test here was seen
 * to fail without its rule. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin_fixture.h"
#include "wire/batch.h"

static void restart(struct world *world) {
  world_restart(world);
  world_settle(world); /* all rows are read */
  core_on_queue_epoch(&world->core, EPOCH);
}

/* A batch to this origin, without items. */
static void results_begin(const struct world *world, struct pf_buf *batch) {
  struct pf_buf head;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  hop_results_head_encode(&head, &(struct hop_results_head){world->core.origin_id});
  pf_buf_init(batch, PF_BUF_MAX_DEFAULT);
  batch_append(batch, pf_buf_view(&head), (struct pf_slice){0});
  pf_buf_done(&head);
}

static void ask_status(struct world *world, uint64_t request, struct pf_job_id id) {
  struct pf_buf batch, head;
  results_begin(world, &batch);
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  hop_status_encode(&head, id);
  batch_append(&batch, pf_buf_view(&head), (struct pf_slice){0});
  core_on_status(&world->core, request, pf_buf_view(&batch));
  core_flush(&world->core);
  pf_buf_done(&head);
  pf_buf_done(&batch);
}

/* -1: not answered yet. */
static int status_answer(const struct world *world, uint64_t request) {
  const struct record *response = world_find_response(world, request);
  struct pf_slice head, body;
  int answer = -1;
  if (!response) return -1;
  struct batch_reader reader = batch_reader(pf_slice(response->text, response->len));
  assert_int_equal(batch_next(&reader, &head, &body), PF_OK);
  assert_int_equal(batch_next(&reader, &head, &body), PF_OK);
  assert_int_equal(hop_answer_decode(&answer, hop_status_answers, head), PF_OK);
  return answer;
}

static int status_of(struct world *world, uint64_t request, struct pf_job_id id) {
  ask_status(world, request, id);
  world_settle(world);
  return status_answer(world, request);
}

/* ---- continuations that are user code ---- */

static unsigned runs; /* of the continuation below, in all lives of the process */

static int run_counted(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  runs++;
  actor_reply(actor, result);
  return 0;
}

static int start_counted(struct actor *actor, const struct actor_client *client,
    const struct client_message *message, struct pf_slice text) {
  (void)text;
  struct actor_fetch spec = {
      .fetch = &message->fetch, .continuation = "counted", .client = *client, .keep_result = true};
  struct pf_job_id job;
  return actor_fetch(actor, &spec, &job, NULL);
}

static const struct actor_continuation counted_continuations[] = {
    {.name = "counted", .run = run_counted}};
static const struct actor_class counted = {.name = "proxy",
    .on_message = start_counted,
    .continuations = counted_continuations,
    .continuation_count = 1};
static const struct actor_class *const counted_classes[] = {&counted, NULL};
static const struct actor_class nameless = {.name = "proxy", .on_message = start_counted};
static const struct actor_class *const nameless_classes[] = {&nameless, NULL};

static int setup_counted(void **state) {
  struct world *world = world_with(counted_classes);
  world->log.fd = -1;
  *state = world;
  runs = 0;
  return 0;
}

/* The sender may forget the result from `accepted` on, and code that takes the process down must
 * have used up one of its runs: both wait for the commit. */
static void test_result_and_run_are_durable_first(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  uint64_t request = world_deliver(world, &job, 200, NULL);
  core_flush(&world->core);
  assert_int_equal(world_answer(world, request), -1);
  assert_int_equal(runs, 0);
  world->core.stats.turns++; /* of which the request id is made */
  uint64_t second = world_deliver(world, &job, 500, NULL);
  assert_true(world_step(world));
  assert_int_equal(world_answer(world, request), HOP_RESULT_ACCEPTED);
  assert_int_equal(runs, 1);
  world_settle(world);
  assert_int_equal(world_answer(world, second), HOP_RESULT_DUPLICATE);
  assert_int_equal(runs, 1);
  assert_int_equal(world_count_rows(world, "jobs"), 0);
}

static void test_accepted_result_survives_the_process(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  uint64_t request = world_deliver(world, &job, 200, NULL);
  while (world_answer(world, request) < 0)
    assert_true(world_step(world));
  assert_int_equal(world_count_rows(world, "results"), 0); /* its effects are not durable yet */
  restart(world);
  assert_int_equal(world->announcements.count, 0); /* nobody has to fetch it again */
  assert_int_equal(runs, 2);
  assert_int_equal(world_count_rows(world, "jobs"), 0);
  assert_int_equal(world_count_rows(world, "results"), 1);
}

/* Each run takes the process down before its effects are durable. */
static void test_runs_are_counted_across_restarts(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  world_deliver(world, &job, 200, NULL);
  for (unsigned life = 1; life <= JOB_RUNS_MAX; life++) {
    while (runs < life)
      assert_true(world_step(world));
    world_restart(world);
  }
  world_settle(world);
  assert_int_equal(runs, JOB_RUNS_MAX);
  assert_int_equal(world->core.job_count[JOB_PARKED], 1);
  assert_int_equal(world_count_rows(world, "jobs"), 1);
}

static void test_unknown_continuation_is_parked(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  world->classes = nameless_classes;
  restart(world);
  uint64_t request = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_ACCEPTED);
  assert_int_equal(world->core.job_count[JOB_PARKED], 1);
  world->classes = counted_classes;
  restart(world);
  core_on_api_rerun(&world->core, 99, job.job); /* the program that knows it is back */
  world_settle(world);
  assert_int_equal(world_find_response(world, 99)->code, 202);
  assert_int_equal(runs, 1);
  assert_int_equal(world_count_rows(world, "jobs"), 0);
}

/* ---- what the queue is told about a job ---- */

static void test_status_of_user_code(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  assert_int_equal(status_of(world, 1, job.job), HOP_STATUS_PENDING);
  world_deliver(world, &job, 200, NULL);
  ask_status(world, 2, job.job);
  assert_int_equal(status_answer(world, 2), -1); /* a crash could still forget the result */
  assert_true(world_step(world));
  while (status_answer(world, 2) < 0)
    assert_true(world_step(world));
  assert_int_equal(status_answer(world, 2), HOP_STATUS_RECEIVED);
  world_settle(world);
  assert_int_equal(status_of(world, 3, job.job), HOP_STATUS_DONE);
}

/* The result of code that cannot crash is in memory only while its actor is being read. */
static void test_status_and_result_while_the_actor_is_read(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  restart(world);
  uint64_t first = world_deliver(world, &job, 200, NULL);
  assert_int_equal(world->core.job_count[JOB_RUNNABLE], 1);
  ask_status(world, 1, job.job);
  world->core.stats.turns++; /* of which the request id is made */
  uint64_t second = world_deliver(world, &job, 200, NULL);
  assert_int_equal(world_answer(world, second), HOP_RESULT_RETRY);
  world_settle(world);
  assert_int_equal(status_answer(world, 1), HOP_STATUS_RETRY);
  assert_int_equal(world_answer(world, first), HOP_RESULT_ACCEPTED);
  assert_int_equal(status_of(world, 2, job.job), HOP_STATUS_DONE);
}

static void test_status_and_result_before_the_row_is_read(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  world_restart(world);
  assert_true(world->core.loading);
  uint64_t request = world_deliver(world, &job, 200, NULL);
  assert_int_equal(world_answer(world, request), HOP_RESULT_RETRY);
  ask_status(world, 1, job.job);
  ask_status(world, 2, (struct pf_job_id){job.job.origin, world->core.next_local});
  ask_status(world, 3, (struct pf_job_id){job.job.origin ^ 1, job.job.local});
  world_settle(world);
  assert_int_equal(status_answer(world, 1), HOP_STATUS_RETRY);
  assert_int_equal(status_answer(world, 2), HOP_STATUS_UNKNOWN);
  assert_int_equal(status_answer(world, 3), HOP_STATUS_UNKNOWN);
  assert_int_equal(status_of(world, 4, job.job), HOP_STATUS_PENDING);
}

/* The local ids of two origins are alike. */
static void test_result_for_another_origin_is_unknown(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  job.job.origin ^= 1;
  uint64_t request = world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_answer(world, request), HOP_RESULT_UNKNOWN);
  assert_int_equal(core_pending(&world->core), 1);
}

/* Also those of an earlier run, which it may have been that the old queue knew. */
static void test_new_epoch_announces_jobs_of_earlier_runs_at_once(void **state) {
  struct world *world = *state;
  uint64_t local = start_fetch(world).job.local;
  restart(world);
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  world_accept_all(world, HOP_JOB_KNOWN);
  world_settle(world);
  core_on_queue_epoch(&world->core, EPOCH); /* the same queue: it has the job */
  world_settle(world);
  assert_int_equal(world->announcements.count, 0);
  core_on_queue_epoch(&world->core, EPOCH + 1);
  world_settle(world);
  assert_int_equal(world->announcements.count, 1);
  assert_int_equal(world_announced(world, 0).job.local, local);
}

/* ---- submitKey ---- */

#define KEYED(url)                                                                                 \
  "{\"type\":\"start-fetch\",\"url\":\"" url "\",\"clientId\":\"c\",\"submitKey\":\"k\"}"

static void test_key_of_a_finished_job_takes_no_other_request(void **state) {
  struct world *world = *state;
  world_say(world, 7, KEYED("http://127.0.0.1:1/"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  restart(world);
  assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0);
  world_say(world, 7, KEYED("http://127.0.0.1:2/"));
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"code\":\"submit_key_conflict\""));
  world_say(world, 7, KEYED("http://127.0.0.1:1/"));
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
  assert_int_equal(world_count_rows(world, "jobs"), 0);
}

/* Its job is pending, in a row that is not read yet: it is not one whose result has gone. */
static void test_key_of_a_job_that_is_not_read_yet(void **state) {
  struct world *world = *state;
  make_jobs(world, 2 * LOOKUP_PAGE + 1);
  world_say(world, 7, KEYED("http://127.0.0.1:1/"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  world_restart(world);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  world_say(world, 8, KEYED("http://127.0.0.1:1/"));
  core_on_api_fetch(&world->core, 99, pf_slice_str("proxy"), pf_slice_str("default"),
      pf_slice_str("{\"url\":\"http://127.0.0.1:1/\",\"submitKey\":\"k\"}"), 0);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"result_expired\""), 0);
  assert_int_equal(world_find_response(world, 99)->code, 202);
  assert_int_equal(core_pending(&world->core), 2 * LOOKUP_PAGE + 2);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
}

/* A cancel of it waits for the row, too: to say that nothing is pending would leave it running. */
static void test_cancel_of_a_job_that_is_not_read_yet(void **state) {
  struct world *world = *state;
  char token[33], text[128], id[PF_ID_TEXT];
  session_with_events(world, token, 0);
  make_jobs(world, 2 * LOOKUP_PAGE + 1);
  struct pf_job_id ids[2] = {start_fetch(world).job, start_fetch(world).job};
  world_restart(world);
  resume(world, 8, token, 0);
  pf_job_id_print(id, ids[0]);
  snprintf(text, sizeof(text), "{\"type\":\"cancel\",\"reqId\":\"%s\"}", id);
  world_say(world, 8, text);
  core_on_api_cancel(&world->core, 99, ids[1]);
  core_on_api_cancel(
      &world->core, 98, (struct pf_job_id){ids[1].origin, world->core.next_local + 1});
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"canceled\""), 2);
  assert_int_equal(world_find_response(world, 99)->code, 200);
  assert_int_equal(world_find_response(world, 98)->code, 404);
  assert_int_equal(core_pending(&world->core), 2 * LOOKUP_PAGE + 1);
}

/* ---- what is certain, and when ---- */

static void cancel(struct world *world, struct pf_job_id id) {
  core_on_api_cancel(&world->core, 99, id);
  world_settle(world);
}

#define POST "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/\",\"method\":\"POST\"}"

static void assert_ends_with(struct world *world, struct pf_job_id id, const char *certainty) {
  cancel(world, id);
  assert_non_null(strstr(world_find_response(world, 99)->text, certainty));
}

/* A job that must not be repeated waits for the epoch of a queue before it is announced. */
static void test_certainty_of_an_end_by_the_origin(void **state) {
  struct world *world = *state;
  world_say(world, 7, POST);
  world_settle(world);
  struct pf_job_id id = world_announced(world, 0).job;
  world_restart(world);
  assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0);
  world_say(world, 7, POST);
  world_settle(world);
  assert_int_equal(world->announcements.count, 0); /* no queue has been heard of in this run */
  assert_ends_with(world, id, "\"certainty\":\"sent_unknown\""); /* but in the one before */
  world_forget_records(world);
  id.local = world->core.next_local - 1;
  assert_ends_with(world, id, "\"certainty\":\"not_sent\"");
}

/* The wall clock went back while the origin was down: the job waits as long as it asked to, and no
 * longer. */
static void test_deadline_survives_a_wall_clock_that_went_back(void **state) {
  struct world *world = *state;
  start_fetch(world);
  world->wall_jump_ms = -3600000;
  restart(world);
  world_advance(world, WIRE_DEADLINE_MS_DEFAULT - 1);
  assert_int_equal(core_pending(&world->core), 1);
  world_advance(world, 2);
  assert_int_equal(core_pending(&world->core), 0);
}

#define YEAR_MS 31536000000

/* While it runs, no jump of the wall clock ends a job or keeps it. */
static void test_deadline_minds_no_wall_clock_while_it_runs(void **state) {
  struct world *world = *state;
  start_fetch(world);
  world->wall_jump_ms = YEAR_MS;
  world_advance(world, 1000);
  assert_int_equal(core_pending(&world->core), 1);
  world->wall_jump_ms = -YEAR_MS;
  world_advance(world, WIRE_DEADLINE_MS_DEFAULT);
  assert_int_equal(core_pending(&world->core), 0);
}

/* Nor does the queue hear of it: what is announced again is what is left. */
static void test_announced_deadline_minds_no_wall_clock(void **state) {
  struct world *world = *state;
  start_fetch(world);
  static const int64_t jumps[] = {YEAR_MS, -YEAR_MS};
  for (size_t i = 0; i < PF_COUNT(jumps); i++) {
    world_accept_all(world, HOP_JOB_QUEUED);
    world->wall_jump_ms = jumps[i];
    world_advance(world, 1000);
    core_on_queue_epoch(&world->core, EPOCH + 1 + i);
    world_settle(world);
    int64_t left_ms = WIRE_DEADLINE_MS_DEFAULT - 1000 * (int64_t)(i + 1);
    assert_int_equal(world_announced(world, 0).deadline_ms, left_ms);
  }
}

/* Nor does it forget what is kept for a time, or keep it for longer. */
static void test_what_is_kept_minds_no_wall_clock_while_it_runs(void **state) {
  struct world *world = *state;
  char token[33];
  world->limits.session_keep_ms = world->limits.submit_keep_ms = 7200000;
  session_with_events(world, token, 1);
  world_say(
      world, 7, "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/\",\"submitKey\":\"k\"}");
  world_settle(world);
  struct hop_job job = world_announced(world, world->announcements.count - 1);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  leave(world, 7);
  static const int64_t jumps[] = {YEAR_MS, -YEAR_MS, 0};
  for (size_t i = 0; i < PF_COUNT(jumps); i++) {
    world->wall_jump_ms = jumps[i];
    world_advance(world, 61000);
    assert_int_equal(world_count_rows(world, "sessions"), 1);
    assert_int_equal(world_count_rows(world, "events"), 2);
    assert_int_equal(world_count_rows(world, "submits"), 1);
    assert_int_equal(world_count_rows(world, "results"), 2);
  }
  world->wall_jump_ms = -YEAR_MS;
  world_advance(world, 3600000);
  assert_int_equal(world_count_rows(world, "results"), 0);
  assert_int_equal(world->core.stats.results_forgotten, 2);
  world_advance(world, 7200000);
  assert_int_equal(world_count_rows(world, "sessions"), 0);
  assert_int_equal(world_count_rows(world, "submits"), 0);
  assert_int_equal(world->core.stats.sessions_expired, 1);
  assert_int_equal(world->core.stats.submits_forgotten, 1);
}

/* ---- who may do what, and who hears of it ---- */

static void test_cancel_is_for_who_started_it(void **state) {
  struct world *world = *state;
  char token[33], text[128], id[PF_ID_TEXT];
  session_with_events(world, token, 0);
  struct hop_job job = start_fetch(world);
  pf_job_id_print(id, job.job);
  snprintf(text, sizeof(text), "{\"type\":\"cancel\",\"reqId\":\"%s\"}", id);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  world_say(world, 8, text);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"not_pending\""), 1);
  assert_int_equal(core_pending(&world->core), 1);
  leave(world, 7);
  resume(world, 9, token, 0); /* the same client by another connection */
  world_say(world, 9, text);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"canceled\""), 1);
  assert_int_equal(core_pending(&world->core), 0);
}

static void test_waiting_is_told_once_to_who_has_a_session(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 0);
  struct hop_job_reply idle = {.answer = HOP_JOB_QUEUED, .no_executor = true};
  struct hop_job job = start_fetch(world);
  core_on_announced(&world->core, job.job.local, PF_OK, &idle);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"reason\":\"no-executor\""));
  world_advance(world, world->limits.reannounce_ms);
  idle.answer = HOP_JOB_KNOWN;
  core_on_announced(&world->core, job.job.local, PF_OK, &idle);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"waiting\""), 1);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  world_say(world, 8, FETCH("c")); /* rows 1 to 7 only */
  world_settle(world);
  job = world_announced(world, world->announcements.count - 1);
  idle.answer = HOP_JOB_QUEUED;
  core_on_announced(&world->core, job.job.local, PF_OK, &idle);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"waiting\""), 1);
}

static void test_results_above_the_count_go(void **state) {
  struct world *world = *state;
  world->limits.result_count_max = 2;
  struct pf_job_id first = {0};
  for (int i = 0; i < 3; i++) {
    struct hop_job job = start_fetch(world);
    if (i == 0) first = job.job;
    world_deliver(world, &job, 200, NULL);
    world_settle(world);
    world_advance(world, 1000);
    assert_int_equal(world_count_rows(world, "results"), i < 2 ? i + 1 : 2);
  }
  core_on_api_job(&world->core, 98, first, 0);
  world_settle(world);
  assert_int_equal(world_find_response(world, 98)->code, 404);
}

/* ---- what others say that we cannot use ---- */

static void test_a_job_that_the_queue_refuses_ends(void **state) {
  struct world *world = *state;
  start_fetch(world);
  world_accept_all(world, HOP_JOB_REFUSED);
  world_settle(world);
  const char *frame = world_find_frame(world, "\"type\":\"result\"");
  assert_non_null(frame);
  assert_non_null(strstr(frame, "\"code\":\"bad_request\""));
  assert_non_null(strstr(frame, "refused the job as malformed"));
  assert_int_equal(core_pending(&world->core), 0);
  assert_int_equal(world_count_rows(world, "jobs"), 0);
}

/* A batch of results: `heads` are those of its items. */
static void deliver_heads(
    struct world *world, uint64_t request, const struct pf_slice *heads, size_t count) {
  struct pf_buf batch;
  results_begin(world, &batch);
  for (size_t i = 0; i < count; i++)
    batch_append(&batch, heads[i], (struct pf_slice){0});
  core_on_results(&world->core, request, pf_buf_view(&batch));
  world_settle(world);
  pf_buf_done(&batch);
}

static void encode_result(struct pf_buf *buf, const struct hop_job *job) {
  struct hop_result result = {.job = job->job,
      .attempt = 1,
      .capability = job->capability,
      .certainty = CERTAINTY_ANSWERED,
      .status = 200,
      .timings = {-1, -1, -1, -1, -1, -1, -1}};
  hop_result_encode(buf, &result);
}

static void test_a_result_that_cannot_be_read_spoils_no_other(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  struct pf_buf good;
  pf_buf_init(&good, PF_BUF_MAX_DEFAULT);
  encode_result(&good, &job);
  const struct pf_slice heads[] = {pf_slice_str("{\"job\":7}"), pf_buf_view(&good),
      pf_slice(good.data, good.len - 1), pf_slice_str("")};
  deliver_heads(world, 99, heads, PF_COUNT(heads));
  const struct record *response = world_find_response(world, 99);
  struct batch_reader reader = batch_reader(pf_slice(response->text, response->len));
  struct pf_slice head, body;
  assert_int_equal(batch_next(&reader, &head, &body), PF_OK);
  for (size_t i = 0; i < PF_COUNT(heads); i++) {
    int answer;
    assert_int_equal(batch_next(&reader, &head, &body), PF_OK);
    assert_int_equal(hop_answer_decode(&answer, hop_result_answers, head), PF_OK);
    assert_int_equal(answer, i == 1 ? HOP_RESULT_ACCEPTED : HOP_RESULT_UNKNOWN);
  }
  assert_int_equal(world_count_frames(world, "\"success\":true"), 1);
  assert_int_equal(core_pending(&world->core), 0);
  pf_buf_done(&good);
}

static void test_a_batch_of_results_is_whole_or_nothing(void **state) {
  struct world *world = *state;
  struct hop_job job = start_fetch(world);
  struct pf_buf batch, head;
  results_begin(world, &batch);
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  encode_result(&head, &job);
  batch_append(&batch, pf_buf_view(&head), (struct pf_slice){0});
  batch_append(&batch, pf_buf_view(&head), (struct pf_slice){0});
  static const size_t none = 0;
  for (size_t cut = 1; cut < head.len;
       cut += 7) { /* the second item is torn, and so is all of it */
    core_on_results(&world->core, 90, pf_slice(batch.data, batch.len - cut));
    core_on_results(&world->core, 90, pf_slice(batch.data, none));
    world_settle(world);
    assert_int_equal(world_find_response(world, 90)->code, 400);
    assert_int_equal(core_pending(&world->core), 1);
  }
  deliver_heads(world, 91, NULL, 0);
  assert_int_equal(world_find_response(world, 91)->code, 200);
  core_on_results(&world->core, 92, pf_buf_view(&batch));
  world_settle(world);
  assert_int_equal(world_find_response(world, 92)->code, 200);
  assert_int_equal(core_pending(&world->core), 0);
  pf_buf_done(&head);
  pf_buf_done(&batch);
}

/* ---- what must never be, and is counted if it is ---- */

/* Of a damaged file: the others go on, and operators see that one does not. */
static void test_a_row_that_cannot_be_read_is_counted(void **state) {
  struct world *world = *state;
  static const char *const damages[] = {"head = x'7b'", "head = x'7b7d'", "result = x'7b7d'"};
  for (size_t i = 0; i < PF_COUNT(damages); i++) {
    char sql[128];
    struct hop_job job = start_fetch(world);
    snprintf(sql, sizeof(sql), "UPDATE jobs SET %s WHERE id = %lld", damages[i],
        (long long)job.job.local);
    assert_int_equal(sqlite3_exec(world->db, sql, NULL, NULL, NULL), SQLITE_OK);
    struct hop_job sound = start_fetch(world);
    restart(world);
    assert_int_equal(world->core.stats.invariant_failures, i + 1);
    world_settle(world);
    world_deliver(world, &sound, 200, NULL);
    world_settle(world);
    assert_int_equal(core_pending(&world->core), 0);
    assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0);
  }
}

static void test_a_job_that_nothing_will_touch_again_is_counted(void **state) {
  struct world *world = *state;
  start_fetch(world);
  world_accept_all(world, HOP_JOB_QUEUED);
  world_advance(world, 1);
  assert_int_equal(world->core.stats.invariant_failures, 0);
  struct job *job = pf_container_of(world->core.jobs_live.next, struct job, by_id);
  pf_heap_del(&world->core.announces, &job->announce);
  world_advance(world, 1);
  assert_int_equal(world->core.stats.invariant_failures, 1);
}

int main(void) {
#define RULE(name) cmocka_unit_test_setup_teardown(name, setup_rules, teardown)
#define TEST_COUNTED(name) cmocka_unit_test_setup_teardown(name, setup_counted, teardown)
  const struct CMUnitTest tests[] = {
      TEST_COUNTED(test_result_and_run_are_durable_first),
      TEST_COUNTED(test_accepted_result_survives_the_process),
      TEST_COUNTED(test_runs_are_counted_across_restarts),
      TEST_COUNTED(test_unknown_continuation_is_parked),
      TEST_COUNTED(test_status_of_user_code),
      RULE(test_status_and_result_while_the_actor_is_read),
      RULE(test_status_and_result_before_the_row_is_read),
      RULE(test_result_for_another_origin_is_unknown),
      RULE(test_new_epoch_announces_jobs_of_earlier_runs_at_once),
      RULE(test_key_of_a_finished_job_takes_no_other_request),
      RULE(test_key_of_a_job_that_is_not_read_yet),
      RULE(test_cancel_of_a_job_that_is_not_read_yet),
      RULE(test_certainty_of_an_end_by_the_origin),
      RULE(test_deadline_survives_a_wall_clock_that_went_back),
      RULE(test_cancel_is_for_who_started_it),
      RULE(test_waiting_is_told_once_to_who_has_a_session),
      RULE(test_results_above_the_count_go),
      RULE(test_a_job_that_nothing_will_touch_again_is_counted),
      RULE(test_deadline_minds_no_wall_clock_while_it_runs),
      RULE(test_what_is_kept_minds_no_wall_clock_while_it_runs),
      RULE(test_announced_deadline_minds_no_wall_clock),
      RULE(test_a_job_that_the_queue_refuses_ends),
      RULE(test_a_result_that_cannot_be_read_spoils_no_other),
      RULE(test_a_batch_of_results_is_whole_or_nothing),
      RULE(test_a_row_that_cannot_be_read_is_counted),
  };
  return cmocka_run_group_tests_name("origin_rules", tests, NULL, NULL) +
         origin_session_rules_tests() + origin_announce_rules_tests();
}
