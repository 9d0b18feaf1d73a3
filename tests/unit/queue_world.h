/* A queue with a database that lives in memory, for tests: groups are applied when the test says
 * so, and a crash keeps what was applied and nothing else.
 *
 * Threads    none
 * Ownership  world_done frees all. Slices and rows belong to the world.
 * Ordering   Groups become durable in the order in which they were taken.
 * Limits     those of the queue */
#ifndef PF_TESTS_QUEUE_WORLD_H
#define PF_TESTS_QUEUE_WORLD_H

#include "orchestrator/queue.h"

#define MS 1000 /* of the queue's clock */

struct world_action {
  struct queue_action action;
  size_t gate; /* groups that must be durable before it may be carried out */
};

struct world {
  struct queue_config config;
  struct queue *queue;
  int64_t now_us;
  /* taken, in order; the first `durable` of them are in the database */
  struct queue_group *groups;
  size_t group_count, durable;
  struct world_action *actions; /* not yet taken by the test */
  size_t action_count;
  /* the database */
  struct queue_row *rows; /* qid 0: free */
  size_t row_count;
  struct queue_tomb_row *tombs;
  size_t tomb_count;
  struct queue_origin_row *origins;
  size_t origin_count;
  uint64_t fence_next;
};

void world_init(struct world *w, uint64_t seed);
void world_done(struct world *w);
/* Ends a turn: settles, takes the group and the actions, checks the invariants. */
void world_turn(struct world *w);
void world_commit(struct world *w); /* all groups taken so far */
void world_commit_some(struct world *w, size_t count);
/* Turn and commit, after ms have passed. */
void world_pass(struct world *w, int64_t ms);
/* Memory is lost; a new queue loads the rows, all at once. */
void world_crash(struct world *w);
/* The next action whose rows are durable; false if there is none. */
bool world_act(struct world *w, struct queue_action *ret_action);
/* Fails the test if the next action is not of this kind and about this job. */
struct queue_action world_expect(struct world *w, enum queue_action_kind kind, uint64_t local);
void world_expect_none(struct world *w);
const struct queue_row *world_row(const struct world *w, uint64_t local); /* NULL if it has gone */

#define WORLD_ORIGIN 7u
struct pf_job_id world_id(uint64_t local);
/* A repeatable job for host "a:80" with the default budgets. */
struct hop_job world_job(uint64_t local);
enum hop_job_answer world_put(struct world *w, const struct hop_job *job);
void world_origin(struct world *w, uint64_t epoch, uint64_t low);
/* held may be NULL; returns how many were to be aborted. */
size_t world_beat(struct world *w, uint64_t executor, uint64_t incarnation, int64_t slots,
    const struct hop_held *held, size_t count);
enum job_state world_state(const struct world *w, uint64_t local); /* JOB_STATE_COUNT: unknown */

#endif
