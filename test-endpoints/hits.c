#include "hits.h"

#include <stdlib.h>
#include <string.h>

#include "base/rand.h"

static struct hits_entry *entry_of(const struct pf_map_node *node) {
  return pf_container_of(node, struct hits_entry, node);
}

static bool entry_has_key(const struct pf_map_node *node, const void *key) {
  const struct hits_entry *entry = entry_of(node);
  return pf_slice_eq(pf_slice(entry->key, entry->key_len), *(const struct pf_slice *)key);
}

void hits_init(struct hits *hits, size_t keys_max) {
  *hits = (struct hits){.keys_max = keys_max};
  pf_map_init(&hits->map);
  pf_rand_secret(hits->secret, sizeof(hits->secret));
}

void hits_done(struct hits *hits) {
  hits_clear(hits);
}

static uint64_t key_hash(const struct hits *hits, struct pf_slice key) {
  return pf_hash_bytes(hits->secret, key.data, key.len);
}

struct hits_entry *hits_find(const struct hits *hits, struct pf_slice key) {
  struct pf_map_node *node = pf_map_find(&hits->map, key_hash(hits, key), entry_has_key, &key);
  return node ? entry_of(node) : NULL;
}

int hits_get(struct hits *hits, struct pf_slice key, struct hits_entry **ret_entry) {
  if (key.len == 0 || key.len > HITS_KEY_MAX) return PF_EINVAL;
  struct hits_entry *entry = hits_find(hits, key);
  if (!entry) {
    if (hits->map.count >= hits->keys_max) return PF_ELIMIT;
    entry = pf_alloc(sizeof(*entry) + key.len);
    entry->key_len = key.len;
    memcpy(entry->key, key.data, key.len);
    pf_map_put(&hits->map, &entry->node, key_hash(hits, key));
  }
  *ret_entry = entry;
  return PF_OK;
}

void hits_forget(struct hits *hits, struct pf_slice key) {
  struct hits_entry *entry = hits_find(hits, key);
  if (!entry) return;
  pf_map_del(&hits->map, &entry->node);
  free(entry);
}

void hits_clear(struct hits *hits) {
  PF_MAP_EACH(it, &hits->map)
    free(entry_of(it));
  pf_map_done(&hits->map);
}
