/* The items that travel between processes, as structs. Each has an encoder that appends the JSON
 * head to a buffer and a decoder that accepts unknown members and refuses everything malformed
 * (errors: PF_EINVAL, PF_ELIMIT; *ret is then undefined). Raw bodies travel beside the heads in the
 * batch record (wire/batch.h).
 *
 * Threads    pure
 * Ownership  Structs hold copies, or slices into what was decoded or the arena given.
 * Limits     those of wire/request.h. */
#ifndef PF_WIRE_HOP_H
#define PF_WIRE_HOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "wire/outcome.h"
#include "wire/request.h"

#define HOP_CAPABILITY_BYTES 32
#define HOP_URL_MAX 256     /* base URL of a process: "http://127.0.0.1:8786" */
#define HOP_HEADERS_MAX 256 /* of a response */
#define HOP_ERROR_MAX 2048  /* bytes of the text of an error */
#define HOP_DETAIL_MAX 512  /* of the words about a result that was not delivered, NUL included */
#define HOP_ATTEMPT_MAX 1000000
#define HOP_SLOTS_MAX 1000000
#define HOP_LENGTH_MAX ((int64_t)1 << 53) /* bytes of a response */
#define HOP_VERSION_HEADER "X-Pf-Version"
#define HOP_VERSION "1"

struct capability {
  unsigned char bytes[HOP_CAPABILITY_BYTES];
};

/* ---- POST /v1/jobs: origin -> orchestrator ---- */

/* The base URL of a process as an operator gives it, what follows starts with a slash: takes
 * slashes off its end. PF_EINVAL or PF_ELIMIT if it is none. */
PF_MUST_CHECK int hop_url_read(char *url, struct pf_error *reterr);

struct hop_jobs_head { /* also the JSON body of PUT /v1/origins/{id}, and what GET of it answers */
  uint64_t origin, origin_epoch;
  uint64_t low; /* local id: everything below it is done */
  char url[HOP_URL_MAX];
};
struct hop_job { /* record body: the bytes of wire_request_encode */
  struct pf_job_id job;
  bool end; /* the origin has ended it (cancel, deadline); all else but `job` is absent */
  struct capability capability;
  char host[WIRE_HOST_MAX];
  bool repeatable;
  struct wire_retry retry;
  int64_t deadline_ms;  /* remaining */
  int64_t queue_ms;     /* longest wait for an executor, once */
  int64_t attempt_ms;   /* budget of one attempt */
  uint64_t first_epoch; /* the queue that it was first announced to, durable before that; 0 = not
                         * known yet, which only a repeatable job may be */
};
enum hop_job_answer {
  HOP_JOB_QUEUED,
  HOP_JOB_KNOWN,
  HOP_JOB_DONE,
  HOP_JOB_LOST,
  HOP_JOB_FULL,
  HOP_JOB_REFUSED
};
struct hop_job_reply {
  enum hop_job_answer answer; /* queued: new; known: had it; done: finished here; lost: see
                               * architecture.md 6; full: later; refused: malformed, final */
  bool no_executor;           /* accepted, but nobody is there to run it */
};
struct hop_jobs_reply_head { /* also the answer of PUT /v1/origins/{id} */
  uint64_t epoch;
};

/* ---- POST /v1/execute: orchestrator -> executor ---- */

#define HOP_ORIGINS_MAX 256 /* entries in one batch head */
struct hop_origin {
  uint64_t origin, epoch;
  char url[HOP_URL_MAX];
};
struct hop_execute_head {
  uint64_t queue_epoch;
  uint64_t incarnation;       /* of the executor that is meant */
  struct hop_origin *origins; /* those that the items name */
  size_t origin_count;
};
struct hop_execute { /* record body: the request bytes as they came */
  struct pf_job_id job;
  struct pf_fence fence;
  int attempt;
  bool last; /* a retryable failure of this attempt goes to the origin */
  bool repeatable;
  struct capability capability;
  struct wire_retry retry;         /* statuses only */
  int64_t attempt_ms, deadline_ms; /* remaining */
  double queue_ms;                 /* time spent in the queue, for the timings */
};
enum hop_execute_answer {
  HOP_EXECUTE_TAKEN,
  HOP_EXECUTE_SEEN,
  HOP_EXECUTE_FULL,
  HOP_EXECUTE_WRONG_INCARNATION,
  HOP_EXECUTE_REFUSED
};

/* ---- PUT /v1/executors/{id}: executor -> orchestrator; record 0 only, body = packed hop_held ----
 */

struct hop_heartbeat {
  uint64_t executor, incarnation;
  char url[HOP_URL_MAX];
  int64_t slots, free;
  bool leaving; /* deregisters: nothing more is to be sent here */
};
struct hop_held { /* 32 bytes big-endian: job, fence */
  struct pf_job_id job;
  struct pf_fence fence;
};
#define HOP_HELD_BYTES 32
void hop_held_append(struct pf_buf *buf, const struct hop_held *held);
/* index-th entry; false beyond the end. */
bool hop_held_read(struct pf_slice packed, size_t index, struct hop_held *ret_held);
/* Answer: record 0 is a hop_jobs_reply_head; its body = packed hop_held of the transfers to abort.
 */

/* ---- POST /v1/start: executor -> orchestrator, head = hop_held as JSON ---- */

void hop_held_encode(struct pf_buf *buf, const struct hop_held *held);
PF_MUST_CHECK int hop_held_decode(
    struct hop_held *ret, struct pf_slice head, struct pf_error *reterr);
/* ---- POST /v1/complete: executor -> orchestrator ---- */

enum hop_complete_how {
  HOP_COMPLETE_DELIVERED,   /* the origin has answered for good */
  HOP_COMPLETE_RETRY,       /* it failed, and this was not the last attempt */
  HOP_COMPLETE_UNDELIVERED, /* the origin did not take the result until the deadline */
};
struct hop_complete {
  struct pf_job_id job;
  struct pf_fence fence;
  enum hop_complete_how how;
  enum outcome outcome;        /* RETRY, UNDELIVERED */
  enum certainty certainty;    /* RETRY, UNDELIVERED */
  int64_t retry_after_ms;      /* RETRY: from the target, 0 = none */
  char detail[HOP_DETAIL_MAX]; /* UNDELIVERED: what the origin is to be told if it comes back */
};

enum hop_complete_answer { HOP_COMPLETE_OK, HOP_COMPLETE_REFUSED }; /* refused: malformed, final */

/* ---- POST /__receiveResult: executor or orchestrator -> origin; record body: response body ----
 */

struct hop_timings { /* ms; negative = not measured */
  double queue, dispatch, dns, connect, tls, ttfb, transfer;
};
struct hop_result {
  struct pf_job_id job;
  struct pf_fence fence; /* zero from the orchestrator for a job never dispatched */
  int attempt;
  struct capability capability;
  enum outcome outcome;
  enum certainty certainty;
  int status;                  /* HTTP status, 0 = none */
  struct pf_slice error;       /* human text, empty if ok */
  int64_t response_length;     /* decoded bytes */
  struct wire_header *headers; /* if wanted; values cleaned of control characters */
  size_t header_count;
  bool has_body; /* the record's body is the response body */
  bool reused;   /* the connection to the target was used before */
  struct hop_timings timings;
};
struct hop_results_head { /* of the batch */
  uint64_t to;            /* origin id that is meant */
};
enum hop_result_answer {
  HOP_RESULT_ACCEPTED,
  HOP_RESULT_DUPLICATE,
  HOP_RESULT_STALE,
  HOP_RESULT_UNKNOWN,
  HOP_RESULT_RETRY
};
/* RETRY: the origin cannot say now (still loading, disk); not final. */
struct hop_results_reply_head {
  uint64_t origin, origin_epoch; /* who really answered */
};

/* ---- POST /__status: orchestrator -> origin; item head {"job"}. The batch's head is
 * hop_results_head, the answer's hop_results_reply_head: an answer from another origin than the one
 * meant counts as none. ---- */

enum hop_status_answer {
  HOP_STATUS_PENDING,
  HOP_STATUS_RECEIVED,
  HOP_STATUS_DONE,
  HOP_STATUS_UNKNOWN,
  HOP_STATUS_RETRY
};

/* ---- encoders and decoders ---- */

void hop_jobs_head_encode(struct pf_buf *buf, const struct hop_jobs_head *head);
PF_MUST_CHECK int hop_jobs_head_decode(
    struct hop_jobs_head *ret, struct pf_slice json, struct pf_error *reterr);
void hop_job_encode(struct pf_buf *buf, const struct hop_job *job);
PF_MUST_CHECK int hop_job_decode(
    struct hop_job *ret, struct pf_slice head, struct pf_error *reterr);
void hop_job_reply_encode(struct pf_buf *buf, const struct hop_job_reply *reply);
PF_MUST_CHECK int hop_job_reply_decode(struct hop_job_reply *ret, struct pf_slice head);
void hop_jobs_reply_head_encode(struct pf_buf *buf, const struct hop_jobs_reply_head *head);
PF_MUST_CHECK int hop_jobs_reply_head_decode(struct hop_jobs_reply_head *ret, struct pf_slice head);

void hop_execute_head_encode(struct pf_buf *buf, const struct hop_execute_head *head);
PF_MUST_CHECK int hop_execute_head_decode(struct hop_execute_head *ret, struct pf_slice json,
    struct pf_arena *arena, struct pf_error *reterr);
void hop_execute_encode(struct pf_buf *buf, const struct hop_execute *item);
PF_MUST_CHECK int hop_execute_decode(
    struct hop_execute *ret, struct pf_slice head, struct pf_error *reterr);

void hop_heartbeat_encode(struct pf_buf *buf, const struct hop_heartbeat *beat);
PF_MUST_CHECK int hop_heartbeat_decode(
    struct hop_heartbeat *ret, struct pf_slice head, struct pf_error *reterr);

void hop_complete_encode(struct pf_buf *buf, const struct hop_complete *item);
PF_MUST_CHECK int hop_complete_decode(
    struct hop_complete *ret, struct pf_slice head, struct pf_error *reterr);

void hop_results_head_encode(struct pf_buf *buf, const struct hop_results_head *head);
PF_MUST_CHECK int hop_results_head_decode(struct hop_results_head *ret, struct pf_slice head);
void hop_result_encode(struct pf_buf *buf, const struct hop_result *result);
PF_MUST_CHECK int hop_result_decode(
    struct hop_result *ret, struct pf_slice head, struct pf_arena *arena, struct pf_error *reterr);
void hop_results_reply_head_encode(struct pf_buf *buf, const struct hop_results_reply_head *head);
PF_MUST_CHECK int hop_results_reply_head_decode(
    struct hop_results_reply_head *ret, struct pf_slice head);

void hop_status_encode(struct pf_buf *buf, struct pf_job_id job); /* item of /__status */
PF_MUST_CHECK int hop_status_decode(struct pf_job_id *ret, struct pf_slice head);

/* {"answer":"…"} for the calls whose items have nothing more to say. `names` is indexed by the
 * enum. */
extern const char *const hop_execute_answers[],
    *const hop_result_answers[],
        *const hop_status_answers[],
            *const hop_start_answers[],
                *const hop_complete_answers[]; /* NULL-terminated; start: "no","go"; complete:
                                                  "ok","refused" */
void hop_answer_encode(struct pf_buf *buf, const char *const names[], int answer);
PF_MUST_CHECK int hop_answer_decode(
    int *ret_answer, const char *const names[], struct pf_slice head);

#endif
