/* What this process answers: POST /v1/execute of the orchestrator, and what operators ask.
 *
 * Threads    the loop's
 * Ownership  none
 * Ordering   none
 * Limits     API_BODY_MAX bytes of a call */
#ifndef PF_EXECUTOR_API_H
#define PF_EXECUTOR_API_H

#include "executor/app.h"
#include "loop/listen.h"

#define API_BODY_MAX ((size_t)4 << 20)

/* Listens; *ret_bound is where. Errors: those of web_listen, and nothing is open then. */
PF_MUST_CHECK int api_open(
    struct app *app, struct pf_listen_addr *ret_bound, struct pf_error *reterr);

#endif
