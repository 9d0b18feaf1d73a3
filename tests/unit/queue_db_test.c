/* The queue's rows in a real file: what one start wrote, the next one finds. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>
#include <unistd.h>

#include "base/clock.h"
#include "orchestrator/queue_db.h"
#include "queue_world.h"

struct file {
  uv_loop_t loop;
  char dir[64];
  const char *boot_id;
  enum store_sync sync;
  struct queue_db *db;
  struct queue_db_start start;
  struct queue *queue;
  size_t rows;
  unsigned held, loaded, durable;
  int held_err, loaded_err; /* expected of the next start */
  struct queue_blob *blob;
};

static void on_started(void *arg, const struct queue_db_start *start) {
  struct file *f = arg;
  assert_non_null(start);
  f->start = *start;
}

static void on_held(void *arg, int err) {
  struct file *f = arg;
  assert_int_equal(err, f->held_err);
  assert_int_equal(f->loaded, 0);
  f->held++;
}

static void on_loaded(void *arg, int err, size_t rows) {
  struct file *f = arg;
  assert_int_equal(err, f->loaded_err);
  f->rows = rows;
  f->loaded++;
}

static void on_durable(void *arg, void *tag) {
  struct file *f = arg;
  assert_int_equal((uintptr_t)tag, 7);
  f->durable++;
}

static void on_closed(void *arg) {
  struct file *f = arg;
  f->db = NULL;
}

static void on_read(void *arg, void *tag, struct queue_blob *blob) {
  struct file *f = arg;
  (void)tag;
  f->blob = blob;
}

static void file_open(struct file *f) {
  struct pf_error why = {0};
  struct queue_db_config config = {.dir = f->dir, .sync = f->sync, .boot_id = f->boot_id};
  assert_int_equal(queue_db_open(&f->db, &f->loop, &config, &why), PF_OK);
  memset(&f->start, 0, sizeof(f->start));
  queue_db_begin(f->db, on_started, f);
  while (f->start.epoch == 0)
    uv_run(&f->loop, UV_RUN_ONCE);
  struct queue_config queue = {.epoch = f->start.epoch,
      .fence_next = f->start.fence_next,
      .seed = 1,
      .lease_ms = 3000,
      .undelivered_keep_ms = 604800000,
      .retry = {500, 60000, 300000},
      .jobs_max = 1000000,
      .request_bytes_max = 1 << 28};
  f->queue = queue_new(&queue);
  f->held = f->loaded = 0;
  struct queue_db_load_callbacks callbacks = {on_held, on_loaded, f};
  queue_db_load(f->db, f->queue, &callbacks);
  while (!f->loaded)
    uv_run(&f->loop, UV_RUN_ONCE);
  assert_int_equal(f->held, 1);
  queue_check(f->queue);
}

static void file_close(struct file *f) {
  queue_db_close(f->db, on_closed, f);
  while (f->db)
    uv_run(&f->loop, UV_RUN_ONCE);
  queue_free(f->queue);
  f->queue = NULL;
}

static int64_t now_us(void) {
  return pf_clock_mono_ns() / 1000;
}

/* Ends the turn and waits until its rows are durable. */
static void file_turn(struct file *f) {
  struct queue_group group;
  queue_settle(f->queue, now_us());
  f->durable = 0;
  if (!queue_take_group(f->queue, &group)) return;
  queue_db_write(f->db, &group, on_durable, f, (void *)7);
  while (!f->durable)
    uv_run(&f->loop, UV_RUN_ONCE);
}

static void file_put(struct file *f, const struct hop_job *job, struct pf_slice request) {
  struct pf_buf head;
  pf_buf_init(&head, 4096);
  hop_job_encode(&head, job);
  struct hop_job_reply reply =
      queue_put(f->queue, job, pf_buf_view(&head), request, false, now_us());
  assert_int_equal(reply.answer, HOP_JOB_QUEUED);
  pf_buf_done(&head);
}

static void file_beat_as(struct file *f, uint64_t incarnation) {
  struct hop_heartbeat beat = {.executor = 1, .incarnation = incarnation, .slots = 10, .free = 10};
  struct pf_buf aborts;
  pf_buf_init(&aborts, 1024);
  assert_int_equal(
      queue_heartbeat(f->queue, &beat, (struct pf_slice){0}, now_us(), &aborts), PF_OK);
  pf_buf_done(&aborts);
}

static void file_beat(struct file *f) {
  file_beat_as(f, 0xf000000000000011u);
}

static int setup(void **state) {
  struct file *f = pf_alloc(sizeof(*f));
  snprintf(f->dir, sizeof(f->dir), "/tmp/pf-queue-db-XXXXXX");
  assert_non_null(mkdtemp(f->dir));
  f->boot_id = "boot-1";
  f->sync = STORE_SYNC_NORMAL;
  assert_int_equal(uv_loop_init(&f->loop), 0);
  file_open(f);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  struct file *f = *state;
  static const char *const names[] = {"queue.db", "queue.db-wal", "queue.db-shm", "lock"};
  if (f->queue) file_close(f);
  assert_int_equal(uv_loop_close(&f->loop), 0);
  for (size_t i = 0; i < PF_COUNT(names); i++) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
    (void)unlink(path);
  }
  assert_int_equal(rmdir(f->dir), 0);
  free(f);
  return 0;
}

static void test_rows_come_back(void **state) {
  struct file *f = *state;
  struct hop_job job = world_job(1), back = world_job(2);
  file_beat(f);
  file_put(f, &job, pf_slice_str("one")); /* leased */
  file_turn(f);
  enum job_state job_state;
  int attempt;
  struct pf_fence fence, again;
  assert_true(queue_find(f->queue, job.job, &job_state, &attempt, &fence));
  back.retry.attempts = 3;
  file_put(f, &back, pf_slice_str(""));
  file_turn(f);
  file_close(f);
  file_open(f);
  assert_int_equal(f->rows, 2);
  assert_true(queue_find(f->queue, job.job, &job_state, &attempt, &again));
  assert_int_equal(job_state, JOB_LEASED);
  assert_int_equal(attempt, 1);
  assert_true(pf_fence_eq(fence, again));
}

static size_t undelivered;

static void note_detail(const struct queue_undelivered_info *info, void *arg) {
  undelivered++;
  snprintf(arg, HOP_DETAIL_MAX, "%s", info->detail ? info->detail : "");
}

static void file_exec(struct file *f, const char *text) {
  char path[128];
  sqlite3 *db;
  snprintf(path, sizeof(path), "%s/queue.db", f->dir);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Of a damaged file: the start says so, and writes nothing that would hide it. */
static void test_rows_that_cannot_be_read_stop_the_start(void **state) {
  struct file *f = *state;
  struct hop_job job = world_job(1);
  file_put(f, &job, pf_slice_str("one"));
  file_turn(f);
  file_beat(f);
  file_turn(f);
  file_close(f);
  static const struct {
    const char *damage, *repair;
    bool held; /* it is among what is read first */
  } cases[] = {
      {"UPDATE jobs SET head = x'7b' || head", "UPDATE jobs SET head = substr(head, 2)", true},
      {"UPDATE jobs SET state = 9", "UPDATE jobs SET state = 1", true},
      {"UPDATE jobs SET outcome = 999", "UPDATE jobs SET outcome = 0", true},
      {"UPDATE jobs SET state = 0, head = x'7b' || head",
          "UPDATE jobs SET state = 1, head = substr(head, 2)", false},
      {"INSERT INTO tombs VALUES(7, 1, x'00')", "DELETE FROM tombs", true},
  };
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    file_exec(f, cases[i].damage);
    f->held_err = cases[i].held ? PF_ECORRUPT : PF_OK;
    f->loaded_err = PF_ECORRUPT;
    file_open(f);
    file_close(f);
    file_exec(f, cases[i].repair);
    f->held_err = f->loaded_err = PF_OK;
    file_open(f);
    assert_int_equal(f->rows, 1);
    file_close(f);
  }
  file_open(f);
}

static void test_what_was_not_delivered_comes_back(void **state) {
  struct file *f = *state;
  struct hop_job job = world_job(1);
  struct hop_complete item = {.job = job.job,
      .how = HOP_COMPLETE_UNDELIVERED,
      .outcome = OUTCOME_UNDELIVERED,
      .certainty = CERTAINTY_ANSWERED};
  char detail[HOP_DETAIL_MAX];
  enum job_state job_state;
  int attempt;
  memset(item.detail, 'd', sizeof(item.detail) - 1);
  file_beat(f);
  file_put(f, &job, pf_slice_str("one"));
  file_turn(f);
  assert_true(queue_find(f->queue, job.job, &job_state, &attempt, &item.fence));
  queue_complete(f->queue, &item, now_us());
  file_turn(f);
  file_close(f);
  file_open(f);
  assert_true(queue_find(f->queue, job.job, &job_state, &attempt, &item.fence));
  assert_int_equal(job_state, JOB_EXHAUSTED);
  undelivered = 0;
  queue_each_undelivered(f->queue, now_us(), 10, note_detail, detail);
  assert_int_equal(undelivered, 1);
  assert_string_equal(detail, item.detail);
}

static void sql_run(const struct file *f, const char *sql) {
  char path[128];
  sqlite3 *db;
  snprintf(path, sizeof(path), "%s/queue.db", f->dir);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Puts a job whose only attempt fails: what it ended with waits for its origin. */
static void file_put_exhausted(struct file *f, struct hop_job *job) {
  struct hop_complete item = {.job = job->job,
      .how = HOP_COMPLETE_RETRY,
      .outcome = OUTCOME_RESET,
      .certainty = CERTAINTY_SENT_UNKNOWN};
  enum job_state job_state;
  int attempt;
  job->retry.attempts = 1;
  file_beat(f);
  file_put(f, job, pf_slice_str("it"));
  file_turn(f);
  assert_true(queue_find(f->queue, job->job, &job_state, &attempt, &item.fence));
  queue_complete(f->queue, &item, now_us());
}

static void test_a_file_of_the_first_version_is_taken_over(void **state) {
  struct file *f = *state;
  struct hop_job ready = world_job(1), ended = world_job(2);
  struct pf_fence fence;
  enum job_state job_state;
  int attempt;
  file_put_exhausted(f, &ended);
  queue_stop_leasing(f->queue);
  file_put(f, &ready, pf_slice_str("one"));
  file_turn(f);
  file_close(f);
  sql_run(f, "ALTER TABLE jobs DROP COLUMN detail; ALTER TABLE origins DROP COLUMN silent_us;"
             " PRAGMA user_version = 1");
  file_open(f);
  assert_int_equal(f->rows, 2);
  assert_true(queue_find(f->queue, ready.job, &job_state, &attempt, &fence));
  assert_int_equal(job_state, JOB_READY);
  assert_true(queue_find(f->queue, ended.job, &job_state, &attempt, &fence));
  assert_int_equal(job_state, JOB_EXHAUSTED);
}

static void note_silence(const struct queue_origin_info *info, void *arg) {
  *(int64_t *)arg = info->silent_us;
}

static void test_the_silence_of_an_origin_comes_back(void **state) {
  static const int64_t day_us = (int64_t)86400 * 1000000;
  struct file *f = *state;
  struct hop_job job = world_job(1);
  file_put_exhausted(f, &job);
  struct queue_action action;
  bool asked = false;
  while (queue_take_action(f->queue, &action)) {
    if (action.kind != QUEUE_DELIVER) continue;
    queue_on_delivery(f->queue, &action, QUEUE_NO_ANSWER, now_us() + day_us);
    asked = true;
  }
  assert_true(asked);
  file_turn(f);
  file_close(f);
  file_open(f);
  int64_t silent_us = 0;
  queue_each_origin(f->queue, now_us(), note_silence, &silent_us);
  assert_true(silent_us >= day_us);
}

static void test_done_and_low_come_back(void **state) {
  struct file *f = *state;
  struct hop_job job = world_job(UINT64_C(0x8000000000000401)), early = world_job(3);
  file_put(f, &job, pf_slice_str("one"));
  file_turn(f);
  struct hop_complete item = {.job = job.job};
  queue_complete(f->queue, &item, now_us());
  struct hop_jobs_head head = {.origin = WORLD_ORIGIN, .low = 5};
  assert_int_equal(queue_origin_seen(f->queue, &head, now_us()), PF_OK);
  file_turn(f);
  file_close(f);
  file_open(f);
  assert_int_equal(f->rows, 0);
  struct pf_slice none = {0};
  assert_int_equal(queue_put(f->queue, &job, none, none, false, now_us()).answer, HOP_JOB_DONE);
  /* low within the first page was not worth a write */
  assert_int_equal(queue_put(f->queue, &early, none, none, false, now_us()).answer, HOP_JOB_QUEUED);
}

static void test_a_request_is_read_again(void **state) {
  struct file *f = *state;
  struct hop_job job = world_job(1);
  char *large = pf_alloc(200000);
  memset(large, 'x', 200000);
  file_put(f, &job, pf_slice(large, 200000));
  file_turn(f);
  file_close(f);
  file_open(f); /* too large to be loaded with the row */
  file_beat(f);
  file_turn(f);
  struct queue_action action;
  struct hop_execute item;
  struct queue_blob *blob;
  int64_t qid;
  assert_true(queue_take_action(f->queue, &action));
  assert_true(queue_view_execute(f->queue, &action, now_us(), &item, &blob, &qid));
  assert_null(blob);
  queue_db_read(f->db, qid, on_read, f, NULL);
  while (!f->blob)
    uv_run(&f->loop, UV_RUN_ONCE);
  assert_true(pf_slice_eq(queue_blob_request(f->blob), pf_slice(large, 200000)));
  queue_blob_unref(f->blob);
  free(large);
}

static void test_many_rows_come_in_steps(void **state) {
  struct file *f = *state;
  enum { JOBS = 2 * QUEUE_DB_CHUNK + 1 };
  for (uint64_t i = 1; i <= JOBS; i++) {
    struct hop_job job = world_job(i);
    file_put(f, &job, pf_slice_str("request"));
  }
  file_turn(f);
  file_close(f);
  file_open(f);
  assert_int_equal(f->rows, JOBS);
  struct queue_stats stats;
  queue_read_stats(f->queue, now_us(), &stats);
  assert_int_equal(stats.jobs, JOBS);
  assert_int_equal(stats.by_state[JOB_READY], JOBS);
}

static void test_fences_never_return(void **state) {
  struct file *f = *state;
  uint64_t first = f->start.fence_next;
  struct hop_job job = world_job(1);
  file_beat(f);
  file_put(f, &job, pf_slice_str("one"));
  file_turn(f);
  file_close(f);
  file_open(f);
  assert_true(f->start.fence_next >= first + QUEUE_FENCE_BLOCK);
}

static void test_epoch_is_renewed_only_when_commits_may_be_lost(void **state) {
  struct file *f = *state;
  uint64_t epoch = f->start.epoch;
  file_close(f);
  file_open(f);
  assert_int_equal(f->start.epoch, epoch); /* a mere restart */
  file_close(f);
  f->boot_id = "boot-2";
  f->sync = STORE_SYNC_FULL; /* the mode before the reboot counts */
  file_open(f);
  assert_true(f->start.epoch_renewed);
  assert_int_not_equal(f->start.epoch, epoch);
  epoch = f->start.epoch;
  file_close(f);
  f->boot_id = "boot-3";
  file_open(f);
  assert_false(f->start.epoch_renewed);
  assert_int_equal(f->start.epoch, epoch); /* full survives it */
}

/* Takes the executor down that has the job; the origin still waits for it. */
static void file_lose(struct file *f, uint64_t next_incarnation) {
  struct queue_action action;
  file_beat_as(f, next_incarnation);
  bool asked = false;
  while (queue_take_action(f->queue, &action)) {
    if (action.kind != QUEUE_ASK) continue;
    queue_on_status(f->queue, &action, HOP_STATUS_PENDING, now_us());
    asked = true;
  }
  assert_true(asked);
}

/* A job that takes executors down does not get a new budget by taking the queue down, too. */
static void test_lost_executors_come_back(void **state) {
  struct file *f = *state;
  struct hop_job job = world_job(1);
  enum job_state job_state;
  int attempt;
  struct pf_fence fence;
  uint64_t incarnation = 0x20;
  file_put(f, &job, pf_slice_str("one"));
  for (int lost = 1; lost <= QUEUE_LOST_MAX; lost++) {
    file_beat_as(f, incarnation);
    for (;;) { /* a retry waits for a moment */
      file_turn(f);
      assert_true(queue_find(f->queue, job.job, &job_state, &attempt, &fence));
      if (job_state == JOB_LEASED) break;
    }
    file_lose(f, ++incarnation);
    file_turn(f);
    file_close(f);
    file_open(f);
  }
  assert_true(queue_find(f->queue, job.job, &job_state, &attempt, &fence));
  assert_int_equal(job_state, JOB_EXHAUSTED);
  struct queue_action action;
  struct hop_result result;
  while (queue_take_action(f->queue, &action) && action.kind != QUEUE_DELIVER)
    continue;
  assert_true(queue_view_result(f->queue, &action, &result));
  assert_int_equal(result.outcome, OUTCOME_POISON);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_rows_come_back),
      TEST(test_rows_that_cannot_be_read_stop_the_start),
      TEST(test_what_was_not_delivered_comes_back),
      TEST(test_a_file_of_the_first_version_is_taken_over),
      TEST(test_the_silence_of_an_origin_comes_back),
      TEST(test_done_and_low_come_back),
      TEST(test_a_request_is_read_again),
      TEST(test_many_rows_come_in_steps),
      TEST(test_fences_never_return),
      TEST(test_lost_executors_come_back),
      TEST(test_epoch_is_renewed_only_when_commits_may_be_lost),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
