/* What this process answers. A call between processes is a batch: its items become events of the
 * queue here, and its answer waits for their rows where it makes a promise. */
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "http/client.h"
#include "loop/listen.h"
#include "orchestrator/app.h"
#include "orchestrator/api_queue.h"
#include "orchestrator/metrics.h"
#include "web/health.h"
#include "web/web.h"
#include "wire/batch.h"

#define BODY_MAX ((size_t)8 << 20) /* a heartbeat that lists 250,000 transfers, and any batch */
#define ANSWER_MAX ((size_t)8 << 20)

/* One batch being read and answered. */
struct exchange {
  struct app *app;
  const struct web_request *req;
  struct batch_reader reader;
  struct pf_buf answer;
  int64_t now_us;
};

static void refuse(struct app *app, const struct web_request *req, int status, const char *code,
    const char *message) {
  web_respond_error(app->web, req->id, status, code, message);
}

static bool exchange_open(struct exchange *x, struct app *app, const struct web_request *req,
    struct pf_slice *ret_head, struct pf_slice *ret_body) {
  *x = (struct exchange){.app = app, .req = req, .now_us = app_now_us()};
  x->reader = batch_reader(req->body);
  pf_buf_init(&x->answer, ANSWER_MAX);
  if (batch_next(&x->reader, ret_head, ret_body) == PF_OK) return true;
  refuse(app, req, 400, "bad_batch", "the body is not a batch");
  return false;
}

static void exchange_append(struct exchange *x, struct pf_slice body) {
  batch_append(&x->answer, pf_buf_view(&x->app->scratch), body);
  pf_buf_clear(&x->app->scratch);
}

/* Sends the answer, held: after what was decided is durable. err: how the reader ended. */
static void exchange_close(struct exchange *x, int err, bool held) {
  struct app *app = x->app;
  if (err != PF_ENOTFOUND) {
    refuse(app, x->req, 400, "bad_batch", "a record of the batch is malformed");
  } else if (x->answer.err) {
    refuse(app, x->req, 503, "overload", "the answer is too large");
  } else if (held) {
    turn_answer(app, x->req->id, &x->answer);
  } else {
    struct web_response response = {
        .status = 200, .content_type = HTTP_CONTENT_BATCH, .body = pf_buf_view(&x->answer)};
    web_respond(app->web, x->req->id, &response);
  }
  pf_buf_done(&x->answer);
  pf_buf_clear(&app->scratch);
}

static void encode_epoch(struct app *app) {
  struct hop_jobs_reply_head head = {.epoch = queue_epoch(app->queue)};
  hop_jobs_reply_head_encode(&app->scratch, &head);
}

/* ---- POST /v1/jobs ---- */

static void job_item(struct exchange *x, const struct hop_jobs_head *batch, struct pf_slice head,
    struct pf_slice request) {
  struct hop_job item;
  struct pf_error why = {0};
  struct hop_job_reply reply = {.answer = HOP_JOB_REFUSED};
  int err = hop_job_decode(&item, head, &why);
  if (!err && item.job.origin == batch->origin)
    reply = queue_put(x->app->queue, &item, head, request,
        store_space_low(queue_db_store(x->app->db)), x->now_us);
  else if (pf_log_allow(&x->app->refused_items, x->now_us / 1000, 5, 1000))
    pf_log(&x->app->log, PF_LOG_WARN, "job_refused", "origin=%016llx reason=\"%s\"",
        (unsigned long long)batch->origin, err ? why.text : "the job is another origin's");
  hop_job_reply_encode(&x->app->scratch, &reply);
  exchange_append(x, (struct pf_slice){0});
}

static void post_jobs(struct app *app, const struct web_request *req) {
  struct exchange x;
  struct pf_slice head, body;
  struct hop_jobs_head batch;
  struct pf_error why = {0};
  if (!exchange_open(&x, app, req, &head, &body)) return;
  if (hop_jobs_head_decode(&batch, head, &why)) {
    refuse(app, req, 400, "bad_head", why.text);
    return;
  }
  if (queue_origin_seen(app->queue, &batch, x.now_us)) {
    refuse(app, req, 429, "too_many_origins", "this queue serves no more origins");
    return;
  }
  encode_epoch(app);
  exchange_append(&x, (struct pf_slice){0});
  int err;
  while ((err = batch_next(&x.reader, &head, &body)) == PF_OK)
    job_item(&x, &batch, head, body);
  exchange_close(&x, err, true);
}

/* ---- PUT and GET /v1/origins/{id} ---- */

static void respond_scratch(struct app *app, const struct web_request *req) {
  struct web_response response = {
      .status = 200, .content_type = HTTP_CONTENT_JSON, .body = pf_buf_view(&app->scratch)};
  web_respond(app->web, req->id, &response);
  pf_buf_clear(&app->scratch);
}

static void put_origin(struct app *app, const struct web_request *req, uint64_t id) {
  struct hop_jobs_head head;
  struct pf_error why = {0};
  if (hop_jobs_head_decode(&head, req->body, &why) || head.origin != id) {
    refuse(app, req, 400, "bad_head", why.text[0] ? why.text : "the path names another origin");
    return;
  }
  if (queue_origin_seen(app->queue, &head, app_now_us())) {
    refuse(app, req, 429, "too_many_origins", "this queue serves no more origins");
    return;
  }
  encode_epoch(app);
  respond_scratch(app, req);
}

static void get_origin(struct app *app, const struct web_request *req, uint64_t id) {
  struct hop_jobs_head head;
  if (!queue_view_origin(app->queue, id, &head)) {
    refuse(app, req, 404, "unknown_origin", "this origin has not been heard of");
    return;
  }
  hop_jobs_head_encode(&app->scratch, &head);
  respond_scratch(app, req);
}

/* ---- PUT /v1/executors/{id} ---- */

static void log_executor(struct app *app, const struct hop_heartbeat *beat, const char *event) {
  pf_log(&app->log, PF_LOG_INFO, event, "executor=%016llx incarnation=%016llx slots=%lld url=%s",
      (unsigned long long)beat->executor, (unsigned long long)beat->incarnation,
      (long long)beat->slots, beat->url);
}

static void put_executor(struct app *app, const struct web_request *req, uint64_t id) {
  struct exchange x;
  struct pf_slice head, held;
  struct hop_heartbeat beat;
  struct pf_error why = {0};
  if (!exchange_open(&x, app, req, &head, &held)) return;
  if (hop_heartbeat_decode(&beat, head, &why) || beat.executor != id ||
      held.len % HOP_HELD_BYTES != 0) {
    refuse(app, req, 400, "bad_head", why.text[0] ? why.text : "the heartbeat is malformed");
    return;
  }
  char url[HOP_URL_MAX];
  bool known = queue_view_executor(app->queue, beat.executor, beat.incarnation, url);
  struct pf_buf aborts;
  pf_buf_init(&aborts, ANSWER_MAX);
  if (queue_heartbeat(app->queue, &beat, held, x.now_us, &aborts)) {
    refuse(app, req, 429, "too_many_executors", "this queue serves no more executors");
  } else {
    /* A repeated goodbye, or a delayed call of one that was replaced, makes nobody known. */
    if (!known && queue_view_executor(app->queue, beat.executor, beat.incarnation, url))
      log_executor(app, &beat, "executor_joined");
    app_check(
        app); /* here, for want of a better clock: each second while there is work to be done */
    encode_epoch(app);
    exchange_append(&x, pf_buf_view(&aborts));
    exchange_close(&x, PF_ENOTFOUND, false);
  }
  pf_buf_done(&aborts);
}

/* ---- POST /v1/start and /v1/complete ---- */

static void post_start(struct app *app, const struct web_request *req) {
  struct exchange x;
  struct pf_slice head, body;
  if (!exchange_open(&x, app, req, &head, &body)) return;
  encode_epoch(app);
  exchange_append(&x, (struct pf_slice){0});
  int err;
  while ((err = batch_next(&x.reader, &head, &body)) == PF_OK) {
    struct hop_held held;
    bool go =
        hop_held_decode(&held, head, NULL) == PF_OK && queue_start(app->queue, &held, x.now_us);
    hop_answer_encode(&app->scratch, hop_start_answers, go);
    exchange_append(&x, (struct pf_slice){0});
  }
  exchange_close(&x, err, false);
}

/* One that cannot be read must not keep those beside it from being heard. Its job is missing from
 * the next heartbeats, and ends as one that its executor has lost. */
static enum hop_complete_answer complete_item(
    struct exchange *x, struct pf_slice head, bool *held) {
  struct app *app = x->app;
  struct hop_complete item;
  struct pf_error why = {0};
  if (hop_complete_decode(&item, head, &why)) {
    if (pf_log_allow(&app->refused_items, x->now_us / 1000, 5, 1000))
      pf_log(&app->log, PF_LOG_WARN, "completion_refused", "reason=\"%s\"", why.text);
    return HOP_COMPLETE_REFUSED;
  }
  queue_complete(app->queue, &item, x->now_us);
  *held |= item.how != HOP_COMPLETE_DELIVERED;
  return HOP_COMPLETE_OK;
}

/* A delivery is with the origin already, so its note here may be lost; that an attempt failed, and
 * how, is known from nobody else. */
static void post_complete(struct app *app, const struct web_request *req) {
  struct exchange x;
  struct pf_slice head, body;
  if (!exchange_open(&x, app, req, &head, &body)) return;
  encode_epoch(app);
  exchange_append(&x, (struct pf_slice){0});
  bool held = false;
  int err;
  while ((err = batch_next(&x.reader, &head, &body)) == PF_OK) {
    hop_answer_encode(&app->scratch, hop_complete_answers, (int)complete_item(&x, head, &held));
    exchange_append(&x, (struct pf_slice){0});
  }
  exchange_close(&x, err, held);
}

/* ---- GET ---- */

static void get_health(struct app *app, const struct web_request *req) {
  web_respond_health(app->web, req->id, "orchestrator");
}

static void respond_report(
    struct app *app, const struct web_request *req, const char *type, const struct pf_buf *body) {
  struct web_response response = {.status = 200, .content_type = type, .body = pf_buf_view(body)};
  if (body->err)
    refuse(app, req, 503, "overload", "the answer is too large");
  else
    web_respond(app->web, req->id, &response);
}

static void get_queue(struct app *app, const struct web_request *req) {
  struct pf_buf body;
  pf_buf_init(&body, ANSWER_MAX);
  api_queue_print(&body, app->queue, app->db, app_now_us());
  respond_report(app, req, HTTP_CONTENT_JSON, &body);
  pf_buf_done(&body);
}

static void get_undelivered(struct app *app, const struct web_request *req) {
  struct pf_buf body;
  pf_buf_init(&body, ANSWER_MAX);
  api_undelivered_print(&body, app->queue, app_now_us());
  respond_report(app, req, HTTP_CONTENT_JSON, &body);
  pf_buf_done(&body);
}

static void get_health_detailed(struct app *app, const struct web_request *req) {
  struct health health;
  struct pf_buf body;
  pf_buf_init(&body, ANSWER_MAX);
  orchestrator_report_health(app, &health, &body);
  web_respond_health_detailed(app->web, req->id, &health);
  pf_buf_done(&body);
}

static void get_metrics(struct app *app, const struct web_request *req) {
  struct pf_buf body;
  pf_buf_init(&body, ANSWER_MAX);
  orchestrator_print_metrics(app, &body);
  respond_report(app, req, METRICS_CONTENT_TYPE, &body);
  pf_buf_done(&body);
}

/* ---- routes ---- */

struct route {
  enum web_method method;
  const char *path; /* of routes with an id: up to it, with the last slash */
  const char *type; /* what the body has to be called; NULL without one */
  void (*plain)(struct app *app, const struct web_request *req);
  void (*with_id)(struct app *app, const struct web_request *req, uint64_t id);
};

static const struct route routes[] = {
    {WEB_POST, "/v1/jobs", HTTP_CONTENT_BATCH, post_jobs, NULL},
    {WEB_POST, "/v1/complete", HTTP_CONTENT_BATCH, post_complete, NULL},
    {WEB_POST, "/v1/start", HTTP_CONTENT_BATCH, post_start, NULL},
    {WEB_PUT, "/v1/executors/", HTTP_CONTENT_BATCH, NULL, put_executor},
    {WEB_PUT, "/v1/origins/", HTTP_CONTENT_JSON, NULL, put_origin},
    {WEB_GET, "/v1/origins/", NULL, NULL, get_origin},
    {WEB_GET, "/v1/queue", NULL, get_queue, NULL},
    {WEB_GET, "/v1/undelivered", NULL, get_undelivered, NULL},
    {WEB_GET, "/metrics", NULL, get_metrics, NULL},
    {WEB_GET, "/health", NULL, get_health, NULL},
    {WEB_GET, "/health/detailed", NULL, get_health_detailed, NULL},
};

static bool route_matches(const struct route *route, struct pf_slice path, uint64_t *ret_id) {
  if (route->plain) return pf_slice_is(path, route->path);
  size_t len = strlen(route->path);
  return path.len > len && memcmp(path.data, route->path, len) == 0 &&
         pf_u64_parse(ret_id, path.data + len, path.len - len) == PF_OK;
}

static bool request_admitted(struct app *app, const struct web_request *req) {
  if (app->dispatch) return web_admits_process(app->web, req);
  refuse(app, req, 503, "stopping", "this process is about to end");
  return false;
}

static void route_call(
    const struct route *route, struct app *app, const struct web_request *req, uint64_t id) {
  if (route->type && !web_type_fits(app->web, req, route->type)) return;
  if (route->plain)
    route->plain(app, req);
  else
    route->with_id(app, req, id);
}

static void api_on_request(void *arg, const struct web_request *req) {
  struct app *app = arg;
  bool path_known = false;
  if (!request_admitted(app, req)) return;
  for (size_t i = 0; i < PF_COUNT(routes); i++) {
    uint64_t id = 0;
    if (!route_matches(&routes[i], req->path, &id)) continue;
    path_known = true;
    enum web_method method = req->method == WEB_HEAD ? WEB_GET : req->method;
    if (method != routes[i].method) continue;
    route_call(&routes[i], app, req, id);
    return;
  }
  if (path_known)
    refuse(app, req, 405, "method_not_allowed", "this path does not take this method");
  else
    refuse(app, req, 404, "not_found", "there is nothing under this path");
}

int api_open(struct app *app, struct pf_error *reterr) {
  struct web_listener_config config = {.listen = app->config.listen,
      .limits = web_limits_default,
      .handlers = {.arg = app, .on_request = api_on_request}};
  config.limits.body_max = BODY_MAX;
  config.limits.connections_max = app->callers_max;
  struct pf_listen_addr bound;
  int err = web_listen(app->web, &config, &bound, reterr);
  if (err) return err;
  pf_listen_announce("proxyfetch-orchestrator", &bound);
  return PF_OK;
}
