/* A growing byte buffer with a maximum, and slices of bytes that somebody else owns.
 *
 * Threads    none: the caller serialises.
 * Ownership  pf_buf owns its bytes until pf_buf_done or pf_buf_take. A slice owns nothing.
 * Ordering   none
 * Limits     `max` of pf_buf_init. A failed append is sticky: err is set, later appends do
 *            nothing, and the content is to be thrown away. Check err once, at the end. */
#ifndef PF_BASE_BUF_H
#define PF_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct pf_slice {
  const char *data;
  size_t len;
};

struct pf_buf {
  char *data; /* not NUL-terminated */
  size_t len, cap, max;
  int err; /* PF_OK, PF_ELIMIT or PF_ENOMEM */
};

#define PF_BUF_MAX_DEFAULT ((size_t)64 << 20)

static inline struct pf_slice pf_slice(const void *data, size_t len) {
  return (struct pf_slice){.data = data, .len = len};
}
struct pf_slice pf_slice_str(const char *text); /* NULL gives the empty slice */
bool pf_slice_eq(struct pf_slice a, struct pf_slice b);
bool pf_slice_is(struct pf_slice a, const char *text);

void pf_buf_init(struct pf_buf *buf, size_t max);
void pf_buf_done(struct pf_buf *buf);
/* Keeps the memory, forgets content and error. */
void pf_buf_clear(struct pf_buf *buf);
/* Room for len more bytes at data + len, or NULL with err set; the caller then adds to len. */
char *pf_buf_reserve(struct pf_buf *buf, size_t len);
void pf_buf_append(struct pf_buf *buf, const void *data, size_t len);
void pf_buf_str(struct pf_buf *buf, const char *text);
void pf_buf_slice(struct pf_buf *buf, struct pf_slice slice);
void pf_buf_printf(struct pf_buf *buf, const char *fmt, ...) PF_PRINTF(2, 3);
/* Drops the first len bytes (memmove). */
void pf_buf_consume(struct pf_buf *buf, size_t len);
/* What it holds. A buffer that memory did not suffice for holds a part that would be taken for the
 * whole, so for one the process ends (PF_EXIT_MEMORY): who can refuse instead checks err first. */
struct pf_slice pf_buf_view(const struct pf_buf *buf);
/* For what must fit, since its parts are bounded: ends the process if memory did not suffice. */
void pf_buf_must(const struct pf_buf *buf);
/* Hands the bytes to the caller (free()), NUL-terminated; the buffer is empty afterwards. NULL on
 * a sticky error. */
char *pf_buf_take(struct pf_buf *buf, size_t *ret_len);

#endif
