/* Text of the web: percent-encoding, query parameters, JSON strings, base64.
 *
 * Threads    pure
 * Ownership  Output goes to the caller's pf_buf and obeys its maximum.
 * Limits     none of its own */
#ifndef PF_TEST_ENDPOINTS_TEXT_H
#define PF_TEST_ENDPOINTS_TEXT_H

#include <stdbool.h>

#include "base/buf.h"

/* Appends text decoded: %41 and, if plus_is_blank, '+'. A '%' without two digits stays as it is. */
void text_percent_decode(struct pf_buf *out, struct pf_slice text, bool plus_is_blank);
/* The raw value of the first `name=` in the query; false if there is none. */
bool text_query_find(struct pf_slice query, const char *name, struct pf_slice *ret_value);
/* 0 to 15, or -1. */
int text_hex_digit(char c);
/* Decimal, digits only, at most max; false otherwise. */
bool text_number(struct pf_slice text, uint64_t max, uint64_t *ret_value);
bool text_is_utf8(struct pf_slice text); /* valid and without NUL */
/* Appends "…" with quotes. Bytes of text that is not UTF-8 are taken as Latin-1. */
void text_json_string(struct pf_buf *out, struct pf_slice text);
void text_base64(struct pf_buf *out, struct pf_slice data);
void text_decimal(struct pf_buf *out, uint64_t value);

#endif
