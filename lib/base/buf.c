#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pf_slice pf_slice_str(const char *text) {
  return (struct pf_slice){.data = text, .len = text ? strlen(text) : 0};
}

bool pf_slice_eq(struct pf_slice a, struct pf_slice b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool pf_slice_is(struct pf_slice a, const char *text) {
  return pf_slice_eq(a, pf_slice_str(text));
}

void pf_buf_init(struct pf_buf *buf, size_t max) {
  *buf = (struct pf_buf){.max = max};
}

void pf_buf_done(struct pf_buf *buf) {
  free(buf->data);
  *buf = (struct pf_buf){.max = buf->max};
}

void pf_buf_clear(struct pf_buf *buf) {
  buf->len = 0;
  buf->err = PF_OK;
}

char *pf_buf_reserve(struct pf_buf *buf, size_t len) {
  if (buf->err) return NULL;
  if (len > buf->max || buf->len > buf->max - len) {
    buf->err = PF_ELIMIT;
    return NULL;
  }
  size_t need = buf->len + len;
  if (need > buf->cap) {
    size_t cap = buf->cap < 64 ? 64 : buf->cap;
    while (cap < need)
      cap *= 2;
    if (cap > buf->max) cap = buf->max;
    char *grown = realloc(buf->data, cap);
    if (!grown) {
      buf->err = PF_ENOMEM;
      return NULL;
    }
    buf->data = grown;
    buf->cap = cap;
  }
  return buf->data + buf->len;
}

void pf_buf_append(struct pf_buf *buf, const void *data, size_t len) {
  if (len == 0) return;
  char *to = pf_buf_reserve(buf, len);
  if (!to) return;
  memcpy(to, data, len);
  buf->len += len;
}

void pf_buf_str(struct pf_buf *buf, const char *text) {
  pf_buf_append(buf, text, strlen(text));
}

void pf_buf_slice(struct pf_buf *buf, struct pf_slice slice) {
  pf_buf_append(buf, slice.data, slice.len);
}

void pf_buf_printf(struct pf_buf *buf, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int len = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  PF_ASSERT(len >= 0);
  char *to = pf_buf_reserve(buf, (size_t)len + 1); /* vsnprintf wants room for its NUL */
  if (to) {
    vsnprintf(to, (size_t)len + 1, fmt, again);
    buf->len += (size_t)len;
  }
  va_end(again);
}

void pf_buf_consume(struct pf_buf *buf, size_t len) {
  PF_ASSERT(len <= buf->len);
  buf->len -= len;
  if (buf->len) memmove(buf->data, buf->data + len, buf->len);
}

void pf_buf_must(const struct pf_buf *buf) {
  if (buf->err == PF_ENOMEM) pf_out_of_memory();
  PF_ASSERT(buf->err == PF_OK);
}

struct pf_slice pf_buf_view(const struct pf_buf *buf) {
  if (buf->err == PF_ENOMEM) pf_out_of_memory();
  return (struct pf_slice){.data = buf->data, .len = buf->len};
}

char *pf_buf_take(struct pf_buf *buf, size_t *ret_len) {
  if (buf->err) return NULL;
  char *bytes = realloc(buf->data, buf->len + 1);
  if (!bytes) {
    buf->err = PF_ENOMEM;
    return NULL;
  }
  bytes[buf->len] = '\0';
  *ret_len = buf->len;
  *buf = (struct pf_buf){.max = buf->max};
  return bytes;
}
