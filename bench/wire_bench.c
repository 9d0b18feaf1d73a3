/* Nanoseconds per message of lib/wire: how much of the budget of a job its encodings and decodings
 * take. Each figure is the fastest of several rounds, so that it is the code's and not the
 * machine's.
 *
 *   build/bin/wire_bench [ROUND_MS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "wire/batch.h"
#include "wire/client.h"
#include "wire/hop.h"
#include "wire/json.h"

enum { ROUNDS = 7, BURST = 256 };

struct bench {
  struct pf_buf buf; /* encoders write here, from the start each time */
  struct pf_arena arena;
  struct pf_slice text; /* decoders read this */
  struct hop_job job;
  struct hop_execute execute;
  struct hop_result result;
  struct hop_held held;
  struct hop_complete complete;
  struct wire_request request;
  struct client_result frame;
};

static void must(int err) {
  PF_ASSERT(err == PF_OK);
}

/* ---- one operation each ---- */

static void guard(struct bench *b) {
  must(json_check(b->text, NULL));
}
static void parse(struct bench *b) {
  struct json *root;
  must(json_parse(&root, b->text, NULL));
  json_free(root);
}
static void start_fetch_decode(struct bench *b) {
  struct client_message message;
  const char *code;
  must(client_message_decode(&message, b->text, &b->arena, &code, NULL));
}
static void request_encode(struct bench *b) {
  wire_request_encode(&b->buf, &b->request);
}
static void request_decode(struct bench *b) {
  struct wire_request request;
  must(wire_request_decode(&request, b->text, &b->arena, NULL));
}
static void request_check(struct bench *b) {
  char host[WIRE_HOST_MAX];
  must(wire_request_check(&b->request, host, NULL));
}
static void job_encode(struct bench *b) {
  hop_job_encode(&b->buf, &b->job);
}
static void job_decode(struct bench *b) {
  struct hop_job job;
  must(hop_job_decode(&job, b->text, NULL));
}
static void job_reply_encode(struct bench *b) {
  hop_job_reply_encode(&b->buf, &(struct hop_job_reply){.answer = HOP_JOB_QUEUED});
}
static void job_reply_decode(struct bench *b) {
  struct hop_job_reply reply;
  must(hop_job_reply_decode(&reply, b->text));
}
static void execute_encode(struct bench *b) {
  hop_execute_encode(&b->buf, &b->execute);
}
static void execute_decode(struct bench *b) {
  struct hop_execute item;
  must(hop_execute_decode(&item, b->text, NULL));
}
static void result_encode(struct bench *b) {
  hop_result_encode(&b->buf, &b->result);
}
static void result_decode(struct bench *b) {
  struct hop_result result;
  must(hop_result_decode(&result, b->text, &b->arena, NULL));
}
static void held_encode(struct bench *b) {
  hop_held_encode(&b->buf, &b->held);
}
static void held_decode(struct bench *b) {
  struct hop_held held;
  must(hop_held_decode(&held, b->text, NULL));
}
static void complete_encode(struct bench *b) {
  hop_complete_encode(&b->buf, &b->complete);
}
static void complete_decode(struct bench *b) {
  struct hop_complete item;
  must(hop_complete_decode(&item, b->text, NULL));
}
static void answer_encode(struct bench *b) {
  hop_answer_encode(&b->buf, hop_result_answers, HOP_RESULT_ACCEPTED);
}
static void answer_decode(struct bench *b) {
  int answer;
  must(hop_answer_decode(&answer, hop_result_answers, b->text));
}
static void enqueued_frame(struct bench *b) {
  client_enqueued_encode(&b->buf, b->job.job, b->frame.client_id, 0.84);
}
static void result_frame(struct bench *b) {
  client_result_encode(&b->buf, &b->frame);
}
static void batch_record(struct bench *b) {
  batch_append(&b->buf, b->text, (struct pf_slice){0});
}
static void batch_read(struct bench *b) {
  struct batch_reader reader = batch_reader(b->text);
  struct pf_slice head, body;
  must(batch_next(&reader, &head, &body));
}

/* ---- measuring ---- */

static double round_ns(struct bench *b, void (*op)(struct bench *b), int64_t round_ns_max) {
  uint64_t count = 0;
  int64_t start = pf_clock_mono_ns(), now = start;
  while (now - start < round_ns_max) {
    for (int i = 0; i < BURST; i++) {
      pf_buf_clear(&b->buf);
      pf_arena_clear(&b->arena);
      op(b);
    }
    count += BURST;
    now = pf_clock_mono_ns();
  }
  return (double)(now - start) / (double)count;
}

static void report(
    struct bench *b, const char *name, void (*op)(struct bench *b), int64_t round_ms) {
  double best = 0;
  for (int i = 0; i < ROUNDS; i++) {
    double ns = round_ns(b, op, round_ms * 1000000);
    if (i == 0 || ns < best) best = ns;
  }
  printf("%-22s %6zu bytes %8.0f ns\n", name, b->text.len ? b->text.len : b->buf.len, best);
}

/* What `encode` wrote is what `decode` then reads. */
static void report_pair(struct bench *b, const char *encode_name, void (*encode)(struct bench *b),
    const char *decode_name, void (*decode)(struct bench *b), int64_t round_ms) {
  b->text = (struct pf_slice){0};
  report(b, encode_name, encode, round_ms);
  size_t len;
  char *bytes = pf_buf_take(&b->buf, &len);
  b->text = pf_slice(bytes, len);
  report(b, decode_name, decode, round_ms);
  free(bytes);
}

static void bench_open(struct bench *b) {
  *b = (struct bench){
      .job = {.job = {0x9e3779b97f4a7c15, 0x10000000a1},
          .host = "localhost:8790",
          .repeatable = true,
          .retry.attempts = WIRE_ATTEMPTS_DEFAULT,
          .deadline_ms = WIRE_DEADLINE_MS_DEFAULT,
          .queue_ms = WIRE_QUEUE_MS_DEFAULT,
          .attempt_ms = WIRE_ATTEMPT_MS_DEFAULT},
      .request = {.url = pf_slice_str("http://localhost:8790/echo"), .method = pf_slice_str("GET")},
  };
  for (unsigned i = 0; i < HOP_CAPABILITY_BYTES; i++)
    b->job.capability.bytes[i] = (unsigned char)(i * 37 + 11);
  struct pf_fence fence = {0xc2b2ae3d27d4eb4f, 4711};
  b->execute = (struct hop_execute){.job = b->job.job,
      .fence = fence,
      .attempt = 1,
      .repeatable = true,
      .capability = b->job.capability,
      .attempt_ms = WIRE_ATTEMPT_MS_DEFAULT,
      .deadline_ms = WIRE_DEADLINE_MS_DEFAULT - 1,
      .queue_ms = 0.137};
  b->result = (struct hop_result){.job = b->job.job,
      .fence = fence,
      .attempt = 1,
      .capability = b->job.capability,
      .certainty = CERTAINTY_ANSWERED,
      .status = 200,
      .response_length = 47,
      .reused = true,
      .timings = {0.137, 0.24, 0, 0, -1, 0.412, 0.051}};
  b->held = (struct hop_held){b->job.job, fence};
  b->complete = (struct hop_complete){.job = b->job.job, .fence = fence};
  b->frame = (struct client_result){.job = b->job.job,
      .client_id = pf_slice_str("client-000123"),
      .status = 200,
      .response_length = 47,
      .duration_ms = 1.9,
      .offset = -1};
  pf_buf_init(&b->buf, (size_t)4 << 20);
  pf_arena_init(&b->arena);
}

int main(int argc, char **argv) {
  int64_t ms = argc > 1 ? strtol(argv[1], NULL, 10) : 20;
  if (ms < 1 || ms > 10000) {
    fprintf(stderr, "usage: wire_bench [ROUND_MS], from 1 to 10000\n");
    return PF_EXIT_USAGE;
  }
  struct bench b;
  bench_open(&b);
  b.text = pf_slice_str("{\"type\":\"start-fetch\",\"url\":\"http://localhost:8790/echo\","
                        "\"clientId\":\"client-000123\"}");
  report(&b, "json guard", guard, ms);
  report(&b, "json guard and tree", parse, ms);
  report(&b, "start-fetch decode", start_fetch_decode, ms);
  report(&b, "batch append", batch_record, ms);
  b.text = (struct pf_slice){0};
  report(&b, "request check", request_check, ms);
  report_pair(&b, "request encode", request_encode, "request decode", request_decode, ms);
  report_pair(&b, "job encode", job_encode, "job decode", job_decode, ms);
  report_pair(&b, "job reply encode", job_reply_encode, "job reply decode", job_reply_decode, ms);
  report_pair(&b, "execute encode", execute_encode, "execute decode", execute_decode, ms);
  report_pair(&b, "start encode", held_encode, "start decode", held_decode, ms);
  report_pair(&b, "result encode", result_encode, "result decode", result_decode, ms);
  report_pair(&b, "answer encode", answer_encode, "answer decode", answer_decode, ms);
  report_pair(&b, "complete encode", complete_encode, "complete decode", complete_decode, ms);
  b.text = (struct pf_slice){0};
  report(&b, "enqueued frame", enqueued_frame, ms);
  report(&b, "result frame", result_frame, ms);
  struct pf_buf body;
  pf_buf_init(&body, (size_t)1 << 20);
  for (int i = 0; i < 100; i++)
    pf_buf_printf(&body, "{\"id\":%d,\"name\":\"item %d\",\"price\":%d},", i, i, i * 7);
  b.frame.include |= WIRE_INCLUDE_BODY;
  b.frame.has_body = true;
  b.frame.body = pf_buf_view(&body);
  report(&b, "result frame, JSON", result_frame, ms);
  pf_buf_done(&body);
  b.text = pf_slice("\0\0\0\2\0\0\0\0{}", 10);
  report(&b, "batch read", batch_read, ms);
  pf_buf_done(&b.buf);
  pf_arena_done(&b.arena);
  return PF_EXIT_OK;
}
