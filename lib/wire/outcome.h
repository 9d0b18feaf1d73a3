/* How a job can end, and whose doing it was. One table; docs/errors.md is checked against it.
 *
 * Certainty says whether the target can have seen the request, and it is decided from evidence
 * (bytes sent, callbacks seen), never from the error code alone.
 *
 * Threads    pure */
#ifndef PF_WIRE_OUTCOME_H
#define PF_WIRE_OUTCOME_H

#include <stdbool.h>

#include "base/buf.h"

enum certainty {
  CERTAINTY_NOT_SENT,
  CERTAINTY_SENT_UNKNOWN,
  CERTAINTY_ANSWERED_PARTIAL,
  CERTAINTY_ANSWERED
};
extern const char *const certainty_names[]; /* NULL-terminated */
const char *certainty_name(enum certainty certainty);
bool certainty_parse(struct pf_slice name, enum certainty *ret);

enum owner {
  OWNER_POLICY,
  OWNER_DNS,
  OWNER_TARGET,
  OWNER_EXECUTOR,
  OWNER_ORCHESTRATOR,
  OWNER_ORIGIN,
  OWNER_CLIENT
};
const char *owner_name(enum owner owner);

/* The queue's rows name an outcome by its number: new ones come last.
 * X(symbol, "code", owner, retried by the orchestrator within the budget, HTTP status of the API,
 * "text") */
#define OUTCOME_MAP(X)                                                                             \
  X(OUTCOME_OK, "ok", OWNER_TARGET, false, 200, "the target answered")                             \
  X(OUTCOME_BAD_URL, "bad_url", OWNER_CLIENT, false, 400, "the URL cannot be fetched")             \
  X(OUTCOME_BAD_REQUEST, "bad_request", OWNER_CLIENT, false, 400,                                  \
      "method, header or body refused")                                                            \
  X(OUTCOME_POLICY_REFUSED, "policy_refused", OWNER_POLICY, false, 403,                            \
      "the target's address is not allowed")                                                       \
  X(OUTCOME_DNS_FAILED, "dns_failed", OWNER_DNS, true, 502, "the host name has no address")        \
  X(OUTCOME_DNS_TIMEOUT, "dns_timeout", OWNER_DNS, true, 504,                                      \
      "the name server did not answer in time")                                                    \
  X(OUTCOME_CONNECT_FAILED, "connect_failed", OWNER_TARGET, true, 502,                             \
      "the target refused the connection")                                                         \
  X(OUTCOME_CONNECT_TIMEOUT, "connect_timeout", OWNER_TARGET, true, 504,                           \
      "no connection to the target in time")                                                       \
  X(OUTCOME_TLS_FAILED, "tls_failed", OWNER_TARGET, true, 502, "the TLS handshake failed")         \
  X(OUTCOME_TLS_VERIFY, "tls_verify", OWNER_TARGET, false, 502,                                    \
      "the target's certificate is not valid for it")                                              \
  X(OUTCOME_RESET, "reset", OWNER_TARGET, true, 502,                                               \
      "the connection broke before the answer was complete")                                       \
  X(OUTCOME_BAD_RESPONSE, "bad_response", OWNER_TARGET, true, 502,                                 \
      "the target's answer is not HTTP")                                                           \
  X(OUTCOME_TIMEOUT_FIRST_BYTE, "timeout_first_byte", OWNER_TARGET, true, 504,                     \
      "the target sent no answer in time")                                                         \
  X(OUTCOME_TIMEOUT_IDLE, "timeout_idle", OWNER_TARGET, true, 504, "the answer stopped half-way")  \
  X(OUTCOME_TIMEOUT_ATTEMPT, "timeout_attempt", OWNER_TARGET, true, 504,                           \
      "the fetch took longer than one attempt may")                                                \
  X(OUTCOME_TOO_LARGE, "too_large", OWNER_TARGET, false, 502, "the answer is larger than the cap") \
  X(OUTCOME_DECODE_FAILED, "decode_failed", OWNER_TARGET, false, 502,                              \
      "the answer's content encoding is broken or expands too far")                                \
  X(OUTCOME_REDIRECT_LIMIT, "redirect_limit", OWNER_TARGET, false, 502, "too many redirects")      \
  X(OUTCOME_REDIRECT_REFUSED, "redirect_refused", OWNER_CLIENT, false, 502,                        \
      "the target redirects, and the request says redirect: error")                                \
  X(OUTCOME_STATUS_NAMED, "status_named", OWNER_TARGET, true, 502,                                 \
      "a status that the request named in retry.statuses")                                         \
  X(OUTCOME_EXECUTOR_LOST, "executor_lost", OWNER_EXECUTOR, true, 502,                             \
      "the executor disappeared during the fetch")                                                 \
  X(OUTCOME_EXECUTOR_INTERNAL, "executor_internal", OWNER_EXECUTOR, true, 500,                     \
      "the executor could not carry out the fetch")                                                \
  X(OUTCOME_POISON, "poison", OWNER_EXECUTOR, false, 500, "the job took several executors down")   \
  X(OUTCOME_QUEUE_TIMEOUT, "queue_timeout", OWNER_ORCHESTRATOR, false, 503,                        \
      "no executor took the job in time")                                                          \
  X(OUTCOME_QUEUE_LOST, "queue_lost", OWNER_ORCHESTRATOR, false, 502,                              \
      "the queue lost the job, and it may have been sent")                                         \
  X(OUTCOME_DEADLINE, "deadline", OWNER_ORIGIN, false, 504, "the job's deadline has passed")       \
  X(OUTCOME_CANCELED, "canceled", OWNER_CLIENT, false, 409, "canceled by the client")              \
  X(OUTCOME_CONTINUATION_UNKNOWN, "continuation_unknown", OWNER_ORIGIN, false, 500,                \
      "the continuation's name is not known to this origin")                                       \
  X(OUTCOME_CONTINUATION_FAILED, "continuation_failed", OWNER_ORIGIN, false, 500,                  \
      "the continuation failed on every run")                                                      \
  X(OUTCOME_UNDELIVERED, "undelivered", OWNER_ORIGIN, false, 504,                                  \
      "the answer came, and the origin could not be reached until the deadline")

enum outcome {
#define X(symbol, code, owner, retried, status, text) symbol,
  OUTCOME_MAP(X)
#undef X
      OUTCOME_COUNT
};

extern const char *const outcome_codes[]; /* NULL-terminated */
const char *outcome_code(enum outcome outcome);
enum owner outcome_owner(enum outcome outcome);
bool outcome_retried(enum outcome outcome);
/* Said by the queue or the origin of a job that an executor may still have: an answer of the target
 * may come later. */
bool outcome_declared(enum outcome outcome);
int outcome_http_status(enum outcome outcome);
const char *outcome_text(enum outcome outcome);
bool outcome_parse(struct pf_slice code, enum outcome *ret);

#endif
