#include "store/stmt.h"

#include <string.h>

int pf_err_from_sqlite(int rc) {
  switch (rc & 0xff) {
  case SQLITE_OK:
  case SQLITE_ROW:
  case SQLITE_DONE:
    return PF_OK;
  case SQLITE_NOMEM:
    return PF_ENOMEM;
  case SQLITE_FULL:
    return PF_ENOSPC;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return PF_ECORRUPT;
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    return PF_ELOCKED;
  case SQLITE_PERM:
  case SQLITE_AUTH:
  case SQLITE_READONLY:
    return PF_EPERM;
  case SQLITE_CONSTRAINT:
    return PF_EEXIST;
  case SQLITE_TOOBIG:
    return PF_ELIMIT;
  default:
    return PF_EIO;
  }
}

int store_error_set(struct pf_error *reterr, sqlite3 *db, int rc, const char *what) {
  int code = pf_err_from_sqlite(rc);
  /* A handle that failed to open knows only the code. */
  const char *why =
      db && sqlite3_errcode(db) != SQLITE_OK ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
  pf_error_set(reterr, code, "%s: %s (SQLite code %d)", what, why, rc);
  if (reterr) reterr->native = rc;
  return code;
}

int store_stmts_prepare(sqlite3 *db, sqlite3_stmt **stmts, const char *const *sql, size_t count,
    struct pf_error *reterr) {
  memset(stmts, 0, count * sizeof(stmts[0]));
  for (size_t i = 0; i < count; i++) {
    int rc = sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &stmts[i], NULL);
    if (rc == SQLITE_OK) continue;
    int err = store_error_set(reterr, db, rc, sql[i]);
    store_stmts_finalize(stmts, count);
    return err;
  }
  return PF_OK;
}

void store_stmts_finalize(sqlite3_stmt **stmts, size_t count) {
  for (size_t i = 0; i < count; i++) {
    /* It repeats the error of the last step, which was reported then. */
    (void)sqlite3_finalize(stmts[i]);
    stmts[i] = NULL;
  }
}

int store_step(sqlite3_stmt *stmt) {
  int rc = sqlite3_step(stmt);
  if (rc == SQLITE_ROW) return STORE_ROW;
  (void)sqlite3_reset(stmt); /* repeats the code of the step */
  return pf_err_from_sqlite(rc);
}

int store_run(sqlite3_stmt *stmt) {
  int err = store_step(stmt);
  PF_ASSERT(err != STORE_ROW);
  return err;
}

int store_exec(sqlite3 *db, const char *sql, struct pf_error *reterr) {
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  return rc == SQLITE_OK ? PF_OK : store_error_set(reterr, db, rc, sql);
}

void store_bind_i64(sqlite3_stmt *stmt, int index, int64_t value) {
  int rc = sqlite3_bind_int64(stmt, index, value);
  PF_ASSERT(rc == SQLITE_OK);
}

void store_bind_blob(sqlite3_stmt *stmt, int index, struct pf_slice bytes) {
  int rc = sqlite3_bind_blob64(stmt, index, bytes.data ? bytes.data : "", bytes.len, SQLITE_STATIC);
  PF_ASSERT(rc == SQLITE_OK);
}

void store_bind_text(sqlite3_stmt *stmt, int index, struct pf_slice text) {
  int rc = sqlite3_bind_text64(
      stmt, index, text.data ? text.data : "", text.len, SQLITE_STATIC, SQLITE_UTF8);
  PF_ASSERT(rc == SQLITE_OK);
}

void store_bind_null(sqlite3_stmt *stmt, int index) {
  int rc = sqlite3_bind_null(stmt, index);
  PF_ASSERT(rc == SQLITE_OK);
}

struct pf_slice store_column_slice(sqlite3_stmt *stmt, int column) {
  int type = sqlite3_column_type(stmt, column); /* first: the others may convert the value */
  const void *data = sqlite3_column_blob(stmt, column);
  if (!data && type != SQLITE_NULL) data = "";
  return pf_slice(data, (size_t)sqlite3_column_bytes(stmt, column));
}
