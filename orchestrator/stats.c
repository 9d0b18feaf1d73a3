/* What operators and tests see of the queue, and what must always hold. */
#include <string.h>

#include "orchestrator/queue_impl.h"

static int64_t oldest_ready_us(const struct queue *queue, int64_t now_us) {
  int64_t oldest = now_us;
  PF_LIST_EACH(it, &queue->ring) {
    const struct host *host = pf_container_of(it, struct host, ring);
    const struct job *job = pf_container_of(host->ready.next, struct job, link);
    if (job->accepted_us < oldest) oldest = job->accepted_us;
  }
  return now_us - oldest;
}

static uint64_t count_silent(const struct queue *queue, int64_t now_us) {
  uint64_t count = 0;
  PF_MAP_EACH(it, &queue->origins) {
    const struct origin *origin = pf_container_of(it, struct origin, node);
    count += origin->jobs > 0 &&
             origin_silent_us(queue, origin, now_us) > QUEUE_ORIGIN_SILENT_MS * INT64_C(1000);
  }
  return count;
}

void queue_read_stats(const struct queue *queue, int64_t now_us, struct queue_stats *ret_stats) {
  *ret_stats = queue->counters;
  ret_stats->jobs = queue->jobs.count;
  memcpy(ret_stats->by_state, queue->by_state, sizeof(ret_stats->by_state));
  ret_stats->request_bytes = (uint64_t)queue->request_bytes;
  ret_stats->slots = (uint64_t)queue->slots;
  ret_stats->origins = queue->origins.count;
  ret_stats->silent_origins = count_silent(queue, now_us);
  ret_stats->hosts = queue->hosts.count;
  ret_stats->oldest_ready_us = oldest_ready_us(queue, now_us);
  ret_stats->loading = queue->loading;
  PF_LIST_EACH(it, &queue->executors) {
    const struct executor *executor = pf_container_of(it, struct executor, link);
    int64_t credit = executor_credit(executor);
    ret_stats->executors += executor->known;
    if (credit > 0) ret_stats->free_slots += (uint64_t)credit;
  }
}

uint64_t queue_count_abandoned(const struct queue *queue) {
  return queue->counters.abandoned;
}

void queue_each_executor(const struct queue *queue, int64_t now_us,
    void (*each)(const struct queue_executor_info *info, void *arg), void *arg) {
  PF_LIST_EACH(it, &queue->executors) {
    const struct executor *executor = pf_container_of(it, struct executor, link);
    int64_t credit = executor_credit(executor);
    struct queue_executor_info info = {.executor = executor->id,
        .incarnation = executor->incarnation,
        .url = executor->url,
        .slots = executor->slots,
        .free = credit > 0 ? credit : 0,
        .leased = executor->leased_count,
        .silent_us = now_us - executor->heard_us,
        .leaving = executor->leaving};
    each(&info, arg);
  }
}

void queue_each_origin(const struct queue *queue, int64_t now_us,
    void (*each)(const struct queue_origin_info *info, void *arg), void *arg) {
  PF_MAP_EACH(it, &queue->origins) {
    const struct origin *origin = pf_container_of(it, struct origin, node);
    struct queue_origin_info info = {.origin = origin->id,
        .epoch = origin->epoch,
        .low = origin->low,
        .url = origin->url,
        .jobs = origin->jobs,
        .silent_us = origin_silent_us(queue, origin, now_us)};
    each(&info, arg);
  }
}

void queue_each_undelivered(const struct queue *queue, int64_t now_us, size_t limit,
    void (*each)(const struct queue_undelivered_info *info, void *arg), void *arg) {
  PF_MAP_EACH(node, &queue->origins) {
    const struct origin *origin = pf_container_of(node, struct origin, node);
    int64_t silent_us = origin_silent_us(queue, origin, now_us);
    PF_LIST_EACH(link, &origin->exhausted) {
      const struct job *job = pf_container_of(link, struct job, link);
      if (limit-- == 0) return;
      struct queue_undelivered_info info = {.job = job->id,
          .outcome = job->outcome,
          .certainty = job->certainty,
          .attempt = job->attempt,
          .detail = job->detail,
          .silent_us = silent_us};
      each(&info, arg);
    }
  }
}

bool queue_find(const struct queue *queue, struct pf_job_id id, enum job_state *ret_state,
    int *ret_attempt, struct pf_fence *ret_fence) {
  const struct job *job = job_find(queue, id);
  if (!job) return false;
  *ret_state = job->state;
  *ret_attempt = job->attempt;
  *ret_fence = job->fence;
  return true;
}

/* ---- invariants ---- */

/* Each job has a place, and something that will move it on. */
static bool job_is_sound(const struct queue *queue, const struct job *job) {
  bool timed = pf_heap_has(&job->timer);
  bool listed = !pf_list_empty(&job->link);
  if ((job->executor != NULL) != (job->state == JOB_LEASED)) return false;
  if (job->attempt > job->retry.attempts) return false;
  if (job->fence.epoch == queue->config.epoch && job->fence.counter >= queue->fence_next)
    return false;
  if (!job->stored && pf_list_empty(&job->dirty)) return false;
  switch (job->state) {
  case JOB_READY:
    return listed && timed;
  case JOB_WAITING:
    return !listed && timed;
  case JOB_LEASED: /* the executor's lease moves it on, or the dispatch's answer or repetition */
    return listed && pf_heap_has(&job->executor->lease) && (job->taken || job->asked || timed);
  case JOB_ASKING:
  case JOB_EXHAUSTED:
    return listed && job->asked != timed;
  case JOB_STATE_COUNT:
    break;
  }
  return false;
}

/* Counters that are kept one by one say the same as what they count, and fences only rise: none is
 * given out that a durable block does not cover. */
static uint64_t totals_broken(const struct queue *queue) {
  uint64_t jobs = 0;
  int64_t leased = 0, slots = 0;
  for (int i = 0; i < JOB_STATE_COUNT; i++)
    jobs += queue->by_state[i];
  PF_LIST_EACH(it, &queue->executors) {
    const struct executor *executor = pf_container_of(it, struct executor, link);
    leased += executor->leased_count;
    slots += executor->slots;
  }
  return (uint64_t)(jobs != queue->jobs.count) +
         (uint64_t)(leased != (int64_t)queue->by_state[JOB_LEASED]) +
         (uint64_t)(slots != queue->slots) + (uint64_t)(queue->fence_next > queue->fence_reserved) +
         (uint64_t)(queue->request_bytes < 0);
}

uint64_t queue_check_some(struct queue *queue, size_t buckets) {
  uint64_t unsound = totals_broken(queue);
  const struct pf_heap_node *timer = pf_heap_first(&queue->timers);
  if (timer && timer->key < queue->settled_us) unsound++;
  if (buckets > queue->jobs.mask) buckets = queue->jobs.mask + 1; /* each job once */
  for (; buckets > 0; buckets--)
    for (struct pf_map_node *n = pf_map_bucket(&queue->jobs, ++queue->check_at); n; n = n->next)
      unsound += !job_is_sound(queue, pf_container_of(n, struct job, node));
  return unsound;
}

void queue_check(const struct queue *queue) {
  uint64_t by_state[JOB_STATE_COUNT] = {0};
  int64_t request_bytes = 0;
  PF_MAP_EACH(it, &queue->jobs) {
    const struct job *job = pf_container_of(it, struct job, node);
    PF_ASSERT(job_is_sound(queue, job));
    if (job->blob) request_bytes += (int64_t)(job->blob->head_len + job->blob->request_len);
    by_state[job->state]++;
  }
  PF_ASSERT(memcmp(by_state, queue->by_state, sizeof(by_state)) == 0);
  PF_ASSERT(request_bytes == queue->request_bytes);
  PF_ASSERT(totals_broken(queue) == 0);
}
