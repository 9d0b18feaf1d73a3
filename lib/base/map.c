#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void pf_map_init(struct pf_map *map) {
  *map = (struct pf_map){0};
}

void pf_map_done(struct pf_map *map) {
  free(map->buckets);
  *map = (struct pf_map){0};
}

struct pf_map_node *pf_map_find(const struct pf_map *map, uint64_t hash,
    bool (*eq)(const struct pf_map_node *node, const void *key), const void *key) {
  if (!map->buckets) return NULL;
  for (struct pf_map_node *n = map->buckets[hash & map->mask]; n; n = n->next)
    if (n->hash == hash && eq(n, key)) return n;
  return NULL;
}

static void map_grow(struct pf_map *map) {
  size_t size = map->buckets ? (map->mask + 1) * 2 : 64;
  struct pf_map_node **buckets = calloc(size, sizeof(*buckets));
  if (!buckets) return;
  for (size_t i = 0; map->buckets && i <= map->mask; i++) {
    for (struct pf_map_node *n = map->buckets[i], *next; n; n = next) {
      next = n->next;
      n->next = buckets[n->hash & (size - 1)];
      buckets[n->hash & (size - 1)] = n;
    }
  }
  free(map->buckets);
  map->buckets = buckets;
  map->mask = size - 1;
}

void pf_map_put(struct pf_map *map, struct pf_map_node *node, uint64_t hash) {
  if (!map->buckets || map->count > map->mask) map_grow(map);
  if (!map->buckets) map->buckets = pf_alloc(sizeof(*map->buckets));
  node->hash = hash;
  node->next = map->buckets[hash & map->mask];
  map->buckets[hash & map->mask] = node;
  map->count++;
}

void pf_map_del(struct pf_map *map, struct pf_map_node *node) {
  struct pf_map_node **at = &map->buckets[node->hash & map->mask];
  while (*at && *at != node)
    at = &(*at)->next;
  PF_ASSERT(*at == node);
  *at = node->next;
  map->count--;
}

/* The first node of the buckets from `at` on. */
static struct pf_map_node *map_from(const struct pf_map *map, size_t at) {
  for (; at <= map->mask; at++)
    if (map->buckets[at]) return map->buckets[at];
  return NULL;
}

struct pf_map_node *pf_map_first(const struct pf_map *map) {
  return map->buckets ? map_from(map, 0) : NULL;
}

struct pf_map_node *pf_map_next(const struct pf_map *map, const struct pf_map_node *node) {
  return node->next ? node->next : map_from(map, (node->hash & map->mask) + 1);
}

struct pf_map_node *pf_map_bucket(const struct pf_map *map, size_t number) {
  return map->buckets ? map->buckets[number & map->mask] : NULL;
}

uint64_t pf_hash_u64(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

static inline uint64_t rotl(uint64_t x, int bits) {
  return (x << bits) | (x >> (64 - bits));
}

static inline void sip_round(uint64_t v[4]) {
  v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32);
  v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];
  v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];
  v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32);
}

uint64_t pf_hash_bytes(const uint64_t key[2], const void *data, size_t len) {
  uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
      key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
  const unsigned char *at = data;
  uint64_t word;
  for (size_t left = len; left >= 8; left -= 8, at += 8) {
    memcpy(&word, at, 8);
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
  }
  word = (uint64_t)len << 56;
  for (size_t i = 0; i < (len & 7); i++)
    word |= (uint64_t)at[i] << (8 * i);
  v[3] ^= word;
  sip_round(v);
  v[0] ^= word;
  v[2] ^= 0xff;
  for (int i = 0; i < 3; i++)
    sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}
