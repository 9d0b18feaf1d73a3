/* Rules of sessions that fail silently when they are left out: each test here was seen to fail
 * without its rule. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "origin/parts.h" /* to break what must not break */
#include "origin_fixture.h"

static void test_resume_acknowledges(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 3);
  leave(world, 7);
  assert_int_equal(world_count_rows(world, "events"), 3);
  resume(world, 8, token, 2);
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 1);
  assert_null(world_find_frame(world, "\"offset\":2}"));
  assert_non_null(world_find_frame(world, "\"offset\":3}"));
  leave(world, 8);
  resume(world, 9, token, 0); /* what was acknowledged is gone, and that is said */
  world_settle(world);
  assert_non_null(world_find_frame(world, "{\"type\":\"gap\",\"from\":1,\"to\":2}"));
}

/* A replay reads page by page; what goes meanwhile leaves a hole in its middle. */
static void test_gap_between_two_pages_of_a_replay(void **state) {
  struct world *world = *state;
  enum { EVENTS = LOOKUP_PAGE + 4 };
  char token[33];
  world->limits.session_events_max = EVENTS;
  session_with_events(world, token, EVENTS);
  leave(world, 7);
  resume(world, 8, token, 0);
  while (!world_find_frame(world, "\"offset\":1}")) /* the first page is sent */
    assert_true(world_step(world));
  world->limits.session_events_max = 2;
  world_say(world, 8, FETCH("c"));
  world_say(world, 8, "{\"type\":\"ack\",\"offset\":1}"); /* the limit is looked at with a change */
  world_settle(world);
  char gap[80];
  snprintf(
      gap, sizeof(gap), "{\"type\":\"gap\",\"from\":%d,\"to\":%d}", LOOKUP_PAGE + 1, EVENTS - 2);
  assert_non_null(world_find_frame(world, gap));
  snprintf(gap, sizeof(gap), "\"offset\":%d}", EVENTS);
  assert_non_null(world_find_frame(world, gap));
}

/* The same at its end: all that is left was acknowledged before it was sent. */
static void test_gap_at_the_end_of_a_replay(void **state) {
  struct world *world = *state;
  enum { EVENTS = LOOKUP_PAGE + 4 };
  char token[33], text[80];
  session_with_events(world, token, EVENTS);
  leave(world, 7);
  resume(world, 8, token, 0);
  while (!world_find_frame(world, "\"offset\":1}"))
    assert_true(world_step(world));
  snprintf(text, sizeof(text), "{\"type\":\"ack\",\"offset\":%d}", EVENTS);
  world_say(world, 8, text);
  world_settle(world);
  snprintf(text, sizeof(text), "{\"type\":\"gap\",\"from\":%d,\"to\":%d}", LOOKUP_PAGE + 1, EVENTS);
  assert_non_null(world_find_frame(world, text));
  world_say(world, 8, FETCH("c"));
  world_settle(world);
  struct hop_job job = world_announced(world, world->announcements.count - 1);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  snprintf(text, sizeof(text), "\"offset\":%d}", EVENTS + 1);
  assert_non_null(world_find_frame(world, text));
}

static int64_t event_bytes(const struct world *world) {
  sqlite3_stmt *stmt;
  const char *sql = "SELECT coalesce(sum(length(frame)), 0) FROM events";
  assert_int_equal(sqlite3_prepare_v2(world->db, sql, -1, &stmt, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
  int64_t bytes = sqlite3_column_int64(stmt, 0);
  sqlite3_finalize(stmt);
  return bytes;
}

/* At most so many bytes, and the newest event whatever its size. */
static void test_retention_by_bytes(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 4);
  leave(world, 7);
  int64_t most = world->limits.session_bytes_max = event_bytes(world);
  resume(world, 8, token, 0);
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 4); /* as many bytes as may be */
  world_say(world, 8, FETCH("c"));
  world_settle(world);
  struct hop_job job = world_announced(world, world->announcements.count - 1);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_in_range(event_bytes(world), 1, most);
  leave(world, 8);
  resume(world, 9, token, 0);
  world_settle(world);
  assert_non_null(world_find_frame(world, "{\"type\":\"gap\",\"from\":1,"));
  assert_non_null(world_find_frame(world, "\"offset\":5}"));
  world->limits.session_bytes_max = 1;
  world_say(world, 9, FETCH("c"));
  world_settle(world);
  job = world_announced(world, world->announcements.count - 1);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 1);
}

/* However long its client is away: its result would have nobody to go to. */
static void test_session_with_a_job_does_not_expire(void **state) {
  struct world *world = *state;
  world->limits.session_keep_ms = 60000;
  char token[33];
  session_with_events(world, token, 0);
  world_say(world, 7,
      "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/\",\"deadlineMs\":86400000}");
  world_settle(world);
  struct hop_job job = world_announced(world, 0);
  leave(world, 7);
  for (int i = 0; i < 4; i++)
    world_advance(world, 60001);
  assert_int_equal(world_count_rows(world, "sessions"), 1);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 1);
  for (int i = 0; i < 2; i++)
    world_advance(world, 60001);
  assert_int_equal(world_count_rows(world, "sessions"), 0);
  assert_int_equal(world_count_rows(world, "events"), 0);
}

/* Its row says now and then that its client is there, so a crash does not count as an absence. */
static void test_row_of_a_connected_session_is_kept_fresh(void **state) {
  struct world *world = *state;
  world->limits.session_keep_ms = 600000;
  char token[33];
  session_with_events(world, token, 0);
  for (int i = 0; i < 20; i++)
    world_advance(world, 60000);
  world_restart(world);
  world_settle(world);
  world_advance(world, 60000);
  assert_int_equal(world->core.sessions_by_id.count, 1);
  world_advance(world, 700000);
  assert_int_equal(world->core.sessions_by_id.count, 0);
}

static void test_a_hole_between_offsets_is_counted(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 2);
  assert_int_equal(world->core.stats.invariant_failures, 0);
  struct session *session = sessions_find(&world->core, world->core.next_session - 1);
  assert_int_equal(session->durable, 2);
  session->next_offset++;
  struct hop_job job = start_fetch(world);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world->core.stats.invariant_failures, 1);
}

int origin_session_rules_tests(void) {
#define RULE(name) cmocka_unit_test_setup_teardown(name, setup_rules, teardown)
  const struct CMUnitTest tests[] = {
      RULE(test_resume_acknowledges),
      RULE(test_gap_between_two_pages_of_a_replay),
      RULE(test_gap_at_the_end_of_a_replay),
      RULE(test_retention_by_bytes),
      RULE(test_session_with_a_job_does_not_expire),
      RULE(test_row_of_a_connected_session_is_kept_fresh),
      RULE(test_a_hole_between_offsets_is_counted),
  };
  return cmocka_run_group_tests_name("origin_session_rules", tests, NULL, NULL);
}
