/* The report of GET /health/detailed, the same for every process:
 *
 *   {"status":"degraded","role":"origin","pid":…,"version":…,"uptimeMs":…,
 *    "reasons":[{"code":"orchestrator_unreachable","text":…}], …the process's own members}
 *
 * Threads    pure
 * Ownership  The caller owns the buffer; role is kept until health_end.
 * Ordering   health_begin, then members through `json` and reasons in any order, then health_end.
 * Limits     HEALTH_REASONS_MAX reasons, HEALTH_TEXT_MAX bytes of each text. */
#ifndef PF_WIRE_HEALTH_H
#define PF_WIRE_HEALTH_H

#include "wire/json.h"

#define HEALTH_REASONS_MAX 16
#define HEALTH_TEXT_MAX 200
#define HEALTH_LAG_NS INT64_C(1000000000) /* a loop that was later than this is worth a reason */

enum health_status {
  HEALTH_OK,
  HEALTH_DEGRADED, /* it serves, but not everything, or not for long */
  HEALTH_FAILING,  /* it cannot do its work */
};

struct health_reason {
  const char *code; /* of docs/errors.md, or of the table in docs/protocol.md */
  char text[HEALTH_TEXT_MAX];
};

struct health {
  struct json_writer json;
  enum health_status status;
  struct health_reason reasons[HEALTH_REASONS_MAX];
  size_t reason_count;
};

void health_begin(struct health *health, struct pf_buf *buf, const char *role, int64_t uptime_ms);
/* The status is the worst of all reasons. */
void health_reason(struct health *health, enum health_status status, const char *code,
    const char *fmt, ...) PF_PRINTF(4, 5);
/* Reasons that every process may have. */
void health_check_loop(struct health *health, int64_t lag_max_ns, uint64_t invariant_failures);
void health_end(struct health *health);

#endif
