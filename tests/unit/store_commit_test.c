/* Commits: order, groups, failures, who makes them, and who may be in the way. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store_fixture.h"

static void test_requests_are_done_in_order_and_after_their_commit(void **state) {
  struct fixture *f = *state;
  struct put puts[100];
  open_ok(f);
  for (unsigned i = 0; i < 100; i++) {
    put_init(&puts[i], f, i + 1);
    store_submit(f->store, &puts[i].req);
  }
  struct store_stats stats;
  store_read_stats(f->store, &stats);
  assert_int_equal(stats.waiting, 100);
  for (unsigned seen = 0; f->done < 100; seen = f->done) {
    uv_run(&f->loop, UV_RUN_ONCE);
    if (f->done > seen) assert_true(rows_of(f->path) >= f->done);
  }
  for (unsigned i = 0; i < 100; i++) {
    assert_int_equal(f->order[i], i + 1);
    assert_int_equal(puts[i].result, PF_OK);
  }
  store_read_stats(f->store, &stats);
  assert_int_equal(stats.waiting, 0);
  assert_int_equal(stats.requests, 100);
  assert_in_range(stats.groups, 1, 100);
  assert_in_range(stats.group_max, 1, 100);
  assert_true(stats.commit_ns_max > 0 && stats.commit_ns_total >= stats.commit_ns_max);
  assert_true(stats.wal_bytes > 0);
  close_and_wait(f);
}

static void test_what_queues_up_becomes_one_group(void **state) {
  struct fixture *f = *state;
  struct held held;
  struct put puts[50];
  open_ok(f);
  held_submit(&held, f, 1000);
  for (unsigned i = 0; i < 50; i++) {
    put_init(&puts[i], f, i + 1);
    store_submit(f->store, &puts[i].req);
  }
  uv_sem_post(&held.leave);
  wait_done(f, 51);
  struct store_stats stats;
  store_read_stats(f->store, &stats);
  assert_int_equal(stats.groups, 2);
  assert_int_equal(stats.group_max, 50);
  close_and_wait(f);
  uv_sem_destroy(&held.entered);
  uv_sem_destroy(&held.leave);
}

static void test_done_may_submit_again(void **state) {
  struct fixture *f = *state;
  struct put a, b;
  open_ok(f);
  put_init(&a, f, 1);
  put_init(&b, f, 2);
  a.next = &b;
  store_submit(f->store, &a.req);
  wait_done(f, 2);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 2);
}

static void test_a_savepoint_undoes_one_request_only(void **state) {
  struct fixture *f = *state;
  struct held held;
  struct put a, twice, b;
  open_ok(f);
  held_submit(&held, f, 1000);
  put_init(&a, f, 1);
  put_init(&twice, f, 1); /* violates the key */
  put_init(&b, f, 2);
  twice.req.savepoint = true;
  b.req.savepoint = true;
  store_submit(f->store, &a.req);
  store_submit(f->store, &twice.req);
  store_submit(f->store, &b.req);
  uv_sem_post(&held.leave);
  wait_done(f, 4);
  assert_int_equal(a.result, PF_OK);
  assert_int_equal(twice.result, PF_EEXIST);
  assert_int_equal(b.result, PF_OK);
  assert_int_equal(f->broken, 0);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 3);
  uv_sem_destroy(&held.entered);
  uv_sem_destroy(&held.leave);
}

static void test_a_failing_request_breaks_the_store(void **state) {
  struct fixture *f = *state;
  struct held held;
  struct put first, a, twice, b, late;
  open_ok(f);
  put_init(&first, f, 7);
  store_submit(f->store, &first.req);
  wait_done(f, 1);
  held_submit(&held, f, 1000);
  put_init(&a, f, 1);
  put_init(&twice, f, 1);
  put_init(&b, f, 2);
  store_submit(f->store, &a.req);
  store_submit(f->store, &twice.req);
  store_submit(f->store, &b.req);
  uv_sem_post(&held.leave);
  wait_done(f, 5);
  assert_int_equal(held.put.result, PF_OK);
  assert_int_equal(a.result, PF_EIO);
  assert_int_equal(twice.result, PF_EIO);
  assert_int_equal(b.result, PF_EIO);
  assert_int_equal(f->broken, 1);
  assert_int_equal(f->why.code, PF_EIO);
  assert_non_null(strstr(f->why.text, "UNIQUE"));
  put_init(&late, f, 3);
  store_submit(f->store, &late.req);
  wait_done(f, 6);
  assert_int_equal(late.result, PF_EIO);
  assert_int_equal(f->broken, 1);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 2); /* first and held */
  uv_sem_destroy(&held.entered);
  uv_sem_destroy(&held.leave);
}

static int overlooking_apply(void *arg, struct store_req *req) {
  struct user *user = arg;
  sqlite3 *db = sqlite3_db_handle(user->stmt[SQL_PUT]);
  assert_int_equal(put_apply(arg, req), PF_OK);
  assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
  return PF_OK;
}

/* SQLite has given the transaction up, and the request did not see it: what comes behind it in the
 * group would be on disk by itself. */
static void test_an_error_that_a_request_overlooks_breaks_the_store(void **state) {
  struct fixture *f = *state;
  struct held held;
  struct put a, blind, b;
  open_ok(f);
  held_submit(&held, f, 1000);
  put_init(&a, f, 1);
  put_init(&blind, f, 2);
  blind.req.apply = overlooking_apply;
  put_init(&b, f, 3);
  store_submit(f->store, &a.req);
  store_submit(f->store, &blind.req);
  store_submit(f->store, &b.req);
  uv_run(&f->loop, UV_RUN_NOWAIT);
  uv_sem_post(&held.leave);
  wait_done(f, 4);
  assert_int_equal(held.put.result, PF_OK);
  assert_int_equal(a.result, PF_EIO);
  assert_int_equal(blind.result, PF_EIO);
  assert_int_equal(b.result, PF_EIO);
  assert_int_equal(f->broken, 1);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 1); /* held */
  uv_sem_destroy(&held.entered);
  uv_sem_destroy(&held.leave);
}

static void test_lazy_requests_go_with_the_next_group_or_in_time(void **state) {
  struct fixture *f = *state;
  struct put lazy[2], eager, alone;
  struct store_stats stats;
  open_ok(f);
  put_init(&eager, f, 3);
  for (unsigned i = 0; i < 2; i++) {
    put_init(&lazy[i], f, i + 1);
    lazy[i].req.lazy = true;
    store_submit(f->store, &lazy[i].req);
  }
  store_submit(f->store, &eager.req);
  wait_done(f, 3);
  store_read_stats(f->store, &stats);
  assert_int_equal(stats.groups, 1);
  assert_int_equal(f->order[0], 1);
  assert_int_equal(f->order[2], 3);
  put_init(&alone, f, 4);
  alone.req.lazy = true;
  uint64_t began = uv_hrtime();
  store_submit(f->store, &alone.req);
  wait_done(f, 4);
  assert_true(uv_hrtime() - began >= (STORE_LAZY_MS - 1) * UINT64_C(1000000));
  close_and_wait(f);
}

static void test_close_finishes_what_waits_and_refuses_the_rest(void **state) {
  struct fixture *f = *state;
  struct put lazy, eager, late;
  open_ok(f);
  put_init(&lazy, f, 1);
  put_init(&eager, f, 2);
  put_init(&late, f, 3);
  lazy.req.lazy = true;
  store_submit(f->store, &eager.req);
  store_submit(f->store, &lazy.req);
  store_close(f->store, on_closed, f);
  store_submit(f->store, &late.req);
  assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(f->closed, 1);
  assert_int_equal(eager.result, PF_OK);
  assert_int_equal(lazy.result, PF_OK);
  assert_int_equal(late.result, PF_EIO);
  assert_int_equal(f->order[2], 3);
  char log[160];
  snprintf(log, sizeof(log), "%s-wal", f->path);
  assert_int_equal(access(log, F_OK), -1);
  assert_int_equal(rows_of(f->path), 2);
}

/* ---- who commits ---- */

struct who {
  struct put put;
  pthread_t thread;
  bool interruptible;
  unsigned busy_us;
  bool reads_only;
};

static bool is_interruptible(void) {
  sigset_t mask;
  assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
  return !sigismember(&mask, SIGTERM) || !sigismember(&mask, SIGCHLD);
}

static int who_apply(void *user, struct store_req *req) {
  struct who *who = pf_container_of(req, struct who, put.req);
  sqlite3_stmt *stmt = ((struct user *)user)->stmt[SQL_REPLACE];
  who->thread = pthread_self();
  who->interruptible = is_interruptible();
  int64_t until_ns = pf_clock_mono_ns() + (int64_t)who->busy_us * 1000;
  while (pf_clock_mono_ns() < until_ns)
    ;
  if (who->reads_only) return PF_OK;
  store_bind_u64(stmt, 1, 1);
  store_bind_blob(stmt, 2, pf_slice_str("value"));
  return store_run(stmt);
}

static bool is_done_here(struct fixture *f, unsigned busy_us, bool reads_only) {
  struct who who = {.busy_us = busy_us, .reads_only = reads_only};
  put_init(&who.put, f, 1);
  who.put.req.apply = who_apply;
  store_submit(f->store, &who.put.req);
  wait_done(f, f->done + 1);
  assert_false(who.interruptible); /* whoever it is */
  assert_true(is_interruptible()); /* afterwards */
  return pthread_equal(who.thread, pthread_self());
}

static void test_quick_groups_are_committed_by_the_loop_and_slow_ones_by_the_thread(void **state) {
  struct fixture *f = *state;
  f->config.sync = STORE_SYNC_NORMAL; /* whatever the disk */
  open_ok(f);
  bool here = false;
  for (unsigned i = 0; !here && i < PF_COUNT(f->order) / 2; i++)
    here = is_done_here(f, 0, false);
  assert_true(here);
  for (unsigned i = 0; i < 3; i++) {
    (void)is_done_here(f, 10 * STORE_QUICK_US, false);
    assert_false(is_done_here(f, 0, true)); /* the one before was slow */
    assert_false(
        is_done_here(f, 10 * STORE_QUICK_US, false)); /* and what only reads tells nothing */
  }
  close_and_wait(f);
}

/* ---- another connection holds the lock ---- */

static sqlite3 *lock_take(const char *path) {
  sqlite3 *db;
  assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
  return db;
}

static void lock_leave(sqlite3 *db) {
  assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

enum { LOCKER_ROWS = 100000 };

/* Takes the lock, waits until the store is about to write, and writes much itself. */
struct locker {
  struct put put;
  const char *path;
  uv_sem_t locked, entered;
  atomic_bool left, waited;
};

static void locker_run(void *arg) {
  struct locker *locker = arg;
  char text[256];
  sqlite3 *db = lock_take(locker->path);
  uv_sem_post(&locker->locked);
  uv_sem_wait(&locker->entered);
  snprintf(text, sizeof(text),
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
      " INSERT INTO entry(id, value) SELECT i + 1000, x'00' FROM n",
      LOCKER_ROWS);
  assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
  atomic_store(&locker->left, true);
  lock_leave(db);
}

static int locked_apply(void *arg, struct store_req *req) {
  struct locker *locker = pf_container_of(req, struct locker, put.req);
  uv_sem_post(&locker->entered);
  int err = put_apply(arg, req);
  atomic_store(&locker->waited, atomic_load(&locker->left));
  return err;
}

static void test_a_commit_waits_for_a_foreign_lock(void **state) {
  struct fixture *f = *state;
  struct locker locker = {.path = f->path};
  uv_thread_t thread;
  open_ok(f);
  assert_int_equal(uv_sem_init(&locker.locked, 0), 0);
  assert_int_equal(uv_sem_init(&locker.entered, 0), 0);
  assert_int_equal(uv_thread_create(&thread, locker_run, &locker), 0);
  uv_sem_wait(&locker.locked);
  put_init(&locker.put, f, 1);
  locker.put.req.apply = locked_apply;
  store_submit(f->store, &locker.put.req);
  wait_done(f, 1);
  assert_int_equal(uv_thread_join(&thread), 0);
  assert_int_equal(locker.put.result, PF_OK);
  assert_true(atomic_load(&locker.waited));
  assert_int_equal(f->broken, 0);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), LOCKER_ROWS + 1);
  uv_sem_destroy(&locker.locked);
  uv_sem_destroy(&locker.entered);
}

static void test_a_foreign_lock_that_stays_breaks_the_store(void **state) {
  struct fixture *f = *state;
  struct put put, again;
  open_ok(f);
  sqlite3 *db = lock_take(f->path);
  put_init(&put, f, 1);
  store_submit(f->store, &put.req);
  wait_done(f, 1); /* 5 s, the busy time-out */
  assert_int_equal(put.result, PF_EIO);
  assert_int_equal(f->broken, 1);
  assert_int_equal(f->why.code, PF_EIO);
  assert_int_equal(f->why.native, SQLITE_BUSY);
  assert_non_null(strstr(f->why.text, "locked"));
  lock_leave(db);
  close_and_wait(f);
  open_ok(f);
  put_init(&again, f, 2);
  store_submit(f->store, &again.req);
  wait_done(f, 2);
  assert_int_equal(again.result, PF_OK);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 1);
}

int store_commit_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_requests_are_done_in_order_and_after_their_commit),
      TEST(test_what_queues_up_becomes_one_group),
      TEST(test_done_may_submit_again),
      TEST(test_a_savepoint_undoes_one_request_only),
      TEST(test_a_failing_request_breaks_the_store),
      TEST(test_an_error_that_a_request_overlooks_breaks_the_store),
      TEST(test_lazy_requests_go_with_the_next_group_or_in_time),
      TEST(test_close_finishes_what_waits_and_refuses_the_rest),
      TEST(test_quick_groups_are_committed_by_the_loop_and_slow_ones_by_the_thread),
      TEST(test_a_commit_waits_for_a_foreign_lock),
      TEST(test_a_foreign_lock_that_stays_breaks_the_store),
  };
  return cmocka_run_group_tests_name("store_commit", tests, NULL, NULL);
}
