#include "executor/seen.h"

#include <stdlib.h>
#include <string.h>

#define WORD_BITS 64

void seen_init(struct seen *seen) {
  *seen = (struct seen){0};
}

void seen_done(struct seen *seen) {
  for (size_t i = 0; i < SEEN_EPOCHS; i++)
    free(seen->epochs[i].bits);
  *seen = (struct seen){0};
}

static size_t word_of(uint64_t counter) {
  return counter % SEEN_WINDOW / WORD_BITS;
}

static uint64_t bit_of(uint64_t counter) {
  return (uint64_t)1 << (counter % WORD_BITS);
}

static const struct seen_epoch *epoch_find(const struct seen *seen, uint64_t epoch) {
  for (size_t i = 0; i < SEEN_EPOCHS; i++)
    if (seen->epochs[i].bits && seen->epochs[i].epoch == epoch) return &seen->epochs[i];
  return NULL;
}

static bool is_above(const struct seen_epoch *e, uint64_t counter) {
  return counter >= e->end;
}

static bool is_below(const struct seen_epoch *e, uint64_t counter) {
  return !is_above(e, counter) && e->end - counter > SEEN_WINDOW;
}

bool seen_has(const struct seen *seen, struct pf_fence fence) {
  const struct seen_epoch *e = epoch_find(seen, fence.epoch);
  if (!e || is_above(e, fence.counter)) return false;
  return is_below(e, fence.counter) || e->bits[word_of(fence.counter)] & bit_of(fence.counter);
}

bool seen_refused(const struct seen *seen, struct pf_fence fence) {
  const struct seen_epoch *e = epoch_find(seen, fence.epoch);
  if (!e || is_above(e, fence.counter) || is_below(e, fence.counter)) return false;
  return e->refused[word_of(fence.counter)] & bit_of(fence.counter);
}

unsigned seen_epochs(const struct seen *seen) {
  unsigned count = 0;
  for (size_t i = 0; i < SEEN_EPOCHS; i++)
    count += seen->epochs[i].bits != NULL;
  return count;
}

/* The window of an epoch; a new one takes the place of that used longest ago. */
static struct seen_epoch *epoch_take(struct seen *seen, struct pf_fence fence) {
  struct seen_epoch *oldest = &seen->epochs[0];
  for (size_t i = 0; i < SEEN_EPOCHS; i++) {
    struct seen_epoch *e = &seen->epochs[i];
    if (e->bits && e->epoch == fence.epoch) return e;
    if (e->used < oldest->used) oldest = e;
  }
  free(oldest->bits);
  *oldest = (struct seen_epoch){.epoch = fence.epoch, .bits = pf_alloc(2 * SEEN_WINDOW / 8)};
  oldest->refused = oldest->bits + SEEN_WINDOW / WORD_BITS;
  /* The first dispatch that arrives need not be the first that was sent. */
  oldest->end = fence.counter < SEEN_WINDOW / 2 ? SEEN_WINDOW / 2 : fence.counter;
  return oldest;
}

/* Moves the end of the window to behind counter: what comes in is not seen yet. */
static void window_move(struct seen_epoch *e, uint64_t counter) {
  if (counter - e->end >= SEEN_WINDOW) {
    memset(e->bits, 0, 2 * SEEN_WINDOW / 8);
  } else {
    for (uint64_t c = e->end; c <= counter; c++) {
      e->bits[word_of(c)] &= ~bit_of(c);
      /* Most pages of these are never written, and so take no memory. */
      if (e->refused[word_of(c)] & bit_of(c)) e->refused[word_of(c)] &= ~bit_of(c);
    }
  }
  e->end = counter + 1;
}

void seen_put(struct seen *seen, struct pf_fence fence, bool refused) {
  if (seen_has(seen, fence)) return;
  struct seen_epoch *e = epoch_take(seen, fence);
  e->used = ++seen->uses;
  if (is_above(e, fence.counter)) window_move(e, fence.counter);
  if (is_below(e, fence.counter)) return;
  e->bits[word_of(fence.counter)] |= bit_of(fence.counter);
  if (refused) e->refused[word_of(fence.counter)] |= bit_of(fence.counter);
}
