/* Rules about request heads that protect from browsers and from requests that two servers would
 * read differently. Decisions only; httpd.c acts on them.
 *
 * Threads    pure
 * Ownership  A refusal is made of literals.
 * Ordering   none
 * Limits     none */
#ifndef PF_WEB_GUARD_H
#define PF_WEB_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "web/head.h"
#include "web/web.h"

/* ---- a whole head ---- */

struct refusal {
  int status; /* of HTTP; 0: nothing is refused */
  const char *code, *message;
};

/* What a head says that head_parse() has taken. ret_body_len is written if nothing is refused. */
struct refusal guard_head(
    const struct head *head, const struct web_listener_config *config, size_t *ret_body_len);
/* Is this an upgrade that lws will accept? It is to refuse nothing by itself. ret_key has
 * GUARD_WS_KEY_LEN bytes of the head. */
struct refusal guard_upgrade(const struct head *head, size_t body_len, struct pf_slice *ret_key);
/* The words for a status that head.h or the application refuses with. */
struct refusal guard_refusal_of(int status);
bool guard_wants_websocket(const struct head *head);
/* The client will send no further request on this connection. */
bool guard_is_last(const struct head *head);

/* ---- values ---- */

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
