#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "queue_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void world_open(struct world *w) {
  w->config.fence_next = w->fence_next;
  w->config.seed++;
  w->queue = queue_new(&w->config);
}

void world_init(struct world *w, uint64_t seed) {
  *w = (struct world){.now_us = 1000 * MS, .fence_next = 1};
  w->config = (struct queue_config){.epoch = 0xe0,
      .seed = seed,
      .lease_ms = 3000,
      .undelivered_keep_ms = 604800000,
      .grace_ms = 2000,
      .retry = {500, 60000, 300000},
      .jobs_max = 100000,
      .request_bytes_max = 1 << 20};
  world_open(w);
  queue_loaded(w->queue);
}

void world_done(struct world *w) {
  queue_free(w->queue);
  for (size_t i = 0; i < w->group_count; i++)
    queue_group_done(&w->groups[i]);
  for (size_t i = 0; i < w->row_count; i++)
    queue_row_done(&w->rows[i]);
  free(w->groups);
  free(w->actions);
  free(w->rows);
  free(w->tombs);
  free(w->origins);
}

/* ---- the database ---- */

static struct queue_row *row_of(struct world *w, int64_t qid) {
  for (size_t i = 0; i < w->row_count; i++)
    if (w->rows[i].qid == qid) return &w->rows[i];
  return NULL;
}

static void apply_row(struct world *w, const struct queue_row *row) {
  struct queue_row *at = row_of(w, row->qid);
  assert_int_equal(row->insert, at == NULL);
  if (!at) {
    at = row_of(w, 0);
    if (!at) {
      w->rows = pf_realloc(w->rows, (w->row_count + 1) * sizeof(*w->rows));
      at = &w->rows[w->row_count++];
    }
    *at = *row;
    queue_blob_ref(at->blob);
    if (row->detail) at->detail = pf_strdup(row->detail);
    return;
  }
  struct queue_blob *blob = at->blob;
  char *detail = at->detail;
  assert_true(pf_job_id_eq(at->job, row->job));
  *at = *row;
  at->blob = blob;
  at->detail = row->detail ? pf_strdup(row->detail) : detail;
  if (row->detail) free(detail);
}

static void apply_delete(struct world *w, int64_t qid) {
  struct queue_row *at = row_of(w, qid);
  if (!at) return; /* deleted twice is harmless */
  queue_row_done(at);
  *at = (struct queue_row){0};
}

static void apply_tomb(struct world *w, const struct queue_tomb_row *row) {
  for (size_t i = 0; i < w->tomb_count; i++) {
    if (w->tombs[i].origin != row->origin || w->tombs[i].number != row->number) continue;
    w->tombs[i] = *row;
    return;
  }
  w->tombs = pf_realloc(w->tombs, (w->tomb_count + 1) * sizeof(*w->tombs));
  w->tombs[w->tomb_count++] = *row;
}

static void apply_origin(struct world *w, const struct queue_origin_row *row) {
  size_t i = 0;
  while (i < w->origin_count && w->origins[i].origin != row->origin)
    i++;
  if (i == w->origin_count)
    w->origins = pf_realloc(w->origins, ++w->origin_count * sizeof(*w->origins));
  w->origins[i] = *row;
  for (size_t t = 0; row->forget && t < w->tomb_count;)
    if (w->tombs[t].origin == row->origin && w->tombs[t].number < row->low >> TOMB_PAGE_SHIFT)
      w->tombs[t] = w->tombs[--w->tomb_count];
    else
      t++;
}

static void apply_group(struct world *w, const struct queue_group *group) {
  if (group->fence_next) w->fence_next = group->fence_next;
  for (size_t i = 0; i < group->row_count; i++)
    apply_row(w, &group->rows[i]);
  for (size_t i = 0; i < group->delete_count; i++)
    apply_delete(w, group->deletes[i]);
  for (size_t i = 0; i < group->tomb_count; i++)
    apply_tomb(w, &group->tombs[i]);
  for (size_t i = 0; i < group->origin_count; i++)
    apply_origin(w, &group->origins[i]);
}

/* ---- turns ---- */

void world_turn(struct world *w) {
  queue_settle(w->queue, w->now_us);
  struct queue_group group;
  if (queue_take_group(w->queue, &group)) {
    w->groups = pf_realloc(w->groups, (w->group_count + 1) * sizeof(*w->groups));
    w->groups[w->group_count++] = group;
  }
  struct queue_action action;
  while (queue_take_action(w->queue, &action)) {
    w->actions = pf_realloc(w->actions, (w->action_count + 1) * sizeof(*w->actions));
    w->actions[w->action_count++] = (struct world_action){action, w->group_count};
  }
  queue_check(w->queue);
}

void world_commit_some(struct world *w, size_t count) {
  for (; count > 0 && w->durable < w->group_count; count--)
    apply_group(w, &w->groups[w->durable++]);
}

void world_commit(struct world *w) {
  world_commit_some(w, w->group_count);
}

void world_pass(struct world *w, int64_t ms) {
  w->now_us += ms * MS;
  world_turn(w);
  world_commit(w);
}

void world_crash(struct world *w) {
  queue_free(w->queue);
  for (size_t i = 0; i < w->group_count; i++)
    queue_group_done(&w->groups[i]);
  w->group_count = w->durable = w->action_count = 0;
  world_open(w);
  int64_t last = 0;
  for (size_t i = 0; i < w->row_count; i++)
    if (w->rows[i].qid > last) last = w->rows[i].qid;
  queue_load_begin(w->queue, last);
  for (size_t i = 0; i < w->origin_count; i++)
    queue_load_origin(w->queue, &w->origins[i]);
  for (size_t i = 0; i < w->tomb_count; i++)
    queue_load_tomb(w->queue, &w->tombs[i]);
  for (size_t i = 0; i < w->row_count; i++) {
    if (w->rows[i].qid == 0) continue;
    struct hop_job item;
    assert_int_equal(hop_job_decode(&item, queue_blob_head(w->rows[i].blob), NULL), PF_OK);
    queue_load_row(w->queue, &w->rows[i], &item, w->rows[i].blob, w->now_us);
  }
  queue_loaded(w->queue);
  world_turn(w);
}

bool world_act(struct world *w, struct queue_action *ret_action) {
  if (w->action_count == 0 || w->actions[0].gate > w->durable) return false;
  *ret_action = w->actions[0].action;
  memmove(w->actions, w->actions + 1, --w->action_count * sizeof(*w->actions));
  return true;
}

struct queue_action world_expect(struct world *w, enum queue_action_kind kind, uint64_t local) {
  struct queue_action action = {0};
  assert_true(world_act(w, &action));
  assert_int_equal(action.kind, kind);
  assert_int_equal(action.job.local, local);
  return action;
}

void world_expect_none(struct world *w) {
  struct queue_action action;
  if (world_act(w, &action))
    fail_msg(
        "unexpected action %d about job %llu", action.kind, (unsigned long long)action.job.local);
}

const struct queue_row *world_row(const struct world *w, uint64_t local) {
  for (size_t i = 0; i < w->row_count; i++)
    if (w->rows[i].qid != 0 && w->rows[i].job.local == local) return &w->rows[i];
  return NULL;
}

/* ---- events ---- */

struct pf_job_id world_id(uint64_t local) {
  return (struct pf_job_id){WORLD_ORIGIN, local};
}

struct hop_job world_job(uint64_t local) {
  struct hop_job job = {.job = world_id(local),
      .repeatable = true,
      .retry = {.attempts = 4},
      .deadline_ms = 300000,
      .queue_ms = 60000,
      .attempt_ms = 30000};
  snprintf(job.host, sizeof(job.host), "a:80");
  memset(job.capability.bytes, (int)local & 0xff, sizeof(job.capability.bytes));
  return job;
}

enum hop_job_answer world_put(struct world *w, const struct hop_job *job) {
  struct pf_buf head;
  pf_buf_init(&head, 4096);
  hop_job_encode(&head, job);
  assert_int_equal(head.err, PF_OK);
  struct hop_job_reply reply =
      queue_put(w->queue, job, pf_buf_view(&head), pf_slice_str("request"), false, w->now_us);
  pf_buf_done(&head);
  return reply.answer;
}

void world_origin(struct world *w, uint64_t epoch, uint64_t low) {
  struct hop_jobs_head head = {.origin = WORLD_ORIGIN, .origin_epoch = epoch, .low = low};
  snprintf(head.url, sizeof(head.url), "http://127.0.0.1:8786");
  assert_int_equal(queue_origin_seen(w->queue, &head, w->now_us), PF_OK);
}

size_t world_beat(struct world *w, uint64_t executor, uint64_t incarnation, int64_t slots,
    const struct hop_held *held, size_t count) {
  struct hop_heartbeat beat = {.executor = executor,
      .incarnation = incarnation,
      .slots = slots,
      .free = slots - (int64_t)count};
  snprintf(beat.url, sizeof(beat.url), "http://127.0.0.1:8789");
  struct pf_buf packed, aborts;
  pf_buf_init(&packed, 1 << 20);
  pf_buf_init(&aborts, 1 << 20);
  for (size_t i = 0; i < count; i++)
    hop_held_append(&packed, &held[i]);
  assert_int_equal(
      queue_heartbeat(w->queue, &beat, pf_buf_view(&packed), w->now_us, &aborts), PF_OK);
  size_t aborted = aborts.len / HOP_HELD_BYTES;
  pf_buf_done(&packed);
  pf_buf_done(&aborts);
  return aborted;
}

enum job_state world_state(const struct world *w, uint64_t local) {
  enum job_state state;
  int attempt;
  struct pf_fence fence;
  return queue_find(w->queue, world_id(local), &state, &attempt, &fence) ? state : JOB_STATE_COUNT;
}
