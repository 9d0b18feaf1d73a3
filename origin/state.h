/* The durable key-value state of one actor, in memory, with undo for the running turn and a list of
 * what has changed since it was last written.
 *
 * Threads    none: the caller serialises.
 * Ownership  The state owns copies of keys and values; slices from state_get live until the key is
 *            next written or state_done.
 * Ordering   Keys are kept in byte order.
 * Limits     ACTOR_KEY_MAX, ACTOR_VALUE_MAX, ACTOR_STATE_MAX of origin/actor.h. */
#ifndef ORIGIN_STATE_H
#define ORIGIN_STATE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

struct state_entry;
struct state_undo;

struct state {
  struct state_entry **entries; /* sorted by key; deleted ones stay until the flush */
  size_t count, cap;
  size_t bytes;              /* keys and values that are present */
  struct state_entry *dirty; /* changed since the last flush */
  struct state_undo *undo;   /* of the running turn, newest first */
};

void state_init(struct state *state);
void state_done(struct state *state);
/* Puts a row that is durable already. Only before the first turn. */
void state_load(struct state *state, struct pf_slice key, struct pf_slice value);

bool state_get(const struct state *state, struct pf_slice key, struct pf_slice *ret_value);
PF_MUST_CHECK int state_put(struct state *state, struct pf_slice key, struct pf_slice value);
void state_delete(struct state *state, struct pf_slice key);
void state_list(const struct state *state, struct pf_slice prefix,
    bool (*each)(struct pf_slice key, struct pf_slice value, void *arg), void *arg);

/* The end of a turn: keeps its changes, or takes them back. */
void state_keep(struct state *state);
void state_undo(struct state *state);

/* Calls each for every key that changed since the last flush (value.data NULL = deleted) and
 * forgets that they changed. */
void state_flush(struct state *state,
    void (*each)(struct pf_slice key, struct pf_slice value, void *arg), void *arg);
static inline bool state_dirty(const struct state *state) {
  return state->dirty != NULL;
}

#endif
