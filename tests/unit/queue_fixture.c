#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "queue_fixture.h"

int setup(void **state) {
  struct world *w = pf_alloc(sizeof(*w));
  world_init(w, 42);
  world_origin(w, 1, 1);
  *state = w;
  return 0;
}

int teardown(void **state) {
  struct world *w = *state;
  world_done(w);
  free(w);
  return 0;
}

struct pf_fence fence_of(const struct world *w, uint64_t local) {
  enum job_state state;
  int attempt;
  struct pf_fence fence = {0};
  assert_true(queue_find(w->queue, world_id(local), &state, &attempt, &fence));
  return fence;
}

int attempt_of(const struct world *w, uint64_t local) {
  enum job_state state;
  int attempt = 0;
  struct pf_fence fence;
  assert_true(queue_find(w->queue, world_id(local), &state, &attempt, &fence));
  return attempt;
}

struct hop_held held_of(const struct world *w, uint64_t local) {
  return (struct hop_held){world_id(local), fence_of(w, local)};
}

void join(struct world *w) {
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, NULL, 0), 0);
  world_pass(w, 0);
}

void put(struct world *w, const struct hop_job *job) {
  assert_int_equal(world_put(w, job), HOP_JOB_QUEUED);
  world_pass(w, 0);
}

void take(struct world *w, uint64_t local) {
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, local);
  queue_on_dispatch(w->queue, &action, HOP_EXECUTE_TAKEN, w->now_us);
}

void put_taken(struct world *w, const struct hop_job *job) {
  put(w, job);
  take(w, job->job.local);
}

void put_many_taken(struct world *w, uint64_t count) {
  for (uint64_t local = 1; local <= count; local++) {
    struct hop_job job = world_job(local);
    put_taken(w, &job);
  }
}

struct hop_job join_and_take(struct world *w, bool repeatable) {
  struct hop_job job = world_job(1);
  job.repeatable = repeatable;
  join(w);
  put_taken(w, &job);
  return job;
}

void complete(struct world *w, uint64_t local) {
  struct hop_complete item = {.job = world_id(local), .fence = fence_of(w, local)};
  queue_complete(w->queue, &item, w->now_us);
}

void fail_attempt(struct world *w, uint64_t local, enum outcome outcome, enum certainty certainty) {
  struct hop_complete item = {.job = world_id(local),
      .fence = fence_of(w, local),
      .how = HOP_COMPLETE_RETRY,
      .outcome = outcome,
      .certainty = certainty};
  queue_complete(w->queue, &item, w->now_us);
}

void answer_status(struct world *w, uint64_t local, int answer) {
  struct queue_action action = world_expect(w, QUEUE_ASK, local);
  queue_on_status(w->queue, &action, answer, w->now_us);
}

void lose_executor(struct world *w) {
  world_pass(w, 3001);
  struct queue_action action;
  assert_true(w->action_count > 0);
  action = w->actions[w->action_count - 1].action;
  assert_int_equal(action.kind, QUEUE_EXECUTOR_GONE);
  w->action_count--;
}

struct hop_result expect_delivery(struct world *w, uint64_t local) {
  struct queue_action action = world_expect(w, QUEUE_DELIVER, local);
  struct hop_result result;
  assert_true(queue_view_result(w->queue, &action, &result));
  queue_on_delivery(w->queue, &action, HOP_RESULT_ACCEPTED, w->now_us);
  return result;
}
