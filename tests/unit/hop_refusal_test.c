/* The messages between the processes: what the decoders refuse, and the limits. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "hop_tests.h"
#include "wire/hop.h"
#include "wire/json.h"

static int decode_jobs_head(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_jobs_head_decode(&(struct hop_jobs_head){0}, text, NULL);
}
static int decode_job(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_job_decode(&(struct hop_job){0}, text, NULL);
}
static int decode_job_reply(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_job_reply_decode(&(struct hop_job_reply){0}, text);
}
static int decode_jobs_reply_head(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_jobs_reply_head_decode(&(struct hop_jobs_reply_head){0}, text);
}
static int decode_execute_head(struct pf_slice text, struct pf_arena *arena) {
  return hop_execute_head_decode(&(struct hop_execute_head){0}, text, arena, NULL);
}
static int decode_execute(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_execute_decode(&(struct hop_execute){0}, text, NULL);
}
static int decode_heartbeat(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_heartbeat_decode(&(struct hop_heartbeat){0}, text, NULL);
}
static int decode_held(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_held_decode(&(struct hop_held){0}, text, NULL);
}
static int decode_complete(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_complete_decode(&(struct hop_complete){0}, text, NULL);
}
static int decode_results_head(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_results_head_decode(&(struct hop_results_head){0}, text);
}
static int decode_result(struct pf_slice text, struct pf_arena *arena) {
  return hop_result_decode(&(struct hop_result){0}, text, arena, NULL);
}
static int decode_results_reply_head(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_results_reply_head_decode(&(struct hop_results_reply_head){0}, text);
}
static int decode_status(struct pf_slice text, struct pf_arena *arena) {
  (void)arena;
  return hop_status_decode(&(struct pf_job_id){0}, text);
}

#define HEX16 "\"00000000000000ab\""
#define HEX32 "\"00000000000000ab00000000000000cd\""
#define HEX64 "\"00000000000000ab00000000000000cd00000000000000ef0000000000000001\""

typedef int decode_fn(struct pf_slice text, struct pf_arena *arena);

struct message {
  const char *text;     /* every member once */
  const char *optional; /* their names, each with a space on both sides */
  decode_fn *decode;
};

static const struct message messages[] = {
    {"{\"origin\":" HEX16 ",\"originEpoch\":" HEX16 ",\"url\":\"http://h:1\",\"low\":" HEX16 "}",
        "", decode_jobs_head},
    {"{\"job\":" HEX32 ",\"end\":false,\"capability\":" HEX64
     ",\"host\":\"h:80\",\"repeatable\":true,"
     "\"attempts\":4,\"statuses\":[429,\"5xx\"],\"deadlineMs\":1,\"queueMs\":2,\"attemptMs\":3,"
     "\"firstEpoch\":" HEX16 "}",
        " end statuses firstEpoch ", decode_job},
    {"{\"answer\":\"known\",\"noExecutor\":true}", " noExecutor ", decode_job_reply},
    {"{\"epoch\":" HEX16 "}", "", decode_jobs_reply_head},
    {"{\"queueEpoch\":" HEX16 ",\"incarnation\":" HEX16 ",\"origins\":{" HEX16 ":{\"epoch\":" HEX16
     ",\"url\":\"http://h:1\"}}}",
        "", decode_execute_head},
    {"{\"job\":" HEX32 ",\"fence\":" HEX32 ",\"attempt\":1,\"last\":true,\"repeatable\":true,"
     "\"capability\":" HEX64 ",\"statuses\":[\"5xx\"],"
     "\"timers\":{\"attemptMs\":1,\"deadlineMs\":2,\"queueMs\":0.5}}",
        " last repeatable statuses ", decode_execute},
    {"{\"executor\":" HEX16 ",\"incarnation\":" HEX16
     ",\"url\":\"http://h:1\",\"slots\":8,\"free\":4,"
     "\"leaving\":true}",
        " leaving ", decode_heartbeat},
    {"{\"job\":" HEX32 ",\"fence\":" HEX32 "}", "", decode_held},
    {"{\"job\":" HEX32 ",\"fence\":" HEX32 ",\"outcome\":\"delivered\",\"code\":\"reset\","
     "\"certainty\":\"sent_unknown\",\"retryAfterMs\":5,\"detail\":\"d\"}",
        " code certainty retryAfterMs detail ", decode_complete},
    {"{\"to\":" HEX16 "}", "", decode_results_head},
    {"{\"job\":" HEX32 ",\"fence\":" HEX32 ",\"attempt\":1,\"capability\":" HEX64
     ",\"code\":\"ok\",\"certainty\":\"answered\",\"status\":200,\"error\":\"e\","
     "\"responseLength\":47,"
     "\"headers\":[[\"a\",\"b\"]],\"hasBody\":true,\"reused\":true,"
     "\"timings\":{\"queue\":1,\"dispatch\":2,\"dns\":3,\"connect\":4,\"tls\":5,\"ttfb\":6,"
     "\"transfer\":7}}",
        " code error responseLength headers hasBody reused timings ", decode_result},
    {"{\"origin\":" HEX16 ",\"originEpoch\":" HEX16 "}", "", decode_results_reply_head},
    {"{\"job\":" HEX32 "}", "", decode_status},
};

/* The members of a text, as exact slices of it. */
struct member {
  struct pf_slice name, value;
};

static size_t members_of(const char *text, struct json *root, struct member *members) {
  size_t count = 0;
  for (const struct json *it = json_first(root); it; it = json_next(it)) {
    members[count].name = json_name(it);
    assert_true(json_raw(pf_slice_str(text), json_name(it).data, &members[count++].value));
  }
  return count;
}

static void put_member(struct json_writer *w, const struct member *member) {
  json_put_raw(w, member->name.data, member->value);
}

static bool is_optional(const struct message *message, struct pf_slice name) {
  char spaced[64] = " ";
  memcpy(spaced + 1, name.data, name.len);
  spaced[name.len + 1] = ' ';
  return strstr(message->optional, spaced) != NULL;
}

static int decode(const struct message *message, struct pf_slice text) {
  char *exact = malloc(text.len ? text.len : 1);
  assert_non_null(exact);
  memcpy(exact, text.data, text.len);
  struct pf_arena arena;
  pf_arena_init(&arena);
  int err = message->decode(pf_slice(exact, text.len), &arena);
  pf_arena_done(&arena);
  free(exact);
  return err;
}

static void check_members(const struct message *message) {
  struct json *root;
  struct member m[32];
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 16);
  assert_int_equal(json_parse(&root, pf_slice_str(message->text), NULL), PF_OK);
  size_t count = members_of(message->text, root, m);
  for (size_t i = 0; i < count; i++) {
    for (int variant = 0; variant < 3; variant++) { /* without, twice, as null */
      pf_buf_clear(&buf);
      struct json_writer w = json_writer(&buf);
      json_begin_object(&w, NULL);
      for (size_t k = 0; k < count; k++)
        if (k != i) put_member(&w, &m[k]);
      for (int times = 0; variant == 1 && times < 2; times++)
        put_member(&w, &m[i]);
      if (variant == 2) json_put_null(&w, m[i].name.data);
      json_end_object(&w);
      bool fine = variant == 0 && is_optional(message, m[i].name);
      int err = decode(message, pf_buf_view(&buf));
      if (err != (fine ? PF_OK : PF_EINVAL)) fail_msg("%d for %.*s", err, (int)buf.len, buf.data);
    }
  }
  /* In reverse order, among members that a later version may bring. */
  pf_buf_clear(&buf);
  struct json_writer w = json_writer(&buf);
  json_begin_object(&w, NULL);
  json_put_raw(&w, "later", pf_slice_str("{\"x\":[1,{\"job\":2}],\"x\":\"\\u00e9\"}"));
  for (size_t k = count; k-- > 0;)
    put_member(&w, &m[k]);
  json_put_null(&w, "more");
  json_end_object(&w);
  assert_int_equal(decode(message, pf_buf_view(&buf)), PF_OK);
  json_free(root);
  pf_buf_done(&buf);
}

static void test_members_missing_twice_unknown(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(messages); i++)
    check_members(&messages[i]);
}

/* No true prefix is a message, nor is one with something behind it, nor a byte of it changed to one
 * that JSON does not know there. */
static void test_damaged_texts(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(messages); i++) {
    const struct message *message = &messages[i];
    size_t len = strlen(message->text);
    char copy[1024];
    assert_true(len + 1 < sizeof(copy));
    assert_int_equal(decode(message, pf_slice(message->text, len)), PF_OK);
    for (size_t cut = 0; cut < len; cut++)
      assert_int_equal(decode(message, pf_slice(message->text, cut)), PF_EINVAL);
    memcpy(copy, message->text, len);
    copy[len] = 'x';
    assert_int_equal(decode(message, pf_slice(copy, len + 1)), PF_EINVAL);
    copy[len] = ' ';
    assert_int_equal(decode(message, pf_slice(copy, len + 1)), PF_OK);
    for (size_t at = 0; at < len; at++) {
      memcpy(copy, message->text, len);
      copy[at] = '\x01';
      assert_int_equal(decode(message, pf_slice(copy, len)), PF_EINVAL);
    }
  }
}

/* ---- ranges: the largest and smallest that are taken, and the next ones, that are not ---- */

static const struct {
  decode_fn *decode;
  const char *member, *value;
  int err;
} ranges[] = {
    {decode_job, "attempts", "1", PF_OK},
    {decode_job, "attempts", "0", PF_EINVAL},
    {decode_job, "attempts", "16", PF_OK},
    {decode_job, "attempts", "17", PF_EINVAL},
    {decode_job, "attempts", "1.0", PF_EINVAL},
    {decode_job, "attempts", "\"1\"", PF_EINVAL},
    {decode_job, "deadlineMs", "0", PF_OK},
    {decode_job, "deadlineMs", "-1", PF_EINVAL},
    {decode_job, "deadlineMs", "604800000", PF_OK},
    {decode_job, "deadlineMs", "604800001", PF_EINVAL},
    {decode_job, "queueMs", "604800000", PF_OK},
    {decode_job, "queueMs", "604800001", PF_EINVAL},
    {decode_job, "attemptMs", "86400000", PF_OK},
    {decode_job, "attemptMs", "86400001", PF_EINVAL},
    {decode_job, "attemptMs", "0", PF_EINVAL},
    {decode_job, "attemptMs", "1", PF_OK},
    {decode_job, "statuses", "[]", PF_OK},
    {decode_job, "statuses", "[100,599]", PF_OK},
    {decode_job, "statuses", "[99]", PF_EINVAL},
    {decode_job, "statuses", "[600]", PF_EINVAL},
    {decode_job, "statuses", "[\"1xx\",\"5XX\"]", PF_OK},
    {decode_job, "statuses", "[\"0xx\"]", PF_EINVAL},
    {decode_job, "statuses", "[\"6xx\"]", PF_EINVAL},
    {decode_job, "statuses", "[\"5xxx\"]", PF_EINVAL},
    {decode_job, "statuses", "[5]", PF_EINVAL},
    {decode_job, "statuses", "[1e2]", PF_EINVAL},
    {decode_job, "statuses", "429", PF_EINVAL},
    {decode_job, "statuses", "[1,,2]", PF_EINVAL},
    {decode_job, "statuses", "[200,200,200,200,200,200,200,200,200,200,200,200,200,200,200,200]",
        PF_OK},
    {decode_job, "statuses",
        "[200,200,200,200,200,200,200,200,200,200,200,200,200,200,200,200,200]", PF_ELIMIT},
    {decode_job, "job", "\"0\"", PF_EINVAL},
    {decode_job, "job", "\"0000000000000000000000000000000g\"", PF_EINVAL},
    {decode_job, "job", "1", PF_EINVAL},
    {decode_job, "capability", HEX32, PF_EINVAL},
    {decode_job, "firstEpoch", HEX32, PF_EINVAL},
    {decode_job, "repeatable", "1", PF_EINVAL},
    {decode_job, "repeatable", "truth", PF_EINVAL},
    {decode_job, "host", "1", PF_EINVAL},
    {decode_job_reply, "answer", "\"maybe\"", PF_EINVAL},
    {decode_job_reply, "answer", "\"refused\"", PF_OK},
    {decode_execute, "attempt", "0", PF_EINVAL},
    {decode_execute, "attempt", "1000000", PF_OK},
    {decode_execute, "attempt", "1000001", PF_EINVAL},
    {decode_execute, "timers", "{}", PF_EINVAL},
    {decode_execute, "timers", "[]", PF_EINVAL},
    {decode_execute, "timers", "{\"attemptMs\":0,\"deadlineMs\":0}", PF_OK},
    {decode_execute, "timers", "{\"attemptMs\":86400001,\"deadlineMs\":0}", PF_EINVAL},
    {decode_execute, "timers", "{\"attemptMs\":0,\"deadlineMs\":0,\"queueMs\":-1}", PF_EINVAL},
    {decode_execute, "timers", "{\"attemptMs\":0,\"deadlineMs\":0,\"queueMs\":1e999}", PF_EINVAL},
    {decode_execute_head, "origins", "{}", PF_OK},
    {decode_execute_head, "origins", "[]", PF_EINVAL},
    {decode_execute_head, "origins", "{\"1\":{\"epoch\":" HEX16 ",\"url\":\"\"}}", PF_EINVAL},
    {decode_execute_head, "origins", "{" HEX16 ":{\"epoch\":" HEX16 "}}", PF_EINVAL},
    {decode_heartbeat, "slots", "1000000", PF_OK},
    {decode_heartbeat, "slots", "1000001", PF_EINVAL},
    {decode_heartbeat, "free", "-1", PF_EINVAL},
    {decode_heartbeat, "free", "1000000", PF_OK},
    {decode_heartbeat, "free", "1000001", PF_EINVAL},
    {decode_complete, "outcome", "\"retry\"", PF_OK},
    {decode_complete, "outcome", "\"undelivered\"", PF_OK},
    {decode_complete, "outcome", "\"perhaps\"", PF_EINVAL},
    {decode_complete, "code", "\"no_such_code\"", PF_EINVAL},
    {decode_complete, "certainty", "\"sure\"", PF_EINVAL},
    {decode_complete, "retryAfterMs", "604800000", PF_OK},
    {decode_complete, "retryAfterMs", "604800001", PF_EINVAL},
    {decode_result, "status", "99", PF_EINVAL},
    {decode_result, "status", "100", PF_OK},
    {decode_result, "status", "999", PF_OK},
    {decode_result, "status", "1000", PF_EINVAL},
    {decode_result, "attempt", "-1", PF_EINVAL},
    {decode_result, "attempt", "1000000", PF_OK},
    {decode_result, "attempt", "1000001", PF_EINVAL},
    {decode_result, "responseLength", "9007199254740992", PF_OK},
    {decode_result, "responseLength", "9007199254740993", PF_EINVAL},
    {decode_result, "responseLength", "-1", PF_EINVAL},
    {decode_result, "headers", "[]", PF_OK},
    {decode_result, "headers", "{}", PF_EINVAL},
    {decode_result, "headers", "[[\"a\"]]", PF_EINVAL},
    {decode_result, "headers", "[[]]", PF_EINVAL},
    {decode_result, "headers", "[[\"a\",\"b\",\"c\"]]", PF_EINVAL},
    {decode_result, "headers", "[[\"a\",1]]", PF_EINVAL},
    {decode_result, "headers", "[\"a\",\"b\"]", PF_EINVAL},
    {decode_result, "timings", "{\"dns\":0}", PF_OK},
    {decode_result, "timings", "{\"dns\":-0.001}", PF_EINVAL},
    {decode_result, "timings", "{\"dns\":null}", PF_EINVAL},
    {decode_result, "timings", "{\"dns\":1,\"dns\":1}", PF_EINVAL},
};

static const struct message *message_of(decode_fn *decode_one) {
  for (size_t i = 0; i < PF_COUNT(messages); i++)
    if (messages[i].decode == decode_one) return &messages[i];
  fail_msg("no such message");
  return NULL;
}

/* Decodes the message with one member's value replaced. */
static int decode_with(const struct message *message, const char *name, struct pf_slice value) {
  struct json *root;
  struct member m[32];
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 20);
  assert_int_equal(json_parse(&root, pf_slice_str(message->text), NULL), PF_OK);
  size_t count = members_of(message->text, root, m), replaced = 0;
  struct json_writer w = json_writer(&buf);
  json_begin_object(&w, NULL);
  for (size_t k = 0; k < count; k++) {
    bool this_one = pf_slice_is(m[k].name, name);
    replaced += this_one;
    json_put_raw(&w, m[k].name.data, this_one ? value : m[k].value);
  }
  json_end_object(&w);
  assert_int_equal(replaced, 1);
  int err = decode(message, pf_buf_view(&buf));
  json_free(root);
  pf_buf_done(&buf);
  return err;
}

static void test_ranges(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(ranges); i++) {
    int err =
        decode_with(message_of(ranges[i].decode), ranges[i].member, pf_slice_str(ranges[i].value));
    if (err != ranges[i].err) fail_msg("%d for %s: %s", err, ranges[i].member, ranges[i].value);
  }
}

static void check_length(decode_fn *decode_one, const char *member, size_t max) {
  struct pf_buf value;
  pf_buf_init(&value, 1 << 20);
  for (size_t len = max; len <= max + 1; len++) {
    for (int escaped = 0; escaped < 2; escaped++) { /* the limit counts what the text means */
      pf_buf_clear(&value);
      pf_buf_str(&value, "\"");
      for (size_t i = 0; i < len; i++)
        pf_buf_str(&value, escaped ? "\\u0061" : "a");
      pf_buf_str(&value, "\"");
      assert_int_equal(decode_with(message_of(decode_one), member, pf_buf_view(&value)),
          len > max ? PF_ELIMIT : PF_OK);
    }
  }
  pf_buf_done(&value);
}

static void test_lengths_at_limit(void **state) {
  (void)state;
  check_length(decode_jobs_head, "url", HOP_URL_MAX - 1);
  check_length(decode_job, "host", WIRE_HOST_MAX - 1);
  check_length(decode_heartbeat, "url", HOP_URL_MAX - 1);
  check_length(decode_result, "error", HOP_ERROR_MAX);
  struct pf_buf value;
  pf_buf_init(&value, 1 << 20);
  for (size_t count = HOP_HEADERS_MAX; count <= HOP_HEADERS_MAX + 1; count++) {
    pf_buf_clear(&value);
    pf_buf_str(&value, "[[\"a\",\"b\"]");
    for (size_t i = 1; i < count; i++)
      pf_buf_str(&value, ",[\"a\",\"b\"]");
    pf_buf_str(&value, "]");
    assert_int_equal(decode_with(message_of(decode_result), "headers", pf_buf_view(&value)),
        count > HOP_HEADERS_MAX ? PF_ELIMIT : PF_OK);
  }
  pf_buf_done(&value);
}

static void test_rules_between_members(void **state) {
  (void)state;
  static const char retry_without_code[] =
      "{\"job\":" HEX32 ",\"fence\":" HEX32 ",\"outcome\":\"retry\"}";
  static const char end_only[] = "{\"end\":true,\"job\":" HEX32 "}";
  static const char end_false[] = "{\"end\":false,\"job\":" HEX32 "}";
  static const char end_without_job[] = "{\"end\":true}";
  struct pf_error why;
  assert_int_equal(
      hop_complete_decode(&(struct hop_complete){0}, pf_slice_str(retry_without_code), &why),
      PF_EINVAL);
  assert_non_null(strstr(why.text, "code"));
  assert_int_equal(decode_job(pf_slice_str(end_only), NULL), PF_OK);
  assert_int_equal(decode_job(pf_slice_str(end_false), NULL), PF_EINVAL);
  assert_int_equal(decode_job(pf_slice_str(end_without_job), NULL), PF_EINVAL);
  /* A result without status is fine if it says why. */
  struct pf_slice text =
      pf_slice_str("{\"job\":" HEX32 ",\"fence\":" HEX32 ",\"attempt\":1,\"capability\":" HEX64
                   ",\"code\":\"reset\",\"certainty\":\"sent_unknown\"}");
  struct hop_result result;
  struct pf_arena arena;
  pf_arena_init(&arena);
  assert_int_equal(hop_result_decode(&result, text, &arena, &why), PF_OK);
  assert_true(result.timings.dns < 0 && result.timings.queue < 0); /* not measured */
  pf_arena_done(&arena);
}

int hop_refusal_tests(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_members_missing_twice_unknown),
      cmocka_unit_test(test_damaged_texts),
      cmocka_unit_test(test_ranges),
      cmocka_unit_test(test_lengths_at_limit),
      cmocka_unit_test(test_rules_between_members),
  };
  return cmocka_run_group_tests_name("hop_refusal", tests, NULL, NULL);
}
