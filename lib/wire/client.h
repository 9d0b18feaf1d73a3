/* The messages of clients (docs/protocol.md, WebSocket and HTTP API) as structs, and the frames
 * sent to them.
 *
 * Threads    pure
 * Ownership  Slices of decoded messages live in the arena given.
 * Limits     those of wire/request.h; a frame is at most WIRE_FRAME_MAX bytes. */
#ifndef PF_WIRE_CLIENT_H
#define PF_WIRE_CLIENT_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/id.h"
#include "wire/hop.h"
#include "wire/outcome.h"
#include "wire/request.h"

#define WIRE_FRAME_MAX ((size_t)1 << 20)
#define WIRE_SESSION_HEX 32
#define WIRE_PING_ID_MAX 256 /* bytes of JSON */
#define WIRE_OFFSET_MAX (((int64_t)1 << 53) - 1)

enum client_type {
  CLIENT_START_FETCH,
  CLIENT_START_BATCH,
  CLIENT_RESUME,
  CLIENT_ACK,
  CLIENT_CANCEL,
  CLIENT_PING,
  CLIENT_UNKNOWN, /* well-formed, with a type that is not known here */
};

struct client_fetch { /* start-fetch, start-batch-fetch */
  struct pf_slice id; /* clientId or batchId, as sent */
  int64_t count;      /* batches only */
  struct wire_request request;
  char host[WIRE_HOST_MAX];
  bool repeatable;
  struct wire_retry retry;
  int64_t attempt_ms, deadline_ms, queue_ms;
  struct pf_slice submit_key;
  struct pf_slice continuation; /* empty = the class's own */
  struct pf_slice context;      /* JSON text, empty if absent */
};

struct client_message {
  enum client_type type;
  struct pf_slice type_name;
  struct pf_slice client_id,
      batch_id; /* where known, also when the message is refused: for the error frame */
  struct client_fetch fetch; /* START_FETCH, START_BATCH: checked by wire_request_check */
  struct pf_slice session;   /* RESUME: empty = make one */
  int64_t offset;            /* RESUME, ACK; -1 if absent */
  struct pf_job_id job;      /* CANCEL */
  struct pf_slice ping_id;   /* PING: JSON text of id, empty if absent */
};

/* What is absent is as in wire/request.h: method GET, attempts, attempt_ms, deadline_ms and
 * queue_ms by their defaults, slices empty. clientId and batchId that were sent have data even if
 * empty. Errors: PF_EINVAL, PF_ELIMIT, PF_ENOMEM; *ret is usable for its ids, reterr->text is for
 * the client, and *ret_code is the code of the error frame ("bad_json", "bad_message", "bad_url",
 * "bad_request", "limit"; "busy" for want of memory). */
PF_MUST_CHECK int client_message_decode(struct client_message *ret, struct pf_slice text,
    struct pf_arena *arena, const char **ret_code, struct pf_error *reterr);
/* The body of POST /v1/actors/{class}/{name}/fetch: the members of start-fetch without type. */
PF_MUST_CHECK int client_fetch_decode(struct client_fetch *ret, struct pf_slice text,
    struct pf_arena *arena, const char **ret_code, struct pf_error *reterr);

struct client_timings { /* ms, negative = not measured */
  double commit, enqueue, queue, dispatch, dns, connect, tls, ttfb, transfer, callback,
      continuation, total;
};
extern const char *const client_timing_names[]; /* in the order of the struct, NULL-terminated */

struct client_result { /* result, late-result */
  struct pf_job_id job;
  struct pf_slice client_id; /* in all frames: left out if data is NULL */
  bool late;
  enum outcome outcome;
  enum certainty certainty;
  int attempts;
  int status;
  int64_t response_length;
  double duration_ms;
  struct pf_slice error;
  unsigned include;
  const struct wire_header *headers;
  size_t header_count;
  bool has_body;
  struct pf_slice body; /* inlined as body or bodyBase64 if it fits the frame, else bodyUrl */
  struct client_timings timings;
  struct pf_slice logs; /* JSON array text, empty = none */
  int64_t offset;       /* of the session, -1 without one */
};

void client_enqueued_encode(
    struct pf_buf *buf, struct pf_job_id job, struct pf_slice client_id, double enqueue_ms);
void client_result_encode(struct pf_buf *buf, const struct client_result *result);
void client_batch_started_encode(struct pf_buf *buf, struct pf_slice batch_id, int64_t count);
void client_batch_complete_encode(struct pf_buf *buf, struct pf_slice batch_id, int64_t count,
    int64_t success_count, int64_t offset);
void client_error_encode(struct pf_buf *buf, const char *code, struct pf_slice text,
    struct pf_slice client_id, struct pf_slice batch_id);
void client_session_encode(
    struct pf_buf *buf, struct pf_slice session, int64_t offset, int64_t oldest, int64_t pending);
void client_gap_encode(struct pf_buf *buf, int64_t from, int64_t to);
void client_pong_encode(struct pf_buf *buf, struct pf_slice ping_id);
void client_waiting_encode(struct pf_buf *buf, struct pf_job_id job, const char *reason);

#endif
