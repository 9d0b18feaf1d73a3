/* GET /metrics and GET /health/detailed of the orchestrator.
 *
 * Threads    the loop's
 * Ownership  none
 * Ordering   none
 * Limits     that of the buffer */
#ifndef PF_ORCHESTRATOR_METRICS_H
#define PF_ORCHESTRATOR_METRICS_H

#include "base/buf.h"
#include "wire/health.h"

struct app;

void orchestrator_print_metrics(struct app *app, struct pf_buf *buf);
void orchestrator_report_health(struct app *app, struct health *health, struct pf_buf *buf);

#endif
