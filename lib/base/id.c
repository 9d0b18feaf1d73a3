#include "base/id.h"

#include "base/map.h"

static const char hex_digits[] = "0123456789abcdef";

void pf_hex_print(char *text, const void *data, size_t len) {
  const unsigned char *bytes = data;
  for (size_t i = 0; i < len; i++) {
    text[2 * i] = hex_digits[bytes[i] >> 4];
    text[2 * i + 1] = hex_digits[bytes[i] & 15];
  }
  text[2 * len] = '\0';
}

int pf_hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

int pf_hex_parse(void *data, size_t len, const char *text, size_t text_len) {
  if (text_len != 2 * len) return PF_EINVAL;
  unsigned char *bytes = data;
  for (size_t i = 0; i < len; i++) {
    int high = pf_hex_value(text[2 * i]), low = pf_hex_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return PF_EINVAL;
    bytes[i] = (unsigned char)(high << 4 | low);
  }
  return PF_OK;
}

void pf_u64_print(char text[PF_U64_HEX + 1], uint64_t value) {
  for (int i = PF_U64_HEX - 1; i >= 0; i--, value >>= 4)
    text[i] = hex_digits[value & 15];
  text[PF_U64_HEX] = '\0';
}

int pf_u64_parse(uint64_t *ret_value, const char *text, size_t len) {
  if (len != PF_U64_HEX) return PF_EINVAL;
  uint64_t value = 0;
  for (size_t i = 0; i < len; i++) {
    int digit = pf_hex_value(text[i]);
    if (digit < 0) return PF_EINVAL;
    value = value << 4 | (uint64_t)digit;
  }
  *ret_value = value;
  return PF_OK;
}

static int pair_parse(uint64_t *ret_high, uint64_t *ret_low, const char *text, size_t len) {
  uint64_t high, low;
  if (len != PF_ID_HEX || pf_u64_parse(&high, text, PF_U64_HEX) ||
      pf_u64_parse(&low, text + PF_U64_HEX, PF_U64_HEX))
    return PF_EINVAL;
  *ret_high = high;
  *ret_low = low;
  return PF_OK;
}

void pf_job_id_print(char text[PF_ID_TEXT], struct pf_job_id id) {
  pf_u64_print(text, id.origin);
  pf_u64_print(text + PF_U64_HEX, id.local);
}

int pf_job_id_parse(struct pf_job_id *ret_id, const char *text, size_t len) {
  return pair_parse(&ret_id->origin, &ret_id->local, text, len);
}

void pf_fence_print(char text[PF_ID_TEXT], struct pf_fence fence) {
  pf_u64_print(text, fence.epoch);
  pf_u64_print(text + PF_U64_HEX, fence.counter);
}

int pf_fence_parse(struct pf_fence *ret_fence, const char *text, size_t len) {
  return pair_parse(&ret_fence->epoch, &ret_fence->counter, text, len);
}

uint64_t pf_job_id_hash(struct pf_job_id id) {
  return pf_hash_u64(id.local ^ pf_hash_u64(id.origin));
}
