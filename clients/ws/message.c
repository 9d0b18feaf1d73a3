#include "clients/ws/message.h"

#include <string.h>

#include "wire/client.h"
#include "wire/scan.h"

#define NUMBER_MAX (INT64_C(1) << 53)

static const char *const type_names[] = {[MESSAGE_ENQUEUED] = "enqueued",
    [MESSAGE_RESULT] = "result",
    [MESSAGE_BATCH_STARTED] = "batch-started",
    [MESSAGE_BATCH_COMPLETE] = "batch-complete",
    [MESSAGE_ERROR] = "error",
    [MESSAGE_PONG] = "pong",
    [MESSAGE_SESSION] = "session",
    [MESSAGE_GAP] = "gap"};

enum member_kind {
  MEMBER_TEXT,
  MEMBER_NUMBER,
  MEMBER_COUNT,
  MEMBER_FLAG,
  MEMBER_JSON,
  MEMBER_TIMINGS
};

struct member {
  const char *name;
  size_t len;
  enum member_kind kind;
  size_t offset;
};
#define MEMBER(name, kind, field)                                                                  \
  { name, sizeof(name) - 1, kind, offsetof(struct message, field) }

/* In the order in which results carry them, so that the search is short. */
static const struct member members[] = {
    MEMBER("type", MEMBER_TEXT, type_name),
    MEMBER("reqId", MEMBER_TEXT, req_id),
    MEMBER("clientId", MEMBER_TEXT, client_id),
    MEMBER("enqueueTime", MEMBER_NUMBER, enqueue_ms),
    MEMBER("success", MEMBER_FLAG, success),
    MEMBER("status", MEMBER_COUNT, status),
    MEMBER("responseLength", MEMBER_COUNT, response_length),
    MEMBER("error", MEMBER_TEXT, error),
    MEMBER("duration", MEMBER_NUMBER, duration_ms),
    MEMBER("code", MEMBER_TEXT, code),
    MEMBER("certainty", MEMBER_TEXT, certainty),
    MEMBER("owner", MEMBER_TEXT, owner),
    MEMBER("attempts", MEMBER_COUNT, attempts),
    MEMBER("headers", MEMBER_JSON, headers),
    MEMBER("body", MEMBER_TEXT, body),
    MEMBER("bodyBase64", MEMBER_TEXT, body_base64),
    MEMBER("bodyUrl", MEMBER_TEXT, body_url),
    MEMBER("timings", MEMBER_TIMINGS, timings),
    MEMBER("logs", MEMBER_JSON, logs),
    MEMBER("offset", MEMBER_COUNT, offset),
    MEMBER("pending", MEMBER_COUNT, pending),
    MEMBER("session", MEMBER_TEXT, session),
    MEMBER("batchId", MEMBER_TEXT, batch_id),
    MEMBER("count", MEMBER_COUNT, count),
    MEMBER("successCount", MEMBER_COUNT, success_count),
    MEMBER("to", MEMBER_COUNT, to),
};

/* *hint: where the member after the last one found is likely to be. */
static const struct member *member_find(struct scan_text name, size_t *hint) {
  for (size_t i = 0; i < PF_COUNT(members); i++) {
    size_t at = (*hint + i) % PF_COUNT(members);
    const struct member *m = &members[at];
    if (m->len != name.raw.len || memcmp(m->name, name.raw.data, m->len) != 0) continue;
    *hint = at + 1;
    return m;
  }
  return NULL;
}

static int read_timings(struct json_scan *s, struct message *m) {
  struct scan_text name;
  m->has_timings = true;
  for (int i = 0; i < MESSAGE_TIMINGS; i++)
    m->timings[i] = -1;
  int err = scan_object(s);
  while (!err && (err = scan_member(s, &name)) == PF_OK) {
    int i = 0;
    while (i < MESSAGE_TIMINGS && !pf_slice_is(name.raw, client_timing_names[i]))
      i++;
    err =
        i < MESSAGE_TIMINGS && scan_peek(s) != 'n' ? scan_double(s, &m->timings[i]) : scan_skip(s);
  }
  return err == PF_ENOTFOUND ? PF_OK : err;
}

static int read_member(
    struct json_scan *s, struct message *m, const struct member *member, struct pf_arena *arena) {
  void *field = (char *)m + member->offset;
  struct scan_text text;
  int err;
  switch (member->kind) {
  case MEMBER_TEXT:
    err = scan_string(s, &text);
    if (!err) *(struct pf_slice *)field = scan_text_slice(text, arena);
    return err;
  case MEMBER_NUMBER:
    return scan_double(s, field);
  case MEMBER_COUNT:
    return scan_int(s, 0, NUMBER_MAX, field);
  case MEMBER_FLAG:
    return scan_bool(s, field);
  case MEMBER_TIMINGS:
    return read_timings(s, m);
  case MEMBER_JSON: {
    (void)scan_peek(s); /* goes to the value's first byte */
    const char *start = s->at;
    err = scan_skip(s);
    *(struct pf_slice *)field = pf_slice(start, (size_t)(s->at - start));
    return err;
  }
  }
  return PF_EINVAL;
}

int message_decode(struct message *ret_message, struct pf_slice text, struct pf_arena *arena,
    struct pf_error *reterr) {
  struct message m = {.type = MESSAGE_OTHER,
      .offset = -1,
      .to = -1,
      .pending = -1,
      .enqueue_ms = -1,
      .duration_ms = -1,
      .status = -1,
      .response_length = -1,
      .attempts = -1,
      .count = -1,
      .success_count = -1};
  struct json_scan scan = json_scan(text, reterr), *s = &scan;
  struct scan_text name;
  size_t hint = 0;
  int err = scan_object(s);
  while (!err && (err = scan_member(s, &name)) == PF_OK) {
    const struct member *member = member_find(name, &hint);
    err = member && scan_peek(s) != 'n' ? read_member(s, &m, member, arena) : scan_skip(s);
  }
  if (err == PF_ENOTFOUND) err = scan_end(s);
  if (err) return err;
  if (!m.type_name.data) return pf_error_set(reterr, PF_EINVAL, "a message without a type");
  for (size_t i = 0; i < PF_COUNT(type_names); i++)
    if (pf_slice_is(m.type_name, type_names[i])) m.type = (enum message_type)i;
  *ret_message = m;
  return PF_OK;
}
