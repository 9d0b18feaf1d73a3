/* Assertions on figures: "fetches_per_s>5000,p99_ms<50".
 *
 * Threads    pure
 * Ownership  Names are the caller's.
 * Ordering   none
 * Limits     BENCH_NAME_MAX bytes of a name */
#ifndef MEASURE_BENCH_CHECK_H
#define MEASURE_BENCH_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define BENCH_NAME_MAX 31

struct bench_figure {
  const char *name;
  double value;
};

/* Calls each for each assertion of text, with the figure's value and whether it holds. Operators:
 * < > <= >= =. Errors: PF_EINVAL with a text: not of this form, or no such figure; each has then
 * been called for those before. figures with count 0 check the form alone. */
PF_MUST_CHECK int bench_check(const char *text, const struct bench_figure *figures, size_t count,
    void (*each)(void *arg, const char *assertion, size_t len, double value, bool holds), void *arg,
    struct pf_error *reterr);

#endif
