/* The external request of a job: checked once at the origin, then carried as bytes that only the
 * executor opens again.
 *
 * Threads    pure
 * Ownership  Slices of a struct wire_request live in the arena given, or in the bytes decoded.
 * Limits     the WIRE_* constants; all are tested at max and max + 1. */
#ifndef PF_WIRE_REQUEST_H
#define PF_WIRE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#define WIRE_URL_MAX 8192
#define WIRE_METHOD_MAX 16
#define WIRE_HEADERS_MAX 64         /* of a request */
#define WIRE_HEADER_BYTES_MAX 65536 /* names and values of a request together */
#define WIRE_REQUEST_BODY_MAX ((size_t)1 << 20)
#define WIRE_KEY_MAX 256 /* clientId, batchId, submitKey, idempotencyKey */
#define WIRE_CONTEXT_MAX 65536
#define WIRE_NAME_MAX 64   /* class, continuation */
#define WIRE_ACTOR_MAX 256 /* actor name, decoded */
#define WIRE_HOST_MAX 264  /* "host:port", the unit of fairness */
#define WIRE_ATTEMPTS_MAX 16
#define WIRE_ATTEMPTS_DEFAULT 4      /* 1 + 3 */
#define WIRE_STATUSES_MAX 16         /* entries of retry.statuses */
#define WIRE_ATTEMPT_MS_MAX 86400000 /* 24 h */
#define WIRE_ATTEMPT_MS_DEFAULT 30000
#define WIRE_DEADLINE_MS_MAX 604800000 /* 7 d */
#define WIRE_DEADLINE_MS_DEFAULT 300000
#define WIRE_QUEUE_MS_DEFAULT 60000
#define WIRE_BATCH_COUNT_MAX 10000

enum wire_include { /* bits: what of the answer is wanted beyond status and length */
  WIRE_INCLUDE_HEADERS = 1,
  WIRE_INCLUDE_BODY = 2,
  WIRE_INCLUDE_TIMINGS = 4,
  WIRE_INCLUDE_LOGS = 8,
};

enum wire_redirect { WIRE_REDIRECT_FOLLOW, WIRE_REDIRECT_MANUAL, WIRE_REDIRECT_ERROR };

struct wire_header {
  struct pf_slice name, value;
};

struct wire_request {
  struct pf_slice url;
  struct pf_slice method; /* upper case token */
  struct wire_header *headers;
  size_t header_count;
  struct pf_slice body;
  struct pf_slice idempotency_key; /* sent as Idempotency-Key on every attempt */
  enum wire_redirect redirect;
  unsigned include; /* enum wire_include bits */
};

/* One of these statuses is retried: 100..599, or 1..5 for a whole class ("5xx"). */
struct wire_retry {
  int attempts; /* 1..WIRE_ATTEMPTS_MAX */
  uint16_t statuses[WIRE_STATUSES_MAX];
  size_t status_count;
};
bool wire_retry_names(const struct wire_retry *retry, int status);

/* Names of classes and continuations: a letter, then letters, digits and _ . - up to WIRE_NAME_MAX.
 */
bool wire_name_valid(struct pf_slice name);

/* Methods that may be sent twice: GET, HEAD, PUT, DELETE, OPTIONS, or any with an idempotency key.
 */
bool wire_request_repeatable(const struct wire_request *request);

/* Grammar of everything that would reach the wire: method token and allow-list (no CONNECT, TRACE),
 * header names and values, headers we own (Host, Content-Length, Transfer-Encoding, … security.md),
 * URL: absolute http or https, no userinfo, no backslash, no control or non-ASCII characters, no
 * fragment needed. Judges text only; addresses are judged where they are dialled.
 * *ret_host gets "host:port" in lower case. PF_EINVAL or PF_ELIMIT with a text for the client. */
PF_MUST_CHECK int wire_url_check(
    struct pf_slice url, char ret_host[WIRE_HOST_MAX], struct pf_error *reterr); /* the URL alone */
PF_MUST_CHECK int wire_request_check(
    const struct wire_request *request, char ret_host[WIRE_HOST_MAX], struct pf_error *reterr);

/* The bytes that travel (a batch record: JSON head, raw body). Decoding enforces the limits; the
 * grammar is for wire_request_check. */
void wire_request_encode(struct pf_buf *buf, const struct wire_request *request);
PF_MUST_CHECK int wire_request_decode(struct wire_request *ret, struct pf_slice bytes,
    struct pf_arena *arena, struct pf_error *reterr);

#endif
