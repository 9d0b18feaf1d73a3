/* One turn, and the functions of actor.h that work inside it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "origin/parts.h"
#include "wire/json.h"

/* ---- beginning and end ---- */

static void turn_begin(struct turn *turn, struct actor *actor, const struct event *event) {
  struct core *core = actor->core;
  PF_ASSERT(!actor->turn && !actor->loading);
  *turn = (struct turn){.actor = actor,
      .mark = commit_mark(core->open),
      .received_ns = event->received_ns,
      .submit_scope = event->submit_scope};
  pf_list_init(&turn->made);
  pf_buf_init(&turn->logs, (size_t)ACTOR_LOG_LINES_MAX * ACTOR_LOG_LINE_MAX * 8);
  pf_buf_init(&turn->reply, PF_BUF_MAX_DEFAULT);
  actor->turn = turn;
  core->stats.turns++;
}

static void turn_keep(struct turn *turn) {
  struct core *core = turn->actor->core;
  state_keep(&turn->actor->state);
  actors_mark_dirty(turn->actor);
  if (!pf_list_empty(&turn->made)) actors_ensure_row(turn->actor);
  for (struct pf_list *link; (link = pf_list_pop(&turn->made)) != NULL;)
    jobs_write_row(core, pf_container_of(link, struct job, ready));
}

void actor_undo(struct actor *actor) {
  struct turn *turn = actor->turn;
  struct core *core = actor->core;
  state_undo(&actor->state);
  for (const struct output *output = *turn->mark.outputs_end; output; output = output->next)
    if (output->kind == OUT_EVENT) sessions_take_back(core, output);
  commit_rewind(core->open, turn->mark);
  if (turn->job) turn->job->enqueued_told = turn->enqueued_told;
  turn->replied = false;
  pf_buf_clear(&turn->reply);
  pf_buf_clear(&turn->logs);
  turn->log_lines = 0;
  for (struct pf_list *link; (link = pf_list_pop(&turn->made)) != NULL;)
    jobs_forget(core, pf_container_of(link, struct job, ready));
  turn->first_job = (struct pf_job_id){0};
}

static void turn_end(struct turn *turn, int err) {
  if (err < 0) {
    turn->actor->core->stats.turns_undone++;
    actor_undo(turn->actor);
  } else {
    turn_keep(turn);
  }
  turn->actor->turn = NULL;
}

static void turn_free(struct turn *turn) {
  pf_buf_done(&turn->logs);
  pf_buf_done(&turn->reply);
}

/* ---- the kinds of turns ---- */

static void run_decoded_message(struct actor *actor, const struct event *event,
    const struct client_message *message, int err, const char *code, const char *why) {
  struct turn turn;
  turn_begin(&turn, actor, event);
  if (!err && actor->class->on_message) {
    err = actor->class->on_message(actor, &event->client, message, event->text);
    if (err) code = "turn_failed", why = "the actor could not handle the message";
  }
  turn_end(&turn, err);
  if (err)
    clients_send_error(actor->core, event->client.ws, code, pf_slice_str(why), message->client_id,
        message->batch_id);
  turn_free(&turn);
}

static void run_message(struct actor *actor, const struct event *received) {
  struct core *core = actor->core;
  struct event event = *received;
  struct socket *socket = clients_find(core, event.client.ws);
  /* Until it is closed: outside its session, a repeated submit would be a second job. */
  if (socket && socket->taken_over) return;
  struct pf_arena arena;
  pf_arena_init(&arena);
  struct client_message message;
  const char *code = NULL;
  struct pf_error why = {0};
  int err = client_message_decode(&message, event.text, &arena, &code, &why);
  if (socket) event.client.session = socket->session; /* an earlier message may have resumed one */
  bool handled = !err && socket && clients_handle(core, socket, &message);
  /* Who was refused a session may ask for another one. */
  bool refused = handled && message.type == CLIENT_RESUME && !socket->session;
  if (socket && !refused) socket->spoke = true;
  if (!handled && !err && message.type == CLIENT_START_FETCH && message.fetch.submit_key.len &&
      !event.submit_checked)
    submits_check(core, actor, &event, &message.fetch);
  else if (!handled)
    run_decoded_message(actor, &event, &message, err, code, why.text);
  pf_arena_done(&arena);
}

/* In the words of the fetch that was refused: a handler has no other way to an HTTP client. */
static void api_refuse(struct core *core, uint64_t request, const struct pf_error *why) {
  if (why->code == PF_ENOSPC)
    queries_error(core, request, 503, "disk_full", why->text);
  else if (why->code == PF_ELIMIT)
    queries_error(core, request, 503, "busy", why->text);
  else
    queries_error(core, request, 400, "bad_request", why->text);
}

static void run_api_fetch(struct actor *actor, const struct event *event) {
  struct core *core = actor->core;
  struct pf_arena arena;
  pf_arena_init(&arena);
  struct client_message message = {.type = CLIENT_START_FETCH};
  const char *code = NULL;
  struct pf_error why = {0};
  int err = client_fetch_decode(&message.fetch, event->text, &arena, &code, &why);
  if (!err && message.fetch.submit_key.len && !event->submit_checked) {
    submits_check(core, actor, event, &message.fetch);
    pf_arena_done(&arena);
    return;
  }
  struct turn turn;
  turn_begin(&turn, actor, event);
  if (!err && actor->class->on_message)
    err = actor->class->on_message(actor, &event->client, &message, event->text);
  turn_end(&turn, err);
  struct job *job = err ? NULL : jobs_find(core, turn.first_job.local);
  if (err)
    queries_error(core, event->id, 400, code ? code : "turn_failed",
        why.text[0] ? why.text : "the actor refused the request");
  else if (!job && turn.refused.code)
    api_refuse(core, event->id, &turn.refused);
  else if (!job)
    queries_error(core, event->id, 422, "no_fetch", "the actor made no fetch of this request");
  else
    queries_wait(core, job, event->id, event->wait_ms, true);
  turn_free(&turn);
  pf_arena_done(&arena);
}

static void result_view(struct actor_result *ret, const struct job *job, const struct core *core) {
  const struct hop_result *result = &job->received->result;
  *ret = (struct actor_result){.job = jobs_id(core, job),
      .outcome = result->outcome,
      .certainty = result->certainty,
      .attempts = result->attempt,
      .status = result->status,
      .error = result->error,
      .headers = result->headers,
      .header_count = result->header_count,
      .has_body = result->has_body,
      .body = job->received->body,
      .response_length = result->response_length,
      .client = job->client};
}

static void run_continuation(struct actor *actor, const struct event *event) {
  struct core *core = actor->core;
  struct job *job = jobs_find(core, event->id);
  if (!job || job->state != JOB_RUNNABLE) return; /* it ended while it waited */
  struct actor_result result;
  result_view(&result, job, core);
  struct turn turn;
  turn_begin(&turn, actor, event);
  turn.job = job;
  turn.enqueued_told = job->enqueued_told;
  turn.result = &result;
  int err = job->continuation->run(actor, &result, job->context);
  if (err >= 0) results_finish(core, &turn);
  turn_end(&turn, err);
  if (err < 0) results_failed(core, job);
  turn_free(&turn);
}

static void run_socket(struct actor *actor, const struct event *event,
    int (*run)(struct actor *, const struct actor_client *)) {
  if (!run) return;
  struct turn turn;
  turn_begin(&turn, actor, event);
  turn_end(&turn, run(actor, &event->client));
  turn_free(&turn);
}

void turn_run(struct actor *actor, const struct event *event) {
  switch (event->kind) {
  case EVENT_CONNECT:
    run_socket(actor, event, actor->class->on_connect);
    break;
  case EVENT_CLOSE:
    run_socket(actor, event, actor->class->on_close);
    break;
  case EVENT_MESSAGE:
    run_message(actor, event);
    break;
  case EVENT_API_FETCH:
    run_api_fetch(actor, event);
    break;
  case EVENT_CONTINUATION:
    run_continuation(actor, event);
    break;
  }
}

/* ---- actor.h: state ---- */

bool actor_get(struct actor *actor, struct pf_slice key, struct pf_slice *ret_value) {
  return state_get(&actor->state, key, ret_value);
}

int actor_put(struct actor *actor, struct pf_slice key, struct pf_slice value) {
  PF_ASSERT(actor->turn);
  return state_put(&actor->state, key, value);
}

void actor_delete(struct actor *actor, struct pf_slice key) {
  PF_ASSERT(actor->turn);
  state_delete(&actor->state, key);
}

void actor_list(struct actor *actor, struct pf_slice prefix,
    bool (*each)(struct pf_slice key, struct pf_slice value, void *arg), void *arg) {
  state_list(&actor->state, prefix, each, arg);
}

struct pf_slice actor_name(const struct actor *actor) {
  return pf_slice_str(actor->name);
}

/* ---- actor.h: fetches ---- */

int actor_fetch_get(struct client_fetch *fetch, struct pf_slice url, struct pf_error *reterr) {
  *fetch = (struct client_fetch){.request = {.url = url, .method = pf_slice_str("GET")},
      .repeatable = true,
      .retry = {.attempts = WIRE_ATTEMPTS_DEFAULT},
      .attempt_ms = WIRE_ATTEMPT_MS_DEFAULT,
      .deadline_ms = WIRE_DEADLINE_MS_DEFAULT,
      .queue_ms = WIRE_QUEUE_MS_DEFAULT};
  return wire_request_check(&fetch->request, fetch->host, reterr);
}

static const struct actor_continuation *continuation_find(
    const struct actor_class *class, struct pf_slice name) {
  for (size_t i = 0; i < class->continuation_count; i++)
    if (pf_slice_is(name, class->continuations[i].name)) return &class->continuations[i];
  return NULL;
}

static int fetch_check(struct actor *actor, const struct actor_fetch *spec,
    const struct actor_continuation **ret_continuation, struct pf_error *reterr) {
  struct core *core = actor->core;
  *ret_continuation = continuation_find(actor->class, pf_slice_str(spec->continuation));
  if (!*ret_continuation)
    return pf_error_set(reterr, PF_EINVAL, "class %s has no continuation named '%s'",
        actor->class->name, spec->continuation);
  if (spec->context.len > WIRE_CONTEXT_MAX)
    return pf_error_set(reterr, PF_ELIMIT, "the context is larger than %d bytes", WIRE_CONTEXT_MAX);
  if ((int64_t)core->jobs.count >= core->limits->pending_max)
    return pf_error_set(reterr, PF_ELIMIT,
        "%lld fetches are pending, the most this origin takes; try again later",
        (long long)core->limits->pending_max);
  if ((int64_t)core->request_bytes >= core->limits->pending_bytes_max)
    return pf_error_set(reterr, PF_ELIMIT,
        "requests of %lld bytes wait to be queued, the most this origin takes; try again later, or "
        "with smaller bodies or batches",
        (long long)core->limits->pending_bytes_max);
  if (actor->turn->submit_scope && spec->fetch->submit_key.len &&
      core->submit_rows >= core->limits->submit_count_max)
    return pf_error_set(reterr, PF_ELIMIT,
        "%lld submit keys are remembered, the most this origin keeps; try again later, or without "
        "one",
        (long long)core->limits->submit_count_max);
  if (core->edge.space_low(core->edge_arg))
    return pf_error_set(reterr, PF_ENOSPC,
        "the disk is nearly full; new fetches are refused until there is space again");
  return PF_OK;
}

int actor_fetch(struct actor *actor, const struct actor_fetch *spec, struct pf_job_id *ret_job,
    struct pf_error *reterr) {
  struct core *core = actor->core;
  struct turn *turn = actor->turn;
  PF_ASSERT(turn);
  const struct actor_continuation *continuation;
  struct pf_error why = {0};
  int err = fetch_check(actor, spec, &continuation, &why);
  if (err) {
    if (!turn->refused.code) turn->refused = why;
    return pf_error_set(reterr, err, "%s", why.text);
  }
  struct job_new make = {.actor = actor->id,
      .continuation = continuation,
      .fetch = spec->fetch,
      .context = spec->context,
      .continuation_name = pf_slice_str(continuation->name),
      .client = spec->client,
      .keep_result = spec->keep_result,
      .received_ns = turn->received_ns,
      .submit_scope = spec->fetch->submit_key.len ? turn->submit_scope : 0};
  struct job *job = jobs_make(core, &make);
  pf_list_push(&turn->made, &job->ready);
  *ret_job = jobs_id(core, job);
  if (!turn->first_job.local) turn->first_job = *ret_job;
  core->stats.fetches++;
  return PF_OK;
}

/* ---- actor.h: messages ---- */

void turn_output_frame(struct core *core, uint64_t ws, const struct pf_buf *frame) {
  if (!ws || frame->err) return;
  commit_output(core->open, OUT_FRAME, ws)->bytes = commit_copy_buf(core->open, frame);
}

void actor_send(struct actor *actor, const struct actor_client *client, struct pf_slice text) {
  struct core *core = actor->core;
  uint64_t ws = clients_ws(core, client);
  if (ws) commit_output(core->open, OUT_FRAME, ws)->bytes = commit_copy(core->open, text);
}

static void encode_event(struct pf_buf *buf, void *arg, int64_t offset) {
  const struct pf_slice *object = arg;
  pf_buf_append(buf, object->data, object->len - 1); /* all but the closing brace */
  if (offset >= 0) {
    bool empty = object->len == 2;
    pf_buf_printf(buf, "%s\"offset\":%lld", empty ? "" : ",", (long long)offset);
  }
  pf_buf_str(buf, "}");
}

int actor_send_event(
    struct actor *actor, const struct actor_client *client, struct pf_slice object) {
  if (object.len < 2 || object.data[0] != '{' || object.data[object.len - 1] != '}' ||
      json_check(object, NULL))
    return PF_EINVAL;
  struct session *session = sessions_find(actor->core, client->session);
  if (session)
    sessions_add_event(actor->core, session, encode_event, &object);
  else
    actor_send(actor, client, object);
  return PF_OK;
}

void actor_broadcast(struct actor *actor, struct pf_slice text) {
  PF_LIST_EACH(link, &actor->sockets) {
    struct actor_client client = {pf_container_of(link, struct socket, of_actor)->ws, 0};
    actor_send(actor, &client, text);
  }
}

void actor_send_error(struct actor *actor, const struct actor_client *client, const char *code,
    struct pf_slice text, struct pf_slice client_id, struct pf_slice batch_id) {
  clients_send_error(actor->core, clients_ws(actor->core, client), code, text, client_id, batch_id);
}

struct batch_complete {
  struct pf_slice batch_id;
  int64_t count, success_count;
};

static void encode_batch_complete(struct pf_buf *buf, void *arg, int64_t offset) {
  const struct batch_complete *batch = arg;
  client_batch_complete_encode(buf, batch->batch_id, batch->count, batch->success_count, offset);
}

void actor_send_batch_complete(struct actor *actor, const struct actor_client *client,
    struct pf_slice batch_id, int64_t count, int64_t success_count) {
  struct core *core = actor->core;
  struct batch_complete batch = {batch_id, count, success_count};
  struct session *session = sessions_find(core, client->session);
  if (session) {
    sessions_add_event(core, session, encode_batch_complete, &batch);
    return;
  }
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  encode_batch_complete(&frame, &batch, -1);
  turn_output_frame(core, client->ws, &frame);
  pf_buf_done(&frame);
}

static double ns_to_ms(int64_t ns) {
  return ns < 0 ? 0 : (double)ns / 1e6;
}

/* Takes up to *excess from a part that overlaps others. */
static void timing_trim(double *part, double *excess) {
  double cut = *part < *excess ? *part : *excess;
  if (cut <= 0) return;
  *part -= cut;
  *excess -= cut;
}

/* The twelve parts sum to the total. The queue dispatches a job at the moment at which it answers
 * the origin: what its waiting and that answer's way have in common counts once, as `enqueue`. What
 * is measured nowhere is `callback`, the ways between the processes that a result takes. */
static struct client_timings job_timings(const struct job *job, int64_t now_ns) {
  const struct hop_timings *hop = &job->received->result.timings;
  struct client_timings t = {.commit = ns_to_ms(job->durable_ns - job->received_ns),
      .enqueue = job->accepted_ns ? ns_to_ms(job->accepted_ns - job->durable_ns) : -1,
      .queue = hop->queue,
      .dispatch = hop->dispatch,
      .dns = hop->dns,
      .connect = hop->connect,
      .tls = hop->tls,
      .ttfb = hop->ttfb,
      .transfer = hop->transfer,
      .continuation = ns_to_ms(now_ns - job->result_ns),
      .total = ns_to_ms(now_ns - job->received_ns)};
  const double parts[] = {t.commit, t.enqueue, t.queue, t.dispatch, t.dns, t.connect, t.tls, t.ttfb,
      t.transfer, t.continuation};
  double excess = -t.total;
  for (size_t i = 0; i < PF_COUNT(parts); i++)
    if (parts[i] > 0) excess += parts[i];
  t.callback = excess < 0 ? -excess : 0;
  timing_trim(&t.queue, &excess);
  timing_trim(&t.enqueue, &excess); /* the result overtook the queue's answer */
  return t;
}

void actor_reply(struct actor *actor, const struct actor_result *result) {
  struct core *core = actor->core;
  struct turn *turn = actor->turn;
  PF_ASSERT(turn && turn->job && result == turn->result && !turn->replied);
  struct job *job = turn->job;
  turn->replied = true;
  if (turn->log_lines) pf_buf_str(&turn->logs, "]");
  struct client_result message = {.job = result->job,
      .client_id = job->client_id,
      .outcome = result->outcome,
      .certainty = result->certainty,
      .attempts = result->attempts,
      .status = result->status,
      .response_length = result->response_length,
      .duration_ms = ns_to_ms(core->now_ns - job->received_ns),
      .error = result->error,
      .include = job->include,
      .headers = result->headers,
      .header_count = result->header_count,
      .has_body = result->has_body,
      .body = result->body,
      .timings = job_timings(job, core->now_ns),
      .logs = turn->logs.err ? (struct pf_slice){0} : pf_buf_view(&turn->logs),
      .offset = -1};
  client_result_encode(&turn->reply, &message);
  announce_tell_enqueued(core, job); /* never after its result */
  struct session *session = sessions_find(core, job->client.session);
  if (session)
    sessions_add_result(core, session, &message);
  else
    turn_output_frame(core, job->client.ws, &turn->reply);
}

/* ---- actor.h: logs ---- */

void actor_log(struct actor *actor, const char *fmt, ...) {
  struct turn *turn = actor->turn;
  PF_ASSERT(turn);
  char line[ACTOR_LOG_LINE_MAX + 1];
  va_list args;
  va_start(args, fmt);
  vsnprintf(line, sizeof(line), fmt, args);
  va_end(args);
  pf_log(actor->core->log, PF_LOG_INFO, "actor_log", "class=%s actor=\"%s\" line=\"%s\"",
      actor->class->name, actor->name, line);
  if (turn->replied || turn->log_lines == ACTOR_LOG_LINES_MAX) return;
  pf_buf_str(&turn->logs, turn->log_lines++ ? "," : "[");
  struct json_writer w = json_writer(&turn->logs);
  json_put_text(&w, NULL, line);
}
