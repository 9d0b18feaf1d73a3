/* Executors and what they hold. A lease is about the executor being alive: heartbeats renew all of
 * one incarnation's leases at once, its silence ends them, whatever time their fetches may take. */
#include <stdlib.h>
#include <string.h>

#include "orchestrator/queue_impl.h"

struct executor *executor_find(const struct queue *queue, uint64_t id, uint64_t incarnation) {
  PF_LIST_EACH(it, &queue->executors) {
    struct executor *executor = pf_container_of(it, struct executor, link);
    if (executor->id == id && executor->incarnation == incarnation) return executor;
  }
  return NULL;
}

struct executor *executor_new(
    struct queue *queue, uint64_t id, uint64_t incarnation, int64_t heard_us, int64_t grace_ms) {
  struct executor *executor = pf_alloc(sizeof(*executor));
  executor->id = id;
  executor->incarnation = incarnation;
  executor->heard_us = heard_us;
  pf_list_init(&executor->leased);
  pf_list_push(&queue->executors, &executor->link);
  queue->executor_count++;
  pf_heap_set(
      &queue->leases, &executor->lease, heard_us + (queue->config.lease_ms + grace_ms) * US_PER_MS);
  return executor;
}

static void executor_set_slots(struct queue *queue, struct executor *executor, int64_t slots) {
  queue->slots += slots - executor->slots;
  executor->slots = slots;
}

int64_t executor_credit(const struct executor *executor) {
  if (!executor->known || executor->leaving || executor->full) return 0;
  return executor->slots - executor->leased_count - executor->unusable;
}

void lease_attach(struct job *job, struct executor *executor) {
  pf_list_push(&executor->leased, &job->link);
  executor->leased_count++;
  job->host->leased++;
  job->beat = executor->beat;
  job->executor_id = executor->id;
  job->incarnation = executor->incarnation;
}

void lease_detach(struct job *job) {
  pf_list_del(&job->link);
  job->executor->leased_count--;
  job->host->leased--;
  job->executor = NULL;
}

/* Whether anything was sent is for the origin and START to say. */
void lease_lose(struct queue *queue, struct job *job, bool blamed) {
  queue->counters.leases_lost++;
  job->lost += blamed;
  job->blamed = blamed;
  job_ask(queue, job);
}

void executor_lose(struct queue *queue, struct executor *executor) {
  if (executor->known && !executor->leaving) queue->counters.executors_lost++;
  /* Of many jobs all but one are innocent, and nothing tells which: then none is blamed. */
  bool blamed = !executor->leaving && executor->leased_count <= QUEUE_SUSPECTS_MAX;
  PF_LIST_EACH(it, &executor->leased) {
    lease_lose(queue, pf_container_of(it, struct job, link), blamed);
  }
  PF_ASSERT(executor->leased_count == 0);
  effects_executor_gone(queue, executor);
  executor_set_slots(queue, executor, 0);
  pf_heap_del(&queue->leases, &executor->lease);
  pf_list_del(&executor->link);
  queue->executor_count--;
  free(executor);
}

/* If we come much later than we wanted to be called, it was us who slept (stopped, suspended,
 * starved): the heartbeats of that time are still in the sockets, and get the time to be read. */
static void lease_excuse(struct queue *queue, int64_t now_us) {
  int64_t lease_us = queue->config.lease_ms * US_PER_MS;
  if (now_us - queue->expected_us <= lease_us / 4) return;
  PF_LIST_EACH(it, &queue->executors) {
    struct executor *executor = pf_container_of(it, struct executor, link);
    if (executor->lease.key < now_us + lease_us / 2)
      pf_heap_set(&queue->leases, &executor->lease, now_us + lease_us / 2);
  }
}

void lease_tick(struct queue *queue, int64_t now_us) {
  lease_excuse(queue, now_us);
  for (;;) {
    struct pf_heap_node *first = pf_heap_first(&queue->leases);
    if (!first || first->key > now_us) return;
    executor_lose(queue, pf_container_of(first, struct executor, lease));
  }
}

/* ---- heartbeats ---- */

static bool executor_replaced(const struct executor *executor, uint64_t incarnation) {
  for (size_t i = 0; i < EXECUTOR_REPLACED_MAX; i++)
    if (executor->replaced[i] == incarnation) return true;
  return false;
}

/* The executor that speaks for the first time takes over the list of those it replaces. */
static void executor_inherit(struct executor *executor, const struct executor *old) {
  executor->replaced[0] = old->incarnation;
  memcpy(executor->replaced + 1, old->replaced, sizeof(old->replaced) - sizeof(old->replaced[0]));
}

/* The sender of a heartbeat. A new incarnation under a known id is the proof that the old one has
 * gone. NULL: it is one of those itself (a delayed call), or over the limit. */
static struct executor *beat_sender(
    struct queue *queue, const struct hop_heartbeat *beat, int64_t now_us, int *ret_err) {
  struct executor *executor = executor_find(queue, beat->executor, beat->incarnation);
  if (executor && executor->known) return executor;
  PF_LIST_EACH(it, &queue->executors) {
    const struct executor *other = pf_container_of(it, struct executor, link);
    if (other->id == beat->executor && executor_replaced(other, beat->incarnation)) return NULL;
  }
  if (!executor) {
    if (queue->executor_count >= QUEUE_EXECUTORS_MAX) return *ret_err = PF_ELIMIT, NULL;
    executor = executor_new(queue, beat->executor, beat->incarnation, now_us, 0);
  }
  PF_LIST_EACH(it, &queue->executors) {
    struct executor *other = pf_container_of(it, struct executor, link);
    if (other == executor || other->id != beat->executor) continue;
    executor_inherit(executor, other);
    executor_lose(queue, other);
  }
  return executor;
}

/* Whether this dispatch is one that the executor is to go on with. A lease that was lost by silence
 * is taken up again while nobody else has got the job: the fence is still the newest. */
static bool held_renew(
    struct queue *queue, struct executor *executor, const struct hop_held *held) {
  struct job *job = job_find(queue, held->job);
  if (!job || !pf_fence_eq(job->fence, held->fence) || job->doubted) return false;
  if (job->state == JOB_EXHAUSTED) return false; /* its origin is still to hear how it ended */
  if (job_is_over(job)) {
    job_close(queue, job);
    return false;
  }
  if (job->state == JOB_ASKING && job->was_leased && job->executor_id == executor->id &&
      job->incarnation == executor->incarnation) {
    job->lost -= job->blamed;
    job->executor = executor;
    job_move(queue, job, JOB_LEASED);
  }
  if (job->state != JOB_LEASED || job->executor != executor) return false;
  job->beat = executor->beat;
  job->taken = true;
  job->missed = 0;
  return true;
}

/* Unknown jobs are left alone while rows are still being loaded, and if another epoch of this queue
 * sent them: then their result is still worth having. */
static bool held_abort(const struct queue *queue, const struct hop_held *held) {
  if (job_find(queue, held->job)) return true;
  return !queue->loading && held->fence.epoch == queue->config.epoch;
}

static bool held_ended(const struct queue *queue, const struct hop_held *held) {
  const struct origin *origin = origin_find(queue, held->job.origin);
  return origin &&
         (held->job.local < origin->low || tombstones_has(&origin->tombs, held->job.local));
}

static void beat_find_missing(struct queue *queue, struct executor *executor) {
  PF_LIST_EACH(it, &executor->leased) {
    struct job *job = pf_container_of(it, struct job, link);
    if (!job->taken || job->beat == executor->beat) continue;
    if (++job->missed >= QUEUE_MISSED_MAX) lease_lose(queue, job, false);
  }
}

static void beat_apply(struct queue *queue, struct executor *executor,
    const struct hop_heartbeat *beat, int64_t now_us) {
  executor->known = true;
  executor->heard_us = now_us;
  executor->beat++;
  executor->full = false;
  executor->leaving = beat->leaving;
  memcpy(executor->url, beat->url, sizeof(executor->url));
  int64_t slots = beat->slots < QUEUE_SLOTS_MAX ? beat->slots : QUEUE_SLOTS_MAX;
  executor_set_slots(queue, executor, slots > 0 && !beat->leaving ? slots : 0);
  pf_heap_set(&queue->leases, &executor->lease, now_us + queue->config.lease_ms * US_PER_MS);
}

int queue_heartbeat(struct queue *queue, const struct hop_heartbeat *beat, struct pf_slice held,
    int64_t now_us, struct pf_buf *ret_abort) {
  lease_tick(queue, now_us); /* what has been silent too long is lost, also if it speaks now */
  if (beat->leaving && held.len == 0 && !executor_find(queue, beat->executor, beat->incarnation))
    return PF_OK; /* a repeated goodbye */
  int err = PF_OK;
  struct executor *executor = beat_sender(queue, beat, now_us, &err);
  if (err) return err;
  if (executor) beat_apply(queue, executor, beat, now_us);

  struct hop_held entry;
  int64_t count = 0, foreign = 0;
  for (; hop_held_read(held, (size_t)count, &entry); count++) {
    if (executor && held_renew(queue, executor, &entry)) continue;
    if (!held_ended(queue, &entry)) foreign++; /* else it is only about to go there */
    if (!held_abort(queue, &entry)) continue;
    queue->counters.aborts++;
    hop_held_append(ret_abort, &entry);
  }
  if (!executor) return PF_OK;
  int64_t withheld = executor->slots - count - beat->free;
  executor->unusable = foreign + (withheld > 0 ? withheld : 0);
  beat_find_missing(queue, executor);
  if (executor->leaving && count == 0) executor_lose(queue, executor);
  return PF_OK;
}

/* ---- START and the answers to dispatches ---- */

bool queue_has_untaken(const struct queue *queue) {
  PF_LIST_EACH(it, &queue->executors) {
    const struct executor *executor = pf_container_of(it, struct executor, link);
    PF_LIST_EACH(held, &executor->leased) {
      if (!pf_container_of(held, struct job, link)->taken) return true;
    }
  }
  return false;
}

bool queue_start(struct queue *queue, const struct hop_held *held, int64_t now_us) {
  struct job *job = job_find(queue, held->job);
  bool go = job && job->state == JOB_LEASED && pf_fence_eq(job->fence, held->fence) &&
            job->executor->lease.key > now_us && !job_is_over(job);
  if (!go) return queue->counters.start_refused++, false;
  if (!job->started) queue->counters.started++;
  job->started = true;
  return true;
}

/* "Malformed" says nothing about a copy that may have arrived earlier; "full" is the answer to all
 * copies (executor/seen.h), so it cannot be true of one that was started or held. What is uncertain
 * the heartbeats decide: they list the job, or its lease ends as any other. */
static bool refusal_is_certain(struct job *job, int answer) {
  bool held = job->started || job->taken;
  if (!held && (job->tries == 0 || answer == HOP_EXECUTE_FULL)) return true;
  job->taken = true;
  job->beat = job->executor->beat;
  return false;
}

void queue_on_dispatch(
    struct queue *queue, const struct queue_action *action, int answer, int64_t now_us) {
  struct job *job = job_find(queue, action->job);
  if (!job || job->version != action->version || job->state != JOB_LEASED) return;
  job->asked = false;
  switch (answer) {
  case HOP_EXECUTE_TAKEN:
  case HOP_EXECUTE_SEEN:
    job->taken = true;
    job->beat = job->executor->beat;
    break;
  case HOP_EXECUTE_FULL: /* nothing was tried, so no attempt is spent */
    queue->counters.full_answers++;
    job->executor->full = true;
    if (!refusal_is_certain(job, answer)) break;
    job->attempt--;
    job_ready(queue, job);
    break;
  case HOP_EXECUTE_WRONG_INCARNATION:
    executor_lose(queue, job->executor);
    break;
  case HOP_EXECUTE_REFUSED:
    if (refusal_is_certain(job, answer))
      job_exhaust(queue, job, OUTCOME_EXECUTOR_INTERNAL, CERTAINTY_NOT_SENT);
    break;
  default: /* it may have arrived: the same fence goes again, and is taken or seen */
    job_timer(queue, job, now_us + retry_hop_ms(++job->tries, &queue->rand) * US_PER_MS);
    break;
  }
}

bool queue_view_executor(
    const struct queue *queue, uint64_t id, uint64_t incarnation, char ret_url[HOP_URL_MAX]) {
  const struct executor *executor = executor_find(queue, id, incarnation);
  if (!executor || !executor->known) return false;
  memcpy(ret_url, executor->url, HOP_URL_MAX);
  return true;
}
