#include "executor/api.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "executor/job.h"
#include "executor/metrics.h"
#include "web/health.h"
#include "wire/batch.h"

#define ANSWER_MAX ((size_t)8 << 20)

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
  if (!web_type_fits(app->web, req, HTTP_CONTENT_BATCH)) return;
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

/* ---- what operators ask ---- */

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

static void api_on_request(void *arg, const struct web_request *req) {
  struct app *app = arg;
  if (!web_admits_process(app->web, req)) return;
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

int api_open(struct app *app, struct pf_listen_addr *ret_bound, struct pf_error *reterr) {
  struct web_listener_config config = {.listen = app->config.listen,
      .limits = web_limits_default,
      .handlers = {.arg = app, .on_request = api_on_request}};
  config.limits.body_max = API_BODY_MAX;
  config.limits.connections_max = app->callers_max;
  return web_listen(app->web, &config, ret_bound, reterr);
}
