#include "orchestrator/tombstone.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static bool page_eq(const struct pf_map_node *node, const void *key) {
  return pf_container_of(node, const struct tomb_page, node)->number == *(const uint64_t *)key;
}

static struct tomb_page *page_find(const struct tombstones *tombs, uint64_t number) {
  struct pf_map_node *node = pf_map_find(&tombs->map, pf_hash_u64(number), page_eq, &number);
  return node ? pf_container_of(node, struct tomb_page, node) : NULL;
}

/* New pages come in rising order almost always, so the place is looked for from the end. */
static void page_link(struct tombstones *tombs, struct tomb_page *page) {
  struct pf_list *after = tombs->pages.prev;
  while (after != &tombs->pages &&
         pf_container_of(after, struct tomb_page, link)->number > page->number)
    after = after->prev;
  pf_list_push_front(after, &page->link);
}

static struct tomb_page *page_get(struct tombstones *tombs, uint64_t number) {
  struct tomb_page *page = page_find(tombs, number);
  if (page) return page;
  page = pf_alloc(sizeof(*page));
  page->origin = tombs->origin;
  page->number = number;
  pf_list_init(&page->dirty);
  pf_map_put(&tombs->map, &page->node, pf_hash_u64(number));
  page_link(tombs, page);
  return page;
}

static void page_free(struct tombstones *tombs, struct tomb_page *page) {
  pf_map_del(&tombs->map, &page->node);
  pf_list_del(&page->link);
  pf_list_del(&page->dirty);
  free(page);
}

void tombstones_init(struct tombstones *tombs, uint64_t origin) {
  tombs->origin = origin;
  pf_map_init(&tombs->map);
  pf_list_init(&tombs->pages);
}

void tombstones_done(struct tombstones *tombs) {
  PF_LIST_EACH(it, &tombs->pages) {
    page_free(tombs, pf_container_of(it, struct tomb_page, link));
  }
  pf_map_done(&tombs->map);
}

static uint64_t bit_of(uint64_t local) {
  return (uint64_t)1 << (local & 63);
}

static size_t word_of(uint64_t local) {
  return (local >> 6) & (TOMB_PAGE_WORDS - 1);
}

bool tombstones_has(const struct tombstones *tombs, uint64_t local) {
  const struct tomb_page *page = page_find(tombs, local >> TOMB_PAGE_SHIFT);
  return page && (page->bits[word_of(local)] & bit_of(local)) != 0;
}

void tombstones_set(struct tombstones *tombs, uint64_t local, struct pf_list *dirty) {
  struct tomb_page *page = page_get(tombs, local >> TOMB_PAGE_SHIFT);
  page->bits[word_of(local)] |= bit_of(local);
  if (pf_list_empty(&page->dirty)) pf_list_push(dirty, &page->dirty);
}

void tombstones_load(
    struct tombstones *tombs, uint64_t number, const uint64_t bits[TOMB_PAGE_WORDS]) {
  struct tomb_page *page = page_get(tombs, number);
  memcpy(page->bits, bits, sizeof(page->bits));
}

bool tombstones_forget(struct tombstones *tombs, uint64_t low) {
  bool dropped = false;
  PF_LIST_EACH(it, &tombs->pages) {
    struct tomb_page *page = pf_container_of(it, struct tomb_page, link);
    if (page->number >= low >> TOMB_PAGE_SHIFT) break;
    page_free(tombs, page);
    dropped = true;
  }
  return dropped;
}
