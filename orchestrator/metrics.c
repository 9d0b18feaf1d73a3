#include "orchestrator/metrics.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "orchestrator/app.h"
#include "store/metrics.h"
#include "web/health.h"

#define US_PER_S 1000000.0

static void print_inserts(struct pf_buf *buf, const struct queue_stats *stats) {
  static const char name[] = "pf_announcements_total";
  metrics_family(buf, name, "counter", "Announced jobs, by the answer they got.");
  metrics_sample(buf, name, "answer", "queued", (double)stats->inserted);
  metrics_sample(buf, name, "answer", "known", (double)stats->known);
  metrics_sample(buf, name, "answer", "done", (double)stats->done_again);
  metrics_sample(buf, name, "answer", "lost", (double)stats->lost);
  metrics_sample(buf, name, "answer", "full", (double)stats->full);
}

static void print_ends(struct pf_buf *buf, const struct queue_stats *stats) {
  static const char name[] = "pf_job_ends_total";
  metrics_family(buf, name, "counter", "Jobs that ended here, by how.");
  metrics_sample(buf, name, "how", "delivered", (double)stats->delivered);
  metrics_sample(buf, name, "how", "ended", (double)stats->ended);
  metrics_sample(buf, name, "how", "exhausted", (double)stats->exhausted);
  metrics_counter(buf, "pf_undelivered_total",
      "Results that executors gave up, because their origin did not take them in time.",
      stats->undelivered);
  metrics_counter(buf, "pf_abandoned_total",
      "Jobs dropped after --undelivered-keep-ms of silence of their origin.", stats->abandoned);
  metrics_counter(
      buf, "pf_queue_timeouts_total", "Jobs that no executor took in time.", stats->queue_timeouts);
  metrics_counter(
      buf, "pf_poisoned_total", "Jobs that took several executors down.", stats->poisoned);
}

static void print_dispatches(struct pf_buf *buf, const struct queue_stats *stats) {
  metrics_counter(buf, "pf_dispatches_total", "Leases granted.", stats->dispatched);
  metrics_counter(buf, "pf_redispatches_total", "Leases granted to jobs that had had one.",
      stats->redispatched);
  metrics_counter(buf, "pf_retries_total", "Failed attempts that are made again.", stats->retried);
  metrics_counter(buf, "pf_full_answers_total", "Dispatches that an executor had no room for.",
      stats->full_answers);
  metrics_counter(
      buf, "pf_leases_lost_total", "Leases that ended without an answer.", stats->leases_lost);
  metrics_counter(buf, "pf_executors_lost_total", "Executors that fell silent or were replaced.",
      stats->executors_lost);
  metrics_counter(buf, "pf_starts_total", "START granted.", stats->started);
  metrics_counter(buf, "pf_starts_refused_total", "START refused.", stats->start_refused);
  metrics_counter(
      buf, "pf_aborts_total", "Transfers that executors were told to drop.", stats->aborts);
}

static void print_now(struct pf_buf *buf, const struct queue_stats *stats) {
  metrics_family(buf, "pf_jobs", "gauge", "Jobs that are not done, by state.");
  for (int i = 0; i < JOB_STATE_COUNT; i++)
    metrics_sample(buf, "pf_jobs", "state", job_state_names[i], (double)stats->by_state[i]);
  metrics_gauge(buf, "pf_oldest_ready_seconds", "Age of the oldest job that waits for a slot.",
      (double)stats->oldest_ready_us / US_PER_S);
  metrics_gauge(buf, "pf_request_bytes", "Requests kept in memory.", (double)stats->request_bytes);
  metrics_gauge(buf, "pf_executors", "Executors that are alive.", (double)stats->executors);
  metrics_gauge(buf, "pf_slots", "Slots of all executors.", (double)stats->slots);
  metrics_gauge(buf, "pf_slots_free", "Slots that can take a job.", (double)stats->free_slots);
  metrics_gauge(buf, "pf_origins", "Origins that are known.", (double)stats->origins);
  metrics_gauge(buf, "pf_origins_silent",
      "Origins with jobs here that have not been heard of for five minutes.",
      (double)stats->silent_origins);
  metrics_gauge(buf, "pf_target_hosts", "Hosts that jobs are for.", (double)stats->hosts);
}

void orchestrator_print_metrics(struct app *app, struct pf_buf *buf) {
  struct queue_stats stats;
  int64_t now_us = app_now_us();
  queue_read_stats(app->queue, now_us, &stats);
  app_check(app);
  print_now(buf, &stats);
  print_inserts(buf, &stats);
  print_dispatches(buf, &stats);
  print_ends(buf, &stats);
  metrics_counter(buf, "pf_invariant_failures_total",
      "Broken invariants seen at run time; must stay 0.", app->invariant_failures);
  pf_lag_print(&app->lag, buf);
  store_print_metrics(queue_db_store(app->db), buf);
  web_print_metrics(app->web, buf);
  metrics_process(buf);
}

/* ---- health ---- */

static void report_queue(const struct app *app, struct health *h, const struct queue_stats *stats) {
  struct json_writer *w = &h->json;
  json_begin_object(w, "queue");
  for (int i = 0; i < JOB_STATE_COUNT; i++)
    json_put_int(w, job_state_names[i], (int64_t)stats->by_state[i]);
  json_put_int(w, "oldestReadyMs", stats->oldest_ready_us / 1000);
  json_end_object(w);
  if (stats->loading)
    health_reason(h, HEALTH_DEGRADED, "loading", "jobs of earlier runs are still being read");
  if ((int64_t)stats->jobs >= app->config.queue_max)
    health_reason(h, HEALTH_DEGRADED, "queue_full", "--queue-max is reached; new jobs are put off");
}

static void report_executors(struct health *h, const struct queue_stats *stats) {
  struct json_writer *w = &h->json;
  json_put_int(w, "origins", (int64_t)stats->origins);
  json_put_int(w, "originsSilent", (int64_t)stats->silent_origins);
  json_put_int(w, "executors", (int64_t)stats->executors);
  json_put_int(w, "slots", (int64_t)stats->slots);
  json_put_int(w, "slotsFree", (int64_t)stats->free_slots);
  if (stats->silent_origins > 0)
    health_reason(h, HEALTH_DEGRADED, "origin_silent",
        "%llu origins with jobs here have not been heard of for %d s: proxyfetch jobs origins",
        (unsigned long long)stats->silent_origins, QUEUE_ORIGIN_SILENT_MS / 1000);
  if (stats->executors == 0)
    health_reason(h, HEALTH_DEGRADED, "no_executor", "no executor is alive; jobs wait");
  else if (stats->free_slots == 0)
    health_reason(h, HEALTH_DEGRADED, "no_free_slot", "all %llu slots are taken; jobs wait",
        (unsigned long long)stats->slots);
}

void orchestrator_report_health(struct app *app, struct health *h, struct pf_buf *buf) {
  struct queue_stats stats;
  app_check(app);
  queue_read_stats(app->queue, app_now_us(), &stats);
  health_begin(h, buf, "orchestrator", pf_clock_mono_ms() - app->opened_ms);
  report_queue(app, h, &stats);
  report_executors(h, &stats);
  store_report_health(queue_db_store(app->db), h);
  health_check_loop(h, pf_lag_max_ns(&app->lag), app->invariant_failures);
  health_end(h);
}
