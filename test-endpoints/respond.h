/* One request being answered, and the writing of its response.
 *
 * Threads    pure, apart from the wall clock (Date)
 * Ownership  The caller owns everything that struct call points to; it is valid during one call.
 * Ordering   Exactly one respond* per call, or none where the answer is that there is none.
 * Limits     The maximum of call->out. */
#ifndef PF_TEST_ENDPOINTS_RESPOND_H
#define PF_TEST_ENDPOINTS_RESPOND_H

#include "answer.h"
#include "base/rand.h"
#include "hits.h"
#include "http_parse.h"

#define RESPOND_DATE_TEXT 32

/* The "Date" value, printed once a second. */
struct respond_date {
  int64_t second;
  char text[RESPOND_DATE_TEXT];
};

/* What all requests share. */
struct lab {
  struct hits hits;
  struct pf_rand rand;
  struct respond_date date;
  const char *token;           /* mandatory if not NULL */
  bool draining;               /* every answer closes its connection */
  struct pf_buf scratch, text; /* for building bodies, and for decoded arguments */
};

struct call {
  struct lab *lab;
  const struct http_request *request;
  struct pf_slice body;     /* decoded; empty unless the route keeps bodies */
  struct pf_slice prefix;   /* the ignored first segment: "/latency-test", or empty */
  struct pf_slice arg;      /* text of the path argument, decoded */
  uint64_t number;          /* its value, where it is a number */
  struct hits_entry *entry; /* of the request's key, or NULL */
  struct pf_buf *out;       /* held bytes go here */
  struct answer answer;     /* the plan; zeroed = send out, keep the connection */
};

/* A response with this body. headers: "Name: value\r\n…" or "". */
void respond(
    struct call *call, int status, const char *type, const char *headers, struct pf_slice body);
/* Only the head; answer.source or later bytes of out make the body of that length. */
void respond_head(
    struct call *call, int status, const char *type, const char *headers, uint64_t length);
/* Only the head, of a body without a known length: chunked, or up to the end of the connection. */
void respond_head_stream(struct call *call, int status, const char *type, const char *headers);
void respond_json(struct call *call, int status, const char *fmt, ...) PF_PRINTF(3, 4);
/* {"error":{"code":…,"message":…}}; headers as above. */
void respond_error(
    struct call *call, int status, const char *headers, const char *code, const char *message);
/* An answer to bytes that are no request: closes the connection. */
void respond_refusal(struct lab *lab, struct pf_buf *out, int status);

#endif
