/* Any bytes: the parser stays inside them, says the same for the same head, and what it takes it
 * can explain. The body decoder gives the same body however the bytes are cut. */
#include <stdlib.h>
#include <string.h>

#include "http_parse.h"
#include "routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool inside(struct pf_slice slice, const char *text, size_t len) {
  return slice.len == 0 || (slice.data >= text && slice.data + slice.len <= text + len);
}

/* Decodes in pieces of `step`. Returns the bytes taken, or -400. */
static int decode(
    const struct http_request *req, const char *text, size_t len, size_t step, struct pf_buf *out) {
  struct http_body body;
  size_t at = 0;
  http_body_init(&body, req);
  while (at < len && body.state != HTTP_BODY_DONE) {
    struct pf_slice piece;
    int taken = http_body_feed(&body, text + at, len - at < step ? len - at : step, &piece);
    if (taken < 0) return taken;
    PF_ASSERT(taken > 0 && inside(piece, text + at, len - at));
    pf_buf_slice(out, piece);
    at += (size_t)taken;
  }
  PF_ASSERT(body.total == out->len);
  return (int)at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct http_request req;
  char *text = pf_memdup(data, len);
  int head = http_parse_head(&req, text, len, 2048);
  PF_ASSERT(head <= (int)len && head > -600 && (head >= 0 || head <= -400));
  if (head > 0) {
    PF_ASSERT(inside(req.path, text, len) && inside(req.query, text, len));
    for (unsigned i = 0; i < req.header_count; i++)
      PF_ASSERT(inside(req.headers[i].name, text, len) && inside(req.headers[i].value, text, len));
    struct lab lab;
    struct pf_buf out, whole, bytes;
    pf_buf_init(&out, 1 << 20);
    pf_buf_init(&whole, 1 << 20);
    pf_buf_init(&bytes, 1 << 20);
    lab_init(&lab, NULL, 100, 1 << 20);
    int taken = decode(&req, text + head, len - (size_t)head, len, &whole);
    PF_ASSERT(taken == decode(&req, text + head, len - (size_t)head, 1, &bytes));
    PF_ASSERT(pf_slice_eq(pf_buf_view(&whole), pf_buf_view(&bytes)));
    struct answer answer = routes_answer(&lab, &req, pf_buf_view(&whole), &out);
    PF_ASSERT(!out.err && (out.len > 0 || answer.end != ANSWER_KEEP));
    lab_done(&lab);
    pf_buf_done(&out);
    pf_buf_done(&whole);
    pf_buf_done(&bytes);
  }
  free(text);
  return 0;
}
