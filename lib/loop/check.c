#include "loop/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "base/err.h"

void pf_loop_check(int status) {
  if (status == UV_ENOMEM) pf_out_of_memory();
  if (status == UV_EMFILE || status == UV_ENFILE) {
    fprintf(stderr, "level=error event=no_descriptors reason=\"%s\"\n", uv_strerror(status));
    exit(PF_EXIT_START);
  }
  PF_ASSERT(status >= 0);
}
