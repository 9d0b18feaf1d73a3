/* JSON from outsiders, guarded; and a writer that prints into a buffer.
 *
 * Every text passes one linear scan before cJSON sees it: valid UTF-8, strict grammar of numbers,
 * strings and white space, no control characters, no \u0000 and no lone surrogate, no duplicate
 * keys in one object, bounded depth, tokens and size. cJSON itself shows through nowhere.
 *
 * Threads    pure
 * Ownership  json_parse gives a tree that json_free releases; slices from json_string point into
 *            it.
 * Ordering   json_first/json_next follow the text.
 * Limits     JSON_DEPTH_MAX, JSON_TOKENS_MAX, and the caller's own limit on the size. Numbers are
 *            doubles: ids and 64-bit counts travel as strings. */
#ifndef PF_WIRE_JSON_H
#define PF_WIRE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"

#define JSON_DEPTH_MAX 64
#define JSON_TOKENS_MAX 50000 /* values and names */
#define JSON_NUMBER_MAX 63    /* characters of one number */

struct json; /* a node; opaque */

/* The guard alone. PF_EINVAL or PF_ELIMIT with a text that says what is wrong and at which byte. */
PF_MUST_CHECK int json_check(struct pf_slice text, struct pf_error *reterr);
/* Guard, then parse. The root may be any value. Errors: those of json_check, PF_ENOMEM. */
PF_MUST_CHECK int json_parse(struct json **ret_root, struct pf_slice text, struct pf_error *reterr);
/* The same for text that we have written ourselves, and that ends the process for want of memory:
 * to treat it as text that cannot be read would lose what it says. Errors: those of json_check. */
PF_MUST_CHECK int json_parse_own(struct json **ret_root, struct pf_slice text);
void json_free(struct json *root);

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
enum json_type json_type(const struct json *node);
const struct json *json_get(const struct json *object, const char *name); /* NULL if absent */
const struct json *json_first(const struct json *container);              /* NULL if empty */
const struct json *json_next(const struct json *node);
size_t json_count(const struct json *container);
struct pf_slice json_name(const struct json *member);
/* The exact text of a member of the object that `text` is: for what is passed on as it came. False
 * if it is absent or text is not an object. */
bool json_raw(struct pf_slice text, const char *name, struct pf_slice *ret_json);

/* Readers of a value; false if node is NULL or of another type. */
bool json_string(const struct json *node, struct pf_slice *ret_text);
bool json_bool(const struct json *node, bool *ret_value);
bool json_double(const struct json *node, double *ret_value); /* finite */
/* A whole number within [min, max]. */
bool json_int(const struct json *node, int64_t min, int64_t max, int64_t *ret_value);

/* ---- writing ---- */

/* Keeps track of commas only; the caller keeps the nesting right. Errors stick in the buffer. */
struct json_writer {
  struct pf_buf *buf;
  bool comma;
};
static inline struct json_writer json_writer(struct pf_buf *buf) {
  return (struct json_writer){.buf = buf};
}
void json_begin_object(
    struct json_writer *w, const char *name); /* name NULL inside arrays and at the root */
void json_end_object(struct json_writer *w);
void json_begin_array(struct json_writer *w, const char *name);
void json_end_array(struct json_writer *w);
void json_put_string(struct json_writer *w, const char *name,
    struct pf_slice text); /* escaped; invalid UTF-8 becomes U+FFFD */
void json_put_text(struct json_writer *w, const char *name, const char *text);
void json_put_int(struct json_writer *w, const char *name, int64_t value);
void json_put_ms(
    struct json_writer *w, const char *name, double ms); /* at most 3 decimals, no trailing zeros */
void json_put_bool(struct json_writer *w, const char *name, bool value);
void json_put_null(struct json_writer *w, const char *name);
void json_put_raw(
    struct json_writer *w, const char *name, struct pf_slice json); /* the caller vouches for it */
void json_put_hex64(
    struct json_writer *w, const char *name, uint64_t value); /* 16 digits, a string */
void json_put_job(struct json_writer *w, const char *name, struct pf_job_id job);
void json_put_fence(struct json_writer *w, const char *name, struct pf_fence fence);
void json_put_hex(struct json_writer *w, const char *name, struct pf_slice bytes);
/* Raw bytes as a base64 string (RFC 4648, with padding). */
void json_put_base64(struct json_writer *w, const char *name, struct pf_slice bytes);

/* Bytes that json_put_string and json_put_base64 take for the value, quotes included. */
size_t json_string_size(struct pf_slice text);
size_t json_base64_size(struct pf_slice bytes);

/* Strict base64 with padding. Appends to ret; PF_EINVAL on anything else. */
PF_MUST_CHECK int base64_decode(struct pf_buf *ret, struct pf_slice text);
/* Valid UTF-8 without NUL: what may travel as a JSON string. */
bool utf8_is_text(struct pf_slice bytes);

#endif
