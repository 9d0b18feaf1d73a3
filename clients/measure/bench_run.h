/* The course of one load: warm-up until the figure is steady, then a measurement; when the next
 * request is due, and what its latency is.
 *
 * Closed loop (no schedule): a request is due whenever one has ended. Open loop: requests are due
 * at the times of a schedule, whether or not earlier ones have ended, and latency counts from the
 * time a request was due; so a server that stalls is charged for all that had to wait (coordinated
 * omission). The warm-up of an open loop offers its first rate; the schedule begins behind it.
 *
 * Threads    pure; the clock comes as an argument
 * Ownership  struct bench_run owns its samples until bench_run_done. The schedule is the caller's.
 * Ordering   begin, then due / ended / tick in the order of time, until tick says BENCH_OVER.
 * Limits     BENCH_SAMPLES_MAX; what comes after is counted, but has no latency. */
#ifndef MEASURE_BENCH_RUN_H
#define MEASURE_BENCH_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/measure/bench_schedule.h"

#define BENCH_SAMPLES_MAX ((size_t)32 << 20)
#define BENCH_STEADY 0.05 /* two halves of the warm-up differ by less */
#define BENCH_WARMUP_TIMES 3
#define BENCH_DRAIN_S 10 /* for what a recorded load has sent at its end */

enum bench_phase { BENCH_WARMUP, BENCH_MEASURING, BENCH_OVER };

struct bench_plan {
  const struct bench_schedule *schedule; /* NULL = closed loop */
  int64_t warmup_ns, duration_ns;        /* no warm-up if the schedule begins with rate 0 */
  /* Open loop: the measurement ends when all have ended, so long after duration_ns at the latest;
   * 0 = at duration_ns. */
  int64_t drain_ns;
};

/* One second of the measurement; the last may be shorter. */
struct bench_second {
  double seconds;
  int64_t ended, failed;
  int64_t in_flight;                 /* at its end */
  size_t first_sample, sample_count; /* in samples_ms, as long as they are not sorted */
  double p50_ms, p99_ms;             /* after bench_run_quantiles */
};

struct bench_run {
  struct bench_plan plan;
  enum bench_phase phase;
  int64_t begin_ns, measure_ns, end_ns, window_ns; /* window: end of the present one */
  struct bench_schedule warmup;                    /* its first rate, as long as it may last */
  struct bench_cursor cursor;
  int64_t second_ns; /* begin of the present one */
  struct bench_second second, *seconds;
  size_t second_count, second_room;
  double *windows; /* requests ended in each, since the beginning of the phase */
  size_t window_count, window_room;
  double in_window;
  double *samples_ms;
  size_t sample_count, sample_room;
  int64_t in_flight;
  int64_t ended, failed, late; /* during the measurement; late: due and not ended */
  bool steady;
};

void bench_run_begin(struct bench_run *run, const struct bench_plan *plan, int64_t now_ns);
/* True if a request is to be sent now; its latency counts from ret_due_ns. While measuring, it is
 * the request cursor.index - 1 of the schedule. */
bool bench_run_take_due(struct bench_run *run, int64_t now_ns, int64_t *ret_due_ns);
/* Open loop: when to ask again; false if nothing else will be due in this phase. */
bool bench_run_next_due_ns(struct bench_run *run, int64_t *ret_at_ns);
void bench_run_ended(struct bench_run *run, int64_t due_ns, int64_t now_ns, bool good);
/* To be called at least every BENCH_WINDOW_MS. */
enum bench_phase bench_run_tick(struct bench_run *run, int64_t now_ns);
/* The measurement ends with the present window. */
void bench_run_cut(struct bench_run *run, int64_t now_ns);
/* After BENCH_OVER, for each request of an open loop that has not ended: it counts with the time it
 * has taken so far. */
void bench_run_unended(struct bench_run *run, int64_t due_ns);
/* After BENCH_OVER, once: the quantiles of each second. Sorts the samples within each. */
void bench_run_quantiles(struct bench_run *run);
void bench_run_done(struct bench_run *run);

double bench_run_seconds(const struct bench_run *run); /* measured */
/* Half the width of the 95 % interval of the throughput, in parts of it; 0 with too few windows. */
double bench_run_margin(const struct bench_run *run);

#endif
