/* The output gate: what turns want written, and what they want to say once it is durable.
 *
 * All turns of one loop iteration fill the same open commit. It is made durable as one unit by the
 * edge, and only then its outputs leave. Because commits become durable in the order in which they
 * were closed, an output that has read somebody's unconfirmed write may simply ride in the open
 * commit: whatever it read is at most as new.
 *
 * Threads    Built on the loop; after commit_close the store reads ops, and nobody changes
 * them. Ownership  Everything a commit points to lives in its arena and goes with commit_free.
 * Ordering   Ops apply and outputs leave in the order of their creation.
 * Limits     none of its own.
 * "Kept ms" are those of core.kept_ms. */
#ifndef ORIGIN_COMMIT_H
#define ORIGIN_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"

enum op_kind {
  OP_ACTOR_PUT,      /* id, a = class, b = name */
  OP_STATE_PUT,      /* id = actor, a = key, b = value */
  OP_STATE_DELETE,   /* id = actor, a = key */
  OP_JOB_PUT,        /* id = local id, other = actor, n = queue epoch, a = head, b = request */
  OP_JOB_EPOCH,      /* id, n = queue epoch of the first announcement */
  OP_JOB_RECEIVED,   /* id, a = result head, b = result body: safe before its continuation runs */
  OP_JOB_RUNS,       /* id, n = runs of the continuation, counted before the run */
  OP_JOB_PARK,       /* id, a = why: kept, and reported, but no longer tried */
  OP_JOB_UNPARK,     /* id: it gets a new budget of runs */
  OP_JOB_DELETE,     /* id */
  OP_RESULT_PUT,     /* id, other = actor, n = kept ms, flag = takes a late result, a = result
                      * message, b = body, c = whom a late result is for */
  OP_RESULT_LATE,    /* id, a = late result message */
  OP_SESSION_PUT,    /* id, other = actor, n = next offset, m = acked, o = claimable, a = token,
                      * seen in w */
  OP_EVENT_PUT,      /* id = session, n = offset, w = kept ms, a = frame */
  OP_EVENTS_DELETE,  /* id = session, n = last offset to go */
  OP_SESSION_DELETE, /* id */
  OP_SUBMIT_PUT,     /* id = scope, a = key, b = digest, other = local job id, w = kept ms of the
                      * job's deadline */
  OP_SWEEP_RESULTS,  /* w = done before this kept ms; n = rows and other = bytes too many, which go
                      * whatever their age; the database side sets m = rows deleted */
  OP_SWEEP_SUBMITS,  /* w = of a deadline before this kept ms; the database side sets m = rows
                      * deleted */
};

struct op {
  struct op *next;
  enum op_kind kind;
  bool flag;
  uint64_t id, other;
  int64_t n, m, o, w;
  struct pf_slice a, b, c;
};

enum output_kind {
  OUT_FRAME,    /* id = socket, bytes = text */
  OUT_EVENT,    /* id = session, n = offset, bytes = text */
  OUT_CLOSE,    /* id = socket, code, bytes = reason */
  OUT_RESPOND,  /* id = HTTP request, code = status, bytes, content_type */
  OUT_ANNOUNCE, /* id = local job id: durable, now the queue may know */
  OUT_ANSWER,   /* id = result batch, index, code = enum hop_result_answer */
  OUT_RUN,      /* id = local job id: its result is safe, run the continuation */
  OUT_FORGET,   /* id = local job id: its row is gone, so may the memory be */
  OUT_REPLAY,   /* id = socket: its greeting has left, what its session missed may follow */
  OUT_END,      /* id = local job id: tell the queue that the origin has ended it */
};

struct output {
  struct output *next;
  enum output_kind kind;
  int code;
  unsigned index;
  uint64_t id;
  int64_t n;
  struct pf_slice bytes;
  const char *content_type; /* a literal; NULL = application/json */
};

struct commit {
  struct pf_arena arena;
  struct op *ops, **ops_end;
  struct output *outputs, **outputs_end;
  uint64_t seq;
  int64_t opened_ns;
  unsigned op_count;
  const struct op *sweep;        /* the OP_SWEEP_RESULTS in it, if any */
  const struct op *submit_sweep; /* the OP_SWEEP_SUBMITS in it, if any */
  int64_t result_bytes; /* what it adds to those of stored results; set by the database side */
};

struct commit *commit_new(uint64_t seq, int64_t now_ns);
void commit_free(struct commit *commit);
static inline bool commit_empty(const struct commit *commit) {
  return !commit->ops && !commit->outputs;
}

/* Appends and returns a zeroed op for the caller to fill; slices must live in the arena
 * (commit_copy) or outlive the commit. */
struct op *commit_op(struct commit *commit, enum op_kind kind, uint64_t id);
struct output *commit_output(struct commit *commit, enum output_kind kind, uint64_t id);
struct pf_slice commit_copy(struct commit *commit, struct pf_slice bytes);
struct pf_slice commit_copy_buf(struct commit *commit, const struct pf_buf *buf);

/* Where a turn began, so that a turn that fails can be cut off again. */
struct commit_mark {
  struct op **ops_end;
  struct output **outputs_end;
  unsigned op_count;
};
struct commit_mark commit_mark(const struct commit *commit);
void commit_rewind(struct commit *commit, struct commit_mark mark);

#endif
