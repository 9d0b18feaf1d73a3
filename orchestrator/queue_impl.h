/* What the parts of the queue share: queue.c (events), job.c (states), ready.c (hosts and
 * fairness), lease.c (executors), origins.c, effects.c (rows and actions), load.c, stats.c.
 *
 * Threads    none: the caller serialises.
 * Ownership  Jobs point to their host, origin and executor, each of which lives at least as long as
 *            it has jobs.
 *
 * Limits     those of queue.h */
#ifndef PF_ORCHESTRATOR_QUEUE_IMPL_H
#define PF_ORCHESTRATOR_QUEUE_IMPL_H

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "orchestrator/queue.h"

#define US_PER_MS 1000
#define EXECUTOR_REPLACED_MAX 4

/* One target host: the unit of fairness. */
struct host {
  struct pf_map_node node;
  struct pf_list ring;  /* queue.ring while it has ready jobs */
  struct pf_list ready; /* of jobs */
  int64_t jobs, leased;
  size_t name_len;
  char name[];
};

struct origin {
  struct pf_map_node node;
  uint64_t id, epoch, low, local_max;
  char url[HOP_URL_MAX]; /* empty: not heard of since the start */
  int64_t heard_us; /* its last call, or answer for good to us or to an executor; 0 = none yet */
  int64_t silent_once_us; /* before this start, if it has not been heard of since */
  int64_t silent_row_us;  /* what its row says */
  bool silent;            /* the last call to it failed */
  bool forget;            /* the next group deletes its tombstones below low */
  struct pf_list dirty_link;
  struct pf_list asking, exhausted; /* of jobs */
  struct tombstones tombs;
  int64_t jobs;
};

/* One incarnation of one executor. */
struct executor {
  struct pf_list link;       /* queue.executors */
  struct pf_heap_node lease; /* queue.leases: when its silence ends all it holds */
  struct pf_list leased;     /* of jobs */
  uint64_t id, incarnation;
  char url[HOP_URL_MAX];
  int64_t heard_us;
  int64_t slots, leased_count;
  int64_t unusable; /* slots taken by what we do not know, or withheld by the executor itself */
  uint32_t beat;    /* number of heartbeats */
  bool known;       /* false: only leases in the database speak of it */
  bool leaving, full;
  /* Earlier incarnations under this id: a late heartbeat of theirs must not end ours. */
  uint64_t replaced[EXECUTOR_REPLACED_MAX];
};

struct job {
  struct pf_map_node node;   /* queue.jobs */
  struct pf_list link;       /* the list of its state */
  struct pf_list dirty;      /* queue.dirty */
  struct pf_heap_node timer; /* queue.timers */
  struct pf_job_id id;
  int64_t qid;
  struct host *host;
  struct origin *origin;
  struct executor *executor;         /* LEASED only */
  uint64_t executor_id, incarnation; /* of the last lease */
  struct queue_blob *blob;           /* NULL: only in the database */
  struct capability capability;
  struct wire_retry retry;
  struct pf_fence fence;
  int64_t accepted_us, queue_until_us, deadline_us;
  int64_t due_us; /* WAITING: time of the retry */
  int64_t attempt_ms;
  uint32_t version; /* of its state: answers about an older one are ignored */
  uint32_t beat;    /* LEASED: the last heartbeat that listed it */
  int attempt, lost, tries, missed;
  enum job_state state;
  enum outcome outcome; /* EXHAUSTED */
  enum certainty certainty;
  char *detail; /* EXHAUSTED: more about it, or NULL */
  bool repeatable;
  bool started;    /* LEASED, ASKING: START was granted for this fence */
  bool taken;      /* LEASED: the executor has it */
  bool was_leased; /* ASKING: it came here by a lost lease */
  bool blamed;     /* ASKING: and that counted in `lost` */
  bool doubted;    /* an older epoch may have sent it: never dispatch, see load.c */
  bool asked;      /* a call about this version is under way */
  bool stored;     /* its insert was handed out */
};

struct queue {
  struct queue_config config;
  struct pf_rand rand;
  uint64_t hash_key[2]; /* host names are chosen by outsiders */
  uint64_t fence_next, fence_reserved;
  int64_t qid_next;
  int64_t began_us;    /* the first time that was told; 0 = none yet */
  int64_t settled_us;  /* time of the last queue_settle */
  int64_t expected_us; /* when it wanted to be called again */
  size_t check_at;     /* bucket of queue_check_some, by pf_map_bucket */
  bool loading, stopping, fence_dirty, urgent;
  struct pf_map jobs, hosts, origins;
  struct pf_list ring; /* of hosts with ready jobs */
  struct pf_list executors;
  size_t executor_count;
  int64_t slots; /* of all known executors */
  struct pf_heap timers, leases;
  uint64_t by_state[JOB_STATE_COUNT];
  int64_t request_bytes;

  struct pf_list dirty, dirty_tombs, dirty_origins;
  int64_t *deletes;
  size_t delete_count, delete_cap;
  struct queue_action *actions;
  size_t action_first, action_count, action_cap;

  struct queue_stats counters;
};

/* ---- job.c ---- */

struct job *job_find(const struct queue *queue, struct pf_job_id id);
/* A new job, in no state yet: job_enter follows. */
struct job *job_new(struct queue *queue, const struct hop_job *item, struct origin *origin,
    struct queue_blob *blob, int64_t now_us);
void job_enter(struct queue *queue, struct job *job, enum job_state state);
/* The only function that changes job->state. */
void job_move(struct queue *queue, struct job *job, enum job_state to);
void job_timer(struct queue *queue, struct job *job, int64_t at_us);
/* Announced again: the deadline is the origin's, and what it has left may have grown (its machine's
 * clock went back, and it was started anew). */
void job_prolong(struct queue *queue, struct job *job, int64_t deadline_ms, int64_t now_us);
/* Its origin has finished with it, though its `end` has not come: it got lost, or the origin was
 * started anew since. */
bool job_is_over(const struct job *job);
/* Ended: tombstone, delete, free. */
void job_close(struct queue *queue, struct job *job);
void job_free(struct queue *queue, struct job *job); /* without a trace: queue_free only */
void job_drop_blob(struct queue *queue, struct job *job);
void job_ready(struct queue *queue, struct job *job);
void job_wait(struct queue *queue, struct job *job, int64_t delay_ms, int64_t now_us);
void job_ask(struct queue *queue, struct job *job);
void job_exhaust(
    struct queue *queue, struct job *job, enum outcome outcome, enum certainty certainty);

/* ---- ready.c ---- */

struct host *host_get(struct queue *queue, const char *name);
void host_unref(struct queue *queue, struct host *host);
void ready_push(struct queue *queue, struct job *job, bool front);
void ready_del(struct job *job);
/* Hands ready jobs to free slots. */
void ready_schedule(struct queue *queue, int64_t now_us);

/* ---- lease.c ---- */

struct executor *executor_find(const struct queue *queue, uint64_t id, uint64_t incarnation);
struct executor *executor_new(
    struct queue *queue, uint64_t id, uint64_t incarnation, int64_t heard_us, int64_t grace_ms);
int64_t executor_credit(const struct executor *executor);
void executor_lose(struct queue *queue, struct executor *executor);
void lease_attach(struct job *job, struct executor *executor);
void lease_detach(struct job *job);
/* blamed: the job may be what took its executor down. */
void lease_lose(struct queue *queue, struct job *job, bool blamed);
void lease_tick(struct queue *queue, int64_t now_us);

/* ---- origins.c ---- */

struct origin *origin_find(const struct queue *queue, uint64_t id);
struct origin *origin_get(struct queue *queue, uint64_t id); /* NULL over the limit */
/* It has called, or answered us, or an executor for good. */
void origin_spoke(struct queue *queue, struct origin *origin, int64_t now_us);
/* A call to it failed. */
void origin_fell_silent(struct queue *queue, struct origin *origin, int64_t now_us);
int64_t origin_silent_us(const struct queue *queue, const struct origin *origin, int64_t now_us);
void origin_dirty(struct queue *queue, struct origin *origin, bool urgent);
void origin_free(struct queue *queue, struct origin *origin);

/* ---- effects.c ---- */

void effects_dirty(struct queue *queue, struct job *job);
void effects_delete(struct queue *queue, int64_t qid);
void effects_act(struct queue *queue, enum queue_action_kind kind, struct job *job);
void effects_executor_gone(struct queue *queue, const struct executor *executor);
void effects_done(struct queue *queue);

#endif
