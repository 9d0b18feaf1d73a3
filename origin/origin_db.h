/* The origin's tables, and nothing else knows their SQL: how a commit's ops are written, how
 * look-ups are answered, and what is read at start.
 *
 * Threads    All functions run inside the store (writer thread or loop), except origin_db_schema
 *            (data) and origin_db_restore (any).
 * Ownership  struct origin_db is made by origin_db_prepare and freed by origin_db_finish.
 * Ordering   none
 * Limits     those of origin/commit.h and origin/core.h. */
#ifndef ORIGIN_ORIGIN_DB_H
#define ORIGIN_ORIGIN_DB_H

#include "origin/commit.h"
#include "origin/core.h"
#include "store/store.h"

struct origin_db;

extern const struct store_schema origin_db_schema;

int origin_db_prepare(sqlite3 *db, void *arg, void **ret_user, struct pf_error *reterr);
void origin_db_finish(void *user);

/* Writes all ops of the commit. */
PF_MUST_CHECK int origin_db_apply(struct origin_db *db, struct commit *commit);
/* Appends the rows that answer the look-up. */
PF_MUST_CHECK int origin_db_lookup(struct origin_db *db, struct lookup *lookup);

/* Reads what core_init wants, and counts this start: the start number is new, whatever happens
 * next, so that no job id is ever given out twice. Makes the origin's id with the database. Calls
 * each(arg, session) for the sessions of earlier runs. */
PF_MUST_CHECK int origin_db_start(struct origin_db *db, struct core_start *ret_start,
    void (*each)(void *arg, const struct session *session), void *arg);

/* Puts a backup in place at path, which must not exist. The restored origin is another one: it gets
 * a new id, because ids that were given out after the backup must not return. Its pending jobs are
 * announced as known to a queue that is gone, so that none that must not be repeated is made a
 * second time. Errors: PF_EEXIST, PF_EVERSION, PF_ECORRUPT, PF_EIO. */
PF_MUST_CHECK int origin_db_restore(const char *from, const char *path, struct pf_error *reterr);

#endif
