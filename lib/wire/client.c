#include "wire/client.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "wire/json.h"
#include "wire/parts.h"

static const char bad_json[] = "bad_json", bad_message[] = "bad_message", bad_url[] = "bad_url",
                  bad_request[] = "bad_request", limit[] = "limit", busy[] = "busy";

/* One message being read. */
struct reader {
  struct pf_slice text;
  const struct json *root;
  struct pf_arena *arena;
  const char **code;
  struct pf_error *reterr;
};

PF_PRINTF(4, 5)
static int refuse(struct reader *r, int err, const char *code, const char *fmt, ...) {
  char text[PF_ERROR_TEXT_MAX];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  *r->code = err == PF_ELIMIT ? limit : err == PF_ENOMEM ? busy : code;
  return pf_error_set(r->reterr, err, "%s", text);
}

/* ---- members; what is absent leaves *ret as it is ---- */

static int take_string(
    struct reader *r, const char *name, size_t max, const char *code, struct pf_slice *ret_text) {
  const struct json *node = json_get(r->root, name);
  struct pf_slice text;
  if (!node) return PF_OK;
  if (!json_string(node, &text))
    return refuse(r, PF_EINVAL, code, "%s: a string was expected", name);
  if (text.len > max) return refuse(r, PF_ELIMIT, code, "%s: longer than %zu bytes", name, max);
  *ret_text = pf_arena_copy(r->arena, text);
  return PF_OK;
}

static int take_int(struct reader *r, const char *name, int64_t min, int64_t max, const char *code,
    int64_t *ret_value) {
  const struct json *node = json_get(r->root, name);
  if (!node || json_int(node, min, max, ret_value)) return PF_OK;
  return refuse(r, PF_EINVAL, code, "%s: a whole number from %lld to %lld was expected", name,
      (long long)min, (long long)max);
}

static int take_key(struct reader *r, const char *name, struct pf_slice *ret_key) {
  int err = take_string(r, name, WIRE_KEY_MAX, bad_message, ret_key);
  if (!err && ret_key->data && ret_key->len == 0)
    return refuse(r, PF_EINVAL, bad_message, "%s: it is empty", name);
  return err;
}

static int take_header(struct reader *r, struct wire_request *request, struct pf_slice name,
    const struct json *value) {
  struct pf_slice text;
  if (!json_string(value, &text))
    return refuse(r, PF_EINVAL, bad_request,
        "headers: [[name, value], …] or an object of strings was expected");
  request->headers[request->header_count++] = (struct wire_header){
      .name = pf_arena_copy(r->arena, name), .value = pf_arena_copy(r->arena, text)};
  return PF_OK;
}

static int take_headers(struct reader *r, struct wire_request *request) {
  const struct json *node = json_get(r->root, "headers");
  if (!node) return PF_OK;
  size_t count = json_count(node);
  if (count > WIRE_HEADERS_MAX)
    return refuse(r, PF_ELIMIT, limit, "headers: more than %d", WIRE_HEADERS_MAX);
  if (json_type(node) != JSON_OBJECT && json_type(node) != JSON_ARRAY)
    return refuse(r, PF_EINVAL, bad_request, "headers: an array or an object was expected");
  request->headers = pf_arena_alloc(r->arena, count * sizeof(*request->headers));
  int err = PF_OK;
  for (const struct json *it = json_first(node); it && !err; it = json_next(it)) {
    if (json_type(node) == JSON_OBJECT) {
      err = take_header(r, request, json_name(it), it);
      continue;
    }
    const struct json *name = json_first(it), *value = name ? json_next(name) : NULL;
    struct pf_slice text;
    if (json_type(it) != JSON_ARRAY || !json_string(name, &text) || !value || json_next(value))
      return refuse(r, PF_EINVAL, bad_request, "headers: each has to be [name, value]");
    err = take_header(r, request, text, value);
  }
  return err;
}

static int take_body(struct reader *r, struct pf_slice *ret_body) {
  struct pf_slice text;
  const struct json *base64 = json_get(r->root, "bodyBase64");
  if (!base64) return take_string(r, "body", WIRE_REQUEST_BODY_MAX, bad_request, ret_body);
  if (json_get(r->root, "body"))
    return refuse(r, PF_EINVAL, bad_request, "body, bodyBase64: only one of them may be given");
  if (!json_string(base64, &text))
    return refuse(r, PF_EINVAL, bad_request, "bodyBase64: a string was expected");
  struct pf_buf bytes;
  pf_buf_init(&bytes, WIRE_REQUEST_BODY_MAX);
  int err = base64_decode(&bytes, text);
  if (!err) *ret_body = pf_arena_copy(r->arena, pf_buf_view(&bytes));
  pf_buf_done(&bytes);
  if (err == PF_EINVAL)
    return refuse(r, err, bad_request, "bodyBase64: base64 with padding was expected");
  if (err)
    return refuse(r, err, limit, "bodyBase64: more than %zu bytes", (size_t)WIRE_REQUEST_BODY_MAX);
  return PF_OK;
}

static int take_status(struct reader *r, const struct json *node, uint16_t *ret_status) {
  int64_t number;
  struct pf_slice text;
  if (json_int(node, 100, 599, &number)) return *ret_status = (uint16_t)number, PF_OK;
  if (json_string(node, &text) && status_class_parse(text, ret_status)) return PF_OK;
  return refuse(
      r, PF_EINVAL, bad_request, "retry.statuses: 100..599 or \"1xx\"..\"5xx\" was expected");
}

static int take_retry(struct reader *r, struct wire_retry *retry) {
  const struct json *node = json_get(r->root, "retry"), *attempts, *statuses;
  if (!node) return PF_OK;
  if (json_type(node) != JSON_OBJECT)
    return refuse(
        r, PF_EINVAL, bad_request, "retry: an object with attempts or statuses was expected");
  int64_t number;
  if ((attempts = json_get(node, "attempts")) != NULL) {
    if (!json_int(attempts, 1, WIRE_ATTEMPTS_MAX, &number))
      return refuse(r, PF_EINVAL, bad_request,
          "retry.attempts: a whole number from 1 to %d was expected", WIRE_ATTEMPTS_MAX);
    retry->attempts = (int)number;
  }
  if ((statuses = json_get(node, "statuses")) == NULL) return PF_OK;
  if (json_type(statuses) != JSON_ARRAY)
    return refuse(r, PF_EINVAL, bad_request, "retry.statuses: an array was expected");
  if (json_count(statuses) > WIRE_STATUSES_MAX)
    return refuse(r, PF_ELIMIT, limit, "retry.statuses: more than %d", WIRE_STATUSES_MAX);
  int err = PF_OK;
  for (const struct json *it = json_first(statuses); it && !err; it = json_next(it))
    err = take_status(r, it, &retry->statuses[retry->status_count++]);
  return err;
}

static int take_include(struct reader *r, unsigned *ret_bits) {
  const struct json *node = json_get(r->root, "include");
  if (!node) return PF_OK;
  bool fine = json_type(node) == JSON_ARRAY;
  for (const struct json *it = json_first(node); it && fine; it = json_next(it)) {
    struct pf_slice word;
    unsigned bit = json_string(it, &word) ? include_bit(word) : 0;
    fine = bit != 0;
    *ret_bits |= bit;
  }
  if (fine) return PF_OK;
  return refuse(r, PF_EINVAL, bad_request,
      "include: an array of \"headers\", \"body\", \"timings\", \"logs\" was expected");
}

static int take_redirect(struct reader *r, enum wire_redirect *ret_redirect) {
  const struct json *node = json_get(r->root, "redirect");
  struct pf_slice word;
  if (!node) return PF_OK;
  for (int i = 0; json_string(node, &word) && redirect_names[i]; i++)
    if (pf_slice_is(word, redirect_names[i])) return *ret_redirect = (enum wire_redirect)i, PF_OK;
  return refuse(
      r, PF_EINVAL, bad_request, "redirect: one of \"follow\", \"manual\", \"error\" was expected");
}

static int take_method(struct reader *r, struct pf_slice *ret_method) {
  *ret_method = pf_slice_str("GET");
  const struct json *node = json_get(r->root, "method");
  struct pf_slice text;
  if (!node) return PF_OK;
  if (!json_string(node, &text) || text.len > WIRE_METHOD_MAX)
    return refuse(r, PF_EINVAL, bad_request,
        "method: one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS was expected");
  char *upper = pf_arena_alloc(r->arena, text.len + 1);
  for (size_t i = 0; i < text.len; i++)
    upper[i] =
        text.data[i] >= 'a' && text.data[i] <= 'z' ? (char)(text.data[i] & ~0x20) : text.data[i];
  *ret_method = pf_slice(upper, text.len);
  return PF_OK;
}

static int take_continuation(struct reader *r, struct client_fetch *fetch) {
  int err = take_string(r, "continuation", WIRE_NAME_MAX, bad_request, &fetch->continuation);
  if (!err && fetch->continuation.data && !wire_name_valid(fetch->continuation))
    return refuse(r, PF_EINVAL, bad_request,
        "continuation: a letter, then letters, digits, _ . - was expected");
  struct pf_slice context;
  if (err || !json_raw(r->text, "context", &context)) return err;
  if (context.len > WIRE_CONTEXT_MAX)
    return refuse(r, PF_ELIMIT, limit, "context: longer than %d bytes", WIRE_CONTEXT_MAX);
  fetch->context = pf_arena_copy(r->arena, context);
  return PF_OK;
}

/* ---- messages ---- */

static int fetch_read(struct reader *r, struct client_fetch *fetch) {
  struct wire_request *request = &fetch->request;
  *fetch = (struct client_fetch){
      .id = fetch->id,
      .count = fetch->count,
      .retry.attempts = WIRE_ATTEMPTS_DEFAULT,
      .attempt_ms = WIRE_ATTEMPT_MS_DEFAULT,
      .deadline_ms = WIRE_DEADLINE_MS_DEFAULT,
      .queue_ms = WIRE_QUEUE_MS_DEFAULT,
  };
  int err = take_string(r, "url", WIRE_URL_MAX, bad_url, &request->url);
  if (!err && !request->url.data) err = refuse(r, PF_EINVAL, bad_url, "url: it is missing");
  if (!err) err = take_method(r, &request->method);
  if (!err) err = take_headers(r, request);
  if (!err) err = take_body(r, &request->body);
  if (!err) err = take_key(r, "idempotencyKey", &request->idempotency_key);
  if (!err) err = take_redirect(r, &request->redirect);
  if (!err) err = take_include(r, &request->include);
  if (!err) err = take_retry(r, &fetch->retry);
  if (!err) err = take_int(r, "timeoutMs", 1, WIRE_ATTEMPT_MS_MAX, bad_request, &fetch->attempt_ms);
  if (!err)
    err = take_int(r, "deadlineMs", 1, WIRE_DEADLINE_MS_MAX, bad_request, &fetch->deadline_ms);
  if (!err) err = take_key(r, "submitKey", &fetch->submit_key);
  if (!err) err = take_continuation(r, fetch);
  if (err) return err;
  struct pf_error why;
  err = wire_request_check(request, fetch->host, &why);
  if (err) {
    bool of_url = wire_url_check(request->url, fetch->host, NULL) != PF_OK;
    return refuse(r, err, of_url ? bad_url : bad_request, "%s", why.text);
  }
  fetch->repeatable = wire_request_repeatable(request);
  return PF_OK;
}

static int batch_read(struct reader *r, struct client_message *message) {
  message->fetch.id = message->batch_id;
  message->fetch.count = 0;
  if (message->batch_id.len == 0)
    return refuse(r, PF_EINVAL, bad_message, "batchId: a string was expected");
  int err = take_int(r, "count", 1, WIRE_BATCH_COUNT_MAX, bad_message, &message->fetch.count);
  if (!err && message->fetch.count == 0)
    return refuse(r, PF_EINVAL, bad_message, "count: a whole number from 1 to %d was expected",
        WIRE_BATCH_COUNT_MAX);
  return err ? err : fetch_read(r, &message->fetch);
}

static int resume_read(struct reader *r, struct client_message *message) {
  int err = take_string(r, "session", WIRE_SESSION_HEX, bad_message, &message->session);
  unsigned char bytes[WIRE_SESSION_HEX / 2];
  if (!err && message->session.len &&
      pf_hex_parse(bytes, sizeof(bytes), message->session.data, message->session.len))
    return refuse(
        r, PF_EINVAL, bad_message, "session: %d hex digits were expected", WIRE_SESSION_HEX);
  return err ? err : take_int(r, "offset", 0, WIRE_OFFSET_MAX, bad_message, &message->offset);
}

static int ack_read(struct reader *r, struct client_message *message) {
  int err = take_int(r, "offset", 0, WIRE_OFFSET_MAX, bad_message, &message->offset);
  if (!err && message->offset < 0)
    return refuse(r, PF_EINVAL, bad_message, "offset: it is missing");
  return err;
}

static int cancel_read(struct reader *r, struct client_message *message) {
  struct pf_slice text;
  if (json_string(json_get(r->root, "reqId"), &text) &&
      pf_job_id_parse(&message->job, text.data, text.len) == PF_OK)
    return PF_OK;
  return refuse(r, PF_EINVAL, bad_message, "reqId: %d hex digits were expected", PF_ID_HEX);
}

static int ping_read(struct reader *r, struct client_message *message) {
  struct pf_slice id;
  if (!json_raw(r->text, "id", &id)) return PF_OK;
  if (id.len > WIRE_PING_ID_MAX)
    return refuse(r, PF_ELIMIT, limit, "id: longer than %d bytes", WIRE_PING_ID_MAX);
  message->ping_id = pf_arena_copy(r->arena, id);
  return PF_OK;
}

/* Both ids first, so that whatever else is wrong can be reported to whom it concerns. */
static int ids_read(struct reader *r, struct pf_slice *client_id, struct pf_slice *batch_id) {
  int err = take_string(r, "batchId", WIRE_KEY_MAX, bad_message, batch_id);
  int client_err = take_string(r, "clientId", WIRE_KEY_MAX, bad_message, client_id);
  return err ? err : client_err;
}

static int fetch_message_read(struct reader *r, struct client_message *message) {
  message->fetch.id = message->client_id;
  return fetch_read(r, &message->fetch);
}

static int unknown_read(struct reader *r, struct client_message *message) {
  (void)r, (void)message;
  return PF_OK;
}

static int message_read(struct reader *r, struct client_message *message) {
  static const struct {
    const char *name;
    int (*read)(struct reader *r, struct client_message *message);
  } types[] = {
      [CLIENT_START_FETCH] = {"start-fetch", fetch_message_read},
      [CLIENT_START_BATCH] = {"start-batch-fetch", batch_read},
      [CLIENT_RESUME] = {"resume", resume_read},
      [CLIENT_ACK] = {"ack", ack_read},
      [CLIENT_CANCEL] = {"cancel", cancel_read},
      [CLIENT_PING] = {"ping", ping_read},
      [CLIENT_UNKNOWN] = {NULL, unknown_read},
  };
  if (json_type(r->root) != JSON_OBJECT)
    return refuse(r, PF_EINVAL, bad_message, "an object was expected");
  int err = ids_read(r, &message->client_id, &message->batch_id);
  if (!err) err = take_string(r, "type", WIRE_NAME_MAX, bad_message, &message->type_name);
  if (!err && message->type_name.len == 0)
    return refuse(r, PF_EINVAL, bad_message, "type: it is missing");
  if (err) return err;
  int type = CLIENT_START_FETCH;
  while (types[type].name && !pf_slice_is(message->type_name, types[type].name))
    type++;
  message->type = (enum client_type)type;
  return types[type].read(r, message);
}

/* Guard and tree of r->text; the caller frees *ret_root. */
static int root_read(struct reader *r, struct json **ret_root) {
  struct pf_error why;
  int err = json_parse(ret_root, r->text, &why);
  if (err == PF_ENOMEM) return refuse(r, err, busy, "%s", why.text);
  if (err) return refuse(r, err, bad_json, "not acceptable as JSON: %s", why.text);
  r->root = *ret_root;
  return PF_OK;
}

int client_message_decode(struct client_message *ret, struct pf_slice text, struct pf_arena *arena,
    const char **ret_code, struct pf_error *reterr) {
  *ret = (struct client_message){.type = CLIENT_UNKNOWN, .offset = -1};
  *ret_code = NULL;
  struct reader r = {.text = text, .arena = arena, .code = ret_code, .reterr = reterr};
  struct json *root = NULL;
  int err = root_read(&r, &root);
  if (!err) err = message_read(&r, ret);
  json_free(root);
  return err;
}

int client_fetch_decode(struct client_fetch *ret, struct pf_slice text, struct pf_arena *arena,
    const char **ret_code, struct pf_error *reterr) {
  *ret = (struct client_fetch){0};
  *ret_code = NULL;
  struct reader r = {.text = text, .arena = arena, .code = ret_code, .reterr = reterr};
  struct json *root = NULL;
  int err = root_read(&r, &root);
  if (!err && json_type(root) != JSON_OBJECT)
    err = refuse(&r, PF_EINVAL, bad_message, "an object was expected");
  if (!err) err = take_string(&r, "clientId", WIRE_KEY_MAX, bad_message, &ret->id);
  if (!err) err = fetch_read(&r, ret);
  json_free(root);
  return err;
}
