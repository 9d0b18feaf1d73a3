/* One load from its first connection to the end of its measurement: sends what bench_run.h says is
 * due, over http_load.h or ws_load.h, and counts CPU time.
 *
 * Threads    main thread; runs a loop of its own
 * Ownership  The caller owns all that a plan points to, until bench_load_run returns.
 * Ordering   none
 * Limits     BENCH_CONCURRENCY_MAX in flight */
#ifndef MEASURE_BENCH_LOAD_H
#define MEASURE_BENCH_LOAD_H

#include "clients/measure/bench_result.h"
#include "clients/measure/record.h"
#include "clients/ws/ws_client.h"

#define BENCH_CONCURRENCY_MAX 100000

struct bench_load_plan {
  struct bench_plan run;
  bool ws;
  struct ws_url server; /* of ws the origin, else whom to ask */
  const struct load_request *requests;
  size_t request_count;
  const uint32_t *which; /* of each request of the schedule; NULL: requests[0] always */
  const char *include;   /* ws: or NULL */
  size_t concurrency, clients;
  bool fresh;          /* a connection for each request */
  bool find_processes; /* ws: asks the server who it is, and counts its processes */
  struct record *sent; /* with the same requests: takes what is sent while measuring; or NULL */
};

/* Fills run, and of result what is known only while it runs; a message is on stderr if it fails.
 * PF_EXIT_OK, PF_EXIT_FAILURE; PF_EXIT_INTERRUPTED with the measurement so far, if any. */
int bench_load_run(
    const struct bench_load_plan *plan, struct bench_run *run, struct bench_result *result);

#endif
