#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "wire/hop.h"
#include "wire/json.h"

enum { ROUNDS = 10000 };

/* ---- random values ---- */

static struct pf_rand rng(void) {
  return (struct pf_rand){20}; /* each test the same sequence */
}

static int64_t some_int(struct pf_rand *r, int64_t min, int64_t max) {
  switch (pf_rand_below(r, 4)) {
  case 0:
    return min;
  case 1:
    return max;
  default:
    return min + (int64_t)pf_rand_below(r, (uint64_t)(max - min) + 1);
  }
}

static bool some_bool(struct pf_rand *r) {
  return pf_rand_below(r, 2);
}

/* A time that three decimals can say, or none. */
static double some_ms(struct pf_rand *r) {
  return some_bool(r) ? -1 : (double)pf_rand_below(r, 100000000) / 1000;
}

static struct pf_job_id some_job(struct pf_rand *r) {
  return (struct pf_job_id){pf_rand_u64(r), pf_rand_u64(r)};
}

static struct pf_fence some_fence(struct pf_rand *r) {
  return (struct pf_fence){pf_rand_u64(r), some_bool(r) ? pf_rand_u64(r) : 0};
}

static struct capability some_capability(struct pf_rand *r) {
  struct capability capability;
  for (size_t i = 0; i < sizeof(capability.bytes); i++)
    capability.bytes[i] = (unsigned char)pf_rand_u64(r);
  return capability;
}

/* Letters that need escapes among those that do not; 1 to max bytes. */
static size_t some_text(struct pf_rand *r, char *out, size_t max) {
  static const char letters[] = "abc:/.-_ \"\\\t\n\x01\x7f";
  size_t len = 1 + pf_rand_below(r, max);
  for (size_t i = 0; i < len; i++)
    out[i] = letters[pf_rand_below(r, sizeof(letters) - 1)];
  return len;
}

static void some_chars(struct pf_rand *r, char *out, size_t size) {
  out[some_text(r, out, some_bool(r) ? 20 : size - 1)] = '\0';
}

static struct pf_slice some_slice(struct pf_rand *r, struct pf_arena *arena, size_t max) {
  char *text = pf_arena_alloc(arena, max + 1);
  return pf_slice(text, some_text(r, text, max));
}

static void some_statuses(struct pf_rand *r, struct wire_retry *retry) {
  retry->status_count = (size_t)some_int(r, 0, WIRE_STATUSES_MAX);
  for (size_t i = 0; i < retry->status_count; i++)
    retry->statuses[i] = (uint16_t)(some_bool(r) ? some_int(r, 1, 5) : some_int(r, 100, 599));
}

static void assert_statuses_equal(const struct wire_retry *a, const struct wire_retry *b) {
  assert_int_equal(a->status_count, b->status_count);
  assert_memory_equal(a->statuses, b->statuses, a->status_count * sizeof(a->statuses[0]));
}

/* One buffer and arena that lives as long as its test. */
struct bench {
  struct pf_rand r;
  struct pf_buf buf;
  struct pf_arena arena;
};

static void bench_open(struct bench *b) {
  b->r = rng();
  pf_buf_init(&b->buf, (size_t)4 << 20);
  pf_arena_init(&b->arena);
}

static void bench_next(struct bench *b) {
  pf_buf_clear(&b->buf);
  pf_arena_clear(&b->arena);
}

static void bench_close(struct bench *b) {
  pf_buf_done(&b->buf);
  pf_arena_done(&b->arena);
}

/* What was encoded is JSON that the guard accepts. */
static struct pf_slice encoded(struct bench *b) {
  struct pf_error why;
  assert_int_equal(b->buf.err, PF_OK);
  if (json_check(pf_buf_view(&b->buf), &why)) fail_msg("%s", why.text);
  return pf_buf_view(&b->buf);
}

/* ---- round trips ---- */

static void test_jobs_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  for (int i = 0; i < ROUNDS; i++) {
    bench_next(&b);
    struct hop_jobs_head in = {.origin = pf_rand_u64(&b.r),
                             .origin_epoch = pf_rand_u64(&b.r),
                             .low = pf_rand_u64(&b.r)},
                         out;
    some_chars(&b.r, in.url, sizeof(in.url));
    hop_jobs_head_encode(&b.buf, &in);
    assert_int_equal(hop_jobs_head_decode(&out, encoded(&b), NULL), PF_OK);
    assert_true(in.origin == out.origin && in.origin_epoch == out.origin_epoch);
    assert_true(in.low == out.low);
    assert_string_equal(in.url, out.url);
  }
  bench_close(&b);
}

static void test_job_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  for (int i = 0; i < ROUNDS; i++) {
    bench_next(&b);
    struct hop_job in = {.job = some_job(&b.r), .end = pf_rand_below(&b.r, 8) == 0}, out;
    if (!in.end) {
      in.capability = some_capability(&b.r);
      some_chars(&b.r, in.host, sizeof(in.host));
      in.repeatable = some_bool(&b.r);
      in.retry.attempts = (int)some_int(&b.r, 1, WIRE_ATTEMPTS_MAX);
      some_statuses(&b.r, &in.retry);
      in.deadline_ms = some_int(&b.r, 0, WIRE_DEADLINE_MS_MAX);
      in.queue_ms = some_int(&b.r, 0, WIRE_DEADLINE_MS_MAX);
      in.attempt_ms = some_int(&b.r, 1, WIRE_ATTEMPT_MS_MAX);
      in.first_epoch = some_bool(&b.r) ? pf_rand_u64(&b.r) : 0;
    }
    hop_job_encode(&b.buf, &in);
    assert_int_equal(hop_job_decode(&out, encoded(&b), NULL), PF_OK);
    assert_true(pf_job_id_eq(in.job, out.job));
    assert_memory_equal(&in.capability, &out.capability, sizeof(in.capability));
    assert_string_equal(in.host, out.host);
    assert_statuses_equal(&in.retry, &out.retry);
    assert_true(in.end == out.end && in.repeatable == out.repeatable &&
                in.retry.attempts == out.retry.attempts && in.deadline_ms == out.deadline_ms &&
                in.queue_ms == out.queue_ms && in.attempt_ms == out.attempt_ms &&
                in.first_epoch == out.first_epoch);
  }
  bench_close(&b);
}

static void test_replies_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  for (int i = 0; i < ROUNDS; i++) {
    bench_next(&b);
    struct hop_job_reply reply = {.answer = (enum hop_job_answer)pf_rand_below(&b.r, 6),
                             .no_executor = some_bool(&b.r)},
                         reply_out;
    hop_job_reply_encode(&b.buf, &reply);
    assert_int_equal(hop_job_reply_decode(&reply_out, encoded(&b)), PF_OK);
    assert_true(reply.answer == reply_out.answer && reply.no_executor == reply_out.no_executor);

    bench_next(&b);
    struct hop_jobs_reply_head head = {pf_rand_u64(&b.r)}, head_out;
    hop_jobs_reply_head_encode(&b.buf, &head);
    assert_int_equal(hop_jobs_reply_head_decode(&head_out, encoded(&b)), PF_OK);
    assert_true(head.epoch == head_out.epoch);

    bench_next(&b);
    struct hop_results_head to = {pf_rand_u64(&b.r)}, to_out;
    hop_results_head_encode(&b.buf, &to);
    assert_int_equal(hop_results_head_decode(&to_out, encoded(&b)), PF_OK);
    assert_true(to.to == to_out.to);

    bench_next(&b);
    struct hop_results_reply_head who = {pf_rand_u64(&b.r), pf_rand_u64(&b.r)}, who_out;
    hop_results_reply_head_encode(&b.buf, &who);
    assert_int_equal(hop_results_reply_head_decode(&who_out, encoded(&b)), PF_OK);
    assert_true(who.origin == who_out.origin && who.origin_epoch == who_out.origin_epoch);

    bench_next(&b);
    struct pf_job_id job = some_job(&b.r), job_out;
    hop_status_encode(&b.buf, job);
    assert_int_equal(hop_status_decode(&job_out, encoded(&b)), PF_OK);
    assert_true(pf_job_id_eq(job, job_out));
  }
  bench_close(&b);
}

static void test_execute_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  for (int i = 0; i < ROUNDS; i++) {
    bench_next(&b);
    struct hop_execute in = {.job = some_job(&b.r),
                           .fence = some_fence(&b.r),
                           .attempt = (int)some_int(&b.r, 1, HOP_ATTEMPT_MAX),
                           .last = some_bool(&b.r),
                           .repeatable = some_bool(&b.r),
                           .capability = some_capability(&b.r),
                           .attempt_ms = some_int(&b.r, 0, WIRE_ATTEMPT_MS_MAX),
                           .deadline_ms = some_int(&b.r, 0, WIRE_DEADLINE_MS_MAX),
                           .queue_ms = some_ms(&b.r)},
                       out;
    some_statuses(&b.r, &in.retry);
    hop_execute_encode(&b.buf, &in);
    assert_int_equal(hop_execute_decode(&out, encoded(&b), NULL), PF_OK);
    assert_true(pf_job_id_eq(in.job, out.job) && pf_fence_eq(in.fence, out.fence));
    assert_memory_equal(&in.capability, &out.capability, sizeof(in.capability));
    assert_statuses_equal(&in.retry, &out.retry);
    assert_true(in.attempt == out.attempt && in.last == out.last &&
                in.repeatable == out.repeatable && in.attempt_ms == out.attempt_ms &&
                in.deadline_ms == out.deadline_ms && in.queue_ms == out.queue_ms);
  }
  bench_close(&b);
}

static void test_execute_head_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  static struct hop_origin origins[HOP_ORIGINS_MAX + 1];
  for (int i = 0; i < ROUNDS / 10; i++) {
    bench_next(&b);
    struct hop_execute_head in = {pf_rand_u64(&b.r), pf_rand_u64(&b.r), origins,
                                i == 0 ? HOP_ORIGINS_MAX : pf_rand_below(&b.r, 12)},
                            out;
    for (size_t k = 0; k < in.origin_count; k++) {
      origins[k].origin = pf_rand_u64(&b.r);
      origins[k].epoch = pf_rand_u64(&b.r);
      some_chars(&b.r, origins[k].url, sizeof(origins[k].url));
    }
    hop_execute_head_encode(&b.buf, &in);
    assert_int_equal(hop_execute_head_decode(&out, encoded(&b), &b.arena, NULL), PF_OK);
    assert_true(in.queue_epoch == out.queue_epoch && in.incarnation == out.incarnation);
    assert_int_equal(in.origin_count, out.origin_count);
    for (size_t k = 0; k < in.origin_count; k++) {
      assert_true(origins[k].origin == out.origins[k].origin);
      assert_true(origins[k].epoch == out.origins[k].epoch);
      assert_string_equal(origins[k].url, out.origins[k].url);
    }
  }
  struct hop_execute_head over = {1, 2, origins, HOP_ORIGINS_MAX + 1}, out;
  for (uint64_t k = 0; k <= HOP_ORIGINS_MAX; k++)
    origins[k].origin = k;
  bench_next(&b);
  hop_execute_head_encode(&b.buf, &over);
  assert_int_equal(hop_execute_head_decode(&out, encoded(&b), &b.arena, NULL), PF_ELIMIT);
  origins[1].origin = origins[0].origin; /* one origin, two addresses: which one? */
  over.origin_count = 2;
  bench_next(&b);
  hop_execute_head_encode(&b.buf, &over);
  assert_int_equal(hop_execute_head_decode(&out, pf_buf_view(&b.buf), &b.arena, NULL), PF_EINVAL);
  bench_close(&b);
}

static void test_heartbeat_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  for (int i = 0; i < ROUNDS; i++) {
    bench_next(&b);
    struct hop_heartbeat in = {.executor = pf_rand_u64(&b.r),
                             .incarnation = pf_rand_u64(&b.r),
                             .slots = some_int(&b.r, 0, HOP_SLOTS_MAX),
                             .free = some_int(&b.r, 0, HOP_SLOTS_MAX),
                             .leaving = some_bool(&b.r)},
                         out;
    some_chars(&b.r, in.url, sizeof(in.url));
    hop_heartbeat_encode(&b.buf, &in);
    assert_int_equal(hop_heartbeat_decode(&out, encoded(&b), NULL), PF_OK);
    assert_string_equal(in.url, out.url);
    assert_true(in.executor == out.executor && in.incarnation == out.incarnation &&
                in.slots == out.slots && in.free == out.free && in.leaving == out.leaving);
  }
  bench_close(&b);
}

static void test_held_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  for (int i = 0; i < ROUNDS; i++) {
    bench_next(&b);
    struct hop_held in[5], out;
    size_t count = pf_rand_below(&b.r, 6);
    for (size_t k = 0; k < count; k++) {
      in[k] = (struct hop_held){some_job(&b.r), some_fence(&b.r)};
      hop_held_append(&b.buf, &in[k]);
    }
    assert_int_equal(b.buf.len, count * HOP_HELD_BYTES);
    for (size_t k = 0; k < count; k++) {
      assert_true(hop_held_read(pf_buf_view(&b.buf), k, &out));
      assert_true(pf_job_id_eq(in[k].job, out.job) && pf_fence_eq(in[k].fence, out.fence));
    }
    assert_false(hop_held_read(pf_buf_view(&b.buf), count, &out));
    if (count) /* a torn last entry is none */
      assert_false(hop_held_read(pf_slice(b.buf.data, b.buf.len - 1), count - 1, &out));
    if (count == 0) continue;
    bench_next(&b);
    hop_held_encode(&b.buf, &in[0]);
    assert_int_equal(hop_held_decode(&out, encoded(&b), NULL), PF_OK);
    assert_true(pf_job_id_eq(in[0].job, out.job) && pf_fence_eq(in[0].fence, out.fence));
  }
  bench_close(&b);
}

static void test_complete_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  for (int i = 0; i < ROUNDS; i++) {
    bench_next(&b);
    struct hop_complete in = {.job = some_job(&b.r),
                            .fence = some_fence(&b.r),
                            .retry = some_bool(&b.r)},
                        out;
    if (in.retry) {
      in.outcome = (enum outcome)some_int(&b.r, 1, OUTCOME_COUNT - 1);
      in.certainty = (enum certainty)some_int(&b.r, 0, CERTAINTY_ANSWERED);
      in.retry_after_ms = some_int(&b.r, 0, WIRE_DEADLINE_MS_MAX);
    }
    hop_complete_encode(&b.buf, &in);
    assert_int_equal(hop_complete_decode(&out, encoded(&b), NULL), PF_OK);
    assert_true(pf_job_id_eq(in.job, out.job) && pf_fence_eq(in.fence, out.fence));
    assert_true(in.retry == out.retry && in.outcome == out.outcome &&
                in.certainty == out.certainty && in.retry_after_ms == out.retry_after_ms);
  }
  bench_close(&b);
}

static void some_result(struct bench *b, struct hop_result *in) {
  *in = (struct hop_result){.job = some_job(&b->r),
      .fence = some_fence(&b->r),
      .attempt = (int)some_int(&b->r, 0, HOP_ATTEMPT_MAX),
      .capability = some_capability(&b->r),
      .outcome = some_bool(&b->r) ? OUTCOME_OK : (enum outcome)pf_rand_below(&b->r, OUTCOME_COUNT),
      .certainty = (enum certainty)some_int(&b->r, 0, CERTAINTY_ANSWERED),
      .response_length = some_int(&b->r, 0, HOP_LENGTH_MAX),
      .has_body = some_bool(&b->r),
      .reused = some_bool(&b->r),
      .timings = {some_ms(&b->r), some_ms(&b->r), some_ms(&b->r), some_ms(&b->r), some_ms(&b->r),
          some_ms(&b->r), some_ms(&b->r)}};
  in->status = (int)some_int(&b->r, in->outcome == OUTCOME_OK ? 100 : 0, 999);
  if (some_bool(&b->r)) in->error = some_slice(&b->r, &b->arena, 200);
  in->header_count = pf_rand_below(&b->r, 4) ? 0 : pf_rand_below(&b->r, 40);
  in->headers = pf_arena_alloc(&b->arena, in->header_count * sizeof(*in->headers));
  for (size_t k = 0; k < in->header_count; k++)
    in->headers[k] =
        (struct wire_header){some_slice(&b->r, &b->arena, 20), some_slice(&b->r, &b->arena, 40)};
}

static void test_result_round_trip(void **state) {
  (void)state;
  struct bench b;
  bench_open(&b);
  for (int i = 0; i < ROUNDS; i++) {
    bench_next(&b);
    struct hop_result in, out;
    some_result(&b, &in);
    hop_result_encode(&b.buf, &in);
    assert_int_equal(hop_result_decode(&out, encoded(&b), &b.arena, NULL), PF_OK);
    assert_true(pf_job_id_eq(in.job, out.job) && pf_fence_eq(in.fence, out.fence));
    assert_memory_equal(&in.capability, &out.capability, sizeof(in.capability));
    assert_memory_equal(&in.timings, &out.timings, sizeof(in.timings));
    assert_true(pf_slice_eq(in.error, out.error));
    assert_true(in.attempt == out.attempt && in.outcome == out.outcome &&
                in.certainty == out.certainty && in.status == out.status &&
                in.response_length == out.response_length && in.has_body == out.has_body &&
                in.reused == out.reused && in.header_count == out.header_count);
    for (size_t k = 0; k < in.header_count; k++)
      assert_true(pf_slice_eq(in.headers[k].name, out.headers[k].name) &&
                  pf_slice_eq(in.headers[k].value, out.headers[k].value));
  }
  bench_close(&b);
}

static void test_answers_round_trip(void **state) {
  (void)state;
  const char *const *const sets[] = {hop_execute_answers, hop_result_answers, hop_status_answers,
      hop_start_answers, hop_complete_answers};
  struct pf_buf buf;
  pf_buf_init(&buf, 4096);
  for (size_t i = 0; i < PF_COUNT(sets); i++) {
    int count = 0;
    for (; sets[i][count]; count++) {
      int answer = -1;
      pf_buf_clear(&buf);
      hop_answer_encode(&buf, sets[i], count);
      assert_int_equal(hop_answer_decode(&answer, sets[i], pf_buf_view(&buf)), PF_OK);
      assert_int_equal(answer, count);
    }
    int answer = 77;
    struct pf_slice other = pf_slice_str("{\"answer\":\"perhaps\"}");
    assert_int_equal(hop_answer_decode(&answer, sets[i], other), PF_EINVAL);
    assert_int_equal(answer, 77);
  }
  pf_buf_done(&buf);
}

/* ---- what is refused, for all decoders alike ---- */

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
     "\"certainty\":\"sent_unknown\",\"retryAfterMs\":5}",
        " code certainty retryAfterMs ", decode_complete},
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_jobs_round_trip),
      cmocka_unit_test(test_job_round_trip),
      cmocka_unit_test(test_replies_round_trip),
      cmocka_unit_test(test_execute_round_trip),
      cmocka_unit_test(test_execute_head_round_trip),
      cmocka_unit_test(test_heartbeat_round_trip),
      cmocka_unit_test(test_held_round_trip),
      cmocka_unit_test(test_complete_round_trip),
      cmocka_unit_test(test_result_round_trip),
      cmocka_unit_test(test_answers_round_trip),
      cmocka_unit_test(test_members_missing_twice_unknown),
      cmocka_unit_test(test_damaged_texts),
      cmocka_unit_test(test_ranges),
      cmocka_unit_test(test_lengths_at_limit),
      cmocka_unit_test(test_rules_between_members),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
