/* What a store has acknowledged survives power cuts, full disks, I/O errors and kill -9.
 *
 *   fault_store            each kind of failure, some dozens of random power cuts
 *   fault_store CUTS       that many random power cuts in each sync mode
 *
 * The workload is a chain: request i writes record i, deletes record i - KEPT and moves the counter
 * to i. So after a restart the database must be exactly the state after request n for one n, with
 * n >= what was acknowledged (in normal mode: n <= what was submitted). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rand.h"
#include "powercut_vfs.h"
#include "store/stmt.h"
#include "store/store.h"

enum {
  KEPT = 40,
  BATCHES = 8,
  BATCH_MAX = 6,
  BULK_ROWS = 300,
  VALUE_MAX = 5000,
  CUTS_DEFAULT = 60
};
static const char vfs_name[] = "powercut";

/* -- the database -------------------------------------------------------------------------------
 */

enum { SQL_PUT, SQL_DELETE, SQL_COUNTER, SQL_BULK, SQL_MAX };
static const char *const sql[SQL_MAX] = {
    [SQL_PUT] = "INSERT INTO record(id, value) VALUES(?1, ?2)",
    [SQL_DELETE] = "DELETE FROM record WHERE id = ?1",
    [SQL_COUNTER] = "UPDATE counter SET last = ?1 WHERE last = ?1 - 1",
    [SQL_BULK] = "UPDATE bulk SET value = ?1",
};
/* Enough pages for a checkpoint under load. */
static const char *const migrations[] = {
    "CREATE TABLE record(id INTEGER PRIMARY KEY, value BLOB);"
    "CREATE TABLE counter(last INTEGER);"
    "INSERT INTO counter VALUES(0);"
    "CREATE TABLE bulk(value INTEGER, filler BLOB);",
};
static const struct store_schema schema = {
    .application_id = 0x50464654, .migrations = migrations, .version = 1, .damaged = "remove it"};

static int db_prepare(sqlite3 *db, void *arg, void **ret_user, struct pf_error *reterr) {
  (void)arg;
  sqlite3_stmt **stmt = pf_alloc(SQL_MAX * sizeof(*stmt));
  int err = store_stmts_prepare(db, stmt, sql, SQL_MAX, reterr);
  if (err != PF_OK)
    free(stmt);
  else
    *ret_user = stmt;
  return err;
}

static void db_finish(void *user) {
  store_stmts_finalize(user, SQL_MAX);
  free(user);
}

/* The bytes of record id: their length and content follow from it. */
static struct pf_slice value_of(uint64_t id, char bytes[VALUE_MAX]) {
  struct pf_rand rand = {.state = id};
  size_t len = (size_t)pf_rand_below(&rand, id % 5 ? 300 : VALUE_MAX);
  memset(bytes, (int)(id % 251), len);
  return pf_slice(bytes, len);
}

/* -- one run ------------------------------------------------------------------------------------
 */

struct run {
  char dir[64], path[128];
  uv_loop_t loop;
  struct store *store;
  struct powercut *pc;
  enum store_sync sync;
  struct pf_rand rand;
  uint64_t last, submitted; /* in the database as far as known; given to the store */
  uint64_t acked;
  unsigned pending, broken, failed;
  int broken_code; /* PF_EIO or PF_ENOSPC */
  bool closed;
};

struct chain {
  struct store_req req;
  struct run *run;
  uint64_t id;
};

static int chain_apply(void *user, struct store_req *req) {
  sqlite3_stmt **stmt = user;
  const struct chain *chain = pf_container_of(req, struct chain, req);
  char bytes[VALUE_MAX];
  store_bind_u64(stmt[SQL_PUT], 1, chain->id);
  store_bind_blob(stmt[SQL_PUT], 2, value_of(chain->id, bytes));
  int err = store_run(stmt[SQL_PUT]);
  store_bind_i64(stmt[SQL_DELETE], 1, (int64_t)chain->id - KEPT);
  if (err == PF_OK) err = store_run(stmt[SQL_DELETE]);
  store_bind_u64(stmt[SQL_COUNTER], 1, chain->id);
  if (err == PF_OK) err = store_run(stmt[SQL_COUNTER]);
  if (err != PF_OK || chain->id % 16 != 0) return err;
  store_bind_u64(stmt[SQL_BULK], 1, chain->id);
  return store_run(stmt[SQL_BULK]);
}

static void chain_done(struct store_req *req, int err) {
  struct chain *chain = pf_container_of(req, struct chain, req);
  struct run *run = chain->run;
  run->pending--;
  if (err == PF_OK) {
    assert_int_equal(chain->id, run->acked + 1); /* in order, and none after a failed one */
    assert_int_equal(run->failed, 0);
    run->acked = chain->id;
  } else {
    assert_int_equal(err, PF_EIO);
    run->failed++;
  }
  free(chain);
}

static void run_on_broken(void *arg, const struct pf_error *why) {
  struct run *run = arg;
  run->broken++;
  run->broken_code = why->code;
  assert_true(why->code == PF_EIO || why->code == PF_ENOSPC);
  assert_true(strlen(why->text) > 10);
}

static void run_on_closed(void *arg) {
  struct run *run = arg;
  run->closed = true;
}

static void run_submit(struct run *run) {
  struct chain *chain = pf_alloc(sizeof(*chain));
  *chain = (struct chain){
      .req = {.apply = chain_apply, .done = chain_done}, .run = run, .id = ++run->submitted};
  run->pending++;
  store_submit(run->store, &chain->req);
}

static int run_open(struct run *run, struct pf_error *reterr) {
  struct store_config config = {.path = run->path,
      .sync = run->sync,
      .schema = &schema,
      .vfs = vfs_name,
      .prepare = db_prepare,
      .finish = db_finish,
      .on_broken = run_on_broken,
      .arg = run};
  run->acked = run->submitted = run->last;
  run->broken = run->failed = 0;
  run->closed = false;
  return store_open(&run->store, &run->loop, &config, reterr);
}

static void run_batch(struct run *run) {
  uint64_t batch = 1 + pf_rand_below(&run->rand, BATCH_MAX);
  for (uint64_t i = 0; i < batch; i++)
    run_submit(run);
  while (run->pending > 0)
    uv_run(&run->loop, UV_RUN_ONCE);
}

/* Opens, submits some batches, closes. Returns what the open said. */
static int run_life(struct run *run, unsigned batches, struct pf_error *reterr) {
  int err = run_open(run, reterr);
  if (err != PF_OK) return err;
  for (unsigned i = 0; i < batches && !run->broken; i++)
    run_batch(run);
  store_close(run->store, run_on_closed, run);
  while (!run->closed)
    uv_run(&run->loop, UV_RUN_ONCE);
  return PF_OK;
}

static void run_begin(struct run *run, enum store_sync sync, uint64_t seed) {
  *run = (struct run){.sync = sync, .rand = {.state = seed}};
  snprintf(run->dir, sizeof(run->dir), "/tmp/pf_fault.XXXXXX");
  assert_non_null(mkdtemp(run->dir));
  snprintf(run->path, sizeof(run->path), "%s/test.db", run->dir);
  assert_int_equal(uv_loop_init(&run->loop), 0);
  run->pc = powercut_new(vfs_name, seed);
}

static void run_end(struct run *run) {
  uv_run(&run->loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&run->loop), 0);
  powercut_free(run->pc);
  char path[400];
  DIR *dir = opendir(run->dir);
  assert_non_null(dir);
  for (struct dirent *e; (e = readdir(dir)) != NULL;) {
    snprintf(path, sizeof(path), "%s/%s", run->dir, e->d_name);
    if (e->d_name[0] != '.') assert_int_equal(unlink(path), 0);
  }
  closedir(dir);
  assert_int_equal(rmdir(run->dir), 0);
}

/* -- what must hold after a restart -------------------------------------------------------------
 */

static int64_t db_number(sqlite3 *db, const char *query) {
  sqlite3_stmt *stmt;
  assert_int_equal(sqlite3_prepare_v2(db, query, -1, &stmt, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
  int64_t value = sqlite3_column_int64(stmt, 0);
  sqlite3_finalize(stmt);
  return value;
}

/* The database is exactly the state after request `last`. */
static void check_state(sqlite3 *db, uint64_t last) {
  char bytes[VALUE_MAX];
  sqlite3_stmt *stmt;
  uint64_t id = last > KEPT ? last - KEPT : 0;
  assert_int_equal(
      sqlite3_prepare_v2(db, "SELECT id, value FROM record ORDER BY id", -1, &stmt, NULL),
      SQLITE_OK);
  while (store_step(stmt) == STORE_ROW) {
    assert_int_equal(store_column_u64(stmt, 0), ++id);
    assert_true(pf_slice_eq(store_column_slice(stmt, 1), value_of(id, bytes)));
  }
  sqlite3_finalize(stmt);
  assert_int_equal(id, last);
  assert_int_equal(
      db_number(db, "SELECT count(*) FROM bulk, counter WHERE value <> last - last % 16"), 0);
}

/* Reads what a new start would find. A file without a schema is one whose first start was cut. */
static void check_restart(struct run *run, bool may_lose) {
  struct pf_error why;
  if (store_check_file(run->path, &schema, &why) != PF_OK) fail_msg("%s", why.text);
  sqlite3 *db;
  assert_int_equal(sqlite3_open_v2(run->path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
  uint64_t last = 0;
  if (db_number(db, "SELECT count(*) FROM sqlite_master") > 0) {
    last = (uint64_t)db_number(db, "SELECT last FROM counter");
    check_state(db, last);
  }
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
  if (!may_lose && last < run->acked)
    fail_msg(
        "acknowledged %llu, found %llu", (unsigned long long)run->acked, (unsigned long long)last);
  assert_true(last <= run->submitted);
  run->last = last;
}

/* -- power cuts ---------------------------------------------------------------------------------
 */

static void bulk_fill(struct run *run) {
  struct pf_error why;
  assert_int_equal(run_life(run, 0, &why), PF_OK);
  sqlite3 *db;
  assert_int_equal(sqlite3_open(run->path, &db), SQLITE_OK);
  char text[200];
  snprintf(text, sizeof(text),
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
      "INSERT INTO bulk SELECT 0, zeroblob(3500) FROM n",
      BULK_ROWS);
  assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
  powercut_restore(run->pc, false);
}

/* Three lives on one disk, each cut at a random operation. Returns how many really were. */
static unsigned cut_run(enum store_sync sync, uint64_t seed) {
  struct run run;
  struct pf_error why;
  unsigned cuts = 0;
  run_begin(&run, sync, seed);
  bool bulk = seed % 8 == 0;
  if (bulk) bulk_fill(&run);
  for (unsigned life = 0; life < 3; life++) {
    bool syncs = pf_rand_below(&run.rand, 2) == 0;
    bool full = sync == STORE_SYNC_FULL; /* where operations also make the log longer */
    uint64_t range = syncs ? (full ? 20 : 12) : bulk ? 1500 : full ? 500 : 300;
    powercut_arm(run.pc, POWERCUT_CUT, 1 + pf_rand_below(&run.rand, range), syncs);
    int err = run_life(&run, BATCHES, &why);
    bool cut = powercut_fired(run.pc);
    if (err != PF_OK && !cut) fail_msg("seed %llu: %s", (unsigned long long)seed, why.text);
    cuts += cut;
    powercut_restore(run.pc, false);
    check_restart(&run, cut && sync == STORE_SYNC_NORMAL);
    powercut_restore(run.pc, false); /* the check has read and copied the log past the model */
  }
  run_end(&run);
  return cuts;
}

static void cut_many(enum store_sync sync, unsigned wanted) {
  unsigned cuts = 0;
  for (uint64_t seed = 1; cuts < wanted; seed++) {
    assert_true(seed <= wanted); /* most lives must be cut, or the ranges above are wrong */
    cuts += cut_run(sync, seed);
  }
}

static void test_a_power_cut_in_full_mode_loses_nothing_acknowledged(void **state) {
  cut_many(STORE_SYNC_FULL, *(unsigned *)*state);
}

static void test_a_power_cut_in_normal_mode_leaves_a_prefix(void **state) {
  cut_many(STORE_SYNC_NORMAL, *(unsigned *)*state);
}

/* -- failing operations -------------------------------------------------------------------------
 */

/* Fails the n-th operation for n = 1, 2, ... until a run needs no more. */
static void fail_each(enum powercut_kind kind, bool syncs) {
  bool disk_full = kind == POWERCUT_FULL || kind == POWERCUT_FULL_ONCE;
  unsigned told_full = 0;
  for (uint64_t n = 1;; n++) {
    struct run run;
    struct pf_error why = {0};
    run_begin(&run, STORE_SYNC_FULL, n);
    powercut_arm(run.pc, kind, n, syncs);
    int err = run_life(&run, 3, &why);
    bool fired = powercut_fired(run.pc);
    if (err != PF_OK) {
      assert_true(fired);
      assert_int_equal(why.code, err);
    } else {
      /* Either the store broke, perhaps while nobody waited for it, or the failure was in what can
       * be done later. */
      if (run.failed > 0) assert_int_equal(run.broken, 1);
      if (run.broken == 0) assert_int_equal(run.acked, run.submitted);
      if (run.broken) told_full += run.broken_code == PF_ENOSPC;
    }
    powercut_restore(run.pc, n % 2 == 0); /* every other time the power fails as well */
    check_restart(&run, false);
    powercut_restore(run.pc, false);
    assert_int_equal(run_life(&run, 1, &why), PF_OK); /* and it goes on */
    assert_true(run.acked > run.last && run.broken == 0);
    run_end(&run);
    if (!fired) break;
    assert_true(n < 1000);
  }
  assert_int_equal(told_full > 0, disk_full);
}

static void test_each_write_may_find_the_disk_full(void **state) {
  (void)state;
  fail_each(POWERCUT_FULL_ONCE, false);
  fail_each(POWERCUT_FULL, false);
}

static void test_each_operation_may_fail(void **state) {
  (void)state;
  fail_each(POWERCUT_EIO_ONCE, false);
  fail_each(POWERCUT_EIO, false);
}

static void test_each_sync_may_fail(void **state) {
  (void)state;
  fail_each(POWERCUT_EIO_ONCE, true);
}

/* A checkpoint under load that finds the disk full keeps the log and goes on. */
static void test_a_checkpoint_may_find_the_disk_full(void **state) {
  (void)state;
  for (unsigned n = 1; n < 1500; n += 97) {
    struct run run;
    struct pf_error why;
    run_begin(&run, STORE_SYNC_FULL, n);
    bulk_fill(&run);
    powercut_arm(run.pc, POWERCUT_FULL_ONCE, n, false);
    assert_int_equal(run_life(&run, BATCHES, &why), PF_OK);
    assert_int_equal(run.broken, run.failed > 0);
    powercut_restore(run.pc, true);
    check_restart(&run, false);
    run_end(&run);
  }
}

/* -- kill -9 ------------------------------------------------------------------------------------
 */

#ifdef PF_FAULTS

/* The child's whole life, until the crash point: it reports each acknowledgement on stdout. */
__attribute__((noreturn)) static void child_main(const char *path, const char *mode) {
  struct run run = {.sync = strcmp(mode, "full") == 0 ? STORE_SYNC_FULL : STORE_SYNC_NORMAL};
  struct pf_error why;
  snprintf(run.path, sizeof(run.path), "%s", path);
  assert_int_equal(uv_loop_init(&run.loop), 0);
  run.pc = powercut_new(vfs_name, 1);
  assert_int_equal(run_open(&run, &why), PF_OK);
  for (;;) {
    run_batch(&run);
    assert_int_equal(write(STDOUT_FILENO, &run.acked, sizeof(run.acked)), sizeof(run.acked));
  }
}

static void crash_at(const char *self, const char *plan, const char *mode) {
  struct run run;
  run_begin(&run, STORE_SYNC_FULL, 1);
  bulk_fill(&run);
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    setenv("PF_CRASH", plan, 1);
    execl(self, self, "child", run.path, mode, (char *)NULL);
    _exit(99);
  }
  close(ends[1]);
  while (read(ends[0], &run.acked, sizeof(run.acked)) == sizeof(run.acked))
    ;
  close(ends[0]);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 137); /* it was reached */
  run.submitted = run.acked + BATCH_MAX;
  check_restart(&run, false);
  run_end(&run);
}

static void test_a_crash_loses_nothing_acknowledged_in_either_mode(void **state) {
  static const char *const labels[] = {"store.before_commit", "store.after_commit",
      "store.before_checkpoint", "store.after_checkpoint"};
  char self[512], plan[80];
  (void)state;
  ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
  assert_true(len > 0);
  self[len] = '\0';
  for (unsigned i = 0; i < PF_COUNT(labels); i++)
    for (unsigned hit = 1; hit <= 4; hit++) {
      snprintf(plan, sizeof(plan), "%s:%u", labels[i], hit);
      crash_at(self, plan, hit % 2 ? "full" : "normal");
    }
}

#endif

int main(int argc, char **argv) {
#ifdef PF_FAULTS
  if (argc == 4 && strcmp(argv[1], "child") == 0) child_main(argv[2], argv[3]);
#endif
  unsigned cuts = argc == 2 ? (unsigned)strtoul(argv[1], NULL, 10) : CUTS_DEFAULT;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_prestate(test_a_power_cut_in_full_mode_loses_nothing_acknowledged, &cuts),
      cmocka_unit_test_prestate(test_a_power_cut_in_normal_mode_leaves_a_prefix, &cuts),
      cmocka_unit_test(test_each_write_may_find_the_disk_full),
      cmocka_unit_test(test_each_operation_may_fail),
      cmocka_unit_test(test_each_sync_may_fail),
      cmocka_unit_test(test_a_checkpoint_may_find_the_disk_full),
#ifdef PF_FAULTS
      cmocka_unit_test(test_a_crash_loses_nothing_acknowledged_in_either_mode),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
