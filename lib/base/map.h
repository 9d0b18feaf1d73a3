/* Intrusive hash map: chained buckets, the node lives inside its owner, the caller compares keys.
 *
 * Threads    none: the caller serialises.
 * Ownership  The map owns its bucket array only.
 * Ordering   none; iteration order is arbitrary.
 * Limits     none. The table doubles at load 1; a failed growth only makes chains longer. */
#ifndef PF_BASE_MAP_H
#define PF_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pf_map_node {
  struct pf_map_node *next;
  uint64_t hash;
};

struct pf_map {
  struct pf_map_node **buckets;
  size_t mask; /* bucket count - 1, or 0 with no buckets */
  size_t count;
};

void pf_map_init(struct pf_map *map);
void pf_map_done(struct pf_map *map); /* nodes are left alone */

/* The first node with this hash for which eq(node, key) holds, or NULL. */
struct pf_map_node *pf_map_find(const struct pf_map *map, uint64_t hash,
    bool (*eq)(const struct pf_map_node *node, const void *key), const void *key);
/* The caller has made sure that the key is not there yet. */
void pf_map_put(struct pf_map *map, struct pf_map_node *node, uint64_t hash);
/* node must be in the map. */
void pf_map_del(struct pf_map *map, struct pf_map_node *node);

/* Any node, or NULL; and another one after each, until all have been. */
struct pf_map_node *pf_map_first(const struct pf_map *map);
struct pf_map_node *pf_map_next(const struct pf_map *map, const struct pf_map_node *node);
/* All nodes. `it` may be deleted and freed inside the loop, or freed alone if the map is given up;
 * no other may be deleted, and none put. */
#define PF_MAP_EACH(it, map)                                                                       \
  for (struct pf_map_node *it = pf_map_first(map), *it##_next;                                     \
       it && (it##_next = pf_map_next((map), it), true); it = it##_next)
/* For a walk in portions: the nodes of one bucket, the first of a chain or NULL. Any number names
 * one, and mask + 1 of them in a row are all. */
struct pf_map_node *pf_map_bucket(const struct pf_map *map, size_t number);

/* Mixes a 64-bit id (splitmix64 finaliser, Steele et al. 2014). Not for keys that outsiders choose.
 */
uint64_t pf_hash_u64(uint64_t value);
/* SipHash-1-3 (Aumasson, Bernstein 2012) for keys that outsiders choose; key: a secret of the
 * process. */
uint64_t pf_hash_bytes(const uint64_t key[2], const void *data, size_t len);

#endif
