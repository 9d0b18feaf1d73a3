/* Short forms for the few things every user of SQLite here does: prepare a table of statements
 * once, bind, step, read columns.
 *
 * Threads    Inside store_config.prepare, .finish and store_req.apply.
 * Ownership  Bound bytes are not copied: they stay in place until the statement was stepped to its
 *            end. A slice read from a column lives until the next step of that statement.
 * Ordering   none
 * Limits     SQLite's: 10^9 bytes per value. A wrong parameter index or a value beyond that is our
 *            own bug and asserts.
 *
 *   store_bind_u64(stmt[SQL_GET], 1, id);
 *   while ((err = store_step(stmt[SQL_GET])) == STORE_ROW)
 *     take(store_column_slice(stmt[SQL_GET], 0));
 *   return err;
 *
 * store_step() resets the statement itself at its end and on errors; who leaves a row loop early
 * calls sqlite3_reset(), for an open statement would keep the log from being checkpointed. */
#ifndef PF_STORE_STMT_H
#define PF_STORE_STMT_H

#include <sqlite3.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define STORE_ROW 1

/* PF_OK for SQLITE_OK, SQLITE_DONE and SQLITE_ROW; this is the only reader of SQLite's codes. */
int pf_err_from_sqlite(int rc);
/* The same with SQLite's own words for the last error of db, after `what`. Returns the code. */
int store_error_set(struct pf_error *reterr, sqlite3 *db, int rc, const char *what);

/* Prepares sql[0..count) into stmts[0..count). On failure all are finalized and NULL. */
PF_MUST_CHECK int store_stmts_prepare(sqlite3 *db, sqlite3_stmt **stmts, const char *const *sql,
    size_t count, struct pf_error *reterr);
void store_stmts_finalize(sqlite3_stmt **stmts, size_t count);

/* STORE_ROW, PF_OK at the end, or an error. */
PF_MUST_CHECK int store_step(sqlite3_stmt *stmt);
/* For statements that give no rows. */
PF_MUST_CHECK int store_run(sqlite3_stmt *stmt);
/* Runs SQL text that gives no rows, for start and tests. */
PF_MUST_CHECK int store_exec(sqlite3 *db, const char *sql, struct pf_error *reterr);

void store_bind_i64(sqlite3_stmt *stmt, int index, int64_t value);
/* A slice with data NULL is an empty value here, not SQL NULL. */
void store_bind_blob(sqlite3_stmt *stmt, int index, struct pf_slice bytes);
void store_bind_text(sqlite3_stmt *stmt, int index, struct pf_slice text);
void store_bind_null(sqlite3_stmt *stmt, int index);
/* Ids keep their 64 bits as a signed integer: equality holds, order does not above 2^63. */
static inline void store_bind_u64(sqlite3_stmt *stmt, int index, uint64_t value) {
  store_bind_i64(stmt, index, (int64_t)value);
}

static inline int64_t store_column_i64(sqlite3_stmt *stmt, int column) {
  return sqlite3_column_int64(stmt, column);
}
static inline uint64_t store_column_u64(sqlite3_stmt *stmt, int column) {
  return (uint64_t)sqlite3_column_int64(stmt, column);
}
/* Blob or text; SQL NULL gives the empty slice with data NULL. */
struct pf_slice store_column_slice(sqlite3_stmt *stmt, int column);

#endif
