/* Nanoseconds per job of the queue's decisions (insert, lease, dispatch, completion, rows to
 * write), with 1,000 and with 100,000 jobs queued; or the time in which a job that is ready gets a
 * free slot. Codec, database and sockets are not in it.
 *
 *   build/bin/queue_bench [JOBS]
 *   build/bin/queue_bench [--json] slot-acquire [SAMPLES] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "micro.h"
#include "orchestrator/queue.h"

#define SLOT "slot-acquire"
enum {
  BATCH = 256,
  SLOTS = 1000,
  ROUNDS = 3,
  REQUEST_BYTES = 200,
  SLOT_SAMPLES = 20000,
  SLOT_SAMPLES_MAX = 1000000
};

struct bench {
  struct queue *queue;
  uint64_t next; /* local id */
  int64_t now_us;
  char request[REQUEST_BYTES];
};

static void put(struct bench *b) {
  struct hop_job job = {.job = {1, b->next++},
      .host = "target:80",
      .repeatable = true,
      .retry = {.attempts = 4},
      .deadline_ms = 300000,
      .queue_ms = 60000,
      .attempt_ms = 30000};
  struct pf_slice request = pf_slice(b->request, sizeof(b->request));
  PF_ASSERT(queue_put(b->queue, &job, request, request, false, b->now_us).answer == HOP_JOB_QUEUED);
}

static void origin_seen(struct bench *b, uint64_t low) {
  struct hop_jobs_head head = {.origin = 1, .low = low, .url = "http://127.0.0.1:1"};
  PF_ASSERT(queue_origin_seen(b->queue, &head, b->now_us) == PF_OK);
}

static void write_group(struct bench *b) {
  struct queue_group group;
  queue_settle(b->queue, b->now_us);
  if (queue_take_group(b->queue, &group)) queue_group_done(&group);
}

static void join(struct bench *b) {
  struct hop_heartbeat beat = {
      .executor = 1, .incarnation = 1, .url = "http://127.0.0.1:2", .slots = SLOTS, .free = SLOTS};
  struct pf_buf aborts;
  pf_buf_init(&aborts, 1024);
  PF_ASSERT(queue_heartbeat(b->queue, &beat, (struct pf_slice){0}, b->now_us, &aborts) == PF_OK);
  pf_buf_done(&aborts);
}

/* One dispatch is sent and taken; false if there is none. */
static bool dispatch(struct bench *b, struct hop_complete *ret_done) {
  struct queue_action action;
  struct hop_execute item;
  struct queue_blob *blob;
  int64_t qid;
  if (!queue_take_action(b->queue, &action)) return false;
  PF_ASSERT(queue_view_execute(b->queue, &action, b->now_us, &item, &blob, &qid));
  queue_blob_unref(blob);
  queue_on_dispatch(b->queue, &action, HOP_EXECUTE_TAKEN, b->now_us);
  *ret_done = (struct hop_complete){.job = item.job, .fence = item.fence};
  return true;
}

/* A batch in, and as many dispatched and completed. Returns how many that were. */
static unsigned turn(struct bench *b) {
  struct hop_complete done[BATCH];
  unsigned count = 0;
  for (int i = 0; i < BATCH; i++)
    put(b);
  write_group(b);
  while (count < BATCH && dispatch(b, &done[count]))
    count++;
  for (unsigned i = 0; i < count; i++)
    queue_complete(b->queue, &done[i], b->now_us);
  if (count) origin_seen(b, done[0].job.local);
  b->now_us += 1000;
  return count;
}

static void bench_open(struct bench *b) {
  struct queue_config config = {.epoch = 1,
      .fence_next = 1,
      .seed = 1,
      .lease_ms = 600000,
      .undelivered_keep_ms = 604800000,
      .retry = {500, 60000, 60000},
      .jobs_max = 10000000,
      .request_bytes_max = (int64_t)1 << 30};
  *b = (struct bench){.next = 1, .now_us = 1000};
  b->queue = queue_new(&config);
  queue_loaded(b->queue);
}

static double ns_per_job(unsigned queued, unsigned jobs) {
  struct bench b;
  bench_open(&b);
  for (unsigned i = 0; i < queued; i++)
    put(&b);
  write_group(&b);
  join(&b);
  for (int i = 0; i < 8; i++) /* the leases of all slots are under way */
    (void)turn(&b);
  unsigned done = 0;
  int64_t start = pf_clock_mono_ns();
  while (done < jobs)
    done += turn(&b);
  double ns = (double)(pf_clock_mono_ns() - start) / done;
  queue_free(b.queue);
  return ns;
}

/* A job is there and a slot is free: what the decision takes. */
static void slot_acquire(double *samples, size_t count) {
  struct bench b;
  bench_open(&b);
  join(&b);
  for (size_t i = 0; i < count; i++) {
    enum job_state state;
    put(&b);
    int64_t start = pf_clock_mono_ns();
    queue_settle(b.queue, b.now_us);
    samples[i] = (double)(pf_clock_mono_ns() - start) / 1e3;
    struct pf_job_id job = {1, b.next - 1};
    PF_ASSERT(queue_find(b.queue, job, &state, &(int){0}, &(struct pf_fence){0}));
    PF_ASSERT(state == JOB_LEASED);
    write_group(&b);
    struct hop_complete done;
    PF_ASSERT(dispatch(&b, &done));
    queue_complete(b.queue, &done, b.now_us);
    origin_seen(&b, b.next);
    write_group(&b);
    b.now_us += 1000;
  }
  queue_free(b.queue);
}

static int slot_command(const struct micro_args *args) {
  if (!args->count) return micro_usage("queue_bench");
  double *samples = pf_alloc(args->count * sizeof(*samples));
  slot_acquire(samples, args->count);
  micro_show(SLOT, "a job that is ready gets a free slot", samples, args->count, args->json);
  free(samples);
  return PF_EXIT_OK;
}

int main(int argc, char **argv) {
  struct micro_args args = micro_args(argc, argv, SLOT_SAMPLES, SLOT_SAMPLES_MAX);
  if (strcmp(args.wanted, SLOT) == 0) return slot_command(&args);
  long jobs = argc > 1 ? strtol(argv[1], NULL, 10) : 500000;
  if (jobs < BATCH) {
    fprintf(stderr, "usage: queue_bench [JOBS]\n");
    return PF_EXIT_USAGE;
  }
  double best[2] = {1e9, 1e9};
  static const unsigned queued[2] = {1000, 100000};
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < 2; i++) {
      double ns = ns_per_job(queued[i], (unsigned)jobs);
      if (ns < best[i]) best[i] = ns;
    }
  }
  for (int i = 0; i < 2; i++)
    printf("%7u queued: %6.0f ns per job\n", queued[i], best[i]);
  printf("ratio %.2f\n", best[1] / best[0]);
  return PF_EXIT_OK;
}
