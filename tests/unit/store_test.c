#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/stmt.h"
#include "store/store.h"

/* -- a small database ---------------------------------------------------------------------------
 */

enum { SQL_PUT, SQL_REPLACE, SQL_COUNT, SQL_MAX };
static const char *const sql[SQL_MAX] = {
    [SQL_PUT] = "INSERT INTO entry(id, value) VALUES(?1, ?2)",
    [SQL_REPLACE] = "INSERT OR REPLACE INTO entry(id, value) VALUES(?1, ?2)",
    [SQL_COUNT] = "SELECT count(*) FROM entry",
};
static const char *const migrations[] = {
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, value BLOB)",
    "ALTER TABLE entry ADD COLUMN extra INTEGER",
};
static const struct store_schema schema_1 = {
    .application_id = 0x50463031, .migrations = migrations, .version = 1};
static const struct store_schema schema_2 = {
    .application_id = 0x50463031, .migrations = migrations, .version = 2};

struct user {
  sqlite3_stmt *stmt[SQL_MAX];
};

static int user_prepare(sqlite3 *db, void *arg, void **ret_user, struct pf_error *reterr) {
  (void)arg;
  struct user *user = pf_alloc(sizeof(*user));
  int err = store_stmts_prepare(db, user->stmt, sql, SQL_MAX, reterr);
  if (err != PF_OK)
    free(user);
  else
    *ret_user = user;
  return err;
}

static void user_finish(void *arg) {
  struct user *user = arg;
  store_stmts_finalize(user->stmt, SQL_MAX);
  free(user);
}

/* -- one store in a temporary directory ---------------------------------------------------------
 */

struct fixture {
  char dir[64], path[128];
  uv_loop_t loop;
  struct store *store;
  struct store_config config;
  unsigned done, broken, backups, closed;
  int backup_err;
  uint64_t order[256]; /* ids in the order of their done */
  struct pf_error why;
};

static void on_broken(void *arg, const struct pf_error *why) {
  struct fixture *f = arg;
  f->broken++;
  f->why = *why;
}

static int setup(void **state) {
  struct fixture *f = pf_alloc(sizeof(*f));
  snprintf(f->dir, sizeof(f->dir), "/tmp/pf_store.XXXXXX");
  assert_non_null(mkdtemp(f->dir));
  snprintf(f->path, sizeof(f->path), "%s/data/test.db", f->dir);
  assert_int_equal(uv_loop_init(&f->loop), 0);
  f->config = (struct store_config){.path = f->path,
      .sync = STORE_SYNC_FULL,
      .schema = &schema_1,
      .prepare = user_prepare,
      .finish = user_finish,
      .on_broken = on_broken,
      .arg = f};
  *state = f;
  return 0;
}

static void remove_dir(const char *path) {
  char entry[512];
  DIR *dir = opendir(path);
  if (!dir) return;
  for (struct dirent *e; (e = readdir(dir)) != NULL;) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    snprintf(entry, sizeof(entry), "%s/%s", path, e->d_name);
    if (unlink(entry) != 0) remove_dir(entry);
  }
  closedir(dir);
  rmdir(path);
}

static int teardown(void **state) {
  struct fixture *f = *state;
  assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(uv_loop_close(&f->loop), 0);
  remove_dir(f->dir);
  free(f);
  return 0;
}

static void open_ok(struct fixture *f) {
  struct pf_error why = {0};
  int err = store_open(&f->store, &f->loop, &f->config, &why);
  if (err != PF_OK) fail_msg("store_open: %s", why.text);
}

static void on_closed(void *arg) {
  struct fixture *f = arg;
  f->closed++;
  f->store = NULL;
}

static void close_and_wait(struct fixture *f) {
  unsigned closed = f->closed;
  store_close(f->store, on_closed, f);
  while (f->closed == closed)
    uv_run(&f->loop, UV_RUN_ONCE);
}

static void wait_done(struct fixture *f, unsigned count) {
  while (f->done < count)
    uv_run(&f->loop, UV_RUN_ONCE);
}

/* -- requests -----------------------------------------------------------------------------------
 */

struct put {
  struct store_req req;
  struct fixture *f;
  uint64_t id;
  int result;       /* of done; 1 = not called yet */
  struct put *next; /* submitted from done */
};

static int put_apply(void *arg, struct store_req *req) {
  struct user *user = arg;
  struct put *put = pf_container_of(req, struct put, req);
  sqlite3_stmt *stmt = user->stmt[SQL_PUT];
  store_bind_u64(stmt, 1, put->id);
  store_bind_blob(stmt, 2, pf_slice_str("value"));
  return store_run(stmt);
}

static void put_done(struct store_req *req, int err) {
  struct put *put = pf_container_of(req, struct put, req);
  struct fixture *f = put->f;
  put->result = err;
  f->order[f->done++] = put->id;
  if (put->next) store_submit(f->store, &put->next->req);
}

static void put_init(struct put *put, struct fixture *f, uint64_t id) {
  *put = (struct put){.req = {.apply = put_apply, .done = put_done}, .f = f, .id = id, .result = 1};
}

/* Rows as another connection sees them: what is committed. */
static int64_t rows_of(const char *path) {
  sqlite3 *db;
  sqlite3_stmt *stmt;
  assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_prepare_v2(db, sql[SQL_COUNT], -1, &stmt, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
  int64_t rows = sqlite3_column_int64(stmt, 0);
  sqlite3_finalize(stmt);
  sqlite3_close(db);
  return rows;
}

static void exec_on(const char *path, const char *text) {
  sqlite3 *db;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static mode_t mode_of(const char *path) {
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  return st.st_mode & 0777;
}

/* -- commits ------------------------------------------------------------------------------------
 */

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

struct held {
  struct put put;
  uv_sem_t entered, leave;
};

static int held_apply(void *arg, struct store_req *req) {
  struct held *held = pf_container_of(req, struct held, put.req);
  uv_sem_post(&held->entered);
  uv_sem_wait(&held->leave);
  return put_apply(arg, req);
}

/* Submits a request whose apply blocks until held_release. */
static void held_submit(struct held *held, struct fixture *f, uint64_t id) {
  put_init(&held->put, f, id);
  held->put.req.apply = held_apply;
  assert_int_equal(uv_sem_init(&held->entered, 0), 0);
  assert_int_equal(uv_sem_init(&held->leave, 0), 0);
  store_submit(f->store, &held->put.req);
  uv_run(&f->loop, UV_RUN_NOWAIT); /* the end of a turn */
  uv_sem_wait(&held->entered);
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

/* -- the file -----------------------------------------------------------------------------------
 */

static void test_reopen_sees_all_and_migrates(void **state) {
  struct fixture *f = *state;
  struct put a, b;
  open_ok(f);
  put_init(&a, f, 1);
  store_submit(f->store, &a.req);
  close_and_wait(f);
  f->config.schema = &schema_2;
  open_ok(f);
  put_init(&b, f, 2);
  store_submit(f->store, &b.req);
  close_and_wait(f);
  assert_int_equal(rows_of(f->path), 2);
  exec_on(f->path, "SELECT extra FROM entry");
  assert_int_equal(store_check_file(f->path, &schema_2, NULL), PF_OK);
}

static void test_files_are_for_this_user_only(void **state) {
  struct fixture *f = *state;
  char other[160];
  mode_t before = umask(0);
  open_ok(f);
  struct put a;
  put_init(&a, f, 1);
  store_submit(f->store, &a.req);
  wait_done(f, 1);
  assert_int_equal(mode_of(f->path), 0600);
  snprintf(other, sizeof(other), "%s-wal", f->path);
  assert_int_equal(mode_of(other), 0600);
  snprintf(other, sizeof(other), "%s/data/lock", f->dir);
  assert_int_equal(mode_of(other), 0600);
  snprintf(other, sizeof(other), "%s/data", f->dir);
  assert_int_equal(mode_of(other), 0700);
  close_and_wait(f);
  umask(before);
}

static void assert_refused(struct fixture *f, int code, const char *words) {
  struct pf_error why = {0};
  struct store *none = NULL;
  assert_int_equal(store_open(&none, &f->loop, &f->config, &why), code);
  assert_null(none);
  assert_int_equal(why.code, code);
  if (!strstr(why.text, words)) fail_msg("no \"%s\" in: %s", words, why.text);
}

static void test_a_locked_directory_is_refused_with_the_pid(void **state) {
  struct fixture *f = *state;
  char pid[32];
  open_ok(f);
  snprintf(pid, sizeof(pid), "process %ld:", (long)getpid());
  assert_refused(f, PF_ELOCKED, pid);
  struct pf_error why;
  assert_int_equal(store_check_file(f->path, &schema_1, &why), PF_ELOCKED);
  close_and_wait(f);
  open_ok(f);
  close_and_wait(f);
}

static void test_newer_and_foreign_files_are_refused_untouched(void **state) {
  struct fixture *f = *state;
  f->config.schema = &schema_2;
  open_ok(f);
  close_and_wait(f);
  f->config.schema = &schema_1;
  assert_refused(f, PF_EVERSION, "use the newer program");
  assert_int_equal(store_check_file(f->path, &schema_1, NULL), PF_EVERSION);

  assert_int_equal(unlink(f->path), 0);
  exec_on(f->path, "CREATE TABLE theirs(a)");
  assert_refused(f, PF_EVERSION, "another program");
  sqlite3 *db;
  sqlite3_stmt *stmt;
  assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA journal_mode", -1, &stmt, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
  assert_string_equal((const char *)sqlite3_column_text(stmt, 0), "delete");
  sqlite3_finalize(stmt);
  sqlite3_close(db);
}

static void write_at(const char *path, off_t at, size_t len) {
  char junk[8192];
  memset(junk, 0x5a, sizeof(junk));
  int fd = open(path, O_WRONLY | O_CREAT, 0600);
  assert_true(fd >= 0 && len <= sizeof(junk));
  assert_int_equal(pwrite(fd, junk, len, at), len);
  close(fd);
}

static void test_damage_is_found_and_named(void **state) {
  struct fixture *f = *state;
  open_ok(f);
  struct put puts[200];
  for (unsigned i = 0; i < 200; i++) {
    put_init(&puts[i], f, i + 1);
    store_submit(f->store, &puts[i].req);
  }
  close_and_wait(f);
  struct pf_error why;
  write_at(f->path, 4096, 4096); /* the table's root page: an open does not read it */
  assert_int_equal(store_check_file(f->path, &schema_1, &why), PF_ECORRUPT);
  assert_non_null(strstr(why.text, f->path));
  write_at(f->path, 0, 100);
  assert_refused(f, PF_ECORRUPT, "restore a backup");
}

static void test_unusable_paths_are_refused(void **state) {
  struct fixture *f = *state;
  char path[600];
  f->config.path = path;
  snprintf(path, sizeof(path), "%s/sub/", f->dir);
  assert_refused(f, PF_EINVAL, "ends with a name");
  snprintf(path, sizeof(path), "%s/sub", f->dir);
  assert_int_equal(mkdir(path, 0700), 0);
  assert_refused(f, PF_EINVAL, "Is a directory");
  snprintf(path, sizeof(path), "%s/fifo", f->dir);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_refused(f, PF_EINVAL, "not a regular file");
  size_t len = (size_t)snprintf(path, sizeof(path), "%s/", f->dir);
  memset(path + len, 'a', 481 - len);
  path[len + 200] = path[len + 400] = '/'; /* directories that are not there yet */
  path[481] = '\0';
  assert_refused(f, PF_EINVAL, "480");
  path[480] = '\0';
  open_ok(f);
  close_and_wait(f);
  assert_int_equal(store_check_file("/nonexistent/x.db", &schema_1, NULL), PF_ENOTFOUND);
}

/* -- backup and space ---------------------------------------------------------------------------
 */

static void on_backup(void *arg, int err, const struct pf_error *why) {
  struct fixture *f = arg;
  f->backups++;
  f->backup_err = err;
  assert_true((err == PF_OK) == (why == NULL));
}

static void test_a_backup_opens_and_matches(void **state) {
  struct fixture *f = *state;
  char copy[128];
  snprintf(copy, sizeof(copy), "%s/copy.db", f->dir);
  open_ok(f);
  struct put puts[200];
  for (unsigned i = 0; i < 200; i++) {
    put_init(&puts[i], f, i + 1);
    store_submit(f->store, &puts[i].req);
    if (i == 100) store_backup(f->store, copy, on_backup, f);
  }
  while (f->backups < 1)
    uv_run(&f->loop, UV_RUN_ONCE);
  assert_int_equal(f->backup_err, PF_OK);
  assert_true(rows_of(copy) > 100);
  assert_int_equal(mode_of(copy), 0600);
  assert_int_equal(store_check_file(copy, &schema_1, NULL), PF_OK);
  store_backup(f->store, copy, on_backup, f); /* it is there already */
  while (f->backups < 2)
    uv_run(&f->loop, UV_RUN_ONCE);
  assert_int_equal(f->backup_err, PF_EEXIST);
  wait_done(f, 200);
  close_and_wait(f);
  f->config.path = copy;
  open_ok(f);
  close_and_wait(f);
}

static void test_close_cancels_backups(void **state) {
  struct fixture *f = *state;
  char copy[2][128];
  open_ok(f);
  struct held held;
  held_submit(&held, f, 1);
  for (unsigned i = 0; i < 2; i++) {
    snprintf(copy[i], sizeof(copy[i]), "%s/copy%u.db", f->dir, i);
    store_backup(f->store, copy[i], on_backup, f);
  }
  store_close(f->store, on_closed, f);
  uv_sem_post(&held.leave);
  assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(f->closed, 1);
  assert_int_equal(f->backups, 2);
  assert_int_equal(f->backup_err, PF_ECANCEL);
  assert_int_equal(access(copy[0], F_OK), -1);
  uv_sem_destroy(&held.entered);
  uv_sem_destroy(&held.leave);
}

static void test_low_space_is_told(void **state) {
  struct fixture *f = *state;
  open_ok(f);
  assert_false(store_space_low(f->store));
  close_and_wait(f);
  f->config.reserve_bytes = INT64_MAX;
  open_ok(f);
  assert_true(store_space_low(f->store));
  close_and_wait(f);
}

/* -- checkpoints --------------------------------------------------------------------------------
 */

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
  for (unsigned i = 0; i < 3; i++) {
    struct put put;
    put_init(&put, f, i + 1);
    put.req.apply = fill_apply;
    store_submit(f->store, &put.req);
    wait_done(f, i + 1);
    store_read_stats(f->store, &stats);
    if (i < 2) assert_int_equal(stats.checkpoints, 0);
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
  f->config.sync = sync;
  f->done = 0;
  open_ok(f);
  for (unsigned i = 0; stats.checkpoints == 0 && i < PF_COUNT(f->order); i++) {
    struct put put;
    put_init(&put, f, i + 1);
    put.req.apply = rewrite_apply;
    store_submit(f->store, &put.req);
    wait_done(f, i + 1);
    store_read_stats(f->store, &stats);
    if (stats.wal_bytes > largest) largest = stats.wal_bytes;
  }
  assert_int_equal(stats.checkpoints, 1);
  assert_in_range(largest, max_bytes - 122 * 4120, max_bytes + 122 * 4120);
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

/* -- the log's file ----------------------------------------------------------------------------
 */

static int64_t log_bytes(const struct fixture *f) {
  char log[200];
  struct stat st;
  snprintf(log, sizeof(log), "%s-wal", f->path);
  return stat(log, &st) == 0 ? st.st_size : -1;
}

static void put_and_wait(struct fixture *f, uint64_t id) {
  struct put put;
  put_init(&put, f, id);
  store_submit(f->store, &put.req);
  wait_done(f, f->done + 1);
  assert_int_equal(put.result, PF_OK);
}

static void test_the_file_of_the_log_is_made_ready(void **state) {
  struct fixture *f = *state;
  struct store_stats stats = {0};
  open_ok(f);
  while (stats.wal_ready_bytes < STORE_WAL_READY_BYTES) {
    uv_run(&f->loop, UV_RUN_ONCE);
    store_read_stats(f->store, &stats);
  }
  assert_int_equal(log_bytes(f), STORE_WAL_READY_BYTES);
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

/* -- who commits -------------------------------------------------------------------------------
 */

struct who {
  struct put put;
  pthread_t thread;
  unsigned busy_us;
  bool reads_only;
};

static int who_apply(void *user, struct store_req *req) {
  struct who *who = pf_container_of(req, struct who, put.req);
  sqlite3_stmt *stmt = ((struct user *)user)->stmt[SQL_REPLACE];
  who->thread = pthread_self();
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

/* -- another connection holds the lock ----------------------------------------------------------
 */

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

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_requests_are_done_in_order_and_after_their_commit),
      TEST(test_what_queues_up_becomes_one_group),
      TEST(test_done_may_submit_again),
      TEST(test_a_savepoint_undoes_one_request_only),
      TEST(test_a_failing_request_breaks_the_store),
      TEST(test_a_commit_waits_for_a_foreign_lock),
      TEST(test_a_foreign_lock_that_stays_breaks_the_store),
      TEST(test_lazy_requests_go_with_the_next_group_or_in_time),
      TEST(test_close_finishes_what_waits_and_refuses_the_rest),
      TEST(test_reopen_sees_all_and_migrates),
      TEST(test_files_are_for_this_user_only),
      TEST(test_a_locked_directory_is_refused_with_the_pid),
      TEST(test_newer_and_foreign_files_are_refused_untouched),
      TEST(test_damage_is_found_and_named),
      TEST(test_unusable_paths_are_refused),
      TEST(test_a_backup_opens_and_matches),
      TEST(test_close_cancels_backups),
      TEST(test_low_space_is_told),
      TEST(test_many_dirty_pages_bring_a_checkpoint),
      TEST(test_the_log_has_a_greatest_size),
      TEST(test_a_long_reader_only_delays_the_checkpoint),
      TEST(test_an_idle_store_empties_its_log),
      TEST(test_the_file_of_the_log_is_made_ready),
      TEST(test_a_log_that_is_not_synced_or_finds_no_room_is_not_made_longer),
      TEST(test_quick_groups_are_committed_by_the_loop_and_slow_ones_by_the_thread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
