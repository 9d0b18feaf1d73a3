#include "clients/measure/bench_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "clients/measure/http_load.h"
#include "clients/measure/ws_load.h"
#include "http/client.h"
#include "loop/signals.h"

#define TICK_MS 50

struct slot {
  int64_t due_ns;
  bool busy;
};

struct bench_load {
  const struct bench_load_plan *plan;
  struct bench_run *run;
  struct bench_result *result;
  uv_loop_t loop;
  struct pf_signals signals;
  uv_timer_t tick;
  uv_poll_t due; /* open loop: a timer that is finer than the loop's */
  int due_fd;
  struct http_load *http_load;
  struct ws_load *ws_load;
  struct http *http; /* asks the server who it is */
  struct http_call call;
  char health_url[WS_CLIENT_HOST_MAX + 32];

  struct slot *slots;
  size_t *free_slots, free_count;
  size_t *resting, resting_count; /* failed just now; tried again at the next tick */
  bool loading, pumping, ended, interrupted;
  int64_t client_cpu_ns;
  int exit_code;
};

/* ---- ending ---- */

static void load_end(struct bench_load *l, int exit_code) {
  if (l->ended) return;
  l->ended = true;
  l->loading = false;
  l->exit_code = exit_code;
  if (l->http_load) http_load_close(l->http_load);
  if (l->ws_load) ws_load_close(l->ws_load);
  http_close(l->http, NULL, NULL);
  uv_close((uv_handle_t *)&l->tick, NULL);
  uv_close((uv_handle_t *)&l->due, NULL);
}

/* What has been measured so far is shown; a second signal ends the program at once. */
static void load_on_signal(void *arg) {
  struct bench_load *l = arg;
  l->interrupted = true;
  if (l->loading && l->run->phase == BENCH_MEASURING)
    bench_run_cut(l->run, pf_clock_mono_ns());
  else
    load_end(l, PF_EXIT_INTERRUPTED);
}

/* ---- the load ---- */

static void cpu_begin(struct bench_load *l) {
  int64_t ignored[PROC_MAX];
  proc_sample(&l->result->procs, ignored);
  l->client_cpu_ns = proc_cpu_ns(getpid());
}

static void load_over(struct bench_load *l) {
  struct bench_result *r = l->result;
  int64_t used_ns[PROC_MAX], client_ns = proc_cpu_ns(getpid()) - l->client_cpu_ns;
  double count = l->run->ended > 0 ? (double)l->run->ended : 1;
  proc_sample(&r->procs, used_ns);
  for (size_t i = 0; i < r->procs.count; i++)
    r->cpu_us[i] = (double)used_ns[i] / 1e3 / count;
  r->client_cpu_us = (double)client_ns / 1e3 / count;
  for (size_t i = 0; i < l->plan->concurrency; i++)
    if (l->slots[i].busy) bench_run_unended(l->run, l->slots[i].due_ns);
  if (!l->run->steady) bench_result_warn(r, "the figure was not steady after the warm-up");
  if (l->interrupted) bench_result_warn(r, "it was interrupted");
  load_end(l, l->interrupted ? PF_EXIT_INTERRUPTED : PF_EXIT_OK);
}

static void due_arm(struct bench_load *l) {
  int64_t at_ns = 0; /* which disarms it */
  (void)bench_run_next_due_ns(l->run, &at_ns);
  struct itimerspec when = {
      .it_value = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000}};
  PF_ASSERT(timerfd_settime(l->due_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

static void keep_sent(struct bench_load *l, size_t request, int64_t due_ns) {
  const struct bench_load_plan *plan = l->plan;
  if (!plan->sent || l->run->phase != BENCH_MEASURING || l->result->record_is_cut) return;
  int64_t at_ns = due_ns - l->run->measure_ns;
  l->result->record_is_cut = record_send(plan->sent, (uint32_t)request, at_ns) != PF_OK;
}

static void send_one(struct bench_load *l, int64_t due_ns) {
  const struct bench_load_plan *plan = l->plan;
  size_t slot = l->free_slots[--l->free_count];
  size_t request = plan->which ? plan->which[l->run->cursor.index - 1] : 0;
  l->slots[slot] = (struct slot){.due_ns = due_ns, .busy = true};
  keep_sent(l, request, due_ns);
  if (plan->ws)
    ws_load_send(l->ws_load, slot, request);
  else
    http_load_send(l->http_load, slot, request);
}

/* Sends what is due, as far as there are free slots. */
static void pump(struct bench_load *l) {
  int64_t due_ns;
  if (l->pumping || !l->loading) return;
  l->pumping = true;
  while (l->free_count && bench_run_take_due(l->run, pf_clock_mono_ns(), &due_ns))
    send_one(l, due_ns);
  l->pumping = false;
  if (l->plan->run.schedule && l->free_count) due_arm(l);
}

static void look(struct bench_load *l, int64_t now_ns) {
  enum bench_phase before = l->run->phase, now = bench_run_tick(l->run, now_ns);
  if (before == BENCH_WARMUP && now == BENCH_MEASURING) cpu_begin(l);
  if (now == BENCH_OVER) load_over(l);
}

static void load_on_done(void *arg, size_t slot, int status, const char *why) {
  struct bench_load *l = arg;
  struct bench_result *r = l->result;
  if (!l->loading) return;
  int64_t now_ns = pf_clock_mono_ns();
  bool good = status >= 100 && status < 400;
  look(l, now_ns); /* a phase may end before this counts */
  if (!l->loading) return;
  l->slots[slot].busy = false;
  bench_run_ended(l->run, l->slots[slot].due_ns, now_ns, good);
  if (!good && !r->problem[0] && status)
    snprintf(r->problem, sizeof(r->problem), "status %d", status);
  else if (!good && !r->problem[0])
    snprintf(r->problem, sizeof(r->problem), "%s", why);
  if (status)
    l->free_slots[l->free_count++] = slot;
  else
    l->resting[l->resting_count++] = slot;
  pump(l);
}

static void load_begin(struct bench_load *l) {
  bench_run_begin(l->run, &l->plan->run, pf_clock_mono_ns());
  cpu_begin(l);
  l->loading = true;
  pump(l);
}

static void tick_on_timer(uv_timer_t *timer) {
  struct bench_load *l = timer->data;
  if (!l->loading) return;
  look(l, pf_clock_mono_ns());
  while (l->resting_count)
    l->free_slots[l->free_count++] = l->resting[--l->resting_count];
  pump(l);
}

static void due_on_poll(uv_poll_t *poll, int status, int events) {
  struct bench_load *l = poll->data;
  uint64_t times;
  (void)status, (void)events;
  if (read(l->due_fd, &times, sizeof(times)) == sizeof(times)) pump(l);
}

/* ---- through an origin ---- */

static void health_done(struct http_call *call) {
  struct bench_load *l = call->arg;
  if (l->ended) return;
  if (!call->err) proc_add_answered(&l->result->procs, pf_buf_view(&call->response));
  load_begin(l);
}

static void ws_on_opened(void *arg) {
  struct bench_load *l = arg;
  if (!l->plan->find_processes) {
    load_begin(l);
    return;
  }
  ws_url_http(&l->plan->server, "/health", l->health_url, sizeof(l->health_url));
  l->call =
      (struct http_call){.method = "GET", .url = l->health_url, .done = health_done, .arg = l};
  http_start(l->http, &l->call);
}

static void ws_on_lost(void *arg, int err, const char *why) {
  struct bench_load *l = arg;
  (void)err;
  if (l->ended) return;
  fprintf(stderr, "proxyfetch bench: %s: %s\n", l->result->server, why);
  load_end(l, PF_EXIT_FAILURE);
}

/* ---- life ---- */

static int load_open(struct bench_load *l) {
  const struct bench_load_plan *p = l->plan;
  struct pf_error why = {0};
  if (p->ws) {
    struct ws_load_plan plan = {.server = p->server,
        .requests = p->requests,
        .request_count = p->request_count,
        .include = p->include,
        .slots = p->concurrency,
        .clients = p->clients,
        .fresh = p->fresh};
    struct ws_load_handlers handlers = {
        .arg = l, .opened = ws_on_opened, .done = load_on_done, .lost = ws_on_lost};
    l->ws_load = ws_load_open(&l->loop, &plan, &handlers);
    return PF_OK;
  }
  struct http_load_plan plan = {.url = p->server,
      .requests = p->requests,
      .request_count = p->request_count,
      .slots = p->concurrency,
      .keep_alive = !p->fresh};
  struct http_load_handlers handlers = {.arg = l, .done = load_on_done};
  int err = http_load_open(&l->http_load, &l->loop, &plan, &handlers, &why);
  if (err)
    fprintf(stderr, "proxyfetch bench: %s\n", why.text);
  else
    load_begin(l);
  return err;
}

static void load_init(struct bench_load *l) {
  size_t count = l->plan->concurrency;
  l->slots = pf_alloc(count * sizeof(*l->slots));
  l->free_slots = pf_alloc(count * sizeof(*l->free_slots));
  l->resting = pf_alloc(count * sizeof(*l->resting));
  for (; l->free_count < count; l->free_count++)
    l->free_slots[l->free_count] = l->free_count;
  PF_ASSERT(uv_loop_init(&l->loop) == 0 && uv_timer_init(&l->loop, &l->tick) == 0);
  l->due_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC); /* as pf_clock_mono */
  PF_ASSERT(l->due_fd >= 0 && uv_poll_init(&l->loop, &l->due, l->due_fd) == 0);
  l->tick.data = l->due.data = l;
  PF_ASSERT(uv_timer_start(&l->tick, tick_on_timer, TICK_MS, TICK_MS) == 0);
  PF_ASSERT(uv_poll_start(&l->due, UV_READABLE, due_on_poll) == 0);
  PF_ASSERT(http_new(&l->http, &l->loop) == PF_OK);
  pf_signals_open(&l->signals, &l->loop, load_on_signal, l);
}

static void load_done(struct bench_load *l) {
  pf_signals_close(&l->signals);
  uv_run(&l->loop, UV_RUN_DEFAULT);
  PF_ASSERT(uv_loop_close(&l->loop) == 0);
  close(l->due_fd);
  ws_load_free(l->ws_load);
  free(l->slots);
  free(l->free_slots);
  free(l->resting);
}

int bench_load_run(
    const struct bench_load_plan *plan, struct bench_run *run, struct bench_result *result) {
  PF_ASSERT(plan->concurrency > 0 && plan->concurrency <= BENCH_CONCURRENCY_MAX);
  struct bench_load load = {.plan = plan, .run = run, .result = result};
  load_init(&load);
  if (load_open(&load)) load_end(&load, PF_EXIT_FAILURE);
  uv_run(&load.loop, UV_RUN_DEFAULT);
  load_done(&load);
  return load.exit_code;
}
