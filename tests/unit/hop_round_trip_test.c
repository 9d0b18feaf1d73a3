/* The messages between the processes: what was encoded is decoded to the same. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/rand.h"
#include "hop_tests.h"
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
                            .how =
                                (enum hop_complete_how)some_int(&b.r, 0, HOP_COMPLETE_UNDELIVERED)},
                        out;
    if (in.how != HOP_COMPLETE_DELIVERED) {
      in.outcome = (enum outcome)some_int(&b.r, 1, OUTCOME_COUNT - 1);
      in.certainty = (enum certainty)some_int(&b.r, 0, CERTAINTY_ANSWERED);
      in.retry_after_ms = some_int(&b.r, 0, WIRE_DEADLINE_MS_MAX);
      memset(in.detail, 'd', (size_t)some_int(&b.r, 0, HOP_DETAIL_MAX - 1));
    }
    hop_complete_encode(&b.buf, &in);
    assert_int_equal(hop_complete_decode(&out, encoded(&b), NULL), PF_OK);
    assert_true(pf_job_id_eq(in.job, out.job) && pf_fence_eq(in.fence, out.fence));
    assert_string_equal(in.detail, out.detail);
    assert_true(in.how == out.how && in.outcome == out.outcome && in.certainty == out.certainty &&
                in.retry_after_ms == out.retry_after_ms);
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

int hop_round_trip_tests(void) {
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
  };
  return cmocka_run_group_tests_name("hop_round_trip", tests, NULL, NULL);
}
