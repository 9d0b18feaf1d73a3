/* One HTTP request and its answer, for commands that ask a process something and end.
 *
 * Threads    Runs a loop of its own until the answer is there.
 * Ownership  The caller frees ret_body with pf_buf_done.
 * Ordering   none
 * Limits     HTTP_RESPONSE_MAX_DEFAULT bytes of answer, REQUEST_TIMEOUT_MS. */
#ifndef CLI_REQUEST_H
#define CLI_REQUEST_H

#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

#define REQUEST_TIMEOUT_MS 60000

/* PF_OK with any HTTP status; else PF_ENET, PF_ETIMEOUT, PF_ELIMIT with a text that names the URL.
 */
PF_MUST_CHECK int request_run(const char *method, const char *url, int *ret_status,
    struct pf_buf *ret_body, struct pf_error *reterr);
/* A text from elsewhere in a column: what a terminal would obey is shown as '?'. */
void request_print_text(FILE *out, int width, struct pf_slice text);
/* For people: the message of {"error":{"code","message"}}, or the body itself. */
void request_print_error(const char *command, int status, const struct pf_buf *body);

#endif
