/* Any bytes as a frame of a client, and as the body of the HTTP call: refused with a code and a
 * text, or within every limit. Either way a frame about it can be written. */
#include <stdint.h>
#include <string.h>

#include "wire/client.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fetch_check(const struct client_fetch *fetch) {
  const struct wire_request *request = &fetch->request;
  PF_ASSERT(request->url.len <= WIRE_URL_MAX && strrchr(fetch->host, ':'));
  PF_ASSERT(request->header_count <= WIRE_HEADERS_MAX);
  PF_ASSERT(request->body.len <= WIRE_REQUEST_BODY_MAX);
  PF_ASSERT(fetch->retry.attempts >= 1 && fetch->retry.attempts <= WIRE_ATTEMPTS_MAX);
  PF_ASSERT(fetch->retry.status_count <= WIRE_STATUSES_MAX);
  PF_ASSERT(fetch->attempt_ms >= 1 && fetch->attempt_ms <= WIRE_ATTEMPT_MS_MAX);
  PF_ASSERT(fetch->deadline_ms >= 1 && fetch->deadline_ms <= WIRE_DEADLINE_MS_MAX);
  PF_ASSERT(fetch->context.len <= WIRE_CONTEXT_MAX);
  PF_ASSERT(!fetch->context.len || json_check(fetch->context, NULL) == PF_OK);
  PF_ASSERT(fetch->repeatable == wire_request_repeatable(request));
  char host[WIRE_HOST_MAX];
  int err = wire_request_check(request, host, NULL);
  PF_ASSERT(err == PF_OK && strcmp(host, fetch->host) == 0);
}

static void refused_check(const char *code, const struct pf_error *why) {
  static const char *const codes[] = {"bad_json", "bad_message", "bad_url", "bad_request", "limit"};
  bool known = false;
  for (size_t i = 0; i < PF_COUNT(codes); i++)
    known |= strcmp(code, codes[i]) == 0;
  PF_ASSERT(known && why->text[0]);
}

static void frame_check(const struct client_message *message, const char *code, const char *why) {
  struct pf_buf buf;
  pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
  client_error_encode(&buf, code, pf_slice_str(why), message->client_id, message->batch_id);
  PF_ASSERT(!buf.err && json_check(pf_buf_view(&buf), NULL) == PF_OK);
  pf_buf_clear(&buf);
  client_pong_encode(&buf, message->ping_id);
  PF_ASSERT(!buf.err && json_check(pf_buf_view(&buf), NULL) == PF_OK);
  pf_buf_done(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct pf_slice text = pf_slice(data, len);
  struct client_message message;
  struct client_fetch fetch;
  struct pf_arena arena;
  struct pf_error why;
  const char *code;
  pf_arena_init(&arena);
  if (client_message_decode(&message, text, &arena, &code, &why)) {
    refused_check(code, &why);
    frame_check(&message, code, why.text);
  } else {
    if (message.type == CLIENT_START_FETCH || message.type == CLIENT_START_BATCH)
      fetch_check(&message.fetch);
    PF_ASSERT(message.offset >= -1 && message.offset <= WIRE_OFFSET_MAX);
    frame_check(&message, "none", "");
  }
  if (client_fetch_decode(&fetch, text, &arena, &code, &why))
    refused_check(code, &why);
  else
    fetch_check(&fetch);
  pf_arena_done(&arena);
  return 0;
}
