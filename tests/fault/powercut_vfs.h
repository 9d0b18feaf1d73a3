/* An SQLite VFS over the default one that remembers which bytes a disk must still hold after a
 * power cut, can cut the power, and can make single operations fail.
 *
 * The real files always hold what was written. Beside them a model keeps, for each file, the bytes
 * as of its last sync and the operations since. A cut makes every later operation that changes
 * something fail; powercut_restore() then replaces each file by its synced bytes and a random part
 * of the later operations, where a write may persist sector by sector.
 *
 * Modelled: SQLite syncs the directory with the first sync of a log or journal it has created.
 * Sectors that a write did not touch keep their bytes. File lengths are metadata and grow with the
 * writes that persist.
 *
 * Threads    One at a time: set it up while no database is open on it.
 * Ownership  struct powercut owns the registered VFS.
 * Ordering   none
 * Limits     Only databases, logs and journals count as operations. */
#ifndef PF_TESTS_FAULT_POWERCUT_VFS_H
#define PF_TESTS_FAULT_POWERCUT_VFS_H

#include <stdbool.h>
#include <stdint.h>

struct powercut;

enum powercut_kind {
  POWERCUT_CUT,       /* the power fails in the middle of the operation */
  POWERCUT_FULL_ONCE, /* SQLITE_FULL from one write, SQLITE_IOERR_FSYNC from one sync */
  POWERCUT_FULL,      /* the same from all that follow as well */
  POWERCUT_EIO_ONCE,  /* SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC */
  POWERCUT_EIO,
};

/* Registers the VFS under `name`, which must outlive it. */
struct powercut *powercut_new(const char *name, uint64_t seed);
void powercut_free(struct powercut *pc);

/* The n-th operation from now (1 = the next) is hit; 0 = none. With `syncs` only syncs are counted.
 */
void powercut_arm(struct powercut *pc, enum powercut_kind kind, uint64_t n, bool syncs);
/* Whether the armed operation has come. */
bool powercut_fired(const struct powercut *pc);
/* Only with all databases closed. If the power was cut or `lose` is set, makes the files what the
 * disk may hold. Then the disk works again. */
void powercut_restore(struct powercut *pc, bool lose);

#endif
