/* Which jobs of one origin have ended here: bitmap pages of 1,024 local ids each.
 *
 * A late announcement of a finished job must be answered `done`. The origin's `low` (its oldest id
 * that is not done) bounds what has to be remembered.
 *
 * Threads    none: the caller serialises.
 * Ownership  struct tombstones owns its pages. A page's dirty link belongs to the caller's list.
 * Ordering   Pages are kept by number, so that forgetting walks only what it drops.
 * Limits     none of its own: 1,024 jobs cost about 200 bytes, and low moves on. */
#ifndef PF_ORCHESTRATOR_TOMBSTONE_H
#define PF_ORCHESTRATOR_TOMBSTONE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"

#define TOMB_PAGE_SHIFT 10
#define TOMB_PAGE_WORDS 16
#define TOMB_PAGE_BYTES (TOMB_PAGE_WORDS * 8)

struct tomb_page {
  struct pf_map_node node;
  struct pf_list link;  /* tombstones.pages, ascending */
  struct pf_list dirty; /* the caller's list of pages to write; points to itself if clean */
  uint64_t origin;
  uint64_t number; /* local id >> TOMB_PAGE_SHIFT */
  uint64_t bits[TOMB_PAGE_WORDS];
};

struct tombstones {
  uint64_t origin;
  struct pf_map map;
  struct pf_list pages;
};

void tombstones_init(struct tombstones *tombs, uint64_t origin);
void tombstones_done(struct tombstones *tombs);
bool tombstones_has(const struct tombstones *tombs, uint64_t local);
/* Marks local as ended and puts its page on the list `dirty`. */
void tombstones_set(struct tombstones *tombs, uint64_t local, struct pf_list *dirty);
/* Takes over a page that was read from the database. */
void tombstones_load(
    struct tombstones *tombs, uint64_t number, const uint64_t bits[TOMB_PAGE_WORDS]);
/* Drops the pages that lie wholly below low. True if there was one. */
bool tombstones_forget(struct tombstones *tombs, uint64_t low);

#endif
