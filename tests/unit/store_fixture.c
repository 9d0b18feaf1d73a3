#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_fixture.h"

/* ---- a small database ---- */

static const char *const sql[SQL_MAX] = {
    [SQL_PUT] = "INSERT INTO entry(id, value) VALUES(?1, ?2)",
    [SQL_REPLACE] = "INSERT OR REPLACE INTO entry(id, value) VALUES(?1, ?2)",
    [SQL_COUNT] = "SELECT count(*) FROM entry",
};
static const char *const migrations[] = {
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, value BLOB)",
    "ALTER TABLE entry ADD COLUMN extra INTEGER",
};
const struct store_schema schema_1 = {
    .application_id = 0x50463031, .migrations = migrations, .version = 1, .damaged = "do this"};
const struct store_schema schema_2 = {
    .application_id = 0x50463031, .migrations = migrations, .version = 2, .damaged = "do that"};

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

static void on_broken(void *arg, const struct pf_error *why) {
  struct fixture *f = arg;
  f->broken++;
  f->why = *why;
}

/* ---- one store in a temporary directory ---- */

int setup(void **state) {
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

void open_ok(struct fixture *f) {
  struct pf_error why = {0};
  int err = store_open(&f->store, &f->loop, &f->config, &why);
  if (err != PF_OK) fail_msg("store_open: %s", why.text);
}

void on_closed(void *arg) {
  struct fixture *f = arg;
  f->closed++;
  f->store = NULL;
}

void close_and_wait(struct fixture *f) {
  unsigned closed = f->closed;
  store_close(f->store, on_closed, f);
  while (f->closed == closed)
    uv_run(&f->loop, UV_RUN_ONCE);
}

/* A failed assertion has left the store open. Requests that it still has were on the stack of the
 * test, which is gone: then nothing in this process can be trusted, and it ends. */
static void close_after_failure(struct fixture *f) {
  struct store_stats stats;
  store_read_stats(f->store, &stats);
  if (stats.waiting == 0) {
    close_and_wait(f);
    return;
  }
  print_error("the test that failed has left %u requests in the store: no test can run after it\n",
      (unsigned)stats.waiting);
  remove_dir(f->dir);
  fflush(NULL);
  _exit(1);
}

int teardown(void **state) {
  struct fixture *f = *state;
  if (f->store) close_after_failure(f);
  assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(uv_loop_close(&f->loop), 0);
  remove_dir(f->dir);
  free(f);
  return 0;
}

void wait_done(struct fixture *f, unsigned count) {
  while (f->done < count)
    uv_run(&f->loop, UV_RUN_ONCE);
}

/* ---- requests ---- */

int put_apply(void *arg, struct store_req *req) {
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

void put_init(struct put *put, struct fixture *f, uint64_t id) {
  *put = (struct put){.req = {.apply = put_apply, .done = put_done}, .f = f, .id = id, .result = 1};
}

int64_t rows_of(const char *path) {
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

void exec_on(const char *path, const char *text) {
  sqlite3 *db;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

mode_t mode_of(const char *path) {
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  return st.st_mode & 0777;
}

static int held_apply(void *arg, struct store_req *req) {
  struct held *held = pf_container_of(req, struct held, put.req);
  uv_sem_post(&held->entered);
  uv_sem_wait(&held->leave);
  return put_apply(arg, req);
}

void held_submit(struct held *held, struct fixture *f, uint64_t id) {
  put_init(&held->put, f, id);
  held->put.req.apply = held_apply;
  assert_int_equal(uv_sem_init(&held->entered, 0), 0);
  assert_int_equal(uv_sem_init(&held->leave, 0), 0);
  store_submit(f->store, &held->put.req);
  uv_run(&f->loop, UV_RUN_NOWAIT); /* the end of a turn */
  uv_sem_wait(&held->entered);
}

void put_and_wait(struct fixture *f, uint64_t id) {
  struct put put;
  put_init(&put, f, id);
  store_submit(f->store, &put.req);
  wait_done(f, f->done + 1);
  assert_int_equal(put.result, PF_OK);
}
