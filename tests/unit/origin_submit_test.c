/* submitKey: the same job for the same key. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "origin_fixture.h"

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

static void post_keyed(struct world *world, uint64_t request, const char *url, int64_t wait_ms) {
  char body[128];
  snprintf(body, sizeof(body), "{\"url\":\"%s\",\"submitKey\":\"k\"}", url);
  core_on_api_fetch(&world->core, request, pf_slice_str("proxy"), pf_slice_str("default"),
      pf_slice_str(body), wait_ms);
  world_settle(world);
}

/* The same over HTTP, up to when the result is not kept any more. */
static void test_submit_key_over_http(void **state) {
  struct world *world = *state;
  post_keyed(world, 90, "http://127.0.0.1:1/", 0);
  post_keyed(world, 91, "http://127.0.0.1:1/", 0);
  post_keyed(world, 92, "http://127.0.0.1:1/", 10000); /* waits for the result */
  post_keyed(world, 93, "http://127.0.0.1:2/", 0);
  assert_int_equal(world_find_response(world, 90)->code, 202);
  assert_int_equal(world_find_response(world, 91)->code, 202);
  assert_string_equal(world_find_response(world, 90)->text, world_find_response(world, 91)->text);
  assert_null(world_find_response(world, 92));
  assert_int_equal(world_find_response(world, 93)->code, 409);
  assert_int_equal(world->announcements.count, 1);
  struct hop_job job = world_announced(world, 0);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_find_response(world, 92)->code, 200);
  post_keyed(world, 94, "http://127.0.0.1:1/", 0);
  assert_int_equal(world_find_response(world, 94)->code, 200);
  world_advance(world, world->limits.result_keep_ms + 1000);
  world_advance(world, 1000);
  post_keyed(world, 95, "http://127.0.0.1:1/", 0);
  assert_int_equal(world_find_response(world, 95)->code, 410);
  world_say(world, 7, KEYED("a", "http://127.0.0.1:1/"));
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"code\":\"result_expired\""));
  assert_int_equal(world->announcements.count, 1); /* there is no second job */
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
  assert_non_null(strstr(world_find_response(world, 99)->text,
      "\"state\":\"done\",\"attempts\":1,\"result\":{\"type\":\"result\",")); /* as any job's state
                                                                               */
  assert_int_equal(world->core.waiters.count, 0);
}

int origin_submit_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_submit_key_gives_the_same_job),
      TEST(test_submit_key_over_http),
      TEST(test_submit_keys_are_forgotten_by_age),
      TEST(test_submit_count_max),
      TEST(test_submit_sweep_is_bounded),
      TEST(test_submit_key_of_a_job_that_is_finishing),
  };
  return cmocka_run_group_tests_name("origin_submit", tests, NULL, NULL);
}
