#include "base/err.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *pf_err_text(int code) {
  switch (code) {
  case PF_OK:
    return "success";
#define X(name, value, text)                                                                       \
  case name:                                                                                       \
    return text;
    PF_ERR_MAP(X)
#undef X
  default:
    return "unknown error";
  }
}

int pf_error_set(struct pf_error *reterr, int code, const char *fmt, ...) {
  if (!reterr) return code;
  va_list args;
  va_start(args, fmt);
  vsnprintf(reterr->text, sizeof(reterr->text), fmt, args);
  va_end(args);
  reterr->code = code;
  reterr->native = 0;
  return code;
}

void pf_assert_failed(const char *cond, const char *file, int line, const char *func) {
  fprintf(stderr, "level=error event=assertion_failed where=%s:%d function=%s condition=\"%s\"\n",
      file, line, func, cond);
  abort();
}

void pf_out_of_memory(void) {
  static const char line[] = "level=error event=out_of_memory\n";
  fwrite(line, 1, sizeof(line) - 1, stderr);
  _Exit(PF_EXIT_MEMORY);
}

static void *memory_checked(void *ptr) {
  if (!ptr) pf_out_of_memory();
  return ptr;
}

void *pf_alloc(size_t size) {
  return memory_checked(calloc(1, size ? size : 1));
}

void *pf_realloc(void *ptr, size_t size) {
  return memory_checked(realloc(ptr, size ? size : 1));
}

char *pf_strdup(const char *text) {
  return memory_checked(strdup(text));
}

char *pf_memdup(const void *data, size_t len) {
  char *copy = memory_checked(malloc(len + 1));
  if (len) memcpy(copy, data, len);
  copy[len] = '\0';
  return copy;
}

void pf_alloc_give_back(void) {
  /* Either of them alone would make glibc choose the other anew. */
  (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
  (void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
}
