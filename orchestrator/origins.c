/* Origins: where they answer, and what they have finished with. */
#include <stdlib.h>
#include <string.h>

#include "orchestrator/queue_impl.h"

static bool origin_eq(const struct pf_map_node *node, const void *key) {
  return pf_container_of(node, const struct origin, node)->id == *(const uint64_t *)key;
}

struct origin *origin_find(const struct queue *queue, uint64_t id) {
  struct pf_map_node *node = pf_map_find(&queue->origins, pf_hash_u64(id), origin_eq, &id);
  return node ? pf_container_of(node, struct origin, node) : NULL;
}

struct origin *origin_get(struct queue *queue, uint64_t id) {
  struct origin *origin = origin_find(queue, id);
  if (origin || queue->origins.count >= QUEUE_ORIGINS_MAX) return origin;
  origin = pf_alloc(sizeof(*origin));
  origin->id = id;
  pf_list_init(&origin->dirty_link);
  pf_list_init(&origin->asking);
  pf_list_init(&origin->exhausted);
  tombstones_init(&origin->tombs, id);
  pf_map_put(&queue->origins, &origin->node, pf_hash_u64(id));
  return origin;
}

/* Everything that waits for this origin is tried again now. */
static void origin_kick(struct queue *queue, struct pf_list *jobs, int64_t now_us) {
  PF_LIST_EACH(it, jobs) {
    struct job *job = pf_container_of(it, struct job, link);
    job->tries = 0;
    if (!job->asked) job_timer(queue, job, now_us);
  }
}

/* How long it has been silent may be lost with a crash, and is counted again; that it has spoken
 * may not, or a later start would drop its jobs too soon. */
static void origin_note_silence(struct queue *queue, struct origin *origin, int64_t silent_us) {
  if (origin->silent_row_us == silent_us) return;
  origin->silent_row_us = silent_us;
  origin_dirty(queue, origin, silent_us == 0);
}

void origin_spoke(struct queue *queue, struct origin *origin, int64_t now_us) {
  origin->heard_us = now_us;
  origin_note_silence(queue, origin, 0);
  if (!origin->silent) return;
  origin->silent = false;
  origin_kick(queue, &origin->asking, now_us);
  origin_kick(queue, &origin->exhausted, now_us);
}

int64_t origin_silent_us(const struct queue *queue, const struct origin *origin, int64_t now_us) {
  int64_t since_us = queue->began_us - origin->silent_once_us;
  if (origin->heard_us) since_us = origin->heard_us;
  return now_us > since_us ? now_us - since_us : 0;
}

void origin_fell_silent(struct queue *queue, struct origin *origin, int64_t now_us) {
  origin->silent = true;
  int64_t silent_us = origin_silent_us(queue, origin, now_us);
  int64_t step_us = queue->config.undelivered_keep_ms * US_PER_MS / QUEUE_SILENCE_NOTES;
  if (silent_us - origin->silent_row_us >= step_us) origin_note_silence(queue, origin, silent_us);
}

void origin_free(struct queue *queue, struct origin *origin) {
  PF_ASSERT(origin->jobs == 0);
  pf_map_del(&queue->origins, &origin->node);
  pf_list_del(&origin->dirty_link);
  tombstones_done(&origin->tombs);
  free(origin);
}

void origin_dirty(struct queue *queue, struct origin *origin, bool urgent) {
  if (pf_list_empty(&origin->dirty_link)) pf_list_push(&queue->dirty_origins, &origin->dirty_link);
  if (urgent) queue->urgent = true;
}

/* A lower bound moves only forward, whatever order the calls arrive in. It is durable (lazily, with
 * the deletion of the pages) because a delayed copy of an old call may come after a restart. */
static void origin_raise_low(struct queue *queue, struct origin *origin, uint64_t low) {
  if (low <= origin->low) return;
  bool page_passed = low >> TOMB_PAGE_SHIFT != origin->low >> TOMB_PAGE_SHIFT;
  origin->low = low;
  if (!page_passed || !tombstones_forget(&origin->tombs, low)) return;
  origin->forget = true;
  origin_dirty(queue, origin, false);
}

int queue_origin_seen(struct queue *queue, const struct hop_jobs_head *head, int64_t now_us) {
  struct origin *origin = origin_get(queue, head->origin);
  if (!origin) return PF_ELIMIT;
  origin_raise_low(queue, origin, head->low);
  if (head->origin_epoch < origin->epoch) return PF_OK; /* a delayed call of an earlier start */
  bool moved = head->origin_epoch != origin->epoch || strcmp(origin->url, head->url) != 0;
  origin->silent |= moved; /* nobody has answered for it there yet */
  origin->epoch = head->origin_epoch;
  memcpy(origin->url, head->url, sizeof(origin->url));
  origin_spoke(queue, origin, now_us);
  return PF_OK;
}

bool queue_view_origin(const struct queue *queue, uint64_t id, struct hop_jobs_head *ret_origin) {
  const struct origin *origin = origin_find(queue, id);
  if (!origin || !origin->url[0]) return false;
  *ret_origin =
      (struct hop_jobs_head){.origin = id, .origin_epoch = origin->epoch, .low = origin->low};
  memcpy(ret_origin->url, origin->url, sizeof(ret_origin->url));
  return true;
}
