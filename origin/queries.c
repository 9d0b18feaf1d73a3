/* HTTP requests about jobs: what a job's state is, and those that wait for its end. */
#include <stdlib.h>

#include "origin/parts.h"
#include "wire/json.h"

enum { WAIT_MS_MAX = 60000 };

void queries_error(
    struct core *core, uint64_t request, int status, const char *code, const char *text) {
  struct pf_buf body;
  pf_buf_init(&body, 4096);
  struct json_writer w = json_writer(&body);
  json_begin_object(&w, NULL);
  json_begin_object(&w, "error");
  json_put_text(&w, "code", code);
  json_put_text(&w, "message", text);
  json_end_object(&w);
  json_end_object(&w);
  core->edge.respond(core->edge_arg, request, status, NULL, pf_buf_view(&body));
  pf_buf_done(&body);
}

/* {"reqId":…,"state":…}, with "attempts" and "result" once there is one. */
static void encode_state(struct pf_buf *body, struct pf_job_id id, const char *state,
    int64_t attempts, struct pf_slice result, struct pf_slice late) {
  char text[PF_ID_TEXT];
  pf_job_id_print(text, id);
  struct json_writer w = json_writer(body);
  json_begin_object(&w, NULL);
  json_put_text(&w, "reqId", text);
  json_put_text(&w, "state", state);
  if (attempts >= 0) json_put_int(&w, "attempts", attempts);
  if (result.len) json_put_raw(&w, "result", result);
  if (late.len) json_put_raw(&w, "lateResult", late);
  json_end_object(&w);
}

static void respond_state(struct core *core, uint64_t request, struct pf_job_id id,
    const char *state, int64_t attempts, struct pf_slice result, struct pf_slice late) {
  struct pf_buf body;
  pf_buf_init(&body, PF_BUF_MAX_DEFAULT);
  encode_state(&body, id, state, attempts, result, late);
  core->edge.respond(core->edge_arg, request, 200, NULL, pf_buf_view(&body));
  pf_buf_done(&body);
}

static const char *state_name(const struct job *job) {
  switch (job->state) {
  case JOB_COMMITTING:
  case JOB_PENDING:
    return job->accepted ? "enqueued" : "pending";
  case JOB_PARKED:
    return "parked";
  default:
    return "received";
  }
}

/* ---- waiting ---- */

static void waiter_free(struct core *core, struct waiter *waiter) {
  pf_list_del(&waiter->of_job);
  pf_heap_del(&core->waiters, &waiter->until);
  free(waiter);
}

/* What is said of a job that is not done leaves with the commit that is open now: its id, or the
 * result that it has received, may not be durable yet. */
static void respond_gated(
    struct core *core, const struct job *job, uint64_t request, bool submitted) {
  struct pf_buf body;
  pf_buf_init(&body, 4096);
  encode_state(
      &body, jobs_id(core, job), state_name(job), -1, (struct pf_slice){0}, (struct pf_slice){0});
  struct output *output = commit_output(core->open, OUT_RESPOND, request);
  output->code = submitted ? 202 : 200;
  output->bytes = commit_copy_buf(core->open, &body);
  pf_buf_done(&body);
}

static void waiter_time_out(struct core *core, struct waiter *waiter) {
  respond_gated(core, jobs_find(core, waiter->local), waiter->request, waiter->submitted);
  waiter_free(core, waiter);
}

void queries_wait(
    struct core *core, struct job *job, uint64_t request, int64_t wait_ms, bool submitted) {
  if (wait_ms > WAIT_MS_MAX) wait_ms = WAIT_MS_MAX;
  if (wait_ms <= 0 || core->waiters.count >= CORE_WAITERS_MAX || job->state == JOB_PARKED) {
    respond_gated(core, job, request, submitted);
    return;
  }
  struct waiter *waiter = pf_alloc(sizeof(*waiter));
  waiter->request = request;
  waiter->local = job->local;
  waiter->submitted = submitted;
  pf_list_push(&job->waiters, &waiter->of_job);
  pf_heap_set(&core->waiters, &waiter->until, core->now_ns + wait_ms * 1000000);
}

void queries_answer_waiters(struct core *core, struct job *job, struct pf_slice message) {
  if (pf_list_empty(&job->waiters)) return;
  struct pf_buf body;
  pf_buf_init(&body, PF_BUF_MAX_DEFAULT);
  encode_state(&body, jobs_id(core, job), "done", job->received->result.attempt, message,
      (struct pf_slice){0});
  PF_LIST_EACH(link, &job->waiters) {
    struct waiter *waiter = pf_container_of(link, struct waiter, of_job);
    struct output *output = commit_output(core->open, OUT_RESPOND, waiter->request);
    output->code = 200;
    output->bytes = commit_copy_buf(core->open, &body);
    waiter_free(core, waiter);
  }
  pf_buf_done(&body);
}

void queries_tick(struct core *core) {
  for (struct pf_heap_node *first;
       (first = pf_heap_first(&core->waiters)) != NULL && first->key <= core->now_ns;)
    waiter_time_out(core, pf_container_of(first, struct waiter, until));
}

/* ---- the calls ---- */

void core_on_api_fetch(struct core *core, uint64_t request, struct pf_slice class_name,
    struct pf_slice actor_name, struct pf_slice body, int64_t wait_ms) {
  struct actor *actor = NULL;
  if (actor_name.len > 0 && actor_name.len <= WIRE_ACTOR_MAX && class_name.len <= WIRE_NAME_MAX)
    actor = actors_get(core, class_name, actor_name);
  if (!actor) {
    queries_error(
        core, request, 404, "class_unknown", "no actor class of that name is served here");
    return;
  }
  struct event event = {.kind = EVENT_API_FETCH,
      .id = request,
      .wait_ms = wait_ms,
      .received_ns = core->now_ns,
      .text = body};
  actors_deliver(actor, &event);
}

static void respond_unknown(struct core *core, uint64_t request) {
  queries_error(core, request, 404, "job_unknown", "no such job, or its result is no longer kept");
}

/* A job of an earlier run whose row is not read yet: it is there, or it is not. */
static void on_unread(struct core *core, struct lookup *lookup) {
  struct pf_job_id id = {core->origin_id, lookup->id};
  if (lookup->rows)
    respond_state(
        core, lookup->token, id, "pending", -1, (struct pf_slice){0}, (struct pf_slice){0});
  else
    respond_unknown(core, lookup->token);
  lookup_free(lookup);
}

void queries_respond_done(struct core *core, const struct lookup *lookup) {
  const struct lookup_row *row = lookup->rows;
  struct pf_job_id id = {core->origin_id, lookup->id};
  respond_state(core, lookup->token, id, "done", results_attempts(row), row->a, row->d);
}

static void on_stored(struct core *core, struct lookup *lookup) {
  if (lookup->rows) {
    queries_respond_done(core, lookup);
  } else {
    struct lookup *again = lookup_new(LOOKUP_REQUEST, lookup->id, on_unread);
    again->token = lookup->token;
    core_ask(core, again);
  }
  lookup_free(lookup);
}

void core_on_api_job(struct core *core, uint64_t request, struct pf_job_id id, int64_t wait_ms) {
  struct job *job = id.origin == core->origin_id ? jobs_find(core, id.local) : NULL;
  if (job && job->state != JOB_FINISHING) {
    queries_wait(core, job, request, wait_ms, false);
    return;
  }
  if (id.origin != core->origin_id) {
    queries_error(core, request, 404, "job_unknown", "no such job at this origin");
    return;
  }
  /* While it is finishing, the look-up is asked behind the commit that writes its result. */
  struct lookup *lookup = lookup_new(LOOKUP_RESULT, id.local, on_stored);
  lookup->token = request;
  core_ask(core, lookup);
}

static void on_stored_body(struct core *core, struct lookup *lookup) {
  const struct lookup_row *row = lookup->rows;
  if (row && row->b.len)
    core->edge.respond(core->edge_arg, lookup->token, 200, "application/octet-stream", row->b);
  else
    queries_error(core, lookup->token, 404, "body_unknown",
        "no body is kept for this job; ask for it with include: [\"body\"]");
  lookup_free(lookup);
}

void core_on_api_body(struct core *core, uint64_t request, struct pf_job_id id) {
  struct lookup *lookup =
      lookup_new(LOOKUP_RESULT, id.origin == core->origin_id ? id.local : 0, on_stored_body);
  lookup->token = request;
  core_ask(core, lookup);
}

/* Its client was told of the failure when it was parked: only its row is left to go. */
static void discard_parked(struct core *core, uint64_t request, struct job *job) {
  struct pf_buf body;
  pf_buf_init(&body, 4096);
  encode_state(
      &body, jobs_id(core, job), "discarded", -1, (struct pf_slice){0}, (struct pf_slice){0});
  struct output *output = commit_output(core->open, OUT_RESPOND, request);
  output->code = 200;
  output->bytes = commit_copy_buf(core->open, &body);
  pf_buf_done(&body);
  commit_op(core->open, OP_JOB_DELETE, job->local);
  commit_output(core->open, OUT_FORGET, job->local);
  jobs_move(core, job, JOB_FINISHING);
}

static void on_row_to_cancel(struct core *core, struct lookup *lookup) {
  struct pf_job_id id = {core->origin_id, (uint64_t)lookup->n};
  core_on_api_cancel(core, lookup->token, id);
  lookup_free(lookup);
}

void core_on_api_cancel(struct core *core, uint64_t request, struct pf_job_id id) {
  struct job *job = id.origin == core->origin_id ? jobs_find(core, id.local) : NULL;
  if (!job && id.origin == core->origin_id &&
      core_await_row(core, id.local, request, on_row_to_cancel))
    return;
  if (job && job->state == JOB_PARKED) {
    discard_parked(core, request, job);
    return;
  }
  if (!job || job->state != JOB_PENDING) {
    queries_error(core, request, 404, "not_pending",
        "no pending job and no parked one has that id; GET /v1/jobs/{id} tells what became of it");
    return;
  }
  queries_wait(core, job, request, WAIT_MS_MAX, false); /* answered when the end is durable */
  jobs_end(core, job, OUTCOME_CANCELED, pf_slice_str(outcome_text(OUTCOME_CANCELED)));
}

/* ---- for operators ---- */

/* The ids come from the database, which has them in order, a page at a time; what each job is doing
 * is in memory. So no turn of the loop looks at more than a page, however many jobs there are. */
struct listing {
  struct pf_list link; /* core.listings */
  uint64_t request, last;
  struct pf_slice state; /* in text */
  char *text;
  int64_t limit, count;
  struct pf_buf body;
  struct json_writer w;
};

static void listing_free(struct listing *listing) {
  pf_list_del(&listing->link);
  pf_buf_done(&listing->body);
  free(listing->text);
  free(listing);
}

static void encode_listed(struct json_writer *w, const struct core *core, const struct job *job) {
  char id[PF_ID_TEXT];
  pf_job_id_print(id, jobs_id(core, job));
  json_begin_object(w, NULL);
  json_put_text(w, "reqId", id);
  json_put_text(w, "state", state_name(job));
  json_put_string(w, "host", job->host);
  json_put_string(w, "continuation", job->continuation_name);
  json_put_ms(w, "ageMs", (double)(core->now_ns - job->received_ns) / 1e6);
  json_put_int(w, "runs", job->runs);
  if (job->client_id.data) json_put_string(w, "clientId", job->client_id);
  json_end_object(w);
}

/* -1: there is no such state. */
static int64_t count_listed(const struct core *core, struct pf_slice state) {
  size_t unaccepted = core->job_count[JOB_COMMITTING] + core_outbox(core);
  if (state.len == 0) return (int64_t)core->jobs.count;
  if (pf_slice_is(state, "pending")) return (int64_t)unaccepted;
  if (pf_slice_is(state, "enqueued")) return (int64_t)core->accepted;
  if (pf_slice_is(state, "parked")) return (int64_t)core->job_count[JOB_PARKED];
  if (!pf_slice_is(state, "received")) return -1;
  return (int64_t)(core->jobs.count - unaccepted - core->accepted - core->job_count[JOB_PARKED]);
}

static void listing_respond(struct core *core, struct listing *listing, bool more) {
  json_end_array(&listing->w);
  if (more) {
    char id[PF_ID_TEXT];
    pf_job_id_print(id, (struct pf_job_id){core->origin_id, listing->last});
    json_put_text(&listing->w, "next", id);
  }
  json_put_int(&listing->w, "total", count_listed(core, listing->state));
  json_end_object(&listing->w);
  core->edge.respond(core->edge_arg, listing->request, 200, NULL, pf_buf_view(&listing->body));
  listing_free(listing);
}

static void listing_page(struct core *core, struct listing *listing);

static void on_listing_page(struct core *core, struct lookup *lookup) {
  struct listing *listing = lookup->arg;
  const struct lookup_row *row = lookup->rows;
  for (; row && listing->count < listing->limit; row = row->next) {
    const struct job *job = jobs_find(core, row->id);
    listing->last = row->id;
    if (!job || (listing->state.len && !pf_slice_is(listing->state, state_name(job)))) continue;
    encode_listed(&listing->w, core, job);
    listing->count++;
  }
  bool page_full = lookup->row_count == LOOKUP_IDS_PAGE;
  if (listing->count == listing->limit)
    listing_respond(core, listing, row || page_full);
  else if (page_full)
    listing_page(core, listing);
  else
    listing_respond(core, listing, false);
  lookup_free(lookup);
}

static void listing_page(struct core *core, struct listing *listing) {
  struct lookup *lookup = lookup_new(LOOKUP_JOB_IDS, 0, on_listing_page);
  lookup->n = (int64_t)listing->last;
  lookup->arg = listing;
  core_ask(core, lookup);
}

void core_on_api_list(struct core *core, uint64_t request, struct pf_slice state, int64_t limit,
    struct pf_job_id after) {
  if (after.origin != core->origin_id && (after.origin | after.local) != 0) {
    queries_error(core, request, 400, "bad_id", "`after` is the id of a job of another origin");
    return;
  }
  if (count_listed(core, state) < 0) {
    queries_error(core, request, 400, "bad_query",
        "`state` is one of pending, enqueued, received and parked");
    return;
  }
  struct listing *listing = pf_alloc(sizeof(*listing));
  listing->request = request;
  listing->limit = limit < 0 ? 0 : limit > CORE_LIST_MAX ? CORE_LIST_MAX : limit;
  listing->last = after.local;
  listing->text = pf_memdup(state.data, state.len);
  listing->state = pf_slice(listing->text, state.len);
  pf_buf_init(&listing->body, PF_BUF_MAX_DEFAULT);
  listing->w = json_writer(&listing->body);
  json_begin_object(&listing->w, NULL);
  json_begin_array(&listing->w, "jobs");
  pf_list_push(&core->listings, &listing->link);
  /* No id follows one that was not given out yet, and the database would take the largest for
   * negative. */
  if (listing->limit == 0 || after.local >= core->next_local)
    listing_respond(core, listing, false);
  else
    listing_page(core, listing);
}

void core_on_api_rerun(struct core *core, uint64_t request, struct pf_job_id id) {
  struct job *job = id.origin == core->origin_id ? jobs_find(core, id.local) : NULL;
  if (!job || job->state != JOB_PARKED) {
    queries_error(core, request, 409, "not_parked", "no parked job of that id");
    return;
  }
  if (!job->continuation) {
    queries_error(core, request, 409, "continuation_unknown",
        "this origin does not know the job's continuation; start one that does, then run it again");
    return;
  }
  job->runs = 0;
  commit_op(core->open, OP_JOB_UNPARK, job->local);
  jobs_move(core, job, JOB_RECEIVED);
  results_run(core, job->local);
  respond_gated(core, job, request, true);
}

void queries_done(struct core *core) {
  for (struct pf_heap_node *first; (first = pf_heap_first(&core->waiters)) != NULL;)
    waiter_free(core, pf_container_of(first, struct waiter, until));
  for (struct pf_list *link; (link = pf_list_pop(&core->listings)) != NULL;)
    listing_free(pf_container_of(link, struct listing, link));
}
