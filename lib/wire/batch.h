/* The body of every call between processes: records of
 *
 *   u32be head length | u32be body length | JSON head | raw body
 *
 * Record 0 is the head of the batch (its body is empty or, where a call says so, packed data); the
 * items follow. The answer has the same form: record 0, then one record per item, in order.
 *
 * Threads    pure
 * Ownership  Slices point into the bytes read.
 * Ordering   as written
 * Limits     BATCH_HEAD_MAX, BATCH_BODY_MAX per record, BATCH_RECORDS_MAX records. */
#ifndef PF_WIRE_BATCH_H
#define PF_WIRE_BATCH_H

#include "base/buf.h"
#include "base/err.h"

#define BATCH_HEAD_MAX ((size_t)256 << 10)
#define BATCH_BODY_MAX ((size_t)17 << 20) /* the largest result or request body, and some */
#define BATCH_RECORDS_MAX 4096
#define BATCH_RECORD_OVERHEAD 8

/* Over a limit the buffer's sticky error becomes PF_ELIMIT. */
void batch_append(struct pf_buf *buf, struct pf_slice head, struct pf_slice body);
/* The same with the head written in place: record = batch_begin(buf), any encoder on buf, then
 * batch_end(buf, record, body). body must not lie in buf. */
size_t batch_begin(struct pf_buf *buf);
void batch_end(struct pf_buf *buf, size_t record, struct pf_slice body);

struct batch_reader {
  struct pf_slice rest;
  unsigned records; /* read so far */
};
static inline struct batch_reader batch_reader(struct pf_slice bytes) {
  return (struct batch_reader){.rest = bytes};
}
/* PF_OK; PF_ENOTFOUND at the clean end; PF_EINVAL on a torn record; PF_ELIMIT over a limit. */
PF_MUST_CHECK int batch_next(
    struct batch_reader *reader, struct pf_slice *ret_head, struct pf_slice *ret_body);

#endif
