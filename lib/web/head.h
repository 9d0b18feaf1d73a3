/* The head of an HTTP/1 request: a strict parser. What two servers could read differently is
 * refused, not repaired: bare LF, folded lines, spaces around names, doubled lengths.
 *
 * Threads    pure
 * Ownership  Slices point into the input; the decoded path is written by head_path().
 * Ordering   none
 * Limits     HEAD_MAX bytes with request line, HEAD_FIELDS_MAX fields. */
#ifndef PF_WEB_HEAD_H
#define PF_WEB_HEAD_H

#include <stdbool.h>

#include "base/buf.h"
#include "web/web.h"

enum { HEAD_MAX = 16 << 10, HEAD_FIELDS_MAX = 100 };

struct head_field {
  struct pf_slice name, value; /* value without the white space around it */
};

struct head {
  enum web_method method;
  struct pf_slice target; /* path as sent, without the query */
  struct pf_slice query;
  bool old; /* HTTP/1.0 */
  unsigned count;
  struct head_field fields[HEAD_FIELDS_MAX];
};

/* Looks for the empty line. *scanned is 0 for a new head and remembers how far the search has come,
 * so that a head in many pieces is searched once. Returns the length of the head, 0 if its end has
 * not come, or the negative HTTP status that refuses it. */
int head_find_end(const char *data, size_t len, size_t *scanned);

/* data is a whole head. Returns 0 or the HTTP status that refuses it. */
int head_parse(struct head *head, const char *data, size_t len);

/* Decodes the path into to (target.len bytes or less). False: malformed, or with control bytes. */
bool head_path(const struct head *head, char *to, size_t *ret_len);

/* The value of the first field of that name (lower case); false if there is none. */
bool head_field(const struct head *head, const char *name, struct pf_slice *ret_value);
unsigned head_field_count(const struct head *head, const char *name);

/* What follows "%" as a byte, or -1. */
int head_hex_byte(const char *two);

#endif
