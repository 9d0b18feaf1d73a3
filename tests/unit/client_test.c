#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "wire/client.h"
#include "wire/json.h"

#define SESSION "0123456789abcdef0123456789abcdef"
#define START "{\"type\":\"start-fetch\",\"url\":\"http://a/\",\"clientId\":\"c1\""
#define START_BATCH "{\"type\":\"start-batch-fetch\",\"url\":\"http://a/\",\"batchId\":\"b1\""

struct decoded {
  struct client_message message;
  struct pf_arena arena;
  const char *code;
  struct pf_error why;
  int err;
};

static void decode(struct decoded *d, struct pf_slice text) {
  char *exact = malloc(text.len ? text.len : 1);
  assert_non_null(exact);
  if (text.len) memcpy(exact, text.data, text.len);
  pf_arena_init(&d->arena);
  d->code = "untouched";
  d->why = (struct pf_error){0};
  d->err =
      client_message_decode(&d->message, pf_slice(exact, text.len), &d->arena, &d->code, &d->why);
  memset(exact, 0, text.len); /* all that the message holds is in the arena */
  free(exact);
  if (d->err) {
    assert_non_null(d->code);
    assert_true(d->why.text[0] != '\0');
  } else {
    assert_null(d->code);
  }
}

static void done(struct decoded *d) {
  pf_arena_done(&d->arena);
}

/* ---- what is taken ---- */

static void test_the_plainest_fetch(void **state) {
  (void)state;
  struct decoded d;
  decode(&d,
      pf_slice_str("{\"type\":\"start-fetch\",\"url\":\"http://Host:81/x\",\"clientId\":\"c\"}"));
  assert_int_equal(d.err, PF_OK);
  const struct client_fetch *f = &d.message.fetch;
  assert_int_equal(d.message.type, CLIENT_START_FETCH);
  assert_true(pf_slice_is(d.message.client_id, "c") && pf_slice_is(f->id, "c"));
  assert_true(pf_slice_is(f->request.url, "http://Host:81/x"));
  assert_true(pf_slice_is(f->request.method, "GET"));
  assert_string_equal(f->host, "host:81");
  assert_true(f->repeatable);
  assert_int_equal(f->retry.attempts, WIRE_ATTEMPTS_DEFAULT);
  assert_int_equal(f->attempt_ms, WIRE_ATTEMPT_MS_DEFAULT);
  assert_int_equal(f->deadline_ms, WIRE_DEADLINE_MS_DEFAULT);
  assert_int_equal(f->queue_ms, WIRE_QUEUE_MS_DEFAULT);
  assert_true(f->request.include == 0 && f->request.redirect == WIRE_REDIRECT_FOLLOW);
  assert_true(f->context.len == 0 && f->continuation.len == 0 && f->submit_key.len == 0);
  done(&d);
}

static void test_all_members_of_a_fetch(void **state) {
  (void)state;
  struct decoded d;
  decode(&d, pf_slice_str(
                 START ",\"method\":\"post\",\"headers\":[[\"A\",\"1\"],[\"A\",\"2\"]],"
                       "\"bodyBase64\":\"AP8=\",\"timeoutMs\":1500,\"deadlineMs\":9000,"
                       "\"retry\":{\"attempts\":2,\"statuses\":[\"5xx\",429]},\"submitKey\":\"s\","
                       "\"idempotencyKey\":\"i\",\"redirect\":\"manual\","
                       "\"include\":[\"headers\",\"body\",\"timings\",\"logs\"],"
                       "\"continuation\":\"on_done\","
                       "\"context\": {\"n\": 12345678901234567890, \"s\":\"\\u0041\"} ,"
                       "\"unknown\":[{}]}"));
  assert_int_equal(d.err, PF_OK);
  const struct client_fetch *f = &d.message.fetch;
  assert_true(pf_slice_is(f->request.method, "POST"));
  assert_int_equal(f->request.header_count, 2);
  assert_true(pf_slice_is(f->request.headers[1].name, "A"));
  assert_true(pf_slice_is(f->request.headers[1].value, "2"));
  assert_int_equal(f->request.body.len, 2);
  assert_memory_equal(f->request.body.data, "\0\xff", 2);
  assert_true(f->attempt_ms == 1500 && f->deadline_ms == 9000 && f->retry.attempts == 2);
  assert_true(f->retry.status_count == 2 && wire_retry_names(&f->retry, 503));
  assert_true(pf_slice_is(f->submit_key, "s") && pf_slice_is(f->request.idempotency_key, "i"));
  assert_true(f->repeatable); /* because of the key */
  assert_int_equal(f->request.redirect, WIRE_REDIRECT_MANUAL);
  assert_int_equal(f->request.include, 15);
  assert_true(pf_slice_is(f->continuation, "on_done"));
  assert_true(pf_slice_is(f->context, "{\"n\": 12345678901234567890, \"s\":\"\\u0041\"}"));
  done(&d);
}

static void test_headers_as_object(void **state) {
  (void)state;
  struct decoded d;
  decode(&d, pf_slice_str(START ",\"headers\":{\"X-A\":\"1\",\"X-B\":\"\"}}"));
  assert_int_equal(d.err, PF_OK);
  assert_int_equal(d.message.fetch.request.header_count, 2);
  assert_true(pf_slice_is(d.message.fetch.request.headers[0].name, "X-A"));
  assert_true(pf_slice_is(d.message.fetch.request.headers[1].value, ""));
  done(&d);
}

static void test_batch(void **state) {
  (void)state;
  struct decoded d;
  decode(&d, pf_slice_str(START_BATCH ",\"count\":10000,\"body\":\"x\",\"method\":\"PUT\"}"));
  assert_int_equal(d.err, PF_OK);
  assert_int_equal(d.message.type, CLIENT_START_BATCH);
  assert_true(pf_slice_is(d.message.batch_id, "b1") && pf_slice_is(d.message.fetch.id, "b1"));
  assert_int_equal(d.message.fetch.count, 10000);
  assert_true(pf_slice_is(d.message.fetch.request.body, "x"));
  done(&d);
}

static void test_session_messages(void **state) {
  (void)state;
  struct decoded d;
  decode(&d, pf_slice_str("{\"type\":\"resume\"}"));
  assert_true(d.err == PF_OK && d.message.type == CLIENT_RESUME);
  assert_true(d.message.session.len == 0 && d.message.offset == -1);
  done(&d);
  decode(&d, pf_slice_str(
                 "{\"type\":\"resume\",\"session\":\"" SESSION "\",\"offset\":9007199254740991}"));
  assert_true(d.err == PF_OK && pf_slice_is(d.message.session, SESSION));
  assert_int_equal(d.message.offset, 9007199254740991);
  done(&d);
  decode(&d, pf_slice_str("{\"type\":\"ack\",\"offset\":0}"));
  assert_true(d.err == PF_OK && d.message.type == CLIENT_ACK && d.message.offset == 0);
  done(&d);
  decode(&d, pf_slice_str("{\"type\":\"cancel\",\"reqId\":\"00000000000000010000000000000002\"}"));
  assert_true(d.err == PF_OK && d.message.type == CLIENT_CANCEL);
  assert_true(pf_job_id_eq(d.message.job, (struct pf_job_id){1, 2}));
  done(&d);
  decode(&d, pf_slice_str("{\"type\":\"ping\",\"id\": [1, null] }"));
  assert_true(d.err == PF_OK && d.message.type == CLIENT_PING);
  assert_true(pf_slice_is(d.message.ping_id, "[1, null]"));
  done(&d);
  decode(&d, pf_slice_str("{\"type\":\"ping\"}"));
  assert_true(d.err == PF_OK && d.message.ping_id.len == 0);
  done(&d);
  decode(&d, pf_slice_str("{\"type\":\"later\",\"clientId\":\"c\",\"url\":5}"));
  assert_true(d.err == PF_OK && d.message.type == CLIENT_UNKNOWN);
  assert_true(pf_slice_is(d.message.type_name, "later") && pf_slice_is(d.message.client_id, "c"));
  done(&d);
}

/* An id that was sent empty is an id; one that was not sent is none. */
static void test_absent_and_empty_ids(void **state) {
  (void)state;
  struct decoded d;
  decode(&d, pf_slice_str("{\"type\":\"start-fetch\",\"url\":\"http://a/\"}"));
  assert_true(d.err == PF_OK && d.message.client_id.data == NULL);
  done(&d);
  decode(&d, pf_slice_str("{\"type\":\"start-fetch\",\"url\":\"http://a/\",\"clientId\":\"\"}"));
  assert_true(d.err == PF_OK && d.message.client_id.data && d.message.client_id.len == 0);
  done(&d);
}

/* ---- what is refused: code, and a text that names the member ---- */

static const struct {
  const char *text, *code, *says;
} refused[] = {
    {"", "bad_json", "byte 0"},
    {"{", "bad_json", "byte 1"},
    {"{}x", "bad_json", "byte 2"},
    {"{\"type\":\"ping\",\"type\":\"ping\"}", "bad_json", "twice"},
    {"\xff", "bad_json", ""},
    {"[]", "bad_message", "object"},
    {"1", "bad_message", "object"},
    {"null", "bad_message", "object"},
    {"{}", "bad_message", "type"},
    {"{\"type\":1}", "bad_message", "type"},
    {"{\"type\":\"\"}", "bad_message", "type"},
    {"{\"type\":null}", "bad_message", "type"},
    {"{\"type\":\"start-fetch\",\"url\":\"http://a/\",\"clientId\":7}", "bad_message", "clientId"},
    {"{\"type\":\"start-fetch\",\"url\":\"http://a/\",\"clientId\":null}", "bad_message",
        "clientId"},
    {"{\"type\":\"start-fetch\",\"clientId\":\"c\"}", "bad_url", "url"},
    {"{\"type\":\"start-fetch\",\"url\":7}", "bad_url", "url"},
    {"{\"type\":\"start-fetch\",\"url\":\"\"}", "bad_url", "http://"},
    {"{\"type\":\"start-fetch\",\"url\":\"ftp://a/\"}", "bad_url", "http://"},
    {"{\"type\":\"start-fetch\",\"url\":\"http://u@a/\"}", "bad_url", "password"},
    {START ",\"method\":\"TRACE\"}", "bad_request", "method"},
    {START ",\"method\":7}", "bad_request", "method"},
    {START ",\"method\":\"aaaaaaaaaaaaaaaaaaaaaa\"}", "bad_request", "method"},
    {START ",\"headers\":\"x\"}", "bad_request", "headers"},
    {START ",\"headers\":[\"x\"]}", "bad_request", "headers"},
    {START ",\"headers\":[[\"x\"]]}", "bad_request", "headers"},
    {START ",\"headers\":[[\"x\",\"y\",\"z\"]]}", "bad_request", "headers"},
    {START ",\"headers\":[[\"x\",1]]}", "bad_request", "headers"},
    {START ",\"headers\":[[1,\"x\"]]}", "bad_request", "headers"},
    {START ",\"headers\":{\"x\":1}}", "bad_request", "headers"},
    {START ",\"headers\":{\"x\":[\"y\"]}}", "bad_request", "headers"},
    {START ",\"headers\":[{\"x\":\"y\",\"z\":\"w\"}]}", "bad_request", "headers"},
    {START ",\"headers\":{\"Host\":\"b\"}}", "bad_request", "Host"},
    {START ",\"headers\":{\"x\":\"a\\r\\nb: c\"}}", "bad_request", "headers"},
    {START ",\"headers\":{\"a b\":\"c\"}}", "bad_request", "headers"},
    {START ",\"body\":\"x\"}", "bad_request", "GET"},
    {START ",\"method\":\"HEAD\",\"body\":\"x\"}", "bad_request", "HEAD"},
    {START ",\"method\":\"POST\",\"body\":7}", "bad_request", "body"},
    {START ",\"method\":\"POST\",\"body\":\"\",\"bodyBase64\":\"\"}", "bad_request", "only one"},
    {START ",\"method\":\"POST\",\"bodyBase64\":7}", "bad_request", "bodyBase64"},
    {START ",\"method\":\"POST\",\"bodyBase64\":\"A\"}", "bad_request", "bodyBase64"},
    {START ",\"method\":\"POST\",\"bodyBase64\":\"_w==\"}", "bad_request", "bodyBase64"},
    {START ",\"timeoutMs\":0}", "bad_request", "timeoutMs"},
    {START ",\"timeoutMs\":1.5}", "bad_request", "timeoutMs"},
    {START ",\"timeoutMs\":\"1\"}", "bad_request", "timeoutMs"},
    {START ",\"timeoutMs\":86400001}", "bad_request", "timeoutMs"},
    {START ",\"timeoutMs\":1e999}", "bad_request", "timeoutMs"},
    {START ",\"deadlineMs\":0}", "bad_request", "deadlineMs"},
    {START ",\"deadlineMs\":604800001}", "bad_request", "deadlineMs"},
    {START ",\"retry\":3}", "bad_request", "retry"},
    {START ",\"retry\":[]}", "bad_request", "retry"},
    {START ",\"retry\":{\"attempts\":0}}", "bad_request", "retry.attempts"},
    {START ",\"retry\":{\"attempts\":17}}", "bad_request", "retry.attempts"},
    {START ",\"retry\":{\"statuses\":\"5xx\"}}", "bad_request", "retry.statuses"},
    {START ",\"retry\":{\"statuses\":[99]}}", "bad_request", "retry.statuses"},
    {START ",\"retry\":{\"statuses\":[600]}}", "bad_request", "retry.statuses"},
    {START ",\"retry\":{\"statuses\":[\"6xx\"]}}", "bad_request", "retry.statuses"},
    {START ",\"retry\":{\"statuses\":[\"503\"]}}", "bad_request", "retry.statuses"},
    {START ",\"retry\":{\"statuses\":[null]}}", "bad_request", "retry.statuses"},
    {START ",\"submitKey\":\"\"}", "bad_message", "submitKey"},
    {START ",\"submitKey\":1}", "bad_message", "submitKey"},
    {START ",\"idempotencyKey\":\"\"}", "bad_message", "idempotencyKey"},
    {START ",\"idempotencyKey\":\"a b\"}", "bad_request", "idempotencyKey"},
    {START ",\"redirect\":\"maybe\"}", "bad_request", "redirect"},
    {START ",\"redirect\":1}", "bad_request", "redirect"},
    {START ",\"include\":\"body\"}", "bad_request", "include"},
    {START ",\"include\":[\"cookies\"]}", "bad_request", "include"},
    {START ",\"include\":[1]}", "bad_request", "include"},
    {START ",\"include\":{\"a\":\"body\"}}", "bad_request", "include"},
    {START ",\"continuation\":\"\"}", "bad_request", "continuation"},
    {START ",\"continuation\":\"9\"}", "bad_request", "continuation"},
    {START ",\"continuation\":7}", "bad_request", "continuation"},
    {"{\"type\":\"start-batch-fetch\",\"url\":\"http://a/\",\"count\":1}", "bad_message",
        "batchId"},
    {"{\"type\":\"start-batch-fetch\",\"url\":\"http://a/\",\"count\":1,\"batchId\":7}",
        "bad_message", "batchId"},
    {START_BATCH "}", "bad_message", "count"},
    {START_BATCH ",\"count\":0}", "bad_message", "count"},
    {START_BATCH ",\"count\":10001}", "bad_message", "count"},
    {START_BATCH ",\"count\":-1}", "bad_message", "count"},
    {START_BATCH ",\"count\":1.5}", "bad_message", "count"},
    {START_BATCH ",\"count\":\"10\"}", "bad_message", "count"},
    {"{\"type\":\"resume\",\"session\":7}", "bad_message", "session"},
    {"{\"type\":\"resume\",\"session\":\"abc\"}", "bad_message", "session"},
    {"{\"type\":\"resume\",\"session\":\"0123456789abcdef0123456789abcdeg\"}", "bad_message",
        "session"},
    {"{\"type\":\"resume\",\"session\":\"" SESSION "0\"}", "limit", "session"},
    {"{\"type\":\"resume\",\"offset\":-1}", "bad_message", "offset"},
    {"{\"type\":\"resume\",\"offset\":9007199254740992}", "bad_message", "offset"},
    {"{\"type\":\"ack\"}", "bad_message", "offset"},
    {"{\"type\":\"ack\",\"offset\":-1}", "bad_message", "offset"},
    {"{\"type\":\"ack\",\"offset\":0.5}", "bad_message", "offset"},
    {"{\"type\":\"ack\",\"offset\":\"1\"}", "bad_message", "offset"},
    {"{\"type\":\"cancel\"}", "bad_message", "reqId"},
    {"{\"type\":\"cancel\",\"reqId\":1}", "bad_message", "reqId"},
    {"{\"type\":\"cancel\",\"reqId\":\"1\"}", "bad_message", "reqId"},
    {"{\"type\":\"cancel\",\"reqId\":\"0000000000000001000000000000000x\"}", "bad_message",
        "reqId"},
};

static void test_refused(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(refused); i++) {
    struct decoded d;
    decode(&d, pf_slice_str(refused[i].text));
    if (!d.err) fail_msg("accepted: %s", refused[i].text);
    if (strcmp(d.code, refused[i].code) != 0) fail_msg("%s for %s", d.code, refused[i].text);
    if (!strstr(d.why.text, refused[i].says)) fail_msg("'%s': %s", d.why.text, refused[i].text);
    done(&d);
  }
}

/* The error frame can say whom it concerns, whatever else is wrong. */
static void test_refused_messages_keep_their_ids(void **state) {
  (void)state;
  struct decoded d;
  decode(&d, pf_slice_str(START ",\"timeoutMs\":0}"));
  assert_true(d.err && pf_slice_is(d.message.client_id, "c1"));
  done(&d);
  decode(&d, pf_slice_str("{\"batchId\":7,\"clientId\":\"c1\"}"));
  assert_true(d.err && pf_slice_is(d.message.client_id, "c1"));
  done(&d);
  decode(&d, pf_slice_str(START_BATCH ",\"count\":10001}"));
  assert_true(d.err && pf_slice_is(d.message.batch_id, "b1"));
  done(&d);
}

static void test_every_prefix_is_refused(void **state) {
  (void)state;
  static const char text[] =
      START ",\"headers\":{\"a\":\"b\"},\"context\":[1,{\"x\":\"\\u0041\"}]}";
  for (size_t cut = 0; cut < sizeof(text) - 1; cut++) {
    struct decoded d;
    decode(&d, pf_slice(text, cut));
    assert_int_equal(d.err, PF_EINVAL);
    assert_string_equal(d.code, "bad_json");
    done(&d);
  }
}

/* ---- limits ---- */

/* START with one more member whose value is prefix, len times fill, suffix. */
static void check_limit(const char *prefix, const char *fill, size_t count, const char *suffix,
    size_t max, const char *member) {
  struct pf_buf buf;
  pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
  pf_buf_str(&buf, prefix);
  for (size_t i = 0; i < count; i++)
    pf_buf_str(&buf, fill);
  pf_buf_str(&buf, suffix);
  struct decoded d;
  decode(&d, pf_buf_view(&buf));
  if (count <= max) {
    if (d.err) fail_msg("%zu of %zu: %s", count, max, d.why.text);
  } else {
    if (d.err != PF_ELIMIT) fail_msg("%zu of %zu for %s: %d", count, max, member, d.err);
    assert_string_equal(d.code, "limit");
    assert_non_null(strstr(d.why.text, member));
  }
  done(&d);
  pf_buf_done(&buf);
}

static const struct {
  const char *prefix, *fill, *suffix;
  size_t max; /* times fill */
  const char *member;
} limits[] = {
    {"{\"type\":\"start-fetch\",\"url\":\"http://a/\",\"clientId\":\"", "x", "\"}", WIRE_KEY_MAX,
        "clientId"},
    {"{\"type\":\"start-batch-fetch\",\"url\":\"http://a/\",\"count\":1,\"batchId\":\"", "x", "\"}",
        WIRE_KEY_MAX, "batchId"},
    {"{\"type\":\"start-fetch\",\"url\":\"http://a/", "x", "\"}", WIRE_URL_MAX - 9, "url"},
    {"{\"type\":\"", "x", "\"}", WIRE_NAME_MAX, "type"},
    {START ",\"submitKey\":\"", "x", "\"}", WIRE_KEY_MAX, "submitKey"},
    {START ",\"idempotencyKey\":\"", "x", "\"}", WIRE_KEY_MAX, "idempotencyKey"},
    {START ",\"continuation\":\"", "x", "\"}", WIRE_NAME_MAX, "continuation"},
    {START ",\"context\":\"", "x", "\"}", WIRE_CONTEXT_MAX - 2, "context"},
    {START ",\"method\":\"POST\",\"body\":\"", "x", "\"}", WIRE_REQUEST_BODY_MAX, "body"},
    {START ",\"method\":\"POST\",\"bodyBase64\":\"", "AAAA", "AA==\"}", WIRE_REQUEST_BODY_MAX / 3,
        "bodyBase64"},
    {START ",\"headers\":[[\"a\",\"b\"]", ",[\"a\",\"b\"]", "]}", WIRE_HEADERS_MAX - 1, "headers"},
    {START ",\"headers\":[[\"a\",\"", "x", "\"]]}", WIRE_HEADER_BYTES_MAX - 1, "headers"},
    {START ",\"retry\":{\"statuses\":[200", ",200", "]}}", WIRE_STATUSES_MAX - 1, "retry.statuses"},
    {"{\"type\":\"ping\",\"id\":\"", "x", "\"}", WIRE_PING_ID_MAX - 2, "id"},
};

static void test_limits(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(limits); i++)
    for (size_t over = 0; over < 2; over++)
      check_limit(limits[i].prefix, limits[i].fill, limits[i].max + over, limits[i].suffix,
          limits[i].max, limits[i].member);
}

static void test_numbers_at_their_limits(void **state) {
  (void)state;
  static const char *const fine[] = {START ",\"timeoutMs\":1}", START ",\"timeoutMs\":86400000}",
      START ",\"deadlineMs\":1}", START ",\"deadlineMs\":604800000}",
      START ",\"retry\":{\"attempts\":1}}", START ",\"retry\":{\"attempts\":16}}",
      START ",\"retry\":{\"statuses\":[100,599,\"1xx\",\"5xx\"]}}", START_BATCH ",\"count\":1}",
      START_BATCH ",\"count\":10000}"};
  for (size_t i = 0; i < PF_COUNT(fine); i++) {
    struct decoded d;
    decode(&d, pf_slice_str(fine[i]));
    if (d.err) fail_msg("%s: %s", fine[i], d.why.text);
    done(&d);
  }
}

static void test_too_deep_is_a_limit(void **state) {
  (void)state;
  char text[512] = START ",\"context\":";
  size_t len = strlen(text);
  for (size_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX; depth++) {
    memset(text + len, '[', depth);
    memset(text + len + depth, ']', depth);
    text[len + 2 * depth] = '}';
    struct decoded d;
    decode(&d, pf_slice(text, len + 2 * depth + 1));
    assert_int_equal(d.err, depth == JSON_DEPTH_MAX ? PF_ELIMIT : PF_OK);
    if (d.err) assert_string_equal(d.code, "limit");
    done(&d);
  }
}

static void test_fetch_over_http(void **state) {
  (void)state;
  struct client_fetch fetch;
  struct pf_arena arena;
  struct pf_error why;
  const char *code;
  pf_arena_init(&arena);
  struct pf_slice text =
      pf_slice_str("{\"url\":\"https://a/\",\"clientId\":\"c\",\"context\":1.50}");
  assert_int_equal(client_fetch_decode(&fetch, text, &arena, &code, &why), PF_OK);
  assert_string_equal(fetch.host, "a:443");
  assert_true(pf_slice_is(fetch.id, "c") && pf_slice_is(fetch.context, "1.50"));
  text = pf_slice_str("[\"https://a/\"]");
  assert_int_equal(client_fetch_decode(&fetch, text, &arena, &code, &why), PF_EINVAL);
  assert_string_equal(code, "bad_message");
  text = pf_slice_str("{\"url\":\"a\"}");
  assert_int_equal(client_fetch_decode(&fetch, text, &arena, &code, &why), PF_EINVAL);
  assert_string_equal(code, "bad_url");
  text = pf_slice_str("{\"url\":");
  assert_int_equal(client_fetch_decode(&fetch, text, &arena, &code, &why), PF_EINVAL);
  assert_string_equal(code, "bad_json");
  pf_arena_done(&arena);
}

/* ---- frames ---- */

#define JOB "00000000000000010000000000000002"

static void assert_frame(struct pf_buf *buf, const char *expected) {
  assert_int_equal(buf->err, PF_OK);
  assert_int_equal(json_check(pf_buf_view(buf), NULL), PF_OK);
  pf_buf_append(buf, "", 1);
  assert_string_equal(buf->data, expected);
  pf_buf_clear(buf);
}

static struct client_result plain_result(void) {
  return (struct client_result){.job = {1, 2},
      .client_id = pf_slice_str("c1"),
      .status = 200,
      .response_length = 47,
      .duration_ms = 1.9,
      .attempts = 1,
      .offset = -1,
      .certainty = CERTAINTY_ANSWERED};
}

static void test_small_frames(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 16);
  struct pf_job_id job = {1, 2};
  struct pf_slice id = pf_slice_str("x\"y"), none = {0};
  client_enqueued_encode(&buf, job, id, 0.84);
  assert_frame(&buf,
      "{\"type\":\"enqueued\",\"reqId\":\"" JOB "\",\"clientId\":\"x\\\"y\",\"enqueueTime\":0.84}");
  client_enqueued_encode(&buf, job, none, 0);
  assert_frame(&buf, "{\"type\":\"enqueued\",\"reqId\":\"" JOB "\",\"enqueueTime\":0}");
  client_batch_started_encode(&buf, pf_slice_str("b"), 1000);
  assert_frame(&buf, "{\"type\":\"batch-started\",\"batchId\":\"b\",\"count\":1000}");
  client_batch_complete_encode(&buf, pf_slice_str("b"), 1000, 999, -1);
  assert_frame(
      &buf, "{\"type\":\"batch-complete\",\"batchId\":\"b\",\"count\":1000,\"successCount\":999}");
  client_batch_complete_encode(&buf, pf_slice_str("b"), 1, 1, 5);
  assert_frame(&buf, "{\"type\":\"batch-complete\",\"batchId\":\"b\",\"count\":1,\"successCount\":"
                     "1,\"offset\":5}");
  client_error_encode(&buf, "bad_url", pf_slice_str("no"), id, none);
  assert_frame(
      &buf, "{\"type\":\"error\",\"error\":\"no\",\"code\":\"bad_url\",\"clientId\":\"x\\\"y\"}");
  client_error_encode(&buf, "limit", pf_slice_str("no"), none, pf_slice_str("b"));
  assert_frame(&buf, "{\"type\":\"error\",\"error\":\"no\",\"code\":\"limit\",\"batchId\":\"b\"}");
  client_session_encode(&buf, pf_slice_str("s"), 9, 3, 2);
  assert_frame(
      &buf, "{\"type\":\"session\",\"session\":\"s\",\"offset\":9,\"oldest\":3,\"pending\":2}");
  client_gap_encode(&buf, 3, 7);
  assert_frame(&buf, "{\"type\":\"gap\",\"from\":3,\"to\":7}");
  client_pong_encode(&buf, pf_slice_str("[1]"));
  assert_frame(&buf, "{\"type\":\"pong\",\"id\":[1]}");
  client_pong_encode(&buf, none);
  assert_frame(&buf, "{\"type\":\"pong\"}");
  client_waiting_encode(&buf, job, "no-executor");
  assert_frame(&buf, "{\"type\":\"waiting\",\"reqId\":\"" JOB "\",\"reason\":\"no-executor\"}");
  pf_buf_done(&buf);
}

static void test_result_for_a_plain_client(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 16);
  struct client_result result = plain_result();
  client_result_encode(&buf, &result);
  assert_frame(&buf,
      "{\"type\":\"result\",\"reqId\":\"" JOB "\",\"clientId\":\"c1\",\"success\":true,"
      "\"status\":200,\"responseLength\":47,\"duration\":1.9}");
  result.outcome = OUTCOME_CONNECT_FAILED;
  result.certainty = CERTAINTY_NOT_SENT;
  result.status = 0;
  result.attempts = 4;
  client_result_encode(&buf, &result);
  assert_frame(&buf,
      "{\"type\":\"result\",\"reqId\":\"" JOB "\",\"clientId\":\"c1\",\"success\":false,"
      "\"error\":\"the target refused the connection\",\"duration\":1.9,"
      "\"code\":\"connect_failed\",\"certainty\":\"not_sent\",\"owner\":\"target\","
      "\"attempts\":4}");
  pf_buf_done(&buf);
}

static void test_result_with_everything(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 16);
  struct wire_header headers[] = {{pf_slice_str("a"), pf_slice_str("b")}};
  struct client_result result = plain_result();
  result.include = 15;
  result.headers = headers;
  result.header_count = 1;
  result.has_body = true;
  result.body = pf_slice_str("h\xc3\xa9");
  result.logs = pf_slice_str("[\"l\"]");
  result.timings = (struct client_timings){0.5, 1, 2, -1, -1, -1, -1, 3, 4, 5, 6, 21.5};
  result.offset = 7;
  result.late = true;
  client_result_encode(&buf, &result);
  assert_frame(&buf,
      "{\"type\":\"late-result\",\"reqId\":\"" JOB "\",\"clientId\":\"c1\",\"success\":true,"
      "\"status\":200,\"responseLength\":47,\"duration\":1.9,\"offset\":7,"
      "\"timings\":{\"commit\":0.5,\"enqueue\":1,\"queue\":2,\"ttfb\":3,\"transfer\":4,"
      "\"callback\":5,\"continuation\":6,\"total\":21.5},\"logs\":[\"l\"],"
      "\"headers\":[[\"a\",\"b\"]],\"body\":\"h\xc3\xa9\"}");
  result.include = WIRE_INCLUDE_BODY;
  result.offset = -1;
  result.late = false;
  result.body = pf_slice("\xff\0", 2);
  client_result_encode(&buf, &result);
  assert_frame(&buf,
      "{\"type\":\"result\",\"reqId\":\"" JOB "\",\"clientId\":\"c1\",\"success\":true,"
      "\"status\":200,\"responseLength\":47,\"duration\":1.9,\"bodyBase64\":\"/wA=\"}");
  result.has_body = false;
  result.client_id = (struct pf_slice){0};
  client_result_encode(&buf, &result);
  assert_frame(&buf, "{\"type\":\"result\",\"reqId\":\"" JOB "\",\"success\":true,\"status\":200,"
                     "\"responseLength\":47,\"duration\":1.9}");
  pf_buf_done(&buf);
}

/* A body is inlined while the frame stays within its limit, to the byte, and is a URL from there
 * on. */
static void test_body_at_the_frame_limit(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, (size_t)4 << 20);
  char *body = malloc(WIRE_FRAME_MAX);
  assert_non_null(body);
  for (int binary = 0; binary < 2; binary++) {
    memset(body, binary ? 0xff : 'x', WIRE_FRAME_MAX);
    struct client_result result = plain_result();
    result.include = WIRE_INCLUDE_BODY;
    result.has_body = true;
    result.body = pf_slice(body, 0);
    size_t inlined = 0;
    size_t low = binary ? 780000 : 1048000, high = WIRE_FRAME_MAX; /* low fits, high does not */
    while (low + 1 < high) {
      result.body.len = (low + high) / 2;
      pf_buf_clear(&buf);
      pf_buf_str(&buf, "what was in the buffer before does not count");
      size_t before = buf.len;
      client_result_encode(&buf, &result);
      struct pf_slice frame = pf_slice(buf.data + before, buf.len - before), value;
      assert_true(frame.len <= WIRE_FRAME_MAX);
      if (json_raw(frame, "bodyUrl", &value)) {
        assert_true(pf_slice_is(value, "\"/v1/jobs/" JOB "/body\""));
        high = result.body.len;
      } else {
        inlined = frame.len;
        low = result.body.len;
      }
    }
    assert_in_range(inlined, WIRE_FRAME_MAX - (binary ? 3 : 0), WIRE_FRAME_MAX);
  }
  free(body);
  pf_buf_done(&buf);
}

/* ---- random messages: what is written is what is read ---- */

static void put_some_members(struct json_writer *w, struct pf_rand *r, struct client_fetch *f) {
  static const char *const redirects[] = {"follow", "manual", "error"};
  if (pf_rand_below(r, 2)) {
    f->attempt_ms = 1 + (int64_t)pf_rand_below(r, WIRE_ATTEMPT_MS_MAX);
    json_put_int(w, "timeoutMs", f->attempt_ms);
  }
  if (pf_rand_below(r, 2)) {
    f->deadline_ms = 1 + (int64_t)pf_rand_below(r, WIRE_DEADLINE_MS_MAX);
    json_put_int(w, "deadlineMs", f->deadline_ms);
  }
  if (pf_rand_below(r, 2)) {
    f->request.redirect = (enum wire_redirect)pf_rand_below(r, 3);
    json_put_text(w, "redirect", redirects[f->request.redirect]);
  }
  if (pf_rand_below(r, 2)) {
    f->retry.attempts = 1 + (int)pf_rand_below(r, WIRE_ATTEMPTS_MAX);
    f->retry.status_count = pf_rand_below(r, WIRE_STATUSES_MAX + 1);
    json_begin_object(w, "retry");
    json_put_int(w, "attempts", f->retry.attempts);
    json_begin_array(w, "statuses");
    for (size_t i = 0; i < f->retry.status_count; i++) {
      f->retry.statuses[i] = (uint16_t)(100 + pf_rand_below(r, 500));
      json_put_int(w, NULL, f->retry.statuses[i]);
    }
    json_end_array(w);
    json_end_object(w);
  }
}

static void test_random_fetches(void **state) {
  (void)state;
  struct pf_rand r = {9};
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 20);
  for (int i = 0; i < 10000; i++) {
    struct client_fetch in = {.retry.attempts = WIRE_ATTEMPTS_DEFAULT,
        .attempt_ms = WIRE_ATTEMPT_MS_DEFAULT,
        .deadline_ms = WIRE_DEADLINE_MS_DEFAULT};
    char body[40], id[20];
    size_t body_len = pf_rand_below(&r, sizeof(body) + 1), id_len = 1 + pf_rand_below(&r, 20);
    for (size_t k = 0; k < body_len; k++)
      body[k] = (char)pf_rand_u64(&r);
    for (size_t k = 0; k < id_len; k++)
      id[k] = (char)(1 + pf_rand_below(&r, 126));
    pf_buf_clear(&buf);
    struct json_writer w = json_writer(&buf);
    json_begin_object(&w, NULL);
    json_put_text(&w, "type", "start-fetch");
    json_put_text(&w, "url", "http://a/");
    json_put_text(&w, "method", "PUT");
    json_put_string(&w, "clientId", pf_slice(id, id_len));
    json_put_base64(&w, "bodyBase64", pf_slice(body, body_len));
    put_some_members(&w, &r, &in);
    json_end_object(&w);
    struct decoded d;
    decode(&d, pf_buf_view(&buf));
    const struct client_fetch *out = &d.message.fetch;
    if (d.err) fail_msg("%s", d.why.text);
    assert_true(pf_slice_eq(out->id, pf_slice(id, id_len)));
    assert_true(pf_slice_eq(out->request.body, pf_slice(body, body_len)));
    assert_true(in.attempt_ms == out->attempt_ms && in.deadline_ms == out->deadline_ms &&
                in.request.redirect == out->request.redirect &&
                in.retry.attempts == out->retry.attempts &&
                in.retry.status_count == out->retry.status_count);
    assert_memory_equal(
        in.retry.statuses, out->retry.statuses, in.retry.status_count * sizeof(uint16_t));
    done(&d);
  }
  pf_buf_done(&buf);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_plainest_fetch),
      cmocka_unit_test(test_all_members_of_a_fetch),
      cmocka_unit_test(test_headers_as_object),
      cmocka_unit_test(test_batch),
      cmocka_unit_test(test_session_messages),
      cmocka_unit_test(test_absent_and_empty_ids),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_refused_messages_keep_their_ids),
      cmocka_unit_test(test_every_prefix_is_refused),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_numbers_at_their_limits),
      cmocka_unit_test(test_too_deep_is_a_limit),
      cmocka_unit_test(test_fetch_over_http),
      cmocka_unit_test(test_small_frames),
      cmocka_unit_test(test_result_for_a_plain_client),
      cmocka_unit_test(test_result_with_everything),
      cmocka_unit_test(test_body_at_the_frame_limit),
      cmocka_unit_test(test_random_fetches),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
