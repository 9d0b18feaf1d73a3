/* A load of fetches and the check that each of them ends exactly once: `enqueued`, then one good
 * `result`, both under the same reqId. Keeps `concurrency` of them in flight until `iterations` are
 * done; with both equal it is a burst. No I/O: frames go out through a callback.
 *
 * Threads    pure; the clock comes as an argument
 * Ownership  struct load owns its samples until load_done.
 * Ordering   load_begin, then load_on_message for each message of the connection, until load_ended.
 * Limits     LOAD_ITERATIONS_MAX, LOAD_CONCURRENCY_MAX */
#ifndef MEASURE_LOAD_H
#define MEASURE_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "clients/ws/message.h"

#define LOAD_ITERATIONS_MAX 5000000
#define LOAD_CONCURRENCY_MAX 100000

struct load_plan {
  const char *url; /* of the target */
  int64_t concurrency, iterations;
  int64_t send_ms; /* no new fetch is begun after so long, and what has been sent is all; 0 = no
                      limit */
  bool timings;    /* ask for the timings of each */
  /* Part of every clientId, so that a late message of an earlier load is recognised: give each its
   * own. */
  int tag;
  const char *submit_key; /* begins every submitKey, so that load_resend is harmless; NULL = none */
  void (*send)(void *arg, struct pf_slice frame);
  void *arg;
};

enum load_state { LOAD_SENT = 1, LOAD_ENQUEUED, LOAD_DONE };

struct load_fetch {
  int64_t sent_ns, enqueued_ns, result_ns;
  uint64_t req_hash;
  float enqueue_ms; /* as the origin says; negative if it does not */
  float duration_ms;
  uint8_t state; /* enum load_state */
  bool bad;      /* a failure is counted for it */
  bool resent;   /* its times say nothing, and some of its answers may come twice or never */
};

/* Each counted at most once a fetch, but for `strange`. */
struct load_faults {
  int64_t failed;       /* result with success: false */
  int64_t missing;      /* no result */
  int64_t out_of_order; /* result before enqueued */
  int64_t repeated;     /* a second enqueued or result */
  int64_t other_id;     /* result under another reqId than enqueued */
  int64_t strange;      /* messages that belong to no fetch, errors, what is not a message */
  char first[512];      /* words on the first of them */
};

struct load {
  struct load_plan plan;
  struct pf_buf frame;
  size_t frame_head;                         /* bytes of the frame that are the same for all */
  struct load_fetch *fetches;                /* plan.iterations */
  float *timings;                            /* MESSAGE_TIMINGS per fetch, or NULL */
  int64_t timings_count, sums_wrong, reused; /* of those that came with timings */
  int64_t sent, ended;
  int64_t broke_at; /* of sent, at the last break: what was acknowledged may be so again */
  int64_t begin_ns, end_ns, progress_ns;
  struct load_faults faults;
};

/* Sends the first `concurrency` fetches. */
void load_begin(struct load *load, const struct load_plan *plan, int64_t now_ns);
void load_on_message(struct load *load, const struct message *message, int64_t now_ns);
/* After a break of the connection within a session: what has not been acknowledged is sent again.
 */
void load_resend(struct load *load);
/* The server has at most so many results of what it has acknowledged. If more are waited for, some
 * are lost, and all of them are sent again. */
void load_check_owed(struct load *load, int64_t most);
/* What could not even be decoded. */
void load_on_garbage(struct load *load, const char *why);
bool load_ended(const struct load *load);
/* Gives up what is under way: each of them is `missing`. */
void load_abandon(struct load *load, int64_t now_ns);
void load_done(struct load *load);

int64_t load_faults_sum(const struct load_faults *faults);

/* The parts of timings sum up to their total, but for rounding. */
bool load_timings_add_up(const double timings[MESSAGE_TIMINGS]);

#endif
