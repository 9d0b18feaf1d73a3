/* The options of `proxyfetch bench`.
 *
 * Threads    main thread
 * Ownership  Strings belong to pf_options_free.
 * Ordering   none
 * Limits     in the table */
#ifndef CLI_BENCH_OPTIONS_H
#define CLI_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct bench_config {
  char *url, *server, *method, *body, *check, *save, *baseline, *pids, *include;
  char *ramp, *profile, *record, *replay, *speed;
  int64_t concurrency, duration_s, warmup_s, rate, threshold, clients;
  bool keepalive, ws, json, compare;
};

#endif
