/* An online copy of the database, some pages at a time. Private to lib/store.
 *
 * The copy is made from the connection that also writes, so that commits between two steps go into
 * the copy as well instead of making it start again.
 *
 * Threads    Writer thread.
 * Ownership  struct store_backup owns its connection and PATH.part until step or cancel ended it.
 * Ordering   PATH appears, complete and durable, with the last step.
 * Limits     STORE_BACKUP_PAGES pages a step: about a millisecond between two commit groups. */
#ifndef PF_STORE_BACKUP_H
#define PF_STORE_BACKUP_H

#include "store/file.h"

#define STORE_BACKUP_PAGES 256

struct store_backup {
  sqlite3 *db; /* the copy */
  sqlite3_backup *copy;
  const char *change; /* SQL that runs on the copy before it gets its name; NULL = none */
  char path[STORE_PATH_MAX + 1], part[STORE_PATH_MAX + 8];
};

/* Errors: PF_EEXIST if there is a file at path, PF_EPERM, PF_ENOSPC, PF_EIO... */
PF_MUST_CHECK int store_backup_begin(struct store_backup *backup, sqlite3 *from, const char *path,
    const char *vfs, struct pf_error *reterr);
/* PF_OK, with *ret_more false when the copy is complete. On errors the backup has ended and left
 * nothing behind. */
PF_MUST_CHECK int store_backup_step(
    struct store_backup *backup, bool *ret_more, struct pf_error *reterr);
void store_backup_cancel(struct store_backup *backup);

#endif
