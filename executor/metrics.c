#include "executor/metrics.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "executor/control.h"
#include "executor/job.h"
#include "web/health.h"

static void print_family(struct pf_buf *buf, const char *name, const char *help, const char *label,
    const char *const *values, const uint64_t *counts) {
  metrics_family(buf, name, "counter", help);
  for (size_t i = 0; values[i]; i++)
    metrics_sample(buf, name, label, values[i], (double)counts[i]);
}

static void print_jobs(const struct app *app, struct pf_buf *buf) {
  const struct app_stats *stats = &app->stats;
  metrics_family(buf, "pf_jobs", "gauge", "Jobs held, by state.");
  for (int i = 0; i < JOB_STATES; i++)
    metrics_sample(buf, "pf_jobs", "state", job_state_names[i], (double)app->job_count[i]);
  print_family(buf, "pf_dispatches_total", "Dispatches, by the answer they got.", "answer",
      hop_execute_answers, stats->dispatches);
  metrics_family(buf, "pf_attempts_total", "counter",
      "Fetches that ended, by their code (docs/errors.md); policy_refused: by the egress rules.");
  for (int i = 0; i < OUTCOME_COUNT; i++)
    metrics_sample(buf, "pf_attempts_total", "code", outcome_code((enum outcome)i),
        (double)stats->attempts[i]);
  print_family(
      buf, "pf_starts_total", "Answers to START.", "answer", hop_start_answers, stats->starts);
  metrics_counter(buf, "pf_retries_total", "Failures left to another attempt.", stats->retries);
  metrics_counter(buf, "pf_aborted_total", "Jobs dropped because the queue wants them no more.",
      stats->aborted);
  metrics_counter(
      buf, "pf_lapsed_total", "Jobs dropped because the lease had run out.", stats->lapsed);
  metrics_gauge(buf, "pf_slots", "Jobs that can be held.", (double)app->slots);
  metrics_gauge(buf, "pf_slots_free", "Jobs that can be taken now.", (double)job_slots_free(app));
  metrics_gauge(buf, "pf_seen_epochs", "Queues whose dispatches are remembered.",
      (double)seen_epochs(&app->seen));
}

static void print_results(const struct app *app, struct pf_buf *buf) {
  const struct app_stats *stats = &app->stats;
  struct results_stats results;
  results_read_stats(app->results, &results);
  print_family(buf, "pf_deliveries_total", "Results that an origin has answered, by the answer.",
      "answer", hop_result_answers, stats->deliveries);
  metrics_counter(buf, "pf_delivery_failures_total",
      "Results that have to be sent again: no answer, another origin, or not now.",
      results.failures);
  metrics_counter(buf, "pf_undelivered_total",
      "Results given up, because their origin did not take them in time.", stats->undelivered);
  metrics_gauge(
      buf, "pf_results_held", "Results that no origin has taken yet.", (double)results.held);
  metrics_gauge(buf, "pf_results_parked", "Those of them that wait before they are sent again.",
      (double)results.parked);
  metrics_gauge(buf, "pf_body_bytes", "Bytes of answers held in memory.",
      (double)fetch_buffered(app->engine));
  metrics_counter(buf, "pf_report_failures_total", "Reports to the queue that have to be repeated.",
      stats->report_failures);
}

static void print_network(const struct app *app, struct pf_buf *buf) {
  struct fetch_stats stats;
  fetch_read_stats(app->engine, &stats);
  metrics_gauge(buf, "pf_transfers", "Exchanges with targets under way.", (double)stats.transfers);
  metrics_gauge(buf, "pf_target_connections", "Connections to targets, idle ones included.",
      (double)stats.sockets);
  metrics_counter(
      buf, "pf_target_connections_opened_total", "Sockets opened to targets.", stats.opened);
  metrics_counter(buf, "pf_target_connections_reused_total",
      "Requests sent on a connection that had been used before.", stats.reused);
  metrics_counter(buf, "pf_dns_lookups_total", "Look-ups started.", stats.dns.started);
  metrics_counter(buf, "pf_dns_failures_total", "Look-ups that failed.", stats.dns.failed);
  metrics_gauge(
      buf, "pf_dns_running", "Look-ups under way, each on a thread.", (double)stats.dns.running);
  metrics_gauge(buf, "pf_dns_queued", "Names that wait for their look-up to start.",
      (double)stats.dns.queued);
}

static void print_control(const struct app *app, struct pf_buf *buf) {
  metrics_gauge(buf, "pf_heartbeat_age_seconds",
      "Since the last heartbeat that the orchestrator answered was sent; -1: none yet.",
      (double)control_heartbeat_age_ms(app) / 1e3);
  metrics_counter(buf, "pf_heartbeat_failures_total", "Heartbeats without a good answer.",
      app->stats.heartbeat_failures);
  metrics_counter(buf, "pf_lease_lapses_total",
      "Times the lease had run out before it was renewed.", app->lease.lapses);
  metrics_counter(buf, "pf_invariant_failures_total",
      "Broken invariants seen at run time; must stay 0.", app->stats.invariant_failures);
}

void executor_print_metrics(struct app *app, struct pf_buf *buf) {
  job_check(app);
  print_jobs(app, buf);
  print_results(app, buf);
  print_network(app, buf);
  print_control(app, buf);
  pf_lag_print(&app->lag, buf);
  web_print_metrics(app->web, buf);
  metrics_process(buf);
}

/* ---- health ---- */

static void report_orchestrator(const struct app *app, struct health *h) {
  struct json_writer *w = &h->json;
  int64_t since_ms;
  bool reached = control_reached(app, &since_ms);
  json_begin_object(w, "orchestrator");
  json_put_text(w, "url", app->config.orchestrator);
  json_put_bool(w, "reachable", reached);
  json_put_int(w, "sinceMs", since_ms);
  json_put_int(w, "heartbeatAgeMs", control_heartbeat_age_ms(app));
  json_end_object(w);
  if (!app_may_act(app))
    health_reason(h, HEALTH_FAILING, "lease_over",
        "no heartbeat was answered within --lease-ms; no request leaves");
  else if (!reached)
    health_reason(h, HEALTH_DEGRADED, "orchestrator_unreachable",
        "no answer for %lld ms; the lease still holds", (long long)since_ms);
}

static void report_jobs(const struct app *app, struct health *h) {
  struct json_writer *w = &h->json;
  struct results_stats results;
  results_read_stats(app->results, &results);
  size_t slots_free = job_slots_free(app);
  json_begin_object(w, "jobs");
  for (int i = 0; i < JOB_STATES; i++)
    json_put_int(w, job_state_names[i], (int64_t)app->job_count[i]);
  json_end_object(w);
  json_put_int(w, "slots", (int64_t)app->slots);
  json_put_int(w, "slotsFree", (int64_t)slots_free);
  json_put_int(w, "resultsParked", (int64_t)results.parked);
  json_put_int(w, "bodyBytes", (int64_t)fetch_buffered(app->engine));
  if (app->draining)
    health_reason(h, HEALTH_DEGRADED, "draining", "the process is about to end");
  else if (slots_free == 0)
    health_reason(h, HEALTH_DEGRADED, "no_free_slot",
        "all slots are taken, or answers fill --buffer-max; no job is taken");
  if (results.parked)
    health_reason(h, HEALTH_DEGRADED, "results_wait",
        "%zu results wait for their origins to take them", results.parked);
}

void executor_report_health(struct app *app, struct health *h, struct pf_buf *buf) {
  job_check(app);
  health_begin(h, buf, "executor", pf_clock_mono_ms() - app->opened_ms);
  report_orchestrator(app, h);
  report_jobs(app, h);
  health_check_loop(h, pf_lag_max_ns(&app->lag), app->stats.invariant_failures);
  health_end(h);
}
