/* The bookkeeping of clients/measure/load.h: each fetch ends exactly once, or the load says what is
 * wrong; and the figures of stats.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "clients/measure/load.h"
#include "clients/measure/stats.h"

#define FRAMES_MAX 64

struct server { /* what the load has sent */
  char frames[FRAMES_MAX][256];
  int count;
};

static void server_take(void *arg, struct pf_slice frame) {
  struct server *server = arg;
  assert_true(server->count < FRAMES_MAX && frame.len < sizeof(server->frames[0]));
  snprintf(server->frames[server->count++], sizeof(server->frames[0]), "%.*s", (int)frame.len,
      frame.data);
}

static void begin(
    struct load *load, struct server *server, int64_t concurrency, int64_t iterations) {
  *server = (struct server){.count = 0};
  load_begin(load,
      &(struct load_plan){.url = "http://t/\"",
          .concurrency = concurrency,
          .iterations = iterations,
          .tag = 3,
          .send = server_take,
          .arg = server},
      1000);
}

static void say(struct load *load, int64_t now_ns, const char *text) {
  struct message m;
  struct pf_arena arena;
  pf_arena_init(&arena);
  assert_int_equal(message_decode(&m, pf_slice_str(text), &arena, NULL), PF_OK);
  load_on_message(load, &m, now_ns);
  pf_arena_done(&arena);
}
#define ENQUEUED(i)                                                                                \
  "{\"type\":\"enqueued\",\"reqId\":\"r" #i "\",\"clientId\":\"3-" #i "\",\"enqueueTime\":0.5}"
#define RESULT(i)                                                                                  \
  "{\"type\":\"result\",\"reqId\":\"r" #i "\",\"clientId\":\"3-" #i                                \
  "\",\"success\":true,\"status\":200,\"responseLength\":4,\"duration\":1.5}"

static void keeps_the_concurrency_and_counts(void **state) {
  (void)state;
  struct load load;
  struct server server;
  begin(&load, &server, 2, 3);
  assert_int_equal(server.count, 2);
  assert_string_equal(server.frames[1],
      "{\"type\":\"start-fetch\",\"url\":\"http://t/\\\"\",\"clientId\":\"3-1\"}");
  say(&load, 1100, ENQUEUED(0));
  say(&load, 1150, ENQUEUED(1));
  say(&load, 1200, RESULT(1));
  assert_int_equal(server.count, 3);
  say(&load, 1300, RESULT(0));
  assert_false(load_ended(&load));
  say(&load, 1400, ENQUEUED(2));
  say(&load, 1500, RESULT(2));
  assert_true(load_ended(&load));
  assert_int_equal(load_faults_sum(&load.faults), 0);
  assert_int_equal(load.end_ns, 1500);
  assert_int_equal(load.fetches[0].enqueued_ns, 1100);
  assert_int_equal(load.fetches[0].result_ns, 1300);
  assert_int_equal(load.fetches[2].sent_ns, 1200);
  load_done(&load);
}

/* Three at once, each with its key: a load that may be sent again. */
static struct load_plan keyed_plan(struct server *server) {
  return (struct load_plan){.url = "http://t/",
      .concurrency = 3,
      .iterations = 3,
      .tag = 3,
      .submit_key = "k",
      .send = server_take,
      .arg = server};
}

/* After a break only what was not acknowledged is sent again, under its old key; then a result may
 * come before its enqueued, or twice, for those and no others. All that were under way may be
 * enqueued again, as the same jobs: an origin that was restarted does not know who has heard. */
static void what_is_sent_again_may_be_answered_twice(void **state) {
  (void)state;
  struct load load;
  struct server server = {.count = 0};
  struct load_plan plan = keyed_plan(&server);
  load_begin(&load, &plan, 1000);
  say(&load, 1100, ENQUEUED(0));
  load_resend(&load);
  assert_int_equal(server.count, 5);
  assert_string_equal(server.frames[3], server.frames[1]);
  assert_string_equal(server.frames[4], server.frames[2]);
  assert_string_equal(server.frames[1], "{\"type\":\"start-fetch\",\"url\":\"http://t/\","
                                        "\"clientId\":\"3-1\",\"submitKey\":\"k-3-1\"}");
  say(&load, 1190, ENQUEUED(0));
  say(&load, 1200, RESULT(1));
  say(&load, 1210, ENQUEUED(1));
  say(&load, 1220, RESULT(1));
  say(&load, 1230, ENQUEUED(2)); /* of the first time: it had been on its way */
  say(&load, 1231, ENQUEUED(2));
  say(&load, 1240, RESULT(2));
  say(&load, 1241, ENQUEUED(2));
  say(&load, 1250, RESULT(0));
  assert_true(load_ended(&load));
  assert_int_equal(load_faults_sum(&load.faults), 0);
  say(&load, 1260, RESULT(0)); /* this one had been acknowledged */
  assert_int_equal(load.faults.repeated, 1);
  say(&load, 1270,
      "{\"type\":\"enqueued\",\"reqId\":\"other\",\"clientId\":\"3-2\",\"enqueueTime\":1}");
  assert_int_equal(load.faults.other_id, 1);
  load_done(&load);

  struct server after = {.count = 0};
  plan.arg = &after;
  plan.concurrency = 1;
  load_begin(&load, &plan, 1000);
  load_resend(&load);
  say(&load, 1100, ENQUEUED(0));
  say(&load, 1200, RESULT(0)); /* now the next one is sent, after the break */
  say(&load, 1300, ENQUEUED(1));
  assert_int_equal(load_faults_sum(&load.faults), 0);
  say(&load, 1310, ENQUEUED(1));
  assert_int_equal(load.faults.repeated, 1);
  load_done(&load);
}

/* Then it is known no more what has been answered, and one enqueued and one result must still come.
 */
static void what_was_acknowledged_may_be_asked_for_again(void **state) {
  (void)state;
  struct load load;
  struct server server = {.count = 0};
  struct load_plan plan = keyed_plan(&server);
  load_begin(&load, &plan, 1000);
  say(&load, 1100, ENQUEUED(0));
  say(&load, 1110, ENQUEUED(1));
  load_check_owed(&load, 2);
  assert_int_equal(server.count, 3);
  load_check_owed(&load, 1);
  assert_int_equal(server.count, 5);
  assert_string_equal(server.frames[3], server.frames[0]);
  assert_string_equal(server.frames[4], server.frames[1]);
  say(&load, 1200, RESULT(0));
  say(&load, 1210, ENQUEUED(0)); /* the answer to what was sent again */
  say(&load, 1220, ENQUEUED(1));
  say(&load, 1230, ENQUEUED(2));
  say(&load, 1240, RESULT(1));
  say(&load, 1250, RESULT(2));
  assert_true(load_ended(&load));
  assert_int_equal(load_faults_sum(&load.faults), 0);
  load_done(&load);
}

static void each_irregularity_is_counted(void **state) {
  (void)state;
  static const struct {
    const char *messages[3];
    struct load_faults expected;
  } cases[] = {
      {{ENQUEUED(0), "{\"type\":\"result\",\"reqId\":\"r0\",\"clientId\":\"3-0\",\"success\":false,"
                     "\"error\":\"x\"}"},
          {.failed = 1}},
      {{RESULT(0), ENQUEUED(0)}, {.out_of_order = 1}},
      {{ENQUEUED(0), ENQUEUED(0), RESULT(0)}, {.repeated = 1}},
      {{ENQUEUED(0), RESULT(0), RESULT(0)}, {.repeated = 1}},
      {{ENQUEUED(0), RESULT(0), ENQUEUED(0)}, {.repeated = 1}},
      {{"{\"type\":\"enqueued\",\"reqId\":\"other\",\"clientId\":\"3-0\"}", RESULT(0)},
          {.other_id = 1}},
      {{"{\"type\":\"error\",\"clientId\":\"3-0\",\"error\":\"refused\",\"code\":\"limit\"}"},
          {.failed = 1}},
      {{ENQUEUED(0), RESULT(0), "{\"type\":\"error\",\"error\":\"what?\"}"}, {.strange = 1}},
      {{ENQUEUED(0), RESULT(0), ENQUEUED(7)}, {.strange = 1}},
      {{ENQUEUED(0), RESULT(0), "{\"type\":\"result\",\"clientId\":\"2-0\",\"success\":true}"},
          {.strange = 1}},
      {{ENQUEUED(0), RESULT(0), "{\"type\":\"session\",\"session\":\"s\"}"}, {.strange = 0}},
  };
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct load load;
    struct server server;
    begin(&load, &server, 1, 1);
    for (int k = 0; k < 3 && cases[i].messages[k]; k++)
      say(&load, 2000 + k, cases[i].messages[k]);
    assert_true(load_ended(&load));
    assert_memory_equal(&load.faults, &cases[i].expected, offsetof(struct load_faults, first));
    assert_int_equal(load.faults.first[0] != '\0', load_faults_sum(&load.faults) > 0);
    load_done(&load);
  }
}

static void what_never_comes_is_missing(void **state) {
  (void)state;
  struct load load;
  struct server server;
  begin(&load, &server, 4, 10);
  say(&load, 2000, ENQUEUED(0));
  say(&load, 2001, RESULT(0));
  load_abandon(&load, 9000);
  assert_true(load_ended(&load));
  assert_int_equal(load.faults.missing, 9);
  assert_int_equal(load.end_ns, 9000);
  load_done(&load);
}

static void a_bounded_load_ends_with_what_it_has_sent(void **state) {
  (void)state;
  struct load load;
  struct server server = {.count = 0};
  load_begin(&load,
      &(struct load_plan){.url = "u",
          .concurrency = 2,
          .iterations = 50,
          .send_ms = 1,
          .tag = 3,
          .send = server_take,
          .arg = &server},
      0);
  say(&load, 900000, ENQUEUED(0));
  say(&load, 1000000, RESULT(0)); /* 1 ms: still in time */
  assert_int_equal(server.count, 3);
  say(&load, 1000001, ENQUEUED(1));
  say(&load, 1000001, RESULT(1));
  assert_int_equal(server.count, 3);
  say(&load, 1000002, ENQUEUED(2));
  say(&load, 1000003, RESULT(2));
  assert_true(load_ended(&load));
  assert_int_equal(load.plan.iterations, 3);
  assert_int_equal(load_faults_sum(&load.faults), 0);
  load_done(&load);
}

static void timings_must_add_up(void **state) {
  (void)state;
  double t[MESSAGE_TIMINGS] = {0.1, 0.2, 0, 0.3, -1, 0, -1, 0.4, 0.5, 0.6, 0.7, 2.8};
  assert_true(load_timings_add_up(t));
  t[MESSAGE_TIMINGS - 1] = 2.86;
  assert_false(load_timings_add_up(t));
}

static void what_is_no_message_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", "[]", "{}", "{\"type\":1}",
      "{\"type\":\"result\",\"status\":-1}", "{\"type\":\"result\",\"status\":1.5}",
      "{\"type\":\"result\""};
  struct pf_arena arena;
  pf_arena_init(&arena);
  for (size_t i = 0; i < PF_COUNT(bad); i++) {
    struct message m;
    assert_int_equal(message_decode(&m, pf_slice_str(bad[i]), &arena, NULL), PF_EINVAL);
  }
  pf_arena_done(&arena);
}

static void members_are_read(void **state) {
  (void)state;
  struct message m;
  struct pf_arena arena;
  pf_arena_init(&arena);
  assert_int_equal(
      message_decode(&m,
          pf_slice_str(
              "{\"zip\":[1,{\"type\":2}],\"error\":\"a\\u0041\\n\",\"headers\" : [[\"a\",\"b\"]] ,"
              "\"status\":null,\"timings\":{\"ttfb\":1.5,\"new\":[],\"dns\":null},\"type\":"
              "\"result\"}"),
          &arena, NULL),
      PF_OK);
  assert_int_equal(m.type, MESSAGE_RESULT);
  assert_true(pf_slice_is(m.error, "aA\n"));
  assert_true(pf_slice_is(m.headers, "[[\"a\",\"b\"]]"));
  assert_int_equal(m.status, -1);
  assert_true(m.has_timings && m.timings[7] == 1.5 && m.timings[4] == -1);
  assert_null(m.client_id.data);
  pf_arena_done(&arena);
}

static void statistics_are_exact(void **state) {
  (void)state;
  double samples[1000];
  for (int i = 0; i < 1000; i++)
    samples[i] = (double)((i * 7919) % 1000 + 1); /* 1..1000, shuffled */
  struct stats s = stats_of(samples, 1000);
  assert_true(
      s.min == 1 && s.p50 == 500 && s.p90 == 900 && s.p99 == 990 && s.p999 == 999 && s.max == 1000);
  assert_true(s.mean == 500.5 && s.count == 1000);
  double one[] = {3};
  s = stats_of(one, 1);
  assert_true(s.min == 3 && s.p50 == 3 && s.p999 == 3 && s.max == 3);
  s = stats_of(one, 0);
  assert_int_equal(s.count, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keeps_the_concurrency_and_counts),
      cmocka_unit_test(what_is_sent_again_may_be_answered_twice),
      cmocka_unit_test(what_was_acknowledged_may_be_asked_for_again),
      cmocka_unit_test(each_irregularity_is_counted),
      cmocka_unit_test(what_never_comes_is_missing),
      cmocka_unit_test(a_bounded_load_ends_with_what_it_has_sent),
      cmocka_unit_test(timings_must_add_up),
      cmocka_unit_test(what_is_no_message_is_refused),
      cmocka_unit_test(members_are_read),
      cmocka_unit_test(statistics_are_exact),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
