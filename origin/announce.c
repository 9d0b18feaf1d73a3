/* Telling the queue what is pending, until it is done.
 *
 * The end that the origin itself gives a job is told until the queue has confirmed it: a queue that
 * does not hear of it would go on fetching.
 *
 * A job is announced once its row is durable. Until the queue has accepted it, it is announced
 * again with a growing pause; afterwards rarely, in case the queue loses its memory without a new
 * epoch. A new epoch makes everything due at once. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "origin/parts.h"

enum {
  IN_FLIGHT_MAX = 4096, /* announcements handed to the edge and not answered */
  RETRY_MS_FIRST = 100,
  RETRY_MS_MAX = 5000, /* also how long a returned queue may stay unnoticed */
  FULL_RETRY_MS = 1000,
  REQUEST_KEPT_MAX = 4096, /* bytes */
};

static bool announce_wanted(const struct job *job) {
  return job->state == JOB_PENDING && !job->announcing;
}

void announce_now(struct core *core, struct job *job) {
  if (!announce_wanted(job) || !pf_list_empty(&job->ready)) return;
  pf_heap_del(&core->announces, &job->announce);
  pf_list_push(&core->announce_ready, &job->ready);
}

/* Half to full pause: a crowd that failed together does not return together. */
static int64_t later_ns(struct core *core, int64_t ms) {
  int64_t jittered_ms = ms / 2 + (int64_t)pf_rand_below(&core->rand, (uint64_t)(ms / 2 + 1));
  return core->now_ns + jittered_ms * 1000000;
}

static void announce_later(struct core *core, struct job *job, int64_t ms) {
  pf_heap_set(&core->announces, &job->announce, later_ns(core, ms));
}

static int64_t retry_ms(const struct core *core) {
  return core->announce_retry_ms ? core->announce_retry_ms : RETRY_MS_FIRST;
}

/* ---- jobs that are over ---- */

static bool ending_eq(const struct pf_map_node *node, const void *arg) {
  return pf_container_of(node, struct ending, node)->local == *(const uint64_t *)arg;
}

static struct ending *ending_find(const struct core *core, uint64_t local) {
  struct pf_map_node *node = pf_map_find(&core->endings, pf_hash_u64(local), ending_eq, &local);
  return node ? pf_container_of(node, struct ending, node) : NULL;
}

static void ending_free(struct core *core, struct ending *ending) {
  pf_map_del(&core->endings, &ending->node);
  pf_list_del(&ending->link);
  pf_heap_del(&core->endings_again, &ending->again);
  free(ending);
}

/* One that is under way at this moment needs no help: its call is answered or fails soon. */
static void endings_make_room(struct core *core) {
  struct pf_heap_node *again = pf_heap_first(&core->endings_again);
  if (again)
    ending_free(core, pf_container_of(again, struct ending, again));
  else if (!pf_list_empty(&core->endings_ready))
    ending_free(core, pf_container_of(core->endings_ready.next, struct ending, link));
}

void announce_end(struct core *core, uint64_t local) {
  if (core->endings.count >= ENDINGS_MAX) endings_make_room(core);
  struct ending *ending = pf_alloc(sizeof(*ending));
  ending->local = local;
  pf_map_put(&core->endings, &ending->node, pf_hash_u64(local));
  pf_list_push(&core->endings_ready, &ending->link);
}

static void ending_send(struct core *core, const struct ending *ending) {
  struct hop_job item = {.job = {core->origin_id, ending->local}, .end = true};
  struct pf_buf head;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  hop_job_encode(&head, &item);
  core->announcing++;
  core->edge.announce(core->edge_arg, ending->local, pf_buf_view(&head), (struct pf_slice){0});
  pf_buf_done(&head);
}

/* The answer may be that of the job's own announcement, which left earlier: only `done` says that
 * the queue knows of the end (by this call, or by the watermark). */
static void ending_answered(
    struct core *core, struct ending *ending, int err, const struct hop_job_reply *reply) {
  if (err && pf_list_empty(&ending->link))
    pf_heap_set(&core->endings_again, &ending->again, later_ns(core, retry_ms(core)));
  else if (!err && (reply->answer == HOP_JOB_DONE || reply->answer == HOP_JOB_REFUSED))
    ending_free(core, ending);
}

/* Those that are due by this time, as all are when the queue is back. */
static void endings_due(struct core *core, int64_t until_ns) {
  for (;;) {
    struct pf_heap_node *first = pf_heap_first(&core->endings_again);
    if (!first || first->key > until_ns) return;
    pf_heap_del(&core->endings_again, first);
    pf_list_push(&core->endings_ready, &pf_container_of(first, struct ending, again)->link);
  }
}

void announce_done(struct core *core) {
  PF_MAP_EACH(it, &core->endings)
    ending_free(core, pf_container_of(it, struct ending, node));
  pf_map_done(&core->endings);
  pf_heap_done(&core->endings_again);
}

/* ---- jobs that are pending ---- */

void announce_tick(struct core *core) {
  endings_due(core, core->now_ns);
  for (;;) {
    struct pf_heap_node *first = pf_heap_first(&core->announces);
    if (!first || first->key > core->now_ns) return;
    pf_heap_del(&core->announces, first);
    announce_now(core, pf_container_of(first, struct job, announce));
  }
}

static void announce_send(struct core *core, struct job *job) {
  struct hop_job item = {.job = jobs_id(core, job),
      .capability = job->capability,
      .repeatable = job->repeatable,
      .retry = job->retry,
      /* Not from the wall clock: after a jump nobody would fetch a job that is not over. */
      .deadline_ms = (job->deadline.key - core->now_ns) / 1000000,
      .queue_ms = job->queue_ms,
      .attempt_ms = job->attempt_ms,
      .first_epoch = job->first_epoch};
  if (item.deadline_ms < 1) item.deadline_ms = 1;
  memcpy(item.host, job->host.data, job->host.len + 1);
  struct pf_buf head;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  hop_job_encode(&head, &item);
  job->announced_ever = true;
  core->edge.announce(core->edge_arg, job->local, pf_buf_view(&head), pf_buf_view(&job->request));
  pf_buf_done(&head);
}

static void on_request_loaded(struct core *core, struct lookup *lookup) {
  struct job *job = jobs_find(core, lookup->id);
  core->announcing--;
  if (job) job->announcing = false;
  if (job && lookup->rows && announce_wanted(job)) {
    jobs_release_request(core, job);
    pf_buf_slice(&job->request, lookup->rows->a);
    core->request_bytes += job->request.len;
    announce_now(core, job);
  }
  lookup_free(lookup);
  announce_pump(core);
}

/* A job that must not be repeated may only be announced to a queue whose epoch its row names: after
 * a crash that is how we know that this queue, and no other, may have run it. */
static bool epoch_missing(const struct core *core, const struct job *job) {
  return !job->repeatable && job->first_epoch == 0 && core->queue_epoch != 0;
}

void announce_pump(struct core *core) {
  for (struct pf_list *link;
       core->announcing < IN_FLIGHT_MAX && (link = pf_list_pop(&core->endings_ready)) != NULL;)
    ending_send(core, pf_container_of(link, struct ending, link));
  while (core->announcing < IN_FLIGHT_MAX) {
    struct pf_list *link = pf_list_pop(&core->announce_ready);
    if (!link) return;
    struct job *job = pf_container_of(link, struct job, ready);
    if (!announce_wanted(job)) continue;
    if (!job->repeatable && core->queue_epoch == 0) {
      announce_later(core, job, RETRY_MS_FIRST); /* registration will tell the epoch first */
      continue;
    }
    if (epoch_missing(core, job)) {
      job->first_epoch = core->queue_epoch;
      job->announcing = true; /* by OUT_ANNOUNCE, once the epoch is durable */
      commit_output(core->open, OUT_ANNOUNCE, job->local);
      commit_op(core->open, OP_JOB_EPOCH, job->local)->n = (int64_t)job->first_epoch;
      continue;
    }
    job->announcing = true;
    core->announcing++;
    if (job->request.len) {
      announce_send(core, job);
    } else {
      core_ask(core, lookup_new(LOOKUP_REQUEST, job->local, on_request_loaded));
    }
  }
}

/* Clients with a session hear why nothing happens. */
static void tell_waiting(struct core *core, const struct job *job) {
  uint64_t ws = clients_ws(core, &job->client);
  if (!ws || !job->client.session) return;
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  client_waiting_encode(&frame, jobs_id(core, job), "no-executor");
  turn_output_frame(core, ws, &frame);
  pf_buf_done(&frame);
}

void announce_tell_enqueued(struct core *core, struct job *job) {
  if (job->enqueued_told) return;
  job->enqueued_told = true;
  if (!job->accepted_ns) job->accepted_ns = core->now_ns; /* the result overtook the answer */
  uint64_t ws = clients_ws(core, &job->client);
  core->stats.enqueued++;
  if (!ws) return;
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  double ms = (double)(job->accepted_ns - job->received_ns) / 1e6;
  client_enqueued_encode(&frame, jobs_id(core, job), job->client_id, ms);
  turn_output_frame(core, ws, &frame);
  pf_buf_done(&frame);
}

static void on_accepted(struct core *core, struct job *job, const struct hop_job_reply *reply) {
  core->announce_retry_ms = 0;
  if (!job->accepted) {
    job->accepted = true;
    core->accepted++;
    job->accepted_ns = core->now_ns;
    announce_tell_enqueued(core, job);
  }
  if (reply->no_executor && !job->no_executor) tell_waiting(core, job);
  job->no_executor = reply->no_executor;
  if (!PF_FAULT_BREAKS("origin.reannounce")) announce_later(core, job, core->limits->reannounce_ms);
}

void core_on_announced(
    struct core *core, uint64_t local, int err, const struct hop_job_reply *reply) {
  core->announcing--;
  struct ending *ending = ending_find(core, local);
  if (ending) ending_answered(core, ending, err, reply);
  struct job *job = jobs_find(core, local);
  if (job) job->announcing = false;
  if (!job || job->state != JOB_PENDING) {
    if (!err) announce_pump(core);
    return;
  }
  /* It is in our own row, should it be wanted again; small ones stay while the queue is away. */
  if (!err || job->request.len > REQUEST_KEPT_MAX) jobs_release_request(core, job);
  if (err) {
    announce_later(core, job, retry_ms(core));
    return;
  }
  switch (reply->answer) {
  case HOP_JOB_QUEUED:
  case HOP_JOB_KNOWN:
    on_accepted(core, job, reply);
    break;
  case HOP_JOB_FULL:
    announce_later(core, job, FULL_RETRY_MS);
    break;
  case HOP_JOB_DONE: /* it says that we have the result, and we do not: it was lost with our disk,
                      * or the queue has given us up */
  case HOP_JOB_LOST:
    jobs_end(core, job, OUTCOME_QUEUE_LOST, pf_slice_str(outcome_text(OUTCOME_QUEUE_LOST)));
    break;
  case HOP_JOB_REFUSED:
    pf_log(core->log, PF_LOG_ERROR, "job_refused_by_queue", "local=%016llx",
        (unsigned long long)local);
    jobs_end(
        core, job, OUTCOME_BAD_REQUEST, pf_slice_str("the queue refused the job as malformed"));
    break;
  }
  announce_pump(core);
}

void core_on_queue_down(struct core *core) {
  int64_t ms = core->announce_retry_ms ? core->announce_retry_ms * 2 : RETRY_MS_FIRST;
  core->announce_retry_ms = ms > RETRY_MS_MAX ? RETRY_MS_MAX : ms;
}

static void make_due(struct core *core, struct pf_list *jobs, bool accepted_too) {
  PF_LIST_EACH(link, jobs) {
    struct job *job = pf_container_of(link, struct job, by_id);
    if (job->state == JOB_PENDING && (accepted_too || !job->accepted)) announce_now(core, job);
  }
}

void core_on_queue_epoch(struct core *core, uint64_t epoch) {
  bool renewed = core->queue_epoch != 0 && core->queue_epoch != epoch;
  bool returned = core->announce_retry_ms != 0 || core->queue_epoch == 0;
  if (renewed)
    pf_log(core->log, PF_LOG_WARN, "queue_epoch_renewed", "epoch=%016llx jobs=%zu",
        (unsigned long long)epoch, core_pending(core));
  core->queue_epoch = epoch;
  core->announce_retry_ms = 0;
  if (renewed || returned) {
    endings_due(core, INT64_MAX);
    make_due(core, &core->jobs_old, renewed);
    make_due(core, &core->jobs_live, renewed);
  }
  announce_pump(core);
}
