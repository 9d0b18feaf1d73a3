/* What operators see of this process: GET /metrics, GET /health/detailed. Threads: the loop's. */
#ifndef PF_EXECUTOR_METRICS_H
#define PF_EXECUTOR_METRICS_H

#include "executor/app.h"
#include "wire/health.h"

void executor_print_metrics(struct app *app, struct pf_buf *buf);
void executor_report_health(struct app *app, struct health *health, struct pf_buf *buf);

#endif
