/* What a turn leaves to be done: rows, and calls that wait for the rows.
 *
 * A row is a snapshot of its job at the end of the turn, so that a job that was inserted and leased
 * in one turn costs one write, and one that came and ended costs none. */
#include <stdlib.h>
#include <string.h>

#include "orchestrator/queue_impl.h"

void effects_dirty(struct queue *queue, struct job *job) {
  if (pf_list_empty(&job->dirty)) pf_list_push(&queue->dirty, &job->dirty);
  queue->urgent = true;
}

void effects_delete(struct queue *queue, int64_t qid) {
  if (queue->delete_count == queue->delete_cap) {
    queue->delete_cap = queue->delete_cap ? queue->delete_cap * 2 : 64;
    queue->deletes = pf_realloc(queue->deletes, queue->delete_cap * sizeof(*queue->deletes));
  }
  queue->deletes[queue->delete_count++] = qid;
}

static struct queue_action *action_new(struct queue *queue) {
  if (queue->action_first + queue->action_count == queue->action_cap) {
    queue->action_cap = queue->action_cap ? queue->action_cap * 2 : 64;
    queue->actions = pf_realloc(queue->actions, queue->action_cap * sizeof(*queue->actions));
  }
  return &queue->actions[queue->action_first + queue->action_count++];
}

void effects_act(struct queue *queue, enum queue_action_kind kind, struct job *job) {
  PF_ASSERT(!job->asked);
  job->asked = true;
  *action_new(queue) = (struct queue_action){.kind = kind,
      .version = job->version,
      .job = job->id,
      .executor = job->executor_id,
      .incarnation = job->incarnation};
}

void effects_executor_gone(struct queue *queue, const struct executor *executor) {
  *action_new(queue) = (struct queue_action){.kind = QUEUE_EXECUTOR_GONE,
      .executor = executor->id,
      .incarnation = executor->incarnation,
      .left = executor->leaving};
}

bool queue_take_action(struct queue *queue, struct queue_action *ret_action) {
  if (queue->action_count == 0) return false;
  *ret_action = queue->actions[queue->action_first++];
  if (--queue->action_count == 0) queue->action_first = 0;
  return true;
}

void effects_done(struct queue *queue) {
  free(queue->deletes);
  free(queue->actions);
}

/* ---- rows ---- */

static enum queue_row_state row_state(const struct job *job) {
  if (job->state == JOB_EXHAUSTED) return QUEUE_ROW_EXHAUSTED;
  if (job->state == JOB_LEASED || (job->state == JOB_ASKING && job->was_leased))
    return QUEUE_ROW_LEASED;
  return QUEUE_ROW_QUEUED;
}

static void row_take(struct queue *queue, struct job *job, struct queue_row *row) {
  *row = (struct queue_row){.insert = !job->stored,
      .qid = job->qid,
      .job = job->id,
      .state = row_state(job),
      .attempt = job->attempt,
      .lost = job->lost,
      .fence = job->fence,
      .executor = job->executor_id,
      .incarnation = job->incarnation,
      .outcome = job->outcome,
      .certainty = job->certainty};
  if (row->insert) row->blob = queue_blob_ref(job->blob);
  if (job->detail) row->detail = pf_strdup(job->detail);
  job->stored = true;
  /* What has ended is not sent again, and may wait for its origin for days. Over the budget only
   * what is about to leave stays in memory. */
  if (row->state == QUEUE_ROW_EXHAUSTED ||
      (row->state == QUEUE_ROW_QUEUED && !queue_has_room(queue, 0)))
    job_drop_blob(queue, job);
}

static size_t list_count(const struct pf_list *head) {
  size_t count = 0;
  PF_LIST_EACH(it, head) {
    count++;
  }
  return count;
}

static void take_rows(struct queue *queue, struct queue_group *group) {
  size_t count = list_count(&queue->dirty);
  if (count == 0) return;
  group->rows = pf_alloc(count * sizeof(*group->rows));
  for (struct pf_list *it; (it = pf_list_pop(&queue->dirty)) != NULL;) {
    struct queue_row *row = &group->rows[group->row_count++];
    row_take(queue, pf_container_of(it, struct job, dirty), row);
    group->inserts += row->insert;
    group->leases += row->state == QUEUE_ROW_LEASED;
  }
}

static void take_tombs(struct queue *queue, struct queue_group *group) {
  size_t count = list_count(&queue->dirty_tombs);
  if (count == 0) return;
  group->tombs = pf_alloc(count * sizeof(*group->tombs));
  for (struct pf_list *it; (it = pf_list_pop(&queue->dirty_tombs)) != NULL;) {
    const struct tomb_page *page = pf_container_of(it, struct tomb_page, dirty);
    struct queue_tomb_row *row = &group->tombs[group->tomb_count++];
    row->origin = page->origin;
    row->number = page->number;
    memcpy(row->bits, page->bits, sizeof(row->bits));
  }
}

static void take_origins(struct queue *queue, struct queue_group *group) {
  size_t count = list_count(&queue->dirty_origins);
  if (count == 0) return;
  group->origins = pf_alloc(count * sizeof(*group->origins));
  for (struct pf_list *it; (it = pf_list_pop(&queue->dirty_origins)) != NULL;) {
    struct origin *origin = pf_container_of(it, struct origin, dirty_link);
    group->origins[group->origin_count++] = (struct queue_origin_row){
        origin->id, origin->low, origin->local_max, origin->silent_row_us, origin->forget};
    origin->forget = false;
  }
}

bool queue_has_group(const struct queue *queue) {
  return !pf_list_empty(&queue->dirty) || !pf_list_empty(&queue->dirty_tombs) ||
         !pf_list_empty(&queue->dirty_origins) || queue->delete_count > 0 || queue->fence_dirty;
}

bool queue_take_group(struct queue *queue, struct queue_group *ret_group) {
  struct queue_group group = {.urgent = queue->urgent};
  queue->urgent = false;
  if (!queue_has_group(queue)) return false;
  take_rows(queue, &group);
  take_tombs(queue, &group);
  take_origins(queue, &group);
  group.deletes = queue->deletes;
  group.delete_count = queue->delete_count;
  queue->deletes = NULL;
  queue->delete_count = queue->delete_cap = 0;
  if (queue->fence_dirty) group.fence_next = queue->fence_reserved;
  queue->fence_dirty = false;
  *ret_group = group;
  return true;
}

void queue_row_done(struct queue_row *row) {
  queue_blob_unref(row->blob);
  free(row->detail);
}

void queue_group_done(struct queue_group *group) {
  for (size_t i = 0; i < group->row_count; i++)
    queue_row_done(&group->rows[i]);
  free(group->rows);
  free(group->deletes);
  free(group->tombs);
  free(group->origins);
  *group = (struct queue_group){0};
}

/* ---- what an action says ---- */

bool queue_view_ask(const struct queue *queue, const struct queue_action *action) {
  const struct job *job = job_find(queue, action->job);
  return job && job->version == action->version && job->state == JOB_ASKING;
}

static int64_t left_ms(int64_t until_us, int64_t now_us) {
  return until_us > now_us ? (until_us - now_us) / US_PER_MS : 0;
}

bool queue_view_execute(struct queue *queue, const struct queue_action *action, int64_t now_us,
    struct hop_execute *ret_item, struct queue_blob **ret_blob, int64_t *ret_qid) {
  const struct job *job = job_find(queue, action->job);
  if (!job || job->version != action->version || job->state != JOB_LEASED) return false;
  *ret_item = (struct hop_execute){.job = job->id,
      .fence = job->fence,
      .attempt = job->attempt,
      .last = job->attempt >= job->retry.attempts,
      .repeatable = job->repeatable,
      .capability = job->capability,
      .retry = job->retry,
      .attempt_ms = job->attempt_ms,
      .deadline_ms = left_ms(job->deadline_us, now_us),
      .queue_ms = (double)(now_us - job->accepted_us) / US_PER_MS};
  *ret_blob = job->blob ? queue_blob_ref(job->blob) : NULL;
  *ret_qid = job->qid;
  return true;
}

bool queue_view_result(
    struct queue *queue, const struct queue_action *action, struct hop_result *ret_item) {
  const struct job *job = job_find(queue, action->job);
  if (!job || job->version != action->version || job->state != JOB_EXHAUSTED) return false;
  *ret_item = (struct hop_result){.job = job->id,
      .attempt = job->attempt,
      .capability = job->capability,
      .outcome = job->outcome,
      .certainty = job->certainty,
      .error = pf_slice_str(job->detail ? job->detail : outcome_text(job->outcome)),
      .timings = {-1, -1, -1, -1, -1, -1, -1}};
  if (job->fence.counter != 0) ret_item->fence = job->fence;
  return true;
}
