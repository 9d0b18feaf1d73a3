/* The table of jobs that are not done, and their rows. */
#include <stdlib.h>
#include <string.h>

#include "origin/parts.h"
#include "wire/json.h"

static const unsigned job_allowed[JOB_STATE_COUNT] = {
    [JOB_COMMITTING] = PF_BIT(JOB_PENDING),
    [JOB_PENDING] = PF_BIT(JOB_RECEIVED) | PF_BIT(JOB_RUNNABLE) | PF_BIT(JOB_PARKED),
    [JOB_RECEIVED] = PF_BIT(JOB_RUNNABLE) | PF_BIT(JOB_PARKED),
    [JOB_RUNNABLE] = PF_BIT(JOB_FINISHING) | PF_BIT(JOB_RECEIVED) | PF_BIT(JOB_PARKED),
    [JOB_FINISHING] = 0,
    [JOB_PARKED] = PF_BIT(JOB_RECEIVED) | PF_BIT(JOB_FINISHING),
};

/* ---- the table ---- */

static bool local_eq(const struct pf_map_node *node, const void *arg) {
  return pf_container_of(node, struct job, node)->local == *(const uint64_t *)arg;
}

struct job *jobs_find(const struct core *core, uint64_t local) {
  struct pf_map_node *node = pf_map_find(&core->jobs, pf_hash_u64(local), local_eq, &local);
  return node ? pf_container_of(node, struct job, node) : NULL;
}

struct pf_job_id jobs_id(const struct core *core, const struct job *job) {
  return (struct pf_job_id){core->origin_id, job->local};
}

static void job_set_deadline(struct core *core, struct job *job) {
  int64_t left_ms = job->deadline_wall_ms - core->wall_ms;
  /* The wall clock may have jumped while we were down; no job waits longer than it asked to. */
  if (left_ms > WIRE_DEADLINE_MS_MAX) left_ms = WIRE_DEADLINE_MS_MAX;
  if (left_ms < 0) left_ms = 0; /* however long ago that was */
  pf_heap_set(&core->deadlines, &job->deadline, core->now_ns + left_ms * 1000000);
}

/* The only function that changes job->state. */
void jobs_move(struct core *core, struct job *job, enum job_state to) {
  PF_ASSERT(job_allowed[job->state] & PF_BIT(to));
  core->job_count[job->state]--;
  if (job->accepted) core->accepted -= job->state == JOB_PENDING;
  job->state = to;
  core->job_count[to]++;
  if (to == JOB_PENDING) {
    job_set_deadline(core, job);
    return;
  }
  /* Its fate is decided: the queue need not hear of it again, and no deadline can end it. */
  pf_list_del(&job->ready);
  pf_heap_del(&core->announces, &job->announce);
  pf_heap_del(&core->deadlines, &job->deadline);
  if (to == JOB_PARKED) pf_list_del(&job->by_id); /* parked ones do not hold the watermark back */
}

static void job_enter(struct core *core, struct job *job, enum job_state state) {
  job->state = state;
  core->job_count[state]++;
  pf_list_init(&job->ready);
  pf_list_init(&job->waiters);
  pf_map_put(&core->jobs, &job->node, pf_hash_u64(job->local));
  sessions_count_job(core, job->client.session, 1);
  if (job->submit_scope) submits_add(core, job);
}

static void job_free(struct job *job) {
  pf_buf_done(&job->request);
  job_received_free(job->received);
  free(job->client_id_text);
  free(job->text);
  free(job);
}

void jobs_release_request(struct core *core, struct job *job) {
  core->request_bytes -= job->request.len;
  pf_buf_done(&job->request);
}

void jobs_forget(struct core *core, struct job *job) {
  PF_ASSERT(pf_list_empty(&job->waiters));
  sessions_count_job(core, job->client.session, -1);
  if (job->submit_scope) submits_remove(core, job);
  core->job_count[job->state]--;
  if (job->accepted) core->accepted -= job->state == JOB_PENDING;
  pf_map_del(&core->jobs, &job->node);
  pf_list_del(&job->by_id);
  pf_list_del(&job->ready);
  pf_heap_del(&core->deadlines, &job->deadline);
  pf_heap_del(&core->announces, &job->announce);
  jobs_release_request(core, job);
  job_free(job);
}

void jobs_done(struct core *core) {
  PF_MAP_EACH(it, &core->jobs)
    job_free(pf_container_of(it, struct job, node));
  pf_map_done(&core->jobs);
  pf_map_done(&core->submits);
}

void jobs_set_client_id(struct job *job, struct pf_slice client_id) {
  if (pf_slice_eq(job->client_id, client_id)) return;
  free(job->client_id_text);
  job->client_id_text = client_id.data ? pf_memdup(client_id.data, client_id.len) : NULL;
  job->client_id = pf_slice(job->client_id_text, client_id.len);
}

/* Copies the slices that live as long as the job into one block. */
static void job_set_text(struct job *job, struct pf_slice *const fields[], size_t count) {
  size_t len = 0;
  for (size_t i = 0; i < count; i++)
    len += fields[i]->len + 1;
  char *at = job->text = pf_alloc(len);
  for (size_t i = 0; i < count; i++) {
    if (!fields[i]->data) continue; /* what was not sent is not echoed */
    if (fields[i]->len) memcpy(at, fields[i]->data, fields[i]->len);
    fields[i]->data = at;
    at += fields[i]->len + 1;
  }
}

static void job_own_text(struct job *job) {
  struct pf_slice *const fields[] = {
      &job->client_id, &job->host, &job->context, &job->continuation_name, &job->submit_key};
  job_set_text(job, fields, PF_COUNT(fields));
}

struct job *jobs_make(struct core *core, const struct job_new *spec) {
  const struct client_fetch *fetch = spec->fetch;
  struct job *job = pf_alloc(sizeof(*job));
  job->local = core->next_local++;
  job->actor = spec->actor;
  job->repeatable = fetch->repeatable;
  job->keep_result = spec->keep_result;
  job->include = fetch->request.include;
  job->continuation = spec->continuation;
  job->client = spec->client;
  job->retry = fetch->retry;
  job->attempt_ms = fetch->attempt_ms;
  job->queue_ms = fetch->queue_ms;
  job->deadline_wall_ms = core->wall_ms + fetch->deadline_ms;
  job->received_ns = spec->received_ns;
  job->first_epoch = core->queue_epoch;
  pf_rand_secret(job->capability.bytes, sizeof(job->capability.bytes));
  job->client_id = fetch->id;
  job->host = pf_slice_str(fetch->host);
  job->context = spec->context;
  job->continuation_name = spec->continuation_name;
  job->submit_key = fetch->submit_key;
  job->submit_scope = spec->submit_scope;
  if (job->submit_scope) submits_digest(job->digest, fetch);
  job_own_text(job);
  struct wire_request request = fetch->request;
  request.include |= spec->continuation->needs;
  pf_buf_init(&job->request, PF_BUF_MAX_DEFAULT);
  wire_request_encode(&job->request, &request);
  core->request_bytes += job->request.len;
  job_enter(core, job, JOB_COMMITTING);
  pf_list_push(&core->jobs_live, &job->by_id);
  return job;
}

/* ---- rows ---- */

static void row_encode(struct pf_buf *buf, const struct core *core, const struct job *job) {
  char hex[2 * HOP_CAPABILITY_BYTES + 1];
  struct json_writer w = json_writer(buf);
  json_begin_object(&w, NULL);
  pf_hex_print(hex, job->capability.bytes, HOP_CAPABILITY_BYTES);
  json_put_text(&w, "capability", hex);
  json_put_string(&w, "continuation", job->continuation_name);
  if (job->context.len) json_put_raw(&w, "context", job->context);
  if (job->client_id.data) json_put_string(&w, "clientId", job->client_id);
  if (job->client.session) json_put_hex64(&w, "session", job->client.session);
  json_put_int(&w, "include", job->include);
  json_put_string(&w, "host", job->host);
  json_put_bool(&w, "repeatable", job->repeatable);
  json_put_bool(&w, "keep", job->keep_result);
  json_put_int(&w, "attempts", job->retry.attempts);
  if (job->retry.status_count) {
    json_begin_array(&w, "statuses");
    for (size_t i = 0; i < job->retry.status_count; i++)
      json_put_int(&w, NULL, job->retry.statuses[i]);
    json_end_array(&w);
  }
  json_put_int(&w, "attemptMs", job->attempt_ms);
  json_put_int(&w, "queueMs", job->queue_ms);
  json_put_int(&w, "received", core->wall_ms - (core->now_ns - job->received_ns) / 1000000);
  json_put_int(&w, "deadline", job->deadline_wall_ms);
  if (job->submit_scope) {
    json_put_string(&w, "submitKey", job->submit_key);
    json_put_hex64(&w, "submitScope", job->submit_scope);
    json_put_hex64(&w, "digestA", job->digest[0]);
    json_put_hex64(&w, "digestB", job->digest[1]);
  }
  json_end_object(&w);
}

void jobs_write_row(struct core *core, struct job *job) {
  struct commit *commit = core->open;
  struct pf_buf head;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  row_encode(&head, core, job);
  struct op *op = commit_op(commit, OP_JOB_PUT, job->local);
  op->other = job->actor;
  op->n = (int64_t)job->first_epoch;
  op->a = commit_copy_buf(commit, &head);
  op->b = commit_copy_buf(commit, &job->request);
  pf_buf_done(&head);
  if (job->submit_scope) {
    op = commit_op(commit, OP_SUBMIT_PUT, job->submit_scope);
    op->a = commit_copy(commit, job->submit_key);
    op->b = commit_copy(commit, pf_slice(job->digest, sizeof(job->digest)));
    op->other = job->local;
    op->w = core->kept_ms + job->deadline_wall_ms - core->wall_ms;
    core->submit_rows++;
  }
  commit_output(commit, OUT_ANNOUNCE, job->local);
}

static bool row_hex64(const struct json *root, const char *name, uint64_t *ret_value) {
  struct pf_slice text;
  return json_string(json_get(root, name), &text) &&
         pf_u64_parse(ret_value, text.data, text.len) == PF_OK;
}

static bool row_decode_retry(const struct json *root, struct wire_retry *ret) {
  int64_t number;
  if (!json_int(json_get(root, "attempts"), 1, WIRE_ATTEMPTS_MAX, &number)) return false;
  ret->attempts = (int)number;
  const struct json *statuses = json_get(root, "statuses");
  for (const struct json *s = statuses ? json_first(statuses) : NULL; s; s = json_next(s)) {
    if (!json_int(s, 1, 599, &number) || ret->status_count == WIRE_STATUSES_MAX) return false;
    ret->statuses[ret->status_count++] = (uint16_t)number;
  }
  return true;
}

static bool row_decode(
    struct core *core, struct job *job, const struct lookup_row *row, const struct json *root) {
  struct pf_slice hex;
  int64_t include, received_wall;
  if (!json_string(json_get(root, "capability"), &hex) ||
      pf_hex_parse(job->capability.bytes, HOP_CAPABILITY_BYTES, hex.data, hex.len) ||
      !json_string(json_get(root, "continuation"), &job->continuation_name) ||
      !json_string(json_get(root, "host"), &job->host) || job->host.len >= WIRE_HOST_MAX ||
      !json_int(json_get(root, "include"), 0, 255, &include) ||
      !json_bool(json_get(root, "repeatable"), &job->repeatable) ||
      !json_bool(json_get(root, "keep"), &job->keep_result) ||
      !json_int(json_get(root, "attemptMs"), 1, WIRE_ATTEMPT_MS_MAX, &job->attempt_ms) ||
      !json_int(json_get(root, "queueMs"), 0, WIRE_DEADLINE_MS_MAX, &job->queue_ms) ||
      !json_int(json_get(root, "received"), 0, INT64_MAX, &received_wall) ||
      !json_int(json_get(root, "deadline"), 0, INT64_MAX, &job->deadline_wall_ms) ||
      !row_decode_retry(root, &job->retry))
    return false;
  job->include = (unsigned)include;
  json_string(json_get(root, "clientId"), &job->client_id);
  json_raw(row->a, "context", &job->context);
  row_hex64(root, "session", &job->client.session);
  if (json_string(json_get(root, "submitKey"), &job->submit_key) &&
      (!row_hex64(root, "submitScope", &job->submit_scope) ||
          !row_hex64(root, "digestA", &job->digest[0]) ||
          !row_hex64(root, "digestB", &job->digest[1])))
    return false;
  int64_t age_ms = core->wall_ms - received_wall;
  if (age_ms < 0) { /* the wall clock has gone back: no job waits longer than it asked to */
    job->deadline_wall_ms += age_ms;
    age_ms = 0;
  }
  job->received_ns = core->now_ns - age_ms * 1000000;
  return true;
}

static bool row_decode_received(struct job *job, const struct lookup_row *row) {
  if (!row->b.len) return true;
  struct job_received *received = pf_alloc(sizeof(*received));
  pf_arena_init(&received->arena);
  job->received = received;
  received->body = pf_arena_copy(&received->arena, row->c);
  struct pf_slice head = pf_arena_copy(&received->arena, row->b);
  return hop_result_decode(&received->result, head, &received->arena, NULL) == PF_OK;
}

static const struct actor_continuation *continuation_of(
    const struct core *core, struct pf_slice class_name, struct pf_slice name) {
  for (const struct actor_class *const *class = core->classes; *class; class ++) {
    if (!pf_slice_is(class_name, (*class)->name)) continue;
    for (size_t i = 0; i < (*class)->continuation_count; i++)
      if (pf_slice_is(name, (*class)->continuations[i].name)) return &(*class)->continuations[i];
  }
  return NULL;
}

struct job *jobs_load_row(struct core *core, const struct lookup_row *row) {
  struct json *root;
  if (json_parse_own(&root, row->a)) return NULL;
  struct job *job = pf_alloc(sizeof(*job));
  job->local = row->id;
  job->actor = row->other;
  job->runs = (int)row->m;
  job->first_epoch = (uint64_t)row->n;
  job->announced_ever = true; /* as far as anybody knows */
  pf_buf_init(&job->request, PF_BUF_MAX_DEFAULT);
  if (!row_decode(core, job, row, root) || !row_decode_received(job, row)) {
    json_free(root);
    job_free(job);
    return NULL;
  }
  job_own_text(job);
  json_free(root);
  job->durable_ns = job->accepted_ns = job->result_ns = core->now_ns;
  job->continuation = continuation_of(core, row->d, job->continuation_name);
  job_enter(core, job, row->flag ? JOB_PARKED : job->received ? JOB_RECEIVED : JOB_PENDING);
  if (job->state != JOB_PARKED)
    pf_list_push(&core->jobs_old, &job->by_id);
  else
    pf_list_init(&job->by_id);
  if (job->state == JOB_PENDING) job_set_deadline(core, job);
  return job;
}

/* ---- ends that come from the origin itself ---- */

void jobs_end(struct core *core, struct job *job, enum outcome outcome, struct pf_slice text) {
  if (job->state != JOB_PENDING) return; /* a result is there already, or nothing is durable yet */
  struct job_received *received = pf_alloc(sizeof(*received));
  pf_arena_init(&received->arena);
  received->result = (struct hop_result){.job = jobs_id(core, job),
      .outcome = outcome,
      .certainty = job->announced_ever ? CERTAINTY_SENT_UNKNOWN : CERTAINTY_NOT_SENT,
      .error = pf_arena_copy(&received->arena, text),
      .timings = {-1, -1, -1, -1, -1, -1, -1}};
  job->ended = true;
  job->received = received;
  results_accept(core, job);
}
