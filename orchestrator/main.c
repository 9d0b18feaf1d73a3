/* proxyfetch-orchestrator: opens the parts in order, runs the loop, closes them in order.
 *
 * start   store -> identity -> rows that are leased -> listen -> the other rows, step by step
 * stop    no new leases -> executors have answered for those there are -> no more calls out ->
 *         what was decided is committed -> server -> loop */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rand.h"
#include "http/client.h"
#include "loop/check.h"
#include "loop/listen.h"
#include "orchestrator/app.h"
#include "web/web.h"

#define CALLERS_MAX 20000   /* connections of origins, executors and operators */
#define FILES_BESIDES 45000 /* connections to them, the database */
#define SCRATCH_MAX ((size_t)64 << 10)
#define DRAIN_LOOK_MS 10 /* how often a process that is to end looks whether it can */

/* ---- stop ---- */

static void web_closed(void *arg) {
  struct app *app = arg;
  app->web = NULL;
  turn_close(app);
}

static void db_closed(void *arg) {
  struct app *app = arg;
  app->db = NULL;
  web_close(app->web, web_closed, app); /* the answers that waited for the last commit have left */
}

static void http_closed(void *arg) {
  struct app *app = arg;
  app->http = NULL;
  turn_flush(app);
  app->stopped = true;
  queue_db_close(app->db, db_closed, app);
}

static void drain_closed(uv_handle_t *handle) {
  struct app *app = handle->data;
  turn_flush(app); /* what came in meanwhile is still acted upon */
  dispatch_free(app->dispatch);
  app->dispatch = NULL;
  http_close(app->http, http_closed, app);
}

/* START is kept in memory, so a lease that no executor answered for would be taken for a sent
 * request by the next start. */
static void drain_look(uv_timer_t *timer) {
  struct app *app = timer->data;
  bool waiting = app->queue && queue_has_untaken(app->queue);
  if (waiting && app_now_us() < app->drain_until_us) return;
  if (waiting) pf_log(&app->log, PF_LOG_WARN, "drain_cut_short", "leases=unanswered");
  uv_close((uv_handle_t *)timer, drain_closed);
}

void app_drain(struct app *app) {
  if (app->draining) return;
  pf_log(&app->log, PF_LOG_INFO, "stopping", "jobs_are=kept");
  web_stop_listening(app->web);
  app->draining = true;
  app->drain_until_us = app_now_us() + app->config.drain_ms * 1000;
  if (app->queue) queue_stop_leasing(app->queue);
  uv_timer_init(app->loop, &app->drain);
  app->drain.data = app;
  uv_timer_start(&app->drain, drain_look, 0, DRAIN_LOOK_MS);
}

static void app_on_drain(void *arg) {
  app_drain(arg);
}

static void app_fail(struct app *app, int exit_code) {
  app->exit_code = exit_code;
  app_drain(app);
}

/* After a failed write nothing in memory can be trusted to be on disk: no drain. */
static void app_on_broken(void *arg, const struct pf_error *why) {
  struct app *app = arg;
  pf_log(&app->log, PF_LOG_ERROR, "store_broken", "reason=\"%s\"", why->text);
  _exit(PF_EXIT_STORAGE);
}

/* ---- start ---- */

static void read_boot_id(char text[64]) {
  text[0] = '\0';
  FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
  if (!file) return; /* then no reboot is noticed, as on a machine that never reboots */
  if (fgets(text, 64, file)) text[strcspn(text, "\n")] = '\0';
  fclose(file);
}

static void app_on_loaded(void *arg, int err, size_t rows) {
  struct app *app = arg;
  if (app->draining) return;
  if (err) {
    pf_log(&app->log, PF_LOG_ERROR, "load_failed", "file=%s/queue.db reason=\"%s\"", app->dir,
        pf_err_text(err));
    app_fail(app, PF_EXIT_START);
    return;
  }
  pf_log(&app->log, PF_LOG_INFO, "loaded", "jobs=%zu ms=%lld", rows,
      (long long)(pf_clock_mono_ms() - app->opened_ms));
}

/* All that START and heartbeats can ask for is in memory. */
static void app_on_held(void *arg, int err) {
  struct app *app = arg;
  struct pf_error why = {0};
  if (err || app->draining) return; /* app_on_loaded says why */
  if (api_open(app, &why) == PF_OK) return;
  fprintf(stderr, "proxyfetch-orchestrator: %s\n", why.text);
  app_fail(app, PF_EXIT_START);
}

static void app_on_begun(void *arg, const struct queue_db_start *start) {
  struct app *app = arg;
  if (!start || app->draining) return; /* app_on_broken has been called, or is about to be */
  struct config *config = &app->config;
  struct queue_config queue = {.epoch = start->epoch,
      .fence_next = start->fence_next,
      .seed = pf_rand_secret_u64(),
      .lease_ms = config->lease_ms,
      .grace_ms = config->grace_ms,
      .undelivered_keep_ms = config->undelivered_keep_ms,
      .retry = {config->retry_base_ms, config->retry_cap_ms, config->retry_after_cap_ms},
      .jobs_max = config->queue_max,
      .request_bytes_max = config->queue_memory};
  app->queue = queue_new(&queue);
  pf_log(&app->log, PF_LOG_INFO, "queue_opened", "epoch=%016llx renewed=%d",
      (unsigned long long)start->epoch, start->epoch_renewed);
  struct queue_db_load_callbacks callbacks = {app_on_held, app_on_loaded, app};
  queue_db_load(app->db, app->queue, &callbacks);
}

static int app_open_db(struct app *app, struct pf_error *reterr) {
  char boot_id[64];
  read_boot_id(boot_id);
  struct queue_db_config config = {.dir = app->dir,
      .sync = (enum store_sync)app->config.sync,
      .reserve_bytes = app->config.disk_reserve,
      .boot_id = boot_id,
      .on_broken = app_on_broken,
      .arg = app};
  int err = pf_data_dir(app->dir, app->config.data, "orchestrator", reterr);
  return err ? err : queue_db_open(&app->db, app->loop, &config, reterr);
}

static int app_open(struct app *app, struct pf_error *reterr) {
  app->opened_ms = pf_clock_mono_ms();
  pf_buf_init(&app->scratch, SCRATCH_MAX);
  int err = app_open_db(app, reterr); /* first: it is what fails in practice */
  if (err) return err;
  err = http_new(&app->http, app->loop);
  if (err) return pf_error_set(reterr, err, "%s", pf_err_text(err));
  err = web_new(&app->web, app->loop, reterr);
  if (err) return err;
  app->dispatch = dispatch_new(app);
  turn_open(app);
  pf_signals_open(&app->signals, app->loop, app_on_drain, app);
  pf_lag_open(&app->lag, app->loop);
  queue_db_begin(app->db, app_on_begun, app);
  return PF_OK;
}

static void app_free(struct app *app) {
  queue_free(app->queue);
  pf_buf_done(&app->scratch);
  config_free(&app->config);
}

/* --check: the database's owner reads it. */
static int check_database(const struct config *config) {
  char dir[PF_DATA_DIR_MAX], path[PF_DATA_DIR_MAX + 16];
  struct pf_error why = {0};
  int err = pf_data_dir(dir, config->data, "orchestrator", &why);
  snprintf(path, sizeof(path), "%s/queue.db", dir);
  if (!err) err = store_check_file(path, &queue_db_schema, &why);
  if (err)
    fprintf(stderr, "proxyfetch-orchestrator: %s\n", why.text);
  else
    printf("%s: ok\n", path);
  return pf_exit_of(err);
}

int main(int argc, char **argv) {
  uv_loop_t loop;
  struct app app = {.loop = &loop};
  struct pf_error why = {0};
  config_parse_or_exit(&app.config, argc, argv);
  if (app.config.check) {
    int code = check_database(&app.config);
    config_free(&app.config);
    return code;
  }
  app.log = (struct pf_log){
      .role = "orchestrator", .level = (enum pf_log_level)app.config.log_level, .fd = 2};
  pf_alloc_give_back();
  size_t others, callers = pf_open_files_share(CALLERS_MAX, FILES_BESIDES, &others);
  app.callers_max = (unsigned)callers;
  pf_loop_check(uv_loop_init(&loop));
  if (app_open(&app, &why)) {
    fprintf(stderr, "proxyfetch-orchestrator: %s\n", why.text);
    app_free(&app);
    uv_run(&loop, UV_RUN_NOWAIT);
    (void)uv_loop_close(&loop); /* busy if more than the store had been opened: we end anyway */
    return PF_EXIT_START;
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  pf_signals_close(&app.signals);
  pf_lag_close(&app.lag);
  uv_run(&loop, UV_RUN_DEFAULT);
  PF_ASSERT(uv_loop_close(&loop) == 0);
  app_free(&app);
  return app.exit_code;
}
