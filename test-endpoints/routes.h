/* The endpoints: which paths there are and what each of them does. README.md describes them.
 *
 * Threads    pure, apart from struct lab
 * Ownership  see respond.h
 * Ordering   none
 * Limits     The argument of each endpoint has a maximum, in the table. */
#ifndef PF_TEST_ENDPOINTS_ROUTES_H
#define PF_TEST_ENDPOINTS_ROUTES_H

#include "respond.h"

void lab_init(struct lab *lab, const char *token, size_t keys_max, size_t text_max);
void lab_done(struct lab *lab);

/* True if the body of this request is of interest. Others are read and thrown away. */
bool routes_keep_body(const struct http_request *request);
/* Answers a complete request: writes held bytes to out, appending, and returns the plan. */
struct answer routes_answer(
    struct lab *lab, const struct http_request *request, struct pf_slice body, struct pf_buf *out);

#endif
