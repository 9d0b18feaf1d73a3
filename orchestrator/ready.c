/* Ready jobs by host, and which of them gets the next free slot. */
#include <stdlib.h>
#include <string.h>

#include "orchestrator/queue_impl.h"

struct host_key {
  const char *name;
  size_t len;
};

static bool host_eq(const struct pf_map_node *node, const void *key) {
  const struct host *host = pf_container_of(node, const struct host, node);
  const struct host_key *wanted = key;
  return host->name_len == wanted->len && memcmp(host->name, wanted->name, wanted->len) == 0;
}

struct host *host_get(struct queue *queue, const char *name) {
  struct host_key key = {name, strlen(name)};
  uint64_t hash = pf_hash_bytes(queue->hash_key, name, key.len);
  struct pf_map_node *node = pf_map_find(&queue->hosts, hash, host_eq, &key);
  if (node) return pf_container_of(node, struct host, node);
  struct host *host = pf_alloc(sizeof(*host) + key.len + 1);
  memcpy(host->name, name, key.len);
  host->name_len = key.len;
  pf_list_init(&host->ring);
  pf_list_init(&host->ready);
  pf_map_put(&queue->hosts, &host->node, hash);
  return host;
}

void host_unref(struct queue *queue, struct host *host) {
  if (--host->jobs > 0) return;
  PF_ASSERT(host->leased == 0 && pf_list_empty(&host->ready));
  pf_list_del(&host->ring);
  pf_map_del(&queue->hosts, &host->node);
  free(host);
}

/* What was dispatched before goes ahead of what was not. */
void ready_push(struct queue *queue, struct job *job, bool front) {
  struct host *host = job->host;
  if (pf_list_empty(&host->ready)) pf_list_push(&queue->ring, &host->ring);
  if (front)
    pf_list_push_front(&host->ready, &job->link);
  else
    pf_list_push(&host->ready, &job->link);
}

void ready_del(struct job *job) {
  pf_list_del(&job->link);
  if (pf_list_empty(&job->host->ready)) pf_list_del(&job->host->ring);
}

/* The next host in turn. One that has half of all slots steps back while another waits; as two
 * hosts at most can have half, the walk is short. */
static struct host *ring_pick(struct queue *queue) {
  int64_t half = queue->slots / 2 > 0 ? queue->slots / 2 : 1;
  PF_LIST_EACH(it, &queue->ring) {
    struct host *host = pf_container_of(it, struct host, ring);
    if (host->leased < half) return host;
  }
  return pf_container_of(queue->ring.next, struct host, ring);
}

static struct executor *executor_pick(struct queue *queue) {
  struct executor *best = NULL;
  int64_t best_credit = 0;
  PF_LIST_EACH(it, &queue->executors) {
    struct executor *executor = pf_container_of(it, struct executor, link);
    int64_t credit = executor_credit(executor);
    if (credit > best_credit) best = executor, best_credit = credit;
  }
  return best;
}

static uint64_t fence_take(struct queue *queue) {
  if (queue->fence_next == queue->fence_reserved) {
    queue->fence_reserved += QUEUE_FENCE_BLOCK;
    queue->fence_dirty = true; /* goes into the same group as the lease, or an earlier one */
  }
  return queue->fence_next++;
}

static void job_lease(struct queue *queue, struct job *job, struct executor *executor) {
  queue->counters.dispatched++;
  if (job->attempt > 0) queue->counters.redispatched++;
  job->attempt++;
  job->fence = (struct pf_fence){queue->config.epoch, fence_take(queue)};
  job->started = job->taken = false;
  job->missed = 0;
  job->executor = executor;
  job_move(queue, job, JOB_LEASED);
  effects_dirty(queue, job);
  effects_act(queue, QUEUE_DISPATCH, job);
}

void ready_schedule(struct queue *queue, int64_t now_us) {
  while (!pf_list_empty(&queue->ring)) {
    struct executor *executor = executor_pick(queue);
    if (!executor) return;
    struct host *host = ring_pick(queue);
    struct job *job = pf_container_of(host->ready.next, struct job, link);
    pf_list_del(&host->ring);
    pf_list_push(&queue->ring, &host->ring); /* its next turn comes after the others' */
    if (job_is_over(job))
      job_close(queue, job);
    else if (now_us >= job->deadline_us)
      job_ask(queue, job);
    else
      job_lease(queue, job, executor);
  }
}
