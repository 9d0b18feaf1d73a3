#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 4096 - 32, ALIGN = 16 };

struct pf_arena_block {
  struct pf_arena_block *next;
  size_t used, size;
  _Alignas(ALIGN) char bytes[];
};

void pf_arena_done(struct pf_arena *arena) {
  for (struct pf_arena_block *b = arena->blocks, *next; b; b = next) {
    next = b->next;
    free(b);
  }
  arena->blocks = NULL;
}

void pf_arena_clear(struct pf_arena *arena) {
  struct pf_arena_block *keep = arena->blocks;
  if (!keep) return;
  if (keep->size > BLOCK_BYTES) {
    pf_arena_done(arena); /* an unusually large one is not worth holding */
    return;
  }
  arena->blocks = keep->next;
  pf_arena_done(arena);
  keep->next = NULL;
  keep->used = 0;
  arena->blocks = keep;
}

void *pf_arena_alloc(struct pf_arena *arena, size_t size) {
  size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
  struct pf_arena_block *b = arena->blocks;
  if (!b || b->size - b->used < size) {
    size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;
    b = pf_realloc(NULL, sizeof(*b) + room);
    b->next = arena->blocks;
    b->used = 0;
    b->size = room;
    arena->blocks = b;
  }
  void *at = b->bytes + b->used;
  b->used += size;
  return memset(at, 0, size);
}

struct pf_slice pf_arena_copy(struct pf_arena *arena, struct pf_slice bytes) {
  char *copy = pf_arena_alloc(arena, bytes.len + 1);
  if (bytes.len) memcpy(copy, bytes.data, bytes.len);
  return pf_slice(copy, bytes.len);
}
