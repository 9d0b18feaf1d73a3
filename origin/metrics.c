#include "origin/metrics.h"

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
  metrics_gauge(
      buf, "pf_results_kept", "Finished jobs that can be read.", (double)core->result_rows);
  metrics_gauge(
      buf, "pf_announcements_in_flight", "Announcements without an answer yet.", core->announcing);
  metrics_gauge(
      buf, "pf_queue_reachable", "1 while the orchestrator answers.", core->announce_retry_ms == 0);
}

void origin_print_metrics(const struct origin *origin, struct pf_buf *buf) {
  print_core(&origin->core, buf);
  pf_lag_print(&origin->lag, buf);
  store_print_metrics(origin->store, buf);
  web_print_metrics(origin->web, buf);
  metrics_process(buf);
}
