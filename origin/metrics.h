/* GET /metrics of the origin. Threads: the loop's. */
#ifndef ORIGIN_METRICS_H
#define ORIGIN_METRICS_H

#include "origin/edge.h"

void origin_print_metrics(const struct origin *origin, struct pf_buf *buf);

#endif
