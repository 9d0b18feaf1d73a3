#include "executor/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "executor/job.h"
#include "wire/batch.h"

#define HELD_MAX ((size_t)8 << 20)
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
  int64_t reached_since_ms;
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
    lease_grant(&app->lease, app->config.lease_ms);
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
  pf_buf_init(&held, HELD_MAX);
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
  lease_ask(&app->lease, pf_clock_mono_ms());
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

void control_open(struct app *app, const struct pf_listen_addr *bound) {
  control_name(app, bound);
  struct control *c = app->control = pf_alloc(sizeof(*c));
  c->app = app;
  pf_buf_init(&c->body, HELD_MAX + BATCH_HEAD_MAX);
  pf_buf_init(&c->scratch, BATCH_HEAD_MAX);
  snprintf(c->beat_url, sizeof(c->beat_url), "%s/v1/executors/%016llx", app->config.orchestrator,
      (unsigned long long)app->id);
  c->reached_since_ms = app->opened_ms;
  c->beat_timer.fire = beat_on_timer;
  beat_on_timer(&c->beat_timer);
  pf_listen_announce("proxyfetch-executor", bound);
}

bool control_reached(const struct app *app, int64_t *ret_since_ms) {
  *ret_since_ms = pf_clock_mono_ms() - app->control->reached_since_ms;
  return app->control->reached;
}

int64_t control_heartbeat_age_ms(const struct app *app) {
  return lease_age_ms(&app->lease, pf_clock_mono_ms());
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
