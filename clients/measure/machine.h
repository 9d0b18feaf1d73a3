/* Where and when a figure was measured, and what was measured.
 *
 * Threads    any
 * Ownership  none
 * Ordering   none
 * Limits     Texts are cut. */
#ifndef MEASURE_MACHINE_H
#define MEASURE_MACHINE_H

#include "wire/json.h"

struct machine {
  char date[32], cpu[128], kernel[200];
  long cpus, memory_mib;
};

void machine_read(struct machine *machine);
/* The share of all processors, from 0 to 1, that others use while this sleeps for a moment. */
double machine_busy_share(void);
/* Members date, commit, version and machine of an object. */
void machine_write(const struct machine *machine, struct json_writer *w);

#endif
