/* The origin's decisions: actors, turns, jobs, sessions and results, without any I/O.
 *
 * The core is told what happened (core_on_…) and asks the edge to act (struct origin_edge). It
 * includes no header of libuv, curl, libwebsockets or SQLite, so that tests and the simulator drive
 * the same code that serves production.
 *
 * Threads    One loop thread calls everything.
 * Ownership  See each function. Across calls, objects are named by id, never by pointer.
 * Ordering   Effects of turns become durable in the order of the turns (origin/commit.h).
 * Limits     struct core_limits. */
#ifndef ORIGIN_CORE_H
#define ORIGIN_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/id.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/rand.h"
#include "origin/actor.h"
#include "origin/commit.h"
#include "origin/state.h"
#include "wire/hop.h"

struct core;

/* ---- what the core asks of the edge ---- */

/* A question to the database, answered later by done(core, lookup) on the loop; done frees it with
 * lookup_free. The meaning of the fields of a row is that of the op that wrote it (commit.h). */
enum lookup_kind {
  LOOKUP_ACTOR,    /* by key "class\0name": row 0 {id}, then state rows {a, b}; no rows = new */
  LOOKUP_ACTOR_ID, /* by id: row 0 {id, a = class, b = name}, then state rows */
  LOOKUP_JOBS, /* jobs with id > n, at most LOOKUP_PAGE, ascending: {id, other, n, m = runs, flag =
                * parked, a = head, b = result head, c = result body, d = class} */
  LOOKUP_REQUEST, /* by id: {a = request} */
  LOOKUP_RESULT,  /* by id: {id, n, flag, a = message, b = body, c = whom, d = late message} */
  LOOKUP_EVENTS,  /* session id, offset > n, at most LOOKUP_PAGE: {n = offset, a = frame} */
  LOOKUP_SUBMIT,  /* by scope id and key: {other = job, b = digest} */
  LOOKUP_JOB_IDS, /* jobs with id > n, at most LOOKUP_IDS_PAGE, ascending: {id} */
};
#define LOOKUP_PAGE 512
#define LOOKUP_IDS_PAGE 1000

struct lookup_row {
  struct lookup_row *next;
  uint64_t id, other;
  int64_t n, m;
  bool flag;
  struct pf_slice a, b, c, d;
};

struct lookup {
  struct pf_list link; /* private to the core */
  enum lookup_kind kind;
  uint64_t id;
  int64_t n;
  struct pf_slice key;
  struct pf_arena arena; /* key and rows live here */
  struct lookup_row *rows, **rows_end;
  unsigned row_count;
  void (*done)(struct core *core, struct lookup *lookup);
  /* The asker's own: */
  uint64_t token;
  unsigned index;
  void *arg;
};
struct lookup *lookup_new(
    enum lookup_kind kind, uint64_t id, void (*done)(struct core *, struct lookup *));
struct lookup_row *lookup_add_row(struct lookup *lookup); /* for the database side */
void lookup_rows_clear(struct lookup *lookup);            /* to ask once more */
void lookup_free(struct lookup *lookup);

/* Content type of the answers to other processes (wire/batch.h). */
#define CORE_CONTENT_BATCH "application/x-proxyfetch-batch"

struct origin_edge {
  /* Makes it durable, then calls core_on_durable(core, commit). */
  void (*commit)(void *arg, struct commit *commit);
  void (*lookup)(void *arg, struct lookup *lookup);
  void (*send)(void *arg, uint64_t ws, struct pf_slice text);
  void (*close)(void *arg, uint64_t ws, int code, struct pf_slice reason);
  /* content_type NULL = application/json */
  void (*respond)(
      void *arg, uint64_t request, int status, const char *content_type, struct pf_slice body);
  /* Sends one item of POST /v1/jobs (copies both), then calls core_on_announced. */
  void (*announce)(void *arg, uint64_t local, struct pf_slice head, struct pf_slice body);
  bool (*space_low)(void *arg);
};

struct core_limits {
  int64_t pending_max;       /* jobs not done */
  int64_t pending_bytes_max; /* of their requests in memory, above which no new one is taken */
  int64_t result_keep_ms;    /* how long GET /v1/jobs/{id} finds a finished job */
  int64_t result_count_max;
  int64_t result_bytes_max; /* of all finished jobs: messages and bodies */
  int64_t session_keep_ms;  /* after its last socket has gone */
  int64_t sessions_max;
  int64_t session_events_max; /* kept per session */
  int64_t session_bytes_max;
  int64_t actor_idle_ms;  /* until an unused actor leaves memory */
  int64_t submit_keep_ms; /* how long a submitKey is remembered after its job's deadline */
  int64_t submit_count_max;
  int64_t reannounce_ms; /* how often an accepted job is announced again */
};

/* ---- jobs ---- */

/*                  result, cannot_crash
 *  COMMITTING ──► PENDING ───────────────────────────► FINISHING ──► gone
 *                   │  result, user code                 ▲
 *                   └──────────► RECEIVED ──► RUNNABLE ──┤
 *                                               │        │
 *                                               └──► PARKED (budget of runs spent, unknown name)
 * A parked job may be run again (RECEIVED) or thrown away (FINISHING). */
enum job_state {
  JOB_COMMITTING,
  JOB_PENDING,
  JOB_RECEIVED,
  JOB_RUNNABLE,
  JOB_FINISHING,
  JOB_PARKED,
  JOB_STATE_COUNT
};
#define JOB_RUNS_MAX                                                                               \
  5 /* runs of a continuation that take the process down, before it is parked                      \
     */

struct job {
  struct pf_map_node node;
  struct pf_list by_id; /* core.jobs_old or jobs_live: ascending */
  struct pf_list ready; /* core.announce_ready, while waiting for its turn */
  struct pf_heap_node deadline, announce;
  struct pf_list waiters; /* struct waiter: HTTP requests that wait for its end */
  uint64_t local;
  uint64_t actor;
  enum job_state state;
  bool repeatable, keep_result, accepted, enqueued_told, announcing, ended, no_executor;
  int runs;
  unsigned include;                              /* what the client asked for */
  const struct actor_continuation *continuation; /* NULL: the name is not known */
  struct capability capability;
  struct actor_client client;
  struct wire_retry retry;
  int64_t attempt_ms, queue_ms, deadline_wall_ms;
  uint64_t first_epoch; /* of the queue that it was first announced to, as in its row */
  bool announced_ever;  /* in this process */
  int64_t received_ns, durable_ns, accepted_ns, result_ns;
  double accept_ms; /* enqueueTime, as told */
  struct pf_slice client_id, host, context, continuation_name, submit_key; /* in text */
  uint64_t submit_scope;
  struct pf_map_node submit_node; /* in core.submits while pending, if it has a key */
  uint64_t digest[2];
  char *text;                    /* one block behind the slices above */
  char *client_id_text;          /* of a client_id that came later, or NULL */
  struct pf_buf request;         /* empty once the queue has answered: read again when needed */
  struct job_received *received; /* RECEIVED, RUNNABLE, PARKED */
};

/* A job that the origin has ended itself (cancel, deadline): the queue is told until it has said
 * so. In memory only: after a restart the queue learns it from the watermark, or from the answer to
 * a status or a result. */
struct ending {
  struct pf_map_node node;
  struct pf_list link;       /* core.endings_ready, while waiting for its turn */
  struct pf_heap_node again; /* core.endings_again, after a failure */
  uint64_t local;
};
#define ENDINGS_MAX 16384 /* above it the one that waits longest is left to the watermark */

/* A result whose continuation has not run with effect yet. */
struct job_received {
  struct hop_result result; /* slices in arena */
  struct pf_slice body;
  struct pf_arena arena;
  uint64_t answer_request; /* results_in entry that waits for the commit of the effects, 0 = none */
  unsigned answer_index;
};

/* ---- actors ---- */

struct actor {
  struct pf_map_node by_name, by_id;
  uint64_t id; /* 0 until loaded */
  const struct actor_class *class;
  char *name;
  struct core *core;
  bool loading, row_exists;
  struct state state;
  struct pf_list inbox;   /* struct event, while loading */
  struct pf_list sockets; /* struct socket */
  struct pf_list dirty;   /* core.dirty_actors */
  struct pf_list idle;    /* core.idle_actors, oldest use first */
  int64_t used_ms;
  struct turn *turn; /* while one runs */
};

/* ---- sessions ---- */

struct session {
  struct pf_map_node by_token, by_id;
  struct pf_list dirty;
  struct pf_heap_node idle; /* core.idle_sessions, while nothing would be lost with it */
  uint64_t id;              /* start number << PF_LOCAL_COUNT_BITS | count: it never returns */
  uint64_t actor;
  unsigned char token[16];
  uint64_t ws;         /* attached socket, 0 = none */
  int64_t next_offset; /* of the next event; the first is 1 */
  int64_t acked;       /* everything up to here is deleted */
  int64_t durable;     /* highest offset that is on disk */
  int64_t sent;        /* highest offset given to the attached socket */
  int64_t claimable;   /* found by a start since its client was here; -1 = it was here since */
  int64_t bytes;       /* of the kept events */
  int64_t seen_ms;     /* core.kept_ms when it last had a socket, as far as its row tells */
  int64_t pending;     /* jobs */
  bool replaying;
};

struct socket {
  struct pf_map_node node;
  struct pf_list of_actor;
  uint64_t ws;
  struct actor *actor;
  uint64_t session;
  bool spoke;      /* it has said something else than a `resume` that was refused */
  bool taken_over; /* another socket has its session; what it still says is not heard */
};

struct core_stats {
  uint64_t fetches, enqueued, results_ok, results_failed, duplicates, stale, unknown, late;
  uint64_t turns, turns_undone, parked, commits, invariant_failures;
  uint64_t sessions_evicted, sessions_expired, results_forgotten, submits_forgotten;
};

struct core {
  struct origin_edge edge;
  void *edge_arg;
  const struct core_limits *limits;
  const struct pf_log *log;
  struct pf_rand rand;
  uint64_t hash_key[2];
  const struct actor_class *const *classes; /* NULL-terminated */

  uint64_t origin_id, origin_epoch; /* epoch: the start number, as the registry's fence */
  uint64_t queue_epoch;             /* 0 = not known yet */
  uint64_t next_local, next_actor, next_session;
  int64_t now_ns, wall_ms;
  /* The wall clock at the start, and the time since then: what is kept for a time is stamped and
   * forgotten by it, so that a clock that is set meanwhile neither loses it nor keeps it longer. */
  int64_t kept_ms;
  bool timed; /* the time has been set once */

  struct commit *open;    /* never NULL */
  struct pf_list lookups; /* asked since the last flush */
  uint64_t durable_seq;
  struct pf_list dirty_actors, dirty_sessions;

  struct pf_map jobs;
  struct pf_list jobs_old, jobs_live;
  size_t job_count[JOB_STATE_COUNT];
  size_t accepted;      /* of the pending ones: the queue has them */
  size_t request_bytes; /* of struct job.request, together */
  bool loading;         /* jobs of earlier runs are still being read */
  uint64_t load_cursor;
  struct pf_heap deadlines, announces;
  struct pf_list announce_ready;
  unsigned announcing;
  struct pf_map endings;
  struct pf_list endings_ready;
  struct pf_heap endings_again;
  int64_t announce_retry_ms; /* backoff, 0 = the queue answers */

  struct pf_map actors_by_name, actors_by_id;
  struct pf_list idle_actors;
  struct pf_map sockets;
  struct pf_map sessions_by_token, sessions_by_id;
  struct pf_heap idle_sessions; /* by the time at which their clients left */
  struct pf_map submits;
  struct pf_map results_in; /* struct result_batch by request id */
  struct pf_list late_rows; /* struct late_row: recorded, and not durable yet */
  struct pf_list listings;  /* struct listing: of jobs, for operators */
  struct pf_heap waiters;   /* all, by their time-outs */
  int64_t result_rows, submit_rows;
  int64_t result_bytes; /* of the rows that are durable */
  int64_t swept_ms, sessions_swept_ms;
  uint64_t sweep_seq; /* of the commit with the last sweep */
  struct core_stats stats;
};

/* ---- life ---- */

struct core_start { /* what the database says at start */
  uint64_t origin_id, start_number;
  uint64_t next_actor;
  int64_t result_rows, result_bytes, submit_rows;
};
void core_init(struct core *core, const struct origin_edge *edge, void *edge_arg,
    const struct core_limits *limits, const struct pf_log *log,
    const struct actor_class *const *classes, const struct core_start *start, uint64_t seed);
/* Begins to read the jobs of earlier runs, page by page; new work goes on meanwhile. */
void core_recover(struct core *core);
/* A session of an earlier run, before core_recover. */
void core_add_session(struct core *core, const struct session *row);
void core_done(struct core *core);

/* Sets the time; call before every other core_on_… of a loop turn. */
void core_set_time(struct core *core, int64_t mono_ns, int64_t wall_ms);
/* Closes the open commit and hands it to the edge. Call once per loop iteration, before it sleeps.
 */
void core_flush(struct core *core);
/* Deadlines, announcements, idle actors, retention. */
void core_on_tick(struct core *core);
/* Milliseconds until the next core_on_tick is due, at most 1000. */
int64_t core_next_tick_ms(const struct core *core);
void core_on_durable(struct core *core, struct commit *commit); /* takes the commit */

/* ---- clients ---- */

int core_on_ws_open(struct core *core, uint64_t ws, struct pf_slice path); /* 0 or HTTP status */
void core_on_ws_message(struct core *core, uint64_t ws, struct pf_slice text);
void core_on_ws_close(struct core *core, uint64_t ws);

/* HTTP API; request is answered exactly once through edge.respond. */
void core_on_api_fetch(struct core *core, uint64_t request, struct pf_slice class_name,
    struct pf_slice actor_name, struct pf_slice body, int64_t wait_ms);
void core_on_api_job(struct core *core, uint64_t request, struct pf_job_id id, int64_t wait_ms);
void core_on_api_body(struct core *core, uint64_t request, struct pf_job_id id);
/* Ends a pending job; throws a parked one away. */
void core_on_api_cancel(struct core *core, uint64_t request, struct pf_job_id id);
/* The jobs that are not done, oldest first, at most limit (and CORE_LIST_MAX), with ids above that
 * of after (all zero: from the beginning; 400 if it is of another origin); state empty = all, 400
 * if it is none. Looked at page by page, however many there are. */
#define CORE_LIST_MAX 1000
#define CORE_WAITERS_MAX 10000 /* requests that wait for the end of a job; one more is answered */
void core_on_api_list(struct core *core, uint64_t request, struct pf_slice state, int64_t limit,
    struct pf_job_id after);
/* Gives a parked job a new budget of runs. */
void core_on_api_rerun(struct core *core, uint64_t request, struct pf_job_id id);

/* ---- the queue and the executors ---- */

void core_on_announced(
    struct core *core, uint64_t local, int err, const struct hop_job_reply *reply);
/* The queue has answered a registration or a batch. */
void core_on_queue_epoch(struct core *core, uint64_t epoch);
/* A batch to the queue failed as a whole: pauses grow until it answers again. */
void core_on_queue_down(struct core *core);
uint64_t core_low(const struct core *core); /* everything below is done */
size_t core_pending(const struct core *core);
/* Jobs that the queue has not accepted yet. */
size_t core_outbox(const struct core *core);
/* Jobs that the origin has ended and the queue has not confirmed. */
size_t core_endings(const struct core *core);
/* Age of the oldest job that is not done and not parked; 0 if there is none. */
int64_t core_oldest_ms(const struct core *core);
void core_on_results(struct core *core, uint64_t request, struct pf_slice batch);
void core_on_status(struct core *core, uint64_t request, struct pf_slice batch);

#endif
