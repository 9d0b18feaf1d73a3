/* The state of the whole modelled system: what each process has on disk and in memory, and what is
 * on the way between them. Time does not exist: a timer may fire at any moment at which the
 * protocol would let it.
 *
 * Every field of struct state is smaller than 16, so that a state is stored as half bytes.
 *
 * Threads    pure
 * Ownership  States are plain values.
 * Ordering   The network is unordered: `net` is kept sorted, so that equal contents are equal
 *            states.
 * Limits     those of the first enum */
#ifndef PF_MODEL_STATE_H
#define PF_MODEL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
  JOBS_MAX = 2,
  EXECUTORS = 2,
  EPOCHS_MAX = 4,     /* queues that replaced one another */
  DISPATCHES_MAX = 4, /* of a job in one epoch */
  NET_MAX = 28,       /* messages on the way */
};

/* ---- messages ---- */

/* A JOB is an item of POST /v1/jobs, EXECUTE of /v1/execute, and so on: architecture, section 6. */
enum msg_type {
  MSG_JOB,        /* origin -> queue; info: the row's first epoch + 1, 0 = none */
  MSG_END,        /* origin -> queue: the origin has ended the job (cancel, deadline) */
  MSG_JOB_ANSWER, /* info: enum job_answer; epoch: the queue's */
  MSG_EXECUTE, /* queue -> executor; info: (meant for an earlier incarnation) * 2 + last attempt */
  MSG_START,   /* executor -> queue: may I send the first byte? */
  MSG_START_ANSWER,  /* info: 1 = go */
  MSG_RESULT,        /* executor or queue -> origin */
  MSG_RESULT_ANSWER, /* info: 1 = final (accepted, duplicate, stale, unknown), 0 = try again */
  MSG_STATUS,        /* queue -> origin: what do you know of this job? */
  MSG_STATUS_ANSWER, /* info: enum status_answer */
  MSG_COMPLETE,      /* executor -> queue; info: enum completion */
  MSG_COMPLETE_ANSWER,
};

enum job_answer { JOB_HAVE, JOB_DONE, JOB_LOST };
enum status_answer { STATUS_PENDING, STATUS_SETTLED, STATUS_UNKNOWN };
enum completion { COMPLETION_DELIVERED, COMPLETION_RETRY };

enum { TOLD_BY_ANOTHER = 15 }; /* job.told: not by the queue of this epoch */
enum { BY_QUEUE = EXECUTORS }; /* msg.exec of a result that the queue itself delivers */

struct msg {
  uint8_t type, job;
  uint8_t exec;     /* executor concerned */
  uint8_t epoch, n; /* the fence: (queue epoch, dispatch counter) */
  uint8_t info;
};

/* ---- what each process knows of a job ---- */

enum row_state {
  ROW_NONE,
  ROW_PENDING,
  ROW_RECEIVED, /* the result is stored, the continuation has not run */
  ROW_DONE,
  ROW_FORGOTTEN, /* only without RULE_KEY_REMEMBERED */
};
struct row { /* in the origin */
  uint8_t state;
  uint8_t declared;    /* 1: the result is a failure that queue or origin declared */
  uint8_t first_epoch; /* queue epoch + 1 under which it was or may have been announced first */
  uint8_t effects;     /* of the continuation: part of the same database */
};

enum entry_state {
  ENTRY_NONE,
  ENTRY_QUEUED,
  ENTRY_LEASED,
  ENTRY_FAILING, /* the queue itself delivers a failure to the origin */
  ENTRY_DONE,    /* tombstone */
};
struct entry { /* in the queue */
  uint8_t state;
  uint8_t attempt;   /* leases so far */
  uint8_t n;         /* fence counter of the lease */
  uint8_t exec;      /* who has the lease */
  uint8_t orphan;    /* 1: of an incarnation that is gone */
  uint8_t below_low; /* the origin's watermark has passed this id */
};

enum slot_state {
  SLOT_EMPTY,
  SLOT_TAKEN,
  SLOT_RESULT,    /* fetched; the origin has to take the result */
  SLOT_SENT,      /* only without RULE_RESULT_REPEATED */
  SLOT_DELIVERED, /* the origin has answered; the queue has to hear of it */
  SLOT_RETRY,     /* failed in a way that may be repeated; the queue has to hear of it */
};
struct slot { /* in an executor: a transfer */
  uint8_t state;
  uint8_t epoch, n; /* fence */
  uint8_t last;     /* this is the last attempt */
};

enum note { /* where a rule is left out */
  NOTE_NONE,
  NOTE_HALF_DONE,     /* of effects and mark */
  NOTE_NOT_ANNOUNCED, /* as far as this process knows */
  NOTE_ANNOUNCED_ONCE,
};

struct job {
  /* client */
  uint8_t told; /* epoch + 1 of the queue whose acceptance let the origin say `enqueued` */
  /* origin */
  struct row row, row_disk;
  uint8_t note;   /* memory: enum note */
  uint8_t outbox; /* disk: 1 sent, 2 acknowledged, where a rule makes that matter */
  /* queue */
  struct entry entry, entry_disk;
  uint8_t started; /* memory: START was granted */
  uint8_t asking;  /* memory: the lease is lost, the origin is being asked */
  uint8_t counter; /* disk: dispatch counter; in truth one for all jobs, reserved in blocks */
  /* executors */
  struct slot slot[EXECUTORS];
  uint8_t seen[EXECUTORS][EPOCHS_MAX]; /* memory: bit n - 1 of the fence */
  /* what an observer outside the system writes down */
  uint8_t fetches;
  uint8_t settled; /* 1: the origin had a result when the lease was lost, 2: and yet it was
                      dispatched again */
};

struct state {
  uint8_t submitted[JOBS_MAX]; /* per key: submits of the client so far */
  uint8_t known_epoch;         /* origin's memory: queue epoch + 1, 0 = has not asked yet */
  uint8_t epoch;               /* of the queue's database */
  struct job job[JOBS_MAX];
  uint8_t net_count;
  uint16_t net[NET_MAX];
};

void row_commit(struct job *job);
bool row_is_durable(const struct job *job);
/* The origin has a result, or has ended the job without one. */
bool row_settled(const struct row *row);

/* ---- the network ---- */

enum process { ORIGIN, QUEUE, EXECUTOR_0 }; /* EXECUTOR_0 + index */
unsigned msg_sender(struct msg msg);
unsigned msg_receiver(struct msg msg);
bool msg_is_answer(struct msg msg);

uint16_t msg_pack(struct msg msg);
static inline struct msg msg_unpack(uint16_t packed) {
  return (struct msg){
      .type = (uint8_t)(packed >> 12),
      .job = packed >> 11 & 1,
      .exec = packed >> 9 & 3,
      .epoch = packed >> 7 & 3,
      .n = packed >> 4 & 7,
      .info = packed & 15,
  };
}
bool net_has(const struct state *s, struct msg msg);
/* Two equal messages on the way are one: copies are made when a message is delivered (faults.c). */
void net_send(struct state *s, struct msg msg);
void net_remove(struct state *s, unsigned index);
/* Appends "result(job 0, fence A1, of executor 0)". */
void msg_words(struct pf_buf *buf, struct msg msg);

/* ---- storage ---- */

/* Executors are alike: of two states that differ in their numbers only, takes one. */
void state_order_executors(struct state *s);

enum { STATE_PACKED_MAX = 1 + (int)offsetof(struct state, net_count) / 2 + 2 * NET_MAX };

/* Writes s as bytes, comparable with memcmp, and returns their number. jobs: how many are in use.
 */
size_t state_pack(const struct state *s, unsigned jobs, uint8_t packed[STATE_PACKED_MAX]);
void state_unpack(struct state *s, unsigned jobs, const uint8_t *packed);
size_t state_packed_len(unsigned jobs, const uint8_t *packed);

#endif
