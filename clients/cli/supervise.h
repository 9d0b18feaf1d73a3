/* When to start a child again: the decision, without processes.
 *
 * A child that served and died is started again at once; one that keeps dying waits 100 ms, then
 * twice as long each time up to 5 s. Ten seconds of service wipe the record. One that has never
 * served is not tried again: its message tells the user what to change.
 *
 * Threads    pure
 * Ownership  none
 * Ordering   started, then perhaps ready, then exited
 * Limits     SUPERVISE_DELAY_MAX_MS between two starts */
#ifndef CLI_SUPERVISE_H
#define CLI_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

#define SUPERVISE_DELAY_MS 100
#define SUPERVISE_DELAY_MAX_MS 5000
#define SUPERVISE_STABLE_MS 10000

struct supervise { /* zeroed = never started */
  bool served;     /* has been ready at least once */
  bool ready;      /* in its present run */
  int64_t ready_at_ms;
  unsigned failures; /* exits since the last stable run */
};

void supervise_on_started(struct supervise *s);
void supervise_on_ready(struct supervise *s, int64_t now_ms);
/* Milliseconds until the next start, or -1: give up. */
int64_t supervise_on_exited(struct supervise *s, int64_t now_ms);

#endif
