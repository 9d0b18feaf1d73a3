/* The orchestrator: its real queue over its real rows; turns, gates and calls as in production. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/queue_db.h"
#include "orchestrator/queue_db_rows.h"
#include "sim.h"
#include "store/stmt.h"
#include "wire/batch.h"

enum { LAZY_MS = 20 }; /* a group that nobody waits for */

/* An action or an answer that waits for the rows it speaks of. */
struct held {
  struct pf_list link;
  uint64_t gate;
  bool is_action;
  struct queue_action action;
  uint64_t request;
  size_t len;
  char bytes[];
};

struct written {
  struct pf_list link;
  struct queue_group group;
};

struct sim_queue {
  struct sim *sim;
  struct queue *queue;
  struct sim_stores *stores;
  struct pf_list groups; /* struct written, not durable */
  uint64_t submitted, durable;
  struct pf_list held, answers;
  bool writing;
  int64_t wake_us;
  struct pf_buf last_beat[2]; /* REMOVE_LEASE */
};

static void turn(struct sim *sim);

/* ---- the store ---- */

static void release(struct sim *sim);

static void write_next(struct sim *sim, struct sim_event *event);

static void write_kick(struct sim *sim) {
  struct sim_queue *q = sim->queue;
  if (q->writing || pf_list_empty(&q->groups)) return;
  q->writing = true;
  sim_worst_moment(sim, NODE_QUEUE, false);
  struct written *first = pf_container_of(q->groups.next, struct written, link);
  int64_t us = sim_between(sim, 20, 3000) + (first->group.urgent ? 0 : LAZY_MS * SIM_MS);
  sim_after(sim, NODE_QUEUE, us, write_next, 0, 0);
}

static void write_next(struct sim *sim, struct sim_event *event) {
  struct sim_queue *q = sim->queue;
  (void)event;
  q->writing = false;
  struct written *w = pf_container_of(pf_list_pop(&q->groups), struct written, link);
  if (sim->removal == REMOVE_FENCE) w->group.fence_next = 0;
  PF_ASSERT(store_exec(q->stores->queue, "BEGIN", NULL) == PF_OK);
  PF_ASSERT(queue_rows_write(q->stores->queue_tables, &w->group) == PF_OK);
  PF_ASSERT(store_exec(q->stores->queue, "COMMIT", NULL) == PF_OK);
  q->durable++;
  queue_group_done(&w->group);
  free(w);
  release(sim);
  write_kick(sim);
  turn(sim);
}

/* ---- calls ---- */

/* Whether the origin that was meant has answered, and what: a member of names, else
 * QUEUE_NO_ANSWER. */
static int origin_said(struct pf_slice answer, const char *const names[]) {
  struct hop_results_reply_head reply;
  struct pf_slice head, head_body, item, body;
  int decoded;
  if (!sim_read(answer, &head, &head_body, &item, &body) ||
      hop_results_reply_head_decode(&reply, head) || hop_answer_decode(&decoded, names, item))
    return QUEUE_NO_ANSWER;
  return decoded;
}

static struct queue_action action_of(const struct sim_call *call) {
  struct queue_action action;
  memcpy(&action, call->what, sizeof(action));
  return action;
}

static void on_dispatched(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct queue_action action = action_of(call);
  struct pf_slice head, head_body, item, body;
  int decoded = QUEUE_NO_ANSWER;
  if (sim_read(answer, &head, &head_body, &item, &body) &&
      hop_answer_decode(&decoded, hop_execute_answers, item))
    decoded = QUEUE_NO_ANSWER;
  struct sim_job *job = oracle_find(sim, action.job.local);
  bool refused = decoded == HOP_EXECUTE_FULL || decoded == HOP_EXECUTE_WRONG_INCARNATION;
  if (job && refused) job->excused = true;
  queue_on_dispatch(sim->queue->queue, &action, decoded, sim->now_us);
  turn(sim);
}

static void on_status(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct queue_action action = action_of(call);
  queue_on_status(sim->queue->queue, &action, origin_said(answer, hop_status_answers), sim->now_us);
  turn(sim);
}

static void on_delivered(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct queue_action action = action_of(call);
  queue_on_delivery(
      sim->queue->queue, &action, origin_said(answer, hop_result_answers), sim->now_us);
  turn(sim);
}

static void call_out(struct sim *sim, const struct queue_action *action, enum sim_node to,
    enum sim_path path, const struct pf_buf *head, const struct pf_buf *item, struct pf_slice body,
    void (*done)(struct sim *sim, struct sim_call *call, struct pf_slice answer)) {
  struct pf_buf batch;
  pf_buf_init(&batch, PF_BUF_MAX_DEFAULT);
  sim_batch(&batch, head, item, body);
  sim_send(sim, NODE_QUEUE, to, path, SIM_CALL_MS, &batch, done, action, sizeof(*action));
  pf_buf_done(&batch);
}

static void act_dispatch(struct sim *sim, const struct queue_action *action) {
  struct sim_queue *q = sim->queue;
  struct hop_execute item;
  struct queue_blob *blob;
  int64_t qid;
  if (!queue_view_execute(q->queue, action, sim->now_us, &item, &blob, &qid)) return;
  if (!blob) PF_ASSERT(queue_rows_read_blob(q->stores->queue_tables, qid, &blob) == PF_OK);
  char url[HOP_URL_MAX];
  if (!blob || !queue_view_executor(q->queue, action->executor, action->incarnation, url)) {
    queue_on_dispatch(q->queue, action, QUEUE_NO_ANSWER, sim->now_us);
    queue_blob_unref(blob);
    return;
  }
  oracle_dispatched(sim, action->job.local, item.fence.counter);
  struct pf_buf head, text;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  struct hop_execute_head batch = {
      .queue_epoch = queue_epoch(q->queue), .incarnation = action->incarnation};
  hop_execute_head_encode(&head, &batch);
  hop_execute_encode(&text, &item);
  call_out(sim, action, (enum sim_node)action->executor, PATH_EXECUTE, &head, &text,
      queue_blob_request(blob), on_dispatched);
  queue_blob_unref(blob);
  pf_buf_done(&head);
  pf_buf_done(&text);
}

static void act_on_origin(struct sim *sim, const struct queue_action *action) {
  struct queue *queue = sim->queue->queue;
  struct hop_jobs_head known;
  struct hop_result result;
  bool ask = action->kind == QUEUE_ASK;
  if (ask ? !queue_view_ask(queue, action) : !queue_view_result(queue, action, &result)) return;
  if (ask && sim->removal == REMOVE_STATUS) {
    queue_on_status(queue, action, HOP_STATUS_PENDING, sim->now_us);
    return;
  }
  if (!queue_view_origin(queue, action->job.origin, &known)) {
    if (ask)
      queue_on_status(queue, action, QUEUE_NO_ANSWER, sim->now_us);
    else
      queue_on_delivery(queue, action, QUEUE_NO_ANSWER, sim->now_us);
    return;
  }
  struct pf_buf head, item;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&item, PF_BUF_MAX_DEFAULT);
  hop_results_head_encode(&head, &(struct hop_results_head){.to = action->job.origin});
  if (ask)
    hop_status_encode(&item, action->job);
  else
    hop_result_encode(&item, &result);
  call_out(sim, action, NODE_ORIGIN, ask ? PATH_STATUS : PATH_RESULT, &head, &item,
      (struct pf_slice){0}, ask ? on_status : on_delivered);
  pf_buf_done(&head);
  pf_buf_done(&item);
}

static void act(struct sim *sim, const struct queue_action *action) {
  sim_note(sim, "queue acts %d job=%llx", action->kind, (unsigned long long)action->job.local);
  if (action->kind == QUEUE_DISPATCH) act_dispatch(sim, action);
  if (action->kind == QUEUE_ASK || action->kind == QUEUE_DELIVER) act_on_origin(sim, action);
}

/* ---- turns ---- */

static void release(struct sim *sim) {
  struct sim_queue *q = sim->queue;
  while (!pf_list_empty(&q->held)) {
    struct held *held = pf_container_of(q->held.next, struct held, link);
    if (held->gate > q->durable && !(sim->removal == REMOVE_DISPATCH_GATE && held->is_action))
      return;
    pf_list_del(&held->link);
    if (held->is_action)
      act(sim, &held->action);
    else
      sim_answer(sim, NODE_QUEUE, held->request, pf_slice(held->bytes, held->len));
    free(held);
  }
}

static void wake(struct sim *sim, struct sim_event *event) {
  (void)event;
  sim->queue->wake_us = INT64_MAX;
  turn(sim);
}

static void turn(struct sim *sim) {
  struct sim_queue *q = sim->queue;
  struct queue_group group;
  struct queue_action action;
  queue_settle(q->queue, sim->now_us);
  if (queue_take_group(q->queue, &group)) {
    struct written *w = pf_alloc(sizeof(*w));
    w->group = group;
    q->submitted++;
    pf_list_push(&q->groups, &w->link);
  }
  while (queue_take_action(q->queue, &action)) {
    struct held *held = pf_alloc(sizeof(*held));
    held->is_action = true;
    held->action = action;
    held->gate = q->submitted;
    pf_list_push(&q->held, &held->link);
  }
  for (struct pf_list *it; (it = pf_list_pop(&q->answers)) != NULL;) {
    struct held *held = pf_container_of(it, struct held, link);
    held->gate = q->submitted;
    pf_list_push(&q->held, &held->link);
  }
  queue_check(q->queue);
  release(sim);
  write_kick(sim);
  int64_t next_us = queue_has_group(q->queue) ? sim->now_us : queue_next_us(q->queue);
  if (next_us >= q->wake_us) return;
  q->wake_us = next_us;
  sim_after(sim, NODE_QUEUE, next_us > sim->now_us ? next_us - sim->now_us : 1, wake, 0, 0);
}

static void answer_later(struct sim *sim, uint64_t request, const struct pf_buf *answer) {
  struct held *held = pf_alloc(sizeof(*held) + answer->len);
  held->request = request;
  held->len = answer->len;
  memcpy(held->bytes, answer->data, answer->len);
  pf_list_push(&sim->queue->answers, &held->link);
}

/* ---- serving ---- */

static void encode_epoch(struct sim *sim, struct pf_buf *head) {
  hop_jobs_reply_head_encode(
      head, &(struct hop_jobs_reply_head){.epoch = queue_epoch(sim->queue->queue)});
}

static void serve_jobs(struct sim *sim, struct pf_slice first, struct pf_slice item,
    struct pf_slice body, struct pf_buf *answer) {
  struct hop_jobs_head batch;
  struct hop_job job;
  PF_ASSERT(hop_jobs_head_decode(&batch, first, NULL) == PF_OK);
  PF_ASSERT(hop_job_decode(&job, item, NULL) == PF_OK);
  PF_ASSERT(queue_origin_seen(sim->queue->queue, &batch, sim->now_us) == PF_OK);
  struct hop_job_reply reply = queue_put(sim->queue->queue, &job, item, body, false, sim->now_us);
  sim_note(sim, "put job=%llx end=%d answer=%d", (unsigned long long)job.job.local, job.end,
      reply.answer);
  struct sim_job *known = oracle_find(sim, job.job.local);
  if (known && reply.answer == HOP_JOB_DONE) known->end_heard = true; /* by this or by `low` */
  hop_job_reply_encode(answer, &reply);
}

static void serve_start(struct sim *sim, struct pf_slice item, struct pf_buf *answer) {
  struct hop_held held;
  PF_ASSERT(hop_held_decode(&held, item, NULL) == PF_OK);
  bool go = queue_start(sim->queue->queue, &held, sim->now_us);
  sim_note(sim, "start job=%llx go=%d", (unsigned long long)held.job.local, go);
  hop_answer_encode(answer, hop_start_answers, go);
}

static void serve_complete(struct sim *sim, struct pf_slice item, struct pf_buf *answer) {
  struct hop_complete complete;
  PF_ASSERT(hop_complete_decode(&complete, item, NULL) == PF_OK);
  sim_note(
      sim, "complete job=%llx how=%d", (unsigned long long)complete.job.local, (int)complete.how);
  struct sim_job *job = oracle_find(sim, complete.job.local);
  if (job && complete.how == HOP_COMPLETE_RETRY) job->excused = true;
  queue_complete(sim->queue->queue, &complete, sim->now_us);
  hop_answer_encode(answer, hop_complete_answers, HOP_COMPLETE_OK);
}

static void beat(struct sim *sim, struct pf_slice batch, struct pf_buf *aborts) {
  struct batch_reader reader = batch_reader(batch);
  struct pf_slice head, held;
  struct hop_heartbeat heartbeat;
  PF_ASSERT(batch_next(&reader, &head, &held) == PF_OK);
  PF_ASSERT(hop_heartbeat_decode(&heartbeat, head, NULL) == PF_OK);
  PF_ASSERT(queue_heartbeat(sim->queue->queue, &heartbeat, held, sim->now_us, aborts) == PF_OK);
  if (sim->removal != REMOVE_LEASE) return;
  struct pf_buf *kept = &sim->queue->last_beat[heartbeat.executor == NODE_EXECUTOR_2];
  if (kept->len || held.len == 0) return;
  pf_buf_slice(kept, batch);
}

/* REMOVE_LEASE: an executor that held something once is taken to hold it for ever. */
static void beat_for_the_dead(struct sim *sim, struct sim_event *event) {
  (void)event;
  sim_after(sim, NODE_QUEUE, 1000 * SIM_MS, beat_for_the_dead, 0, 0);
  for (int i = 0; i < 2; i++) {
    struct pf_buf aborts;
    pf_buf_init(&aborts, PF_BUF_MAX_DEFAULT);
    if (sim->queue->last_beat[i].len) beat(sim, pf_buf_view(&sim->queue->last_beat[i]), &aborts);
    pf_buf_done(&aborts);
  }
  turn(sim);
}

static void serve_items(
    struct sim *sim, enum sim_path path, uint64_t request, struct pf_slice batch) {
  struct pf_slice head, head_body, item, body;
  struct pf_buf answer, first, text;
  PF_ASSERT(sim_read(batch, &head, &head_body, &item, &body));
  pf_buf_init(&answer, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&first, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  encode_epoch(sim, &first);
  if (path == PATH_JOBS) serve_jobs(sim, head, item, body, &text);
  if (path == PATH_START) serve_start(sim, item, &text);
  if (path == PATH_COMPLETE) serve_complete(sim, item, &text);
  sim_batch(&answer, &first, &text, (struct pf_slice){0});
  if (path == PATH_START)
    sim_answer(sim, NODE_QUEUE, request, pf_buf_view(&answer));
  else
    answer_later(sim, request, &answer);
  pf_buf_done(&answer);
  pf_buf_done(&first);
  pf_buf_done(&text);
}

static void serve_register(struct sim *sim, uint64_t request, struct pf_slice json) {
  struct hop_jobs_head head;
  struct pf_buf answer;
  pf_buf_init(&answer, PF_BUF_MAX_DEFAULT);
  PF_ASSERT(hop_jobs_head_decode(&head, json, NULL) == PF_OK);
  PF_ASSERT(queue_origin_seen(sim->queue->queue, &head, sim->now_us) == PF_OK);
  encode_epoch(sim, &answer);
  sim_answer(sim, NODE_QUEUE, request, pf_buf_view(&answer));
  pf_buf_done(&answer);
}

static void serve_heartbeat(struct sim *sim, uint64_t request, struct pf_slice batch) {
  struct pf_buf answer, first, aborts;
  pf_buf_init(&answer, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&first, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&aborts, PF_BUF_MAX_DEFAULT);
  beat(sim, batch, &aborts);
  encode_epoch(sim, &first);
  batch_append(&answer, pf_buf_view(&first), pf_buf_view(&aborts));
  sim_answer(sim, NODE_QUEUE, request, pf_buf_view(&answer));
  pf_buf_done(&answer);
  pf_buf_done(&first);
  pf_buf_done(&aborts);
}

void queue_serve(struct sim *sim, enum sim_path path, uint64_t request, struct pf_slice batch) {
  if (path == PATH_REGISTER)
    serve_register(sim, request, batch);
  else if (path == PATH_HEARTBEAT)
    serve_heartbeat(sim, request, batch);
  else
    serve_items(sim, path, request, batch);
  turn(sim);
}

/* ---- life ---- */

size_t queue_jobs(const struct sim *sim) {
  struct queue_stats stats;
  queue_read_stats(sim->queue->queue, sim->now_us, &stats);
  bool writes = !pf_list_empty(&sim->queue->groups) || queue_has_group(sim->queue->queue);
  return stats.jobs + stats.loading + writes; /* what is not read or written yet may be one */
}

uint64_t queue_abandoned(const struct sim *sim) {
  return sim->abandoned + (sim->queue ? queue_count_abandoned(sim->queue->queue) : 0);
}

static void load_rows(struct sim_queue *q, const struct queue_rows_chunk *chunk, int64_t now_us) {
  PF_ASSERT(chunk->err == PF_OK);
  for (size_t i = 0; i < chunk->origin_count; i++)
    queue_load_origin(q->queue, &chunk->origins[i]);
  for (size_t i = 0; i < chunk->tomb_count; i++)
    queue_load_tomb(q->queue, &chunk->tombs[i]);
  for (size_t i = 0; i < chunk->count; i++)
    queue_load_row(
        q->queue, &chunk->rows[i].row, &chunk->rows[i].item, chunk->rows[i].row.blob, now_us);
}

static void load_queued(struct sim *sim, struct sim_event *event) {
  struct sim_queue *q = sim->queue;
  struct queue_rows_chunk chunk = {0};
  PF_ASSERT(queue_rows_read_queued(
                q->stores->queue_tables, 0, (int64_t)event->a, SIM_JOBS, &chunk) == PF_OK);
  load_rows(q, &chunk, sim->now_us);
  queue_rows_chunk_done(&chunk);
  queue_loaded(q->queue);
  turn(sim);
}

/* fresh_epoch: for a new file. */
void queue_start_node(struct sim *sim, struct sim_stores *stores, uint64_t fresh_epoch) {
  struct sim_queue *q = sim->queue = pf_alloc(sizeof(*q));
  struct queue_meta meta = {.epoch = fresh_epoch, .fence_next = 1, .boot_id = "boot"};
  *q = (struct sim_queue){.sim = sim, .stores = stores, .wake_us = INT64_MAX};
  pf_list_init(&q->groups);
  pf_list_init(&q->held);
  pf_list_init(&q->answers);
  for (int i = 0; i < 2; i++)
    pf_buf_init(&q->last_beat[i], PF_BUF_MAX_DEFAULT);
  int err = queue_rows_read_meta(stores->queue_tables, &meta);
  PF_ASSERT(err == PF_OK || err == PF_ENOTFOUND);
  if (err) PF_ASSERT(queue_rows_write_meta(stores->queue_tables, &meta) == PF_OK);
  struct queue_config config = {.epoch = meta.epoch,
      .fence_next = meta.fence_next,
      .seed = pf_rand_u64(&sim->rand),
      .lease_ms = 3000,
      .undelivered_keep_ms = sim->faults.keep_ms ? sim->faults.keep_ms : 604800000,
      .grace_ms = 2000,
      .retry = {500, 60000, 300000},
      .jobs_max = 1000,
      .request_bytes_max = 4096}; /* small, so that requests are read again */
  q->queue = queue_new(&config);
  struct queue_rows_chunk chunk = {0};
  oracle_queue_rows(sim, stores->queue, SIM_JOBS);
  PF_ASSERT(queue_rows_read_held(stores->queue_tables, &chunk) == PF_OK);
  queue_load_begin(q->queue, chunk.last_qid);
  load_rows(q, &chunk, sim->now_us);
  sim_after(sim, NODE_QUEUE, sim_between(sim, 1, 5000), load_queued, (uint64_t)chunk.last_qid, 0);
  queue_rows_chunk_done(&chunk);
  if (sim->removal == REMOVE_LEASE)
    sim_after(sim, NODE_QUEUE, 1000 * SIM_MS, beat_for_the_dead, 0, 0);
  turn(sim);
}

static void free_held(struct pf_list *list) {
  for (struct pf_list *it; (it = pf_list_pop(list)) != NULL;)
    free(pf_container_of(it, struct held, link));
}

void queue_stop(struct sim *sim) {
  struct sim_queue *q = sim->queue;
  struct queue_stats stats;
  queue_read_stats(q->queue, sim->now_us, &stats);
  sim->undelivered += stats.undelivered;
  sim->abandoned += stats.abandoned;
  queue_free(q->queue);
  for (struct pf_list *it; (it = pf_list_pop(&q->groups)) != NULL;) {
    struct written *w = pf_container_of(it, struct written, link);
    queue_group_done(&w->group);
    free(w);
  }
  free_held(&q->held);
  free_held(&q->answers);
  for (int i = 0; i < 2; i++)
    pf_buf_done(&q->last_beat[i]);
  free(q);
  sim->queue = NULL;
}

void queue_wipe(struct sim_stores *stores) {
  static const char sql[] =
      "DELETE FROM meta; DELETE FROM jobs; DELETE FROM tombs; DELETE FROM origins";
  PF_ASSERT(store_exec(stores->queue, sql, NULL) == PF_OK);
}

void queue_open_store(struct sim_stores *stores) {
  PF_ASSERT(sqlite3_open(":memory:", &stores->queue) == SQLITE_OK);
  for (int i = 0; i < queue_db_schema.version; i++)
    PF_ASSERT(store_exec(stores->queue, queue_db_schema.migrations[i], NULL) == PF_OK);
  PF_ASSERT(queue_rows_prepare(stores->queue, NULL, &stores->queue_tables, NULL) == PF_OK);
}

void queue_close_store(struct sim_stores *stores) {
  queue_rows_finish(stores->queue_tables);
  sqlite3_close(stores->queue);
}
