/* Visits every state that a design can reach with at most so many faults, in order of the number of
 * faults, and looks for the first that breaks a promise or from which nothing leads to the end.
 *
 * "Can end" means: some sequence of steps without further faults, and without the deadline unless
 * the caller says so, reaches a finished state. That is less than fairness and needs no clock.
 *
 * Threads    none
 * Ownership  The result is a plain value. A trace goes to `trace`.
 * Ordering   deterministic
 * Limits     states_max of the caller */
#ifndef PF_MODEL_EXPLORE_H
#define PF_MODEL_EXPLORE_H

#include <stdbool.h>
#include <stdio.h>

#include "rules.h"

struct limits {
  unsigned faults;
  size_t states_max;
  bool deadline_ends; /* a job that only its deadline can end is all right */
};

struct findings {
  size_t states;
  unsigned faults;                   /* explored completely, or with which the flaw appears */
  const char *broken;                /* the promise that fails first; NULL: all hold */
  bool gave_up;                      /* states_max reached */
  size_t stuck;                      /* states without a way to the end, at that number of faults */
  unsigned effects_max, fetches_max; /* of one job */
  size_t memory_bytes;
};

/* trace: where to tell in words how a promise is broken; NULL: nowhere. */
struct findings explore(const struct design *design, const struct limits *limits, FILE *trace);

#endif
