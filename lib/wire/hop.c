#include "wire/hop.h"

#include <string.h>

#include "wire/fields.h"
#include "wire/parts.h"

/* ---- packed: job and fence as 32 bytes ---- */

static void put_u64be(char *to, uint64_t value) {
  for (int i = 7; i >= 0; i--, value >>= 8)
    to[i] = (char)(value & 0xff);
}

static uint64_t get_u64be(const char *from) {
  uint64_t value = 0;
  for (int i = 0; i < 8; i++)
    value = value << 8 | (unsigned char)from[i];
  return value;
}

void hop_held_append(struct pf_buf *buf, const struct hop_held *held) {
  char *to = pf_buf_reserve(buf, HOP_HELD_BYTES);
  if (!to) return;
  put_u64be(to, held->job.origin);
  put_u64be(to + 8, held->job.local);
  put_u64be(to + 16, held->fence.epoch);
  put_u64be(to + 24, held->fence.counter);
  buf->len += HOP_HELD_BYTES;
}

bool hop_held_read(struct pf_slice packed, size_t index, struct hop_held *ret_held) {
  if (index >= packed.len / HOP_HELD_BYTES) return false;
  const char *at = packed.data + index * HOP_HELD_BYTES;
  *ret_held = (struct hop_held){
      .job = {get_u64be(at), get_u64be(at + 8)},
      .fence = {get_u64be(at + 16), get_u64be(at + 24)},
  };
  return true;
}

/* ---- rows that are more than one field ---- */

static void job_statuses_encode(struct json_writer *w, const char *name, const void *base) {
  statuses_encode(w, name, &((const struct hop_job *)base)->retry);
}

static int job_statuses_scan(struct json_scan *s, void *base, struct pf_arena *arena) {
  (void)arena;
  return statuses_scan(s, &((struct hop_job *)base)->retry);
}

static void execute_statuses_encode(struct json_writer *w, const char *name, const void *base) {
  statuses_encode(w, name, &((const struct hop_execute *)base)->retry);
}

static int execute_statuses_scan(struct json_scan *s, void *base, struct pf_arena *arena) {
  (void)arena;
  return statuses_scan(s, &((struct hop_execute *)base)->retry);
}

static void result_headers_encode(struct json_writer *w, const char *name, const void *base) {
  const struct hop_result *result = base;
  if (result->header_count) headers_encode(w, name, result->headers, result->header_count);
}

static int result_headers_scan(struct json_scan *s, void *base, struct pf_arena *arena) {
  struct hop_result *result = base;
  return headers_scan(s, &result->headers, &result->header_count, HOP_HEADERS_MAX, arena);
}

/* "origins": {"<origin id>": {"epoch":"…","url":"…"}, …} */
FIELDS(origin_fields, FIELD("epoch", FIELD_HEX64, struct hop_origin, epoch),
    FIELD("url", FIELD_CHARS, struct hop_origin, url));

static void origins_encode(struct json_writer *w, const char *name, const void *base) {
  const struct hop_execute_head *head = base;
  json_begin_object(w, name);
  for (size_t i = 0; i < head->origin_count; i++) {
    const struct hop_origin *origin = &head->origins[i];
    char id[PF_U64_HEX + 1];
    pf_u64_print(id, origin->origin);
    json_begin_object(w, id);
    json_put_hex64(w, "epoch", origin->epoch);
    json_put_text(w, "url", origin->url);
    json_end_object(w);
  }
  json_end_object(w);
}

static bool origin_is_new(const struct hop_execute_head *head, uint64_t origin) {
  for (size_t i = 0; i < head->origin_count; i++)
    if (head->origins[i].origin == origin) return false;
  return true;
}

static int origins_scan(struct json_scan *s, void *base, struct pf_arena *arena) {
  struct hop_execute_head *head = base;
  size_t cap = 0;
  struct scan_text name;
  int err = scan_object(s);
  while (!err && (err = scan_member(s, &name)) == PF_OK) {
    uint64_t id;
    if (pf_u64_parse(&id, name.raw.data, name.raw.len) || !origin_is_new(head, id))
      return scan_fail(s, PF_EINVAL, "each origin is named once, by 16 hex digits");
    if (head->origin_count == HOP_ORIGINS_MAX)
      return scan_fail(s, PF_ELIMIT, "more origins than allowed");
    if (head->origin_count == cap) {
      cap = cap ? 2 * cap : 4;
      struct hop_origin *grown = pf_arena_alloc(arena, cap * sizeof(*grown));
      if (head->origin_count) memcpy(grown, head->origins, head->origin_count * sizeof(*grown));
      head->origins = grown;
    }
    struct hop_origin *origin = &head->origins[head->origin_count++];
    origin->origin = id;
    uint32_t seen;
    err = fields_scan(&origin_fields, origin, s, arena, &seen);
    if (!err) err = fields_require(&origin_fields, seen, s);
  }
  return err == PF_ENOTFOUND ? PF_OK : err;
}

/* ---- the tables ---- */

#define RANGE(low, high) .min = (low), .max = (high)
#define NAMES(list) .names = (list)

FIELDS(jobs_head_fields, FIELD("origin", FIELD_HEX64, struct hop_jobs_head, origin),
    FIELD("originEpoch", FIELD_HEX64, struct hop_jobs_head, origin_epoch),
    FIELD("url", FIELD_CHARS, struct hop_jobs_head, url),
    FIELD("low", FIELD_HEX64, struct hop_jobs_head, low));

FIELDS(job_fields, FIELD("job", FIELD_JOB, struct hop_job, job),
    FIELD("end", FIELD_BOOL, struct hop_job, end, FIELD_OPTIONAL),
    FIELD("capability", FIELD_BYTES, struct hop_job, capability),
    FIELD("host", FIELD_CHARS, struct hop_job, host),
    FIELD("repeatable", FIELD_BOOL, struct hop_job, repeatable),
    FIELD("attempts", FIELD_INT, struct hop_job, retry.attempts, RANGE(1, WIRE_ATTEMPTS_MAX)),
    FIELD_OWN("statuses", job_statuses_encode, job_statuses_scan, FIELD_OPTIONAL),
    FIELD("deadlineMs", FIELD_INT, struct hop_job, deadline_ms, RANGE(0, WIRE_DEADLINE_MS_MAX)),
    FIELD("queueMs", FIELD_INT, struct hop_job, queue_ms, RANGE(0, WIRE_DEADLINE_MS_MAX)),
    FIELD("attemptMs", FIELD_INT, struct hop_job, attempt_ms, RANGE(1, WIRE_ATTEMPT_MS_MAX)),
    FIELD("firstEpoch", FIELD_HEX64, struct hop_job, first_epoch, FIELD_OPTIONAL));

/* An item that ends a job is only the first two. */
static const struct fields job_end_fields = {job_fields_rows, 2};

static const char *const job_answers[] = {
    [HOP_JOB_QUEUED] = "queued",
    [HOP_JOB_KNOWN] = "known",
    [HOP_JOB_DONE] = "done",
    [HOP_JOB_LOST] = "lost",
    [HOP_JOB_FULL] = "full",
    [HOP_JOB_REFUSED] = "refused",
    NULL,
};
FIELDS(job_reply_fields,
    FIELD("answer", FIELD_CHOICE, struct hop_job_reply, answer, NAMES(job_answers)),
    FIELD("noExecutor", FIELD_BOOL, struct hop_job_reply, no_executor, FIELD_OPTIONAL));

FIELDS(jobs_reply_head_fields, FIELD("epoch", FIELD_HEX64, struct hop_jobs_reply_head, epoch));

FIELDS(execute_head_fields, FIELD("queueEpoch", FIELD_HEX64, struct hop_execute_head, queue_epoch),
    FIELD("incarnation", FIELD_HEX64, struct hop_execute_head, incarnation),
    FIELD_OWN("origins", origins_encode, origins_scan));

FIELDS(execute_timers,
    FIELD("attemptMs", FIELD_INT, struct hop_execute, attempt_ms, RANGE(0, WIRE_ATTEMPT_MS_MAX)),
    FIELD("deadlineMs", FIELD_INT, struct hop_execute, deadline_ms, RANGE(0, WIRE_DEADLINE_MS_MAX)),
    FIELD("queueMs", FIELD_MS, struct hop_execute, queue_ms, FIELD_OPTIONAL));

FIELDS(execute_fields, FIELD("job", FIELD_JOB, struct hop_execute, job),
    FIELD("fence", FIELD_FENCE, struct hop_execute, fence),
    FIELD("attempt", FIELD_INT, struct hop_execute, attempt, RANGE(1, HOP_ATTEMPT_MAX)),
    FIELD("last", FIELD_BOOL, struct hop_execute, last, FIELD_OPTIONAL),
    FIELD("repeatable", FIELD_BOOL, struct hop_execute, repeatable, FIELD_OPTIONAL),
    FIELD("capability", FIELD_BYTES, struct hop_execute, capability),
    FIELD_OWN("statuses", execute_statuses_encode, execute_statuses_scan, FIELD_OPTIONAL),
    FIELD_NESTED("timers", execute_timers));

FIELDS(heartbeat_fields, FIELD("executor", FIELD_HEX64, struct hop_heartbeat, executor),
    FIELD("incarnation", FIELD_HEX64, struct hop_heartbeat, incarnation),
    FIELD("url", FIELD_CHARS, struct hop_heartbeat, url),
    FIELD("slots", FIELD_INT, struct hop_heartbeat, slots, RANGE(0, HOP_SLOTS_MAX)),
    FIELD("free", FIELD_INT, struct hop_heartbeat, free, RANGE(0, HOP_SLOTS_MAX)),
    FIELD("leaving", FIELD_BOOL, struct hop_heartbeat, leaving, FIELD_OPTIONAL));

FIELDS(held_fields, FIELD("job", FIELD_JOB, struct hop_held, job),
    FIELD("fence", FIELD_FENCE, struct hop_held, fence));

static const char *const complete_outcomes[] = {"delivered", "retry", "undelivered", NULL};
FIELDS(complete_fields, FIELD("job", FIELD_JOB, struct hop_complete, job),
    FIELD("fence", FIELD_FENCE, struct hop_complete, fence),
    FIELD("outcome", FIELD_CHOICE, struct hop_complete, how, NAMES(complete_outcomes)),
    FIELD("code", FIELD_CHOICE, struct hop_complete, outcome, NAMES(outcome_codes), FIELD_OPTIONAL),
    FIELD("certainty", FIELD_CHOICE, struct hop_complete, certainty, NAMES(certainty_names),
        FIELD_OPTIONAL),
    FIELD("retryAfterMs", FIELD_INT, struct hop_complete, retry_after_ms,
        RANGE(0, WIRE_DEADLINE_MS_MAX), FIELD_OPTIONAL),
    FIELD("detail", FIELD_CHARS, struct hop_complete, detail, FIELD_OPTIONAL));

FIELDS(results_head_fields, FIELD("to", FIELD_HEX64, struct hop_results_head, to));

FIELDS(results_reply_head_fields,
    FIELD("origin", FIELD_HEX64, struct hop_results_reply_head, origin),
    FIELD("originEpoch", FIELD_HEX64, struct hop_results_reply_head, origin_epoch));

#define TIME(json, member) FIELD(json, FIELD_MS, struct hop_result, timings.member, FIELD_OPTIONAL)
FIELDS(result_timings, TIME("queue", queue), TIME("dispatch", dispatch), TIME("dns", dns),
    TIME("connect", connect), TIME("tls", tls), TIME("ttfb", ttfb), TIME("transfer", transfer));

FIELDS(result_fields, FIELD("job", FIELD_JOB, struct hop_result, job),
    FIELD("fence", FIELD_FENCE, struct hop_result, fence),
    FIELD("attempt", FIELD_INT, struct hop_result, attempt, RANGE(0, HOP_ATTEMPT_MAX)),
    FIELD("capability", FIELD_BYTES, struct hop_result, capability),
    FIELD("code", FIELD_CHOICE, struct hop_result, outcome, NAMES(outcome_codes), FIELD_OPTIONAL),
    FIELD("certainty", FIELD_CHOICE, struct hop_result, certainty, NAMES(certainty_names)),
    FIELD("status", FIELD_INT, struct hop_result, status, RANGE(0, 999), FIELD_OPTIONAL),
    FIELD("error", FIELD_TEXT, struct hop_result, error, .max = HOP_ERROR_MAX, FIELD_OPTIONAL),
    FIELD("responseLength", FIELD_INT, struct hop_result, response_length, RANGE(0, HOP_LENGTH_MAX),
        FIELD_OPTIONAL),
    FIELD_OWN("headers", result_headers_encode, result_headers_scan, FIELD_OPTIONAL),
    FIELD("hasBody", FIELD_BOOL, struct hop_result, has_body, FIELD_OPTIONAL),
    FIELD("reused", FIELD_BOOL, struct hop_result, reused, FIELD_OPTIONAL),
    FIELD_NESTED("timings", result_timings, FIELD_OPTIONAL));

/* ---- encoders and decoders ---- */

static void encode(struct pf_buf *buf, const struct fields *fields, const void *base) {
  struct json_writer w = json_writer(buf);
  fields_encode(&w, fields, base);
}

void hop_jobs_head_encode(struct pf_buf *buf, const struct hop_jobs_head *head) {
  encode(buf, &jobs_head_fields, head);
}

int hop_jobs_head_decode(struct hop_jobs_head *ret, struct pf_slice json, struct pf_error *reterr) {
  *ret = (struct hop_jobs_head){0};
  return fields_decode(&jobs_head_fields, ret, json, NULL, reterr);
}

void hop_job_encode(struct pf_buf *buf, const struct hop_job *job) {
  encode(buf, job->end ? &job_end_fields : &job_fields, job);
}

int hop_job_decode(struct hop_job *ret, struct pf_slice head, struct pf_error *reterr) {
  *ret = (struct hop_job){0};
  struct json_scan scan = json_scan(head, reterr);
  uint32_t seen;
  int err = fields_scan(&job_fields, ret, &scan, NULL, &seen);
  if (!err) err = fields_require(ret->end ? &job_end_fields : &job_fields, seen, &scan);
  return err ? err : scan_end(&scan);
}

void hop_job_reply_encode(struct pf_buf *buf, const struct hop_job_reply *reply) {
  encode(buf, &job_reply_fields, reply);
}

int hop_job_reply_decode(struct hop_job_reply *ret, struct pf_slice head) {
  *ret = (struct hop_job_reply){0};
  return fields_decode(&job_reply_fields, ret, head, NULL, NULL);
}

void hop_jobs_reply_head_encode(struct pf_buf *buf, const struct hop_jobs_reply_head *head) {
  encode(buf, &jobs_reply_head_fields, head);
}

int hop_jobs_reply_head_decode(struct hop_jobs_reply_head *ret, struct pf_slice head) {
  *ret = (struct hop_jobs_reply_head){0};
  return fields_decode(&jobs_reply_head_fields, ret, head, NULL, NULL);
}

void hop_execute_head_encode(struct pf_buf *buf, const struct hop_execute_head *head) {
  encode(buf, &execute_head_fields, head);
}

int hop_execute_head_decode(struct hop_execute_head *ret, struct pf_slice json,
    struct pf_arena *arena, struct pf_error *reterr) {
  *ret = (struct hop_execute_head){0};
  return fields_decode(&execute_head_fields, ret, json, arena, reterr);
}

void hop_execute_encode(struct pf_buf *buf, const struct hop_execute *item) {
  encode(buf, &execute_fields, item);
}

int hop_execute_decode(struct hop_execute *ret, struct pf_slice head, struct pf_error *reterr) {
  *ret = (struct hop_execute){0};
  return fields_decode(&execute_fields, ret, head, NULL, reterr);
}

void hop_heartbeat_encode(struct pf_buf *buf, const struct hop_heartbeat *beat) {
  encode(buf, &heartbeat_fields, beat);
}

int hop_heartbeat_decode(struct hop_heartbeat *ret, struct pf_slice head, struct pf_error *reterr) {
  *ret = (struct hop_heartbeat){0};
  return fields_decode(&heartbeat_fields, ret, head, NULL, reterr);
}

void hop_held_encode(struct pf_buf *buf, const struct hop_held *held) {
  encode(buf, &held_fields, held);
}

int hop_held_decode(struct hop_held *ret, struct pf_slice head, struct pf_error *reterr) {
  *ret = (struct hop_held){0};
  return fields_decode(&held_fields, ret, head, NULL, reterr);
}

void hop_complete_encode(struct pf_buf *buf, const struct hop_complete *item) {
  encode(buf, &complete_fields, item);
}

int hop_complete_decode(struct hop_complete *ret, struct pf_slice head, struct pf_error *reterr) {
  *ret = (struct hop_complete){0};
  int err = fields_decode(&complete_fields, ret, head, NULL, reterr);
  if (!err && ret->how != HOP_COMPLETE_DELIVERED && ret->outcome == OUTCOME_OK)
    return pf_error_set(reterr, PF_EINVAL, "code: a failure needs its code");
  return err;
}

void hop_results_head_encode(struct pf_buf *buf, const struct hop_results_head *head) {
  encode(buf, &results_head_fields, head);
}

int hop_results_head_decode(struct hop_results_head *ret, struct pf_slice head) {
  *ret = (struct hop_results_head){0};
  return fields_decode(&results_head_fields, ret, head, NULL, NULL);
}

void hop_result_encode(struct pf_buf *buf, const struct hop_result *result) {
  encode(buf, &result_fields, result);
}

int hop_result_decode(
    struct hop_result *ret, struct pf_slice head, struct pf_arena *arena, struct pf_error *reterr) {
  *ret = (struct hop_result){0};
  int err = fields_decode(&result_fields, ret, head, arena, reterr);
  if (!err && ret->outcome == OUTCOME_OK && ret->status < 100)
    return pf_error_set(reterr, PF_EINVAL, "status or code: one of them is needed");
  return err;
}

void hop_results_reply_head_encode(struct pf_buf *buf, const struct hop_results_reply_head *head) {
  encode(buf, &results_reply_head_fields, head);
}

int hop_results_reply_head_decode(struct hop_results_reply_head *ret, struct pf_slice head) {
  *ret = (struct hop_results_reply_head){0};
  return fields_decode(&results_reply_head_fields, ret, head, NULL, NULL);
}

struct status_item {
  struct pf_job_id job;
};
FIELDS(status_fields, FIELD("job", FIELD_JOB, struct status_item, job));

void hop_status_encode(struct pf_buf *buf, struct pf_job_id job) {
  encode(buf, &status_fields, &(struct status_item){job});
}

int hop_status_decode(struct pf_job_id *ret, struct pf_slice head) {
  struct status_item item = {0};
  int err = fields_decode(&status_fields, &item, head, NULL, NULL);
  if (!err) *ret = item.job;
  return err;
}

/* ---- answers ---- */

const char *const hop_execute_answers[] = {
    [HOP_EXECUTE_TAKEN] = "taken",
    [HOP_EXECUTE_SEEN] = "seen",
    [HOP_EXECUTE_FULL] = "full",
    [HOP_EXECUTE_WRONG_INCARNATION] = "wrong_incarnation",
    [HOP_EXECUTE_REFUSED] = "refused",
    NULL,
};
const char *const hop_result_answers[] = {
    [HOP_RESULT_ACCEPTED] = "accepted",
    [HOP_RESULT_DUPLICATE] = "duplicate",
    [HOP_RESULT_STALE] = "stale",
    [HOP_RESULT_UNKNOWN] = "unknown",
    [HOP_RESULT_RETRY] = "retry",
    NULL,
};
const char *const hop_status_answers[] = {
    [HOP_STATUS_PENDING] = "pending",
    [HOP_STATUS_RECEIVED] = "received",
    [HOP_STATUS_DONE] = "done",
    [HOP_STATUS_UNKNOWN] = "unknown",
    [HOP_STATUS_RETRY] = "retry",
    NULL,
};
const char *const hop_start_answers[] = {"no", "go", NULL};
const char *const hop_complete_answers[] = {"ok", "refused", NULL};

int hop_url_read(char *url, struct pf_error *reterr) {
  char host[WIRE_HOST_MAX];
  size_t len = strlen(url);
  while (len > 0 && url[len - 1] == '/')
    url[--len] = '\0';
  if (len >= HOP_URL_MAX)
    return pf_error_set(reterr, PF_ELIMIT, "url: longer than %d bytes", HOP_URL_MAX - 1);
  return wire_url_check(pf_slice_str(url), host, reterr);
}

void hop_answer_encode(struct pf_buf *buf, const char *const names[], int answer) {
  struct json_writer w = json_writer(buf);
  json_begin_object(&w, NULL);
  json_put_text(&w, "answer", names[answer]);
  json_end_object(&w);
}

int hop_answer_decode(int *ret_answer, const char *const names[], struct pf_slice head) {
  const struct field row = {.name = "answer",
      .name_len = sizeof("answer") - 1,
      .kind = FIELD_CHOICE,
      .size = sizeof(int),
      .names = names};
  int answer = 0;
  int err = fields_decode(&(struct fields){&row, 1}, &answer, head, NULL, NULL);
  if (!err) *ret_answer = answer;
  return err;
}
