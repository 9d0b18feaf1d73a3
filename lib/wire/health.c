#include "wire/health.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char *const status_names[] = {
    [HEALTH_OK] = "ok",
    [HEALTH_DEGRADED] = "degraded",
    [HEALTH_FAILING] = "failing",
};

void health_begin(struct health *h, struct pf_buf *buf, const char *role, int64_t uptime_ms) {
  *h = (struct health){.json = json_writer(buf)};
  json_begin_object(&h->json, NULL);
  json_put_text(&h->json, "role", role);
  json_put_int(&h->json, "pid", getpid());
  json_put_text(&h->json, "version", PF_VERSION);
  json_put_int(&h->json, "uptimeMs", uptime_ms);
}

void health_reason(
    struct health *h, enum health_status status, const char *code, const char *fmt, ...) {
  if (status > h->status) h->status = status;
  if (h->reason_count == HEALTH_REASONS_MAX) return;
  struct health_reason *reason = &h->reasons[h->reason_count++];
  reason->code = code;
  va_list args;
  va_start(args, fmt);
  vsnprintf(reason->text, sizeof(reason->text), fmt, args);
  va_end(args);
}

void health_check_loop(struct health *h, int64_t lag_max_ns, uint64_t invariant_failures) {
  json_put_ms(&h->json, "loopLagMsMax", (double)lag_max_ns / 1e6);
  if (lag_max_ns >= HEALTH_LAG_NS)
    health_reason(h, HEALTH_DEGRADED, "loop_lag", "the loop was %lld ms late",
        (long long)(lag_max_ns / 1000000));
  if (invariant_failures)
    health_reason(h, HEALTH_DEGRADED, "invariant_broken",
        "%llu invariants were found broken; please report it with the log",
        (unsigned long long)invariant_failures);
}

void health_end(struct health *h) {
  json_put_text(&h->json, "status", status_names[h->status]);
  json_begin_array(&h->json, "reasons");
  for (size_t i = 0; i < h->reason_count; i++) {
    json_begin_object(&h->json, NULL);
    json_put_text(&h->json, "code", h->reasons[i].code);
    json_put_text(&h->json, "text", h->reasons[i].text);
    json_end_object(&h->json);
  }
  json_end_array(&h->json);
  json_end_object(&h->json);
}
