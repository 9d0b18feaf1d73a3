/* Taking over the rows that an earlier start left behind. */
#include "orchestrator/queue_impl.h"

void queue_load_begin(struct queue *queue, int64_t last_qid) {
  PF_ASSERT(queue->loading && queue->jobs.count == 0);
  queue->qid_next = last_qid + 1;
}

/* Over the limit (it was higher once) an origin's rows wait in the file. */
void queue_load_origin(struct queue *queue, const struct queue_origin_row *row) {
  struct origin *origin = origin_get(queue, row->origin);
  if (!origin) return;
  origin->low = row->low;
  origin->local_max = row->local_max;
  origin->silent_once_us = origin->silent_row_us = row->silent_us;
}

void queue_load_tomb(struct queue *queue, const struct queue_tomb_row *row) {
  struct origin *origin = origin_get(queue, row->origin);
  if (origin) tombstones_load(&origin->tombs, row->number, row->bits);
}

/* The executor may be alive and may list it in its next heartbeat, so the lease goes on. START is
 * not stored: a job that must not be repeated counts as started. */
static void load_leased(
    struct queue *queue, struct job *job, const struct queue_row *row, int64_t now_us) {
  struct executor *executor = executor_find(queue, row->executor, row->incarnation);
  if (!executor)
    executor = executor_new(queue, row->executor, row->incarnation, now_us, queue->config.grace_ms);
  job->started = !job->repeatable;
  job->executor = executor;
  job->taken = true;
  job_enter(queue, job, JOB_LEASED);
}

static void load_queued(struct queue *queue, struct job *job, int64_t now_us) {
  if (job->attempt == 0) {
    job_enter(queue, job, JOB_READY);
    return;
  }
  job->due_us = now_us + retry_delay_ms(&queue->config.retry, 1, 0, &queue->rand) * US_PER_MS;
  job_enter(queue, job, JOB_WAITING);
}

/* The epoch is renewed when commits may have been lost, and a lost one may have been a lease. So a
 * job of an older epoch that must not be repeated is in doubt, whatever its row says. */
static void load_doubted(struct queue *queue, struct job *job) {
  job->doubted = true;
  job_enter(queue, job, JOB_ASKING);
  effects_act(queue, QUEUE_ASK, job);
}

void queue_load_row(struct queue *queue, const struct queue_row *row, const struct hop_job *item,
    struct queue_blob *blob, int64_t now_us) {
  PF_ASSERT(queue->loading);
  struct origin *origin = origin_get(queue, row->job.origin);
  if (!origin || job_find(queue, row->job)) return;
  if (row->job.local < origin->low || tombstones_has(&origin->tombs, row->job.local)) {
    effects_delete(queue, row->qid); /* it ended while its row was not in memory */
    return;
  }
  if (row->state == QUEUE_ROW_EXHAUSTED) blob = NULL; /* it is not sent again */
  /* Its times began before the silence of its origin: later it cannot have been announced. */
  int64_t announced_us = origin->heard_us ? now_us : now_us - origin->silent_once_us;
  struct job *job = job_new(queue, item, origin, blob, announced_us);
  job->qid = row->qid;
  job->stored = true;
  job->attempt = row->attempt;
  job->lost = row->lost;
  job->fence = row->fence;
  job->executor_id = row->executor;
  job->incarnation = row->incarnation;
  job->outcome = row->outcome;
  job->certainty = row->certainty;
  if (row->detail) job->detail = pf_strdup(row->detail);
  if (row->state == QUEUE_ROW_EXHAUSTED) {
    job_enter(queue, job, JOB_EXHAUSTED);
    effects_act(queue, QUEUE_DELIVER, job);
  } else if (!job->repeatable && row->fence.epoch != queue->config.epoch) {
    load_doubted(queue, job);
  } else if (row->state == QUEUE_ROW_LEASED) {
    load_leased(queue, job, row, now_us);
  } else {
    load_queued(queue, job, now_us);
  }
}

void queue_loaded(struct queue *queue) {
  queue->loading = false;
}
