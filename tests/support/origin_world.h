/* An origin without I/O, for tests: the real core over the real tables in a real SQLite file, with
 * an edge that records what leaves and lets the test decide when commits become durable.
 *
 * Threads    none
 * Ownership  The world owns all it records until world_done.
 * Ordering   Commits and look-ups share one queue, as in the store.
 * Limits     RECORDS_MAX of each kind. */
#ifndef TESTS_SUPPORT_ORIGIN_WORLD_H
#define TESTS_SUPPORT_ORIGIN_WORLD_H

#include <sqlite3.h>

#include "origin/core.h"

enum { RECORDS_MAX = 16384 };

struct record {
  uint64_t id; /* socket, request or local job id */
  int code;    /* status, close code */
  char *text;  /* NUL-terminated */
  size_t len;
  char *body; /* of announcements */
  size_t body_len;
};

struct records {
  struct record items[RECORDS_MAX];
  size_t count;
};

struct world {
  struct core core;
  struct core_limits limits;
  struct pf_log log;
  sqlite3 *db;
  void *tables; /* struct origin_db */
  int64_t now_ms;
  int64_t wall_jump_ms; /* how far the wall clock has jumped */
  struct pf_list store; /* commits and look-ups that wait */
  struct records frames, closes, responses, announcements;
  const struct actor_class *const *classes;
  bool space_low;
};

/* classes NULL = those that are built in. */
void world_init(struct world *world, const struct actor_class *const *classes);
void world_done(struct world *world);
/* Memory is gone, what was not applied to the database too; starts again from the database. */
void world_restart(struct world *world);

/* Lets the core flush, then makes the oldest waiting commit durable or answers the oldest look-up.
 * False if there was nothing. */
bool world_step(struct world *world);
/* Until nothing is left to do. */
void world_settle(struct world *world);
void world_advance(struct world *world, int64_t ms);

void world_say(struct world *world, uint64_t ws, const char *text);
/* The queue's answer to all announcements recorded so far, which are then forgotten. */
void world_accept_all(struct world *world, enum hop_job_answer answer);
/* Delivers one result for a job that was announced; returns the request id. */
uint64_t world_deliver(
    struct world *world, const struct hop_job *job, int status, const char *body);
/* The same for a failure that the queue declares. */
uint64_t world_declare(struct world *world, const struct hop_job *job, enum outcome outcome);
/* The answer to one item of a delivered batch; -1 if not answered yet. */
int world_answer(const struct world *world, uint64_t request);
/* Decodes the index-th announcement. */
struct hop_job world_announced(const struct world *world, size_t index);

/* Forgets what has left so far. */
void world_forget_records(struct world *world);
size_t world_count_frames(const struct world *world, const char *part);
/* The newest frame that contains part, or NULL. */
const char *world_find_frame(const struct world *world, const char *part);
const struct record *world_find_response(const struct world *world, uint64_t request);
int64_t world_count_rows(struct world *world, const char *table);

#endif
