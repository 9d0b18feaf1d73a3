/* What a server says over the WebSocket (docs/protocol.md, rows 2 to 13), as a struct.
 *
 * Threads    pure
 * Ownership  A decoded message owns its JSON tree, and its slices point into that; message_done
 *            releases it.
 * Ordering   none
 * Limits     those of wire/json.h */
#ifndef CLI_MESSAGE_H
#define CLI_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "wire/json.h"

#define MESSAGE_TIMINGS 12

enum message_type {
  MESSAGE_ENQUEUED,
  MESSAGE_RESULT,
  MESSAGE_BATCH_STARTED,
  MESSAGE_BATCH_COMPLETE,
  MESSAGE_ERROR,
  MESSAGE_PONG,
  MESSAGE_OTHER, /* nothing that a program without a session has to know */
};

struct message { /* texts are empty and numbers negative where the member is absent */
  enum message_type type;
  struct pf_slice client_id, batch_id, req_id;
  double enqueue_ms, duration_ms;
  bool success;
  int64_t status, response_length, attempts, count, success_count;
  struct pf_slice error, code, owner, certainty;
  bool has_timings;
  double timings[MESSAGE_TIMINGS]; /* in the order of client_timing_names */
  struct json *root;
};

/* Errors: PF_EINVAL with a text: not an object with a string `type`, or a member of another type
 * than the protocol says. */
PF_MUST_CHECK int message_decode(
    struct message *ret_message, struct pf_slice text, struct pf_error *reterr);
void message_done(struct message *message);

#endif
