/* Labelled crash points. `PF_FAULT("origin.submit.before_commit")` does nothing in a normal build.
 *
 * With -DPF_FAULTS the environment decides: PF_CRASH=name:n ends the process by _exit(137) at the
 * n-th hit of that label; name:n:stop stops it with SIGSTOP instead. PF_FAULT_LOG=FILE records each
 * label's first hit, so that a test can prove that a point was reached. PF_LIMIT=name:value,… puts
 * other values in the place of limits that no test can wait for, or fill. PF_BREAK=name leaves out
 * what must never be missing, so that a test sees the process notice it.
 *
 * Threads    any
 * Limits     Labels are compared by content; 64 different ones are counted. */
#ifndef PF_BASE_FAULT_H
#define PF_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef PF_FAULTS
#define PF_FAULT(label) pf_fault_hit(label)
#define PF_FAULT_BREAKS(label) pf_fault_breaks(label)
#else
#define PF_FAULT(label) ((void)0)
#define PF_FAULT_BREAKS(label) false
#endif

void pf_fault_hit(const char *label);
bool pf_fault_breaks(const char *label);
/* The value that the environment has for this limit; in a normal build the one that is given. */
int64_t pf_fault_limit(const char *name, int64_t value);

#endif
