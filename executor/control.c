#include "executor/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "executor/job.h"
#include "executor/metrics.h"
#include "loop/listen.h"
#include "web/health.h"
#include "wire/batch.h"

#define ANSWER_MAX ((size_t)8 << 20)
#define LAST_BEAT_MS 1000

struct control {
  struct app *app;
  struct timer beat_timer;
  struct http_call beat;
  char beat_url[APP_URL_MAX];
  struct pf_buf body, scratch;
  bool beating; /* a heartbeat is under way */
  bool reached; /* the last one was answered */
  bool told;    /* somebody has been told that it was not */
  int64_t sent_at_ms, reached_since_ms;
  bool last;                     /* it is the one that deregisters */
  void (*gone)(struct app *app); /* after that one */
};

/* ---- heartbeats ---- */

static void beat_send(struct control *c);

static void beat_read(struct control *c, struct pf_slice answer) {
  struct app *app = c->app;
  struct batch_reader reader = batch_reader(answer);
  struct pf_slice head, aborts;
  struct hop_held held;
  if (batch_next(&reader, &head, &aborts)) return;
  for (size_t i = 0; hop_held_read(aborts, i, &held); i++)
    job_abort(app, &held);
}

static void beat_log(struct control *c, const struct http_call *call) {
  bool ok = !call->err && call->status == 200;
  c->app->stats.heartbeat_failures += !ok;
  if (ok == c->reached && c->told) return;
  c->told = true;
  c->reached = ok;
  c->reached_since_ms = pf_clock_mono_ms();
  if (ok)
    pf_log(
        &c->app->log, PF_LOG_INFO, "orchestrator_reached", "url=%s", c->app->config.orchestrator);
  else
    pf_log(&c->app->log, PF_LOG_WARN, "orchestrator_unreachable", "url=%s http=%d reason=\"%s\"",
        c->app->config.orchestrator, call->status,
        call->err ? call->error : "it refuses the heartbeat");
}

static void beat_done(struct http_call *call) {
  struct control *c = call->arg;
  struct app *app = c->app;
  c->beating = false;
  if (call->err == PF_ECANCEL) return; /* the process ends */
  beat_log(c, call);
  if (!call->err && call->status == 200) {
    /* From when it was sent: the orchestrator cannot have renewed the lease before. */
    if (c->sent_at_ms >= app->lease_until_ms) app->lapses++;
    app->lease_until_ms = c->sent_at_ms + app->config.lease_ms;
    beat_read(c, pf_buf_view(&call->response));
  }
  if (!c->gone) return;
  if (c->last) {
    c->gone(app); /* c may be gone */
    return;
  }
  c->last = true;
  beat_send(c);
}

static void beat_send(struct control *c) {
  struct app *app = c->app;
  struct hop_heartbeat beat = {.executor = app->id,
      .incarnation = app->incarnation,
      .slots = (int64_t)app->slots,
      .free = (int64_t)job_slots_free(app),
      .leaving = app->draining};
  memcpy(beat.url, app->url, sizeof(beat.url));
  pf_buf_clear(&c->scratch);
  pf_buf_clear(&c->body);
  struct pf_buf held;
  pf_buf_init(&held, ANSWER_MAX);
  job_check(app);
  job_list_held(app, &held);
  hop_heartbeat_encode(&c->scratch, &beat);
  batch_append(&c->body, pf_buf_view(&c->scratch), pf_buf_view(&held));
  pf_buf_must(&held);
  pf_buf_must(&c->body);
  pf_buf_done(&held);
  /* A lost one must leave time for another within the lease. */
  int64_t timeout_ms = app->config.lease_ms - app->config.heartbeat_ms;
  if (c->last && timeout_ms > LAST_BEAT_MS) timeout_ms = LAST_BEAT_MS;
  c->sent_at_ms = pf_clock_mono_ms();
  c->beating = true;
  c->beat = (struct http_call){.method = "PUT",
      .url = c->beat_url,
      .content_type = HTTP_CONTENT_BATCH,
      .body = pf_buf_view(&c->body),
      .timeout_ms = timeout_ms,
      .done = beat_done,
      .arg = c};
  http_start(app->http, &c->beat);
}

static void beat_on_timer(struct timer *timer) {
  struct control *c = pf_container_of(timer, struct control, beat_timer);
  timer_set(&c->app->timers, timer, pf_clock_mono_ms() + c->app->config.heartbeat_ms);
  if (!c->beating) beat_send(c);
}

/* ---- POST /v1/execute ---- */

static void refuse(struct app *app, const struct web_request *req, int status, const char *code,
    const char *message) {
  web_respond_error(app->web, req->id, status, code, message);
}

static enum hop_execute_answer execute_item(struct app *app, const struct hop_execute_head *batch,
    struct pf_slice head, struct pf_slice request) {
  struct hop_execute item;
  struct pf_error why = {0};
  if (batch->incarnation != app->incarnation) return HOP_EXECUTE_WRONG_INCARNATION;
  if (hop_execute_decode(&item, head, &why) == PF_OK) return job_take(app, &item, request);
  if (pf_log_allow(&app->refused_jobs, pf_clock_mono_ms(), 5, 1000))
    pf_log(&app->log, PF_LOG_WARN, "job_refused", "reason=\"%s\"", why.text);
  return HOP_EXECUTE_REFUSED;
}

/* The items of one batch. Errors: those of batch_next and of the head. */
static int execute_batch(
    struct app *app, struct pf_slice body, struct pf_buf *answer, struct pf_error *reterr) {
  struct batch_reader reader = batch_reader(body);
  struct hop_execute_head batch;
  struct pf_slice head, request;
  struct pf_arena arena;
  pf_arena_init(&arena);
  int err = batch_next(&reader, &head, &request);
  if (!err) err = hop_execute_head_decode(&batch, head, &arena, reterr);
  if (!err) {
    batch_append(answer, pf_slice_str("{}"), pf_slice(NULL, 0));
    for (size_t i = 0; i < batch.origin_count; i++)
      results_learn(app->results, batch.origins[i].origin, batch.origins[i].url);
    while ((err = batch_next(&reader, &head, &request)) == PF_OK) {
      size_t record = batch_begin(answer);
      enum hop_execute_answer item = execute_item(app, &batch, head, request);
      app->stats.dispatches[item]++;
      hop_answer_encode(answer, hop_execute_answers, (int)item);
      batch_end(answer, record, pf_slice(NULL, 0));
    }
    if (err == PF_ENOTFOUND) err = answer->err;
  }
  pf_arena_done(&arena);
  return err;
}

static void post_execute(struct app *app, const struct web_request *req) {
  struct pf_buf answer;
  struct pf_error why = {0};
  struct pf_slice type;
  /* No web page can send this type without asking first, and nobody answers that question. */
  if (!web_request_header(req, "content-type", &type) || !pf_slice_is(type, HTTP_CONTENT_BATCH)) {
    refuse(app, req, 415, "unsupported_media_type", "expected " HTTP_CONTENT_BATCH);
    return;
  }
  pf_buf_init(&answer, ANSWER_MAX);
  if (execute_batch(app, req->body, &answer, &why)) {
    refuse(app, req, 400, "bad_batch", why.text[0] ? why.text : "the body is not a batch");
  } else {
    struct web_response response = {
        .status = 200, .content_type = HTTP_CONTENT_BATCH, .body = pf_buf_view(&answer)};
    web_respond(app->web, req->id, &response);
  }
  pf_buf_done(&answer);
}

static void get_health(struct app *app, const struct web_request *req) {
  web_respond_health(app->web, req->id, "executor");
}

static void get_health_detailed(struct app *app, const struct web_request *req) {
  struct health health;
  struct pf_buf body;
  pf_buf_init(&body, PF_BUF_MAX_DEFAULT);
  executor_report_health(app, &health, &body);
  web_respond_health_detailed(app->web, req->id, &health);
  pf_buf_done(&body);
}

static void get_metrics(struct app *app, const struct web_request *req) {
  struct pf_buf body;
  pf_buf_init(&body, PF_BUF_MAX_DEFAULT);
  executor_print_metrics(app, &body);
  struct web_response response = {
      .status = 200, .content_type = METRICS_CONTENT_TYPE, .body = pf_buf_view(&body)};
  web_respond(app->web, req->id, &response);
  pf_buf_done(&body);
}

static const struct {
  enum web_method method;
  const char *path;
  void (*handle)(struct app *app, const struct web_request *req);
} routes[] = {{WEB_POST, "/v1/execute", post_execute}, {WEB_GET, "/health", get_health},
    {WEB_GET, "/health/detailed", get_health_detailed}, {WEB_GET, "/metrics", get_metrics}};

static void control_on_request(void *arg, const struct web_request *req) {
  struct app *app = arg;
  if (!web_version_fits(app->web, req)) return;
  enum web_method method = req->method == WEB_HEAD ? WEB_GET : req->method;
  bool path_known = false;
  for (size_t i = 0; i < PF_COUNT(routes); i++) {
    if (!pf_slice_is(req->path, routes[i].path)) continue;
    path_known = true;
    if (routes[i].method != method) continue;
    routes[i].handle(app, req);
    return;
  }
  if (path_known)
    refuse(app, req, 405, "method_not_allowed", "this path does not take this method");
  else
    refuse(app, req, 404, "not_found", "there is nothing under this path");
}

/* ---- life ---- */

/* Under which address the orchestrator is to call, and the id that follows from it: a restart under
 * the same address takes the place of the former process at once. */
static void control_name(struct app *app, const struct pf_listen_addr *bound) {
  if (app->config.advertise) {
    snprintf(app->url, sizeof(app->url), "%s", app->config.advertise);
  } else {
    char text[PF_ADDR_TEXT];
    pf_sockaddr_print(text, (const struct sockaddr *)&bound->addr[0]);
    snprintf(app->url, sizeof(app->url), "http://%s", text);
  }
  static const uint64_t fixed_key[2] = {0x70726f7879666574, 0x6368657865637574};
  app->id = pf_hash_bytes(fixed_key, app->url, strlen(app->url));
}

int control_open(struct app *app, struct pf_error *reterr) {
  struct web_listener_config config = {.listen = app->config.listen,
      .limits = web_limits_default,
      .handlers = {.arg = app, .on_request = control_on_request}};
  config.limits.body_max = CONTROL_BODY_MAX;
  config.limits.connections_max = app->callers_max;
  struct pf_listen_addr bound;
  int err = web_listen(app->web, &config, &bound, reterr);
  if (err) return err;
  control_name(app, &bound);
  struct control *c = app->control = pf_alloc(sizeof(*c));
  c->app = app;
  pf_buf_init(&c->body, ANSWER_MAX + BATCH_HEAD_MAX);
  pf_buf_init(&c->scratch, BATCH_HEAD_MAX);
  snprintf(c->beat_url, sizeof(c->beat_url), "%s/v1/executors/%016llx", app->config.orchestrator,
      (unsigned long long)app->id);
  c->reached_since_ms = app->opened_ms;
  c->beat_timer.fire = beat_on_timer;
  beat_on_timer(&c->beat_timer);
  pf_listen_announce("proxyfetch-executor", &bound);
  return PF_OK;
}

bool control_reached(const struct app *app, int64_t *ret_since_ms) {
  *ret_since_ms = pf_clock_mono_ms() - app->control->reached_since_ms;
  return app->control->reached;
}

int64_t control_heartbeat_age_ms(const struct app *app) {
  if (app->lease_until_ms == 0) return -1;
  return pf_clock_mono_ms() - (app->lease_until_ms - app->config.lease_ms);
}

void control_leave(struct app *app) {
  if (!app->control->beating) beat_send(app->control);
}

void control_deregister(struct app *app, void (*done)(struct app *app)) {
  struct control *c = app->control;
  if (c->gone) return; /* on the way */
  c->gone = done;
  timer_stop(&app->timers, &c->beat_timer);
  if (c->beating) return;
  c->last = true;
  beat_send(c);
}

void control_free(struct app *app) {
  struct control *c = app->control;
  if (!c) return;
  PF_ASSERT(!c->beating);
  timer_stop(&app->timers, &c->beat_timer);
  pf_buf_done(&c->body);
  pf_buf_done(&c->scratch);
  free(c);
  app->control = NULL;
}
