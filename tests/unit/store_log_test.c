/* The write-ahead log: checkpoints, its size, its file. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "store_fixture.h"

/* ---- checkpoints ---- */

/* A checkpoint also comes after a pause, or some seconds after the first commit. Where disk or
 * machine are so slow that it may have been one of these, nothing is said about the other rules. */
struct pace {
  int64_t begin_ms, last_ms;
  bool slow;
};

static struct pace pace_begin(void) {
  int64_t now_ms = pf_clock_mono_ms();
  return (struct pace){.begin_ms = now_ms, .last_ms = now_ms};
}

static bool pace_is_slow(struct pace *pace) {
  int64_t now_ms = pf_clock_mono_ms();
  pace->slow |= now_ms - pace->last_ms > 400 || now_ms - pace->begin_ms > 4500;
  pace->last_ms = now_ms;
  return pace->slow;
}

static int fill_apply(void *arg, struct store_req *req) {
  struct user *user = arg;
  struct put *put = pf_container_of(req, struct put, req);
  char value[4000];
  memset(value, 'v', sizeof(value));
  for (unsigned i = 0; i < 100; i++) { /* about a page each */
    store_bind_u64(user->stmt[SQL_PUT], 1, put->id * 1000 + i);
    store_bind_blob(user->stmt[SQL_PUT], 2, pf_slice(value, sizeof(value)));
    int err = store_run(user->stmt[SQL_PUT]);
    if (err != PF_OK) return err;
  }
  return PF_OK;
}

static void test_many_dirty_pages_bring_a_checkpoint(void **state) {
  struct fixture *f = *state;
  struct store_stats stats;
  open_ok(f);
  struct pace pace = pace_begin();
  for (unsigned i = 0; i < 3; i++) {
    struct put put;
    put_init(&put, f, i + 1);
    put.req.apply = fill_apply;
    store_submit(f->store, &put.req);
    wait_done(f, i + 1);
    store_read_stats(f->store, &stats);
    if (!pace_is_slow(&pace) && i < 2) assert_int_equal(stats.checkpoints, 0);
  }
  while (stats.checkpoints == 0) { /* 300 pages: at once, not after the idle time */
    uv_run(&f->loop, UV_RUN_ONCE);
    store_read_stats(f->store, &stats);
  }
  assert_int_equal(stats.wal_bytes, 0);
  close_and_wait(f);
}

/* Rewrites the same 120 pages, fewer than bring a checkpoint by themselves. */
static int rewrite_apply(void *arg, struct store_req *req) {
  struct user *user = arg;
  const struct put *put = pf_container_of(req, struct put, req);
  sqlite3_stmt *stmt = user->stmt[SQL_REPLACE];
  size_t len = 120 * 4096;
  char *value = pf_alloc(len);
  memset(value, (int)put->id, len);
  store_bind_u64(stmt, 1, 1);
  store_bind_blob(stmt, 2, pf_slice(value, len));
  int err = store_run(stmt);
  free(value);
  return err;
}

static void check_greatest_log(struct fixture *f, enum store_sync sync, int64_t max_bytes) {
  struct store_stats stats = {0};
  int64_t largest = 0;
  bool slow = false;
  f->config.sync = sync;
  f->done = 0;
  open_ok(f);
  struct pace pace = pace_begin();
  for (unsigned i = 0; stats.checkpoints == 0 && i < PF_COUNT(f->order); i++) {
    struct put put;
    put_init(&put, f, i + 1);
    put.req.apply = rewrite_apply;
    store_submit(f->store, &put.req);
    wait_done(f, i + 1);
    store_read_stats(f->store, &stats);
    if (stats.wal_bytes > largest) largest = stats.wal_bytes;
    slow = pace_is_slow(&pace);
  }
  assert_int_equal(stats.checkpoints, 1);
  assert_in_range(largest, slow ? 1 : max_bytes - 122 * 4120, max_bytes + 122 * 4120);
  close_and_wait(f);
}

static void test_the_log_has_a_greatest_size(void **state) {
  check_greatest_log(*state, STORE_SYNC_FULL, INT64_C(64) << 20);
  check_greatest_log(*state, STORE_SYNC_NORMAL, INT64_C(8) << 20);
}

static void test_a_long_reader_only_delays_the_checkpoint(void **state) {
  struct fixture *f = *state;
  struct store_stats stats;
  struct put puts[4];
  sqlite3 *reader;
  open_ok(f);
  assert_int_equal(sqlite3_open_v2(f->path, &reader, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT * FROM entry", NULL, NULL, NULL), SQLITE_OK);
  for (unsigned i = 0; i < 4; i++) { /* more than brings a checkpoint */
    put_init(&puts[i], f, i + 1);
    puts[i].req.apply = fill_apply;
    store_submit(f->store, &puts[i].req);
    wait_done(f, i + 1);
    assert_int_equal(puts[i].result, PF_OK);
  }
  do {
    uv_run(&f->loop, UV_RUN_ONCE);
    store_read_stats(f->store, &stats);
  } while (stats.checkpoints == 0);
  assert_true(stats.wal_bytes > 300 * 4096); /* tried, and kept */
  assert_int_equal(f->broken, 0);
  assert_int_equal(sqlite3_close(reader), SQLITE_OK);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 400);
}

static void test_an_idle_store_empties_its_log(void **state) {
  struct fixture *f = *state;
  struct store_stats stats = {0};
  struct put put;
  open_ok(f);
  put_init(&put, f, 1);
  store_submit(f->store, &put.req);
  wait_done(f, 1);
  while (stats.checkpoints == 0) {
    uv_run(&f->loop, UV_RUN_ONCE);
    store_read_stats(f->store, &stats);
  }
  assert_int_equal(stats.wal_bytes, 0);
  close_and_wait(f);
}

/* ---- the log's file ---- */

static int64_t log_bytes(const struct fixture *f) {
  char log[200];
  struct stat st;
  snprintf(log, sizeof(log), "%s-wal", f->path);
  return stat(log, &st) == 0 ? st.st_size : -1;
}

static void wait_until_the_log_is_ready(struct fixture *f) {
  struct store_stats stats = {0};
  while (stats.wal_ready_bytes < STORE_WAL_READY_BYTES) {
    uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_equal(f->broken, 0);
    store_read_stats(f->store, &stats);
  }
  assert_int_equal(log_bytes(f), STORE_WAL_READY_BYTES);
}

/* Such files come from VACUUM INTO, or from somebody's hand. */
static void test_a_file_of_another_journal_mode_gets_its_log(void **state) {
  struct fixture *f = *state;
  sqlite3 *db;
  open_ok(f);
  put_and_wait(f, 1);
  close_and_wait(f);
  assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
  open_ok(f);
  wait_until_the_log_is_ready(f);
  put_and_wait(f, 2);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 2);
}

static void test_the_file_of_the_log_is_made_ready(void **state) {
  struct fixture *f = *state;
  open_ok(f);
  wait_until_the_log_is_ready(f);
  for (uint64_t id = 1; id <= 20; id++)
    put_and_wait(f, id);
  assert_int_equal(log_bytes(f), STORE_WAL_READY_BYTES); /* written over */
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 20);
}

static void test_a_log_that_is_not_synced_or_finds_no_room_is_not_made_longer(void **state) {
  struct fixture *f = *state;
  for (int i = 0; i < 2; i++) {
    f->config.sync = i == 0 ? STORE_SYNC_NORMAL : STORE_SYNC_FULL;
    f->config.reserve_bytes = i == 0 ? 0 : INT64_MAX;
    open_ok(f);
    for (uint64_t id = 1; id <= 3; id++)
      put_and_wait(f, (uint64_t)i * 10 + id);
    assert_in_range(log_bytes(f), 1, 64 * 4120);
    close_and_wait(f);
  }
}

int store_log_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_many_dirty_pages_bring_a_checkpoint),
      TEST(test_the_log_has_a_greatest_size),
      TEST(test_a_long_reader_only_delays_the_checkpoint),
      TEST(test_an_idle_store_empties_its_log),
      TEST(test_the_file_of_the_log_is_made_ready),
      TEST(test_a_file_of_another_journal_mode_gets_its_log),
      TEST(test_a_log_that_is_not_synced_or_finds_no_room_is_not_made_longer),
  };
  return cmocka_run_group_tests_name("store_log", tests, NULL, NULL);
}
