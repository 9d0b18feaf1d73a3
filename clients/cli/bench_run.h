/* The course of one load: warm-up until the figure is steady, then a measurement of fixed length;
 * when the next request is due, and what its latency is.
 *
 * Closed loop (rate 0): a request is due whenever one has ended. Open loop: requests are due at
 * fixed times, whether or not earlier ones have ended, and latency counts from the time a request
 * was due; so a server that stalls is charged for all that had to wait (coordinated omission).
 *
 * Threads    pure; the clock comes as an argument
 * Ownership  struct bench_run owns its samples until bench_run_done.
 * Ordering   begin, then due / ended / tick in the order of time, until tick says BENCH_OVER.
 * Limits     BENCH_SAMPLES_MAX; what comes after is counted, but has no latency. */
#ifndef CLI_BENCH_RUN_H
#define CLI_BENCH_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_SAMPLES_MAX ((size_t)32 << 20)
#define BENCH_WINDOW_MS 100
#define BENCH_STEADY 0.05 /* two halves of the warm-up differ by less */
#define BENCH_WARMUP_TIMES 3
#define BENCH_SECONDS_MAX 86400

enum bench_phase { BENCH_WARMUP, BENCH_MEASURING, BENCH_OVER };

struct bench_plan {
  double rate; /* per second; 0 = closed loop */
  int64_t warmup_ns, duration_ns;
};

struct bench_run {
  struct bench_plan plan;
  enum bench_phase phase;
  int64_t begin_ns, measure_ns, end_ns, window_ns; /* window: end of the present one */
  int64_t next_due_ns, interval_ns;
  double *windows; /* requests ended in each, since the beginning of the phase */
  size_t window_count, window_room;
  double in_window;
  double *samples_ms;
  size_t sample_count, sample_room;
  int64_t ended, failed, late; /* during the measurement; late: due and not ended */
  bool steady;
};

void bench_run_begin(struct bench_run *run, const struct bench_plan *plan, int64_t now_ns);
/* True if a request is to be sent now; its latency counts from ret_due_ns. */
bool bench_run_take_due(struct bench_run *run, int64_t now_ns, int64_t *ret_due_ns);
/* Open loop: when to ask again. */
int64_t bench_run_next_due_ns(const struct bench_run *run);
void bench_run_ended(struct bench_run *run, int64_t due_ns, int64_t now_ns, bool good);
/* To be called at least every BENCH_WINDOW_MS. */
enum bench_phase bench_run_tick(struct bench_run *run, int64_t now_ns);
/* After BENCH_OVER, for each request of an open loop that has not ended: it counts with the time it
 * has taken so far. */
void bench_run_unended(struct bench_run *run, int64_t due_ns);
void bench_run_done(struct bench_run *run);

double bench_run_seconds(const struct bench_run *run); /* measured */
/* Half the width of the 95 % interval of the throughput, in parts of it; 0 with too few windows. */
double bench_run_margin(const struct bench_run *run);

#endif
