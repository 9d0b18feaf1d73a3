/* The queue's rows: one SQLite file through lib/store.
 *
 * Threads    Everything on the store's loop; only apply callbacks run inside the store (writer
 *            thread or loop).
 * Ownership  queue_db_write takes over the group. Read and start callbacks get values.
 * Ordering   Writes commit in the order of queue_db_write; reads see all writes before them.
 * Limits     QUEUE_DB_CHUNK rows a step while loading, so that commits of new work go between. */
#ifndef PF_ORCHESTRATOR_QUEUE_DB_H
#define PF_ORCHESTRATOR_QUEUE_DB_H

#include <uv.h>

#include "orchestrator/queue.h"
#include "store/store.h"

#define QUEUE_DB_CHUNK 1000

struct queue_db;

/* Tells a queue's file from others; for `proxyfetch db check`. */
extern const struct store_schema queue_db_schema;

struct queue_db_config {
  const char *dir; /* exists already */
  enum store_sync sync;
  int64_t reserve_bytes;
  const char *boot_id; /* of the machine; another one than at the last start renews the epoch
                        * if commits of that start may have been lost */
  void (*on_broken)(void *arg, const struct pf_error *why);
  void *arg;
};

/* Errors: those of store_open. */
PF_MUST_CHECK int queue_db_open(struct queue_db **ret_db, uv_loop_t *loop,
    const struct queue_db_config *config, struct pf_error *reterr);
struct store *queue_db_store(struct queue_db *db);

struct queue_db_start {
  uint64_t epoch;
  uint64_t fence_next;
  bool epoch_renewed;
};
/* Reads, or makes, the identity of this queue. started(arg, NULL) if that failed. */
void queue_db_begin(
    struct queue_db *db, void (*started)(void *arg, const struct queue_db_start *start), void *arg);

/* Hands all rows to the queue: first origins, tombstones and what is leased or exhausted, then
 * held(); after that the queued rows step by step, then queue_loaded and loaded(). err: PF_OK,
 * PF_EIO, PF_ECORRUPT (a row that cannot be read; see the log). */
struct queue_db_load_callbacks {
  void (*held)(void *arg, int err);
  void (*loaded)(void *arg, int err, size_t rows);
  void *arg;
};
void queue_db_load(
    struct queue_db *db, struct queue *queue, const struct queue_db_load_callbacks *callbacks);

/* done(arg) once the group is durable; it is not called if the store breaks. */
void queue_db_write(struct queue_db *db, struct queue_group *group,
    void (*done)(void *arg, void *tag), void *arg, void *tag);

/* The blob of a row; NULL if it has gone. The callback owns the reference. */
void queue_db_read(struct queue_db *db, int64_t qid,
    void (*done)(void *arg, void *tag, struct queue_blob *blob), void *arg, void *tag);

/* Lets writes finish, then calls closed; db is gone when it returns. */
void queue_db_close(struct queue_db *db, void (*closed)(void *arg), void *arg);

#endif
