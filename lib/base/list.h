/* Intrusive doubly linked list with a sentinel head.
 *
 * Threads    none: the caller serialises.
 * Ownership  Links live inside their owners; the list owns nothing.
 * Ordering   pf_list_push appends, pf_list_pop takes the oldest.
 * Limits     none */
#ifndef PF_BASE_LIST_H
#define PF_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct pf_list {
  struct pf_list *next, *prev;
};

static inline void pf_list_init(struct pf_list *head) {
  head->next = head->prev = head;
}

static inline bool pf_list_empty(const struct pf_list *head) {
  return head->next == head;
}

static inline void pf_list_push(struct pf_list *head, struct pf_list *link) {
  link->prev = head->prev;
  link->next = head;
  head->prev->next = link;
  head->prev = link;
}

static inline void pf_list_push_front(struct pf_list *head, struct pf_list *link) {
  pf_list_push(head->next, link);
}

/* Leaves the link pointing to itself, so deleting twice is harmless. */
static inline void pf_list_del(struct pf_list *link) {
  link->prev->next = link->next;
  link->next->prev = link->prev;
  pf_list_init(link);
}

/* The oldest link, removed; NULL when empty. */
static inline struct pf_list *pf_list_pop(struct pf_list *head) {
  if (pf_list_empty(head)) return NULL;
  struct pf_list *first = head->next;
  pf_list_del(first);
  return first;
}

/* Appends all of `from` to `to` and leaves `from` empty. */
static inline void pf_list_splice(struct pf_list *to, struct pf_list *from) {
  if (pf_list_empty(from)) return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  pf_list_init(from);
}

/* Safe against deletion of `it` inside the loop. */
#define PF_LIST_EACH(it, head)                                                                     \
  for (struct pf_list *it = (head)->next, *it##_next = it->next; it != (head);                     \
       it = it##_next, it##_next = it->next)

#endif
