/* Durable writes: one SQLite file, one connection, one writer thread, group commit.
 *
 * All requests that have queued up while the last group was committed become one transaction. They
 * are handed to the thread at the end of the loop's turn, or at once when they are many. There is
 * no timer: an idle store commits a single request without delay. While groups are done sooner than
 * a thread wakes up, the loop commits them itself (decision 0015).
 *
 * Threads    Call everything on the loop given to store_open(). store_req.apply runs on the writer
 *            thread or on the loop, never on both at once, and store_config.finish on the writer
 *            thread; .prepare runs inside store_open().
 * Ownership  The caller owns each store_req and keeps it in place from store_submit() until its
 *            done callback is called; done may free or resubmit it.
 * Ordering   Requests commit in submission order. done fires after the commit is durable (as the
 *            sync mode has it), in the same order, so anything it sends may be seen by the world.
 * Limits     none on the number of waiting requests: their owners bound what they admit.
 * Failure    A failed commit or write breaks the store: this group and everything after it gets
 *            PF_EIO, and on_broken is called once. The process then ends with PF_EXIT_STORAGE:
 *            after a failed fsync nothing in memory can be trusted to be on disk. */
#ifndef PF_STORE_STORE_H
#define PF_STORE_STORE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "base/list.h"

struct store;

enum store_sync {
  STORE_SYNC_FULL,   /* an acknowledged commit survives power loss */
  STORE_SYNC_NORMAL, /* survives any process crash; a power loss may lose the last ones, in order */
};
extern const char *const store_sync_names[]; /* NULL-terminated: choices of an option */

struct store_schema {
  uint32_t application_id;       /* PRAGMA application_id: tells our file from a foreign one */
  const char *const *migrations; /* SQL from user_version i to i + 1; applied in one transaction */
  int version;                   /* count of migrations = the newest user_version known here */
  const char *damaged;           /* what to do about a damaged file, for its message */
};

struct store_config {
  const char *path;
  enum store_sync sync;
  const struct store_schema *schema;
  int64_t reserve_bytes; /* store_space_low() is true while less than this is free */
  const char *vfs;       /* SQLite VFS name, NULL = default; tests use their own */
  /* Prepares statements once; *ret_user is handed to every apply. Inside store_open(). */
  int (*prepare)(sqlite3 *db, void *arg, void **ret_user, struct pf_error *reterr);
  /* Finalizes them. Writer thread, or inside a store_open() that fails. */
  void (*finish)(void *user);
  /* Once, on the loop; may be NULL in tests. */
  void (*on_broken)(void *arg, const struct pf_error *why);
  void *arg;
};

struct store_req {
  struct pf_list link; /* private to the store while submitted */
  /* 0, or negative. With `savepoint` a negative result undoes this request only, and done gets it;
   * without (a savepoint costs 1-3 us) it breaks the store. Writer thread or loop. */
  int (*apply)(void *user, struct store_req *req);
  void (*done)(struct store_req *req, int err);
  int err; /* private */
  bool savepoint;
  bool lazy; /* may wait for the next group that has a request which is not lazy, at most
              * STORE_LAZY_MS: nobody waits for it */
};

#define STORE_LAZY_MS 100
#define STORE_QUICK_US 300 /* the loop commits by itself while groups take less than this */
/* The log's file in full mode, made when there is nothing else to do and reserve_bytes allow. */
#define STORE_WAL_READY_BYTES ((int64_t)16 << 20)

struct store_stats {
  uint64_t groups, requests; /* since open */
  uint64_t commit_ns_total, commit_ns_max;
  uint64_t group_max; /* most requests in one group */
  uint64_t waiting;   /* now */
  uint64_t checkpoints;
  int64_t wal_bytes;
  int64_t wal_ready_bytes; /* length of the log's file, as far as a commit need not extend it */
  uint64_t fsync_failures;
};

/* Locks the file's directory (flock on DIR/lock), opens or creates the file (mode 0600, WAL),
 * migrates it, starts the thread. On failure *ret_store is left untouched and reterr says what to
 * do. Errors: PF_ELOCKED (another process), PF_EVERSION (newer or foreign file), PF_ECORRUPT,
 * PF_ENOSPC, PF_EPERM, PF_EINVAL (path), PF_EIO. */
PF_MUST_CHECK int store_open(struct store **ret_store, uv_loop_t *loop,
    const struct store_config *config, struct pf_error *reterr);

/* done is always called, later, from the loop. On a broken or closing store it gets PF_EIO. */
void store_submit(struct store *store, struct store_req *req);

/* Whether the disk is nearly full: owners refuse new work then and go on with what they have. */
bool store_space_low(const struct store *store);
void store_read_stats(const struct store *store, struct store_stats *ret_stats);

/* Online backup into a new file at path, in steps between groups. done on the loop. */
void store_backup(struct store *store, const char *path,
    void (*done)(void *arg, int err, const struct pf_error *why), void *arg);

/* Lets queued requests finish, checkpoints, then calls closed. store is gone when it returns. */
void store_close(struct store *store, void (*closed)(void *arg), void *arg);

/* For `db check`: PRAGMA integrity_check of a file that no process has open. PF_OK, or
 * the errors of store_open(), or PF_ENOTFOUND. */
PF_MUST_CHECK int store_check_file(
    const char *path, const struct store_schema *schema, struct pf_error *reterr);

/* Copies the database at from, which nobody needs to have closed, to path, which must not exist,
 * and checks the copy. What is wrong with from is found before anything is written. change: SQL for
 * the copy before it has its name, so that no crash leaves one without it; or NULL. Errors: those
 * of store_check_file(), PF_EEXIST. */
PF_MUST_CHECK int store_copy_file(const char *from, const char *path,
    const struct store_schema *schema, const char *change, struct pf_error *reterr);

#endif
