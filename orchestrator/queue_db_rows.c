#include "orchestrator/queue_db_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/stmt.h"

#define PRELOAD_REQUEST_MAX 65536            /* larger requests are read at their dispatch */
#define PRELOAD_BYTES_MAX ((int64_t)8 << 20) /* of requests in one chunk */

enum {
  READ_META,
  WRITE_META,
  WRITE_FENCE,
  INSERT,
  UPDATE,
  WRITE_DETAIL,
  DELETE,
  WRITE_TOMB,
  FORGET_TOMBS,
  WRITE_ORIGIN,
  READ_BLOB,
  READ_ORIGINS,
  READ_TOMBS,
  READ_HELD,
  READ_QUEUED,
  READ_LAST,
  STATEMENTS
};

#define COLUMNS                                                                                    \
  "qid, origin, local, state, attempt, lost, epoch, fence, executor, incarnation, outcome,"        \
  " certainty, head, request"

#define LOADED                                                                                     \
  "qid, origin, local, state, attempt, lost, epoch, fence, executor, incarnation, outcome,"        \
  " certainty, head, CASE WHEN length(request) <= ?1 THEN request END, detail"

static const char *const sql[STATEMENTS] = {
    [READ_META] = "SELECT epoch, fence_next, boot_id, relaxed FROM meta",
    [WRITE_META] = "INSERT OR REPLACE INTO meta(id, epoch, fence_next, boot_id, relaxed)"
                   " VALUES(1, ?, ?, ?, ?)",
    [WRITE_FENCE] = "UPDATE meta SET fence_next = ?",
    [INSERT] = "INSERT INTO jobs(" COLUMNS ") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [UPDATE] = "UPDATE jobs SET state = ?4, attempt = ?5, lost = ?6, epoch = ?7, fence = ?8,"
               " executor = ?9, incarnation = ?10, outcome = ?11, certainty = ?12 WHERE qid = ?1",
    [WRITE_DETAIL] = "UPDATE jobs SET detail = ?2 WHERE qid = ?1",
    [DELETE] = "DELETE FROM jobs WHERE qid = ?",
    [WRITE_TOMB] = "INSERT OR REPLACE INTO tombs(origin, page, bits) VALUES(?, ?, ?)",
    [FORGET_TOMBS] = "DELETE FROM tombs WHERE origin = ? AND page < ?",
    [WRITE_ORIGIN] = "INSERT OR REPLACE INTO origins(origin, low, local_max, silent_us)"
                     " VALUES(?, ?, ?, ?)",
    [READ_BLOB] = "SELECT head, request FROM jobs WHERE qid = ?",
    [READ_ORIGINS] = "SELECT origin, low, local_max, silent_us FROM origins",
    [READ_TOMBS] = "SELECT origin, page, bits FROM tombs",
    [READ_HELD] = "SELECT " LOADED " FROM jobs WHERE state <> 0 ORDER BY qid",
    [READ_QUEUED] = "SELECT " LOADED " FROM jobs WHERE qid > ?2 AND qid <= ?3 AND state = 0"
                    " ORDER BY qid LIMIT ?4",
    [READ_LAST] = "SELECT coalesce(max(qid), 0) FROM jobs",
};

struct rows {
  sqlite3_stmt *statements[STATEMENTS];
};

int queue_rows_prepare(sqlite3 *db, void *arg, void **ret_user, struct pf_error *reterr) {
  (void)arg;
  struct rows *rows = pf_alloc(sizeof(*rows));
  int err = store_stmts_prepare(db, rows->statements, sql, STATEMENTS, reterr);
  if (err)
    free(rows);
  else
    *ret_user = rows;
  return err;
}

void queue_rows_finish(void *user) {
  struct rows *rows = user;
  store_stmts_finalize(rows->statements, STATEMENTS);
  free(rows);
}

static sqlite3_stmt *statement(void *user, int index) {
  return ((struct rows *)user)->statements[index];
}

/* ---- identity ---- */

int queue_rows_read_meta(void *user, struct queue_meta *ret_meta) {
  sqlite3_stmt *stmt = statement(user, READ_META);
  int err = store_step(stmt);
  if (err != STORE_ROW) return err ? err : PF_ENOTFOUND;
  struct pf_slice boot_id = store_column_slice(stmt, 2);
  ret_meta->epoch = store_column_u64(stmt, 0);
  ret_meta->fence_next = store_column_u64(stmt, 1);
  ret_meta->relaxed = store_column_i64(stmt, 3) != 0;
  snprintf(ret_meta->boot_id, sizeof(ret_meta->boot_id), "%.*s", (int)boot_id.len,
      boot_id.data ? boot_id.data : "");
  sqlite3_reset(stmt);
  return PF_OK;
}

int queue_rows_write_meta(void *user, const struct queue_meta *meta) {
  sqlite3_stmt *stmt = statement(user, WRITE_META);
  store_bind_u64(stmt, 1, meta->epoch);
  store_bind_u64(stmt, 2, meta->fence_next);
  store_bind_text(stmt, 3, pf_slice_str(meta->boot_id));
  store_bind_i64(stmt, 4, meta->relaxed);
  return store_run(stmt);
}

/* ---- groups ---- */

static int write_row(void *user, const struct queue_row *row) {
  sqlite3_stmt *stmt = statement(user, row->insert ? INSERT : UPDATE);
  store_bind_i64(stmt, 1, row->qid);
  store_bind_i64(stmt, 4, (int64_t)row->state);
  store_bind_i64(stmt, 5, row->attempt);
  store_bind_i64(stmt, 6, row->lost);
  store_bind_u64(stmt, 7, row->fence.epoch);
  store_bind_u64(stmt, 8, row->fence.counter);
  store_bind_u64(stmt, 9, row->executor);
  store_bind_u64(stmt, 10, row->incarnation);
  store_bind_i64(stmt, 11, (int64_t)row->outcome);
  store_bind_i64(stmt, 12, (int64_t)row->certainty);
  if (row->insert) {
    store_bind_u64(stmt, 2, row->job.origin);
    store_bind_u64(stmt, 3, row->job.local);
    store_bind_blob(stmt, 13, queue_blob_head(row->blob));
    store_bind_blob(stmt, 14, queue_blob_request(row->blob));
  }
  int err = store_run(stmt);
  if (err || !row->detail) return err;
  stmt = statement(user, WRITE_DETAIL);
  store_bind_i64(stmt, 1, row->qid);
  store_bind_text(stmt, 2, pf_slice_str(row->detail));
  return store_run(stmt);
}

static int write_tomb(void *user, const struct queue_tomb_row *row) {
  sqlite3_stmt *stmt = statement(user, WRITE_TOMB);
  store_bind_u64(stmt, 1, row->origin);
  store_bind_u64(stmt, 2, row->number);
  store_bind_blob(stmt, 3, pf_slice(row->bits, sizeof(row->bits)));
  return store_run(stmt);
}

static int write_origin(void *user, const struct queue_origin_row *row) {
  sqlite3_stmt *stmt = statement(user, WRITE_ORIGIN);
  store_bind_u64(stmt, 1, row->origin);
  store_bind_u64(stmt, 2, row->low);
  store_bind_u64(stmt, 3, row->local_max);
  store_bind_i64(stmt, 4, row->silent_us);
  int err = store_run(stmt);
  if (err || !row->forget) return err;
  stmt = statement(user, FORGET_TOMBS);
  store_bind_u64(stmt, 1, row->origin);
  store_bind_u64(stmt, 2, row->low >> TOMB_PAGE_SHIFT);
  return store_run(stmt);
}

int queue_rows_write(void *user, const struct queue_group *group) {
  int err = PF_OK;
  if (group->fence_next) {
    store_bind_u64(statement(user, WRITE_FENCE), 1, group->fence_next);
    err = store_run(statement(user, WRITE_FENCE));
  }
  for (size_t i = 0; !err && i < group->row_count; i++)
    err = write_row(user, &group->rows[i]);
  for (size_t i = 0; !err && i < group->delete_count; i++) {
    store_bind_i64(statement(user, DELETE), 1, group->deletes[i]);
    err = store_run(statement(user, DELETE));
  }
  for (size_t i = 0; !err && i < group->tomb_count; i++)
    err = write_tomb(user, &group->tombs[i]);
  for (size_t i = 0; !err && i < group->origin_count; i++)
    err = write_origin(user, &group->origins[i]);
  return err;
}

int queue_rows_read_blob(void *user, int64_t qid, struct queue_blob **ret_blob) {
  sqlite3_stmt *stmt = statement(user, READ_BLOB);
  store_bind_i64(stmt, 1, qid);
  int err = store_step(stmt);
  if (err != STORE_ROW) return err;
  *ret_blob = queue_blob_new(store_column_slice(stmt, 0), store_column_slice(stmt, 1));
  sqlite3_reset(stmt);
  return PF_OK;
}

/* ---- loading ---- */

void queue_rows_chunk_done(struct queue_rows_chunk *chunk) {
  for (size_t i = 0; i < chunk->count; i++)
    queue_row_done(&chunk->rows[i].row);
  free(chunk->rows);
  free(chunk->origins);
  free(chunk->tombs);
  *chunk = (struct queue_rows_chunk){0};
}

/* The next place in a growing array of records of `size` bytes. */
static void *grow(void *array, size_t count, size_t *cap, size_t size) {
  if (count < *cap) return array;
  *cap = *cap ? *cap * 2 : 64;
  return pf_realloc(array, *cap * size);
}

static int load_row(sqlite3_stmt *stmt, struct queue_rows_chunk *chunk) {
  chunk->rows = grow(chunk->rows, chunk->count, &chunk->cap, sizeof(*chunk->rows));
  struct queue_rows_loaded *loaded = &chunk->rows[chunk->count];
  *loaded = (struct queue_rows_loaded){0};
  loaded->row = (struct queue_row){.qid = store_column_i64(stmt, 0),
      .job = {store_column_u64(stmt, 1), store_column_u64(stmt, 2)},
      .state = (enum queue_row_state)store_column_i64(stmt, 3),
      .attempt = (int)store_column_i64(stmt, 4),
      .lost = (int)store_column_i64(stmt, 5),
      .fence = {store_column_u64(stmt, 6), store_column_u64(stmt, 7)},
      .executor = store_column_u64(stmt, 8),
      .incarnation = store_column_u64(stmt, 9),
      .outcome = (enum outcome)store_column_i64(stmt, 10),
      .certainty = (enum certainty)store_column_i64(stmt, 11)};
  if (loaded->row.outcome >= OUTCOME_COUNT || loaded->row.state > QUEUE_ROW_EXHAUSTED ||
      hop_job_decode(&loaded->item, store_column_slice(stmt, 12), NULL))
    return PF_ECORRUPT;
  if (sqlite3_column_type(stmt, 13) == SQLITE_BLOB && chunk->request_bytes < PRELOAD_BYTES_MAX) {
    struct pf_slice request = store_column_slice(stmt, 13);
    loaded->row.blob = queue_blob_new(store_column_slice(stmt, 12), request);
    chunk->request_bytes += (int64_t)request.len;
  }
  struct pf_slice detail = store_column_slice(stmt, 14);
  if (detail.len) {
    loaded->row.detail = pf_alloc(detail.len + 1);
    memcpy(loaded->row.detail, detail.data, detail.len);
  }
  chunk->count++;
  return PF_OK;
}

static int load_origin(sqlite3_stmt *stmt, struct queue_rows_chunk *chunk) {
  chunk->origins =
      grow(chunk->origins, chunk->origin_count, &chunk->origin_cap, sizeof(*chunk->origins));
  chunk->origins[chunk->origin_count++] =
      (struct queue_origin_row){.origin = store_column_u64(stmt, 0),
          .low = store_column_u64(stmt, 1),
          .local_max = store_column_u64(stmt, 2),
          .silent_us = store_column_i64(stmt, 3)};
  return PF_OK;
}

static int load_tomb(sqlite3_stmt *stmt, struct queue_rows_chunk *chunk) {
  struct pf_slice bits = store_column_slice(stmt, 2);
  if (bits.len != TOMB_PAGE_BYTES) return PF_ECORRUPT;
  chunk->tombs = grow(chunk->tombs, chunk->tomb_count, &chunk->tomb_cap, sizeof(*chunk->tombs));
  struct queue_tomb_row *row = &chunk->tombs[chunk->tomb_count++];
  row->origin = store_column_u64(stmt, 0);
  row->number = store_column_u64(stmt, 1);
  memcpy(row->bits, bits.data, sizeof(row->bits));
  return PF_OK;
}

/* All rows of a bound statement, unless one before was wrong. What a row says wrong goes to
 * chunk->err: it must not break the store, which would say that a write had failed. */
static int load_all(sqlite3_stmt *stmt, struct queue_rows_chunk *chunk,
    int (*load)(sqlite3_stmt *stmt, struct queue_rows_chunk *chunk)) {
  int err = PF_OK;
  while (!chunk->err && (err = store_step(stmt)) == STORE_ROW)
    chunk->err = load(stmt, chunk);
  if (!chunk->err) return err;
  sqlite3_reset(stmt);
  return PF_OK;
}

int queue_rows_read_held(void *user, struct queue_rows_chunk *chunk) {
  sqlite3_stmt *last = statement(user, READ_LAST);
  if (store_step(last) != STORE_ROW) return PF_EIO;
  chunk->last_qid = store_column_i64(last, 0);
  sqlite3_reset(last);
  int err = load_all(statement(user, READ_ORIGINS), chunk, load_origin);
  if (!err) err = load_all(statement(user, READ_TOMBS), chunk, load_tomb);
  store_bind_i64(statement(user, READ_HELD), 1, PRELOAD_REQUEST_MAX);
  if (!err) err = load_all(statement(user, READ_HELD), chunk, load_row);
  return err;
}

int queue_rows_read_queued(
    void *user, int64_t after_qid, int64_t last_qid, int limit, struct queue_rows_chunk *chunk) {
  sqlite3_stmt *stmt = statement(user, READ_QUEUED);
  store_bind_i64(stmt, 1, PRELOAD_REQUEST_MAX);
  store_bind_i64(stmt, 2, after_qid);
  store_bind_i64(stmt, 3, last_qid);
  store_bind_i64(stmt, 4, limit);
  int err = load_all(stmt, chunk, load_row);
  chunk->more = chunk->count == (size_t)limit;
  return err;
}
