/* A recorded load: what was sent and when, one JSON object a line:
 *
 *   {"at":12.5,"method":"POST","url":"http://127.0.0.1:8790/echo","body":"{}"}
 *
 * `at` is in ms since the beginning and never less than in the line before; method is GET and body
 * empty if absent; members of other names are passed over. Requests that are the same are kept
 * once.
 *
 * Threads    main thread
 * Ownership  struct record owns all it holds until record_done.
 * Ordering   init, then adds, then reads.
 * Limits     RECORD_SENDS_MAX lines, RECORD_LINE_MAX bytes each, RECORD_TEXT_MAX bytes of distinct
 *            methods, URLs and bodies, BENCH_SECONDS_MAX of time. */
#ifndef MEASURE_RECORD_H
#define MEASURE_RECORD_H

#include <stdio.h>

#include "base/arena.h"
#include "base/map.h"
#include "clients/measure/bench_schedule.h"

#define RECORD_SENDS_MAX ((size_t)1000000)
#define RECORD_LINE_MAX ((size_t)1 << 20)
#define RECORD_TEXT_MAX ((size_t)64 << 20)
#define RECORD_METHOD_MAX 16
#define RECORD_SPEED_MIN 0.001
#define RECORD_SPEED_MAX 1000.0

struct load_request {
  struct pf_slice method, url, body; /* method and url are also NUL-terminated */
  int64_t line;                      /* the first that has it */
};

struct record {
  struct pf_arena arena;
  struct pf_map by_content;
  uint64_t hash_key[2];
  size_t text_bytes;
  struct load_request *requests;
  size_t request_count, request_room;
  int64_t *at_ns;  /* of each send */
  uint32_t *which; /* its request */
  size_t send_count, send_room;
};

void record_init(struct record *record);
void record_done(struct record *record);

/* The index of a request that is added if it is new. PF_ELIMIT: RECORD_TEXT_MAX. */
PF_MUST_CHECK int record_request(
    struct record *record, const struct load_request *request, uint32_t *ret_index);
/* PF_ELIMIT: RECORD_SENDS_MAX. */
PF_MUST_CHECK int record_send(struct record *record, uint32_t request, int64_t at_ns);

/* Adds line number `line`. Errors: PF_EINVAL, PF_ELIMIT, without the number in their text. */
PF_MUST_CHECK int record_add_line(
    struct record *record, struct pf_slice text, int64_t line, struct pf_error *reterr);
/* All lines of a file, at least one. Errors: PF_EINVAL, PF_ELIMIT, PF_EIO with a text that names
 * file and line. */
PF_MUST_CHECK int record_read(struct record *record, const char *path, struct pf_error *reterr);
/* To the end of out. Errors: PF_EIO. */
PF_MUST_CHECK int record_write(const struct record *record, FILE *out);

/* Sends all of it `speed` times as fast. Errors: PF_EINVAL: the slowed load lasts too long. */
PF_MUST_CHECK int record_speed(struct record *record, double speed, struct pf_error *reterr);

#endif
