/* Figures of a benchmark that were kept under a name: one JSON file each, below $XDG_STATE_HOME or
 * ~/.local/state.
 *
 * Threads    main thread
 * Ownership  none
 * Ordering   none
 * Limits     BENCH_BASELINE_MAX bytes; series are not kept */
#ifndef MEASURE_BENCH_BASELINE_H
#define MEASURE_BENCH_BASELINE_H

#include "clients/measure/bench_result.h"

#define BENCH_BASELINE_MAX ((size_t)1 << 20)

/* Before a load is spent on them: whether baseline is there to be compared with, and save makes a
 * name; either may be NULL. Errors of all three: PF_EINVAL (a bad name, or no such baseline),
 * PF_EIO, with a text. */
PF_MUST_CHECK int bench_baseline_check(
    const char *baseline, const char *save, struct pf_error *reterr);
PF_MUST_CHECK int bench_baseline_save(
    const struct bench_result *result, const char *name, struct pf_error *reterr);
/* Prints old, new and the difference; *ret_worse if throughput or p99 is worse by more than
 * threshold (0.10 = a tenth). */
PF_MUST_CHECK int bench_baseline_compare(const struct bench_result *result, const char *name,
    double threshold, bool *ret_worse, struct pf_error *reterr);

#endif
