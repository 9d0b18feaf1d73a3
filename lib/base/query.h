/* Query strings and percent-encoding (RFC 3986 2.1; '+' as in HTML forms).
 *
 * Threads    pure
 * Ownership  Slices point into what was given.
 * Ordering   none
 * Limits     those of the buffer */
#ifndef PF_BASE_QUERY_H
#define PF_BASE_QUERY_H

#include <stdbool.h>

#include "base/buf.h"

/* Appends text with %XX decoded; a '%' that is not followed by two hex digits stays as it is. */
void pf_percent_decode(struct pf_buf *out, struct pf_slice text, bool plus_is_blank);
/* The raw value of the first parameter of that name, empty without '='. */
bool pf_query_find(struct pf_slice query, const char *name, struct pf_slice *ret_value);

#endif
