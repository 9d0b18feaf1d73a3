/* GET /metrics of the orchestrator.
 *
 * Threads    the loop's
 * Ownership  none
 * Ordering   none
 * Limits     that of the buffer */
#ifndef PF_ORCHESTRATOR_METRICS_H
#define PF_ORCHESTRATOR_METRICS_H

#include "base/buf.h"

struct app;

void orchestrator_print_metrics(struct app *app, struct pf_buf *buf);

#endif
