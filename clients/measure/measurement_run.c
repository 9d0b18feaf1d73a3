#include "clients/measure/measurement_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/rand.h"
#include "clients/ws/ws_session.h"
#include "http/client.h"
#include "loop/signals.h"

#define ACK_EVERY 256   /* events of a session */
#define ROUND_TRIPS 100 /* and one before them that is not counted */
#define DIRECT_FETCHES 100
#define DIRECT_MS_MAX 3000 /* a slow target is asked less often */
#define TICK_MS 100

/* In this order. */
enum step { STEP_ROUND_TRIP, STEP_DIRECT, STEP_PROCESSES, STEP_RUNS, STEP_LAST_WORD, STEP_END };

struct measure {
  const struct measurement_plan *plan;
  struct measurement *found;
  uv_loop_t loop;
  struct pf_signals signals;
  uv_timer_t tick;
  struct ws_session ws;
  bool connected;      /* once */
  char submit_key[24]; /* begins those of this measurement */
  struct http *http;
  struct http_call call;
  char health_url[WS_CLIENT_HOST_MAX + 32];

  enum step step;
  double samples[ROUND_TRIPS + DIRECT_FETCHES];
  size_t sample_count;
  double direct_total_ms;
  int64_t asked_ns; /* the ping or direct fetch under way */
  size_t run_at;
  struct load load;
  bool loading;
  struct pf_arena arena; /* of one message */
  int64_t client_cpu_ns; /* at the start of the run */
  bool on_line;          /* the progress is shown */
  int exit_code;
};

static void measure_next(struct measure *m);

/* ---- ending ---- */

static void progress_clear(struct measure *m) {
  if (m->on_line) fprintf(stderr, "\r\033[K");
  m->on_line = false;
}

static void measure_end(struct measure *m, int exit_code) {
  if (m->step == STEP_END) return;
  m->step = STEP_END;
  m->exit_code = exit_code;
  progress_clear(m);
  if (m->loading) load_done(&m->load);
  m->loading = false;
  ws_session_close(&m->ws);
  http_close(m->http, NULL, NULL);
  uv_close((uv_handle_t *)&m->tick, NULL);
}

static void measure_fail(struct measure *m, const char *what, const char *why) {
  progress_clear(m);
  fprintf(stderr, "proxyfetch measure: %s%s%s\n", what, *why ? ": " : "", why);
  measure_end(m, PF_EXIT_FAILURE);
}

static void measure_on_signal(void *arg) {
  measure_end(arg, PF_EXIT_INTERRUPTED);
}

/* ---- the runs ---- */

static void load_send(void *arg, struct pf_slice frame) {
  struct measure *m = arg;
  ws_session_send(&m->ws, frame);
}

static void run_begin(struct measure *m) {
  const struct run *run = &m->found->runs[m->run_at];
  struct load_plan plan = {.url = m->found->target,
      .concurrency = run->concurrency,
      .iterations = run->iterations,
      .send_ms = run->send_ms,
      .timings = run->kind == RUN_TIMINGS,
      .tag = (int)m->run_at + 1,
      .submit_key = m->plan->session ? m->submit_key : NULL,
      .send = load_send,
      .arg = m};
  int64_t ignored[PROC_MAX];
  proc_sample(&m->found->procs, ignored);
  m->client_cpu_ns = proc_cpu_ns(getpid());
  m->loading = true;
  load_begin(&m->load, &plan, pf_clock_mono_ns());
}

enum phase { PHASE_ENQUEUE, PHASE_ORIGIN, PHASE_EXECUTION, PHASE_WHOLE };

/* Negative if this fetch has no such figure. */
static double phase_ms(const struct load_fetch *f, enum phase phase) {
  if (f->state != LOAD_DONE || f->bad || f->resent) return -1;
  switch (phase) {
  case PHASE_ENQUEUE:
    return (double)(f->enqueued_ns - f->sent_ns) / 1e6;
  case PHASE_ORIGIN:
    return (double)f->enqueue_ms;
  case PHASE_EXECUTION:
    return (double)(f->result_ns - f->enqueued_ns) / 1e6;
  case PHASE_WHOLE:
    return (double)(f->result_ns - f->sent_ns) / 1e6;
  }
  return -1;
}

static struct stats phase_stats(const struct load *load, enum phase phase, double *scratch) {
  size_t count = 0;
  for (int64_t i = 0; i < load->plan.iterations; i++) {
    double ms = phase_ms(&load->fetches[i], phase);
    if (ms >= 0) scratch[count++] = ms;
  }
  return stats_of(scratch, count);
}

static struct stats timing_stats(const struct load *load, int timing, double *scratch) {
  size_t count = 0;
  for (int64_t i = 0; i < load->timings_count; i++) {
    double ms = (double)load->timings[i * MESSAGE_TIMINGS + timing];
    if (ms >= 0) scratch[count++] = ms;
  }
  return stats_of(scratch, count);
}

static void run_finish(struct measure *m) {
  struct run *run = &m->found->runs[m->run_at];
  struct load *load = &m->load;
  int64_t used_ns[PROC_MAX], client_ns = proc_cpu_ns(getpid()) - m->client_cpu_ns;
  proc_sample(&m->found->procs, used_ns);
  m->loading = false;
  run->finished = true;
  run->iterations = load->plan.iterations;
  run->total_ms = (double)(load->end_ns - load->begin_ns) / 1e6;
  for (size_t i = 0; i < m->found->procs.count; i++)
    run->cpu_us[i] = (double)used_ns[i] / 1e3 / (double)run->iterations;
  run->client_cpu_us = (double)client_ns / 1e3 / (double)run->iterations;
  double *scratch = pf_alloc((size_t)run->iterations * sizeof(*scratch));
  run->enqueue_ms = phase_stats(load, PHASE_ENQUEUE, scratch);
  run->origin_enqueue_ms = phase_stats(load, PHASE_ORIGIN, scratch);
  run->execution_ms = phase_stats(load, PHASE_EXECUTION, scratch);
  run->whole_ms = phase_stats(load, PHASE_WHOLE, scratch);
  for (int i = 0; i < MESSAGE_TIMINGS && load->timings; i++)
    run->timings_ms[i] = timing_stats(load, i, scratch);
  free(scratch);
  run->timings_count = load->timings_count;
  run->sums_wrong = load->sums_wrong;
  run->reused = load->reused;
  run->faults = load->faults;
  load_done(load);
}

static void run_ended(struct measure *m) {
  run_finish(m);
  if (++m->run_at < m->found->run_count)
    run_begin(m);
  else
    measure_next(m);
}

/* ---- round trips ---- */

static void ping_send(struct measure *m) {
  m->asked_ns = pf_clock_mono_ns();
  if (m->found->round_trip_by_frame)
    ws_session_ping(&m->ws);
  else
    ws_session_send(&m->ws, pf_slice_str("{\"type\":\"ping\",\"id\":1}"));
}

static void ping_answered(struct measure *m) {
  double ms = (double)(pf_clock_mono_ns() - m->asked_ns) / 1e6;
  if (m->step == STEP_LAST_WORD) {
    measure_next(m);
    return;
  }
  if (m->step != STEP_ROUND_TRIP) return;
  if (m->sample_count == ROUND_TRIPS) {
    m->found->round_trip_ms = stats_of(m->samples + 1, ROUND_TRIPS - 1);
    measure_next(m);
    return;
  }
  m->samples[m->sample_count++] = ms;
  ping_send(m);
}

/* A server that does not know the message answers with an error, or with nothing at all: see tick.
 */
static void ping_by_frame(struct measure *m) {
  m->found->round_trip_by_frame = true;
  m->sample_count = 0;
  ping_send(m);
}

/* ---- the connection ---- */

/* All fetches have had their results, so this one repeats something. */
static void fault_after_all(struct measure *m) {
  struct load_faults *faults = &m->found->runs[m->found->run_count - 1].faults;
  faults->strange++;
  if (!faults->first[0])
    snprintf(faults->first, sizeof(faults->first), "a message after the end of all fetches");
}

static void ws_on_text(void *arg, struct pf_slice text) {
  struct measure *m = arg;
  struct pf_error why = {0};
  struct message message;
  pf_arena_clear(&m->arena);
  if (message_decode(&message, text, &m->arena, &why)) {
    if (m->loading)
      load_on_garbage(&m->load, why.text);
    else if (m->step != STEP_END)
      measure_fail(m, "the server sent what is no message", why.text);
    return;
  }
  if (ws_session_take(&m->ws, &message)) return;
  if (m->loading)
    load_on_message(&m->load, &message, pf_clock_mono_ns());
  else if (message.type == MESSAGE_PONG)
    ping_answered(m);
  else if (message.type == MESSAGE_ERROR && m->step == STEP_ROUND_TRIP)
    ping_by_frame(m);
  else if (message.type != MESSAGE_OTHER && m->step == STEP_LAST_WORD)
    fault_after_all(m);
  if (m->loading && load_ended(&m->load)) run_ended(m);
}

static void ws_on_pong(void *arg) {
  struct measure *m = arg;
  if (m->found->round_trip_by_frame) ping_answered(m);
}

static void ws_on_ready(void *arg) {
  struct measure *m = arg;
  bool again = m->connected;
  m->connected = true;
  if (m->plan->session && !m->ws.token[0])
    measure_fail(m, m->found->server, "the server has no sessions; measure it without --session");
  else if (again && m->loading)
    load_resend(&m->load);
  else if (!again || m->step == STEP_ROUND_TRIP || m->step == STEP_LAST_WORD)
    ping_send(m);
}

static void ws_on_owed(void *arg, int64_t most) {
  struct measure *m = arg;
  if (m->loading) load_check_owed(&m->load, most);
}

static void ws_on_lost(void *arg, const char *why) {
  struct measure *m = arg;
  progress_clear(m);
  fprintf(stderr, "proxyfetch measure: %s: %s; trying to get the connection back\n",
      m->found->server, why);
}

static void ws_on_closed(void *arg, const char *why) {
  struct measure *m = arg;
  if (m->step == STEP_END) return;
  if (m->loading) {
    load_abandon(&m->load, pf_clock_mono_ns());
    run_finish(m);
  }
  measure_fail(m, m->found->server, why);
}

/* ---- direct fetches and processes ---- */

static void direct_send(struct measure *m);

static void direct_done(struct http_call *call) {
  struct measure *m = call->arg;
  double ms = (double)(pf_clock_mono_ns() - m->asked_ns) / 1e6;
  if (m->step != STEP_DIRECT) return;
  if (call->err) {
    snprintf(m->found->direct_problem, sizeof(m->found->direct_problem), "%s",
        call->error[0] ? call->error : pf_err_text(call->err));
  } else if (m->sample_count++ == 0) {
    m->found->direct_first_ms = ms;
  } else {
    m->samples[m->sample_count - 2] = ms;
  }
  m->direct_total_ms += ms;
  bool enough = m->sample_count > DIRECT_FETCHES ||
                (m->sample_count > 1 && m->direct_total_ms > DIRECT_MS_MAX);
  if (!call->err && !enough) {
    direct_send(m);
    return;
  }
  if (!call->err) m->found->direct_ms = stats_of(m->samples, m->sample_count - 1);
  measure_next(m);
}

static void direct_send(struct measure *m) {
  m->call =
      (struct http_call){.method = "GET", .url = m->found->target, .done = direct_done, .arg = m};
  m->asked_ns = pf_clock_mono_ns();
  http_start(m->http, &m->call);
}

static void health_done(struct http_call *call) {
  struct measure *m = call->arg;
  if (m->step != STEP_PROCESSES) return;
  if (!call->err) proc_add_answered(&m->found->procs, pf_buf_view(&call->response));
  measure_next(m);
}

static void health_send(struct measure *m) {
  ws_url_http(&m->plan->server, "/health", m->health_url, sizeof(m->health_url));
  m->call =
      (struct http_call){.method = "GET", .url = m->health_url, .done = health_done, .arg = m};
  http_start(m->http, &m->call);
}

/* ---- step by step ---- */

static void measure_next(struct measure *m) {
  m->sample_count = 0;
  switch (m->step) {
  case STEP_ROUND_TRIP:
    m->step = STEP_DIRECT;
    direct_send(m);
    break;
  case STEP_DIRECT:
    m->step = STEP_PROCESSES;
    if (m->plan->find_processes) {
      health_send(m);
      break;
    }
    /* fall through */
  case STEP_PROCESSES:
    m->step = STEP_RUNS;
    run_begin(m);
    break;
  case STEP_RUNS: /* an answer to a ping comes behind all that the server had still to say */
    m->step = STEP_LAST_WORD;
    ping_send(m);
    break;
  case STEP_LAST_WORD:
    measure_end(m, PF_EXIT_OK);
    break;
  case STEP_END:
    break;
  }
}

static void progress_show(struct measure *m, int64_t now_ns) {
  if (!m->plan->progress || !m->loading) return;
  static const char *const kinds[] = {"first fetch", "burst of", "in flight", "with timings"};
  const struct run *run = &m->found->runs[m->run_at];
  double seconds = (double)(now_ns - m->load.begin_ns) / 1e9;
  fprintf(stderr, "\r\033[K[%zu/%zu] %s %lld: %lld of %lld fetches, %.0f/s", m->run_at + 1,
      m->found->run_count, kinds[run->kind], (long long)run->concurrency, (long long)m->load.ended,
      (long long)m->load.plan.iterations, seconds > 0 ? (double)m->load.ended / seconds : 0);
  m->on_line = true;
}

static void tick_on_timer(uv_timer_t *timer) {
  struct measure *m = timer->data;
  int64_t now_ns = pf_clock_mono_ns(), patience_ns = m->plan->timeout_ms * 1000000;
  progress_show(m, now_ns);
  if (m->loading && now_ns - m->load.progress_ns > patience_ns) {
    load_abandon(&m->load, now_ns);
    run_finish(m);
    measure_fail(m, "nothing has ended for too long", "--timeout-ms");
  } else if ((m->step == STEP_ROUND_TRIP || m->step == STEP_LAST_WORD) && m->asked_ns &&
             now_ns - m->asked_ns > patience_ns) {
    measure_fail(m, m->found->server, "no answer to a ping");
  } else if (m->step == STEP_ROUND_TRIP && m->asked_ns && !m->found->round_trip_by_frame &&
             now_ns - m->asked_ns > INT64_C(2000000000)) {
    ping_by_frame(m);
  }
}

static void measure_go(struct measure *m) {
  struct ws_session_config config = {.url = &m->plan->server,
      .plain = !m->plan->session,
      .reconnect_ms = m->plan->timeout_ms,
      .ack_every = ACK_EVERY,
      .arg = m,
      .ready = ws_on_ready,
      .text = ws_on_text,
      .pong = ws_on_pong,
      .owed = ws_on_owed,
      .lost = ws_on_lost,
      .closed = ws_on_closed};
  PF_ASSERT(uv_loop_init(&m->loop) == 0 && uv_timer_init(&m->loop, &m->tick) == 0);
  m->tick.data = m;
  PF_ASSERT(uv_timer_start(&m->tick, tick_on_timer, TICK_MS, TICK_MS) == 0);
  PF_ASSERT(http_new(&m->http, &m->loop) == PF_OK);
  pf_signals_open(&m->signals, &m->loop, measure_on_signal, m);
  snprintf(
      m->submit_key, sizeof(m->submit_key), "%016llx", (unsigned long long)pf_rand_secret_u64());
  ws_session_open(&m->ws, &m->loop, &config);
  uv_run(&m->loop, UV_RUN_DEFAULT);
  pf_signals_close(&m->signals);
  uv_run(&m->loop, UV_RUN_DEFAULT);
  PF_ASSERT(uv_loop_close(&m->loop) == 0);
}

int measurement_run(const struct measurement_plan *plan, struct measurement *found) {
  struct measure *m = pf_alloc(sizeof(*m));
  m->plan = plan;
  m->found = found;
  measure_go(m);
  int code = m->exit_code;
  pf_arena_done(&m->arena);
  free(m);
  return code;
}
