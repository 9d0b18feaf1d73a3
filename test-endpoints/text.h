/* Text of the web: numbers, JSON strings, base64.
 *
 * Threads    pure
 * Ownership  Output goes to the caller's pf_buf and obeys its maximum.
 * Limits     none of its own */
#ifndef PF_TEST_ENDPOINTS_TEXT_H
#define PF_TEST_ENDPOINTS_TEXT_H

#include <stdbool.h>

#include "base/buf.h"

/* Decimal, digits only, at most max; false otherwise. */
bool text_number(struct pf_slice text, uint64_t max, uint64_t *ret_value);
bool text_is_utf8(struct pf_slice text); /* valid and without NUL */
/* Appends "…" with quotes. Bytes of text that is not UTF-8 are taken as Latin-1. */
void text_json_string(struct pf_buf *out, struct pf_slice text);
void text_base64(struct pf_buf *out, struct pf_slice data);
void text_decimal(struct pf_buf *out, uint64_t value);

#endif
