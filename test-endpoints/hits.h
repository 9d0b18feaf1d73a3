/* Counters per key: how often was this really requested, how often did it fail on purpose.
 *
 * Threads    The loop's.
 * Ownership  Entries belong to the table and live until hits_forget, hits_clear or hits_done.
 * Ordering   none
 * Limits     HITS_KEY_MAX bytes per key; keys_max keys. A full table refuses new keys: a forgotten
 *            count would let a test pass that must fail. */
#ifndef PF_TEST_ENDPOINTS_HITS_H
#define PF_TEST_ENDPOINTS_HITS_H

#include "base/buf.h"
#include "base/map.h"

#define HITS_KEY_MAX 256

struct hits_entry {
  struct pf_map_node node;
  uint64_t requests;
  uint64_t failures; /* answered badly on purpose by /flaky and /retry-after */
  size_t key_len;
  char key[];
};

struct hits {
  struct pf_map map;
  uint64_t secret[2];
  size_t keys_max;
};

void hits_init(struct hits *hits, size_t keys_max);
void hits_done(struct hits *hits);
/* NULL if the key is not there. */
struct hits_entry *hits_find(const struct hits *hits, struct pf_slice key);
/* Finds or adds. Errors: PF_EINVAL (the key is empty or too long), PF_ELIMIT (the table is full).
 */
PF_MUST_CHECK int hits_get(struct hits *hits, struct pf_slice key, struct hits_entry **ret_entry);
void hits_forget(struct hits *hits, struct pf_slice key);
void hits_clear(struct hits *hits);

#endif
