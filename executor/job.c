#include "executor/job.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"

#define HEAD_MAX ((size_t)256 << 10) /* of a result with all its headers */
#define NS_PER_MS 1000000
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 5000
#define POOL_MAX 1024

_Static_assert(FETCH_ERROR_MAX <= HOP_DETAIL_MAX, "a failure is told whole");

const char *const job_state_names[JOB_STATES] = {
    [JOB_STARTING] = "starting",
    [JOB_FETCHING] = "fetching",
    [JOB_DELIVERING] = "delivering",
    [JOB_REPORTING] = "reporting",
};

static const unsigned job_allowed[JOB_STATES] = {
    [JOB_STARTING] = PF_BIT(JOB_FETCHING),
    [JOB_FETCHING] = PF_BIT(JOB_DELIVERING) | PF_BIT(JOB_REPORTING),
    [JOB_DELIVERING] = PF_BIT(JOB_REPORTING),
    [JOB_REPORTING] = 0,
};

struct job {
  struct pf_map_node node; /* in app.jobs */
  struct pf_list link;     /* in app.idle_jobs */
  struct app *app;
  enum job_state state;
  struct hop_execute item;
  struct pf_arena arena;
  struct fetch fetch;
  unsigned lapses;           /* app.lease.lapses when it was taken */
  enum hop_complete_how how; /* RETRY: another attempt is the orchestrator's */
  bool aborted;              /* while the answer to START is under way */
  struct http_item call;     /* START, complete */
  bool calling;              /* it is under way */
  struct result_call result;
  struct pf_buf head; /* of whichever is under way */
  struct timer again; /* call failed */
  int64_t backoff_ms;
};

static void job_start(struct job *job);
static void job_report(struct job *job);

static void job_move(struct job *job, enum job_state to) {
  PF_ASSERT(job_allowed[job->state] & PF_BIT(to));
  job->app->job_count[job->state]--;
  job->app->job_count[to]++;
  job->state = to;
  job->backoff_ms = BACKOFF_MIN_MS;
}

static struct job *job_of_fetch(struct fetch *fetch) {
  return pf_container_of(fetch, struct job, fetch);
}

static struct hop_held job_held(const struct job *job) {
  return (struct hop_held){.job = job->item.job, .fence = job->item.fence};
}

/* ---- table and pool ---- */

static uint64_t fence_hash(struct pf_fence fence) {
  return pf_hash_u64(fence.epoch ^ pf_hash_u64(fence.counter));
}

static bool job_has_fence(const struct pf_map_node *node, const void *key) {
  return pf_fence_eq(
      pf_container_of(node, struct job, node)->item.fence, *(const struct pf_fence *)key);
}

static struct job *job_new(struct app *app) {
  struct pf_list *link = pf_list_pop(&app->idle_jobs);
  if (link) return pf_container_of(link, struct job, link);
  struct job *job = pf_alloc(sizeof(*job));
  pf_arena_init(&job->arena);
  pf_buf_init(&job->head, HEAD_MAX);
  return job;
}

static void job_free(struct job *job) {
  pf_arena_done(&job->arena);
  pf_buf_done(&job->head);
  free(job);
}

/* Nothing refers to the job any more. */
static void job_end(struct job *job) {
  struct app *app = job->app;
  timer_stop(&app->timers, &job->again);
  fetch_release(&job->fetch);
  pf_map_del(&app->jobs, &job->node);
  app->job_count[job->state]--;
  bool keep = app->jobs.count < POOL_MAX && job->head.cap <= 8192;
  if (keep) {
    pf_arena_clear(&job->arena);
    pf_list_push(&app->idle_jobs, &job->link);
  } else {
    job_free(job);
  }
  if (app->draining && app->jobs.count == 0) app_jobs_gone(app);
}

/* ---- calls that are repeated until they are answered ---- */

static void job_on_again(struct timer *timer) {
  struct job *job = pf_container_of(timer, struct job, again);
  if (job->state == JOB_STARTING)
    job_start(job);
  else
    job_report(job);
}

static void job_call(struct job *job, struct http_peer *peer,
    void (*done)(struct http_item *, int, struct pf_slice, struct pf_slice)) {
  job->call = (struct http_item){.head = pf_buf_view(&job->head), .done = done};
  job->calling = true;
  peer_send(peer, &job->call);
}

static void job_again_later(struct job *job) {
  if (!PF_FAULT_BREAKS("executor.again"))
    timer_set(&job->app->timers, &job->again, pf_clock_mono_ms() + job->backoff_ms);
  job->backoff_ms = job->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : job->backoff_ms * 2;
}

/* ---- REPORTING ---- */

static void job_on_reported(
    struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch) {
  struct job *job = pf_container_of(item, struct job, call);
  int decoded;
  job->calling = false;
  (void)answer_batch;
  if (err == PF_ECANCEL) return; /* job_drop_all */
  if (err || hop_answer_decode(&decoded, hop_complete_answers, answer)) {
    job->app->stats.report_failures++;
    job_again_later(job);
    return;
  }
  if (decoded == HOP_COMPLETE_REFUSED &&
      pf_log_allow(&job->app->refused_jobs, pf_clock_mono_ms(), 5, 1000))
    pf_log(&job->app->log, PF_LOG_WARN, "completion_refused", "job=%016llx%016llx",
        (unsigned long long)job->item.job.origin, (unsigned long long)job->item.job.local);
  job_end(job);
}

static void job_report(struct job *job) {
  const struct fetch *f = &job->fetch;
  struct hop_complete item = {.job = job->item.job, .fence = job->item.fence, .how = job->how};
  if (job->how != HOP_COMPLETE_DELIVERED) {
    item.outcome = f->outcome;
    item.certainty = f->certainty;
  }
  if (job->how == HOP_COMPLETE_RETRY) item.retry_after_ms = f->retry_after_ms;
  if (job->how == HOP_COMPLETE_UNDELIVERED) memcpy(item.detail, f->error, sizeof(f->error));
  pf_buf_clear(&job->head);
  hop_complete_encode(&job->head, &item);
  PF_FAULT("executor.before_complete");
  job_call(job, job->app->complete, job_on_reported);
}

static void job_report_first(struct job *job) {
  job_move(job, JOB_REPORTING);
  fetch_release(&job->fetch);
  job_report(job);
}

/* ---- DELIVERING ---- */

static void digest_append(struct pf_slice body, char *text, size_t size) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned len = 0;
  if (EVP_Digest(body.data, body.len, digest, &len, EVP_sha256(), NULL) != 1) pf_out_of_memory();
  size_t at = strlen(text);
  at += (size_t)snprintf(text + at, size - at, ", SHA-256 ");
  PF_ASSERT(at + len * 2 < size);
  pf_hex_print(text + at, digest, len);
}

/* What is left of an answer that nobody took are its status, its length and, if its body was kept,
 * its digest. */
static void job_drop_answer(struct job *job) {
  struct fetch *f = &job->fetch;
  snprintf(f->error, sizeof(f->error), "%s; it was dropped: status %d, %lld bytes",
      outcome_text(OUTCOME_UNDELIVERED), f->status, (long long)f->response_length);
  if (f->request.include & WIRE_INCLUDE_BODY)
    digest_append(pf_buf_view(&f->body), f->error, sizeof(f->error));
  f->outcome = OUTCOME_UNDELIVERED;
}

/* A failure is told whole. */
static void job_give_up(struct job *job) {
  struct fetch *f = &job->fetch;
  job->how = HOP_COMPLETE_UNDELIVERED;
  job->app->stats.undelivered++;
  if (f->outcome == OUTCOME_OK || f->outcome == OUTCOME_STATUS_NAMED) job_drop_answer(job);
  if (pf_log_allow(&job->app->undelivered, pf_clock_mono_ms(), 5, 1000))
    pf_log(&job->app->log, PF_LOG_WARN, "result_undelivered",
        "job=%016llx%016llx attempt=%d reason=\"%s\"", (unsigned long long)job->item.job.origin,
        (unsigned long long)job->item.job.local, job->item.attempt, f->error);
  job_report_first(job);
}

static void job_on_delivered(struct result_call *call, enum hop_result_answer answer) {
  struct job *job = pf_container_of(call, struct job, result);
  if (answer == HOP_RESULT_RETRY) {
    job_give_up(job);
    return;
  }
  job->app->stats.deliveries[answer]++;
  if (answer == HOP_RESULT_UNKNOWN &&
      pf_log_allow(&job->app->unknown_results, pf_clock_mono_ms(), 5, 1000))
    pf_log(&job->app->log, PF_LOG_WARN, "result_unknown", "job=%016llx%016llx attempt=%d",
        (unsigned long long)job->item.job.origin, (unsigned long long)job->item.job.local,
        job->item.attempt);
  job_report_first(job);
}

static void job_encode_result(struct job *job, bool with_headers) {
  const struct fetch *f = &job->fetch;
  struct hop_result result = {
      .job = job->item.job,
      .fence = job->item.fence,
      .attempt = job->item.attempt,
      .capability = job->item.capability,
      .outcome = f->outcome,
      .certainty = f->certainty,
      .status = f->status,
      .error = pf_slice_str(f->error),
      .response_length = f->response_length,
      .headers = f->headers,
      .header_count = with_headers ? f->header_count : 0,
      .has_body = f->request.include & WIRE_INCLUDE_BODY &&
                  (f->outcome == OUTCOME_OK || f->outcome == OUTCOME_STATUS_NAMED),
      .reused = f->reused,
      .timings = f->timings,
  };
  result.timings.queue = job->item.queue_ms;
  pf_buf_clear(&job->head);
  hop_result_encode(&job->head, &result);
  job->result.item = (struct http_item){.head = pf_buf_view(&job->head)};
  if (result.has_body) job->result.item.body = pf_buf_view(&f->body);
}

static void job_deliver(struct job *job) {
  job_move(job, JOB_DELIVERING);
  job_encode_result(job, true);
  /* 64 KiB of headers can grow when written as JSON; the result itself must not be lost for that.
   */
  if (job->head.err == PF_ELIMIT) job_encode_result(job, false);
  pf_buf_must(&job->head);
  job->result.done = job_on_delivered;
  job->result.until_ms =
      job->fetch.taken_ns / NS_PER_MS + job->item.deadline_ms + job->app->config.result_grace_ms;
  results_send(job->app->results, job->item.job.origin, &job->result);
}

/* ---- FETCHING ---- */

/* The orchestrator makes another attempt where that cannot do the external effect twice. */
static bool job_wants_retry(const struct job *job) {
  const struct fetch *f = &job->fetch;
  if (job->item.last || !outcome_retried(f->outcome)) return false;
  return job->item.repeatable || f->certainty == CERTAINTY_NOT_SENT ||
         f->outcome == OUTCOME_STATUS_NAMED;
}

static void job_on_fetched(struct fetch *f) {
  struct job *job = job_of_fetch(f);
  PF_FAULT("executor.after_fetch");
  if (f->lapsed) { /* it is somebody else's by now */
    job->app->stats.lapsed++;
    job_end(job);
    return;
  }
  if (f->outcome == OUTCOME_OK && wire_retry_names(&job->item.retry, f->status)) {
    f->outcome = OUTCOME_STATUS_NAMED;
    snprintf(f->error, sizeof(f->error), "the target answered %d, %s", f->status,
        outcome_text(OUTCOME_STATUS_NAMED));
  }
  bool retry = job_wants_retry(job);
  job->app->stats.attempts[f->outcome]++;
  job->app->stats.retries += retry;
  pf_log(&job->app->log, PF_LOG_DEBUG, "fetched", "job=%016llx%016llx attempt=%d code=%s status=%d",
      (unsigned long long)job->item.job.origin, (unsigned long long)job->item.job.local,
      job->item.attempt, outcome_code(f->outcome), f->status);
  if (!retry) {
    job_deliver(job);
    return;
  }
  job->how = HOP_COMPLETE_RETRY;
  job_report_first(job);
}

static void job_fetch(struct job *job) {
  struct fetch *f = &job->fetch;
  int64_t budget_ms = job->item.attempt_ms;
  if (job->item.deadline_ms > 0 && job->item.deadline_ms < budget_ms)
    budget_ms = job->item.deadline_ms;
  f->attempt_ms = budget_ms;
  f->done = job_on_fetched;
  fetch_start(job->app->engine, f);
}

/* ---- STARTING ---- */

static void job_on_started(
    struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch) {
  struct job *job = pf_container_of(item, struct job, call);
  int go = 0;
  job->calling = false;
  (void)answer_batch;
  if (err == PF_ECANCEL) return; /* job_drop_all */
  if (!job->aborted && (err || hop_answer_decode(&go, hop_start_answers, answer))) {
    job_again_later(job);
    return;
  }
  if (job->aborted)
    job->app->stats.aborted++;
  else
    job->app->stats.starts[go]++;
  if (!go || job->aborted) {
    job_end(job);
    return;
  }
  job_move(job, JOB_FETCHING);
  job_fetch(job);
}

/* After a lapse the job may be somebody else's, even if the lease has been renewed since. */
bool job_may_send(void *arg, const struct fetch *fetch) {
  const struct app *app = arg;
  const struct job *job = pf_container_of(fetch, const struct job, fetch);
  return app_may_act(app) && job->lapses == app->lease.lapses;
}

static void job_start(struct job *job) {
  if (!job_may_send(job->app, &job->fetch)) {
    job->app->stats.lapsed++;
    job_end(job); /* the orchestrator gives it to somebody else */
    return;
  }
  struct hop_held held = job_held(job);
  pf_buf_clear(&job->head);
  hop_held_encode(&job->head, &held);
  job_call(job, job->app->start, job_on_started);
}

/* ---- taking ---- */

size_t job_slots_free(const struct app *app) {
  size_t max = (size_t)app->config.buffer_max;
  /* What is under way still needs room for its answers. */
  if (app->draining || app->jobs.count >= app->slots || fetch_buffered(app->engine) > max / 4 * 3)
    return 0;
  return app->slots - app->jobs.count;
}

enum hop_execute_answer job_take(
    struct app *app, const struct hop_execute *item, struct pf_slice request) {
  if (seen_has(&app->seen, item->fence))
    return seen_refused(&app->seen, item->fence) ? HOP_EXECUTE_FULL : HOP_EXECUTE_SEEN;
  /* Refused is refused: the queue may give the job another fence now, and a late copy of this one
   * must not be fetched beside it. */
  bool full = job_slots_free(app) == 0;
  seen_put(&app->seen, item->fence, full);
  if (full) return HOP_EXECUTE_FULL;
  struct job *job = job_new(app);
  job->app = app;
  job->item = *item;
  job->how = HOP_COMPLETE_DELIVERED;
  job->aborted = job->calling = false;
  job->lapses = app->lease.lapses;
  job->backoff_ms = BACKOFF_MIN_MS;
  job->again = (struct timer){.fire = job_on_again};
  job->fetch =
      (struct fetch){.arena = &job->arena, .job = item->job, .taken_ns = pf_clock_mono_ns()};
  pf_map_put(&app->jobs, &job->node, fence_hash(item->fence));

  struct pf_error why = {0};
  struct pf_slice copy = pf_arena_copy(&job->arena, request);
  int err = wire_request_decode(&job->fetch.request, copy, &job->arena, &why);
  PF_FAULT("executor.before_start");
  job->state = !err && !item->repeatable ? JOB_STARTING : JOB_FETCHING;
  app->job_count[job->state]++;
  if (job->state == JOB_STARTING) {
    job_start(job);
    return HOP_EXECUTE_TAKEN;
  }
  if (!err) {
    job_fetch(job);
    return HOP_EXECUTE_TAKEN;
  }
  job->fetch.outcome = OUTCOME_BAD_REQUEST;
  job->fetch.certainty = CERTAINTY_NOT_SENT;
  snprintf(job->fetch.error, sizeof(job->fetch.error), "%s", why.text);
  app->stats.attempts[OUTCOME_BAD_REQUEST]++;
  job_deliver(job);
  return HOP_EXECUTE_TAKEN;
}

void job_abort(struct app *app, const struct hop_held *held) {
  struct pf_map_node *node =
      pf_map_find(&app->jobs, fence_hash(held->fence), job_has_fence, &held->fence);
  struct job *job = node ? pf_container_of(node, struct job, node) : NULL;
  if (!job || !pf_job_id_eq(job->item.job, held->job)) return;
  if (job->state == JOB_FETCHING) {
    fetch_cancel(&job->fetch);
    app->stats.aborted++;
    job_end(job);
  } else if (job->state == JOB_STARTING && pf_heap_has(&job->again.node)) {
    app->stats.aborted++;
    job_end(job);
  } else if (job->state == JOB_STARTING) {
    job->aborted = true;
  }
}

void job_list_held(struct app *app, struct pf_buf *buf) {
  PF_MAP_EACH(it, &app->jobs) {
    struct hop_held held = job_held(pf_container_of(it, struct job, node));
    hop_held_append(buf, &held);
  }
}

/* ---- invariants ---- */

/* It has been seen, and one thing is under way that will move it on. (What is being delivered is
 * counted, see job_check.) */
static bool job_is_sound(const struct app *app, const struct job *job) {
  bool asks = job->state == JOB_STARTING || job->state == JOB_REPORTING;
  return seen_has(&app->seen, job->item.fence) && job->lapses <= app->lease.lapses &&
         (job->fetch.state != FETCH_IDLE) == (job->state == JOB_FETCHING) &&
         job->calling + pf_heap_has(&job->again.node) == asks;
}

void job_check(struct app *app) {
  size_t by_state[JOB_STATES] = {0}, unsound = 0, body_bytes = 0;
  PF_MAP_EACH(it, &app->jobs) {
    const struct job *job = pf_container_of(it, struct job, node);
    by_state[job->state]++;
    body_bytes += job->fetch.body.len;
    unsound += !job_is_sound(app, job);
  }
  struct results_stats results;
  results_read_stats(app->results, &results);
  size_t broken = unsound;
  broken += memcmp(by_state, app->job_count, sizeof(app->job_count)) != 0;
  broken += body_bytes != fetch_buffered(app->engine);
  broken += results.held != app->job_count[JOB_DELIVERING] || results.parked > results.held;
  if (broken == 0) return;
  app->stats.invariant_failures += broken;
  pf_log(&app->log, PF_LOG_ERROR, "invariant_broken",
      "count=%zu unsound=%zu body_bytes=%zu buffered=%zu held=%zu", broken, unsound, body_bytes,
      fetch_buffered(app->engine), results.held);
}

static void job_drop(struct app *app, struct job *job) {
  fetch_cancel(&job->fetch);
  fetch_release(&job->fetch);
  timer_stop(&app->timers, &job->again);
  pf_map_del(&app->jobs, &job->node);
  job_free(job);
}

/* The peers are gone or about to be, so no call of a job comes back. */
void job_drop_all(struct app *app) {
  PF_MAP_EACH(it, &app->jobs)
    job_drop(app, pf_container_of(it, struct job, node));
  struct pf_list *link;
  while ((link = pf_list_pop(&app->idle_jobs)) != NULL)
    job_free(pf_container_of(link, struct job, link));
}
