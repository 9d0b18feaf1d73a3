#include "store/metrics.h"

#include "base/metrics.h"

#define NS_PER_MS 1e6

void store_print_metrics(const struct store *store, struct pf_buf *buf) {
  struct store_stats stats;
  store_read_stats(store, &stats);
  metrics_counter(buf, "pf_store_groups_total", "Group commits.", stats.groups);
  metrics_counter(buf, "pf_store_requests_total", "Requests committed.", stats.requests);
  metrics_family(buf, "pf_store_commit_seconds_total", "counter", "Time spent in group commits.");
  pf_buf_printf(buf, "pf_store_commit_seconds_total %.6f\n", (double)stats.commit_ns_total / 1e9);
  metrics_gauge(buf, "pf_store_commit_seconds_max", "Longest group commit.",
      (double)stats.commit_ns_max / 1e9);
  metrics_gauge(buf, "pf_store_group_max", "Most requests in one group.", (double)stats.group_max);
  metrics_gauge(buf, "pf_store_waiting", "Requests waiting for a group.", (double)stats.waiting);
  metrics_counter(buf, "pf_store_checkpoints_total", "Checkpoints of the log.", stats.checkpoints);
  metrics_gauge(buf, "pf_store_wal_bytes", "Size of the write-ahead log.", (double)stats.wal_bytes);
  metrics_gauge(buf, "pf_store_wal_ready_bytes", "Length of its file, written ahead.",
      (double)stats.wal_ready_bytes);
  metrics_gauge(buf, "pf_store_space_low",
      "1 while the disk is nearly full and new work is refused.", store_space_low(store));
}

void store_report_health(const struct store *store, struct health *health) {
  struct json_writer *w = &health->json;
  struct store_stats stats;
  bool low = store_space_low(store);
  store_read_stats(store, &stats);
  json_begin_object(w, "store");
  json_put_bool(w, "spaceLow", low);
  json_put_ms(w, "commitMsMean",
      stats.groups ? (double)stats.commit_ns_total / (double)stats.groups / NS_PER_MS : 0);
  json_put_ms(w, "commitMsMax", (double)stats.commit_ns_max / NS_PER_MS);
  json_put_int(w, "waiting", (int64_t)stats.waiting);
  json_put_int(w, "walBytes", stats.wal_bytes);
  json_end_object(w);
  if (low)
    health_reason(health, HEALTH_DEGRADED, "disk_full",
        "less disk is free than --disk-reserve; new work is refused");
}
