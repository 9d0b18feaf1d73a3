/* Sessions: what is replayed, who takes over, who is forgotten. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "origin_fixture.h"

static void session_of(const struct world *world, char *session) {
  const char *frame = world_find_frame(world, "\"type\":\"session\"");
  assert_non_null(frame);
  const char *at = strstr(frame, "\"session\":\"");
  memcpy(session, at + 11, 32);
  session[32] = '\0';
}

/* A session of socket 7. */
static void session_begin(struct world *world, char session[33]) {
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_settle(world);
  session_of(world, session);
}

static void say_resume(struct world *world, uint64_t ws, const char *session) {
  char text[160];
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":0}", session);
  world_say(world, ws, text);
}

static void test_session_replays_what_was_missed(void **state) {
  struct world *world = *state;
  char session[33];
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
  say_resume(world, 8, session);
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
  char session[33];
  session_begin(world, session);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  say_resume(world, 8, session);
  world_settle(world);
  assert_int_equal(world->closes.count, 1);
  assert_int_equal(world->closes.items[0].id, 7);
  assert_int_equal(world->closes.items[0].code, 4001);
}

/* A connection that the network held back delivers its frames after the client has returned by
 * another: the same submit is one job, not one inside the session and one outside. */
static void test_a_taken_over_socket_is_not_heard(void **state) {
  struct world *world = *state;
  char session[33];
  const char *submit = "{\"type\":\"start-fetch\",\"url\":\"http://a.test/"
                       "\",\"clientId\":\"a\",\"submitKey\":\"k\"}";
  session_begin(world, session);
  assert_int_equal(core_on_ws_open(&world->core, 8, pf_slice_str("/")), 0);
  world_say(world, 7, submit); /* its key is still looked up when the other connection comes */
  say_resume(world, 8, session);
  world_say(world, 7, submit);
  world_say(world, 8, submit);
  world_say(world, 7, FETCH("without a key"));
  world_settle(world);
  assert_int_equal(world_count_rows(world, "jobs"), 1);
  struct hop_job job = world_announced(world, 0);
  world_deliver(world, &job, 200, NULL);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"offset\":1"));
}

static void test_session_of_another_actor_is_unknown(void **state) {
  struct world *world = *state;
  char session[33];
  session_begin(world, session);
  assert_int_equal(core_on_ws_open(&world->core, 9, pf_slice_str("/actors/proxy/other")), 0);
  say_resume(world, 9, session);
  world_settle(world);
  assert_non_null(world_find_frame(world, "\"code\":\"session_unknown\""));
}

static void test_retention_announces_a_gap(void **state) {
  struct world *world = *state;
  char session[33];
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
  say_resume(world, 8, session);
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
  char session[33];
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
  say_resume(world, 8, session);
  say_resume(world, 9, session);
  world_settle(world);
  assert_int_equal(world_count_frames(world, "\"offset\":1,"), 2); /* session frame of 8 and 9 */
  assert_int_equal(world_count_frames(world, "\"type\":\"result\""), 1);
}

int origin_session_tests(void) {
  const struct CMUnitTest tests[] = {
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
  };
  return cmocka_run_group_tests_name("origin_session", tests, NULL, NULL);
}
