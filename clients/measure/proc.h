/* CPU time of the local processes that a measurement passes through.
 *
 * Threads    main thread
 * Ownership  none
 * Ordering   none
 * Limits     PROC_MAX processes */
#ifndef MEASURE_PROC_H
#define MEASURE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define PROC_MAX 72
#define PROC_ROLE_MAX 24

struct proc_set {
  size_t count;
  struct {
    char role[PROC_ROLE_MAX];
    int pid;
    int64_t cpu_ns; /* at the last proc_sample */
  } procs[PROC_MAX];
};

/* Adds a process; false if pid is no process or the set is full. */
bool proc_add(struct proc_set *set, const char *role, int pid);
/* "origin=123,executor=456"; false if it is not of this form or names no process. */
bool proc_add_list(struct proc_set *set, const char *list);
/* Given the origin's process: adds all of its system, as far as that can be told: those that the
 * same `proxyfetch up` started, or, if all were started by hand, those of the only such system.
 * Adds nothing if pid is not an origin of this machine. */
void proc_add_family(struct proc_set *set, int pid);
/* The same with what an origin answers to GET /health; nothing if that names no process. */
void proc_add_answered(struct proc_set *set, struct pf_slice health);
/* CPU time since the process began, of all its threads; -1 if it has gone. */
int64_t proc_cpu_ns(int pid);
/* Writes the CPU time used by each process since the sample before to ret_used_ns[i]; 0 at first.
 */
void proc_sample(struct proc_set *set, int64_t ret_used_ns[PROC_MAX]);

#endif
