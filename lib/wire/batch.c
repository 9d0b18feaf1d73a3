#include "wire/batch.h"

static void put_u32be(char *to, size_t value) {
  for (int i = 3; i >= 0; i--, value >>= 8)
    to[i] = (char)(value & 0xff);
}

static size_t get_u32be(const char *from) {
  size_t value = 0;
  for (int i = 0; i < 4; i++)
    value = value << 8 | (unsigned char)from[i];
  return value;
}

size_t batch_begin(struct pf_buf *buf) {
  size_t record = buf->len;
  static const char lengths[BATCH_RECORD_OVERHEAD]; /* filled in by batch_end */
  pf_buf_append(buf, lengths, sizeof(lengths));
  return record;
}

void batch_end(struct pf_buf *buf, size_t record, struct pf_slice body) {
  if (buf->err) return;
  PF_ASSERT(buf->len >= record + BATCH_RECORD_OVERHEAD);
  size_t head_len = buf->len - record - BATCH_RECORD_OVERHEAD;
  if (head_len > BATCH_HEAD_MAX || body.len > BATCH_BODY_MAX) {
    buf->err = PF_ELIMIT;
    return;
  }
  put_u32be(buf->data + record, head_len);
  put_u32be(buf->data + record + 4, body.len);
  pf_buf_slice(buf, body);
}

void batch_append(struct pf_buf *buf, struct pf_slice head, struct pf_slice body) {
  size_t record = batch_begin(buf);
  pf_buf_slice(buf, head);
  batch_end(buf, record, body);
}

int batch_next(struct batch_reader *reader, struct pf_slice *ret_head, struct pf_slice *ret_body) {
  struct pf_slice rest = reader->rest;
  if (rest.len == 0) return PF_ENOTFOUND;
  if (reader->records == BATCH_RECORDS_MAX) return PF_ELIMIT;
  if (rest.len < BATCH_RECORD_OVERHEAD) return PF_EINVAL;
  size_t head_len = get_u32be(rest.data), body_len = get_u32be(rest.data + 4);
  if (head_len > BATCH_HEAD_MAX || body_len > BATCH_BODY_MAX) return PF_ELIMIT;
  if (rest.len - BATCH_RECORD_OVERHEAD < head_len + body_len) return PF_EINVAL;
  const char *head = rest.data + BATCH_RECORD_OVERHEAD;
  *ret_head = pf_slice(head, head_len);
  *ret_body = pf_slice(head + head_len, body_len);
  size_t used = BATCH_RECORD_OVERHEAD + head_len + body_len;
  reader->rest = pf_slice(rest.data + used, rest.len - used);
  reader->records++;
  return PF_OK;
}
