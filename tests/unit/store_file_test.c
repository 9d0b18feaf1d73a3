/* The file: what is refused, what is repaired, copies, and space. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_fixture.h"

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
  assert_non_null(strstr(why.text, "is damaged: do this: "));
  write_at(f->path, 0, 100);
  assert_refused(f, PF_ECORRUPT, "is damaged or no database: do this: ");
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

/* ---- backup and space ---- */

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

static int backup_result(struct fixture *f, const char *path) {
  unsigned before = f->backups;
  store_backup(f->store, path, on_backup, f);
  while (f->backups == before)
    uv_run(&f->loop, UV_RUN_ONCE);
  return f->backup_err;
}

static void test_backups_that_cannot_be_made(void **state) {
  struct fixture *f = *state;
  char copy[128], part[160], longest[600];
  snprintf(copy, sizeof(copy), "%s/copy.db", f->dir);
  snprintf(part, sizeof(part), "%s.part", copy);
  memset(longest, 'x', sizeof(longest) - 1);
  longest[sizeof(longest) - 1] = 0;
  open_ok(f);
  put_and_wait(f, 1);
  assert_int_equal(backup_result(f, longest), PF_EINVAL);
  assert_int_equal(backup_result(f, "/no/such/directory/copy.db"), PF_EIO);
  int fd = open(part, O_RDWR | O_CREAT, 0600); /* one that was broken off, or goes on */
  assert_true(fd >= 0);
  close(fd);
  assert_int_equal(backup_result(f, copy), PF_EEXIST);
  assert_int_equal(access(part, F_OK), 0); /* it is somebody else's */
  assert_int_equal(unlink(part), 0);
  assert_int_equal(backup_result(f, copy), PF_OK);
  assert_int_equal(unlink(copy), 0);

  struct put twice; /* breaks the store */
  put_init(&twice, f, 1);
  store_submit(f->store, &twice.req);
  wait_done(f, 2);
  assert_int_equal(f->broken, 1);
  assert_int_equal(backup_result(f, copy), PF_EIO);
  store_close(f->store, on_closed, f);
  store_backup(f->store, copy, on_backup, f); /* too late */
  assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(f->closed, 1);
  assert_int_equal(f->backup_err, PF_ECANCEL);
  assert_int_equal(access(copy, F_OK), -1);
  assert_int_equal(access(part, F_OK), -1);
}

/* The copy has its name only with the change in it: no crash can leave the one without the other.
 */
static void test_a_copy_is_changed_before_it_has_its_name(void **state) {
  struct fixture *f = *state;
  char copy[128], beside[160];
  struct pf_error why = {0};
  snprintf(copy, sizeof(copy), "%s/copy.db", f->dir);
  open_ok(f);
  put_and_wait(f, 1);
  put_and_wait(f, 2);
  close_and_wait(f);
  static const char *const broken[] = {
      "BEGIN; DELETE FROM entry WHERE id = 1; DELETE FROM nothing; COMMIT", "no SQL at all"};
  for (size_t i = 0; i < PF_COUNT(broken); i++) {
    assert_int_not_equal(store_copy_file(f->path, copy, &schema_1, broken[i], &why), PF_OK);
    assert_int_equal(access(copy, F_OK), -1);
    snprintf(beside, sizeof(beside), "%s.part", copy);
    assert_int_equal(access(beside, F_OK), -1);
  }
  const char *change = "DELETE FROM entry WHERE id = 1";
  assert_int_equal(store_copy_file(f->path, copy, &schema_1, change, &why), PF_OK);
  assert_int_equal(rows_of(copy), 1);
  assert_int_equal(rows_of(f->path), 2);
  static const char *const ends[] = {".part", ".part-wal", ".part-shm", ".part-journal"};
  for (size_t i = 0; i < PF_COUNT(ends); i++) {
    snprintf(beside, sizeof(beside), "%s%s", copy, ends[i]);
    assert_int_equal(access(beside, F_OK), -1);
  }
  f->config.path = copy;
  open_ok(f);
  close_and_wait(f);
}

/* It has begun, and has some way to go. */
static void test_close_cancels_a_backup_that_runs(void **state) {
  struct fixture *f = *state;
  char copy[128], part[160];
  snprintf(copy, sizeof(copy), "%s/copy.db", f->dir);
  snprintf(part, sizeof(part), "%s.part", copy);
  open_ok(f);
  struct held first, second;
  held_submit(&first, f, 1);
  store_backup(f->store, copy, on_backup, f);
  put_init(&second.put, f, 2);
  second.put.req.apply = first.put.req.apply;
  assert_int_equal(uv_sem_init(&second.entered, 0), 0);
  assert_int_equal(uv_sem_init(&second.leave, 0), 0);
  store_submit(f->store, &second.put.req);
  uv_run(&f->loop, UV_RUN_NOWAIT); /* the end of a turn */
  uv_sem_post(&first.leave);       /* between the two groups the backup gets its first step */
  uv_sem_wait(&second.entered);
  assert_int_equal(access(part, F_OK), 0);
  store_close(f->store, on_closed, f);
  uv_sem_post(&second.leave);
  assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(f->closed, 1);
  assert_int_equal(f->backups, 1);
  assert_int_equal(f->backup_err, PF_ECANCEL);
  assert_int_equal(access(copy, F_OK), -1);
  assert_int_equal(access(part, F_OK), -1);
  assert_int_equal(second.put.result, PF_OK);
  uv_sem_destroy(&first.entered);
  uv_sem_destroy(&first.leave);
  uv_sem_destroy(&second.entered);
  uv_sem_destroy(&second.leave);
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

int store_file_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_reopen_sees_all_and_migrates),
      TEST(test_files_are_for_this_user_only),
      TEST(test_a_locked_directory_is_refused_with_the_pid),
      TEST(test_newer_and_foreign_files_are_refused_untouched),
      TEST(test_damage_is_found_and_named),
      TEST(test_unusable_paths_are_refused),
      TEST(test_a_backup_opens_and_matches),
      TEST(test_backups_that_cannot_be_made),
      TEST(test_a_copy_is_changed_before_it_has_its_name),
      TEST(test_close_cancels_a_backup_that_runs),
      TEST(test_close_cancels_backups),
      TEST(test_low_space_is_told),
  };
  return cmocka_run_group_tests_name("store_file", tests, NULL, NULL);
}
