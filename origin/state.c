#include "origin/state.h"

#include <stdlib.h>
#include <string.h>

#include "origin/actor.h"

struct state_entry {
  struct pf_slice key;
  char *value; /* NULL = absent: deleted, and not flushed yet */
  size_t value_len;
  bool dirty;
  struct state_entry *next_dirty;
};

/* What an entry held before the running turn wrote it. */
struct state_undo {
  struct state_undo *next;
  struct state_entry *entry;
  char *value;
  size_t value_len;
};

void state_init(struct state *state) {
  *state = (struct state){0};
}

static void entry_free(struct state_entry *entry) {
  free((char *)entry->key.data);
  free(entry->value);
  free(entry);
}

void state_done(struct state *state) {
  state_keep(state);
  for (size_t i = 0; i < state->count; i++)
    entry_free(state->entries[i]);
  free(state->entries);
  *state = (struct state){0};
}

static int key_compare(struct pf_slice a, struct pf_slice b) {
  size_t shorter = a.len < b.len ? a.len : b.len;
  int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
  return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* Index of the first entry whose key is not below `key`. */
static size_t entry_lower_bound(const struct state *state, struct pf_slice key) {
  size_t low = 0, high = state->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (key_compare(state->entries[middle]->key, key) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static struct state_entry *entry_find(const struct state *state, struct pf_slice key) {
  size_t at = entry_lower_bound(state, key);
  if (at == state->count || !pf_slice_eq(state->entries[at]->key, key)) return NULL;
  return state->entries[at];
}

static struct state_entry *entry_add(struct state *state, struct pf_slice key) {
  if (state->count == state->cap) {
    state->cap = state->cap ? state->cap * 2 : 8;
    state->entries = pf_realloc(state->entries, state->cap * sizeof(*state->entries));
  }
  size_t at = entry_lower_bound(state, key);
  memmove(
      state->entries + at + 1, state->entries + at, (state->count - at) * sizeof(*state->entries));
  struct state_entry *entry = pf_alloc(sizeof(*entry));
  entry->key = pf_slice(pf_memdup(key.data, key.len), key.len);
  state->entries[at] = entry;
  state->count++;
  return entry;
}

static size_t entry_bytes(const struct state_entry *entry) {
  return entry->value ? entry->key.len + entry->value_len : 0;
}

static void entry_mark_dirty(struct state *state, struct state_entry *entry) {
  if (entry->dirty) return;
  entry->dirty = true;
  entry->next_dirty = state->dirty;
  state->dirty = entry;
}

/* Replaces the value (owned from here on; NULL = absent) and remembers the old one for the undo. */
static void entry_write(
    struct state *state, struct state_entry *entry, char *value, size_t value_len) {
  struct state_undo *undo = pf_alloc(sizeof(*undo));
  *undo = (struct state_undo){state->undo, entry, entry->value, entry->value_len};
  state->undo = undo;
  state->bytes -= entry_bytes(entry);
  entry->value = value;
  entry->value_len = value_len;
  state->bytes += entry_bytes(entry);
  entry_mark_dirty(state, entry);
}

void state_load(struct state *state, struct pf_slice key, struct pf_slice value) {
  struct state_entry *entry = entry_add(state, key);
  entry->value = pf_memdup(value.data, value.len);
  entry->value_len = value.len;
  state->bytes += entry_bytes(entry);
}

bool state_get(const struct state *state, struct pf_slice key, struct pf_slice *ret_value) {
  const struct state_entry *entry = entry_find(state, key);
  if (!entry || !entry->value) return false;
  *ret_value = pf_slice(entry->value, entry->value_len);
  return true;
}

int state_put(struct state *state, struct pf_slice key, struct pf_slice value) {
  if (key.len == 0 || key.len > ACTOR_KEY_MAX || value.len > ACTOR_VALUE_MAX) return PF_ELIMIT;
  struct state_entry *entry = entry_find(state, key);
  size_t old = entry ? entry_bytes(entry) : 0;
  if (state->bytes - old + key.len + value.len > ACTOR_STATE_MAX) return PF_ELIMIT;
  if (!entry) entry = entry_add(state, key);
  entry_write(state, entry, pf_memdup(value.data, value.len), value.len);
  return PF_OK;
}

void state_delete(struct state *state, struct pf_slice key) {
  struct state_entry *entry = entry_find(state, key);
  if (entry && entry->value) entry_write(state, entry, NULL, 0);
}

void state_list(const struct state *state, struct pf_slice prefix,
    bool (*each)(struct pf_slice key, struct pf_slice value, void *arg), void *arg) {
  for (size_t i = entry_lower_bound(state, prefix); i < state->count; i++) {
    const struct state_entry *entry = state->entries[i];
    if (entry->key.len < prefix.len || memcmp(entry->key.data, prefix.data, prefix.len) != 0)
      return;
    if (entry->value && !each(entry->key, pf_slice(entry->value, entry->value_len), arg)) return;
  }
}

void state_keep(struct state *state) {
  for (struct state_undo *undo = state->undo, *next; undo; undo = next) {
    next = undo->next;
    free(undo->value);
    free(undo);
  }
  state->undo = NULL;
}

void state_undo(struct state *state) {
  for (struct state_undo *undo = state->undo, *next; undo; undo = next) {
    next = undo->next;
    struct state_entry *entry = undo->entry;
    state->bytes -= entry_bytes(entry);
    free(entry->value);
    entry->value = undo->value;
    entry->value_len = undo->value_len;
    state->bytes += entry_bytes(entry);
    free(undo);
  }
  /* The entries stay dirty: writing an unchanged value once more is harmless. */
  state->undo = NULL;
}

static void entry_remove(struct state *state, struct state_entry *entry) {
  size_t at = entry_lower_bound(state, entry->key);
  state->count--;
  memmove(
      state->entries + at, state->entries + at + 1, (state->count - at) * sizeof(*state->entries));
  entry_free(entry);
}

void state_flush(struct state *state,
    void (*each)(struct pf_slice key, struct pf_slice value, void *arg), void *arg) {
  PF_ASSERT(!state->undo); /* never in the middle of a turn */
  for (struct state_entry *entry = state->dirty, *next; entry; entry = next) {
    next = entry->next_dirty;
    entry->dirty = false;
    each(entry->key, pf_slice(entry->value, entry->value_len), arg);
    if (!entry->value) entry_remove(state, entry);
  }
  state->dirty = NULL;
}
