#include "message.h"

#include "wire/client.h"

static const char *const type_names[] = {[MESSAGE_ENQUEUED] = "enqueued",
    [MESSAGE_RESULT] = "result",
    [MESSAGE_BATCH_STARTED] = "batch-started",
    [MESSAGE_BATCH_COMPLETE] = "batch-complete",
    [MESSAGE_ERROR] = "error",
    [MESSAGE_PONG] = "pong"};

static const char timings_member[] = "timings";

static bool read_timings(struct message *m, const struct json *object) {
  m->has_timings = true;
  for (int i = 0; i < MESSAGE_TIMINGS; i++) {
    PF_ASSERT(client_timing_names[i] != NULL);
    m->timings[i] = -1;
    const struct json *value = json_get(object, client_timing_names[i]);
    if (value && json_type(value) != JSON_NULL && !json_double(value, &m->timings[i])) return false;
  }
  return true;
}

/* One pass over the members: messages are short, and this is the hot path of every load test. */
static bool read_member(struct message *m, const struct json *node, struct pf_slice name) {
  static const struct {
    const char *name;
    size_t offset;
  } strings[] = {{"clientId", offsetof(struct message, client_id)},
      {"reqId", offsetof(struct message, req_id)}, {"batchId", offsetof(struct message, batch_id)},
      {"error", offsetof(struct message, error)}, {"code", offsetof(struct message, code)},
      {"owner", offsetof(struct message, owner)},
      {"certainty", offsetof(struct message, certainty)}},
    doubles[] = {{"enqueueTime", offsetof(struct message, enqueue_ms)},
        {"duration", offsetof(struct message, duration_ms)}},
    ints[] = {{"status", offsetof(struct message, status)},
        {"responseLength", offsetof(struct message, response_length)},
        {"attempts", offsetof(struct message, attempts)},
        {"count", offsetof(struct message, count)},
        {"successCount", offsetof(struct message, success_count)}};
  switch (json_type(node)) {
  case JSON_STRING:
    for (size_t i = 0; i < PF_COUNT(strings); i++)
      if (pf_slice_is(name, strings[i].name))
        return json_string(node, (struct pf_slice *)((char *)m + strings[i].offset));
    return true;
  case JSON_NUMBER:
    for (size_t i = 0; i < PF_COUNT(doubles); i++)
      if (pf_slice_is(name, doubles[i].name))
        return json_double(node, (double *)((char *)m + doubles[i].offset));
    for (size_t i = 0; i < PF_COUNT(ints); i++)
      if (pf_slice_is(name, ints[i].name))
        return json_int(node, 0, INT64_C(1) << 53, (int64_t *)((char *)m + ints[i].offset));
    return true;
  case JSON_BOOL:
    return !pf_slice_is(name, "success") || json_bool(node, &m->success);
  case JSON_OBJECT:
    return !pf_slice_is(name, timings_member) || read_timings(m, node);
  default:
    return true;
  }
}

int message_decode(struct message *ret_message, struct pf_slice text, struct pf_error *reterr) {
  struct json *root;
  int err = json_parse(&root, text, reterr);
  if (err) return err;
  struct message m = {.type = MESSAGE_OTHER,
      .enqueue_ms = -1,
      .duration_ms = -1,
      .status = -1,
      .response_length = -1,
      .attempts = -1,
      .count = -1,
      .success_count = -1,
      .root = root};
  struct pf_slice type;
  if (json_type(root) != JSON_OBJECT || !json_string(json_get(root, "type"), &type)) {
    json_free(root);
    return pf_error_set(reterr, PF_EINVAL, "a message without a type");
  }
  for (size_t i = 0; i < PF_COUNT(type_names); i++)
    if (pf_slice_is(type, type_names[i])) m.type = (enum message_type)i;
  for (const struct json *node = json_first(root); node; node = json_next(node)) {
    if (read_member(&m, node, json_name(node))) continue;
    struct pf_slice name = json_name(node);
    pf_error_set(reterr, PF_EINVAL, "%.*s: its member %.*s is out of range", (int)type.len,
        type.data, (int)name.len, name.data);
    json_free(root);
    return PF_EINVAL;
  }
  *ret_message = m;
  return PF_OK;
}

void message_done(struct message *message) {
  json_free(message->root);
  message->root = NULL;
}
