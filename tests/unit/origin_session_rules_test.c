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
#include "store/stmt.h"

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
  assert_int_equal(world_count_rows(world, "events"), 3); /* no more than had to, and some more */
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
  assert_int_equal(world->core.stats.sessions_expired, 1);
}

/* Its row says now and then that its client is there, so a crash does not count as an absence. */
static void test_row_of_a_connected_session_is_kept_fresh(void **state) {
  struct world *world = *state;
  world->limits.session_keep_ms = 600000;
  char token[33];
  session_with_events(world, token, 0);
  for (int i = 0; i < 15; i++)
    world_advance(world, 60000);
  world_restart(world);
  world_settle(world);
  world_advance(world, 60000);
  assert_int_equal(world->core.sessions_by_id.count, 1);
  world_advance(world, 700000);
  assert_int_equal(world->core.sessions_by_id.count, 0);
}

/* ---- acknowledging ---- */

static struct session *only_session(struct world *world) {
  return sessions_find(&world->core, world->core.next_session - 1);
}

/* One more event; its job is new. */
static void one_event(struct world *world, uint64_t ws) {
  world_say(world, ws, FETCH("c"));
  world_settle(world);
  struct hop_job job = world_announced(world, world->announcements.count - 1);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
}

static void say_ack(struct world *world, uint64_t ws, int64_t offset) {
  char text[80];
  snprintf(text, sizeof(text), "{\"type\":\"ack\",\"offset\":%lld}", (long long)offset);
  world_say(world, ws, text);
  world_settle(world);
}

/* Nobody acknowledges what does not exist yet. */
static void test_ack_beyond_the_newest_event(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 2);
  say_ack(world, 7, 1000);
  assert_int_equal(world_count_rows(world, "events"), 0);
  one_event(world, 7);
  assert_int_equal(world_count_rows(world, "events"), 1);
  leave(world, 7);
  resume(world, 8, token, 1000);
  world_settle(world);
  resume(world, 9, token, 1000); /* from one that is connected, too */
  world_settle(world);
  one_event(world, 9);
  assert_int_equal(world_count_frames(world, "\"offset\":4}"), 1);
  assert_int_equal(world_count_rows(world, "events"), 1);
}

static void test_a_smaller_ack_changes_nothing(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 4);
  say_ack(world, 7, 3);
  say_ack(world, 7, 1);
  world_restart(world);
  resume(world, 8, token, 1);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"offset\":4,\"oldest\":4,"));
  assert_int_equal(world_count_frames(world, "\"type\":\"gap\""), 1); /* 2 to 3, said once */
  assert_non_null(world_find_frame(world, "{\"type\":\"gap\",\"from\":2,\"to\":3}"));
}

/* What has been acknowledged leaves its room to what comes. */
static void test_acks_make_room(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 1);
  world->limits.session_bytes_max = 4 * only_session(world)->bytes;
  for (int64_t acked = 1; acked < 20; acked++) {
    one_event(world, 7);
    say_ack(world, 7, acked); /* never all */
  }
  one_event(world, 7);
  assert_int_equal(world_count_rows(world, "events"), 2);
}

/* ---- greeting ---- */

static const char *first_frame_to(const struct world *world, uint64_t ws) {
  for (size_t i = 0; i < world->frames.count; i++)
    if (world->frames.items[i].id == ws) return world->frames.items[i].text;
  return "";
}

/* An event that becomes durable between the resume and its answer. */
static void test_nothing_comes_before_the_greeting(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 0);
  struct hop_job job = start_fetch(world);
  world_accept_all(world, HOP_JOB_QUEUED);
  world_settle(world);
  world_deliver(world, &job, 200, NULL);
  core_flush(&world->core); /* its commit is on its way */
  resume(world, 8, token, 0);
  world_settle(world);
  assert_non_null(strstr(first_frame_to(world, 8), "\"type\":\"session\""));
  assert_int_equal(world_count_frames(world, "\"offset\":1}"), 1);
}

/* The page that one connection asked for is not for the next one. */
static void test_a_replay_ends_with_its_connection(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 3);
  leave(world, 7);
  resume(world, 8, token, 0);
  while (!world_find_frame(world, "\"type\":\"session\""))
    assert_true(world_step(world)); /* greeted, and the first page asked for */
  core_flush(&world->core);
  resume(world, 9, token, 2);
  world_settle(world);
  assert_non_null(strstr(first_frame_to(world, 9), "\"type\":\"session\""));
  for (size_t i = 0; i < world->frames.count; i++)
    if (world->frames.items[i].id == 9)
      assert_null(strstr(world->frames.items[i].text, "\"offset\":2}"));
  assert_int_equal(world_count_frames(world, "\"offset\":3}"), 1);
}

/* A client whose session has expired asks for a new one by the same connection. */
static void test_a_refused_resume_is_no_first_message(void **state) {
  struct world *world = *state;
  resume(world, 8, "0123456789abcdef0123456789abcdef", 5);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"code\":\"session_unknown\""));
  world_say(world, 8, "{\"type\":\"resume\"}");
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"type\":\"session\""));
  world_say(world, 8, "{\"type\":\"resume\"}");
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"bad_message\""), 1);
  world_say(world, 7, FETCH("plain"));
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"code\":\"bad_message\""), 2);
  assert_int_equal(world_count_rows(world, "sessions"), 1);
}

/* ---- an origin that lost its last moments (a power cut, a backup) ---- */

/* The last event goes, as if its commit had not reached the disk. */
static void lose_event(struct world *world, int offset) {
  char sql[160];
  snprintf(sql, sizeof(sql),
      "DELETE FROM events WHERE offset >= %d; UPDATE sessions SET next_offset = %d", offset,
      offset);
  assert_int_equal(store_exec(world->db, sql, NULL), PF_OK);
  world_restart(world);
  world_settle(world);
}

/* Its client has seen event 3, and the offset was given out again: to claim the old one does not
 * acknowledge the new one. */
static void test_offsets_that_were_lost_acknowledge_nothing(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 3);
  struct hop_job jobs[2] = {start_fetch(world), start_fetch(world)};
  lose_event(world, 3);
  for (size_t i = 0; i < PF_COUNT(jobs); i++) {
    world_deliver(world, &jobs[i], 200, NULL);
    world_settle(world);
    world_restart(world); /* a process that is killed keeps in mind what was lost before */
    world_settle(world);
  }
  assert_int_equal(world_count_rows(world, "events"), 4);
  resume(world, 8, token, 3);
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 2);
  /* It hears from where on the offsets are new ones. */
  assert_non_null(strstr(first_frame_to(world, 8), "\"offset\":2,\"oldest\":3,"));
  assert_int_equal(world_count_frames(world, "\"offset\":3}"), 1);
  assert_int_equal(world_count_frames(world, "\"offset\":4}"), 1);
  leave(world, 8);
  resume(world, 9, token, 4); /* from now on they are the ones that it has seen */
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 0);
  assert_non_null(strstr(first_frame_to(world, 9), "\"offset\":4,\"oldest\":5,"));
}

/* ---- whose it is ---- */

/* The id of an actor that has said nothing but `resume` is not given to another one. */
static void test_session_keeps_its_actor(void **state) {
  struct world *world = *state;
  char text[160], token[33];
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/actors/proxy/one")), 0);
  world_say(world, 8, "{\"type\":\"resume\"}");
  world_settle(world);
  const char *at = strstr(world_find_frame(world, "\"type\":\"session\""), "\"session\":\"");
  snprintf(token, sizeof(token), "%.32s", at + 11);
  world_restart(world);
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\"}", token);
  assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0); /* had the first id */
  world_settle(world);
  assert_int_equal(core_on_ws_open(&world->core, 9, pf_slice_str("/actors/proxy/two")), 0);
  world_settle(world);
  world_say(world, 9, text);
  assert_int_equal(core_on_ws_open(&world->core, 10, pf_slice_str("/actors/proxy/one")), 0);
  world_settle(world);
  world_say(world, 10, text);
  world_settle(world);
  assert_non_null(strstr(first_frame_to(world, 9), "\"code\":\"session_unknown\""));
  assert_non_null(strstr(first_frame_to(world, 10), token));
}

/* The first connection is closed after the second has taken over: the session has a client. */
static void test_the_end_of_an_old_connection_is_not_the_clients(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 1);
  resume(world, 8, token, 0);
  world_settle(world);
  leave(world, 7);
  one_event(world, 8);
  assert_int_equal(world_count_frames(world, "\"offset\":2}"), 1);
}

/* ---- how long ---- */

/* From when its client left, whatever has come since. */
static void test_an_event_does_not_prolong_a_session(void **state) {
  struct world *world = *state;
  world->limits.session_keep_ms = 600000;
  char token[33];
  session_with_events(world, token, 0);
  struct hop_job job = start_fetch(world);
  leave(world, 7);
  world_advance(world, 290000);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 1);
  world_restart(world);
  world_settle(world);
  world_advance(world, 300000);
  assert_int_equal(world->core.sessions_by_id.count, 1);
  world_advance(world, 60001);
  assert_int_equal(world->core.sessions_by_id.count, 0);
}

/* A client that returned, or left, just before a crash has all its time. */
static void test_comings_and_goings_are_durable(void **state) {
  struct world *world = *state;
  world->limits.session_keep_ms = 600000;
  char token[33];
  session_with_events(world, token, 0);
  world_advance(world, 200000);
  leave(world, 7);
  world_restart(world);
  world_settle(world);
  world_advance(world, 500000); /* since it left */
  assert_int_equal(world->core.sessions_by_id.count, 1);
  resume(world, 8, token, 0);
  world_settle(world);
  world_restart(world);
  world_settle(world);
  world_advance(world, 500000); /* since it came */
  assert_int_equal(world->core.sessions_by_id.count, 1);
  world_advance(world, 160000);
  assert_int_equal(world->core.sessions_by_id.count, 0);
}

/* ---- who makes room ---- */

static bool session_for(struct world *world, uint64_t ws) {
  size_t refused = world_count_frames(world, "\"code\":\"sessions_full\"");
  assert_int_equal(core_on_ws_open(&world->core, ws, pf_slice_str("/")), 0);
  world_say(world, ws, "{\"type\":\"resume\"}");
  world_settle(world);
  return world_count_frames(world, "\"code\":\"sessions_full\"") == refused;
}

/* One that had nothing to tell has got a late result: it would be lost with it. */
static void test_a_late_result_keeps_its_session(void **state) {
  struct world *world = *state;
  char token[33];
  session_with_events(world, token, 0);
  struct hop_job job = start_fetch(world);
  world_declare(world, &job, OUTCOME_EXECUTOR_LOST);
  world_settle(world);
  say_ack(world, 7, 1);
  leave(world, 7);
  world->limits.sessions_max = 1;
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_int_equal(world_count_rows(world, "events"), 1);
  assert_false(session_for(world, 8));
  resume(world, 9, token, 1);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"type\":\"late-result\""));
}

/* While the jobs of an earlier run are being read, any session may have one: none goes for another,
 * and none expires. */
static void test_no_session_goes_while_jobs_are_read(void **state) {
  struct world *world = *state;
  make_jobs(world, LOOKUP_PAGE + 1); /* so that reading takes a second page */
  assert_true(session_for(world, 8));
  world_say(world, 8, FETCH("c"));
  world_settle(world);
  leave(world, 8);
  world->limits.sessions_max = 1;
  world->limits.session_keep_ms = 60000;
  world->now_ms += 100000;
  world_restart(world);
  assert_int_equal(core_on_ws_open(&world->core, 9, pf_slice_str("/")), 0);
  world_say(world, 9, "{\"type\":\"resume\"}");
  while (world->frames.count == 0) {
    assert_true(world_step(world));
    core_flush(&world->core);
  }
  assert_true(world->core.loading);
  assert_non_null(world_find_frame(world, "\"code\":\"sessions_full\""));
  core_on_tick(&world->core);
  world_settle(world);
  assert_false(world->core.loading);
  assert_int_equal(world_count_rows(world, "sessions"), 1);
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
      RULE(test_ack_beyond_the_newest_event),
      RULE(test_a_smaller_ack_changes_nothing),
      RULE(test_acks_make_room),
      RULE(test_nothing_comes_before_the_greeting),
      RULE(test_a_replay_ends_with_its_connection),
      RULE(test_a_refused_resume_is_no_first_message),
      RULE(test_session_keeps_its_actor),
      RULE(test_the_end_of_an_old_connection_is_not_the_clients),
      RULE(test_an_event_does_not_prolong_a_session),
      RULE(test_comings_and_goings_are_durable),
      RULE(test_a_late_result_keeps_its_session),
      RULE(test_no_session_goes_while_jobs_are_read),
      RULE(test_offsets_that_were_lost_acknowledge_nothing),
      RULE(test_a_hole_between_offsets_is_counted),
  };
  return cmocka_run_group_tests_name("origin_session_rules", tests, NULL, NULL);
}
