/* How micro-benchmarks show what they measured: as text, or as the JSON that bench/suite.mjs reads.
 *
 * Threads    none
 * Ownership  none; samples are sorted in place.
 * Ordering   none
 * Limits     none */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include <stdbool.h>
#include <stddef.h>

/* samples: microseconds of one operation each. */
void micro_show(const char *name, const char *help, double *samples, size_t count, bool json);

/* The command line of all of them: [--json] [--list] [NAME|all [COUNT]]. */
struct micro_args {
  bool json, list;
  const char *wanted;
  size_t count; /* 0: wrong */
};
struct micro_args micro_args(int argc, char **argv, size_t count, size_t count_max);
bool micro_wants(const struct micro_args *args, const char *name);
/* "usage: PROGRAM ...", as the exit code of wrong usage. */
int micro_usage(const char *program);

#endif
