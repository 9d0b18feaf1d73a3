/* What operators see of a store. Threads: the loop's. */
#ifndef PF_STORE_METRICS_H
#define PF_STORE_METRICS_H

#include "base/buf.h"
#include "store/store.h"
#include "wire/health.h"

/* pf_store_… */
void store_print_metrics(const struct store *store, struct pf_buf *buf);
/* The member "store" of the report, with a reason if its disk is nearly full. A broken store has no
 * report: its process ends (PF_EXIT_STORAGE). */
void store_report_health(const struct store *store, struct health *health);

#endif
