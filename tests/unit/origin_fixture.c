#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin_fixture.h"

struct world *world_with(const struct actor_class *const *classes) {
  struct world *world = pf_alloc(sizeof(*world));
  world_init(world, classes);
  assert_int_equal(core_on_ws_open(&world->core, 7, pf_slice_str("/")), 0);
  world_settle(world);
  core_on_queue_epoch(&world->core, EPOCH);
  return world;
}

int setup(void **state) {
  *state = world_with(NULL);
  return 0;
}

int teardown(void **state) {
  world_done(*state);
  free(*state);
  return 0;
}

struct hop_job announce_fetch(struct world *world) {
  world_say(world, 7, FETCH("c1"));
  world_settle(world);
  return world_announced(world, 0);
}

int deliver_result(struct world *world, const struct hop_job *job, int status) {
  uint64_t request = world_deliver(world, job, status, NULL);
  world_settle(world);
  return world_answer(world, request);
}

void cancel_job(struct world *world, struct pf_job_id id) {
  core_on_api_cancel(&world->core, id.local, id);
  world_settle(world);
}

void make_jobs(struct world *world, int count) {
  enum { BATCH = 4096 };
  char text[160];
  world->limits.pending_max = 1000000;
  for (; count > 0; count -= BATCH) {
    snprintf(text, sizeof(text),
        "{\"type\":\"start-batch-fetch\",\"batchId\":\"b%d\",\"count\":%d,\"url\":"
        "\"http://127.0.0.1:1/\"}",
        count, count < BATCH ? count : BATCH);
    world_say(world, 7, text);
    world_settle(world);
    world_accept_all(world, HOP_JOB_QUEUED);
    world_settle(world);
  }
}

int setup_rules(void **state) {
  struct world *world = world_with(NULL);
  world->log.fd = -1; /* what is broken on purpose is logged */
  *state = world;
  return 0;
}

struct hop_job start_fetch(struct world *world) {
  world_say(world, 7, FETCH("c"));
  world_settle(world);
  return world_announced(world, world->announcements.count - 1);
}

void session_with_events(struct world *world, char token[33], int events) {
  world_say(world, 7, "{\"type\":\"resume\"}");
  world_settle(world);
  const char *at = strstr(world_find_frame(world, "\"type\":\"session\""), "\"session\":\"");
  snprintf(token, 33, "%.32s", at + 11);
  for (int i = 0; i < events; i++) {
    struct hop_job job = start_fetch(world);
    world_deliver(world, &job, 200, NULL);
    world_settle(world);
    world_accept_all(world, HOP_JOB_DONE);
    world_forget_records(world);
  }
}

void leave(struct world *world, uint64_t ws) {
  core_on_ws_close(&world->core, ws);
  world_settle(world);
  world_forget_records(world);
}

void resume(struct world *world, uint64_t ws, const char *token, int64_t offset) {
  char text[160];
  assert_int_equal(core_on_ws_open(&world->core, ws, pf_slice_str("/")), 0);
  snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":%lld}", token,
      (long long)offset);
  world_say(world, ws, text);
}
