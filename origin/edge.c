#include "origin/edge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/rand.h"
#include "loop/listen.h"
#include "origin/api.h"
#include "origin/classes/classes.h"
#include "origin/origin_db.h"

enum {
  BEAT_MS = 1000,           /* how often the orchestrator hears of us while jobs are pending */
  IDLE_REGISTER_MS = 30000, /* and otherwise */
};

struct core *origin_enter(struct origin *origin) {
  core_set_time(&origin->core, pf_clock_mono_ns(), pf_clock_wall_ms());
  return &origin->core;
}

/* ---- sockets: ids that no other run of this origin has used ---- */

static uint64_t ws_to_core(const struct origin *origin, uint64_t ws) {
  return ws | origin->core.origin_epoch << PF_LOCAL_COUNT_BITS;
}

/* 0 for a socket of an earlier run, which names nothing. */
static uint64_t ws_from_core(const struct origin *origin, uint64_t ws) {
  if (ws >> PF_LOCAL_COUNT_BITS != origin->core.origin_epoch) return 0;
  return ws & ((1ull << PF_LOCAL_COUNT_BITS) - 1);
}

static int on_ws_open(void *arg, uint64_t ws, struct pf_slice path) {
  struct origin *origin = arg;
  return core_on_ws_open(origin_enter(origin), ws_to_core(origin, ws), path);
}

static void on_ws_message(void *arg, uint64_t ws, struct pf_slice text) {
  struct origin *origin = arg;
  core_on_ws_message(origin_enter(origin), ws_to_core(origin, ws), text);
}

static void on_ws_close(void *arg, uint64_t ws) {
  struct origin *origin = arg;
  core_on_ws_close(origin_enter(origin), ws_to_core(origin, ws));
}

/* While the store lets its last commits out, the web server and the peer may be gone already. */
static void edge_send(void *arg, uint64_t ws, struct pf_slice text) {
  struct origin *origin = arg;
  if (!origin->web) return;
  web_ws_send(origin->web, ws_from_core(origin, ws), text);
}

static void edge_close(void *arg, uint64_t ws, int code, struct pf_slice reason) {
  struct origin *origin = arg;
  if (!origin->web) return;
  char text[124];
  snprintf(text, sizeof(text), "%.*s", (int)reason.len, reason.data);
  web_ws_close(origin->web, ws_from_core(origin, ws), code, text);
}

static void edge_respond(
    void *arg, uint64_t request, int status, const char *content_type, struct pf_slice body) {
  struct origin *origin = arg;
  if (!origin->web) return;
  web_respond(origin->web, request,
      &(struct web_response){.status = status,
          .content_type = content_type ? content_type : HTTP_CONTENT_JSON,
          .body = body});
}

/* ---- the store ---- */

struct commit_req {
  struct store_req req;
  struct origin *origin;
  struct commit *commit;
};

static int commit_apply(void *user, struct store_req *req) {
  PF_FAULT("origin.commit.before");
  return origin_db_apply(user, pf_container_of(req, struct commit_req, req)->commit);
}

static void commit_on_done(struct store_req *req, int err) {
  struct commit_req *commit = pf_container_of(req, struct commit_req, req);
  PF_FAULT("origin.commit.after");
  if (err)
    commit_free(commit->commit); /* the gate stays shut; on_broken ends the process */
  else
    core_on_durable(origin_enter(commit->origin), commit->commit);
  free(commit);
}

static void edge_commit(void *arg, struct commit *commit) {
  struct origin *origin = arg;
  struct commit_req *req = pf_alloc(sizeof(*req));
  req->origin = origin;
  req->commit = commit;
  req->req.apply = commit_apply;
  req->req.done = commit_on_done;
  store_submit(origin->store, &req->req);
}

struct lookup_req {
  struct store_req req;
  struct origin *origin;
  struct lookup *lookup;
};

static int lookup_apply(void *user, struct store_req *req) {
  return origin_db_lookup(user, pf_container_of(req, struct lookup_req, req)->lookup);
}

static void lookup_on_done(struct store_req *req, int err) {
  struct lookup_req *lookup = pf_container_of(req, struct lookup_req, req);
  if (err)
    lookup_free(lookup->lookup); /* the store is broken and the process about to end */
  else
    lookup->lookup->done(origin_enter(lookup->origin), lookup->lookup);
  free(lookup);
}

static void edge_lookup(void *arg, struct lookup *lookup) {
  struct origin *origin = arg;
  struct lookup_req *req = pf_alloc(sizeof(*req));
  req->origin = origin;
  req->lookup = lookup;
  req->req.apply = lookup_apply;
  req->req.done = lookup_on_done;
  store_submit(origin->store, &req->req);
}

static bool edge_space_low(void *arg) {
  return store_space_low(((struct origin *)arg)->store);
}

/* A store that is broken must not be followed by anything that looks like success. */
static void on_store_broken(void *arg, const struct pf_error *why) {
  struct origin *origin = arg;
  pf_log(origin->log, PF_LOG_ERROR, "storage_failed", "reason=\"%s\" action=exit", why->text);
  _exit(PF_EXIT_STORAGE);
}

/* ---- the queue ---- */

struct announcement {
  struct http_item item;
  struct origin *origin;
  uint64_t local;
  char bytes[];
};

static void announcement_on_done(
    struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch) {
  (void)answer_batch;
  struct announcement *announcement = pf_container_of(item, struct announcement, item);
  struct origin *origin = announcement->origin;
  struct hop_job_reply reply = {0};
  PF_FAULT("origin.announce.after_send");
  if (!err) err = hop_job_reply_decode(&reply, answer);
  if (!origin->closing)
    core_on_announced(origin_enter(origin), announcement->local, err, err ? NULL : &reply);
  free(announcement);
}

static void edge_announce(void *arg, uint64_t local, struct pf_slice head, struct pf_slice body) {
  struct origin *origin = arg;
  if (!origin->queue) return;
  struct announcement *announcement = pf_alloc(sizeof(*announcement) + head.len + body.len);
  announcement->origin = origin;
  announcement->local = local;
  memcpy(announcement->bytes, head.data, head.len);
  if (body.len) memcpy(announcement->bytes + head.len, body.data, body.len);
  announcement->item.head = pf_slice(announcement->bytes, head.len);
  announcement->item.body = pf_slice(announcement->bytes + head.len, body.len);
  announcement->item.done = announcement_on_done;
  PF_FAULT("origin.announce.before_send");
  peer_send(origin->queue, &announcement->item);
}

static void queue_batch_head(void *arg, struct pf_buf *head) {
  struct origin *origin = arg;
  struct hop_jobs_head batch = {.origin = origin->core.origin_id,
      .origin_epoch = origin->core.origin_epoch,
      .low = core_low(&origin->core)};
  memcpy(batch.url, origin->url, sizeof(batch.url));
  hop_jobs_head_encode(head, &batch);
}

static void queue_note(struct origin *origin, bool reached) {
  if (origin->queue_reached == reached) return;
  origin->queue_reached = reached;
  origin->queue_since_ms = pf_clock_mono_ms();
}

static void queue_failed(struct origin *origin, int status, const char *why) {
  queue_note(origin, false);
  core_on_queue_down(origin_enter(origin));
  if (pf_log_allow(&origin->queue_down_log, pf_clock_mono_ms(), 1, 10000))
    pf_log(origin->log, PF_LOG_WARN, "orchestrator_unreachable",
        "url=%s status=%d reason=\"%s\" pending=%zu", origin->config->orchestrator, status, why,
        core_pending(&origin->core));
}

static void queue_on_batch(void *arg, int err, int status, struct pf_slice answer_batch) {
  struct origin *origin = arg;
  struct hop_jobs_reply_head head;
  if (origin->closing) return;
  if (err || hop_jobs_reply_head_decode(&head, answer_batch)) {
    queue_failed(origin, status, pf_err_text(err ? err : PF_EINVAL));
    return;
  }
  queue_note(origin, true);
  core_on_queue_epoch(origin_enter(origin), head.epoch);
}

static void registration_on_done(struct http_call *call) {
  struct origin *origin = call->arg;
  origin->registering = false;
  if (origin->closing) return;
  struct hop_jobs_reply_head head;
  if (call->err || call->status != 200 ||
      hop_jobs_reply_head_decode(&head, pf_buf_view(&call->response))) {
    queue_failed(origin, call->status, call->err ? call->error : "unexpected answer");
    return;
  }
  origin->registered_ms = pf_clock_mono_ms();
  queue_note(origin, true);
  core_on_queue_epoch(origin_enter(origin), head.epoch);
}

/* Each second while jobs are pending or the orchestrator is away, else rarely: the orchestrator can
 * find us, learns the watermark, and we learn its epoch. */
static void register_if_due(struct origin *origin) {
  bool due = !origin->queue_reached || core_pending(&origin->core) > 0 ||
             pf_clock_mono_ms() - origin->registered_ms >= IDLE_REGISTER_MS;
  if (!due || origin->registering || origin->closing) return;
  origin->registering = true;
  pf_buf_clear(&origin->registration_body);
  queue_batch_head(origin, &origin->registration_body);
  origin->registration = (struct http_call){.method = "PUT",
      .url = origin->registration_url,
      .content_type = HTTP_CONTENT_JSON,
      .body = pf_buf_view(&origin->registration_body),
      .done = registration_on_done,
      .arg = origin};
  http_start(origin->http, &origin->registration);
}

/* ---- the loop ---- */

static void on_tick(uv_timer_t *timer);

static void tick_at(struct origin *origin, int64_t ms) {
  origin->tick_ns = origin->core.now_ns + ms * 1000000;
  uv_timer_start(&origin->tick, on_tick, (uint64_t)ms, 0);
}

/* Something that came since the last tick may be due before the next one. */
static void flush(struct origin *origin) {
  if (origin->closing) return;
  core_flush(origin_enter(origin));
  int64_t ms = core_next_tick_ms(&origin->core);
  if (origin->core.now_ns + ms * 1000000 < origin->tick_ns) tick_at(origin, ms);
}

static void on_prepare(uv_prepare_t *handle) {
  flush(handle->data);
}

static void on_check(uv_check_t *handle) {
  flush(handle->data);
}

static void on_tick(uv_timer_t *timer) {
  struct origin *origin = timer->data;
  core_on_tick(origin_enter(origin));
  tick_at(origin, core_next_tick_ms(&origin->core));
}

static void on_beat(uv_timer_t *timer) {
  register_if_due(timer->data);
}

static void open_handles(struct origin *origin) {
  uv_prepare_init(origin->loop, &origin->prepare);
  uv_check_init(origin->loop, &origin->check);
  uv_timer_init(origin->loop, &origin->tick);
  uv_timer_init(origin->loop, &origin->beat);
  origin->prepare.data = origin->check.data = origin->tick.data = origin->beat.data = origin;
  origin->open_handles = 4;
  pf_lag_open(&origin->lag, origin->loop);
}

static void start_handles(struct origin *origin) {
  uv_prepare_start(&origin->prepare, on_prepare);
  uv_check_start(&origin->check, on_check);
  tick_at(origin, 1);
  uv_timer_start(&origin->beat, on_beat, 0, BEAT_MS);
}

/* ---- start ---- */

struct start_req {
  struct store_req req;
  struct origin *origin;
  struct core_start start;
  struct session *sessions;
  size_t count, cap;
};

static void start_add_session(void *arg, const struct session *session) {
  struct start_req *start = arg;
  if (start->count == start->cap) {
    start->cap = start->cap ? start->cap * 2 : 64;
    start->sessions = pf_realloc(start->sessions, start->cap * sizeof(*start->sessions));
  }
  start->sessions[start->count++] = *session;
}

static int start_apply(void *user, struct store_req *req) {
  struct start_req *start = pf_container_of(req, struct start_req, req);
  return origin_db_start(user, &start->start, start_add_session, start);
}

static const struct origin_edge edge = {.commit = edge_commit,
    .lookup = edge_lookup,
    .send = edge_send,
    .close = edge_close,
    .respond = edge_respond,
    .announce = edge_announce,
    .space_low = edge_space_low};

static int listen_both(struct origin *origin, struct pf_error *reterr) {
  const struct origin_config *config = origin->config;
  struct web_listener_config clients = {.listen = config->listen,
      .limits = config->web,
      .handlers = {.arg = origin,
          .on_request = api_on_client_request,
          .on_ws_open = on_ws_open,
          .on_ws_message = on_ws_message,
          .on_ws_close = on_ws_close},
      .browser_guard = true,
      .allowed_origins = config->allowed_origins,
      .allowed_hosts = config->allowed_hosts};
  struct web_listener_config internal = {.listen = config->internal_listen,
      .limits = config->web,
      .handlers = {.arg = origin, .on_request = api_on_internal_request}};
  internal.limits.body_max = API_INTERNAL_BODY_MAX;
  internal.limits.connections_max = config->internal_connections_max;
  int err = web_listen(origin->web, &internal, &origin->internal_bound, reterr);
  if (!err) err = web_listen(origin->web, &clients, &origin->bound, reterr);
  return err;
}

static int open_queue(struct origin *origin, struct pf_error *reterr) {
  const struct origin_config *config = origin->config;
  char url[HOP_URL_MAX + 64], addr[PF_ADDR_TEXT];
  pf_sockaddr_print(addr, (const struct sockaddr *)&origin->internal_bound.addr[0]);
  int len = config->advertise ? snprintf(origin->url, HOP_URL_MAX, "%s", config->advertise)
                              : snprintf(origin->url, HOP_URL_MAX, "http://%s", addr);
  if (len >= HOP_URL_MAX || strlen(config->orchestrator) >= HOP_URL_MAX)
    return pf_error_set(
        reterr, PF_EINVAL, "--advertise and --orchestrator take URLs below %d bytes", HOP_URL_MAX);
  snprintf(url, sizeof(url), "%s/v1/jobs", config->orchestrator);
  struct http_peer_config peer = {
      .url = url, .batch_head = queue_batch_head, .on_batch = queue_on_batch, .arg = origin};
  return peer_new(&origin->queue, origin->http, &peer);
}

/* The first commit has counted this start: ids may be given out, and clients may come. */
static void start_on_done(struct store_req *req, int err) {
  struct start_req *start = pf_container_of(req, struct start_req, req);
  struct origin *origin = start->origin;
  struct pf_error why = {0};
  if (!err) {
    core_init(&origin->core, &edge, origin, &origin->config->limits, origin->log, classes,
        &start->start, pf_rand_secret_u64());
    origin->opened = true;
    snprintf(origin->registration_url, sizeof(origin->registration_url), "%s/v1/origins/%016llx",
        origin->config->orchestrator, (unsigned long long)origin->core.origin_id);
    origin_enter(origin);
    for (size_t i = 0; i < start->count; i++)
      core_add_session(&origin->core, &start->sessions[i]);
    err = listen_both(origin, &why);
    if (!err) err = open_queue(origin, &why);
  }
  free(start->sessions);
  free(start);
  if (err) {
    fprintf(stderr, "proxyfetch-origin: %s\n", why.text[0] ? why.text : pf_err_text(err));
    origin->exit_code = PF_EXIT_START;
    origin_close(origin);
    return;
  }
  core_recover(&origin->core);
  start_handles(origin);
  pf_log(origin->log, PF_LOG_INFO, "serving", "origin=%016llx start=%llu internal=%s",
      (unsigned long long)origin->core.origin_id, (unsigned long long)origin->core.origin_epoch,
      origin->url);
  pf_listen_announce("proxyfetch-origin", &origin->bound);
}

int origin_open(struct origin *origin, uv_loop_t *loop, const struct origin_config *config,
    const struct pf_log *log, struct pf_error *reterr) {
  *origin = (struct origin){.config = config, .log = log, .loop = loop};
  origin->opened_ms = origin->queue_since_ms = pf_clock_mono_ms();
  pf_buf_init(&origin->registration_body, PF_BUF_MAX_DEFAULT);
  char path[1100];
  snprintf(path, sizeof(path), "%s/origin.db", config->data);
  struct store_config store = {.path = path,
      .sync = config->sync,
      .schema = &origin_db_schema,
      .reserve_bytes = config->reserve_bytes,
      .prepare = origin_db_prepare,
      .finish = origin_db_finish,
      .on_broken = on_store_broken,
      .arg = origin};
  int err = store_open(&origin->store, loop, &store, reterr);
  if (err) return err;
  origin->open_parts = 1;
  err = web_new(&origin->web, loop, reterr);
  if (!err) origin->open_parts++, err = http_new(&origin->http, loop);
  if (!err) origin->open_parts++;
  open_handles(origin);
  if (err) {
    origin_close(origin);
    return err;
  }
  struct start_req *start = pf_alloc(sizeof(*start));
  start->origin = origin;
  start->req.apply = start_apply;
  start->req.done = start_on_done;
  store_submit(origin->store, &start->req);
  return PF_OK;
}

/* ---- end ---- */

static void on_handle_closed(uv_handle_t *handle) {
  ((struct origin *)handle->data)->open_handles--;
}

static void close_handles(struct origin *origin) {
  uv_handle_t *const handles[] = {(uv_handle_t *)&origin->prepare, (uv_handle_t *)&origin->check,
      (uv_handle_t *)&origin->tick, (uv_handle_t *)&origin->beat};
  if (origin->open_handles == 0) return;
  for (size_t i = 0; i < PF_COUNT(handles); i++)
    uv_close(handles[i], on_handle_closed);
  pf_lag_close(&origin->lag);
}

static void on_store_closed(void *arg) {
  struct origin *origin = arg;
  origin->store = NULL;
  origin->open_parts--;
}

static void on_web_closed(void *arg) {
  struct origin *origin = arg;
  origin->web = NULL;
  origin->open_parts--;
  store_close(
      origin->store, on_store_closed, origin); /* last: all that is queued becomes durable */
}

static void on_http_closed(void *arg) {
  struct origin *origin = arg;
  origin->http = NULL;
  origin->open_parts--;
  if (origin->web)
    web_close(origin->web, on_web_closed, origin);
  else
    store_close(origin->store, on_store_closed, origin);
}

void origin_close(struct origin *origin) {
  if (origin->closing) return;
  if (origin->web) web_stop_listening(origin->web);
  if (origin->opened) core_flush(origin_enter(origin));
  origin->closing = true;
  close_handles(origin);
  if (origin->queue) peer_free(origin->queue);
  origin->queue = NULL;
  if (origin->http)
    http_close(origin->http, on_http_closed, origin);
  else
    on_http_closed(origin);
}

void origin_done(struct origin *origin) {
  PF_ASSERT(origin->open_handles == 0);
  if (origin->opened) core_done(&origin->core);
  pf_buf_done(&origin->registration_body);
}
