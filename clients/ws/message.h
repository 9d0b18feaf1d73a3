/* What a server says over the WebSocket (docs/protocol.md), as a struct.
 *
 * Threads    pure
 * Ownership  Slices point into the text, or into the arena where the text has escapes.
 * Ordering   none
 * Limits     those of wire/scan.h */
#ifndef WS_MESSAGE_H
#define WS_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#define MESSAGE_TIMINGS 12

enum message_type {
  MESSAGE_ENQUEUED,
  MESSAGE_RESULT,
  MESSAGE_BATCH_STARTED,
  MESSAGE_BATCH_COMPLETE,
  MESSAGE_ERROR,
  MESSAGE_PONG,
  MESSAGE_SESSION,
  MESSAGE_GAP,
  MESSAGE_OTHER, /* nothing that a program without a session has to know */
};

/* Where a member is absent or null, texts have no data and numbers are negative. */
struct message {
  enum message_type type;
  struct pf_slice type_name, client_id, batch_id, req_id, session;
  int64_t offset, to, pending;
  double enqueue_ms, duration_ms;
  bool success;
  int64_t status, response_length, attempts, count, success_count;
  struct pf_slice error, code, owner, certainty;
  struct pf_slice body, body_base64, body_url;
  struct pf_slice headers, logs; /* JSON */
  bool has_timings;
  double timings[MESSAGE_TIMINGS]; /* in the order of client_timing_names */
};

/* Errors: PF_EINVAL or PF_ELIMIT with a text: not an object with a string `type`, or a member of
 * another type than the protocol says. */
PF_MUST_CHECK int message_decode(struct message *ret_message, struct pf_slice text,
    struct pf_arena *arena, struct pf_error *reterr);

#endif
