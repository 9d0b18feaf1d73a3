/* When to copy the write-ahead log into the database file. Private to lib/store.
 *
 * A checkpoint costs two fsyncs and a write for each distinct page, so a queue whose rows come and
 * go on the same pages gains from a long log, while many distinct pages make one long stall. So the
 * pages are counted, not the frames, and the stall is kept near a millisecond (decision 0012). A
 * checkpoint is due when
 *   - STORE_WAL_PAGES distinct pages wait, or
 *   - the log has reached STORE_WAL_BYTES; in normal mode STORE_WAL_UNSYNCED_BYTES, for there the
 *     checkpoint is what syncs the log, at about a millisecond for each two MiB, or
 *   - its oldest commit has waited for STORE_WAL_AGE_MS (bounds what a power cut takes in normal
 *     mode, and the time of a restart), or
 *   - nothing was committed for STORE_WAL_IDLE_MS.
 *
 * In normal mode the kernel is told to begin writing the log out with each
 * STORE_WAL_WRITE_OUT_BYTES: a checkpoint that had to write all of it stopped commits for 10 ms.
 *
 * In full mode the log's file is kept longer than the log, filled with zeros: a sync of bytes that
 * lie within a file needs no entry in the file system's journal and takes about half the time of
 * one that makes it longer (decision 0015). SQLite reads a log up to the first frame whose salt is
 * not the log's own, so what is beyond its end may be anything.
 *
 * Threads    That which has set store_shared.taken.
 * Ownership  Borrows the connection.
 * Ordering   none
 * Limits     The log grows beyond STORE_WAL_BYTES only while another program reads the file in one
 *            long transaction. */
#ifndef PF_STORE_WAL_H
#define PF_STORE_WAL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

#define STORE_WAL_PAGES 250
#define STORE_WAL_BYTES ((int64_t)64 << 20)
#define STORE_WAL_UNSYNCED_BYTES ((int64_t)8 << 20)
#define STORE_WAL_AGE_MS 5000
#define STORE_WAL_IDLE_MS 500
#define STORE_WAL_WRITE_OUT_BYTES ((int64_t)256 << 10)
#define STORE_WAL_EXTEND_BYTES ((int64_t)512 << 10) /* at once; never beyond STORE_WAL_BYTES */

enum { WAL_SLOTS_BITS = 10, WAL_SLOTS = 1 << WAL_SLOTS_BITS }; /* of the set of page numbers */

struct store_wal {
  sqlite3 *db;
  int64_t frame_bytes, bytes_max;
  int64_t file_bytes;  /* how long its file is known to be */
  bool synced;         /* commits wait for the disk */
  int fd;              /* of the log, if not synced; else -1 */
  int64_t written_out; /* of the log, on its way to the disk */
  uint32_t frames;     /* in the log */
  uint32_t tried;      /* of these, known to the last checkpoint: the rest is new */
  uint32_t counted;    /* of these, looked at for `pages` */
  uint32_t distinct;
  uint32_t pages[WAL_SLOTS];    /* open-addressed set of page numbers, 0 = free */
  int64_t oldest_ns, newest_ns; /* commits since the last checkpoint; 0 = none */
  uint64_t checkpoints;
};

void store_wal_init(struct store_wal *wal, sqlite3 *db, enum store_sync sync);
/* Before the connection is closed. */
void store_wal_done(struct store_wal *wal);
/* The time at which a checkpoint is due if nothing else is committed; INT64_MAX = never. `busy`
 * leaves out the idle rule. */
int64_t store_wal_due_ns(const struct store_wal *wal, bool busy);
/* Whether the log's size or the number of distinct pages asks for a checkpoint now. */
bool store_wal_full(struct store_wal *wal);
/* Copies what it can without waiting for readers. Returns SQLITE_OK also if a reader or a full disk
 * kept it from copying all: the log is still there. Other codes break the store. */
int store_wal_checkpoint(struct store_wal *wal);
int64_t store_wal_bytes(const struct store_wal *wal);
/* Whether the file should be made longer now: `busy` while somebody waits for a commit. */
bool store_wal_short(const struct store_wal *wal, bool busy);
/* Makes it longer, to the next multiple of STORE_WAL_EXTEND_BYTES, durably. Returns SQLite's code;
 * after SQLITE_FULL the log is as good as before, other errors break the store. */
int store_wal_extend(struct store_wal *wal);

#endif
