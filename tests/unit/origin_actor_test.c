/* The actors: batches, the checkout chain, continuations that fail. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin/parts.h" /* to see what is counted */
#include "origin_fixture.h"

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

/* The client does not know whether it was heard, and says it again. */
static void test_a_repeated_batch_is_the_same(void **state) {
  struct world *world = *state;
  static const char batch[] = "{\"type\":\"start-batch-fetch\",\"batchId\":\"b\",\"count\":3,"
                              "\"url\":\"http://127.0.0.1:1/\"}";
  world_say(world, 7, "{\"type\":\"resume\"}");
  for (int i = 0; i < 2; i++)
    world_say(world, 7, batch);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"batch-started\""), 2);
  assert_int_equal(world_count_rows(world, "jobs"), 3);
  for (size_t i = 0; i < 3; i++) {
    struct hop_job job = world_announced(world, i);
    world_deliver(world, &job, i ? 200 : 0, NULL);
  }
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"batch-complete\""), 1);
  world_say(world, 7, batch);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"type\":\"batch-complete\""), 2);
  const char *again = world_find_frame(world, "\"type\":\"batch-complete\"");
  assert_non_null(strstr(again, "\"count\":3,\"successCount\":2"));
  assert_null(strstr(again, "\"offset\"")); /* the event was stored once */
  assert_int_equal(world_count_rows(world, "events"), 1);
  assert_int_equal(world_count_rows(world, "jobs"), 0);
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
  const struct session *session = sessions_find(&world->core, world->core.next_session - 1);
  assert_int_equal(session->bytes, strlen(world_find_frame(world, "\"offset\":2")));
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
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_ACCEPTED);
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

static const struct actor_continuation refusing_continuations[] = {
    {.name = "fail", .cannot_crash = true, .run = fail_always}};
static const struct actor_class refusing = {.name = "proxy",
    .on_message = start_failing,
    .continuations = refusing_continuations,
    .continuation_count = 1};
static const struct actor_class *const refusing_classes[] = {&refusing, NULL};

/* It gets one run, and its result has been in memory only: parked, it is in its row. */
static void test_refused_result_is_parked_with_its_row(void **state) {
  (void)state;
  struct world *world = pf_alloc(sizeof(*world));
  world_init(world, refusing_classes);
  world->log.fd = -1; /* the parking is expected */
  assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0);
  core_on_queue_epoch(&world->core, 0xe1);
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_ACCEPTED);
  assert_int_equal(world->core.stats.turns_undone, 1);
  assert_non_null(world_find_frame(world, "\"code\":\"continuation_failed\""));
  assert_int_equal(world_count_rows(world, "events"), 1);
  assert_int_equal(deliver_result(world, &job, 200), HOP_RESULT_DUPLICATE);
  world_restart(world);
  world_settle(world);
  assert_int_equal(world->core.job_count[JOB_PARKED], 1);
  core_on_api_rerun(&world->core, 99, job.job);
  world_settle(world);
  assert_int_equal(world_find_response(world, 99)->code, 202);
  assert_int_equal(world->core.stats.turns_undone, 1); /* it was run again, with that result */
  assert_int_equal(world->core.job_count[JOB_PARKED], 1);
  world_done(world);
  free(world);
}

int origin_actor_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_batch_counts_across_a_restart),
      TEST(test_a_repeated_batch_is_the_same),
      TEST(test_batches_of_old_sessions_make_room),
      TEST(test_checkout_chain_survives_restarts),
      cmocka_unit_test(test_undo_takes_lines_and_events_back),
      cmocka_unit_test(test_poison_continuation_is_parked),
      cmocka_unit_test(test_refused_result_is_parked_with_its_row),
  };
  return cmocka_run_group_tests_name("origin_actor", tests, NULL, NULL);
}
