/* Intrusive binary min-heap on a 64-bit key: deadlines and schedules.
 *
 * Threads    none: the caller serialises.
 * Ownership  The heap owns its array of pointers only.
 * Ordering   Smallest key first; equal keys in any order.
 * Limits     none */
#ifndef PF_BASE_HEAP_H
#define PF_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pf_heap_node {
  int64_t key;
  size_t slot; /* position + 1; 0 = not in a heap, so a zeroed node is valid */
};

struct pf_heap {
  struct pf_heap_node **nodes;
  size_t count, cap;
};

void pf_heap_init(struct pf_heap *heap);
void pf_heap_done(struct pf_heap *heap);
/* The node with the smallest key, or NULL. */
struct pf_heap_node *pf_heap_first(const struct pf_heap *heap);
/* Inserts node, or moves it if it is in this heap already. */
void pf_heap_set(struct pf_heap *heap, struct pf_heap_node *node, int64_t key);
/* Removes node; harmless if it is in no heap. */
void pf_heap_del(struct pf_heap *heap, struct pf_heap_node *node);
static inline bool pf_heap_has(const struct pf_heap_node *node) {
  return node->slot != 0;
}

#endif
