#include "clients/measure/stats.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double stats_quantile(const double *sorted, size_t count, double q) {
  if (count == 0) return 0;
  double rank = ceil(q * (double)count);
  size_t index = rank < 1 ? 0 : (size_t)rank - 1;
  return sorted[index < count ? index : count - 1];
}

struct stats stats_of(double *samples, size_t count) {
  if (count == 0) return (struct stats){0};
  qsort(samples, count, sizeof(*samples), compare);
  double sum = 0;
  for (size_t i = 0; i < count; i++)
    sum += samples[i];
  return (struct stats){
      .count = count,
      .min = samples[0],
      .mean = sum / (double)count,
      .p50 = stats_quantile(samples, count, 0.5),
      .p75 = stats_quantile(samples, count, 0.75),
      .p90 = stats_quantile(samples, count, 0.9),
      .p95 = stats_quantile(samples, count, 0.95),
      .p99 = stats_quantile(samples, count, 0.99),
      .p995 = stats_quantile(samples, count, 0.995),
      .p999 = stats_quantile(samples, count, 0.999),
      .max = samples[count - 1],
  };
}
