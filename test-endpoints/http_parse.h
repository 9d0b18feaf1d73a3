/* HTTP/1.x requests: a head from contiguous bytes, and a body decoder that is fed as bytes arrive.
 *
 * Strict where leniency has led to attacks: bare LF, folded headers, blanks before a colon, doubled
 * Content-Length or one beside Transfer-Encoding, and codings other than chunked are refused.
 *
 * Threads    pure
 * Ownership  Slices of struct http_request point into the bytes that were parsed.
 * Ordering   none
 * Limits     HTTP_HEADERS_MAX headers, HTTP_TARGET_MAX bytes of target, HTTP_CHUNK_LINE_MAX bytes
 * of a chunk's size line, HTTP_TRAILER_MAX bytes of trailers; the head as the caller says. */
#ifndef PF_TEST_ENDPOINTS_HTTP_PARSE_H
#define PF_TEST_ENDPOINTS_HTTP_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define HTTP_HEADERS_MAX 100
#define HTTP_TARGET_MAX 8192
#define HTTP_CHUNK_LINE_MAX 256
#define HTTP_TRAILER_MAX 8192

struct http_header {
  struct pf_slice name, value; /* name as sent; value without blanks around it */
};

struct http_request {
  struct pf_slice method;
  struct pf_slice path;  /* still percent-encoded, begins with '/' */
  struct pf_slice query; /* without '?' */
  int minor;             /* HTTP/1.minor: 0 or 1 */
  bool keep_alive;
  bool expect_continue;
  bool chunked;
  uint64_t content_length; /* 0 if chunked */
  unsigned header_count;
  struct http_header headers[HTTP_HEADERS_MAX];
};

/* Parses the head at data. Returns its length (> 0); 0 if more bytes are needed; or a negative HTTP
 * status that refuses the request: 400, 414, 431, 501, 505. *ret_request is complete on > 0 only.
 */
PF_MUST_CHECK int http_parse_head(
    struct http_request *ret_request, const char *data, size_t len, size_t head_max);

/* The first header of this name (any case), or NULL. */
const struct http_header *http_header_find(const struct http_request *request, const char *name);

struct http_body {
  enum {
    HTTP_BODY_RAW,
    HTTP_BODY_CHUNK_SIZE,
    HTTP_BODY_CHUNK_DATA,
    HTTP_BODY_CHUNK_END,
    HTTP_BODY_TRAILER,
    HTTP_BODY_DONE,
  } state;
  uint64_t left;     /* bytes of the body, or of this chunk, that are still to come */
  uint64_t total;    /* decoded bytes so far */
  unsigned line_len; /* bytes of the size line or trailers so far */
  unsigned digits;   /* of the chunk size */
  bool in_extension; /* behind the ';' of a size line */
  bool saw_cr;
  bool line_empty; /* the trailer line so far */
};

void http_body_init(struct http_body *body, const struct http_request *request);
/* Takes bytes from data and returns how many (0 only for len 0 or when done), with the decoded
 * piece among them in *ret_piece (may be empty); or -400. Repeat until the state is HTTP_BODY_DONE.
 */
PF_MUST_CHECK int http_body_feed(
    struct http_body *body, const char *data, size_t len, struct pf_slice *ret_piece);

#endif
