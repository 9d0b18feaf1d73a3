/* Any bytes: records lie one behind the other inside them, and written again they are the same. */
#include <stdint.h>
#include <string.h>

#include "wire/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct batch_reader reader = batch_reader(pf_slice(data, len));
  struct pf_slice head, body;
  struct pf_buf again;
  pf_buf_init(&again, PF_BUF_MAX_DEFAULT);
  int err;
  while ((err = batch_next(&reader, &head, &body)) == PF_OK) {
    PF_ASSERT(head.data == (const char *)data + again.len + BATCH_RECORD_OVERHEAD);
    batch_append(&again, head, body);
    PF_ASSERT(!again.err && again.len + reader.rest.len == len);
  }
  PF_ASSERT(err == PF_ENOTFOUND || err == PF_EINVAL || err == PF_ELIMIT);
  PF_ASSERT((err == PF_ENOTFOUND) == (again.len == len));
  PF_ASSERT(again.len == 0 || memcmp(again.data, data, again.len) == 0);
  pf_buf_done(&again);
  return 0;
}
