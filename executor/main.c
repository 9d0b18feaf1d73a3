/* proxyfetch-executor: opens the parts in order, runs the loop, closes them in order.
 *
 * stop    no new jobs -> those under way end, or drain-ms pass -> deregister -> close -> loop ends
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "base/rand.h"
#include "executor/api.h"
#include "executor/app.h"
#include "executor/control.h"
#include "executor/job.h"
#include "loop/check.h"
#include "loop/listen.h"

/* Idle connections, epoll sets, and sockets of the other processes: half of them for those who
 * call. */
#define FILES_BESIDES_SLOTS 1024

/* ---- stop ---- */

static void app_on_part_closed(void *arg) {
  (void)arg; /* the loop ends when all have */
}

static void app_close(struct app *app) {
  timer_stop(&app->timers, &app->stop);
  results_free(app->results);
  peer_free(app->start);
  peer_free(app->complete);
  job_drop_all(app);
  control_free(app);
  seen_done(&app->seen);
  pf_map_done(&app->jobs);
  fetch_engine_close(app->engine, app_on_part_closed, app);
  timers_close(&app->timers, app_on_part_closed, app);
  http_close(app->http, app_on_part_closed, app);
  web_close(app->web, app_on_part_closed, app);
}

static void app_on_stop(struct timer *timer) {
  struct app *app = pf_container_of(timer, struct app, stop);
  if (app->jobs.count) pf_log(&app->log, PF_LOG_WARN, "jobs_dropped", "jobs=%zu", app->jobs.count);
  control_deregister(app, app_close);
}

static void app_on_drain(void *arg) {
  struct app *app = arg;
  if (!app->control) return; /* the start has failed: everything closes already */
  pf_log(&app->log, PF_LOG_INFO, "draining", "jobs=%zu", app->jobs.count);
  app->draining = true;
  control_leave(app);
  int64_t wait_ms = app->jobs.count ? app->config.drain_ms : 0;
  timer_set(&app->timers, &app->stop, pf_clock_mono_ms() + wait_ms);
}

/* ---- start ---- */

/* Each slot needs a descriptor. */
static void app_size_slots(struct app *app) {
  size_t others, slots = (size_t)app->config.slots;
  app->slots = pf_open_files_share(slots, FILES_BESIDES_SLOTS, &others);
  app->callers_max = (unsigned)(others / 2);
  if (app->slots < slots)
    pf_log(&app->log, PF_LOG_WARN, "open_files_limit", "slots=%zu wanted=%zu open_files_needed=%zu",
        app->slots, slots, slots + FILES_BESIDES_SLOTS);
}

static void batch_head_none(void *arg, struct pf_buf *head) {
  (void)arg;
  pf_buf_str(head, "{}");
}

static struct http_peer *app_peer(struct app *app, const char *path) {
  char url[APP_URL_MAX];
  snprintf(url, sizeof(url), "%s%s", app->config.orchestrator, path);
  struct http_peer_config config = {.url = url, .batch_head = batch_head_none};
  struct http_peer *peer;
  int err = peer_new(&peer, app->http, &config);
  PF_ASSERT(err == PF_OK);
  return peer;
}

static int app_open_engine(struct app *app) {
  const struct config *c = &app->config;
  struct fetch_config config = {
      .limits = {.dns_ms = c->dns_ms,
          .connect_ms = c->connect_ms,
          .idle_ms = c->idle_ms,
          .body_max = (size_t)c->body_max,
          .buffered_max = (size_t)c->buffer_max,
          .transfers_max = app->slots},
      .rules = &app->rules,
      .ca_file = c->ca_file,
      .dns.lookup = dns_lookup_system,
      .may_send = job_may_send,
      .arg = app,
  };
  return fetch_engine_new(&app->engine, &app->loop, &config);
}

/* Nothing runs yet that an orderly end would be good for. */
__attribute__((noreturn)) static void app_exit(int err, const struct pf_error *why) {
  fprintf(stderr, "proxyfetch-executor: %s\n", why->code ? why->text : pf_err_text(err));
  exit(PF_EXIT_START);
}

static int app_open(struct app *app, struct pf_error *reterr) {
  app->opened_ms = pf_clock_mono_ms();
  app->incarnation = pf_rand_secret_u64();
  app->stop.fire = app_on_stop;
  pf_map_init(&app->jobs);
  pf_list_init(&app->idle_jobs);
  seen_init(&app->seen);
  timers_open(&app->timers, &app->loop);
  int err = http_new(&app->http, &app->loop);
  if (!err) err = app_open_engine(app);
  if (!err) err = web_new(&app->web, &app->loop, reterr);
  if (err) app_exit(err, reterr);
  struct results_config results = {.http = app->http,
      .timers = &app->timers,
      .log = &app->log,
      .orchestrator = app->config.orchestrator};
  app->results = results_new(&results);
  app->start = app_peer(app, "/v1/start");
  app->complete = app_peer(app, "/v1/complete");
  struct pf_listen_addr bound;
  err = api_open(app, &bound, reterr);
  if (err)
    app_close(app);
  else
    control_open(app, &bound);
  return err;
}

int main(int argc, char **argv) {
  /* A look-up that nobody waits for any more still takes a thread: two tries of 2 s, unless the
   * operator knows better. */
  setenv("RES_OPTIONS", "timeout:2 attempts:2", 0);
  (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* fails on old kernels only */
  struct app *app = pf_alloc(sizeof(*app));
  config_read(&app->config, &app->rules, argc, argv);
  app->log = (struct pf_log){
      .role = "executor", .level = (enum pf_log_level)app->config.log_level, .fd = 2};
  app_size_slots(app);
  pf_alloc_give_back();
  pf_loop_check(uv_loop_init(&app->loop));
  pf_signals_open(&app->signals, &app->loop, app_on_drain, app);
  pf_lag_open(&app->lag, &app->loop);
  struct pf_error why = {0};
  int err = app_open(app, &why);
  if (err) fprintf(stderr, "proxyfetch-executor: %s\n", why.text);
  uv_run(&app->loop, UV_RUN_DEFAULT);
  pf_signals_close(&app->signals);
  pf_lag_close(&app->lag);
  uv_run(&app->loop, UV_RUN_DEFAULT);
  int rc = uv_loop_close(&app->loop);
  PF_ASSERT(rc == 0);
  config_done(&app->config);
  free(app);
  return err ? PF_EXIT_START : PF_EXIT_OK;
}
