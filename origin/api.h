/* The origin's HTTP routes. docs/protocol.md describes them.
 *
 * Threads    The loop's.
 * Ownership, Ordering: none
 * Limits     API_INTERNAL_BODY_MAX for batches between processes; clients' bodies as configured. */
#ifndef ORIGIN_API_H
#define ORIGIN_API_H

#include "web/web.h"

#define API_INTERNAL_BODY_MAX                                                                      \
  ((size_t)20 << 20) /* one result with the largest body, and its batch */

/* arg is the struct origin. */
void api_on_client_request(void *arg, const struct web_request *request);
void api_on_internal_request(void *arg, const struct web_request *request);

#endif
