#include "store/writer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "store/stmt.h"

#define NS_PER_MS INT64_C(1000000)

enum writer_sql { SQL_BEGIN, SQL_COMMIT, SQL_ROLLBACK, SQL_MARK, SQL_KEEP, SQL_UNDO, SQL_MAX };

_Static_assert(SQL_MAX == PF_COUNT(((struct store_writer *)0)->sql), "one statement each");

static const char *const writer_sql[SQL_MAX] = {
    /* Deferred: a group that only reads takes no write lock and costs no fsync. */
    [SQL_BEGIN] = "BEGIN",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_MARK] = "SAVEPOINT request",
    [SQL_KEEP] = "RELEASE request",
    [SQL_UNDO] = "ROLLBACK TO request",
};

static void writer_measure_space(struct store *store) {
  struct store_writer *w = &store->writer;
  int64_t free_bytes = store_file_free_bytes(&w->file);
  int64_t spare_bytes = free_bytes - store->config.reserve_bytes;
  w->space_low = free_bytes >= 0 && spare_bytes < 0;
  w->log_room = spare_bytes >= STORE_WAL_READY_BYTES;
}

int store_writer_init(struct store *store, struct pf_error *reterr) {
  struct store_writer *w = &store->writer;
  int err = store_file_open(&w->file, &store->config, reterr);
  if (err != PF_OK) return err;
  store_wal_init(&w->wal, w->file.db, store->config.sync);
  err = store_stmts_prepare(w->file.db, w->sql, writer_sql, SQL_MAX, reterr);
  if (err == PF_OK && store->config.prepare) {
    err = store->config.prepare(w->file.db, store->config.arg, &w->user, reterr);
    if (err != PF_OK) store_stmts_finalize(w->sql, SQL_MAX);
  }
  if (err != PF_OK) {
    store_wal_done(&w->wal);
    store_file_close(&w->file, false);
    return err;
  }
  writer_measure_space(store);
  store->shared.space_low = w->space_low;
  return PF_OK;
}

void store_writer_done(struct store *store) {
  struct store_writer *w = &store->writer;
  if (store->config.finish) store->config.finish(w->user);
  store_stmts_finalize(w->sql, SQL_MAX);
  store_wal_done(&w->wal);
  store_file_close(&w->file, w->broken);
}

/* -- one group ----------------------------------------------------------------------------------
 */

/* Notes why the store is broken, in SQLite's words if the error was its. */
static void writer_break(struct store *store, int err, const char *during) {
  struct store_writer *w = &store->writer;
  PF_ASSERT(!w->broken && err != PF_OK);
  struct pf_error why;
  int rc = sqlite3_extended_errcode(w->file.db);
  int cause = pf_err_from_sqlite(rc);
  if (cause == PF_OK)
    pf_error_set(&why, err, "%s failed: %s", during, pf_err_text(err));
  else if (cause == PF_ENOSPC)
    pf_error_set(
        &why, cause, "%s failed: the disk is full; free some space and start again", during);
  else
    (void)store_error_set(&why, w->file.db, rc, during); /* the code follows */
  why.code = cause == PF_ENOSPC ? cause : PF_EIO;
  why.native = rc;
  if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC) w->stats.fsync_failures++;
  w->broken = true;
  /* After some errors SQLite has rolled back already; a second ROLLBACK would be an error. */
  if (!sqlite3_get_autocommit(w->file.db)) {
    (void)sqlite3_step(w->sql[SQL_ROLLBACK]); /* if it fails too, closing the file rolls back */
    (void)sqlite3_reset(w->sql[SQL_ROLLBACK]);
  }
  uv_mutex_lock(&store->lock);
  store->shared.broken = true;
  store->shared.broken_why = why;
  uv_mutex_unlock(&store->lock);
}

/* Whether the failed request may be undone alone: not if SQLite gave up the transaction, and not
 * after errors of the disk, the file or memory, which no other request can rely on either. */
static bool request_undoable(sqlite3 *db) {
  if (sqlite3_get_autocommit(db)) return false;
  switch (sqlite3_errcode(db)) {
  case SQLITE_IOERR:
  case SQLITE_FULL:
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
  case SQLITE_NOMEM:
    return false;
  default:
    return true;
  }
}

/* PF_OK if the transaction can go on; req->err is the request's own result. */
static int request_apply(struct store_writer *w, struct store_req *req) {
  int err = req->savepoint ? store_run(w->sql[SQL_MARK]) : PF_OK;
  if (err != PF_OK) return err;
  req->err = req->apply(w->user, req);
  PF_ASSERT(req->err <= PF_OK);
  if (req->err == PF_OK) {
    /* An apply that overlooked such an error must not be acknowledged. */
    if (sqlite3_get_autocommit(w->file.db)) return PF_EIO;
  } else {
    if (!req->savepoint || !request_undoable(w->file.db)) return req->err;
    err = store_run(w->sql[SQL_UNDO]);
  }
  return err == PF_OK && req->savepoint ? store_run(w->sql[SQL_KEEP]) : err;
}

/* An open statement would keep the log from being checkpointed. */
static void check_statements_reset(sqlite3 *db) {
  for (sqlite3_stmt *stmt = NULL; (stmt = sqlite3_next_stmt(db, stmt)) != NULL;)
    PF_ASSERT(!sqlite3_stmt_busy(stmt));
}

static void writer_count_group(struct store_writer *w, uint64_t requests, int64_t commit_ns) {
  struct store_stats *stats = &w->stats;
  stats->groups++;
  stats->requests += requests;
  stats->commit_ns_total += (uint64_t)commit_ns;
  if ((uint64_t)commit_ns > stats->commit_ns_max) stats->commit_ns_max = (uint64_t)commit_ns;
  if (requests > stats->group_max) stats->group_max = requests;
}

/* Applies the requests of the list as one transaction. Afterwards either it is durable or the store
 * is broken. */
static void writer_commit(struct store *store, const struct pf_list *group) {
  struct store_writer *w = &store->writer;
  uint64_t requests = 0;
  const char *during = "opening a transaction";
  int err = store_run(w->sql[SQL_BEGIN]);
  PF_LIST_EACH(link, group) {
    if (err != PF_OK) break;
    during = "writing a record";
    err = request_apply(w, pf_container_of(link, struct store_req, link));
    requests++;
  }
  if (err == PF_OK) {
    check_statements_reset(w->file.db);
    PF_FAULT("store.before_commit");
    during = "committing";
    int64_t began_ns = pf_clock_mono_ns();
    err = store_run(w->sql[SQL_COMMIT]);
    if (err == PF_OK) writer_count_group(w, requests, pf_clock_mono_ns() - began_ns);
    PF_FAULT("store.after_commit");
  }
  if (err != PF_OK) writer_break(store, err, during);
}

/* -- hand-over ----------------------------------------------------------------------------------
 */

static bool writer_log_short(const struct store_writer *w, bool busy) {
  return w->log_room && store_wal_short(&w->wal, busy);
}

/* Gives the group back to the loop, with all that the loop may want to know. */
static void writer_publish(struct store *store, struct pf_list *group) {
  struct store_writer *w = &store->writer;
  struct store_shared *shared = &store->shared;
  w->stats.checkpoints = w->wal.checkpoints;
  w->stats.wal_bytes = store_wal_bytes(&w->wal);
  w->stats.wal_ready_bytes = w->wal.file_bytes;
  uv_mutex_lock(&store->lock);
  pf_list_splice(w->broken ? &shared->failed : &shared->finished, group);
  shared->stats = w->stats;
  shared->group_ns = w->group_ns;
  shared->space_low = w->space_low;
  uv_mutex_unlock(&store->lock);
  (void)uv_async_send(&store->async); /* fails on a wrong handle type only */
}

bool store_writer_group(struct store *store) {
  struct store_writer *w = &store->writer;
  int64_t began_ns = pf_clock_mono_ns(), written_ns = w->wal.newest_ns;
  struct pf_list group;
  pf_list_init(&group);
  uv_mutex_lock(&store->lock);
  pf_list_splice(&group, &store->shared.waiting);
  store->shared.urgent = false;
  uv_mutex_unlock(&store->lock);
  PF_ASSERT(!pf_list_empty(&group));
  if (!w->broken) writer_commit(store, &group);
  if (w->broken)
    PF_LIST_EACH(link, &group)
      pf_container_of(link, struct store_req, link)->err = PF_EIO;
  w->backup_next = true;
  /* What only reads says nothing about the disk. */
  if (w->wal.newest_ns != written_ns) w->group_ns = pf_clock_mono_ns() - began_ns;
  writer_publish(store, &group);
  return w->broken || store_wal_full(&w->wal) || writer_log_short(w, true);
}

/* -- housekeeping -------------------------------------------------------------------------------
 */

static void writer_publish_nothing(struct store *store) {
  struct pf_list none;
  pf_list_init(&none);
  writer_publish(store, &none);
}

static void writer_checkpoint(struct store *store) {
  PF_FAULT("store.before_checkpoint");
  int rc = store_wal_checkpoint(&store->writer.wal);
  PF_FAULT("store.after_checkpoint");
  if (rc != SQLITE_OK) writer_break(store, pf_err_from_sqlite(rc), "copying the log");
  writer_publish_nothing(store);
}

static void writer_check_space(struct store *store, int64_t now_ns) {
  struct store_writer *w = &store->writer;
  bool was_low = w->space_low;
  w->space_check_at_ns = now_ns + STORE_SPACE_CHECK_MS * NS_PER_MS;
  writer_measure_space(store);
  if (w->space_low != was_low) writer_publish_nothing(store);
}

static void writer_extend_log(struct store *store) {
  struct store_writer *w = &store->writer;
  int rc = store_wal_extend(&w->wal);
  w->stats.fsync_failures += rc == SQLITE_IOERR_FSYNC;
  if (rc == SQLITE_FULL)
    w->log_room = false; /* until the space is measured again */
  else if (rc != SQLITE_OK)
    writer_break(store, pf_err_from_sqlite(rc), "making room in the log");
  if (w->broken || !writer_log_short(w, false)) writer_publish_nothing(store);
}

static void backup_end(struct store *store, int err) {
  struct store_writer *w = &store->writer;
  w->backup_req->err = err;
  uv_mutex_lock(&store->lock);
  pf_list_push(&store->shared.backups_ended, &w->backup_req->link);
  uv_mutex_unlock(&store->lock);
  w->backup_req = NULL;
  (void)uv_async_send(&store->async); /* fails on a wrong handle type only */
}

/* Begins the next backup, or takes the running one a step further. */
static void writer_backup(struct store *store) {
  struct store_writer *w = &store->writer;
  bool begin = !w->backup_req, more = true;
  int err;
  w->backup_next = false;
  if (begin) {
    uv_mutex_lock(&store->lock);
    struct pf_list *link = pf_list_pop(&store->shared.backups);
    uv_mutex_unlock(&store->lock);
    w->backup_req = pf_container_of(link, struct store_backup_req, link);
  }
  struct store_backup_req *req = w->backup_req;
  if (w->broken) {
    if (!begin) store_backup_cancel(&w->backup);
    err = pf_error_set(&req->why, PF_EIO, "the store is broken");
  } else if (begin) {
    err = store_backup_begin(&w->backup, w->file.db, req->path, store->config.vfs, &req->why);
  } else {
    err = store_backup_step(&w->backup, &more, &req->why);
  }
  if (err != PF_OK || !more) backup_end(store, err);
}

/* Ends what is still under way; closing the file copies the log. */
static void writer_exit(struct store *store) {
  struct store_writer *w = &store->writer;
  if (w->backup_req) {
    store_backup_cancel(&w->backup);
    backup_end(store, pf_error_set(&w->backup_req->why, PF_ECANCEL, "the store was closed"));
  }
  store_writer_done(store);
  uv_mutex_lock(&store->lock);
  PF_LIST_EACH(link, &store->shared.backups) {
    struct store_backup_req *req = pf_container_of(link, struct store_backup_req, link);
    req->err = pf_error_set(&req->why, PF_ECANCEL, "the store was closed");
  }
  pf_list_splice(&store->shared.backups_ended, &store->shared.backups);
  store->shared.exited = true;
  uv_mutex_unlock(&store->lock);
  (void)uv_async_send(&store->async); /* fails on a wrong handle type only */
}

/* -- the thread ---------------------------------------------------------------------------------
 */

enum writer_step {
  STEP_WAIT,
  STEP_GROUP,
  STEP_SPACE,
  STEP_CHECKPOINT,
  STEP_EXTEND_LOG,
  STEP_BACKUP,
  STEP_EXIT,
};

static int64_t min_i64(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* What to do now, in order of urgency; under the lock. STEP_WAIT: until *ret_until_ns. */
static enum writer_step writer_next(struct store *store, int64_t now_ns, int64_t *ret_until_ns) {
  struct store_writer *w = &store->writer;
  struct store_shared *shared = &store->shared;
  bool waiting = !pf_list_empty(&shared->waiting);
  bool backup = w->backup_req || !pf_list_empty(&shared->backups);
  int64_t lazy_ns = waiting ? shared->waiting_since_ns + STORE_LAZY_MS * NS_PER_MS : INT64_MAX;
  bool group = waiting && (shared->urgent || shared->closing || w->broken || now_ns >= lazy_ns);
  int64_t checkpoint_ns = w->broken ? INT64_MAX : store_wal_due_ns(&w->wal, group);

  if (now_ns >= w->space_check_at_ns) return STEP_SPACE;
  if (!w->broken && (now_ns >= checkpoint_ns || store_wal_full(&w->wal))) return STEP_CHECKPOINT;
  if (backup && w->backup_next && !shared->closing) return STEP_BACKUP;
  if (!w->broken && !shared->closing && writer_log_short(w, group)) return STEP_EXTEND_LOG;
  if (group) return STEP_GROUP;
  if (shared->closing) return STEP_EXIT;
  if (backup) return STEP_BACKUP;
  *ret_until_ns = min_i64(lazy_ns, min_i64(checkpoint_ns, w->space_check_at_ns));
  return STEP_WAIT;
}

static void writer_do(struct store *store, enum writer_step step, int64_t now_ns) {
  switch (step) {
  case STEP_WAIT:
    break;
  case STEP_GROUP:
    (void)store_writer_group(store); /* what the log asks for is the next step anyway */
    break;
  case STEP_SPACE:
    writer_check_space(store, now_ns);
    break;
  case STEP_CHECKPOINT:
    writer_checkpoint(store);
    break;
  case STEP_EXTEND_LOG:
    writer_extend_log(store);
    break;
  case STEP_BACKUP:
    writer_backup(store);
    break;
  case STEP_EXIT:
    writer_exit(store);
    break;
  }
}

/* Sleeps until there is something to do. Under the lock. */
static enum writer_step writer_await(struct store *store, int64_t *ret_now_ns) {
  struct store_shared *shared = &store->shared;
  for (;;) {
    int64_t now_ns = pf_clock_mono_ns(), until_ns = INT64_MAX;
    shared->wanted = shared->taken; /* the loop is at it, and tells when its group is done */
    enum writer_step step = shared->taken ? STEP_WAIT : writer_next(store, now_ns, &until_ns);
    *ret_now_ns = now_ns;
    if (step != STEP_WAIT) return step;
    shared->sleeps_until_ns = until_ns;
    if (until_ns == INT64_MAX)
      uv_cond_wait(&store->wake, &store->lock);
    else
      (void)uv_cond_timedwait(&store->wake, &store->lock, (uint64_t)(until_ns - now_ns));
    shared->sleeps_until_ns = 0;
  }
}

void store_writer_main(void *arg) {
  struct store *store = arg;
  (void)pthread_setname_np(pthread_self(), "store"); /* for debuggers only */
  for (;;) {
    int64_t now_ns;
    uv_mutex_lock(&store->lock);
    enum writer_step step = writer_await(store, &now_ns);
    store->shared.taken = true;
    uv_mutex_unlock(&store->lock);
    writer_do(store, step, now_ns);
    if (step == STEP_EXIT) return; /* the store may be gone */
    uv_mutex_lock(&store->lock);
    store->shared.taken = false;
    uv_mutex_unlock(&store->lock);
  }
}
