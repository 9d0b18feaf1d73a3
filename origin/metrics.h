/* GET /metrics and GET /health/detailed of the origin. Threads: the loop's. */
#ifndef ORIGIN_METRICS_H
#define ORIGIN_METRICS_H

#include "origin/edge.h"
#include "wire/health.h"

void origin_print_metrics(const struct origin *origin, struct pf_buf *buf);
void origin_report_health(struct origin *origin, struct health *health, struct pf_buf *buf);

#endif
