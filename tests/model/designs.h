/* The designs that must hold, and the removals that must be found out.
 *
 * Threads    pure
 * Ownership  constant tables
 * Ordering   none
 * Limits     none */
#ifndef PF_MODEL_DESIGNS_H
#define PF_MODEL_DESIGNS_H

#include <stddef.h>

#include "rules.h"

struct good {
  struct design design;
  unsigned faults;    /* explored by default */
  bool deadline_ends; /* after this kind of loss only the deadline ends a job, and it does */
};

enum { HOLDS = 99 }; /* removal.faults: survives, as far as we look */

struct removal {
  struct design design; /* what is left out is in `without` */
  unsigned faults;      /* the fewest with which it breaks */
  const char *symptom;
};

extern const struct good goods[];
extern const size_t good_count;
extern const struct removal removals[];
extern const size_t removal_count;

const char *rule_name(enum rule rule);
const char *rule_text(enum rule rule);
/* RULES if there is none of this name. */
enum rule rule_find(const char *name);

#endif
