/* Prints metrics in Prometheus' text format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/).
 *
 * Threads    pure
 * Ownership  Names, helps and labels are the caller's literals.
 * Ordering   All samples of one name in one go: first without label or with its first label value.
 * Limits     Those of the buffer. */
#ifndef PF_BASE_METRICS_H
#define PF_BASE_METRICS_H

#include <stdint.h>

#include "base/buf.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Only ever grows; the name should end in _total. */
void metrics_counter(struct pf_buf *buf, const char *name, const char *help, uint64_t value);
/* Goes up and down. */
void metrics_gauge(struct pf_buf *buf, const char *name, const char *help, double value);

/* One name with several values of one label: metrics_family, then a metrics_sample for each. */
void metrics_family(struct pf_buf *buf, const char *name, const char *type, const char *help);
void metrics_sample(
    struct pf_buf *buf, const char *name, const char *label, const char *label_value, double value);

/* pf_process_…: CPU seconds, resident memory, open files of this process (from /proc). */
void metrics_process(struct pf_buf *buf);

#endif
