/* The durable queue's decisions: which job goes where and when, and what is written first.
 *
 * Pure: no loop, no network, no database, no clock of its own. Events come in as calls with the
 * time; what is to be done comes out in two parts, which the caller takes after each turn:
 *
 *   queue_take_group   rows to write, as one part of a group commit
 *   queue_take_action  calls to make, ONLY after that group is durable
 *
 * A caller that applies groups in order and holds back actions and answers of a turn until its
 * group is durable keeps every promise about order: no dispatch before its lease, no answer before
 * its insert. Losing any suffix of the groups together with what was held back is a crash that the
 * protocol survives.
 *
 * Threads    none: the caller serialises.
 * Ownership  The queue owns all jobs. Callers name them by id and version: an answer about a
 *            version that has passed finds nothing. Blobs are counted references.
 * Ordering   Jobs of one host are dispatched in the order in which they became ready.
 * Limits     config.jobs_max jobs; config.request_bytes_max bytes of requests kept in memory (above
 *            it they are read again from the database); QUEUE_EXECUTORS_MAX, QUEUE_ORIGINS_MAX. */
#ifndef PF_ORCHESTRATOR_QUEUE_H
#define PF_ORCHESTRATOR_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "orchestrator/retry.h"
#include "orchestrator/tombstone.h"
#include "wire/hop.h"

#define QUEUE_EXECUTORS_MAX 256
#define QUEUE_ORIGINS_MAX 4096
/* With jobs here an origin announces them again each minute (its --reannounce-ms): one that says
 * nothing for so long may be gone for good. */
#define QUEUE_ORIGIN_SILENT_MS 300000
#define QUEUE_SLOTS_MAX 1000000 /* of one executor */
#define QUEUE_LOST_MAX 3        /* executors that one job may take down */
#define QUEUE_SUSPECTS_MAX 4    /* held by a lost executor: of more, none is blamed */
#define QUEUE_MISSED_MAX 2      /* heartbeats that may not list a taken job */
#define QUEUE_FENCE_BLOCK 65536 /* counters reserved by one write */
/* An origin's silence is noted in its row whenever it has grown by this part of
 * config.undelivered_keep_ms: so much of it is lost with a restart. */
#define QUEUE_SILENCE_NOTES 64

struct queue;

struct queue_config {
  uint64_t epoch;
  uint64_t fence_next; /* first counter that no earlier start can have used */
  uint64_t seed;       /* of the jitter */
  int64_t lease_ms;
  int64_t grace_ms;            /* added to the leases that a restart finds */
  int64_t undelivered_keep_ms; /* of a job after its deadline, if its origin is silent as long */
  struct retry_policy retry;
  int64_t jobs_max;
  int64_t request_bytes_max;
};

/* The head of a job and its request, as they came. */
struct queue_blob {
  unsigned refs;
  size_t head_len, request_len;
  char bytes[];
};
struct queue_blob *queue_blob_new(
    struct pf_slice head, struct pf_slice request); /* one reference */
struct queue_blob *queue_blob_ref(struct queue_blob *blob);
void queue_blob_unref(struct queue_blob *blob); /* NULL is fine */
static inline struct pf_slice queue_blob_head(const struct queue_blob *blob) {
  return pf_slice(blob->bytes, blob->head_len);
}
static inline struct pf_slice queue_blob_request(const struct queue_blob *blob) {
  return pf_slice(blob->bytes + blob->head_len, blob->request_len);
}

struct queue *queue_new(const struct queue_config *config);
void queue_free(struct queue *queue);
uint64_t queue_epoch(const struct queue *queue);

/* ---- events ---- */

/* One item of POST /v1/jobs. head is the record's head, of which item was decoded. `full` makes
 * the queue refuse what is new (the disk is nearly full). */
struct hop_job_reply queue_put(struct queue *queue, const struct hop_job *item,
    struct pf_slice head, struct pf_slice request, bool full, int64_t now_us);

/* The head of a batch, or PUT /v1/origins/{id}. PF_ELIMIT: too many origins. */
PF_MUST_CHECK int queue_origin_seen(
    struct queue *queue, const struct hop_jobs_head *head, int64_t now_us);

/* PUT /v1/executors/{id}: renews the leases it lists, and appends to ret_abort what its sender is
 * to drop (packed hop_held). PF_ELIMIT: too many executors. */
PF_MUST_CHECK int queue_heartbeat(struct queue *queue, const struct hop_heartbeat *beat,
    struct pf_slice held, int64_t now_us, struct pf_buf *ret_abort);

/* POST /v1/start: whether the first byte of this dispatch may leave. */
bool queue_start(struct queue *queue, const struct hop_held *held, int64_t now_us);

/* POST /v1/complete. */
void queue_complete(struct queue *queue, const struct hop_complete *item, int64_t now_us);

/* The process is about to end: from now on ready jobs stay where they are. */
void queue_stop_leasing(struct queue *queue);
/* Whether there is a lease that its executor has not answered for. */
bool queue_has_untaken(const struct queue *queue);

/* Lets time pass, then hands ready jobs to free slots. Once per turn, after the turn's events. */
void queue_settle(struct queue *queue, int64_t now_us);
/* When queue_settle has to be called even if nothing happens; INT64_MAX = never. */
int64_t queue_next_us(const struct queue *queue);

/* ---- what to write ---- */

enum queue_row_state { QUEUE_ROW_QUEUED, QUEUE_ROW_LEASED, QUEUE_ROW_EXHAUSTED }; /* stored */

struct queue_row {
  bool insert; /* else update */
  int64_t qid;
  struct pf_job_id job;
  enum queue_row_state state;
  int attempt, lost;
  struct pf_fence fence; /* counter 0: never dispatched */
  uint64_t executor, incarnation;
  enum outcome outcome; /* with EXHAUSTED */
  enum certainty certainty;
  char *detail;            /* with EXHAUSTED; NULL = none; the group's or the loader's */
  struct queue_blob *blob; /* with insert; a reference of the group's */
};
struct queue_tomb_row {
  uint64_t origin, number, bits[TOMB_PAGE_WORDS];
};
struct queue_origin_row {
  uint64_t origin, low, local_max;
  int64_t silent_us; /* how long it had said nothing, while a queue was there to hear it */
  bool forget;       /* delete the tombstone pages below low */
};
/* Rows of one turn; apply all of it in one transaction. */
struct queue_group {
  struct queue_row *rows;
  size_t row_count;
  int64_t *deletes; /* qids */
  size_t delete_count;
  struct queue_tomb_row *tombs;
  size_t tomb_count;
  struct queue_origin_row *origins;
  size_t origin_count;
  uint64_t fence_next; /* to store as the next start's first counter; 0 = unchanged */
  bool urgent;         /* actions or answers wait for it; else it may be lazy */
  unsigned inserts, leases;
};
/* Moves out what has changed since the last call. False if nothing has. */
bool queue_take_group(struct queue *queue, struct queue_group *ret_group);
bool queue_has_group(const struct queue *queue);
void queue_group_done(struct queue_group *group);
void queue_row_done(struct queue_row *row); /* what it refers to */

/* ---- what to do ---- */

enum queue_action_kind {
  QUEUE_DISPATCH,      /* send queue_view_execute() to the executor; then queue_on_dispatch */
  QUEUE_ASK,           /* ask the origin by /__status; then queue_on_status */
  QUEUE_DELIVER,       /* send queue_view_result() to the origin; then queue_on_delivery */
  QUEUE_EXECUTOR_GONE, /* forget the connection to (executor, incarnation) */
};
struct queue_action {
  enum queue_action_kind kind;
  uint32_t version;
  struct pf_job_id job;
  uint64_t executor, incarnation; /* DISPATCH, EXECUTOR_GONE */
  bool left;                      /* EXECUTOR_GONE: it had said goodbye */
};
bool queue_take_action(struct queue *queue, struct queue_action *ret_action);

/* The item of a DISPATCH, if it is still wanted. *ret_blob gets a reference, or NULL if the request
 * is only in the database, under *ret_qid. */
bool queue_view_execute(struct queue *queue, const struct queue_action *action, int64_t now_us,
    struct hop_execute *ret_item, struct queue_blob **ret_blob, int64_t *ret_qid);
/* Whether an ASK is still wanted. */
bool queue_view_ask(const struct queue *queue, const struct queue_action *action);
/* The item of a DELIVER, if it is still wanted. */
bool queue_view_result(
    struct queue *queue, const struct queue_action *action, struct hop_result *ret_item);
/* Where an origin or an executor answers; false if it is not known (now). */
bool queue_view_origin(
    const struct queue *queue, uint64_t origin, struct hop_jobs_head *ret_origin);
bool queue_view_executor(
    const struct queue *queue, uint64_t executor, uint64_t incarnation, char ret_url[HOP_URL_MAX]);

#define QUEUE_NO_ANSWER (-1) /* of a call that failed as a whole: it will be repeated */

/* answer: enum hop_execute_answer, enum hop_status_answer, enum hop_result_answer, or
 * QUEUE_NO_ANSWER. An answer by another origin than the one meant counts as none. */
void queue_on_dispatch(
    struct queue *queue, const struct queue_action *action, int answer, int64_t now_us);
void queue_on_status(
    struct queue *queue, const struct queue_action *action, int answer, int64_t now_us);
void queue_on_delivery(
    struct queue *queue, const struct queue_action *action, int answer, int64_t now_us);

/* ---- loading ---- */

/* Between queue_new and queue_loaded rows are handed in; the queue serves meanwhile. Leased and
 * exhausted rows come before anything is served, because START and heartbeats ask for them. */
/* last_qid: of all rows. */
void queue_load_begin(struct queue *queue, int64_t last_qid);
void queue_load_origin(struct queue *queue, const struct queue_origin_row *row);
void queue_load_tomb(struct queue *queue, const struct queue_tomb_row *row);
/* item: decoded from the row's head. blob (a reference is taken) may be NULL: read at dispatch. */
void queue_load_row(struct queue *queue, const struct queue_row *row, const struct hop_job *item,
    struct queue_blob *blob, int64_t now_us);
void queue_loaded(struct queue *queue);
/* Whether the queue would keep this many more bytes of requests in memory. */
bool queue_has_room(const struct queue *queue, size_t request_bytes);

/* ---- seeing ---- */

enum job_state { JOB_READY, JOB_WAITING, JOB_LEASED, JOB_ASKING, JOB_EXHAUSTED, JOB_STATE_COUNT };
extern const char *const job_state_names[JOB_STATE_COUNT];

struct queue_stats {
  uint64_t inserted, known, done_again, lost, full; /* answers of queue_put */
  uint64_t dispatched, redispatched, full_answers;
  uint64_t delivered, retried, ended;
  uint64_t undelivered; /* results that executors gave up */
  uint64_t abandoned;   /* jobs dropped because their origin has been silent for too long */
  uint64_t leases_lost, executors_lost, exhausted, poisoned, queue_timeouts;
  uint64_t started, start_refused, aborts;
  uint64_t jobs, by_state[JOB_STATE_COUNT]; /* now */
  uint64_t request_bytes;
  uint64_t executors, slots, free_slots, origins, hosts;
  uint64_t silent_origins; /* with jobs, and not heard of for more than QUEUE_ORIGIN_SILENT_MS */
  int64_t oldest_ready_us; /* age; 0 = none is ready */
  bool loading;
};
void queue_read_stats(const struct queue *queue, int64_t now_us, struct queue_stats *ret_stats);
/* queue_stats.abandoned, without a look at all origins and executors. */
uint64_t queue_count_abandoned(const struct queue *queue);

struct queue_executor_info {
  uint64_t executor, incarnation;
  const char *url;
  int64_t slots, free, leased, silent_us;
  bool leaving;
};
struct queue_origin_info {
  uint64_t origin, epoch, low;
  const char *url;         /* empty: not heard of since the start */
  int64_t jobs, silent_us; /* since it was heard of, not counting the time without a queue */
};
void queue_each_executor(const struct queue *queue, int64_t now_us,
    void (*each)(const struct queue_executor_info *info, void *arg), void *arg);
void queue_each_origin(const struct queue *queue, int64_t now_us,
    void (*each)(const struct queue_origin_info *info, void *arg), void *arg);
/* A job whose end is known here, and that its origin has not been told. */
struct queue_undelivered_info {
  struct pf_job_id job;
  enum outcome outcome;
  enum certainty certainty;
  int attempt;
  const char *detail; /* NULL = none */
  int64_t silent_us;  /* its origin */
};
/* The first so many of them. */
void queue_each_undelivered(const struct queue *queue, int64_t now_us, size_t limit,
    void (*each)(const struct queue_undelivered_info *info, void *arg), void *arg);
/* One job, for operators and tests. */
bool queue_find(const struct queue *queue, struct pf_job_id id, enum job_state *ret_state,
    int *ret_attempt, struct pf_fence *ret_fence);

/* Looks at the jobs of the next so many hash buckets, and at the next timer. Returns how many broke
 * an invariant: each job has a place and a lease or timer that will move it on. After queue_settle
 * it must be 0. */
uint64_t queue_check_some(struct queue *queue, size_t buckets);
/* Asserts the same of all jobs, and that the counts agree. Costs a walk over everything. */
void queue_check(const struct queue *queue);

#endif
