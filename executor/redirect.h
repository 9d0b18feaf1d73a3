/* Where a fetch goes: the host that a URL names, and where a redirect leads. libcurl follows none
 * by itself, so that every hop passes the same checks.
 *
 * Threads    pure
 * Ownership  What a redirect changes in a request lives in the arena given.
 * Ordering   none
 * Limits     REDIRECT_MAX hops. */
#ifndef PF_EXECUTOR_REDIRECT_H
#define PF_EXECUTOR_REDIRECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "wire/request.h"

#define REDIRECT_MAX 10

struct target {
  bool https;
  uint16_t port;
  bool needs_lookup;        /* false: an address, or localhost, which no name server is asked for */
  char host[WIRE_HOST_MAX]; /* lower case, IPv6 addresses in brackets */
};

/* Checks all of request (wire_request_check) and reads its URL. PF_EINVAL or PF_ELIMIT with a text
 * for the client. */
PF_MUST_CHECK int target_parse(
    struct target *ret_target, const struct wire_request *request, struct pf_error *reterr);

/* 301, 302, 303, 307, 308. */
bool redirect_status(int status);

/* Makes request the one that follows an answer of this status with this Location: its new URL, its
 * method (303, and 301 or 302 to a POST, turn into GET without body), and its headers (only
 * harmless ones go to another origin; the idempotency key does not). *target is that of request
 * before and after. Errors as for target_parse; both are unchanged then. */
PF_MUST_CHECK int redirect_follow(struct wire_request *request, struct target *target, int status,
    struct pf_slice location, struct pf_arena *arena, struct pf_error *reterr);

#endif
