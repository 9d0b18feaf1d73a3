/* An answer as a plan: bytes prepared by the route, then a source that produces the rest, with the
 * pauses between them and the way the connection ends. Routes write the plan, the connection
 * follows it; that is how one connection code serves all kinds of misbehaviour.
 *
 *   delay ── held bytes ── unit ── pace ── unit ── … ── end pause ── end
 *
 * Threads    pure; the caller does the waiting and the sending
 * Ownership  none
 * Ordering   none
 * Limits     ANSWER_PIECE_BYTES of one source per step */
#ifndef PF_TEST_ENDPOINTS_ANSWER_H
#define PF_TEST_ENDPOINTS_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define ANSWER_PIECE_BYTES ((size_t)64 * 1024)

/* What follows the held bytes. Its unit is a byte, a line or an event. */
enum answer_source {
  ANSWER_NOTHING,
  ANSWER_PATTERN, /* bytes: readable text in lines of 64 */
  ANSWER_LINES,   /* {"line":0} */
  ANSWER_EVENTS,  /* server-sent events */
  ANSWER_ZIPPED,  /* the bytes of a gzip file whose content is 262 MiB of zeros */
};

enum answer_end {
  ANSWER_KEEP,  /* the connection serves the next request */
  ANSWER_CLOSE, /* FIN */
  ANSWER_RESET, /* RST */
  ANSWER_HANG,  /* nothing more, for as long as the client stays */
};

struct answer {
  enum answer_source source;
  enum answer_end end;
  bool chunked;       /* each unit is a chunk, and an empty chunk ends the source */
  bool trickle;       /* held bytes one by one, with the pace between them */
  int64_t wait_ms;    /* before the next step; the caller sets it back to 0 when it has waited */
  int64_t pace_ms;    /* 0 = as fast as the client reads */
  int64_t pause_ms;   /* before the end */
  uint64_t at, count; /* units produced, units in all */
};

/* Bytes of the ANSWER_ZIPPED source, and what they decode to. */
#define ANSWER_ZIPPED_BYTES 266209
#define ANSWER_ZIPPED_DECODED 274694149

/* True if there is nothing to wait for or to produce: the held bytes are all of it. */
bool answer_is_plain(const struct answer *answer);
/* True in the middle of a source that knows no pauses. */
bool answer_is_flowing(const struct answer *answer);
/* One step: moves what is to leave next from held, or from the source, to out, and sets wait_ms.
 * False if nothing is left: then the end applies. */
bool answer_step(struct answer *answer, struct pf_buf *held, struct pf_buf *out);

#endif
