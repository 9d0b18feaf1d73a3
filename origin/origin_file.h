/* The origin's database as a file: what tools need that do not run an origin.
 *
 * Threads    any
 * Ownership, Ordering, Limits: none */
#ifndef ORIGIN_ORIGIN_FILE_H
#define ORIGIN_ORIGIN_FILE_H

#include "store/store.h"

extern const struct store_schema origin_db_schema;

/* Puts a backup in place at path, which must not exist. The restored origin is another one: it gets
 * a new id, because ids that were given out after the backup must not return. Its pending jobs are
 * announced as known to a queue that is gone, so that none that must not be repeated is made a
 * second time. Errors: PF_EEXIST, PF_EVERSION, PF_ECORRUPT, PF_EIO. */
PF_MUST_CHECK int origin_db_restore(const char *from, const char *path, struct pf_error *reterr);

#endif
