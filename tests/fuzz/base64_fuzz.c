/* Any bytes: as text, what decodes encodes to the same text (there is one spelling only); as bytes,
 * what is encoded decodes to the same bytes. */
#include <stdint.h>

#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct pf_slice encode(struct pf_buf *buf, struct pf_slice bytes) {
  struct json_writer w = json_writer(buf);
  json_put_base64(&w, NULL, bytes);
  PF_ASSERT(!buf->err && buf->len == json_base64_size(bytes));
  return pf_slice(buf->data + 1, buf->len - 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct pf_slice input = pf_slice(data, len);
  struct pf_buf bytes, text;
  pf_buf_init(&bytes, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  if (base64_decode(&bytes, input) == PF_OK)
    PF_ASSERT(pf_slice_eq(encode(&text, pf_buf_view(&bytes)), input));
  pf_buf_clear(&bytes);
  pf_buf_clear(&text);
  int err = base64_decode(&bytes, encode(&text, input));
  PF_ASSERT(err == PF_OK && pf_slice_eq(pf_buf_view(&bytes), input));
  pf_buf_done(&bytes);
  pf_buf_done(&text);
  return 0;
}
