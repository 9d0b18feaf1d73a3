/* The states of a job.
 *
 *                  queue wait over
 *        READY ------------------------------------------> EXHAUSTED --> closed
 *        | ^  ^\--------------.                               ^ ^
 *  slot  | |   \ due           \ deadline                     | |
 *  free  | |    \               v         pending, started    | |
 *        | | WAITING ------> ASKING --------------------------' |
 *        | |   ^  deadline    | ^ |                             |
 *        | |   |      pending | | | done, unknown               |
 *        | '---+--------------' | '-----------> closed          |
 *        v     | retry          | lease lost                    |
 *        LEASED ----------------'                               |
 *          |\--------------------------------------------------' last attempt failed here
 *          '--> closed: delivered
 *
 * Each state is a list: READY its host's, LEASED its executor's, ASKING and EXHAUSTED its origin's;
 * WAITING jobs are in the timer heap only. */
#include <stdlib.h>

#include "base/fault.h"
#include "orchestrator/queue_impl.h"

const char *const job_state_names[JOB_STATE_COUNT] = {
    "ready", "waiting", "leased", "asking", "exhausted"};

static const unsigned job_allowed[JOB_STATE_COUNT] = {
    [JOB_READY] = PF_BIT(JOB_LEASED) | PF_BIT(JOB_ASKING) | PF_BIT(JOB_EXHAUSTED),
    [JOB_WAITING] = PF_BIT(JOB_READY) | PF_BIT(JOB_ASKING),
    [JOB_LEASED] =
        PF_BIT(JOB_READY) | PF_BIT(JOB_WAITING) | PF_BIT(JOB_ASKING) | PF_BIT(JOB_EXHAUSTED),
    [JOB_ASKING] =
        PF_BIT(JOB_READY) | PF_BIT(JOB_WAITING) | PF_BIT(JOB_LEASED) | PF_BIT(JOB_EXHAUSTED),
    [JOB_EXHAUSTED] = 0,
};

static bool job_eq(const struct pf_map_node *node, const void *key) {
  return pf_job_id_eq(
      pf_container_of(node, const struct job, node)->id, *(const struct pf_job_id *)key);
}

struct job *job_find(const struct queue *queue, struct pf_job_id id) {
  struct pf_map_node *node = pf_map_find(&queue->jobs, pf_job_id_hash(id), job_eq, &id);
  return node ? pf_container_of(node, struct job, node) : NULL;
}

static void job_keep_blob(struct queue *queue, struct job *job, struct queue_blob *blob) {
  if (!blob) return;
  job->blob = queue_blob_ref(blob);
  queue->request_bytes += (int64_t)(blob->head_len + blob->request_len);
}

void job_drop_blob(struct queue *queue, struct job *job) {
  if (!job->blob) return;
  queue->request_bytes -= (int64_t)(job->blob->head_len + job->blob->request_len);
  queue_blob_unref(job->blob);
  job->blob = NULL;
}

static int64_t later_us(int64_t now_us, int64_t ms) {
  if (ms < 0) ms = 0;
  if (ms > WIRE_DEADLINE_MS_MAX) ms = WIRE_DEADLINE_MS_MAX;
  return now_us + ms * US_PER_MS;
}

struct job *job_new(struct queue *queue, const struct hop_job *item, struct origin *origin,
    struct queue_blob *blob, int64_t now_us) {
  struct job *job = pf_alloc(sizeof(*job));
  pf_list_init(&job->link);
  pf_list_init(&job->dirty);
  job->id = item->job;
  job->host = host_get(queue, item->host);
  job->host->jobs++;
  job->origin = origin;
  origin->jobs++;
  job->capability = item->capability;
  job->retry = item->retry;
  job->repeatable = item->repeatable;
  job->attempt_ms = item->attempt_ms;
  job->fence.epoch = queue->config.epoch;
  job->accepted_us = now_us;
  job->queue_until_us = later_us(now_us, item->queue_ms);
  job->deadline_us = later_us(now_us, item->deadline_ms);
  job_keep_blob(queue, job, blob);
  pf_map_put(&queue->jobs, &job->node, pf_job_id_hash(job->id));
  return job;
}

/* Only a job that is ready or waits for its retry can still be in time: in all other states the end
 * comes from the executor or from the origin. */
static int64_t ready_until_us(const struct job *job) {
  if (job->attempt > 0 || job->deadline_us < job->queue_until_us) return job->deadline_us;
  return job->queue_until_us;
}

/* When a job that nobody has must be looked at. */
static int64_t due_us(const struct job *job) {
  if (job->state == JOB_READY) return ready_until_us(job);
  return job->due_us < job->deadline_us ? job->due_us : job->deadline_us;
}

static void state_enter(struct queue *queue, struct job *job) {
  switch (job->state) {
  case JOB_READY:
    ready_push(queue, job, job->attempt > 0);
    job_timer(queue, job, due_us(job));
    break;
  case JOB_WAITING:
    if (!PF_FAULT_BREAKS("orchestrator.retry")) job_timer(queue, job, due_us(job));
    break;
  case JOB_LEASED:
    lease_attach(job, job->executor);
    break;
  case JOB_ASKING:
    pf_list_push(&job->origin->asking, &job->link);
    break;
  case JOB_EXHAUSTED:
    pf_list_push(&job->origin->exhausted, &job->link);
    break;
  case JOB_STATE_COUNT:
    break;
  }
  queue->by_state[job->state]++;
}

static void state_leave(struct queue *queue, struct job *job) {
  if (job->state == JOB_READY)
    ready_del(job);
  else if (job->state == JOB_LEASED)
    lease_detach(job);
  else
    pf_list_del(&job->link);
  pf_heap_del(&queue->timers, &job->timer);
  queue->by_state[job->state]--;
}

void job_enter(struct queue *queue, struct job *job, enum job_state state) {
  job->state = state;
  state_enter(queue, job);
}

void job_move(struct queue *queue, struct job *job, enum job_state to) {
  PF_ASSERT(job_allowed[job->state] & PF_BIT(to));
  PF_ASSERT((to == JOB_LEASED) == (job->executor != NULL && job->state != JOB_LEASED));
  state_leave(queue, job);
  job->version++;
  job->tries = 0;
  job->asked = false;
  job->state = to;
  state_enter(queue, job);
}

/* A time that has passed, like a deadline that a late failure has missed, is due at the next
 * settle. */
void job_timer(struct queue *queue, struct job *job, int64_t at_us) {
  if (at_us < queue->settled_us) at_us = queue->settled_us;
  pf_heap_set(&queue->timers, &job->timer, at_us);
}

void job_free(struct queue *queue, struct job *job) {
  state_leave(queue, job);
  pf_list_del(&job->dirty);
  pf_map_del(&queue->jobs, &job->node);
  job_drop_blob(queue, job);
  job->origin->jobs--;
  host_unref(queue, job->host);
  free(job->detail);
  free(job);
}

void job_prolong(struct queue *queue, struct job *job, int64_t deadline_ms, int64_t now_us) {
  int64_t deadline_us = later_us(now_us, deadline_ms);
  if (deadline_us <= job->deadline_us) return;
  job->deadline_us = deadline_us;
  if (job->state == JOB_READY || job->state == JOB_WAITING) job_timer(queue, job, due_us(job));
}

bool job_is_over(const struct job *job) {
  return job->id.local < job->origin->low;
}

void job_close(struct queue *queue, struct job *job) {
  tombstones_set(&job->origin->tombs, job->id.local, &queue->dirty_tombs);
  if (job->stored) effects_delete(queue, job->qid);
  job_free(queue, job);
}

/* ---- the moves that have a row or an action with them ---- */

void job_ready(struct queue *queue, struct job *job) {
  job->started = false;
  job_move(queue, job, JOB_READY);
  effects_dirty(queue, job);
}

void job_wait(struct queue *queue, struct job *job, int64_t delay_ms, int64_t now_us) {
  job->started = false;
  job->due_us = now_us + delay_ms * US_PER_MS;
  job_move(queue, job, JOB_WAITING);
  effects_dirty(queue, job);
}

/* No row: a crash finds the job as it was and comes to the same question. */
void job_ask(struct queue *queue, struct job *job) {
  job->was_leased = job->state == JOB_LEASED;
  job_move(queue, job, JOB_ASKING);
  effects_act(queue, QUEUE_ASK, job);
}

/* The row comes first: once the origin may have heard of the failure, no restart may fetch. */
void job_exhaust(
    struct queue *queue, struct job *job, enum outcome outcome, enum certainty certainty) {
  job->outcome = outcome;
  job->certainty = certainty;
  job_move(queue, job, JOB_EXHAUSTED);
  effects_dirty(queue, job);
  effects_act(queue, QUEUE_DELIVER, job);
  queue->counters.exhausted++;
}
