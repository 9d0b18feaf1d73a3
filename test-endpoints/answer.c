#include "answer.h"

#include <stdio.h>

/* A deflate block with its own code: a match of 258 zeros takes two 0 bits, so that each 0x00 byte
 * of the file stands for 1,032 zeros. The head ends in the first matches, the tail is the end of
 * the block, the CRC and the length (RFC 1951, RFC 1952). */
static const unsigned char zipped_head[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xff, 0xed, 0xe0, 0x81, 0x00, 0x00, 0x00, 0x00, 0x80, 0x20, 0xec, 0x4f, 0xbd, 0x48, 0x05};
static const unsigned char zipped_tail[] = {0x03, 0x66, 0x83, 0x2a, 0x7d, 0x05, 0x80, 0x5f, 0x10};

static char pattern_byte(uint64_t at) {
  return "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n"[at % 64];
}

static char zipped_byte(uint64_t at) {
  uint64_t tail = ANSWER_ZIPPED_BYTES - sizeof(zipped_tail);
  if (at < sizeof(zipped_head)) return (char)zipped_head[at];
  return at < tail ? 0 : (char)zipped_tail[at - tail];
}

bool answer_is_plain(const struct answer *answer) {
  return answer->source == ANSWER_NOTHING && answer->end == ANSWER_KEEP && answer->wait_ms == 0 &&
         answer->pause_ms == 0 && !answer->trickle;
}

bool answer_is_flowing(const struct answer *answer) {
  return answer->pace_ms == 0 && answer->at > 0 && answer->at < answer->count;
}

static void step_bytes(struct answer *a, struct pf_buf *out) {
  uint64_t left = a->count - a->at;
  size_t piece = a->pace_ms ? 1 : left < ANSWER_PIECE_BYTES ? (size_t)left : ANSWER_PIECE_BYTES;
  char *to = pf_buf_reserve(out, piece);
  if (!to) return; /* out->err tells the caller */
  for (size_t i = 0; i < piece; i++, a->at++)
    to[i] = a->source == ANSWER_PATTERN ? pattern_byte(a->at) : zipped_byte(a->at);
  out->len += piece;
}

static void append_unit(const struct answer *a, struct pf_buf *out) {
  char unit[96];
  unsigned long long at = a->at;
  int len = a->source == ANSWER_LINES
                ? snprintf(unit, sizeof(unit), "{\"line\":%llu}\n", at)
                : snprintf(unit, sizeof(unit), "id: %llu\ndata: {\"event\":%llu}\n\n", at, at);
  if (a->chunked) pf_buf_printf(out, "%x\r\n", (unsigned)len);
  pf_buf_append(out, unit, (size_t)len);
  if (a->chunked) pf_buf_str(out, "\r\n");
}

static void step_units(struct answer *a, struct pf_buf *out) {
  size_t start = out->len;
  do {
    append_unit(a, out);
    a->at++;
  } while (
      a->pace_ms == 0 && a->at < a->count && out->len - start < ANSWER_PIECE_BYTES && !out->err);
}

bool answer_step(struct answer *answer, struct pf_buf *held, struct pf_buf *out) {
  if (held->len > 0) {
    size_t piece = answer->trickle ? 1 : held->len;
    pf_buf_append(out, held->data, piece);
    pf_buf_consume(held, piece);
    if (answer->trickle) answer->wait_ms = answer->pace_ms;
  } else if (answer->source != ANSWER_NOTHING && answer->at < answer->count) {
    if (answer->source == ANSWER_PATTERN || answer->source == ANSWER_ZIPPED)
      step_bytes(answer, out);
    else
      step_units(answer, out);
    answer->wait_ms = answer->at < answer->count ? answer->pace_ms : 0;
  } else if (answer->chunked) {
    pf_buf_str(out, "0\r\n\r\n");
    answer->chunked = false;
  } else if (answer->pause_ms) {
    answer->wait_ms = answer->pause_ms;
    answer->pause_ms = 0;
  } else {
    return false;
  }
  return true;
}
