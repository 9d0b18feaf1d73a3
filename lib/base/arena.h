/* Memory for one parsed input, freed in one call.
 *
 * Threads    none: the caller serialises.
 * Ownership  All pointers handed out live until pf_arena_done or pf_arena_clear.
 * Ordering   none
 * Limits     none of its own: what is parsed is bounded before. Allocations are aligned to 16. */
#ifndef PF_BASE_ARENA_H
#define PF_BASE_ARENA_H

#include <stddef.h>

#include "base/buf.h"

struct pf_arena_block;

struct pf_arena {
  struct pf_arena_block *blocks; /* newest first */
};

static inline void pf_arena_init(struct pf_arena *arena) {
  arena->blocks = NULL;
}
void pf_arena_done(struct pf_arena *arena);
/* Frees all but one block, so that a loop over many small inputs does not allocate. */
void pf_arena_clear(struct pf_arena *arena);
void *pf_arena_alloc(struct pf_arena *arena, size_t size); /* zeroed, never NULL */
/* A NUL-terminated copy. */
struct pf_slice pf_arena_copy(struct pf_arena *arena, struct pf_slice bytes);

#endif
