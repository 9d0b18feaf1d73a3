#include "origin/metrics.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "store/metrics.h"
#include "web/health.h"

static const char *const state_names[JOB_STATE_COUNT] = {
    [JOB_COMMITTING] = "committing",
    [JOB_PENDING] = "pending",
    [JOB_RECEIVED] = "received",
    [JOB_RUNNABLE] = "runnable",
    [JOB_FINISHING] = "finishing",
    [JOB_PARKED] = "parked",
};

static void print_core(const struct core *core, struct pf_buf *buf) {
  const struct core_stats *stats = &core->stats;
  metrics_family(buf, "pf_jobs", "gauge", "Jobs that are not done, by state.");
  for (int i = 0; i < JOB_STATE_COUNT; i++)
    metrics_sample(buf, "pf_jobs", "state", state_names[i], (double)core->job_count[i]);
  metrics_gauge(
      buf, "pf_outbox", "Jobs that the queue has not accepted yet.", (double)core_outbox(core));
  metrics_gauge(buf, "pf_oldest_job_seconds", "Age of the oldest job that is not done.",
      (double)core_oldest_ms(core) / 1e3);
  metrics_family(buf, "pf_results_total", "counter", "Results taken, by what became of them.");
  metrics_sample(buf, "pf_results_total", "outcome", "ok", (double)stats->results_ok);
  metrics_sample(buf, "pf_results_total", "outcome", "failed", (double)stats->results_failed);
  metrics_sample(buf, "pf_results_total", "outcome", "duplicate", (double)stats->duplicates);
  metrics_sample(buf, "pf_results_total", "outcome", "stale", (double)stats->stale);
  metrics_sample(buf, "pf_results_total", "outcome", "late", (double)stats->late);
  metrics_sample(buf, "pf_results_total", "outcome", "unknown", (double)stats->unknown);
  metrics_counter(buf, "pf_fetches_total", "Fetches that actors asked for.", stats->fetches);
  metrics_counter(buf, "pf_enqueued_total", "Fetches that the queue accepted.", stats->enqueued);
  metrics_counter(buf, "pf_turns_total", "Turns of actors.", stats->turns);
  metrics_counter(
      buf, "pf_turns_undone_total", "Turns that failed and were undone.", stats->turns_undone);
  metrics_counter(
      buf, "pf_parked_total", "Jobs parked because their continuation cannot run.", stats->parked);
  metrics_counter(buf, "pf_commits_total", "Commits that became durable.", stats->commits);
  metrics_counter(buf, "pf_invariant_failures_total",
      "Broken invariants seen at run time; must stay 0.", stats->invariant_failures);
  metrics_gauge(buf, "pf_actors_resident", "Actors in memory.", (double)core->actors_by_id.count);
  metrics_gauge(buf, "pf_sessions", "Sessions that clients may return to.",
      (double)core->sessions_by_id.count);
  metrics_counter(buf, "pf_sessions_evicted_total",
      "Idle sessions that went before their time, for a new one.", stats->sessions_evicted);
  metrics_counter(buf, "pf_sessions_expired_total",
      "Sessions that went because their clients did not return.", stats->sessions_expired);
  metrics_gauge(buf, "pf_submit_keys", "Submit keys remembered.", (double)core->submit_rows);
  metrics_counter(buf, "pf_submit_keys_forgotten_total", "Submit keys whose time had passed.",
      stats->submits_forgotten);
  metrics_gauge(buf, "pf_endings", "Jobs ended here whose end the queue has not confirmed.",
      (double)core_endings(core));
  metrics_gauge(
      buf, "pf_results_kept", "Finished jobs that can be read.", (double)core->result_rows);
  metrics_gauge(buf, "pf_results_kept_bytes", "Bytes of them, messages and bodies.",
      (double)core->result_bytes);
  metrics_counter(buf, "pf_results_forgotten_total",
      "Finished jobs that went, by their age or for want of room.", stats->results_forgotten);
  metrics_gauge(
      buf, "pf_announcements_in_flight", "Announcements without an answer yet.", core->announcing);
}

void origin_print_metrics(const struct origin *origin, struct pf_buf *buf) {
  print_core(&origin->core, buf);
  metrics_gauge(
      buf, "pf_queue_reachable", "1 while the orchestrator answers.", origin->queue_reached);
  pf_lag_print(&origin->lag, buf);
  store_print_metrics(origin->store, buf);
  web_print_metrics(origin->web, buf);
  metrics_process(buf);
}

/* ---- health ---- */

static void report_orchestrator(const struct origin *origin, struct health *h) {
  int64_t since_ms = pf_clock_mono_ms() - origin->queue_since_ms;
  json_begin_object(&h->json, "orchestrator");
  json_put_text(&h->json, "url", origin->config->orchestrator);
  json_put_bool(&h->json, "reachable", origin->queue_reached);
  json_put_int(&h->json, "sinceMs", since_ms);
  json_end_object(&h->json);
  if (!origin->queue_reached)
    health_reason(h, HEALTH_DEGRADED, "orchestrator_unreachable",
        "no answer for %lld ms; new fetches are kept until it answers", (long long)since_ms);
}

static void report_limits(const struct core *core, struct health *h) {
  if ((int64_t)core_pending(core) >= core->limits->pending_max)
    health_reason(h, HEALTH_DEGRADED, "busy", "--pending-max is reached; new fetches are refused");
  if ((int64_t)core->sessions_by_id.count >= core->limits->sessions_max &&
      core->idle_sessions.count == 0)
    health_reason(h, HEALTH_DEGRADED, "sessions_full",
        "--sessions-max is reached and none is idle; new sessions are refused");
  if (core->submit_rows >= core->limits->submit_count_max)
    health_reason(h, HEALTH_DEGRADED, "submit_keys_full",
        "--submit-count-max is reached; fetches with a new submitKey are refused");
}

static void report_jobs(const struct origin *origin, struct health *h) {
  const struct core *core = &origin->core;
  size_t parked = core->job_count[JOB_PARKED];
  json_begin_object(&h->json, "jobs");
  for (int i = 0; i < JOB_STATE_COUNT; i++)
    json_put_int(&h->json, state_names[i], (int64_t)core->job_count[i]);
  json_put_int(&h->json, "outbox", (int64_t)core_outbox(core));
  json_put_int(&h->json, "oldestMs", core_oldest_ms(core));
  json_end_object(&h->json);
  if (core->loading)
    health_reason(h, HEALTH_DEGRADED, "loading", "jobs of earlier runs are still being read");
  if (parked)
    health_reason(h, HEALTH_DEGRADED, "parked",
        "%zu jobs wait for an operator: proxyfetch jobs list --state parked", parked);
}

void origin_report_health(struct origin *origin, struct health *h, struct pf_buf *buf) {
  struct web_stats web;
  health_begin(h, buf, "origin", pf_clock_mono_ms() - origin->opened_ms);
  report_orchestrator(origin, h);
  report_jobs(origin, h);
  report_limits(&origin->core, h);
  store_report_health(origin->store, h);
  web_read_stats(origin->web, &web);
  json_put_int(&h->json, "connections", (int64_t)web.connections);
  json_put_int(&h->json, "sockets", (int64_t)web.sockets);
  health_check_loop(h, pf_lag_max_ns(&origin->lag), origin->core.stats.invariant_failures);
  health_end(h);
}
