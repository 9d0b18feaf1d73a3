#include "clients/ws/ws_frame.h"

#include <string.h>

#define CONTROL_MAX 125
#define HEADER_MAX 14

static size_t header_encode(
    unsigned char header[HEADER_MAX], enum ws_opcode opcode, size_t len, uint32_t mask) {
  size_t at = 0;
  header[at++] = (unsigned char)(0x80 | opcode);
  if (len <= CONTROL_MAX) {
    header[at++] = (unsigned char)(0x80 | len);
  } else {
    int bytes = len <= UINT16_MAX ? 2 : 8;
    header[at++] = bytes == 2 ? 0x80 | 126 : 0x80 | 127;
    for (int i = bytes - 1; i >= 0; i--)
      header[at++] = (unsigned char)((uint64_t)len >> (8 * i));
  }
  memcpy(header + at, &mask, sizeof(mask));
  return at + sizeof(mask);
}

void ws_frame_encode(
    struct pf_buf *buf, enum ws_opcode opcode, struct pf_slice payload, uint32_t mask) {
  unsigned char header[HEADER_MAX];
  size_t header_len = header_encode(header, opcode, payload.len, mask);
  char *to = pf_buf_reserve(buf, header_len + payload.len);
  if (!to) return;
  memcpy(to, header, header_len);
  to += header_len;
  /* Eight bytes at a time: the mask repeats every four. */
  uint64_t mask2 = (uint64_t)mask << 32 | mask;
  size_t i = 0;
  for (; i + 8 <= payload.len; i += 8) {
    uint64_t word;
    memcpy(&word, payload.data + i, 8);
    word ^= mask2;
    memcpy(to + i, &word, 8);
  }
  const char *mask_bytes = (const char *)&mask;
  for (; i < payload.len; i++)
    to[i] = (char)(payload.data[i] ^ mask_bytes[i & 3]);
  buf->len += header_len + payload.len;
}

int64_t ws_frame_decode(struct ws_frame *ret_frame, struct pf_slice bytes, size_t payload_max) {
  if (bytes.len < 2) return 0;
  const unsigned char *p = (const unsigned char *)bytes.data;
  unsigned opcode = p[0] & 0x0f;
  bool final = p[0] & 0x80, control = opcode >= WS_CLOSE;
  if (p[0] & 0x70 || p[1] & 0x80) return PF_EINVAL;
  if (opcode > WS_PONG || (opcode > WS_BINARY && opcode < WS_CLOSE)) return PF_EINVAL;
  uint64_t len = p[1];
  if (control && (!final || len > CONTROL_MAX)) return PF_EINVAL;
  size_t header_len = 2;
  if (len > CONTROL_MAX) {
    size_t len_bytes = len == 126 ? 2 : 8;
    header_len += len_bytes;
    if (bytes.len < header_len) return 0;
    len = 0;
    for (size_t i = 0; i < len_bytes; i++)
      len = len << 8 | p[2 + i];
  }
  if (len > payload_max) return PF_ELIMIT;
  if (bytes.len - header_len < len) return 0;
  *ret_frame = (struct ws_frame){.opcode = (enum ws_opcode)opcode,
      .final = final,
      .payload = pf_slice(bytes.data + header_len, (size_t)len)};
  return (int64_t)(header_len + len);
}
