/* What can be asked for afterwards: stored results and the lists for operators. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "origin_fixture.h"

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

/* The largest that lists something, the smallest that does not, and those that SQLite would take
 * for negative. */
static void test_list_cursor_at_its_limits(void **state) {
  struct world *world = *state;
  unsigned steps;
  uint64_t first = world->core.next_local, last = first + 2;
  make_jobs(world, 3);
  assert_int_equal(world->core.next_local, last + 1);
  const struct {
    uint64_t after;
    size_t listed;
  } cases[] = {{0, 3}, {first - 1, 3}, {first, 2}, {last - 1, 1}, {last, 0}, {last + 1, 0},
      {INT64_MAX, 0}, {(uint64_t)INT64_MAX + 1, 0}, {UINT64_MAX, 0}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    const char *text = list(world, "", 100, cases[i].after, &steps);
    assert_int_equal(count_text(text, "\"reqId\""), cases[i].listed);
    assert_null(strstr(text, "\"next\""));
    assert_non_null(strstr(text, "\"total\":3"));
  }
}

static void test_list_cursor_of_another_origin(void **state) {
  struct world *world = *state;
  struct pf_job_id none = {0, 0}, other = {world->core.origin_id ^ 1, world->core.next_local};
  make_jobs(world, 3);
  core_on_api_list(&world->core, 1, pf_slice_str(""), 100, none);
  core_on_api_list(&world->core, 2, pf_slice_str(""), 100, other);
  core_on_api_list(&world->core, 3, pf_slice_str(""), 100, (struct pf_job_id){0, other.local});
  world_settle(world);
  assert_int_equal(world_find_response(world, 1)->code, 200);
  assert_int_equal(count_text(world_find_response(world, 1)->text, "\"reqId\""), 3);
  for (uint64_t request = 2; request <= 3; request++) {
    const struct record *refused = world_find_response(world, request);
    assert_int_equal(refused->code, 400);
    assert_non_null(strstr(refused->text, "\"code\":\"bad_id\""));
    assert_non_null(strstr(refused->text, "another origin"));
  }
}

int origin_stored_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_result_bytes_max),
      TEST(test_result_bytes_of_late_results),
      TEST(test_result_sweeps_do_not_overlap),
      TEST(test_result_sweep_is_bounded),
      TEST(test_long_list_is_read_in_pages),
      TEST(test_list_cursor_at_its_limits),
      TEST(test_list_cursor_of_another_origin),
  };
  return cmocka_run_group_tests_name("origin_stored", tests, NULL, NULL);
}
