/* The queue between an origin and two executors that crash, lose calls and come back, by seed. In
 * the end every job has exactly one result, and no request that must not be repeated was made
 * twice. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue_world.h"

#define JOBS 24
#define EXECUTORS 2
#define SLOTS 6
#define STEPS 1500

struct origin_job {
  struct hop_job item;
  bool submitted, ended, canceled, cancel_known;
  unsigned results, fetches, attempts;
};

struct held {
  struct hop_held held;
  bool last;
  enum { TAKEN, STARTED, FETCHED, DELIVERED, FAILED } stage;
  enum certainty certainty;
};

struct seen_sim {
  struct pf_fence fence;
  bool refused;
};

struct executor_sim {
  uint64_t incarnation;
  struct held held[SLOTS];
  size_t count;
  struct seen_sim *seen;
  size_t seen_count;
};

struct sim {
  struct world w;
  struct pf_rand rand;
  struct origin_job jobs[JOBS + 1]; /* local id = index */
  uint64_t submitted;
  struct executor_sim executors[EXECUTORS];
  bool calm; /* no more faults */
  uint64_t seed;
};

static bool chance(struct sim *s, unsigned percent) {
  return pf_rand_below(&s->rand, 100) < percent;
}

/* A fault, while there are any. */
static bool fault(struct sim *s, unsigned percent) {
  return !s->calm && chance(s, percent);
}

#define CHECK(s, cond)                                                                             \
  do {                                                                                             \
    if (!(cond)) fail_msg("seed %llu: " #cond, (unsigned long long)(s)->seed);                     \
  } while (0)

/* ---- the origin ---- */

static void origin_submit(struct sim *s) {
  if (s->submitted == JOBS) return;
  struct origin_job *job = &s->jobs[++s->submitted];
  job->item = world_job(s->submitted);
  job->item.repeatable = chance(s, 50);
  job->item.first_epoch = s->w.config.epoch;
  job->item.retry.attempts = 1 + (int)pf_rand_below(&s->rand, 4);
  job->item.host[0] = (char)('a' + pf_rand_below(&s->rand, 3));
  job->submitted = true;
}

static uint64_t origin_low(const struct sim *s) {
  uint64_t low = 1;
  while (low <= s->submitted && s->jobs[low].ended)
    low++;
  return low;
}

static void origin_announce(struct sim *s) {
  world_origin(&s->w, 1, origin_low(s));
  for (uint64_t i = 1; i <= s->submitted; i++) {
    struct origin_job *job = &s->jobs[i];
    if (fault(s, 30)) continue;
    if (job->canceled && !job->cancel_known) {
      struct hop_job end = {.job = job->item.job, .end = true};
      CHECK(s, world_put(&s->w, &end) == HOP_JOB_DONE);
      job->cancel_known = !fault(s, 30);     /* the answer may be lost */
    } else if (!job->ended || fault(s, 5)) { /* late copies of announcements, too */
      enum hop_job_answer answer = world_put(&s->w, &job->item);
      CHECK(s, answer != HOP_JOB_LOST);
      CHECK(s, job->ended || answer != HOP_JOB_DONE); /* it would wait for ever */
    }
  }
}

static void origin_cancel(struct sim *s) {
  if (s->submitted == 0) return;
  struct origin_job *job = &s->jobs[1 + pf_rand_below(&s->rand, s->submitted)];
  if (job->ended) return;
  job->ended = job->canceled = true;
  job->results++;
}

static enum hop_result_answer origin_receive(struct sim *s, struct pf_job_id id) {
  struct origin_job *job = &s->jobs[id.local];
  if (job->ended) return HOP_RESULT_DUPLICATE;
  job->ended = true;
  job->results++;
  return HOP_RESULT_ACCEPTED;
}

/* ---- executors ---- */

/* The answer to an earlier copy; -1: there was none. */
static int executor_seen(const struct executor_sim *e, struct pf_fence fence) {
  for (size_t i = 0; i < e->seen_count; i++)
    if (pf_fence_eq(e->seen[i].fence, fence))
      return e->seen[i].refused ? HOP_EXECUTE_FULL : HOP_EXECUTE_SEEN;
  return -1;
}

static void executor_remember(struct executor_sim *e, struct pf_fence fence, bool refused) {
  e->seen = pf_realloc(e->seen, (e->seen_count + 1) * sizeof(*e->seen));
  e->seen[e->seen_count++] = (struct seen_sim){fence, refused};
}

static int executor_take(
    struct sim *s, const struct queue_action *action, const struct hop_execute *item) {
  struct executor_sim *e = &s->executors[action->executor];
  if (action->incarnation != e->incarnation) return HOP_EXECUTE_WRONG_INCARNATION;
  int seen = executor_seen(e, item->fence);
  if (seen >= 0) return seen;
  bool full = e->count == SLOTS || fault(s, 5);
  executor_remember(e, item->fence, full);
  if (full) return HOP_EXECUTE_FULL;
  e->held[e->count++] = (struct held){.held = {item->job, item->fence}, .last = item->last};
  s->jobs[item->job.local].attempts++;
  CHECK(s, item->attempt <= s->jobs[item->job.local].item.retry.attempts);
  return HOP_EXECUTE_TAKEN;
}

static void executor_drop(struct executor_sim *e, size_t i) {
  e->held[i] = e->held[--e->count];
}

static void executor_restart(struct sim *s, struct executor_sim *e) {
  e->incarnation = pf_rand_u64(&s->rand) | 1;
  e->count = e->seen_count = 0;
}

static void executor_beat(struct sim *s, uint64_t id) {
  struct executor_sim *e = &s->executors[id];
  struct hop_heartbeat beat = {.executor = id,
      .incarnation = e->incarnation,
      .slots = SLOTS,
      .free = SLOTS - (int64_t)e->count};
  struct pf_buf held, aborts;
  pf_buf_init(&held, 4096);
  pf_buf_init(&aborts, 4096);
  for (size_t i = 0; i < e->count; i++)
    hop_held_append(&held, &e->held[i].held);
  CHECK(s, queue_heartbeat(s->w.queue, &beat, pf_buf_view(&held), s->w.now_us, &aborts) == PF_OK);
  struct hop_held abort;
  for (size_t i = 0; !fault(s, 20) && hop_held_read(pf_buf_view(&aborts), i, &abort); i++)
    for (size_t h = 0; h < e->count; h++)
      if (pf_fence_eq(e->held[h].held.fence, abort.fence)) executor_drop(e, h--);
  pf_buf_done(&held);
  pf_buf_done(&aborts);
}

/* The transfer itself: its bytes leave, or it is certain that none did. */
static void executor_fetch(struct sim *s, struct held *held) {
  struct origin_job *job = &s->jobs[held->held.job.local];
  held->stage = FETCHED;
  if (fault(s, 20)) {
    held->stage = FAILED;
    held->certainty = CERTAINTY_NOT_SENT;
    return;
  }
  job->fetches++;
  CHECK(s, job->item.repeatable || job->fetches == 1);
  if (fault(s, 20) && job->item.repeatable) {
    held->stage = FAILED;
    held->certainty = CERTAINTY_SENT_UNKNOWN;
  }
}

/* One step of one transfer. Calls may be lost on their way there or back. */
static void executor_step(struct sim *s, struct executor_sim *e) {
  if (e->count == 0) return;
  size_t i = pf_rand_below(&s->rand, e->count);
  struct held *held = &e->held[i];
  struct hop_complete item = {.job = held->held.job,
      .fence = held->held.fence,
      .outcome = OUTCOME_CONNECT_FAILED,
      .certainty = held->certainty};
  switch (held->stage) {
  case TAKEN:
    if (s->jobs[item.job.local].item.repeatable) {
      held->stage = STARTED;
    } else if (!fault(s, 10)) {
      bool go = queue_start(s->w.queue, &held->held, s->w.now_us);
      if (fault(s, 10)) break; /* asked again */
      if (go)
        held->stage = STARTED;
      else
        executor_drop(e, i);
    }
    break;
  case STARTED:
    executor_fetch(s, held);
    break;
  case FAILED:
    if (held->last) {
      held->stage = FETCHED; /* its failure goes to the origin */
      break;
    }
    item.how = HOP_COMPLETE_RETRY;
    if (!fault(s, 10)) queue_complete(s->w.queue, &item, s->w.now_us);
    if (!fault(s, 10)) executor_drop(e, i);
    break;
  case FETCHED:
    if (!fault(s, 10)) (void)origin_receive(s, item.job);
    if (!fault(s, 10) && s->jobs[item.job.local].ended) held->stage = DELIVERED;
    break;
  case DELIVERED:
    if (!fault(s, 10)) queue_complete(s->w.queue, &item, s->w.now_us);
    if (!fault(s, 10)) executor_drop(e, i);
    break;
  }
}

/* ---- calls of the queue ---- */

static void act_dispatch(struct sim *s, const struct queue_action *action) {
  struct hop_execute item;
  struct queue_blob *blob;
  int64_t qid;
  if (!queue_view_execute(s->w.queue, action, s->w.now_us, &item, &blob, &qid)) return;
  queue_blob_unref(blob);
  int answer = fault(s, 10) ? QUEUE_NO_ANSWER : executor_take(s, action, &item);
  if (answer != QUEUE_NO_ANSWER && fault(s, 5)) (void)executor_take(s, action, &item); /* twice */
  queue_on_dispatch(s->w.queue, action, fault(s, 10) ? QUEUE_NO_ANSWER : answer, s->w.now_us);
}

static void act(struct sim *s) {
  struct queue_action action;
  struct hop_result result;
  if (!world_act(&s->w, &action)) return;
  int answer = QUEUE_NO_ANSWER;
  switch (action.kind) {
  case QUEUE_DISPATCH:
    act_dispatch(s, &action);
    break;
  case QUEUE_ASK:
    if (!fault(s, 30))
      answer = s->jobs[action.job.local].ended ? HOP_STATUS_DONE : HOP_STATUS_PENDING;
    queue_on_status(s->w.queue, &action, answer, s->w.now_us);
    break;
  case QUEUE_DELIVER:
    if (!queue_view_result(s->w.queue, &action, &result)) break;
    if (!fault(s, 20)) answer = (int)origin_receive(s, action.job);
    if (fault(s, 20)) answer = QUEUE_NO_ANSWER;
    queue_on_delivery(s->w.queue, &action, answer, s->w.now_us);
    break;
  case QUEUE_EXECUTOR_GONE:
    break;
  }
}

/* ---- runs ---- */

static void step(struct sim *s) {
  struct executor_sim *e = &s->executors[pf_rand_below(&s->rand, EXECUTORS)];
  switch (pf_rand_below(&s->rand, 12)) {
  case 0:
    origin_submit(s);
    break;
  case 1:
    origin_announce(s);
    break;
  case 2:
    world_commit_some(&s->w, 1 + pf_rand_below(&s->rand, 4));
    break;
  case 3:
    s->w.now_us += (int64_t)pf_rand_below(&s->rand, 800) * MS;
    break;
  case 4:
    executor_beat(s, (uint64_t)(e - s->executors));
    break;
  case 5:
    if (fault(s, 15)) executor_restart(s, e);
    break;
  case 6:
    if (fault(s, 10)) world_crash(&s->w);
    break;
  case 7:
    if (fault(s, 5)) origin_cancel(s);
    break;
  case 8:
    act(s);
    break;
  default:
    executor_step(s, e);
    break;
  }
  if (chance(s, 70)) world_turn(&s->w);
}

/* Everything works from now on: the rest must come to an end. */
static void run_out(struct sim *s) {
  s->calm = true;
  struct queue_stats stats = {.jobs = 1};
  for (int round = 0; stats.jobs > 0 || origin_low(s) <= s->submitted; round++) {
    CHECK(s, round < 400);
    s->w.now_us += 500 * MS;
    origin_announce(s);
    for (uint64_t id = 0; id < EXECUTORS; id++)
      executor_beat(s, id);
    for (int i = 0; i < 200; i++) {
      world_turn(&s->w);
      world_commit(&s->w);
      act(s);
      executor_step(s, &s->executors[i % EXECUTORS]);
    }
    queue_read_stats(s->w.queue, s->w.now_us, &stats);
  }
}

static void run_seed(uint64_t seed) {
  struct sim *s = pf_alloc(sizeof(*s));
  s->seed = seed;
  s->rand.state = seed;
  world_init(&s->w, seed);
  for (uint64_t i = 0; i < EXECUTORS; i++)
    executor_restart(s, &s->executors[i]);
  for (int i = 0; i < STEPS; i++)
    step(s);
  while (s->submitted < JOBS)
    origin_submit(s);
  run_out(s);
  for (uint64_t i = 1; i <= JOBS; i++) {
    CHECK(s, s->jobs[i].results == 1);
    CHECK(s, s->jobs[i].item.repeatable || s->jobs[i].fetches <= 1);
  }
  for (uint64_t i = 0; i < EXECUTORS; i++)
    free(s->executors[i].seen);
  world_done(&s->w);
  free(s);
}

static void test_every_job_ends_once(void **state) {
  (void)state;
  const char *count = getenv("PF_SEEDS"), *first = getenv("PF_SEED");
  unsigned long from = first ? strtoul(first, NULL, 10) : 1;
  unsigned long seeds = count ? strtoul(count, NULL, 10) : 2000;
  for (unsigned long seed = from; seed < from + seeds; seed++)
    run_seed(seed);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_job_ends_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
