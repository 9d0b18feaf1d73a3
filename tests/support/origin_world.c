#include "support/origin_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin/classes/classes.h"
#include "origin/origin_db.h"
#include "store/stmt.h"
#include "wire/batch.h"

struct store_item {
  struct pf_list link;
  struct commit *commit;
  struct lookup *lookup;
};

static void record_add(
    struct records *records, uint64_t id, int code, struct pf_slice text, struct pf_slice body) {
  PF_ASSERT(records->count < RECORDS_MAX);
  records->items[records->count++] = (struct record){
      id, code, pf_memdup(text.data, text.len), text.len, pf_memdup(body.data, body.len), body.len};
}

static void records_clear(struct records *records) {
  for (size_t i = 0; i < records->count; i++) {
    free(records->items[i].text);
    free(records->items[i].body);
  }
  records->count = 0;
}

/* ---- the edge ---- */

static void edge_commit(void *arg, struct commit *commit) {
  struct world *world = arg;
  struct store_item *item = pf_alloc(sizeof(*item));
  item->commit = commit;
  pf_list_push(&world->store, &item->link);
}

static void edge_lookup(void *arg, struct lookup *lookup) {
  struct world *world = arg;
  struct store_item *item = pf_alloc(sizeof(*item));
  item->lookup = lookup;
  pf_list_push(&world->store, &item->link);
}

static const struct pf_slice none = {0};

static void edge_send(void *arg, uint64_t ws, struct pf_slice text) {
  record_add(&((struct world *)arg)->frames, ws, 0, text, none);
}

static void edge_close(void *arg, uint64_t ws, int code, struct pf_slice reason) {
  record_add(&((struct world *)arg)->closes, ws, code, reason, none);
}

static void edge_respond(
    void *arg, uint64_t request, int status, const char *content_type, struct pf_slice body) {
  (void)content_type;
  record_add(&((struct world *)arg)->responses, request, status, body, none);
}

static void edge_announce(void *arg, uint64_t local, struct pf_slice head, struct pf_slice body) {
  record_add(&((struct world *)arg)->announcements, local, 0, head, body);
}

static bool edge_space_low(void *arg) {
  return ((struct world *)arg)->space_low;
}

static const struct origin_edge edge = {
    edge_commit, edge_lookup, edge_send, edge_close, edge_respond, edge_announce, edge_space_low};

/* ---- life ---- */

static void set_time(struct world *world) {
  core_set_time(
      &world->core, world->now_ms * 1000000, 1700000000000 + world->now_ms + world->wall_jump_ms);
}

static void add_session(void *arg, const struct session *session) {
  struct world *world = arg;
  core_add_session(&world->core, session);
}

static void start(struct world *world) {
  struct core_start first = {0};
  /* The sessions need a core to go to, so the row is read twice: as at a real start, the count of
   * starts is committed before anything else. */
  struct core_start ignored;
  core_init(&world->core, &edge, world, &world->limits, &world->log, world->classes, &first, 1);
  PF_ASSERT(origin_db_start(world->tables, &first, add_session, world) == PF_OK);
  core_done(&world->core);
  core_init(&world->core, &edge, world, &world->limits, &world->log, world->classes, &first, 1);
  PF_ASSERT(origin_db_start(world->tables, &ignored, add_session, world) == PF_OK);
  set_time(world);
  core_recover(&world->core);
}

void world_init(struct world *world, const struct actor_class *const *class_table) {
  memset(world, 0, sizeof(*world));
  world->classes = class_table ? class_table : classes;
  world->log = (struct pf_log){.role = "test", .level = PF_LOG_ERROR, .fd = 2};
  world->limits = (struct core_limits){.pending_max = 5000,
      .pending_bytes_max = 64 << 20,
      .result_keep_ms = 3600000,
      .result_count_max = 100000,
      .result_bytes_max = 64 << 20,
      .session_keep_ms = 1000000000,
      .sessions_max = 1000,
      .session_events_max = 1000,
      .session_bytes_max = 1 << 20,
      .actor_idle_ms = 60000,
      .submit_keep_ms = 1000000000,
      .submit_count_max = 100000,
      .reannounce_ms = 60000};
  world->now_ms = 1000;
  pf_list_init(&world->store);
  PF_ASSERT(sqlite3_open(":memory:", &world->db) == SQLITE_OK);
  for (int i = 0; i < origin_db_schema.version; i++)
    PF_ASSERT(store_exec(world->db, origin_db_schema.migrations[i], NULL) == PF_OK);
  PF_ASSERT(origin_db_prepare(world->db, NULL, &world->tables, NULL) == PF_OK);
  start(world);
}

void world_forget_records(struct world *world) {
  records_clear(&world->frames);
  records_clear(&world->closes);
  records_clear(&world->responses);
  records_clear(&world->announcements);
}

static void forget(struct world *world) {
  core_done(&world->core);
  for (struct pf_list *link; (link = pf_list_pop(&world->store)) != NULL;) {
    struct store_item *item = pf_container_of(link, struct store_item, link);
    if (item->commit) commit_free(item->commit);
    if (item->lookup) lookup_free(item->lookup);
    free(item);
  }
  world_forget_records(world);
}

void world_restart(struct world *world) {
  forget(world);
  start(world);
}

void world_done(struct world *world) {
  forget(world);
  origin_db_finish(world->tables);
  sqlite3_close(world->db);
}

/* ---- steps ---- */

bool world_step(struct world *world) {
  set_time(world);
  core_flush(&world->core);
  struct pf_list *link = pf_list_pop(&world->store);
  if (!link) return false;
  struct store_item *item = pf_container_of(link, struct store_item, link);
  if (item->commit) {
    PF_ASSERT(origin_db_apply(world->tables, item->commit) == PF_OK);
    core_on_durable(&world->core, item->commit);
  } else {
    PF_ASSERT(origin_db_lookup(world->tables, item->lookup) == PF_OK);
    item->lookup->done(&world->core, item->lookup);
  }
  free(item);
  return true;
}

void world_settle(struct world *world) {
  while (world_step(world))
    continue;
}

void world_advance(struct world *world, int64_t ms) {
  world->now_ms += ms;
  set_time(world);
  core_on_tick(&world->core);
  world_settle(world);
}

void world_say(struct world *world, uint64_t ws, const char *text) {
  set_time(world);
  core_on_ws_message(&world->core, ws, pf_slice_str(text));
}

struct hop_job world_announced(const struct world *world, size_t index) {
  PF_ASSERT(index < world->announcements.count);
  const struct record *record = &world->announcements.items[index];
  struct hop_job job;
  PF_ASSERT(hop_job_decode(&job, pf_slice(record->text, record->len), NULL) == PF_OK);
  return job;
}

void world_accept_all(struct world *world, enum hop_job_answer answer) {
  size_t count = world->announcements.count;
  uint64_t *locals = pf_alloc((count + 1) * sizeof(*locals));
  for (size_t i = 0; i < count; i++)
    locals[i] = world->announcements.items[i].id;
  records_clear(&world->announcements);
  set_time(world);
  struct hop_job_reply reply = {.answer = answer};
  for (size_t i = 0; i < count; i++)
    core_on_announced(&world->core, locals[i], PF_OK, &reply);
  free(locals);
}

static uint64_t deliver(struct world *world, const struct hop_result *result, const char *body) {
  static const uint64_t first_request = 1000000;
  uint64_t request = first_request + world->core.stats.turns * 1000 + world->responses.count;
  struct pf_buf batch, head;
  pf_buf_init(&batch, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  hop_results_head_encode(&head, &(struct hop_results_head){world->core.origin_id});
  batch_append(&batch, pf_buf_view(&head), none);
  pf_buf_clear(&head);
  hop_result_encode(&head, result);
  batch_append(&batch, pf_buf_view(&head), pf_slice_str(body));
  set_time(world);
  core_on_results(&world->core, request, pf_buf_view(&batch));
  pf_buf_done(&head);
  pf_buf_done(&batch);
  return request;
}

uint64_t world_declare(struct world *world, const struct hop_job *job, enum outcome outcome) {
  struct hop_result result = {.job = job->job,
      .attempt = 1,
      .capability = job->capability,
      .outcome = outcome,
      .certainty = CERTAINTY_SENT_UNKNOWN,
      .error = pf_slice_str(outcome_text(outcome)),
      .timings = {-1, -1, -1, -1, -1, -1, -1}};
  return deliver(world, &result, NULL);
}

uint64_t world_deliver(
    struct world *world, const struct hop_job *job, int status, const char *body) {
  struct hop_result result = {.job = job->job,
      .fence = {1, 1},
      .attempt = 1,
      .capability = job->capability,
      .outcome = status ? OUTCOME_OK : OUTCOME_CONNECT_FAILED,
      .certainty = status ? CERTAINTY_ANSWERED : CERTAINTY_NOT_SENT,
      .status = status,
      .error = status ? none : pf_slice_str("connection refused"),
      .response_length = body ? (int64_t)strlen(body) : 0,
      .has_body = body != NULL,
      .timings = {0.1, 0.1, 0, 0.1, -1, 0.5, 0.1}};
  return deliver(world, &result, body);
}

const struct record *world_find_response(const struct world *world, uint64_t request) {
  for (size_t i = 0; i < world->responses.count; i++)
    if (world->responses.items[i].id == request) return &world->responses.items[i];
  return NULL;
}

int world_answer(const struct world *world, uint64_t request) {
  const struct record *response = world_find_response(world, request);
  if (!response) return -1;
  struct batch_reader reader = batch_reader(pf_slice(response->text, response->len));
  struct pf_slice head, body;
  int answer = -1;
  if (batch_next(&reader, &head, &body) || batch_next(&reader, &head, &body) ||
      hop_answer_decode(&answer, hop_result_answers, head))
    return -1;
  return answer;
}

size_t world_count_frames(const struct world *world, const char *part) {
  size_t count = 0;
  for (size_t i = 0; i < world->frames.count; i++)
    count += strstr(world->frames.items[i].text, part) != NULL;
  return count;
}

const char *world_find_frame(const struct world *world, const char *part) {
  for (size_t i = world->frames.count; i-- > 0;)
    if (strstr(world->frames.items[i].text, part)) return world->frames.items[i].text;
  return NULL;
}

int64_t world_count_rows(struct world *world, const char *table) {
  char sql[128];
  sqlite3_stmt *stmt;
  snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
  PF_ASSERT(sqlite3_prepare_v2(world->db, sql, -1, &stmt, NULL) == SQLITE_OK);
  PF_ASSERT(sqlite3_step(stmt) == SQLITE_ROW);
  int64_t count = sqlite3_column_int64(stmt, 0);
  sqlite3_finalize(stmt);
  return count;
}
