/* The SQL of the queue's file. Inside the store only (struct store_req.apply).
 *
 * Threads    The store's writer thread or its loop, never both.
 * Ownership  queue_rows_prepare's user object owns the statements. A chunk owns its rows and holds
 *            a reference to each blob.
 * Ordering   none
 * Limits     none: callers bound the chunks.
 * 64-bit ids are stored as SQLite's signed integers, bit for bit. */
#ifndef PF_ORCHESTRATOR_QUEUE_DB_ROWS_H
#define PF_ORCHESTRATOR_QUEUE_DB_ROWS_H

#include <sqlite3.h>

#include "orchestrator/queue.h"

struct queue_meta {
  uint64_t epoch, fence_next;
  char boot_id[64];
  bool relaxed; /* the last start ran with sync normal */
};

int queue_rows_prepare(sqlite3 *db, void *arg, void **ret_user, struct pf_error *reterr);
void queue_rows_finish(void *user);

/* PF_ENOTFOUND in a new file. */
PF_MUST_CHECK int queue_rows_read_meta(void *user, struct queue_meta *ret_meta);
PF_MUST_CHECK int queue_rows_write_meta(void *user, const struct queue_meta *meta);
PF_MUST_CHECK int queue_rows_write(void *user, const struct queue_group *group);
/* *ret_blob stays NULL if there is no such row. */
PF_MUST_CHECK int queue_rows_read_blob(void *user, int64_t qid, struct queue_blob **ret_blob);

struct queue_rows_loaded {
  struct queue_row row; /* blob is NULL if the request is large or there are many */
  struct hop_job item;  /* decoded from its head */
};
struct queue_rows_chunk {
  struct queue_rows_loaded *rows;
  size_t count, cap;
  struct queue_origin_row *origins;
  size_t origin_count, origin_cap;
  struct queue_tomb_row *tombs;
  size_t tomb_count, tomb_cap;
  int64_t last_qid;      /* of all rows; read_held */
  int64_t request_bytes; /* of the blobs below: PRELOAD limits of queue_db_rows.c */
  bool more;             /* read_queued: not all rows up to last_qid were read */
  int err; /* PF_ECORRUPT: a row's head cannot be decoded; reading it again would not help */
};
void queue_rows_chunk_done(struct queue_rows_chunk *chunk);
/* Origins, tombstones and the rows that are leased or exhausted. */
PF_MUST_CHECK int queue_rows_read_held(void *user, struct queue_rows_chunk *chunk);
/* The next rows in (after_qid, last_qid] that are queued. */
PF_MUST_CHECK int queue_rows_read_queued(
    void *user, int64_t after_qid, int64_t last_qid, int limit, struct queue_rows_chunk *chunk);

#endif
