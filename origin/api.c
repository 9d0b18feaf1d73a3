#include "origin/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/data_dir.h"
#include "base/metrics.h"
#include "origin/edge.h"
#include "origin/metrics.h"
#include "origin/page.h"
#include "web/health.h"
#include "wire/json.h"

/* ---- reading requests ---- */

/* Cuts the next segment off *path ("/v1/jobs/…"); false at its end. */
static bool next_segment(struct pf_slice *path, struct pf_slice *ret_segment) {
  if (path->len == 0 || path->data[0] != '/') return false;
  const char *at = path->data + 1, *end = path->data + path->len;
  const char *slash = memchr(at, '/', (size_t)(end - at));
  if (!slash) slash = end;
  *ret_segment = pf_slice(at, (size_t)(slash - at));
  *path = pf_slice(slash, (size_t)(end - slash));
  return true;
}

#define LIST_DEFAULT 100

static int64_t seconds_to_ms(const char *text) {
  char *end;
  double seconds = strtod(text, &end);
  if (end == text || !(seconds > 0)) return 0;
  return seconds > 3600 ? 3600000 : (int64_t)(seconds * 1000);
}

/* `Prefer: wait=10` (RFC 7240). */
static int64_t prefer_wait_ms(const struct web_request *request) {
  struct pf_slice value;
  char text[128];
  if (!web_request_header(request, "prefer", &value)) return 0;
  snprintf(text, sizeof(text), "%.*s", (int)(value.len < 100 ? value.len : 100), value.data);
  const char *wait = strstr(text, "wait=");
  return wait ? seconds_to_ms(wait + 5) : 0;
}

static int64_t query_wait_ms(const struct web_request *request) {
  struct pf_buf value;
  pf_buf_init(&value, 64);
  int64_t ms = 0;
  if (web_query_param(request->query, "wait", &value)) {
    pf_buf_append(&value, "", 1);
    if (!value.err) ms = seconds_to_ms(value.data);
  }
  pf_buf_done(&value);
  return ms;
}

static void respond_error(struct origin *origin, const struct web_request *request, int status,
    const char *code, const char *text) {
  web_respond_error(origin->web, request->id, status, code, text);
}

static void respond_no_method(
    struct origin *origin, const struct web_request *request, const char *allowed) {
  char text[96];
  snprintf(text, sizeof(text), "this path takes %s", allowed);
  respond_error(origin, request, 405, "method_not_allowed", text);
}

/* ---- about ourselves ---- */

static void respond_metrics(struct origin *origin, const struct web_request *request) {
  struct pf_buf body;
  pf_buf_init(&body, PF_BUF_MAX_DEFAULT);
  origin_print_metrics(origin, &body);
  web_respond(origin->web, request->id,
      &(struct web_response){
          .status = 200, .content_type = METRICS_CONTENT_TYPE, .body = pf_buf_view(&body)});
  pf_buf_done(&body);
}

static void respond_health(struct origin *origin, const struct web_request *request) {
  struct health health;
  struct pf_buf body;
  pf_buf_init(&body, PF_BUF_MAX_DEFAULT);
  origin_enter(origin);
  origin_report_health(origin, &health, &body);
  web_respond_health_detailed(origin->web, request->id, &health);
  pf_buf_done(&body);
}

/* True if the path was one of those that every process has. */
static bool route_common(struct origin *origin, const struct web_request *request) {
  bool health = pf_slice_is(request->path, "/health");
  bool detailed = pf_slice_is(request->path, "/health/detailed");
  if (!health && !detailed && !pf_slice_is(request->path, "/metrics")) return false;
  if (request->method != WEB_GET && request->method != WEB_HEAD)
    respond_no_method(origin, request, "GET");
  else if (health)
    web_respond_health(origin->web, request->id, "origin");
  else if (detailed)
    respond_health(origin, request);
  else
    respond_metrics(origin, request);
  return true;
}

/* ---- clients ---- */

/* POST /v1/actors/{class}/{name}/fetch */
static void route_actors(
    struct origin *origin, const struct web_request *request, struct pf_slice path) {
  struct pf_slice class_name, name, verb;
  if (!next_segment(&path, &class_name) || !next_segment(&path, &name) ||
      !next_segment(&path, &verb) || path.len || !pf_slice_is(verb, "fetch"))
    respond_error(origin, request, 404, "not_found",
        "no such path; fetches are posted to /v1/actors/{class}/{name}/fetch");
  else if (request->method != WEB_POST)
    respond_no_method(origin, request, "POST");
  else
    core_on_api_fetch(origin_enter(origin), request->id, class_name, name, request->body,
        prefer_wait_ms(request));
}

static bool limit_read(struct pf_buf *text, int64_t *ret_limit) {
  char *end;
  pf_buf_append(text, "", 1);
  if (text->err || text->data[0] < '0' || text->data[0] > '9') return false;
  *ret_limit = strtoll(text->data, &end, 10);
  return end == text->data + text->len - 1 && *ret_limit <= CORE_LIST_MAX;
}

/* GET /v1/jobs?state=&limit=&after= */
static void route_list(struct origin *origin, const struct web_request *request) {
  int64_t count = LIST_DEFAULT;
  struct pf_buf state, limit, after;
  struct pf_job_id id = {0};
  pf_buf_init(&state, 64);
  pf_buf_init(&limit, 64);
  pf_buf_init(&after, 64);
  web_query_param(request->query, "state", &state);
  bool limited = web_query_param(request->query, "limit", &limit);
  bool paged = web_query_param(request->query, "after", &after);
  if (request->method != WEB_GET)
    respond_no_method(origin, request, "GET");
  else if (paged && pf_job_id_parse(&id, after.data, after.len))
    respond_error(origin, request, 400, "bad_id", "a job id is 32 hex digits");
  else if (limited && !limit_read(&limit, &count))
    respond_error(origin, request, 400, "bad_query", "`limit` is a whole number, 0 to 1000");
  else
    core_on_api_list(origin_enter(origin), request->id, pf_buf_view(&state), count, id);
  pf_buf_done(&state);
  pf_buf_done(&limit);
  pf_buf_done(&after);
}

/* What is below a job: its body to read, or a parked job to run again. */
static void route_job_part(struct origin *origin, const struct web_request *request,
    struct pf_job_id id, struct pf_slice part) {
  bool body = pf_slice_is(part, "body");
  if (request->method != (body ? WEB_GET : WEB_POST))
    respond_no_method(origin, request, body ? "GET" : "POST");
  else if (body)
    core_on_api_body(origin_enter(origin), request->id, id);
  else
    core_on_api_rerun(origin_enter(origin), request->id, id);
}

/* GET and DELETE /v1/jobs/{id}, GET /v1/jobs/{id}/body, POST /v1/jobs/{id}/rerun */
static void route_jobs(
    struct origin *origin, const struct web_request *request, struct pf_slice path) {
  struct pf_slice id_text, part = {0};
  struct pf_job_id id;
  if (path.len == 0) {
    route_list(origin, request);
    return;
  }
  if (!next_segment(&path, &id_text) || (path.len && !next_segment(&path, &part)) || path.len ||
      (part.len && !pf_slice_is(part, "body") && !pf_slice_is(part, "rerun"))) {
    respond_error(origin, request, 404, "not_found",
        "no such path; a job is /v1/jobs/{id}, its body /v1/jobs/{id}/body");
    return;
  }
  if (pf_job_id_parse(&id, id_text.data, id_text.len)) {
    respond_error(origin, request, 400, "bad_id", "a job id is 32 hex digits");
    return;
  }
  struct core *core = origin_enter(origin);
  if (part.len)
    route_job_part(origin, request, id, part);
  else if (request->method == WEB_GET)
    core_on_api_job(core, request->id, id, query_wait_ms(request));
  else if (request->method == WEB_DELETE)
    core_on_api_cancel(core, request->id, id);
  else
    respond_no_method(origin, request, "GET and DELETE");
}

void api_on_client_request(void *arg, const struct web_request *request) {
  struct origin *origin = arg;
  struct pf_slice path = request->path, version = {0}, kind = {0};
  if (route_common(origin, request) || page_respond(origin->web, request)) return;
  bool ours = next_segment(&path, &version) && pf_slice_is(version, "v1");
  if (ours && next_segment(&path, &kind) && pf_slice_is(kind, "actors"))
    route_actors(origin, request, path);
  else if (ours && pf_slice_is(kind, "jobs"))
    route_jobs(origin, request, path);
  else
    respond_error(origin, request, 404, "not_found", "no such path");
}

/* ---- other processes, and operators ---- */

struct backup {
  struct origin *origin;
  uint64_t request;
  char path[PF_DATA_DIR_MAX + 64];
};

static void on_backup_done(void *arg, int err, const struct pf_error *why) {
  struct backup *backup = arg;
  struct origin *origin = backup->origin;
  if (!origin->web) { /* the store ends last: who asked has gone */
    free(backup);
    return;
  }
  if (err) {
    web_respond_error(origin->web, backup->request, 500, "backup_failed", why->text);
  } else {
    struct pf_buf body;
    pf_buf_init(&body, PF_BUF_MAX_DEFAULT);
    struct json_writer w = json_writer(&body);
    json_begin_object(&w, NULL);
    json_put_text(&w, "path", backup->path);
    json_end_object(&w);
    web_respond(origin->web, backup->request,
        &(struct web_response){.status = 200, .body = pf_buf_view(&body)});
    pf_buf_done(&body);
  }
  free(backup);
}

/* POST /v1/backup: a copy in the data directory, made while everything goes on. */
static void route_backup(struct origin *origin, const struct web_request *request) {
  struct backup *backup = pf_alloc(sizeof(*backup));
  backup->origin = origin;
  backup->request = request->id;
  snprintf(backup->path, sizeof(backup->path), "%s/backup-%lld.db", origin->config->data,
      (long long)pf_clock_wall_ms());
  store_backup(origin->store, backup->path, on_backup_done, backup);
}

void api_on_internal_request(void *arg, const struct web_request *request) {
  struct origin *origin = arg;
  if (!web_admits_process(origin->web, request) || route_common(origin, request)) return;
  bool results = pf_slice_is(request->path, "/__receiveResult");
  bool status = pf_slice_is(request->path, "/__status");
  if (!results && !status && !pf_slice_is(request->path, "/v1/backup"))
    respond_error(origin, request, 404, "not_found", "no such path");
  else if (request->method != WEB_POST)
    respond_no_method(origin, request, "POST");
  else if (!results && !status)
    route_backup(origin, request);
  else if (!web_type_fits(origin->web, request, HTTP_CONTENT_BATCH))
    return;
  else if (results)
    core_on_results(origin_enter(origin), request->id, request->body);
  else
    core_on_status(origin_enter(origin), request->id, request->body);
}
