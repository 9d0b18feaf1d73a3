/* When the requests of an open loop are due: a profile of stages, or the times of a recorded load.
 *
 * A profile is "5s@1000,10s@1000:50000,20s@1000": for five seconds 1,000 a second, for ten seconds
 * a rate that rises evenly from 1,000 to 50,000, and so on. A constant rate is a profile of one
 * stage.
 *
 * Threads    pure
 * Ownership  Recorded times are the caller's.
 * Ordering   A cursor goes forwards only.
 * Limits     BENCH_STAGES_MAX, BENCH_RATE_MAX, BENCH_SECONDS_MAX in all; lengths in steps of
 *            BENCH_WINDOW_MS */
#ifndef MEASURE_BENCH_SCHEDULE_H
#define MEASURE_BENCH_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BENCH_STAGES_MAX 100
#define BENCH_RATE_MAX 10000000
#define BENCH_SECONDS_MAX 86400
#define BENCH_WINDOW_MS 100

struct bench_stage {
  int64_t length_ns;
  double from, to; /* requests a second at its beginning and end */
};

struct bench_schedule {
  struct bench_stage stages[BENCH_STAGES_MAX];
  size_t stage_count;
  const int64_t *at_ns; /* recorded times, none before the one in front; NULL for a profile */
  size_t at_count;
};

/* The next request of a schedule. Begins as {0}. */
struct bench_cursor {
  int64_t index; /* of the request */
  size_t stage;
  double before;    /* requests of the stages before this one */
  int64_t begin_ns; /* of the stage */
};

/* Errors: PF_EINVAL with a text. */
PF_MUST_CHECK int bench_schedule_parse(
    struct bench_schedule *ret_schedule, const char *profile, struct pf_error *reterr);
void bench_schedule_constant(struct bench_schedule *schedule, double rate, int64_t length_ns);

/* When the cursor's request is due, since the beginning; false behind the last. May move the cursor
 * to another stage; to go on, add 1 to its index. */
bool bench_schedule_due(
    const struct bench_schedule *schedule, struct bench_cursor *cursor, int64_t *ret_at_ns);
/* How many are due before at_ns. */
int64_t bench_schedule_count(const struct bench_schedule *schedule, int64_t at_ns);
/* Of all stages; of recorded times up to and with the last. */
int64_t bench_schedule_length_ns(const struct bench_schedule *schedule);
/* At the beginning. 0 for recorded times. */
double bench_schedule_first_rate(const struct bench_schedule *schedule);

#endif
