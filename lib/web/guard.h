/* Rules about request headers that protect from browsers and from requests that two servers would
 * read differently. Decisions only; request.c acts on them.
 *
 * Threads    pure
 * Ownership  none
 * Ordering   none
 * Limits     none */
#ifndef PF_WEB_GUARD_H
#define PF_WEB_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* One to ten digits and nothing else. */
bool guard_content_length(struct pf_slice value, uint64_t *ret_length);
/* Is there this token in a comma-separated list, as in Connection: keep-alive, close? */
bool guard_list_has(struct pf_slice list, const char *token);
/* host: "name", "name:port", "[v6]", "[v6]:port". Known are localhost, any address, and the names
 * in allowed. A page can make a browser send its own name here (DNS rebinding), but not an address
 * that it was not loaded from. */
bool guard_host_known(struct pf_slice host, const char *const *allowed);
/* origin is "http://HOST" or "https://HOST" with this very host, or in allowed ("*" = any). */
bool guard_origin_allowed(struct pf_slice origin, struct pf_slice host, const char *const *allowed);
/* 16 bytes in base64. */
enum { GUARD_WS_KEY_LEN = 24 };
bool guard_ws_key(struct pf_slice key);
/* Whether an entry of such a list can match what a browser sends at all. */
bool guard_host_well_formed(const char *text);
bool guard_origin_well_formed(const char *text);
bool guard_type_is_json(struct pf_slice content_type);

#endif
