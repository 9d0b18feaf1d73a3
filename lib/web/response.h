/* The bytes of an answer.
 *
 * Threads    pure
 * Ownership  none
 * Ordering   none
 * Limits     RESPONSE_ERROR_MAX bytes of an error; its message is cut. */
#ifndef PF_WEB_RESPONSE_H
#define PF_WEB_RESPONSE_H

#include <stdbool.h>

#include "base/buf.h"
#include "web/web.h"

enum { RESPONSE_ERROR_MAX = 1024 };

/* Head and body, in place of what out holds. head_only: to HEAD; last: the connection ends. */
void response_compose(struct pf_buf *out, const struct web_response *r, bool head_only, bool last);
/* {"error":{"code":…,"message":…}} in body. */
struct pf_slice response_error(
    char body[RESPONSE_ERROR_MAX], const char *code, const char *message);

#endif
