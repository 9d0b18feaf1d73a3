/* Rows that several messages share. Private to lib/wire. */
#ifndef PF_WIRE_PARTS_H
#define PF_WIRE_PARTS_H

#include "wire/fields.h"
#include "wire/request.h"

/* [[name,value],…] */
void headers_encode(
    struct json_writer *w, const char *name, const struct wire_header *headers, size_t count);
PF_MUST_CHECK int headers_scan(struct json_scan *s, struct wire_header **ret_headers,
    size_t *ret_count, size_t max, struct pf_arena *arena);
/* [429,"5xx"] as they stand in struct wire_retry */
void statuses_encode(struct json_writer *w, const char *name, const struct wire_retry *retry);
PF_MUST_CHECK int statuses_scan(struct json_scan *s, struct wire_retry *retry);
/* "5xx" gives 5. */
bool status_class_parse(struct pf_slice text, uint16_t *ret_status);

/* The bit of a word in `include`, 0 if it is none. */
unsigned include_bit(struct pf_slice word);
/* In the order of enum wire_include and enum wire_redirect. */
extern const char *const include_names[], *const redirect_names[]; /* NULL-terminated */

#endif
