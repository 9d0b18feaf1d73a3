/* One measurement of a server, step by step, over one connection: round trips, fetches without the
 * server, whose processes it is made of, then each planned run; and at last whether anything comes
 * after all of them.
 *
 * Threads    main thread; runs a loop of its own
 * Ownership  The caller owns the plan and what was found, until measurement_run returns.
 * Ordering   none
 * Limits     those of load.h */
#ifndef MEASURE_MEASUREMENT_RUN_H
#define MEASURE_MEASUREMENT_RUN_H

#include "clients/measure/measurement.h"
#include "clients/ws/ws_client.h"

struct measurement_plan {
  struct ws_url server;
  bool session;        /* within a session of the server; a connection that breaks is made again */
  bool find_processes; /* asks the server who it is, and counts its processes */
  bool progress;       /* shown on stderr */
  int64_t timeout_ms;  /* gives up when nothing has ended for so long */
};

/* found names server and target and has its runs planned; the rest is filled, run by run. A message
 * is on stderr if it fails. PF_EXIT_OK, PF_EXIT_FAILURE; PF_EXIT_INTERRUPTED after a signal. */
int measurement_run(const struct measurement_plan *plan, struct measurement *found);

#endif
