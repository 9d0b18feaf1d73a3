/* The whole system in one thread: the real decisions of the origin and of the queue over their real
 * tables, simulated executors, targets, clients and network, and a clock that jumps from event to
 * event. All chance comes from one seed, so that a run can be repeated exactly.
 *
 * Threads    none
 * Ownership  struct sim owns everything until sim_done.
 * Ordering   Events fire by (time, order of creation).
 * Limits     SIM_JOBS jobs, SIM_SUBMITS submits of SIM_CLIENTS clients, SIM_SLOTS jobs in an
 *            executor. */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/rand.h"

enum {
  SIM_JOBS = 256,
  SIM_CLIENTS = 3,
  SIM_SUBMITS = 24,
  SIM_SLOTS = 4,
  SIM_BATCH = 3,      /* items of a batch */
  SIM_ATTEMPTS = 4,   /* of a job that may be repeated, per queue */
  SIM_WHY_MAX = 256,  /* bytes of a verdict */
  SIM_CALL_MS = 5000, /* until a call between processes counts as failed */
};
#define SIM_MS 1000 /* of the clock, which counts microseconds */

enum sim_node {
  NODE_QUEUE,
  NODE_ORIGIN,
  NODE_EXECUTOR,
  NODE_EXECUTOR_2,
  NODES,
  NODE_WORLD = NODES
};

enum sim_path {
  PATH_JOBS,
  PATH_REGISTER,
  PATH_HEARTBEAT,
  PATH_START,
  PATH_COMPLETE,
  PATH_EXECUTE,
  PATH_RESULT,
  PATH_STATUS
};

/* Rules that the simulated edges can leave out, to prove that leaving them out is noticed.
 * X(symbol, "name") */
#define SIM_REMOVALS(X)                                                                            \
  X(REMOVE_NOTHING, "nothing")                                                                     \
  X(REMOVE_CLIENT_GATE, "client-told-before-commit")                                               \
  X(REMOVE_DISPATCH_GATE, "dispatch-before-lease-commit")                                          \
  X(REMOVE_ATOMIC, "commit-applied-in-part")                                                       \
  X(REMOVE_ENQUEUE_RETRY, "enqueue-sent-once")                                                     \
  X(REMOVE_END_RETRY, "end-sent-once")                                                             \
  X(REMOVE_RESULT_RETRY, "result-sent-once")                                                       \
  X(REMOVE_COMPLETE_AFTER, "complete-before-the-origin-has-it")                                    \
  X(REMOVE_DEDUPE, "effect-for-each-result")                                                       \
  X(REMOVE_SEEN, "no-seen-set")                                                                    \
  X(REMOVE_INCARNATION, "no-incarnation-check")                                                    \
  X(REMOVE_START, "no-start")                                                                      \
  X(REMOVE_STATUS, "no-status-before-redispatch")                                                  \
  X(REMOVE_LEASE, "no-lease-expiry")                                                               \
  X(REMOVE_EPOCH, "first-epoch-not-told")                                                          \
  X(REMOVE_FENCE, "fence-block-not-stored")
enum sim_removal {
#define X(symbol, name) symbol,
  SIM_REMOVALS(X)
#undef X
      REMOVALS
};
extern const char *const sim_removals[REMOVALS];

struct sim;
struct commit; /* origin/commit.h */

struct sim_event {
  struct pf_heap_node node;
  enum sim_node at;
  unsigned life; /* of that node; 0 = any: a message */
  void (*fire)(struct sim *sim, struct sim_event *event);
  uint64_t a, b;
  size_t len;
  char bytes[]; /* and a NUL */
};

/* A call that has not been answered. */
struct sim_call {
  struct pf_list link;
  uint64_t id;
  enum sim_node from;
  unsigned life;
  enum sim_path path;
  /* answer: NULL data = none came */
  void (*done)(struct sim *sim, struct sim_call *call, struct pf_slice answer);
  size_t len;
  _Alignas(16) char what[]; /* the caller's */
};

struct sim_state { /* of a node */
  unsigned life;   /* counts starts */
  bool down;
  int64_t paused_until_us;
};

/* Drawn for each seed; parts of 1000. */
struct sim_faults {
  unsigned lose, twice, slow, slow_ms;
  unsigned strike, freeze; /* a crash or a pause at the worst moment */
  unsigned crash[NODES], pause, cut, amnesia, jump, hang_up;
  unsigned connect_fails, resets, hangs; /* the target */
  unsigned keep_ms; /* the queue drops jobs of an origin that is silent for so long; 0 = never */
};

struct sim_job { /* what an outsider knows of a job */
  uint64_t local;
  int submit;
  bool repeatable, done;
  unsigned deleted, events, hits, answered;
  uint64_t fence;     /* of the latest dispatch, in this epoch of the queue; 0 = none */
  uint64_t hit_fence; /* of the latest request that left */
  bool excused;       /* the origin said that it has no result, or the executor that it gave up */
  unsigned ended_by;  /* the life of the origin that ended it by itself; 0 = none */
  bool end_heard;     /* by a queue */
};

struct sim_submit {
  bool batch, repeatable, keyed, sent, enqueued, lost, over, cancelled;
  int client;
  uint64_t conn; /* it was sent on */
  int64_t deadline_ms;
  uint64_t local; /* told with enqueued */
  unsigned sends, results, jobs, batch_events;
};

struct sim_client {
  uint64_t conn; /* 0 = none */
  bool ready;    /* its session has been confirmed on this connection */
  char session[64];
  int64_t offset;
  int64_t up_us, down_us; /* frames of a connection do not overtake each other */
};

struct sim_executor;
struct sim_origin;
struct sim_queue;

struct sim {
  uint64_t seed;
  struct pf_rand rand;
  enum sim_removal removal;
  bool trace;
  int64_t now_us, skew_ms; /* skew: of the wall clock */
  int64_t calm_us;         /* no more faults from then on */
  uint64_t events, sequence, hash, next_id;
  struct pf_heap heap;
  struct pf_list calls;
  struct sim_state nodes[NODES + 1];
  int64_t cut_until_us[NODES][NODES];
  struct sim_faults faults;
  struct sim_job jobs[SIM_JOBS];
  size_t job_count;
  struct sim_submit submits[SIM_SUBMITS];
  size_t submit_count;
  struct sim_client clients[SIM_CLIENTS];
  unsigned crashes, amnesias;
  uint64_t undelivered, abandoned; /* of all lives of the queue that have ended */
  struct sim_queue *queue;
  struct sim_origin *origin;
  struct sim_executor *executors[2];
  char why[SIM_WHY_MAX]; /* the first rule that was broken, empty = none */
};

/* The databases outlive a run: making their tables costs more than one. */
struct sim_stores {
  sqlite3 *origin, *queue;
  void *origin_tables, *queue_tables;
};

/* ---- sim.c ---- */

void sim_run(struct sim *sim, struct sim_stores *stores, uint64_t seed, enum sim_removal removal,
    bool trace);
void sim_fail(struct sim *sim, const char *fmt, ...) PF_PRINTF(2, 3);
void sim_note(struct sim *sim, const char *fmt, ...) PF_PRINTF(2, 3); /* into the log's hash */
bool sim_chance(struct sim *sim, unsigned parts); /* of 1000, while faults last */
int64_t sim_between(struct sim *sim, int64_t low, int64_t high);
/* Now a crash (or, with freeze, a pause) of the node would hurt most. */
void sim_worst_moment(struct sim *sim, enum sim_node node, bool freeze);
/* at: whose memory it belongs to; it is dropped if that is lost. */
void sim_after(struct sim *sim, enum sim_node at, int64_t us,
    void (*fire)(struct sim *sim, struct sim_event *event), uint64_t a, uint64_t b);
void sim_after_bytes(struct sim *sim, enum sim_node at, bool any_life, int64_t us,
    void (*fire)(struct sim *sim, struct sim_event *event), uint64_t a, uint64_t b,
    struct pf_slice bytes);

/* ---- net.c ---- */

void sim_send(struct sim *sim, enum sim_node from, enum sim_node to, enum sim_path path,
    int64_t timeout_ms, const struct pf_buf *batch,
    void (*done)(struct sim *sim, struct sim_call *call, struct pf_slice answer), const void *what,
    size_t len);
/* Once for each request that a node was handed; later calls with the same id are lost. */
void sim_answer(struct sim *sim, enum sim_node at, uint64_t request, struct pf_slice answer);
void sim_forget_calls(struct sim *sim, enum sim_node from);
int64_t sim_delay_us(struct sim *sim);
/* A batch of one: its head, then an item. */
void sim_batch(struct pf_buf *batch, const struct pf_buf *head, const struct pf_buf *item,
    struct pf_slice body);
/* Record 0 and the first item of an answer; false if there is none. */
bool sim_read(struct pf_slice answer, struct pf_slice *ret_head, struct pf_slice *ret_head_body,
    struct pf_slice *ret_item, struct pf_slice *ret_body);

/* ---- the nodes ---- */

/* The real tables, empty, in memory. */
void origin_open_store(struct sim_stores *stores);
void origin_close_store(struct sim_stores *stores);
void queue_open_store(struct sim_stores *stores);
void queue_close_store(struct sim_stores *stores);

void origin_wipe(struct sim_stores *stores);
void origin_start(struct sim *sim, struct sim_stores *stores);
void origin_stop(struct sim *sim);
void origin_serve(struct sim *sim, enum sim_path path, uint64_t request, struct pf_slice batch);
size_t origin_pending(const struct sim *sim);
/* The queue has confirmed all ends that the origin has told it. */
bool origin_heard(const struct sim *sim);
void origin_ws_open(struct sim *sim, struct sim_event *event);    /* a = connection */
void origin_ws_message(struct sim *sim, struct sim_event *event); /* a = connection */
void origin_ws_close(struct sim *sim, struct sim_event *event);   /* a = connection */

void queue_wipe(struct sim_stores *stores);
void queue_start_node(struct sim *sim, struct sim_stores *stores, uint64_t fresh_epoch);
void queue_stop(struct sim *sim);
void queue_serve(struct sim *sim, enum sim_path path, uint64_t request, struct pf_slice batch);
size_t queue_jobs(const struct sim *sim);
/* Jobs dropped for the silence of their origin, in all its lives. */
uint64_t queue_abandoned(const struct sim *sim);

void executor_start(struct sim *sim, enum sim_node node);
void executor_stop(struct sim *sim, enum sim_node node);
void executor_serve(struct sim *sim, enum sim_node node, uint64_t request, struct pf_slice batch);

/* ---- client.c ---- */

void clients_start(struct sim *sim);
void client_on_frame(struct sim *sim, uint64_t conn, struct pf_slice text);
void client_on_closed(struct sim *sim, uint64_t conn);
void client_hang_up(struct sim *sim, int client);
bool clients_finished(const struct sim *sim);

/* ---- oracle.c ---- */

struct sim_job *oracle_find(struct sim *sim, uint64_t local);
void oracle_committed(struct sim *sim, const struct commit *commit);
void oracle_effect(struct sim *sim, struct sim_job *job);
void oracle_hit(struct sim *sim, uint64_t local, uint64_t fence);
void oracle_dispatched(struct sim *sim, uint64_t local, uint64_t fence);
void oracle_new_queue(struct sim *sim);
void oracle_end(struct sim *sim);
void oracle_origin_rows(struct sim *sim, sqlite3 *db);
void oracle_queue_rows(struct sim *sim, sqlite3 *db, size_t max);
/* The text or the number of a member of a frame that our own encoder wrote. */
bool frame_text(const char *frame, const char *name, char *ret, size_t size);
int64_t frame_number(const char *frame, const char *name, int64_t otherwise);

#endif
