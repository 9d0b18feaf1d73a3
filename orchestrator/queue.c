/* The events of the queue: jobs in, completions, answers of origins, time. */
#include "orchestrator/queue.h"

#include <stdlib.h>
#include <string.h>

#include "orchestrator/queue_impl.h"

#define OVERDUE_ASK_MS 1000 /* how often an origin is asked about a job past its deadline */

/* ---- blobs ---- */

struct queue_blob *queue_blob_new(struct pf_slice head, struct pf_slice request) {
  struct queue_blob *blob = malloc(sizeof(*blob) + head.len + request.len);
  if (!blob) return NULL;
  *blob = (struct queue_blob){.refs = 1, .head_len = head.len, .request_len = request.len};
  if (head.len) memcpy(blob->bytes, head.data, head.len);
  if (request.len) memcpy(blob->bytes + head.len, request.data, request.len);
  return blob;
}

struct queue_blob *queue_blob_ref(struct queue_blob *blob) {
  blob->refs++;
  return blob;
}

void queue_blob_unref(struct queue_blob *blob) {
  if (!blob) return;
  PF_ASSERT(blob->refs > 0);
  if (--blob->refs == 0) free(blob);
}

/* ---- life ---- */

struct queue *queue_new(const struct queue_config *config) {
  struct queue *queue = pf_alloc(sizeof(*queue));
  queue->config = *config;
  queue->rand.state = config->seed;
  for (size_t i = 0; i < PF_COUNT(queue->hash_key); i++)
    queue->hash_key[i] = pf_rand_u64(&queue->rand);
  queue->fence_next = queue->fence_reserved = config->fence_next;
  queue->qid_next = 1;
  queue->expected_us = INT64_MAX;
  queue->loading = true;
  pf_map_init(&queue->jobs);
  pf_map_init(&queue->hosts);
  pf_map_init(&queue->origins);
  pf_list_init(&queue->ring);
  pf_list_init(&queue->executors);
  pf_heap_init(&queue->timers);
  pf_heap_init(&queue->leases);
  pf_list_init(&queue->dirty);
  pf_list_init(&queue->dirty_tombs);
  pf_list_init(&queue->dirty_origins);
  return queue;
}

void queue_free(struct queue *queue) {
  if (!queue) return;
  PF_MAP_EACH(it, &queue->jobs)
    job_free(queue, pf_container_of(it, struct job, node));
  PF_LIST_EACH(it, &queue->executors) {
    executor_lose(queue, pf_container_of(it, struct executor, link));
  }
  PF_MAP_EACH(it, &queue->origins)
    origin_free(queue, pf_container_of(it, struct origin, node));
  PF_ASSERT(queue->hosts.count == 0 && queue->request_bytes == 0);
  effects_done(queue);
  pf_map_done(&queue->jobs);
  pf_map_done(&queue->hosts);
  pf_map_done(&queue->origins);
  pf_heap_done(&queue->timers);
  pf_heap_done(&queue->leases);
  free(queue);
}

uint64_t queue_epoch(const struct queue *queue) {
  return queue->config.epoch;
}

bool queue_has_room(const struct queue *queue, size_t request_bytes) {
  return queue->request_bytes + (int64_t)request_bytes <= queue->config.request_bytes_max;
}

/* ---- jobs in ---- */

static enum hop_job_answer put_answer(enum hop_job_answer answer, uint64_t *counter) {
  (*counter)++;
  return answer;
}

/* Cancel and deadline are the origin's transactions: whatever state the job is in, it has ended.
 * The executor hears of it in the answer to its next heartbeat. */
static enum hop_job_answer put_end(
    struct queue *queue, struct origin *origin, struct job *job, const struct hop_job *item) {
  queue->counters.ended++;
  queue->urgent = true; /* if a crash undid it, the job would be fetched after its end */
  if (job && job->detail) return HOP_JOB_DONE; /* it hears of the answer that was dropped, late */
  if (job)
    job_close(queue, job);
  else
    tombstones_set(&origin->tombs, item->job.local, &queue->dirty_tombs);
  return HOP_JOB_DONE;
}

static enum hop_job_answer put_new(struct queue *queue, struct origin *origin,
    const struct hop_job *item, struct pf_slice head, struct pf_slice request, int64_t now_us) {
  struct queue_blob *blob = queue_blob_new(head, request);
  if (!blob) return put_answer(HOP_JOB_FULL, &queue->counters.full);
  struct job *job = job_new(queue, item, origin, blob, now_us);
  queue_blob_unref(blob); /* the job has its own reference */
  job->qid = queue->qid_next++;
  job_enter(queue, job, JOB_READY);
  effects_dirty(queue, job);
  if (job->id.local > origin->local_max) {
    origin->local_max = job->id.local;
    origin_dirty(queue, origin, true);
  }
  return put_answer(HOP_JOB_QUEUED, &queue->counters.inserted);
}

/* An announced job that no memory of ours knows. */
static enum hop_job_answer put_unknown(struct queue *queue, struct origin *origin,
    const struct hop_job *item, struct pf_slice head, struct pf_slice request, bool full,
    int64_t now_us) {
  /* It may be in a row that is not loaded yet; what is newer than all rows cannot. */
  if (queue->loading && item->job.local <= origin->local_max)
    return put_answer(HOP_JOB_FULL, &queue->counters.full);
  /* A queue of another epoch had it, and may have sent it. */
  if (!item->repeatable && item->first_epoch != 0 && item->first_epoch != queue->config.epoch)
    return put_answer(HOP_JOB_LOST, &queue->counters.lost);
  if (full || (int64_t)queue->jobs.count >= queue->config.jobs_max)
    return put_answer(HOP_JOB_FULL, &queue->counters.full);
  return put_new(queue, origin, item, head, request, now_us);
}

struct hop_job_reply queue_put(struct queue *queue, const struct hop_job *item,
    struct pf_slice head, struct pf_slice request, bool full, int64_t now_us) {
  struct hop_job_reply reply = {.answer = HOP_JOB_REFUSED};
  struct origin *origin = origin_get(queue, item->job.origin);
  if (!origin) return reply;
  struct job *job = job_find(queue, item->job);
  if (item->end) {
    reply.answer = put_end(queue, origin, job, item);
  } else if (job) {
    job_prolong(queue, job, item->deadline_ms, now_us);
    reply.answer = put_answer(HOP_JOB_KNOWN, &queue->counters.known);
  } else if (item->job.local < origin->low || tombstones_has(&origin->tombs, item->job.local)) {
    reply.answer = put_answer(HOP_JOB_DONE, &queue->counters.done_again);
  } else {
    reply.answer = put_unknown(queue, origin, item, head, request, full, now_us);
  }
  reply.no_executor =
      queue->slots == 0 && (reply.answer == HOP_JOB_QUEUED || reply.answer == HOP_JOB_KNOWN);
  return reply;
}

/* ---- completions ---- */

/* The origin has answered for good, whichever dispatch of the job asked it. */
static void complete_delivered(
    struct queue *queue, const struct hop_complete *item, int64_t now_us) {
  struct job *job = job_find(queue, item->job);
  queue->counters.delivered++;
  struct origin *origin = job ? job->origin : origin_find(queue, item->job.origin);
  if (origin) origin_spoke(queue, origin, now_us);
  if (job) {
    job_close(queue, job);
    return;
  }
  if (origin && item->job.local >= origin->low && !tombstones_has(&origin->tombs, item->job.local))
    tombstones_set(&origin->tombs, item->job.local, &queue->dirty_tombs);
}

static void complete_retry(
    struct queue *queue, struct job *job, const struct hop_complete *item, int64_t now_us) {
  bool sent = item->certainty != CERTAINTY_NOT_SENT;
  bool may_repeat = job->repeatable || !sent || item->outcome == OUTCOME_STATUS_NAMED;
  if (job->attempt >= job->retry.attempts || !may_repeat) {
    job_exhaust(queue, job, item->outcome, item->certainty);
    return;
  }
  queue->counters.retried++;
  job_wait(queue, job,
      retry_delay_ms(&queue->config.retry, job->attempt, item->retry_after_ms, &queue->rand),
      now_us);
}

/* The result has gone, and with it the right to fetch: the job's end waits here for its origin. */
static void complete_undelivered(
    struct queue *queue, struct job *job, const struct hop_complete *item) {
  queue->counters.undelivered++;
  if (item->detail[0]) job->detail = pf_strdup(item->detail);
  job_exhaust(queue, job, item->outcome, item->certainty);
}

/* Whether a report about its last known dispatch is still wanted. */
static bool job_awaits_end(const struct job *job, enum hop_complete_how how) {
  if (job->state == JOB_LEASED) return true;
  if (job->state != JOB_ASKING) return false;
  if (job->was_leased) return true; /* the lease was given up too early */
  /* What else an older epoch did with it is not known, but an answer came. */
  return job->doubted && how == HOP_COMPLETE_UNDELIVERED;
}

void queue_complete(struct queue *queue, const struct hop_complete *item, int64_t now_us) {
  if (item->how == HOP_COMPLETE_DELIVERED) {
    complete_delivered(queue, item, now_us);
    return;
  }
  struct job *job = job_find(queue, item->job);
  if (!job || !pf_fence_eq(job->fence, item->fence)) return;
  if (!job_awaits_end(job, item->how)) return;
  if (job->state == JOB_ASKING) job->lost -= job->blamed; /* the executor has outlived it */
  if (item->how == HOP_COMPLETE_RETRY)
    complete_retry(queue, job, item, now_us);
  else
    complete_undelivered(queue, job, item);
}

/* ---- answers of origins ---- */

static struct job *answered_job(
    const struct queue *queue, const struct queue_action *action, enum job_state state) {
  struct job *job = job_find(queue, action->job);
  if (!job || job->version != action->version || job->state != state) return NULL;
  job->asked = false;
  return job;
}

/* Its origin has ended it by its deadline, if it lives; if it ever comes back with a clock that
 * says otherwise, the tombstone keeps the job from being fetched again. */
static bool job_is_abandoned(const struct queue *queue, const struct job *job, int64_t now_us) {
  int64_t keep_us = queue->config.undelivered_keep_ms * US_PER_MS;
  return now_us - job->deadline_us >= keep_us &&
         origin_silent_us(queue, job->origin, now_us) >= keep_us;
}

/* The first of those that wait goes on asking; its answer wakes the others. */
static int64_t ask_again_ms(struct queue *queue, struct job *job) {
  const struct origin *origin = job->origin;
  bool first = origin->asking.next == &job->link || origin->exhausted.next == &job->link;
  job->tries++;
  return first ? retry_hop_ms(job->tries, &queue->rand) : retry_origin_ms(job->tries, &queue->rand);
}

/* The origin is silent: nothing is decided, and so nothing is sent again. */
static void origin_silent(struct queue *queue, struct job *job, int64_t now_us) {
  origin_fell_silent(queue, job->origin, now_us);
  if (job_is_abandoned(queue, job, now_us)) {
    queue->counters.abandoned++;
    job_close(queue, job);
    return;
  }
  job_timer(queue, job, now_us + ask_again_ms(queue, job) * US_PER_MS);
}

/* The origin lives, and cannot say yet. Nothing else of its has to be woken for that. */
static void origin_not_yet(struct queue *queue, struct job *job, int64_t now_us) {
  job_timer(queue, job, now_us + retry_hop_ms(++job->tries, &queue->rand) * US_PER_MS);
}

/* What becomes of a job whose origin still waits for it. */
static void pending_decide(struct queue *queue, struct job *job, int64_t now_us) {
  /* Without START nothing of a job that must not be repeated has left. */
  enum certainty certainty =
      job->repeatable || job->started ? CERTAINTY_SENT_UNKNOWN : CERTAINTY_NOT_SENT;
  if (job->doubted) {
    job_exhaust(queue, job, OUTCOME_QUEUE_LOST, CERTAINTY_SENT_UNKNOWN);
  } else if (job->was_leased && !job->repeatable && job->started) {
    job_exhaust(queue, job, OUTCOME_EXECUTOR_LOST, CERTAINTY_SENT_UNKNOWN);
  } else if (job->was_leased && job->lost >= QUEUE_LOST_MAX) {
    queue->counters.poisoned++;
    job_exhaust(queue, job, OUTCOME_POISON, certainty);
  } else if (job->was_leased && job->attempt >= job->retry.attempts) {
    job_exhaust(queue, job, OUTCOME_EXECUTOR_LOST, certainty);
  } else if (now_us >= job->deadline_us) {
    job_timer(queue, job, now_us + OVERDUE_ASK_MS * US_PER_MS); /* the origin is about to end it */
  } else if (job->was_leased && job->attempt > 1) {
    /* Jobs that were lost together part ways, so that one of them that takes executors down does
     * not use up the attempts of the others. */
    job_wait(queue, job, retry_delay_ms(&queue->config.retry, job->attempt - 1, 0, &queue->rand),
        now_us);
  } else {
    job_ready(queue, job);
  }
}

void queue_on_status(
    struct queue *queue, const struct queue_action *action, int answer, int64_t now_us) {
  struct job *job = answered_job(queue, action, JOB_ASKING);
  if (!job) return;
  if (answer != QUEUE_NO_ANSWER) origin_spoke(queue, job->origin, now_us);
  switch (answer) {
  case HOP_STATUS_PENDING:
    pending_decide(queue, job, now_us);
    break;
  case HOP_STATUS_RECEIVED:
  case HOP_STATUS_DONE:
  case HOP_STATUS_UNKNOWN:
    job_close(queue, job);
    break;
  case HOP_STATUS_RETRY:
    origin_not_yet(queue, job, now_us);
    break;
  default:
    origin_silent(queue, job, now_us);
    break;
  }
}

void queue_on_delivery(
    struct queue *queue, const struct queue_action *action, int answer, int64_t now_us) {
  struct job *job = answered_job(queue, action, JOB_EXHAUSTED);
  if (!job) return;
  if (answer != QUEUE_NO_ANSWER) origin_spoke(queue, job->origin, now_us);
  if (answer == QUEUE_NO_ANSWER)
    origin_silent(queue, job, now_us);
  else if (answer == HOP_RESULT_RETRY)
    origin_not_yet(queue, job, now_us);
  else
    job_close(queue, job);
}

/* ---- time ---- */

static void ready_overdue(struct queue *queue, struct job *job, int64_t now_us) {
  if (now_us >= job->deadline_us) {
    job_ask(queue, job);
    return;
  }
  queue->counters.queue_timeouts++;
  job_exhaust(queue, job, OUTCOME_QUEUE_TIMEOUT, CERTAINTY_NOT_SENT);
}

static void job_on_timer(struct queue *queue, struct job *job, int64_t now_us) {
  pf_heap_del(&queue->timers, &job->timer);
  switch (job->state) {
  case JOB_READY:
    ready_overdue(queue, job, now_us);
    break;
  case JOB_WAITING:
    if (now_us >= job->due_us)
      job_ready(queue, job);
    else
      job_ask(queue, job);
    break;
  case JOB_LEASED:
    effects_act(queue, QUEUE_DISPATCH, job);
    break;
  case JOB_ASKING:
    effects_act(queue, QUEUE_ASK, job);
    break;
  case JOB_EXHAUSTED:
    effects_act(queue, QUEUE_DELIVER, job);
    break;
  case JOB_STATE_COUNT:
    break;
  }
}

void queue_stop_leasing(struct queue *queue) {
  queue->stopping = true;
}

void queue_settle(struct queue *queue, int64_t now_us) {
  if (queue->began_us == 0) queue->began_us = now_us;
  queue->settled_us = now_us;
  lease_tick(queue, now_us);
  for (;;) {
    struct pf_heap_node *first = pf_heap_first(&queue->timers);
    if (!first || first->key > now_us) break;
    job_on_timer(queue, pf_container_of(first, struct job, timer), now_us);
  }
  if (!queue->stopping) ready_schedule(queue, now_us);
  queue->expected_us = queue_next_us(queue);
}

int64_t queue_next_us(const struct queue *queue) {
  const struct pf_heap_node *timer = pf_heap_first(&queue->timers);
  const struct pf_heap_node *lease = pf_heap_first(&queue->leases);
  int64_t next = INT64_MAX;
  if (timer) next = timer->key;
  if (lease && lease->key < next) next = lease->key;
  return next;
}
