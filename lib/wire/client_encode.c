#include <string.h>

#include "wire/client.h"
#include "wire/json.h"
#include "wire/parts.h"

const char *const client_timing_names[] = {"commit", "enqueue", "queue", "dispatch", "dns",
    "connect", "tls", "ttfb", "transfer", "callback", "continuation", "total", NULL};

enum { TIMINGS = sizeof(struct client_timings) / sizeof(double) };
_Static_assert(PF_COUNT(client_timing_names) == TIMINGS + 1, "one name for each member");

/* ---- pieces ---- */

static struct json_writer frame_begin(struct pf_buf *buf, const char *type) {
  struct json_writer w = json_writer(buf);
  json_begin_object(&w, NULL);
  json_put_text(&w, "type", type);
  return w;
}

/* What the client did not send is not echoed. */
static void put_id(struct json_writer *w, const char *name, struct pf_slice id) {
  if (id.data) json_put_string(w, name, id);
}

static void put_offset(struct json_writer *w, int64_t offset) {
  if (offset >= 0) json_put_int(w, "offset", offset);
}

static void put_timings(struct json_writer *w, const struct client_timings *timings) {
  double values[TIMINGS];
  memcpy(values, timings, sizeof(values));
  json_begin_object(w, "timings");
  for (size_t i = 0; i < TIMINGS; i++)
    if (values[i] >= 0) json_put_ms(w, client_timing_names[i], values[i]);
  json_end_object(w);
}

/* The last member of a frame that began at `start`: inline if the frame can carry it. */
static void put_body(struct json_writer *w, size_t start, const struct client_result *result) {
  bool text = utf8_is_text(result->body);
  const char *name = text ? "body" : "bodyBase64";
  size_t size = text ? json_string_size(result->body) : json_base64_size(result->body);
  size_t around = w->buf->len - start + strlen(name) + 5; /* comma, quotes, colon, closing brace */
  if (around <= WIRE_FRAME_MAX && size <= WIRE_FRAME_MAX - around) {
    if (text)
      json_put_string(w, name, result->body);
    else
      json_put_base64(w, name, result->body);
    return;
  }
  char url[sizeof("/v1/jobs//body") + PF_ID_HEX] = "/v1/jobs/";
  size_t len = strlen(url);
  pf_job_id_print(url + len, result->job);
  memcpy(url + len + PF_ID_HEX, "/body", sizeof("/body"));
  json_put_text(w, "bodyUrl", url);
}

/* ---- frames ---- */

void client_enqueued_encode(
    struct pf_buf *buf, struct pf_job_id job, struct pf_slice client_id, double enqueue_ms) {
  struct json_writer w = frame_begin(buf, "enqueued");
  json_put_job(&w, "reqId", job);
  put_id(&w, "clientId", client_id);
  json_put_ms(&w, "enqueueTime", enqueue_ms);
  json_end_object(&w);
}

void client_result_encode(struct pf_buf *buf, const struct client_result *result) {
  size_t start = buf->len;
  bool success = result->outcome == OUTCOME_OK;
  struct json_writer w = frame_begin(buf, result->late ? "late-result" : "result");
  json_put_job(&w, "reqId", result->job);
  put_id(&w, "clientId", result->client_id);
  json_put_bool(&w, "success", success);
  if (!success)
    json_put_string(&w, "error",
        result->error.len ? result->error : pf_slice_str(outcome_text(result->outcome)));
  if (success || result->status) json_put_int(&w, "status", result->status);
  if (success) json_put_int(&w, "responseLength", result->response_length);
  json_put_ms(&w, "duration", result->duration_ms);
  if (!success) {
    json_put_text(&w, "code", outcome_code(result->outcome));
    json_put_text(&w, "certainty", certainty_name(result->certainty));
    json_put_text(&w, "owner", owner_name(outcome_owner(result->outcome)));
    json_put_int(&w, "attempts", result->attempts);
  }
  put_offset(&w, result->offset);
  if (result->include & WIRE_INCLUDE_TIMINGS) put_timings(&w, &result->timings);
  if (result->include & WIRE_INCLUDE_LOGS)
    json_put_raw(&w, "logs", result->logs.len ? result->logs : pf_slice_str("[]"));
  if (result->include & WIRE_INCLUDE_HEADERS && (success || result->header_count))
    headers_encode(&w, "headers", result->headers, result->header_count);
  if (result->include & WIRE_INCLUDE_BODY && result->has_body) put_body(&w, start, result);
  json_end_object(&w);
}

void client_batch_started_encode(struct pf_buf *buf, struct pf_slice batch_id, int64_t count) {
  struct json_writer w = frame_begin(buf, "batch-started");
  put_id(&w, "batchId", batch_id);
  json_put_int(&w, "count", count);
  json_end_object(&w);
}

void client_batch_complete_encode(struct pf_buf *buf, struct pf_slice batch_id, int64_t count,
    int64_t success_count, int64_t offset) {
  struct json_writer w = frame_begin(buf, "batch-complete");
  put_id(&w, "batchId", batch_id);
  json_put_int(&w, "count", count);
  json_put_int(&w, "successCount", success_count);
  put_offset(&w, offset);
  json_end_object(&w);
}

void client_error_encode(struct pf_buf *buf, const char *code, struct pf_slice text,
    struct pf_slice client_id, struct pf_slice batch_id) {
  struct json_writer w = frame_begin(buf, "error");
  json_put_string(&w, "error", text);
  json_put_text(&w, "code", code);
  put_id(&w, "clientId", client_id);
  put_id(&w, "batchId", batch_id);
  json_end_object(&w);
}

void client_session_encode(
    struct pf_buf *buf, struct pf_slice session, int64_t offset, int64_t oldest, int64_t pending) {
  struct json_writer w = frame_begin(buf, "session");
  json_put_string(&w, "session", session);
  json_put_int(&w, "offset", offset);
  json_put_int(&w, "oldest", oldest);
  json_put_int(&w, "pending", pending);
  json_end_object(&w);
}

void client_gap_encode(struct pf_buf *buf, int64_t from, int64_t to) {
  struct json_writer w = frame_begin(buf, "gap");
  json_put_int(&w, "from", from);
  json_put_int(&w, "to", to);
  json_end_object(&w);
}

void client_pong_encode(struct pf_buf *buf, struct pf_slice ping_id) {
  struct json_writer w = frame_begin(buf, "pong");
  if (ping_id.len) json_put_raw(&w, "id", ping_id);
  json_end_object(&w);
}

void client_waiting_encode(struct pf_buf *buf, struct pf_job_id job, const char *reason) {
  struct json_writer w = frame_begin(buf, "waiting");
  json_put_job(&w, "reqId", job);
  json_put_text(&w, "reason", reason);
  json_end_object(&w);
}
