/* WebSocket frames (RFC 6455, section 5) as a client writes and reads them. No I/O.
 *
 * Threads    pure
 * Ownership  A decoded payload points into the bytes given.
 * Ordering   none
 * Limits     the caller's maximum for one frame; control frames at most 125 bytes */
#ifndef WS_FRAME_H
#define WS_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum ws_opcode {
  WS_CONTINUATION = 0,
  WS_TEXT = 1,
  WS_BINARY = 2,
  WS_CLOSE = 8,
  WS_PING = 9,
  WS_PONG = 10,
};

struct ws_frame {
  enum ws_opcode opcode;
  bool final;
  struct pf_slice payload;
};

/* Appends one whole frame, masked with mask. */
void ws_frame_encode(
    struct pf_buf *buf, enum ws_opcode opcode, struct pf_slice payload, uint32_t mask);

/* Reads the frame at the start of bytes. Returns its length with header; 0 if it is not complete
 * yet; or a negative error: PF_EINVAL for what a server must not send (masked, reserved bits or
 * opcodes, a fragmented or long control frame), PF_ELIMIT above payload_max. */
PF_MUST_CHECK int64_t ws_frame_decode(
    struct ws_frame *ret_frame, struct pf_slice bytes, size_t payload_max);

#endif
