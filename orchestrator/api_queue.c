#include "orchestrator/api_queue.h"

#include "wire/json.h"

#define US_PER_MS 1000.0
#define NS_PER_MS 1000000.0

static void put_count(struct json_writer *w, const char *name, uint64_t value) {
  json_put_int(w, name, (int64_t)value);
}

static void print_executor(const struct queue_executor_info *info, void *arg) {
  struct json_writer *w = arg;
  json_begin_object(w, NULL);
  json_put_hex64(w, "executor", info->executor);
  json_put_hex64(w, "incarnation", info->incarnation);
  json_put_text(w, "url", info->url);
  json_put_int(w, "slots", info->slots);
  json_put_int(w, "free", info->free);
  json_put_int(w, "leased", info->leased);
  json_put_ms(w, "silentMs", (double)info->silent_us / US_PER_MS);
  json_put_bool(w, "leaving", info->leaving);
  json_end_object(w);
}

static void print_origin(const struct queue_origin_info *info, void *arg) {
  struct json_writer *w = arg;
  json_begin_object(w, NULL);
  json_put_hex64(w, "origin", info->origin);
  json_put_hex64(w, "epoch", info->epoch);
  json_put_text(w, "url", info->url);
  json_put_hex64(w, "low", info->low);
  json_put_int(w, "jobs", info->jobs);
  json_put_ms(w, "silentMs", (double)info->silent_us / US_PER_MS);
  json_end_object(w);
}

static void print_counters(struct json_writer *w, const struct queue_stats *stats) {
  json_begin_object(w, "counters");
  put_count(w, "inserted", stats->inserted);
  put_count(w, "known", stats->known);
  put_count(w, "doneAgain", stats->done_again);
  put_count(w, "lost", stats->lost);
  put_count(w, "full", stats->full);
  put_count(w, "dispatched", stats->dispatched);
  put_count(w, "redispatched", stats->redispatched);
  put_count(w, "fullAnswers", stats->full_answers);
  put_count(w, "delivered", stats->delivered);
  put_count(w, "retried", stats->retried);
  put_count(w, "ended", stats->ended);
  put_count(w, "undelivered", stats->undelivered);
  put_count(w, "abandoned", stats->abandoned);
  put_count(w, "leasesLost", stats->leases_lost);
  put_count(w, "executorsLost", stats->executors_lost);
  put_count(w, "exhausted", stats->exhausted);
  put_count(w, "poisoned", stats->poisoned);
  put_count(w, "queueTimeouts", stats->queue_timeouts);
  put_count(w, "started", stats->started);
  put_count(w, "startRefused", stats->start_refused);
  put_count(w, "aborts", stats->aborts);
  json_end_object(w);
}

static void print_store(struct json_writer *w, struct queue_db *db) {
  struct store_stats stats;
  store_read_stats(queue_db_store(db), &stats);
  json_begin_object(w, "store");
  put_count(w, "groups", stats.groups);
  put_count(w, "requests", stats.requests);
  put_count(w, "groupMax", stats.group_max);
  put_count(w, "waiting", stats.waiting);
  json_put_ms(w, "commitMs",
      stats.groups ? (double)stats.commit_ns_total / (double)stats.groups / NS_PER_MS : 0);
  json_put_ms(w, "commitMsMax", (double)stats.commit_ns_max / NS_PER_MS);
  json_put_int(w, "walBytes", stats.wal_bytes);
  json_end_object(w);
}

void api_queue_print(
    struct pf_buf *buf, const struct queue *queue, struct queue_db *db, int64_t now_us) {
  struct queue_stats stats;
  queue_read_stats(queue, now_us, &stats);
  struct json_writer w = json_writer(buf);
  json_begin_object(&w, NULL);
  json_put_hex64(&w, "epoch", queue_epoch(queue));
  put_count(&w, "jobs", stats.jobs);
  json_begin_object(&w, "states");
  for (int i = 0; i < JOB_STATE_COUNT; i++)
    put_count(&w, job_state_names[i], stats.by_state[i]);
  json_end_object(&w);
  json_put_ms(&w, "oldestReadyMs", (double)stats.oldest_ready_us / US_PER_MS);
  json_put_bool(&w, "loading", stats.loading);
  put_count(&w, "requestBytes", stats.request_bytes);
  put_count(&w, "slots", stats.slots);
  put_count(&w, "freeSlots", stats.free_slots);
  put_count(&w, "hosts", stats.hosts);
  print_counters(&w, &stats);
  print_store(&w, db);
  json_begin_array(&w, "executors");
  queue_each_executor(queue, now_us, print_executor, &w);
  json_end_array(&w);
  json_begin_array(&w, "origins");
  queue_each_origin(queue, now_us, print_origin, &w);
  json_end_array(&w);
  json_end_object(&w);
}

static void print_undelivered(const struct queue_undelivered_info *info, void *arg) {
  struct json_writer *w = arg;
  char id[PF_ID_TEXT];
  pf_job_id_print(id, info->job);
  json_begin_object(w, NULL);
  json_put_text(w, "reqId", id);
  json_put_text(w, "code", outcome_code(info->outcome));
  json_put_text(w, "certainty", certainty_name(info->certainty));
  json_put_int(w, "attempts", info->attempt);
  json_put_text(w, "error", info->detail ? info->detail : outcome_text(info->outcome));
  json_put_ms(w, "originSilentMs", (double)info->silent_us / US_PER_MS);
  json_end_object(w);
}

void api_undelivered_print(struct pf_buf *buf, const struct queue *queue, int64_t now_us) {
  struct queue_stats stats;
  queue_read_stats(queue, now_us, &stats);
  struct json_writer w = json_writer(buf);
  json_begin_object(&w, NULL);
  put_count(&w, "total", stats.by_state[JOB_EXHAUSTED]);
  json_begin_array(&w, "jobs");
  queue_each_undelivered(queue, now_us, API_UNDELIVERED_MAX, print_undelivered, &w);
  json_end_array(&w);
  json_end_object(&w);
}
