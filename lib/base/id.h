/* Identifiers that travel: job ids, fences, random tokens.
 *
 * Threads    All functions are pure.
 * Ownership  none
 * Ordering   Job ids of one origin grow with time: local = start number << 40 | count.
 * Limits     2^40 jobs per start of an origin, 2^23 starts: SQLite has no larger ids. */
#ifndef PF_BASE_ID_H
#define PF_BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* 32 hex digits: the origin's random id, then its local id. All zero = none. */
struct pf_job_id {
  uint64_t origin;
  uint64_t local;
};

/* One dispatch of one job: the queue's epoch and a counter that only grows within it. */
struct pf_fence {
  uint64_t epoch;
  uint64_t counter;
};

#define PF_U64_HEX 16
#define PF_ID_HEX 32 /* digits of a job id or a fence */
#define PF_ID_TEXT (PF_ID_HEX + 1)
#define PF_LOCAL_COUNT_BITS 40

void pf_u64_print(char text[PF_U64_HEX + 1], uint64_t value);
PF_MUST_CHECK int pf_u64_parse(
    uint64_t *ret_value, const char *text, size_t len); /* 16 digits exactly */
void pf_job_id_print(char text[PF_ID_TEXT], struct pf_job_id id);
PF_MUST_CHECK int pf_job_id_parse(struct pf_job_id *ret_id, const char *text, size_t len);
void pf_fence_print(char text[PF_ID_TEXT], struct pf_fence fence);
PF_MUST_CHECK int pf_fence_parse(struct pf_fence *ret_fence, const char *text, size_t len);

static inline bool pf_job_id_eq(struct pf_job_id a, struct pf_job_id b) {
  return a.origin == b.origin && a.local == b.local;
}
static inline bool pf_fence_eq(struct pf_fence a, struct pf_fence b) {
  return a.epoch == b.epoch && a.counter == b.counter;
}
uint64_t pf_job_id_hash(struct pf_job_id id);

/* 0 to 15, or -1. */
int pf_hex_value(char c);
/* Lower-case hex of len bytes; text needs 2 * len + 1 bytes. */
void pf_hex_print(char *text, const void *data, size_t len);
/* Exactly 2 * len digits, either case. */
PF_MUST_CHECK int pf_hex_parse(void *data, size_t len, const char *text, size_t text_len);

#endif
