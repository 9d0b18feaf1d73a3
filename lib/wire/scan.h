/* A strict pull scanner over JSON text. It is the guard of json_check, and the decoder of the items
 * between processes, which are read several times per job and need no tree.
 *
 * A reader asks for what it expects: scan_object, then scan_member until PF_ENOTFOUND, and for each
 * member exactly one value: scan_string, scan_int, scan_double, scan_bool, scan_object, scan_array
 * or scan_skip. At the end scan_end. The first error ends the scan; its text names the byte.
 *
 * Threads    pure
 * Ownership  Texts point into what is scanned; keys of scan_value live until it returns.
 * Ordering   that of the text
 * Limits     JSON_DEPTH_MAX, JSON_TOKENS_MAX, JSON_NUMBER_MAX. */
#ifndef PF_WIRE_SCAN_H
#define PF_WIRE_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

struct json_scan {
  const char *start, *at, *end;
  unsigned depth, tokens;
  bool comma; /* a value came before in the container that is open */
  struct pf_error *reterr;
};

/* The inside of a string as it was written: valid UTF-8, its escapes are well-formed. */
struct scan_text {
  struct pf_slice raw;
  bool escaped;
};

static inline struct json_scan json_scan(struct pf_slice text, struct pf_error *reterr) {
  return (struct json_scan){.start = text.data,
      .at = text.data,
      .end = text.data ? text.data + text.len : NULL,
      .reterr = reterr};
}

/* All return PF_OK, PF_EINVAL or PF_ELIMIT (too deep, too many tokens, number too long). */
PF_MUST_CHECK int scan_object(struct json_scan *s);
PF_MUST_CHECK int scan_array(struct json_scan *s);
/* The next name, or PF_ENOTFOUND behind the closing brace. */
PF_MUST_CHECK int scan_member(struct json_scan *s, struct scan_text *ret_name);
/* PF_OK before an element, PF_ENOTFOUND behind the closing bracket. */
PF_MUST_CHECK int scan_element(struct json_scan *s);
PF_MUST_CHECK int scan_string(struct json_scan *s, struct scan_text *ret_text);
PF_MUST_CHECK int scan_bool(struct json_scan *s, bool *ret_value);
/* Digits with an optional minus only: 1.0 and 1e3 are refused. */
PF_MUST_CHECK int scan_int(struct json_scan *s, int64_t min, int64_t max, int64_t *ret_value);
PF_MUST_CHECK int scan_double(struct json_scan *s, double *ret_value); /* finite */
/* Any value, checked but not looked at; duplicate names in it are not noticed. */
PF_MUST_CHECK int scan_skip(struct json_scan *s);
/* Any value, and no object in it has a name twice. */
PF_MUST_CHECK int scan_guard(struct json_scan *s);
PF_MUST_CHECK int scan_end(struct json_scan *s);

/* What follows, without taking it: its first character, or 0 at the end. */
char scan_peek(struct json_scan *s);
/* Refuses at the current position: "byte 17: <text>". Always returns code. */
int scan_fail(struct json_scan *s, int code, const char *text);

/* Writes what the text means to out; false if it takes more than size bytes. size = raw.len always
 * suffices. */
bool scan_text_copy(struct scan_text text, char *out, size_t size, size_t *ret_len);
/* The meaning as a slice: the text itself, or a copy in the arena if it has escapes. */
struct pf_slice scan_text_slice(struct scan_text text, struct pf_arena *arena);

/* Length of the well-formed UTF-8 sequence at p, 0 if there is none (RFC 3629). */
size_t utf8_sequence(const char *p, const char *end);

#endif
