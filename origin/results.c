/* What executors and the queue deliver, and the continuations that it runs.
 *
 * A batch is answered when all of its items have their answer, and an item has one when what it
 * caused is durable: `accepted` promises that the sender may forget the result. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "origin/parts.h"
#include "wire/batch.h"
#include "wire/json.h"

enum { ANSWER_OPEN = -1 };

struct result_batch {
  struct pf_map_node node;
  uint64_t request;
  unsigned count, open;
  int answers[]; /* enum hop_result_answer or ANSWER_OPEN */
};

void job_received_free(struct job_received *received) {
  if (!received) return;
  pf_arena_done(&received->arena);
  free(received);
}

/* ---- answering ---- */

static bool request_eq(const struct pf_map_node *node, const void *arg) {
  return pf_container_of(node, struct result_batch, node)->request == *(const uint64_t *)arg;
}

static void batch_respond(struct core *core, struct result_batch *batch) {
  struct pf_buf bytes, head;
  pf_buf_init(&bytes, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  hop_results_reply_head_encode(
      &head, &(struct hop_results_reply_head){core->origin_id, core->origin_epoch});
  batch_append(&bytes, pf_buf_view(&head), (struct pf_slice){0});
  for (unsigned i = 0; i < batch->count; i++) {
    pf_buf_clear(&head);
    hop_answer_encode(&head, hop_result_answers, batch->answers[i]);
    batch_append(&bytes, pf_buf_view(&head), (struct pf_slice){0});
  }
  PF_FAULT("origin.result.before_ack");
  core->edge.respond(core->edge_arg, batch->request, 200, CORE_CONTENT_BATCH, pf_buf_view(&bytes));
  pf_buf_done(&head);
  pf_buf_done(&bytes);
}

void results_answer(struct core *core, uint64_t request, unsigned index, int answer) {
  struct pf_map_node *node =
      pf_map_find(&core->results_in, pf_hash_u64(request), request_eq, &request);
  if (!node) return;
  struct result_batch *batch = pf_container_of(node, struct result_batch, node);
  PF_ASSERT(index < batch->count && batch->answers[index] == ANSWER_OPEN);
  batch->answers[index] = answer;
  if (--batch->open > 0) return;
  batch_respond(core, batch);
  pf_map_del(&core->results_in, node);
  free(batch);
}

static void answer_gated(struct core *core, uint64_t request, unsigned index, int answer) {
  if (!request) return;
  struct output *output = commit_output(core->open, OUT_ANSWER, request);
  output->index = index;
  output->code = answer;
}

/* ---- results of jobs that are not pending any more ---- */

/* Whether the target's answer may still come. Of a job that keeps no result nobody could ask. */
static bool takes_late(const struct job *job) {
  return job->ended || (job->keep_result && outcome_declared(job->received->result.outcome));
}

/* What is kept beside the result message: whom a late result is for, how often it was tried, and
 * what a late result has to prove. */
static void whom_encode(struct pf_buf *buf, const struct job *job) {
  struct json_writer w = json_writer(buf);
  json_begin_object(&w, NULL);
  if (job->client.session) json_put_hex64(&w, "session", job->client.session);
  if (job->client_id.data) json_put_string(&w, "clientId", job->client_id);
  json_put_int(&w, "include", job->include);
  json_put_int(&w, "attempts", job->received->result.attempt);
  if (takes_late(job)) {
    char hex[2 * HOP_CAPABILITY_BYTES + 1];
    pf_hex_print(hex, job->capability.bytes, HOP_CAPABILITY_BYTES);
    json_put_text(&w, "capability", hex);
  }
  json_end_object(&w);
}

int64_t results_attempts(const struct lookup_row *row) {
  struct json *whom;
  int64_t attempts = -1;
  if (json_parse_own(&whom, row->c)) return attempts;
  json_int(json_get(whom, "attempts"), 0, INT32_MAX, &attempts);
  json_free(whom);
  return attempts;
}

/* The job was declared failed and now the target's answer comes after all: it is recorded and told,
 * and runs nothing. */
static void record_late(struct core *core, const struct lookup_row *row,
    const struct hop_result *result, struct pf_slice body) {
  struct json *whom;
  if (json_parse_own(&whom, row->c)) return;
  struct client_result message = {.job = result->job,
      .late = true,
      .outcome = result->outcome,
      .certainty = result->certainty,
      .attempts = result->attempt,
      .status = result->status,
      .response_length = result->response_length,
      .error = result->error,
      .headers = result->headers,
      .header_count = result->header_count,
      .has_body = result->has_body,
      .body = body,
      .timings = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
      .offset = -1};
  int64_t include = 0;
  struct pf_slice hex;
  uint64_t session_id = 0;
  json_string(json_get(whom, "clientId"), &message.client_id);
  if (json_int(json_get(whom, "include"), 0, 255, &include)) message.include = (unsigned)include;
  struct pf_buf text;
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  client_result_encode(&text, &message);
  commit_op(core->open, OP_RESULT_LATE, row->id)->a = commit_copy_buf(core->open, &text);
  pf_buf_done(&text);
  if (json_string(json_get(whom, "session"), &hex) &&
      pf_u64_parse(&session_id, hex.data, hex.len) == PF_OK) {
    struct session *session = sessions_find(core, session_id);
    if (session) sessions_add_result(core, session, &message);
  }
  core->stats.late++;
  json_free(whom);
}

static bool capability_eq(const struct capability *a, const struct capability *b) {
  unsigned char difference = 0;
  for (size_t i = 0; i < HOP_CAPABILITY_BYTES; i++)
    difference |= a->bytes[i] ^ b->bytes[i];
  return difference == 0;
}

/* Only rows of jobs that were declared failed hold a capability: others can take no late result. */
static bool late_allowed(const struct lookup_row *row, const struct capability *offered) {
  struct json *whom;
  struct pf_slice hex;
  struct capability kept;
  if (json_parse_own(&whom, row->c)) return false;
  bool allowed = json_string(json_get(whom, "capability"), &hex) &&
                 pf_hex_parse(kept.bytes, HOP_CAPABILITY_BYTES, hex.data, hex.len) == PF_OK &&
                 capability_eq(&kept, offered);
  json_free(whom);
  return allowed;
}

struct late_check {
  struct hop_result result; /* slices in the lookup's arena */
  struct pf_slice body;
};

/* A look-up that was asked before a late result was durable does not see it. */
struct late_row {
  struct pf_list link;
  uint64_t local, seq; /* of the commit */
};

static bool late_under_way(struct core *core, uint64_t local) {
  bool found = false;
  PF_LIST_EACH(link, &core->late_rows) {
    struct late_row *late = pf_container_of(link, struct late_row, link);
    found |= late->local == local;
    if (late->seq > core->durable_seq) continue;
    pf_list_del(link);
    free(late);
  }
  return found;
}

static void late_note(struct core *core, uint64_t local) {
  struct late_row *late = pf_alloc(sizeof(*late));
  late->local = local;
  late->seq = core->open->seq;
  pf_list_push(&core->late_rows, &late->link);
}

static void on_old_job(struct core *core, struct lookup *lookup) {
  const struct late_check *check = lookup->arg;
  const struct lookup_row *row = lookup->rows;
  if (!row || (row->flag && !late_allowed(row, &check->result.capability))) {
    core->stats.unknown++;
    results_answer(core, lookup->token, lookup->index, HOP_RESULT_UNKNOWN);
  } else if (row->flag && !row->d.len && !outcome_declared(check->result.outcome) &&
             !late_under_way(core, row->id)) {
    core->stats.stale++;
    record_late(core, row, &check->result, check->body);
    late_note(core, row->id);
    answer_gated(core, lookup->token, lookup->index, HOP_RESULT_STALE);
  } else {
    core->stats.duplicates++;
    answer_gated(
        core, lookup->token, lookup->index, row->flag ? HOP_RESULT_STALE : HOP_RESULT_DUPLICATE);
  }
  lookup_free(lookup);
}

static void check_old_job(struct core *core, const struct hop_result *result, struct pf_slice head,
    struct pf_slice body, uint64_t request, unsigned index) {
  struct lookup *lookup = lookup_new(LOOKUP_RESULT, result->job.local, on_old_job);
  struct late_check *check = pf_arena_alloc(&lookup->arena, sizeof(*check));
  if (hop_result_decode(&check->result, pf_arena_copy(&lookup->arena, head), &lookup->arena, NULL))
    PF_ASSERT(false && "a head that was decoded once decodes again");
  check->body = pf_arena_copy(&lookup->arena, body);
  lookup->arg = check;
  lookup->token = request;
  lookup->index = index;
  core_ask(core, lookup);
}

/* ---- accepting ---- */

static void run_when_loaded(struct core *core, struct job *job) {
  struct event event = {.kind = EVENT_CONTINUATION, .id = job->local, .received_ns = core->now_ns};
  actors_deliver(actors_get_by_id(core, job->actor), &event);
}

void results_accept(struct core *core, struct job *job) {
  PF_ASSERT(job->received && job->state == JOB_PENDING);
  job->result_ns = core->now_ns;
  if (job->continuation && job->continuation->cannot_crash) {
    jobs_move(core, job, JOB_RUNNABLE); /* result and effects share one commit */
    run_when_loaded(core, job);
    return;
  }
  struct job_received *received = job->received;
  struct pf_buf head;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  hop_result_encode(&head, &received->result);
  struct op *op = commit_op(core->open, OP_JOB_RECEIVED, job->local);
  op->a = commit_copy_buf(core->open, &head);
  op->b = commit_copy(core->open, received->body);
  pf_buf_done(&head);
  jobs_move(core, job, JOB_RECEIVED);
  results_run(core, job->local);
  answer_gated(core, received->answer_request, received->answer_index, HOP_RESULT_ACCEPTED);
  received->answer_request = 0;
}

/* The run is counted before it happens: a continuation that takes the process down has used it up.
 */
static void count_run(struct core *core, struct job *job) {
  job->runs++;
  commit_op(core->open, OP_JOB_RUNS, job->local)->n = job->runs;
  commit_output(core->open, OUT_RUN, job->local);
}

/* Comes twice for each run: to count it (RECEIVED), and once the count is durable (RUNNABLE). */
void results_run(struct core *core, uint64_t local) {
  struct job *job = jobs_find(core, local);
  if (!job) return;
  if (job->state == JOB_RECEIVED) {
    if (!job->continuation) {
      results_park(core, job, "its continuation is not known to this origin");
    } else if (job->runs >= JOB_RUNS_MAX) {
      results_park(core, job, "its continuation did not succeed in any run");
    } else {
      jobs_move(core, job, JOB_RUNNABLE);
      count_run(core, job);
    }
  } else if (job->state == JOB_RUNNABLE) {
    PF_FAULT("origin.continuation.before");
    run_when_loaded(core, job);
  }
}

static void take_result(struct core *core, struct job *job, const struct hop_result *result,
    struct pf_slice head, struct pf_slice body, uint64_t request, unsigned index) {
  struct job_received *received = pf_alloc(sizeof(*received));
  pf_arena_init(&received->arena);
  struct pf_slice copy = pf_arena_copy(&received->arena, head);
  if (hop_result_decode(&received->result, copy, &received->arena, NULL))
    PF_ASSERT(false && "a head that was decoded once decodes again");
  received->body = pf_arena_copy(&received->arena, body);
  received->answer_request = request;
  received->answer_index = index;
  job->received = received;
  if (result->outcome == OUTCOME_OK)
    core->stats.results_ok++;
  else
    core->stats.results_failed++;
  results_accept(core, job);
}

/* A result that waits in memory for its actor: a crash would forget it, so nobody may rely on it
 * yet. */
static bool result_unsafe(const struct job *job) {
  return job->state == JOB_RUNNABLE && job->continuation->cannot_crash;
}

static void take_item(struct core *core, struct pf_slice head, struct pf_slice body,
    struct pf_arena *arena, uint64_t request, unsigned index) {
  struct hop_result result;
  struct pf_error why = {0};
  if (hop_result_decode(&result, head, arena, &why)) {
    pf_log(core->log, PF_LOG_WARN, "result_malformed", "reason=\"%s\"", why.text);
    results_answer(core, request, index, HOP_RESULT_UNKNOWN);
    return;
  }
  if (result.job.origin != core->origin_id) {
    core->stats.unknown++;
    results_answer(core, request, index, HOP_RESULT_UNKNOWN);
    return;
  }
  struct job *job = jobs_find(core, result.job.local);
  if (!job && core_is_unread(core, result.job.local)) {
    results_answer(core, request, index, HOP_RESULT_RETRY); /* its row is not read yet */
  } else if (!job) {
    check_old_job(core, &result, head, body, request, index);
  } else if (!capability_eq(&job->capability, &result.capability) || job->state == JOB_COMMITTING) {
    core->stats.unknown++;
    results_answer(core, request, index, HOP_RESULT_UNKNOWN);
  } else if (result_unsafe(job)) {
    results_answer(core, request, index, HOP_RESULT_RETRY);
  } else if (job->state == JOB_PENDING) {
    take_result(core, job, &result, head, body, request, index);
  } else if (takes_late(job) && !outcome_declared(result.outcome) && job->state != JOB_PARKED) {
    results_answer(core, request, index, HOP_RESULT_RETRY); /* soon there is a row to put it in */
  } else {
    core->stats.duplicates++;
    /* What makes it a duplicate may not be durable yet. */
    answer_gated(core, request, index, takes_late(job) ? HOP_RESULT_STALE : HOP_RESULT_DUPLICATE);
  }
}

void core_on_results(struct core *core, uint64_t request, struct pf_slice bytes) {
  struct batch_reader counter = batch_reader(bytes), reader = batch_reader(bytes);
  struct pf_slice head, body;
  unsigned count = 0;
  int err;
  while ((err = batch_next(&counter, &head, &body)) == PF_OK)
    count++;
  if (err != PF_ENOTFOUND || count == 0 || batch_next(&reader, &head, &body)) {
    queries_error(core, request, 400, "bad_batch", "the batch is malformed");
    return;
  }
  struct result_batch *batch = pf_alloc(sizeof(*batch) + count * sizeof(batch->answers[0]));
  batch->request = request;
  batch->count = batch->open = count - 1;
  for (unsigned i = 0; i < batch->count; i++)
    batch->answers[i] = ANSWER_OPEN;
  if (batch->count == 0) {
    batch_respond(core, batch);
    free(batch);
    return;
  }
  pf_map_put(&core->results_in, &batch->node, pf_hash_u64(request));
  struct pf_arena arena;
  pf_arena_init(&arena);
  for (unsigned i = 0; i + 1 < count && batch_next(&reader, &head, &body) == PF_OK; i++) {
    take_item(core, head, body, &arena, request, i); /* the last answer frees batch */
    pf_arena_clear(&arena);
  }
  pf_arena_done(&arena);
}

/* ---- the end of a job ---- */

void results_finish(struct core *core, struct turn *turn) {
  struct job *job = turn->job;
  struct commit *commit = core->open;
  if (!turn->replied && (job->keep_result || !pf_list_empty(&job->waiters) || job->ended))
    actor_reply(turn->actor, turn->result);
  commit_op(commit, OP_JOB_DELETE, job->local);
  if (job->keep_result || job->ended) {
    const struct job_received *received = job->received;
    struct pf_buf whom;
    pf_buf_init(&whom, PF_BUF_MAX_DEFAULT);
    whom_encode(&whom, job);
    struct op *op = commit_op(commit, OP_RESULT_PUT, job->local);
    op->other = job->actor;
    op->n = core->kept_ms;
    op->flag = takes_late(job);
    op->a = commit_copy_buf(commit, &turn->reply);
    op->b = job->include & WIRE_INCLUDE_BODY ? commit_copy(commit, received->body)
                                             : (struct pf_slice){0};
    op->c = commit_copy_buf(commit, &whom);
    pf_buf_done(&whom);
    core->result_rows++;
  }
  queries_answer_waiters(core, job, pf_buf_view(&turn->reply));
  answer_gated(
      core, job->received->answer_request, job->received->answer_index, HOP_RESULT_ACCEPTED);
  if (job->ended && job->announced_ever) commit_output(commit, OUT_END, job->local);
  commit_output(commit, OUT_FORGET, job->local);
  jobs_move(core, job, JOB_FINISHING);
}

/* A continuation said no. Its effects are undone; the result is kept and it gets another run. */
void results_failed(struct core *core, struct job *job) {
  if (job->continuation->cannot_crash) {
    results_park(core, job, "its continuation refused the result");
  } else {
    jobs_move(core, job, JOB_RECEIVED);
    results_run(core, job->local);
  }
}

void results_park(struct core *core, struct job *job, const char *why) {
  char text[PF_ID_TEXT];
  pf_job_id_print(text, jobs_id(core, job));
  pf_log(core->log, PF_LOG_ERROR, "job_parked", "job=%s continuation=\"%.*s\" reason=\"%s\"", text,
      (int)job->continuation_name.len, job->continuation_name.data, why);
  core->stats.parked++;
  struct client_result message = {.job = jobs_id(core, job),
      .client_id = job->client_id,
      .outcome = job->continuation ? OUTCOME_CONTINUATION_FAILED : OUTCOME_CONTINUATION_UNKNOWN,
      .certainty = job->received->result.certainty,
      .attempts = job->received->result.attempt,
      .duration_ms = (double)(core->now_ns - job->received_ns) / 1e6,
      .error = pf_slice_str(why),
      .timings = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
      .offset = -1};
  struct pf_buf frame;
  pf_buf_init(&frame, PF_BUF_MAX_DEFAULT);
  client_result_encode(&frame, &message);
  announce_tell_enqueued(core, job);
  struct session *session = sessions_find(core, job->client.session);
  if (session)
    sessions_add_result(core, session, &message);
  else
    turn_output_frame(core, job->client.ws, &frame);
  queries_answer_waiters(core, job, pf_buf_view(&frame));
  pf_buf_done(&frame);
  struct op *op = commit_op(core->open, OP_JOB_PARK, job->local);
  op->a = commit_copy(core->open, pf_slice_str(why));
  /* A cannot_crash job has its result in memory only; the parked row must hold it. */
  struct pf_buf head;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  hop_result_encode(&head, &job->received->result);
  op = commit_op(core->open, OP_JOB_RECEIVED, job->local);
  op->a = commit_copy_buf(core->open, &head);
  op->b = commit_copy(core->open, job->received->body);
  pf_buf_done(&head);
  answer_gated(
      core, job->received->answer_request, job->received->answer_index, HOP_RESULT_ACCEPTED);
  job->received->answer_request = 0;
  jobs_move(core, job, JOB_PARKED);
}

/* ---- __status ---- */

static enum hop_status_answer status_of(struct core *core, struct pf_job_id id) {
  if (id.origin != core->origin_id) return HOP_STATUS_UNKNOWN;
  const struct job *job = jobs_find(core, id.local);
  if (!job && core_is_unread(core, id.local)) return HOP_STATUS_RETRY;
  if (!job) return id.local < core->next_local ? HOP_STATUS_DONE : HOP_STATUS_UNKNOWN;
  if (job->state == JOB_COMMITTING || job->state == JOB_PENDING) return HOP_STATUS_PENDING;
  return result_unsafe(job) ? HOP_STATUS_RETRY : HOP_STATUS_RECEIVED;
}

/* Gated: `received` must not be said of a result whose commit is still under way. */
void core_on_status(struct core *core, uint64_t request, struct pf_slice bytes) {
  struct batch_reader reader = batch_reader(bytes);
  struct pf_slice head, body;
  struct pf_buf out, text;
  pf_buf_init(&out, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  int err = batch_next(&reader, &head, &body);
  hop_results_reply_head_encode(
      &text, &(struct hop_results_reply_head){core->origin_id, core->origin_epoch});
  batch_append(&out, pf_buf_view(&text), (struct pf_slice){0});
  while (err == PF_OK && (err = batch_next(&reader, &head, &body)) == PF_OK) {
    struct pf_job_id id;
    pf_buf_clear(&text);
    enum hop_status_answer answer =
        hop_status_decode(&id, head) ? HOP_STATUS_UNKNOWN : status_of(core, id);
    hop_answer_encode(&text, hop_status_answers, (int)answer);
    batch_append(&out, pf_buf_view(&text), (struct pf_slice){0});
  }
  if (err == PF_ENOTFOUND) {
    struct output *output = commit_output(core->open, OUT_RESPOND, request);
    output->code = 200;
    output->content_type = CORE_CONTENT_BATCH;
    output->bytes = commit_copy_buf(core->open, &out);
  } else
    queries_error(core, request, 400, "bad_batch", "the batch is malformed");
  pf_buf_done(&text);
  pf_buf_done(&out);
}

void results_done(struct core *core) {
  for (struct pf_list *link; (link = pf_list_pop(&core->late_rows)) != NULL;)
    free(pf_container_of(link, struct late_row, link));
  PF_MAP_EACH(it, &core->results_in)
    free(pf_container_of(it, struct result_batch, node));
  pf_map_done(&core->results_in);
}
