#include "origin/origin_db.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/rand.h"
#include "store/stmt.h"

/* Ids come first in the keys, and all hot tables have an integer key. `results` is swept from its
 * lowest id on: ids grow with time, so no index on the time is needed. */
static const char *const migrations[] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE actors(id INTEGER PRIMARY KEY, class TEXT NOT NULL, name TEXT NOT NULL,"
    " UNIQUE(class, name));"
    "CREATE TABLE state(actor INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY(actor, key)) WITHOUT ROWID;"
    "CREATE TABLE jobs(id INTEGER PRIMARY KEY, actor INTEGER NOT NULL, epoch INTEGER NOT NULL,"
    " runs INTEGER NOT NULL DEFAULT 0, parked TEXT, head BLOB NOT NULL, request BLOB NOT NULL,"
    " result BLOB, body BLOB);"
    "CREATE TABLE results(id INTEGER PRIMARY KEY, actor INTEGER NOT NULL, done_ms INTEGER NOT NULL,"
    " ended INTEGER NOT NULL, message BLOB NOT NULL, body BLOB, whom BLOB, late BLOB);"
    "CREATE TABLE sessions(id INTEGER PRIMARY KEY, token BLOB NOT NULL, actor INTEGER NOT NULL,"
    " next_offset INTEGER NOT NULL, acked INTEGER NOT NULL, seen_ms INTEGER NOT NULL);"
    "CREATE TABLE events(session INTEGER NOT NULL, offset INTEGER NOT NULL, made_ms INTEGER NOT "
    "NULL,"
    " frame BLOB NOT NULL, PRIMARY KEY(session, offset)) WITHOUT ROWID;"
    "CREATE TABLE submits(scope INTEGER NOT NULL, key BLOB NOT NULL, digest BLOB NOT NULL,"
    " job INTEGER NOT NULL, made_ms INTEGER NOT NULL, PRIMARY KEY(scope, key)) WITHOUT ROWID;",
    /* Keys are kept for days: a sweep that reads all of them each second holds the writer up.
     * made_ms is the time of the job's deadline (in older rows that of the submit). */
    "CREATE INDEX submits_by_age ON submits(made_ms);",
    "ALTER TABLE sessions ADD COLUMN claimable INTEGER NOT NULL DEFAULT -1;",
};

const struct store_schema origin_db_schema = {
    .application_id = 0x70664f31, /* "pfO1" */
    .migrations = migrations,
    .version = PF_COUNT(migrations),
    .damaged = "move it aside, with its -wal file, and restore a backup",
};

enum sql {
  SQL_ACTOR_PUT,
  SQL_STATE_PUT,
  SQL_STATE_DELETE,
  SQL_JOB_PUT,
  SQL_JOB_EPOCH,
  SQL_JOB_RECEIVED,
  SQL_JOB_RUNS,
  SQL_JOB_PARK,
  SQL_JOB_UNPARK,
  SQL_JOB_DELETE,
  SQL_RESULT_PUT,
  SQL_RESULT_LATE,
  SQL_SESSION_PUT,
  SQL_EVENT_PUT,
  SQL_EVENTS_DELETE,
  SQL_SESSION_DELETE,
  SQL_SUBMIT_PUT,
  SQL_SWEEP_LOOK,
  SQL_SWEEP_RESULTS,
  SQL_SWEEP_SUBMITS,
  SQL_GET_ACTOR,
  SQL_GET_ACTOR_BY_ID,
  SQL_GET_STATE,
  SQL_GET_JOBS,
  SQL_GET_REQUEST,
  SQL_GET_RESULT,
  SQL_GET_EVENTS,
  SQL_GET_SUBMIT,
  SQL_GET_JOB_IDS,
  SQL_META_GET,
  SQL_META_PUT,
  SQL_MAX_ACTOR,
  SQL_COUNT_RESULTS,
  SQL_SUM_RESULTS,
  SQL_COUNT_SUBMITS,
  SQL_GET_SESSIONS,
  SQL_COUNT,
};

/* In one transaction (and those of the same millisecond), so that none waits long behind it. Each
 * page of a large row has to be read to be freed, so bytes are bounded, too. */
enum { SWEEP_ROWS_MAX = 5000, SWEEP_BYTES_MAX = 16 << 20 };

/* For what is old a sweep looks at the first rows only, so that it costs the same however many
 * there are. */
enum { SWEEP_WINDOW = 512 };

/* What --result-bytes-max counts. SQLite has the length of a value in the head of its row, and
 * reads no body for it. */
#define RESULT_BYTES                                                                               \
  "length(message) + coalesce(length(body), 0) + coalesce(length(whom), 0)"                        \
  " + coalesce(length(late), 0)"

static const char *const sql_text[SQL_COUNT] = {
    [SQL_ACTOR_PUT] = "INSERT OR IGNORE INTO actors(id, class, name) VALUES(?1, ?2, ?3)",
    [SQL_STATE_PUT] = "INSERT OR REPLACE INTO state(actor, key, value) VALUES(?1, ?2, ?3)",
    [SQL_STATE_DELETE] = "DELETE FROM state WHERE actor = ?1 AND key = ?2",
    [SQL_JOB_PUT] = "INSERT INTO jobs(id, actor, epoch, head, request) VALUES(?1, ?2, ?3, ?4, ?5)",
    [SQL_JOB_EPOCH] = "UPDATE jobs SET epoch = ?2 WHERE id = ?1",
    [SQL_JOB_RECEIVED] = "UPDATE jobs SET result = ?2, body = ?3 WHERE id = ?1",
    [SQL_JOB_RUNS] = "UPDATE jobs SET runs = ?2 WHERE id = ?1",
    [SQL_JOB_PARK] = "UPDATE jobs SET parked = ?2 WHERE id = ?1",
    [SQL_JOB_UNPARK] = "UPDATE jobs SET parked = NULL, runs = 0 WHERE id = ?1",
    [SQL_JOB_DELETE] = "DELETE FROM jobs WHERE id = ?1",
    [SQL_RESULT_PUT] =
        "INSERT OR REPLACE INTO results(id, actor, done_ms, ended, message, body, whom)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [SQL_RESULT_LATE] = "UPDATE results SET late = ?2 WHERE id = ?1",
    [SQL_SESSION_PUT] =
        "INSERT OR REPLACE INTO sessions(id, token, actor, next_offset, acked, seen_ms, claimable)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [SQL_EVENT_PUT] = "INSERT INTO events(session, offset, made_ms, frame) VALUES(?1, ?2, ?3, ?4)",
    [SQL_EVENTS_DELETE] = "DELETE FROM events WHERE session = ?1 AND offset <= ?2",
    [SQL_SESSION_DELETE] = "DELETE FROM sessions WHERE id = ?1",
    [SQL_SUBMIT_PUT] = "INSERT OR REPLACE INTO submits(scope, key, digest, job, made_ms)"
                       " VALUES(?1, ?2, ?3, ?4, ?5)",
    [SQL_SWEEP_LOOK] = "SELECT id, done_ms, " RESULT_BYTES " FROM results ORDER BY id LIMIT ?1",
    [SQL_SWEEP_RESULTS] = "DELETE FROM results WHERE id <= ?1 AND done_ms < ?2",
    /* By the index alone: a scope can have millions of keys. */
    [SQL_SWEEP_SUBMITS] =
        "DELETE FROM submits WHERE made_ms <= coalesce((SELECT made_ms FROM submits"
        " WHERE made_ms < ?1 ORDER BY made_ms LIMIT 1 OFFSET ?2), ?1 - 1)",
    [SQL_GET_ACTOR] = "SELECT id FROM actors WHERE class = ?1 AND name = ?2",
    [SQL_GET_ACTOR_BY_ID] = "SELECT id, class, name FROM actors WHERE id = ?1",
    [SQL_GET_STATE] = "SELECT key, value FROM state WHERE actor = ?1 ORDER BY key",
    [SQL_GET_JOBS] =
        "SELECT j.id, j.actor, j.epoch, j.runs, j.parked IS NOT NULL, j.head, j.result,"
        " j.body, a.class FROM jobs j LEFT JOIN actors a ON a.id = j.actor"
        " WHERE j.id > ?1 ORDER BY j.id LIMIT ?2",
    [SQL_GET_REQUEST] = "SELECT request FROM jobs WHERE id = ?1",
    [SQL_GET_RESULT] =
        "SELECT id, done_ms, ended, message, body, whom, late FROM results WHERE id = ?1",
    [SQL_GET_EVENTS] = "SELECT offset, frame FROM events WHERE session = ?1 AND offset > ?2"
                       " ORDER BY offset LIMIT ?3",
    [SQL_GET_SUBMIT] = "SELECT job, digest FROM submits WHERE scope = ?1 AND key = ?2",
    [SQL_GET_JOB_IDS] = "SELECT id FROM jobs WHERE id > ?1 ORDER BY id LIMIT ?2",
    [SQL_META_GET] = "SELECT value FROM meta WHERE key = ?1",
    [SQL_META_PUT] = "INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)",
    [SQL_MAX_ACTOR] = "SELECT coalesce(max(id), 0) FROM actors",
    [SQL_COUNT_RESULTS] = "SELECT count(*) FROM results",
    [SQL_SUM_RESULTS] = "SELECT coalesce(sum(" RESULT_BYTES "), 0) FROM results",
    [SQL_COUNT_SUBMITS] = "SELECT count(*) FROM submits",
    [SQL_GET_SESSIONS] =
        "SELECT id, token, actor, next_offset, acked, seen_ms, claimable,"
        " (SELECT coalesce(sum(length(frame)), 0) FROM events WHERE session = s.id)"
        " FROM sessions s",
};

struct origin_db {
  sqlite3 *db;
  sqlite3_stmt *stmts[SQL_COUNT];
};

int origin_db_prepare(sqlite3 *db, void *arg, void **ret_user, struct pf_error *reterr) {
  (void)arg;
  struct origin_db *origin = pf_alloc(sizeof(*origin));
  origin->db = db;
  int err = store_stmts_prepare(db, origin->stmts, sql_text, SQL_COUNT, reterr);
  if (err)
    free(origin);
  else
    *ret_user = origin;
  return err;
}

void origin_db_finish(void *user) {
  struct origin_db *db = user;
  store_stmts_finalize(db->stmts, SQL_COUNT);
  free(db);
}

/* ---- writing ---- */

/* Of the first window rows it takes, in their order, those done before before_ms, until it has both
 * as many rows and as many bytes as are wanted, or SWEEP_BYTES_MAX. */
struct sweep {
  int64_t window, before_ms, rows, bytes;
};

static int sweep_results(
    struct origin_db *db, const struct sweep *sweep, int64_t *rows, int64_t *bytes) {
  int64_t last = -1, taken = 0, taken_bytes = 0;
  sqlite3_stmt *stmt = db->stmts[SQL_SWEEP_LOOK];
  store_bind_i64(stmt, 1, sweep->window);
  int err = PF_OK;
  while ((taken < sweep->rows || taken_bytes < sweep->bytes) && taken_bytes < SWEEP_BYTES_MAX &&
         (err = store_step(stmt)) == STORE_ROW) {
    if (store_column_i64(stmt, 1) >= sweep->before_ms) continue;
    last = store_column_i64(stmt, 0);
    taken++;
    taken_bytes += store_column_i64(stmt, 2);
  }
  sqlite3_reset(stmt);
  if (err != PF_OK && err != STORE_ROW) return err;
  if (taken == 0) return PF_OK;
  stmt = db->stmts[SQL_SWEEP_RESULTS];
  store_bind_i64(stmt, 1, last);
  store_bind_i64(stmt, 2, sweep->before_ms);
  *rows += taken;
  *bytes += taken_bytes;
  return store_run(stmt);
}

/* *ret_bytes: what is gone with the rows. */
static int apply_sweep_results(struct origin_db *db, struct op *op, int64_t *ret_bytes) {
  struct sweep old = {SWEEP_WINDOW, op->w, INT64_MAX, INT64_MAX};
  op->m = *ret_bytes = 0;
  int err = sweep_results(db, &old, &op->m, ret_bytes);
  struct sweep surplus = {
      SWEEP_ROWS_MAX, INT64_MAX, op->n - op->m, (int64_t)op->other - *ret_bytes};
  return err ? err : sweep_results(db, &surplus, &op->m, ret_bytes);
}

static int apply_sweep_submits(struct origin_db *db, struct op *op) {
  sqlite3_stmt *stmt = db->stmts[SQL_SWEEP_SUBMITS];
  store_bind_i64(stmt, 1, op->w);
  store_bind_i64(stmt, 2, SWEEP_ROWS_MAX - 1);
  int err = store_run(stmt);
  op->m = err ? 0 : sqlite3_changes64(db->db);
  return err;
}

/* Binds what most ops have: their id first. */
static sqlite3_stmt *bind_id(struct origin_db *db, enum sql sql, const struct op *op) {
  store_bind_u64(db->stmts[sql], 1, op->id);
  return db->stmts[sql];
}

static int apply_job_put(struct origin_db *db, const struct op *op) {
  sqlite3_stmt *stmt = bind_id(db, SQL_JOB_PUT, op);
  store_bind_u64(stmt, 2, op->other);
  store_bind_i64(stmt, 3, op->n);
  store_bind_blob(stmt, 4, op->a);
  store_bind_blob(stmt, 5, op->b);
  return store_run(stmt);
}

static int apply_result_put(struct origin_db *db, const struct op *op) {
  sqlite3_stmt *stmt = bind_id(db, SQL_RESULT_PUT, op);
  store_bind_u64(stmt, 2, op->other);
  store_bind_i64(stmt, 3, op->n);
  store_bind_i64(stmt, 4, op->flag);
  store_bind_blob(stmt, 5, op->a);
  if (op->b.len)
    store_bind_blob(stmt, 6, op->b);
  else
    store_bind_null(stmt, 6);
  store_bind_blob(stmt, 7, op->c);
  return store_run(stmt);
}

static int apply_session_put(struct origin_db *db, const struct op *op) {
  sqlite3_stmt *stmt = bind_id(db, SQL_SESSION_PUT, op);
  store_bind_blob(stmt, 2, op->a);
  store_bind_u64(stmt, 3, op->other);
  store_bind_i64(stmt, 4, op->n);
  store_bind_i64(stmt, 5, op->m);
  store_bind_i64(stmt, 6, op->w);
  store_bind_i64(stmt, 7, op->o);
  return store_run(stmt);
}

static int apply_submit_put(struct origin_db *db, const struct op *op) {
  sqlite3_stmt *stmt = bind_id(db, SQL_SUBMIT_PUT, op);
  store_bind_blob(stmt, 2, op->a);
  store_bind_blob(stmt, 3, op->b);
  store_bind_u64(stmt, 4, op->other);
  store_bind_i64(stmt, 5, op->w);
  return store_run(stmt);
}

/* id, and up to two byte strings. */
static int apply_blobs(
    struct origin_db *db, enum sql sql, const struct op *op, struct pf_slice a, struct pf_slice b) {
  sqlite3_stmt *stmt = bind_id(db, sql, op);
  store_bind_blob(stmt, 2, a);
  if (b.data) store_bind_blob(stmt, 3, b);
  return store_run(stmt);
}

/* id, and a number. */
static int apply_number(struct origin_db *db, enum sql sql, const struct op *op) {
  sqlite3_stmt *stmt = bind_id(db, sql, op);
  store_bind_i64(stmt, 2, op->n);
  return store_run(stmt);
}

static const struct pf_slice empty = {.data = ""};

/* What an op adds to the bytes of stored results goes into *result_bytes. */
static int apply_op(struct origin_db *db, struct op *op, int64_t *result_bytes) {
  sqlite3_stmt *stmt;
  int err;
  switch (op->kind) {
  case OP_ACTOR_PUT:
    stmt = bind_id(db, SQL_ACTOR_PUT, op);
    store_bind_text(stmt, 2, op->a);
    store_bind_text(stmt, 3, op->b);
    return store_run(stmt);
  case OP_STATE_PUT:
    return apply_blobs(db, SQL_STATE_PUT, op, op->a, op->b.len ? op->b : empty);
  case OP_STATE_DELETE:
    return apply_blobs(db, SQL_STATE_DELETE, op, op->a, (struct pf_slice){0});
  case OP_JOB_PUT:
    return apply_job_put(db, op);
  case OP_JOB_EPOCH:
    return apply_number(db, SQL_JOB_EPOCH, op);
  case OP_JOB_RECEIVED:
    return apply_blobs(db, SQL_JOB_RECEIVED, op, op->a, op->b.len ? op->b : empty);
  case OP_JOB_RUNS:
    return apply_number(db, SQL_JOB_RUNS, op);
  case OP_JOB_PARK:
    stmt = bind_id(db, SQL_JOB_PARK, op);
    store_bind_text(stmt, 2, op->a);
    return store_run(stmt);
  case OP_JOB_UNPARK:
    return store_run(bind_id(db, SQL_JOB_UNPARK, op));
  case OP_JOB_DELETE:
    return store_run(bind_id(db, SQL_JOB_DELETE, op));
  case OP_RESULT_PUT:
    *result_bytes += (int64_t)(op->a.len + op->b.len + op->c.len);
    return apply_result_put(db, op);
  case OP_RESULT_LATE: /* its row may have been swept meanwhile */
    err = apply_blobs(db, SQL_RESULT_LATE, op, op->a, (struct pf_slice){0});
    *result_bytes += (int64_t)op->a.len * sqlite3_changes64(db->db);
    return err;
  case OP_SESSION_PUT:
    return apply_session_put(db, op);
  case OP_EVENT_PUT:
    stmt = bind_id(db, SQL_EVENT_PUT, op);
    store_bind_i64(stmt, 2, op->n);
    store_bind_i64(stmt, 3, op->w);
    store_bind_blob(stmt, 4, op->a);
    return store_run(stmt);
  case OP_EVENTS_DELETE:
    return apply_number(db, SQL_EVENTS_DELETE, op);
  case OP_SESSION_DELETE: {
    struct op events = {.id = op->id, .n = INT64_MAX};
    err = apply_number(db, SQL_EVENTS_DELETE, &events);
    return err ? err : store_run(bind_id(db, SQL_SESSION_DELETE, op));
  }
  case OP_SUBMIT_PUT:
    return apply_submit_put(db, op);
  case OP_SWEEP_RESULTS: {
    int64_t swept;
    err = apply_sweep_results(db, op, &swept);
    *result_bytes -= swept;
    return err;
  }
  case OP_SWEEP_SUBMITS:
    return apply_sweep_submits(db, op);
  }
  return PF_EINVAL;
}

int origin_db_apply(struct origin_db *db, struct commit *commit) {
  commit->result_bytes = 0; /* it may be applied a second time, after a rollback */
  for (struct op *op = commit->ops; op; op = op->next) {
    int err = apply_op(db, op, &commit->result_bytes);
    if (err) return err;
  }
  return PF_OK;
}

/* ---- reading ---- */

static struct pf_slice keep(struct lookup *lookup, sqlite3_stmt *stmt, int column) {
  struct pf_slice bytes = store_column_slice(stmt, column);
  return bytes.len ? pf_arena_copy(&lookup->arena, bytes) : (struct pf_slice){0};
}

static int read_state(struct origin_db *db, struct lookup *lookup, uint64_t actor) {
  sqlite3_stmt *stmt = db->stmts[SQL_GET_STATE];
  store_bind_u64(stmt, 1, actor);
  int err;
  while ((err = store_step(stmt)) == STORE_ROW) {
    struct lookup_row *row = lookup_add_row(lookup);
    row->a = keep(lookup, stmt, 0);
    row->b = keep(lookup, stmt, 1);
  }
  return err;
}

/* The actor's own row first, then its state. */
static int read_actor(struct origin_db *db, struct lookup *lookup, sqlite3_stmt *stmt) {
  int err = store_step(stmt);
  if (err != STORE_ROW) return err;
  struct lookup_row *row = lookup_add_row(lookup);
  row->id = store_column_u64(stmt, 0);
  if (lookup->kind == LOOKUP_ACTOR_ID) {
    row->a = keep(lookup, stmt, 1);
    row->b = keep(lookup, stmt, 2);
  }
  sqlite3_reset(stmt);
  return read_state(db, lookup, row->id);
}

static int read_actor_by_name(struct origin_db *db, struct lookup *lookup) {
  sqlite3_stmt *stmt = db->stmts[SQL_GET_ACTOR];
  size_t class_len = strlen(lookup->key.data);
  store_bind_text(stmt, 1, pf_slice(lookup->key.data, class_len));
  store_bind_text(
      stmt, 2, pf_slice(lookup->key.data + class_len + 1, lookup->key.len - class_len - 1));
  return read_actor(db, lookup, stmt);
}

static void read_job_row(struct lookup *lookup, sqlite3_stmt *stmt) {
  struct lookup_row *row = lookup_add_row(lookup);
  row->id = store_column_u64(stmt, 0);
  row->other = store_column_u64(stmt, 1);
  row->n = store_column_i64(stmt, 2);
  row->m = store_column_i64(stmt, 3);
  row->flag = store_column_i64(stmt, 4) != 0;
  row->a = keep(lookup, stmt, 5);
  row->b = keep(lookup, stmt, 6);
  row->c = keep(lookup, stmt, 7);
  row->d = keep(lookup, stmt, 8);
}

static void read_result_row(struct lookup *lookup, sqlite3_stmt *stmt) {
  struct lookup_row *row = lookup_add_row(lookup);
  row->id = store_column_u64(stmt, 0);
  row->n = store_column_i64(stmt, 1);
  row->flag = store_column_i64(stmt, 2) != 0;
  row->a = keep(lookup, stmt, 3);
  row->b = keep(lookup, stmt, 4);
  row->c = keep(lookup, stmt, 5);
  row->d = keep(lookup, stmt, 6);
}

static void read_request_row(struct lookup *lookup, sqlite3_stmt *stmt) {
  lookup_add_row(lookup)->a = keep(lookup, stmt, 0);
}

static void read_event_row(struct lookup *lookup, sqlite3_stmt *stmt) {
  struct lookup_row *row = lookup_add_row(lookup);
  row->n = store_column_i64(stmt, 0);
  row->a = keep(lookup, stmt, 1);
}

static void read_submit_row(struct lookup *lookup, sqlite3_stmt *stmt) {
  struct lookup_row *row = lookup_add_row(lookup);
  row->other = store_column_u64(stmt, 0);
  row->b = keep(lookup, stmt, 1);
}

static void read_id_row(struct lookup *lookup, sqlite3_stmt *stmt) {
  lookup_add_row(lookup)->id = store_column_u64(stmt, 0);
}

static int read_rows(struct lookup *lookup, sqlite3_stmt *stmt,
    void (*read_row)(struct lookup *lookup, sqlite3_stmt *stmt)) {
  int err;
  while ((err = store_step(stmt)) == STORE_ROW)
    read_row(lookup, stmt);
  return err;
}

int origin_db_lookup(struct origin_db *db, struct lookup *lookup) {
  sqlite3_stmt *stmt;
  switch (lookup->kind) {
  case LOOKUP_ACTOR:
    return read_actor_by_name(db, lookup);
  case LOOKUP_ACTOR_ID:
    store_bind_u64(db->stmts[SQL_GET_ACTOR_BY_ID], 1, lookup->id);
    return read_actor(db, lookup, db->stmts[SQL_GET_ACTOR_BY_ID]);
  case LOOKUP_JOBS:
    stmt = db->stmts[SQL_GET_JOBS];
    store_bind_i64(stmt, 1, lookup->n);
    store_bind_i64(stmt, 2, LOOKUP_PAGE);
    return read_rows(lookup, stmt, read_job_row);
  case LOOKUP_REQUEST:
    stmt = db->stmts[SQL_GET_REQUEST];
    store_bind_u64(stmt, 1, lookup->id);
    return read_rows(lookup, stmt, read_request_row);
  case LOOKUP_RESULT:
    stmt = db->stmts[SQL_GET_RESULT];
    store_bind_u64(stmt, 1, lookup->id);
    return read_rows(lookup, stmt, read_result_row);
  case LOOKUP_EVENTS:
    stmt = db->stmts[SQL_GET_EVENTS];
    store_bind_u64(stmt, 1, lookup->id);
    store_bind_i64(stmt, 2, lookup->n);
    store_bind_i64(stmt, 3, LOOKUP_PAGE);
    return read_rows(lookup, stmt, read_event_row);
  case LOOKUP_SUBMIT:
    stmt = db->stmts[SQL_GET_SUBMIT];
    store_bind_u64(stmt, 1, lookup->id);
    store_bind_blob(stmt, 2, lookup->key);
    return read_rows(lookup, stmt, read_submit_row);
  case LOOKUP_JOB_IDS:
    stmt = db->stmts[SQL_GET_JOB_IDS];
    store_bind_i64(stmt, 1, lookup->n);
    store_bind_i64(stmt, 2, LOOKUP_IDS_PAGE);
    return read_rows(lookup, stmt, read_id_row);
  }
  return PF_EINVAL;
}

/* ---- start ---- */

static int read_number(sqlite3_stmt *stmt, int64_t *ret_value, bool *ret_found) {
  int err = store_step(stmt);
  *ret_found = err == STORE_ROW;
  if (!*ret_found) return err;
  *ret_value = store_column_i64(stmt, 0);
  sqlite3_reset(stmt);
  return PF_OK;
}

static int meta_put(struct origin_db *db, const char *key, int64_t value) {
  sqlite3_stmt *stmt = db->stmts[SQL_META_PUT];
  store_bind_text(stmt, 1, pf_slice_str(key));
  store_bind_i64(stmt, 2, value);
  return store_run(stmt);
}

static int meta_get(struct origin_db *db, const char *key, int64_t fallback, int64_t *ret_value) {
  bool found;
  store_bind_text(db->stmts[SQL_META_GET], 1, pf_slice_str(key));
  int err = read_number(db->stmts[SQL_META_GET], ret_value, &found);
  if (!err && !found) *ret_value = fallback;
  return err;
}

static int read_sessions(
    struct origin_db *db, void (*each)(void *arg, const struct session *session), void *arg) {
  sqlite3_stmt *stmt = db->stmts[SQL_GET_SESSIONS];
  int err;
  while ((err = store_step(stmt)) == STORE_ROW) {
    struct session session = {.id = store_column_u64(stmt, 0),
        .actor = store_column_u64(stmt, 2),
        .next_offset = store_column_i64(stmt, 3),
        .acked = store_column_i64(stmt, 4),
        .seen_ms = store_column_i64(stmt, 5),
        .claimable = store_column_i64(stmt, 6),
        .bytes = store_column_i64(stmt, 7)};
    struct pf_slice token = store_column_slice(stmt, 1);
    if (token.len != sizeof(session.token)) continue;
    memcpy(session.token, token.data, token.len);
    each(arg, &session);
  }
  return err;
}

int origin_db_start(struct origin_db *db, struct core_start *ret_start,
    void (*each)(void *arg, const struct session *session), void *arg) {
  int64_t id, start, numbers[4];
  bool found;
  int err = meta_get(db, "origin_id", (int64_t)pf_rand_secret_u64(), &id);
  if (!err) err = meta_put(db, "origin_id", id);
  if (!err) err = meta_get(db, "starts", 0, &start);
  if (!err) err = meta_put(db, "starts", start + 1);
  static const enum sql counts[] = {
      SQL_MAX_ACTOR, SQL_COUNT_RESULTS, SQL_SUM_RESULTS, SQL_COUNT_SUBMITS};
  for (size_t i = 0; !err && i < PF_COUNT(counts); i++)
    err = read_number(db->stmts[counts[i]], &numbers[i], &found);
  if (!err) err = read_sessions(db, each, arg);
  if (err) return err;
  *ret_start = (struct core_start){.origin_id = (uint64_t)id,
      .start_number = (uint64_t)start + 1,
      .next_actor = (uint64_t)numbers[0] + 1,
      .result_rows = numbers[1],
      .result_bytes = numbers[2],
      .submit_rows = numbers[3]};
  return PF_OK;
}

/* ---- restore ---- */

/* A queue epoch is random and never 1: whichever queue is asked, it is another one. */
static const char restored_sql[] = "BEGIN;"
                                   "DELETE FROM meta WHERE key = 'origin_id';"
                                   "UPDATE jobs SET epoch = 1;"
                                   "COMMIT;";

int origin_db_restore(const char *from, const char *path, struct pf_error *reterr) {
  if (access(path, F_OK) == 0)
    return pf_error_set(reterr, PF_EEXIST,
        "%s exists: a backup is for a lost database; choose an empty directory", path);
  int err = store_copy_file(from, path, &origin_db_schema, reterr);
  if (err) return err;
  sqlite3 *db = NULL;
  int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
  err = rc == SQLITE_OK ? store_exec(db, restored_sql, reterr)
                        : store_error_set(reterr, db, rc, "cannot open the restored database");
  sqlite3_close(db);
  if (err) (void)unlink(path); /* it has the identity of the origin that it is a copy of */
  return err;
}
