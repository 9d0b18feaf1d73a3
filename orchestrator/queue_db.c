#include "orchestrator/queue_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/rand.h"
#include "orchestrator/queue_db_rows.h"

struct queue_db {
  struct store *store;
  void *closed_arg;
  void (*closed)(void *arg);
  char boot_id[64];
  bool relaxed; /* commits of this start may be lost with the machine's power */
};

static const char *const migrations[] = {
    "CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK(id = 1), epoch INTEGER NOT NULL,"
    " fence_next INTEGER NOT NULL, boot_id TEXT NOT NULL, relaxed INTEGER NOT NULL);"
    /* head and request come last: a scan of the states need not touch their overflow pages. */
    "CREATE TABLE jobs(qid INTEGER PRIMARY KEY, origin INTEGER NOT NULL, local INTEGER NOT NULL,"
    " state INTEGER NOT NULL, attempt INTEGER NOT NULL, lost INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, fence INTEGER NOT NULL, executor INTEGER NOT NULL,"
    " incarnation INTEGER NOT NULL, outcome INTEGER NOT NULL, certainty INTEGER NOT NULL,"
    " head BLOB NOT NULL, request BLOB NOT NULL);"
    "CREATE TABLE tombs(origin INTEGER NOT NULL, page INTEGER NOT NULL, bits BLOB NOT NULL,"
    " PRIMARY KEY(origin, page)) WITHOUT ROWID;"
    "CREATE TABLE origins(origin INTEGER PRIMARY KEY, low INTEGER NOT NULL,"
    " local_max INTEGER NOT NULL);",
    "ALTER TABLE jobs ADD COLUMN detail TEXT;", /* of an exhausted job, or NULL */
    "ALTER TABLE origins ADD COLUMN silent_us INTEGER NOT NULL DEFAULT 0;",
};

const struct store_schema queue_db_schema = {
    .application_id = 0x70664f71, /* "pfOq" */
    .migrations = migrations,
    .version = PF_COUNT(migrations),
    .damaged = "move it aside, with its -wal file, and start again; the origins announce their "
               "jobs again",
};

int queue_db_open(struct queue_db **ret_db, uv_loop_t *loop, const struct queue_db_config *config,
    struct pf_error *reterr) {
  struct queue_db *db = pf_alloc(sizeof(*db));
  char path[4096];
  snprintf(path, sizeof(path), "%s/queue.db", config->dir);
  snprintf(db->boot_id, sizeof(db->boot_id), "%s", config->boot_id);
  db->relaxed = config->sync == STORE_SYNC_NORMAL;
  struct store_config store = {.path = path,
      .sync = config->sync,
      .schema = &queue_db_schema,
      .reserve_bytes = config->reserve_bytes,
      .prepare = queue_rows_prepare,
      .finish = queue_rows_finish,
      .on_broken = config->on_broken,
      .arg = config->arg};
  int err = store_open(&db->store, loop, &store, reterr);
  if (err)
    free(db);
  else
    *ret_db = db;
  return err;
}

struct store *queue_db_store(struct queue_db *db) {
  return db->store;
}

static void db_closed(void *arg) {
  struct queue_db *db = arg;
  void (*closed)(void *) = db->closed;
  void *closed_arg = db->closed_arg;
  free(db);
  closed(closed_arg);
}

void queue_db_close(struct queue_db *db, void (*closed)(void *arg), void *arg) {
  db->closed = closed;
  db->closed_arg = arg;
  store_close(db->store, db_closed, db);
}

/* ---- identity ---- */

struct begin_req {
  struct store_req req;
  struct queue_db *db;
  struct queue_db_start start;
  void (*started)(void *arg, const struct queue_db_start *start);
  void *arg;
};

/* Within one boot nothing that was committed can be lost; and in full mode never. */
static int begin_apply(void *user, struct store_req *req) {
  struct begin_req *begin = pf_container_of(req, struct begin_req, req);
  struct queue_meta meta = {0};
  int err = queue_rows_read_meta(user, &meta);
  if (err && err != PF_ENOTFOUND) return err;
  bool fresh = err == PF_ENOTFOUND;
  bool renew = !fresh && meta.relaxed && strcmp(meta.boot_id, begin->db->boot_id) != 0;
  if (fresh || renew) {
    meta.epoch = pf_rand_secret_u64();
    meta.fence_next = 1; /* 0 = never dispatched */
  }
  begin->start = (struct queue_db_start){meta.epoch, meta.fence_next, renew};
  snprintf(meta.boot_id, sizeof(meta.boot_id), "%s", begin->db->boot_id);
  meta.relaxed = begin->db->relaxed;
  return queue_rows_write_meta(user, &meta);
}

static void begin_done(struct store_req *req, int err) {
  struct begin_req *begin = pf_container_of(req, struct begin_req, req);
  begin->started(begin->arg, err ? NULL : &begin->start);
  free(begin);
}

void queue_db_begin(struct queue_db *db,
    void (*started)(void *arg, const struct queue_db_start *start), void *arg) {
  struct begin_req *begin = pf_alloc(sizeof(*begin));
  *begin = (struct begin_req){
      .req = {.apply = begin_apply, .done = begin_done}, .db = db, .started = started, .arg = arg};
  store_submit(db->store, &begin->req);
}

/* ---- loading ---- */

struct load_req {
  struct store_req req;
  struct queue_db *db;
  struct queue *queue;
  struct queue_db_load_callbacks callbacks;
  struct queue_rows_chunk chunk;
  int64_t after_qid; /* queued rows up to here are in the queue */
  int64_t last_qid;  /* of the rows that were there at the start */
  size_t rows;
  bool held; /* the first step is done */
};

static int load_apply(void *user, struct store_req *req) {
  struct load_req *load = pf_container_of(req, struct load_req, req);
  if (!load->held) return queue_rows_read_held(user, &load->chunk);
  return queue_rows_read_queued(
      user, load->after_qid, load->last_qid, QUEUE_DB_CHUNK, &load->chunk);
}

static void load_take(struct load_req *load) {
  struct queue_rows_chunk *chunk = &load->chunk;
  int64_t now_us = pf_clock_mono_ns() / 1000;
  if (!load->held) {
    load->last_qid = chunk->last_qid;
    queue_load_begin(load->queue, chunk->last_qid);
  }
  for (size_t i = 0; i < chunk->origin_count; i++)
    queue_load_origin(load->queue, &chunk->origins[i]);
  for (size_t i = 0; i < chunk->tomb_count; i++)
    queue_load_tomb(load->queue, &chunk->tombs[i]);
  for (size_t i = 0; i < chunk->count; i++) {
    struct queue_rows_loaded *row = &chunk->rows[i];
    struct queue_blob *blob = row->row.blob;
    if (blob && !queue_has_room(load->queue, blob->request_len)) blob = NULL;
    queue_load_row(load->queue, &row->row, &row->item, blob, now_us);
    load->after_qid = row->row.qid;
  }
  load->rows += chunk->count;
}

static void load_end(struct load_req *load, int err) {
  if (!err) queue_loaded(load->queue);
  load->callbacks.loaded(load->callbacks.arg, err, load->rows);
  free(load);
}

static void load_done(struct store_req *req, int err) {
  struct load_req *load = pf_container_of(req, struct load_req, req);
  if (!err) err = load->chunk.err;
  bool first = !load->held, last = load->held && !load->chunk.more;
  if (!err) load_take(load);
  queue_rows_chunk_done(&load->chunk);
  if (first) {
    load->held = true;
    load->after_qid = 0;
    load->callbacks.held(load->callbacks.arg, err);
  }
  if (err || last)
    load_end(load, err);
  else
    store_submit(load->db->store, &load->req);
}

void queue_db_load(
    struct queue_db *db, struct queue *queue, const struct queue_db_load_callbacks *callbacks) {
  struct load_req *load = pf_alloc(sizeof(*load));
  *load = (struct load_req){.req = {.apply = load_apply, .done = load_done},
      .db = db,
      .queue = queue,
      .callbacks = *callbacks};
  store_submit(db->store, &load->req);
}

/* ---- writing ---- */

struct write_req {
  struct store_req req;
  struct queue_group group;
  void (*done)(void *arg, void *tag);
  void *arg, *tag;
};

static int write_apply(void *user, struct store_req *req) {
  return queue_rows_write(user, &pf_container_of(req, struct write_req, req)->group);
}

static void write_done(struct store_req *req, int err) {
  struct write_req *write = pf_container_of(req, struct write_req, req);
  if (!err) {
    if (write->group.inserts) PF_FAULT("orchestrator.enqueue.after_commit");
    if (write->group.delete_count) PF_FAULT("orchestrator.complete.after_commit");
    write->done(write->arg, write->tag);
  }
  queue_group_done(&write->group);
  free(write);
}

void queue_db_write(struct queue_db *db, struct queue_group *group,
    void (*done)(void *arg, void *tag), void *arg, void *tag) {
  if (group->inserts) PF_FAULT("orchestrator.enqueue.before_commit");
  if (group->leases) PF_FAULT("orchestrator.lease.before_commit");
  if (group->delete_count) PF_FAULT("orchestrator.complete.before_commit");
  struct write_req *write = pf_alloc(sizeof(*write));
  *write =
      (struct write_req){.req = {.apply = write_apply, .done = write_done, .lazy = !group->urgent},
          .group = *group,
          .done = done,
          .arg = arg,
          .tag = tag};
  *group = (struct queue_group){0};
  store_submit(db->store, &write->req);
}

/* ---- reading one request again ---- */

struct read_req {
  struct store_req req;
  int64_t qid;
  struct queue_blob *blob;
  void (*done)(void *arg, void *tag, struct queue_blob *blob);
  void *arg, *tag;
};

static int read_apply(void *user, struct store_req *req) {
  struct read_req *read = pf_container_of(req, struct read_req, req);
  return queue_rows_read_blob(user, read->qid, &read->blob);
}

static void read_done(struct store_req *req, int err) {
  struct read_req *read = pf_container_of(req, struct read_req, req);
  (void)err; /* then there is no blob, and the store breaks or closes */
  read->done(read->arg, read->tag, read->blob);
  free(read);
}

void queue_db_read(struct queue_db *db, int64_t qid,
    void (*done)(void *arg, void *tag, struct queue_blob *blob), void *arg, void *tag) {
  struct read_req *read = pf_alloc(sizeof(*read));
  *read = (struct read_req){.req = {.apply = read_apply, .done = read_done},
      .qid = qid,
      .done = done,
      .arg = arg,
      .tag = tag};
  store_submit(db->store, &read->req);
}
