/* Exact figures of a set of samples: nothing is binned or estimated.
 *
 * Threads    pure
 * Ownership  stats_of sorts the caller's array in place.
 * Ordering   none
 * Limits     none */
#ifndef MEASURE_STATS_H
#define MEASURE_STATS_H

#include <stddef.h>

struct stats { /* in the unit of the samples; all zero without samples */
  size_t count;
  double min, mean, p50, p75, p90, p95, p99, p995, p999, max;
};

/* The q-quantile (nearest rank: the smallest sample that at least q of them do not exceed). */
double stats_quantile(const double *sorted, size_t count, double q);
struct stats stats_of(double *samples, size_t count);

#endif
