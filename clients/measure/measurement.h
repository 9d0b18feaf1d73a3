/* What a measurement found, and its two ways onto paper.
 *
 * Threads    main thread
 * Ownership  The runs, and the texts pointed to, are the caller's.
 * Ordering   none
 * Limits     none */
#ifndef MEASURE_MEASUREMENT_H
#define MEASURE_MEASUREMENT_H

#include "clients/measure/load.h"
#include "clients/measure/proc.h"
#include "clients/measure/stats.h"

enum run_kind {
  RUN_COLD,      /* the first fetch of all */
  RUN_BURST,     /* as many as the concurrency, all at once */
  RUN_SUSTAINED, /* the concurrency in flight all the time */
  RUN_TIMINGS,   /* the same, each with its timings */
};

struct run { /* one load */
  enum run_kind kind;
  int64_t concurrency, iterations, send_ms;
  bool finished;
  double total_ms;
  struct stats enqueue_ms;        /* send to enqueued, by our clock */
  struct stats origin_enqueue_ms; /* the enqueueTime of the origin */
  struct stats execution_ms;      /* enqueued to result, by our clock */
  struct stats whole_ms;          /* send to result */
  struct stats timings_ms[MESSAGE_TIMINGS];
  int64_t timings_count, sums_wrong, reused;
  struct load_faults faults;
  double cpu_us[PROC_MAX]; /* per fetch, of each process of the set */
  double client_cpu_us;
};

struct measurement {
  const char *server, *target;
  bool phases;
  struct stats round_trip_ms;
  bool round_trip_by_frame; /* the server knows no ping message; protocol pings were used */
  struct stats direct_ms;
  double direct_first_ms;
  char direct_problem[160]; /* empty if it went well */
  struct proc_set procs;
  struct run *runs;
  size_t run_count;
};

/* The sum over all runs. */
struct load_faults measurement_faults(const struct measurement *m);
/* What the system adds to one fetch: its median, less the direct fetch and the way to the server.
 * False without a run at concurrency 1, or without a direct fetch. */
bool measurement_added_ms(const struct measurement *m, double *ret_ms);
void measurement_print(const struct measurement *m);
void measurement_print_json(const struct measurement *m);

#endif
