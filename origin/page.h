/* The example page and the client module that it uses, served from the program itself.
 *
 * Threads    on the loop
 * Ownership  the request stays the caller's
 * Ordering   none
 * Limits     none */
#ifndef PF_ORIGIN_PAGE_H
#define PF_ORIGIN_PAGE_H

#include <stdbool.h>

#include "web/web.h"

/* True if the path is one of a file, and the request has been answered. */
bool page_respond(struct web *web, const struct web_request *request);

#endif
