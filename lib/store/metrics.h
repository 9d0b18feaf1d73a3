/* What the store counts, as pf_store_… metrics. Threads: the loop's. */
#ifndef PF_STORE_METRICS_H
#define PF_STORE_METRICS_H

#include "base/buf.h"
#include "store/store.h"

void store_print_metrics(const struct store *store, struct pf_buf *buf);

#endif
