/* The database file and its directory: create, lock, check, configure, migrate. Private to
 * lib/store.
 *
 * Threads    The caller serialises; it may hand the file over to another thread.
 * Ownership  struct store_file owns the connection and the lock until store_file_close.
 * Ordering   none
 * Limits     STORE_PATH_MAX bytes of path, so that SQLite's own suffixes fit behind it. */
#ifndef PF_STORE_FILE_H
#define PF_STORE_FILE_H

#include "store/store.h"

#define STORE_PATH_MAX 480
#define STORE_PAGE_BYTES 4096

struct store_file {
  sqlite3 *db;
  int lock_fd; /* DIR/lock; the flock ends with the descriptor */
};

/* As store_open(); ret_file is written on success only. */
PF_MUST_CHECK int store_file_open(
    struct store_file *ret_file, const struct store_config *config, struct pf_error *reterr);
/* With `keep_log` the log is left for the next start instead of being copied into the file: after
 * a failed write nothing more is to be moved around. */
void store_file_close(struct store_file *file, bool keep_log);
/* Free bytes of the file system for this user; -1 if it cannot be told. */
int64_t store_file_free_bytes(const struct store_file *file);
/* That db is ours and not of a newer program. Reads only, so that a file of somebody else stays as
 * it was. Errors: PF_EVERSION, PF_ECORRUPT and what else SQLite may find, with path in the text. */
PF_MUST_CHECK int store_schema_check(sqlite3 *db, const char *path,
    const struct store_schema *schema, int *ret_version, struct pf_error *reterr);
/* Makes a new or renamed name in path's directory durable. */
PF_MUST_CHECK int store_dir_sync(const char *path, struct pf_error *reterr);

#endif
