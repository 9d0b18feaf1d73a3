#include "base/heap.h"

#include <stdlib.h>

#include "base/err.h"

void pf_heap_init(struct pf_heap *heap) {
  *heap = (struct pf_heap){0};
}

void pf_heap_done(struct pf_heap *heap) {
  free(heap->nodes);
  *heap = (struct pf_heap){0};
}

struct pf_heap_node *pf_heap_first(const struct pf_heap *heap) {
  return heap->count ? heap->nodes[0] : NULL;
}

static void heap_place(struct pf_heap *heap, struct pf_heap_node *node, size_t at) {
  heap->nodes[at] = node;
  node->slot = at + 1;
}

static void heap_up(struct pf_heap *heap, struct pf_heap_node *node, size_t at) {
  while (at > 0 && heap->nodes[(at - 1) / 2]->key > node->key) {
    heap_place(heap, heap->nodes[(at - 1) / 2], at);
    at = (at - 1) / 2;
  }
  heap_place(heap, node, at);
}

static void heap_down(struct pf_heap *heap, struct pf_heap_node *node, size_t at) {
  for (;;) {
    size_t child = at * 2 + 1;
    if (child >= heap->count) break;
    if (child + 1 < heap->count && heap->nodes[child + 1]->key < heap->nodes[child]->key) child++;
    if (heap->nodes[child]->key >= node->key) break;
    heap_place(heap, heap->nodes[child], at);
    at = child;
  }
  heap_place(heap, node, at);
}

void pf_heap_set(struct pf_heap *heap, struct pf_heap_node *node, int64_t key) {
  if (!node->slot) {
    if (heap->count == heap->cap) {
      heap->cap = heap->cap ? heap->cap * 2 : 64;
      heap->nodes = pf_realloc(heap->nodes, heap->cap * sizeof(*heap->nodes));
    }
    node->key = key;
    heap_up(heap, node, heap->count++);
    return;
  }
  PF_ASSERT(node->slot <= heap->count && heap->nodes[node->slot - 1] == node);
  bool earlier = key < node->key;
  node->key = key;
  if (earlier)
    heap_up(heap, node, node->slot - 1);
  else
    heap_down(heap, node, node->slot - 1);
}

void pf_heap_del(struct pf_heap *heap, struct pf_heap_node *node) {
  if (!node->slot) return;
  size_t at = node->slot - 1;
  PF_ASSERT(at < heap->count && heap->nodes[at] == node);
  node->slot = 0;
  struct pf_heap_node *last = heap->nodes[--heap->count];
  if (last == node) return;
  if (at > 0 && heap->nodes[(at - 1) / 2]->key > last->key)
    heap_up(heap, last, at);
  else
    heap_down(heap, last, at);
}
