/* The origin: its real core over its real tables, with the network and the disk of the simulation
 * around it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin/classes/classes.h"
#include "origin/origin_db.h"
#include "sim.h"
#include "store/stmt.h"

#define WALL_MS 1700000000000

struct store_item {
  struct pf_list link;
  struct commit *commit;
  struct lookup *lookup;
};

struct sim_origin {
  struct sim *sim;
  struct core core;
  struct core_limits limits;
  struct pf_log log;
  struct sim_stores *stores;
  struct pf_list store; /* commits and look-ups that wait */
  bool writing, registering;
  uint64_t announced[SIM_JOBS]; /* REMOVE_ENQUEUE_RETRY, REMOVE_END_RETRY: those that have been */
  size_t announced_count;
};

static struct core *enter(struct sim *sim) {
  core_set_time(
      &sim->origin->core, sim->now_us * 1000, WALL_MS + sim->now_us / 1000 + sim->skew_ms);
  return &sim->origin->core;
}

/* ---- the store ---- */

static void store_next(struct sim *sim, struct sim_event *event);

static void store_kick(struct sim_origin *origin) {
  if (origin->writing || pf_list_empty(&origin->store)) return;
  origin->writing = true;
  sim_worst_moment(origin->sim, NODE_ORIGIN, false);
  sim_after(origin->sim, NODE_ORIGIN, sim_between(origin->sim, 20, 3000), store_next, 0, 0);
}

static void leave(struct sim *sim) {
  core_flush(&sim->origin->core);
  store_kick(sim->origin);
  if (sim->origin->core.stats.invariant_failures) sim_fail(sim, "an invariant of the core broke");
}

static void apply(struct sim *sim, struct commit *commit) {
  sqlite3 *db = sim->origin->stores->origin;
  PF_ASSERT(store_exec(db, "BEGIN", NULL) == PF_OK);
  PF_ASSERT(origin_db_apply(sim->origin->stores->origin_tables, commit) == PF_OK);
  PF_ASSERT(store_exec(db, "COMMIT", NULL) == PF_OK);
  oracle_committed(sim, commit);
}

static void store_next(struct sim *sim, struct sim_event *event) {
  struct sim_origin *origin = sim->origin;
  (void)event;
  origin->writing = false;
  struct pf_list *link = pf_list_pop(&origin->store);
  struct store_item *item = pf_container_of(link, struct store_item, link);
  enter(sim);
  if (item->lookup) {
    PF_ASSERT(origin_db_lookup(origin->stores->origin_tables, item->lookup) == PF_OK);
    item->lookup->done(&origin->core, item->lookup);
  } else {
    apply(sim, item->commit);
    if (sim->removal == REMOVE_CLIENT_GATE)
      commit_free(item->commit); /* its outputs have left already */
    else
      core_on_durable(&origin->core, item->commit);
  }
  free(item);
  leave(sim);
}

static void store_push(struct sim_origin *origin, struct commit *commit, struct lookup *lookup) {
  struct store_item *item = pf_alloc(sizeof(*item));
  item->commit = commit;
  item->lookup = lookup;
  pf_list_push(&origin->store, &item->link);
}

/* The same ops in a commit of their own, for the rule that is left out below. */
static struct commit *copy_ops(struct commit *from) {
  struct commit *copy = commit_new(from->seq, from->opened_ns);
  for (const struct op *op = from->ops; op; op = op->next) {
    struct op *to = commit_op(copy, op->kind, op->id);
    struct op *next = to->next;
    *to = *op;
    to->next = next;
    to->a = op->a.data ? commit_copy(copy, op->a) : op->a;
    to->b = op->b.data ? commit_copy(copy, op->b) : op->b;
    to->c = op->c.data ? commit_copy(copy, op->c) : op->c;
  }
  return copy;
}

static void edge_commit(void *arg, struct commit *commit) {
  struct sim_origin *origin = arg;
  if (origin->sim->removal != REMOVE_CLIENT_GATE) {
    store_push(origin, commit, NULL);
    return;
  }
  store_push(origin, copy_ops(commit), NULL);
  core_on_durable(&origin->core, commit);
}

static void edge_lookup(void *arg, struct lookup *lookup) {
  store_push(arg, NULL, lookup);
}

static bool edge_space_low(void *arg) {
  (void)arg;
  return false;
}

/* ---- clients ---- */

static struct sim_client *client_of(struct sim *sim, uint64_t conn) {
  for (int i = 0; i < SIM_CLIENTS; i++)
    if (sim->clients[i].conn == conn) return &sim->clients[i];
  return NULL;
}

static void frame_arrives(struct sim *sim, struct sim_event *event) {
  client_on_frame(sim, event->a, pf_slice(event->bytes, event->len));
}

static void close_arrives(struct sim *sim, struct sim_event *event) {
  client_on_closed(sim, event->a);
}

/* Frames of one connection arrive in their order. */
static int64_t down_us(struct sim *sim, struct sim_client *client) {
  int64_t at_us = sim->now_us + sim_delay_us(sim);
  if (at_us < client->down_us) at_us = client->down_us;
  client->down_us = at_us;
  return at_us - sim->now_us;
}

static void edge_send(void *arg, uint64_t ws, struct pf_slice text) {
  struct sim *sim = ((struct sim_origin *)arg)->sim;
  struct sim_client *client = client_of(sim, ws);
  if (client)
    sim_after_bytes(sim, NODE_WORLD, true, down_us(sim, client), frame_arrives, ws, 0, text);
}

static void edge_close(void *arg, uint64_t ws, int code, struct pf_slice reason) {
  struct sim *sim = ((struct sim_origin *)arg)->sim;
  struct sim_client *client = client_of(sim, ws);
  (void)code;
  (void)reason;
  if (client) sim_after(sim, NODE_WORLD, down_us(sim, client), close_arrives, ws, 0);
}

void origin_ws_open(struct sim *sim, struct sim_event *event) {
  if (core_on_ws_open(enter(sim), event->a, pf_slice_str("/")) != 0)
    sim_fail(sim, "the origin refuses a connection");
  leave(sim);
}

void origin_ws_message(struct sim *sim, struct sim_event *event) {
  core_on_ws_message(enter(sim), event->a, pf_slice(event->bytes, event->len));
  leave(sim);
}

void origin_ws_close(struct sim *sim, struct sim_event *event) {
  core_on_ws_close(enter(sim), event->a);
  leave(sim);
}

/* ---- the queue ---- */

static void batch_head(struct sim_origin *origin, struct pf_buf *head) {
  struct hop_jobs_head batch = {.origin = origin->core.origin_id,
      .origin_epoch = origin->core.origin_epoch,
      .low = core_low(&origin->core)};
  snprintf(batch.url, sizeof(batch.url), "http://127.0.0.1:8786");
  hop_jobs_head_encode(head, &batch);
}

static bool take_epoch(struct core *core, struct pf_slice head) {
  struct hop_jobs_reply_head reply;
  if (hop_jobs_reply_head_decode(&reply, head)) return false;
  core_on_queue_epoch(core, reply.epoch);
  return true;
}

static void on_announced(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct core *core = enter(sim);
  uint64_t local;
  struct hop_job_reply reply;
  struct pf_slice head, head_body, item, body;
  memcpy(&local, call->what, sizeof(local));
  bool ok = sim_read(answer, &head, &head_body, &item, &body) && take_epoch(core, head) &&
            hop_job_reply_decode(&reply, item) == PF_OK;
  if (!ok) core_on_queue_down(core);
  core_on_announced(core, local, ok ? PF_OK : PF_EIO, ok ? &reply : NULL);
  leave(sim);
}

/* REMOVE_ENQUEUE_RETRY, REMOVE_END_RETRY: what was announced once is not announced again. */
static bool announced_before(struct sim_origin *origin, uint64_t local) {
  for (size_t i = 0; i < origin->announced_count; i++)
    if (origin->announced[i] == local) return true;
  PF_ASSERT(origin->announced_count < SIM_JOBS);
  origin->announced[origin->announced_count++] = local;
  return false;
}

static void edge_announce(void *arg, uint64_t local, struct pf_slice head, struct pf_slice body) {
  struct sim_origin *origin = arg;
  struct sim *sim = origin->sim;
  struct hop_job job;
  PF_ASSERT(hop_job_decode(&job, head, NULL) == PF_OK);
  enum sim_removal once = job.end ? REMOVE_END_RETRY : REMOVE_ENQUEUE_RETRY;
  if (sim->removal == once && announced_before(origin, local)) return;
  if (sim->removal == REMOVE_EPOCH) job.first_epoch = 0;
  struct pf_buf batch, first, item;
  pf_buf_init(&batch, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&first, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&item, PF_BUF_MAX_DEFAULT);
  batch_head(origin, &first);
  hop_job_encode(&item, &job);
  sim_batch(&batch, &first, &item, body);
  sim_send(sim, NODE_ORIGIN, NODE_QUEUE, PATH_JOBS, SIM_CALL_MS, &batch, on_announced, &local,
      sizeof(local));
  pf_buf_done(&batch);
  pf_buf_done(&first);
  pf_buf_done(&item);
}

static void on_registered(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct core *core = enter(sim);
  (void)call;
  sim->origin->registering = false;
  if (!answer.data || !take_epoch(core, answer)) core_on_queue_down(core);
  leave(sim);
}

static void on_beat(struct sim *sim, struct sim_event *event) {
  struct sim_origin *origin = sim->origin;
  (void)event;
  sim_after(sim, NODE_ORIGIN, 1000 * SIM_MS, on_beat, 0, 0);
  if (origin->registering) return;
  origin->registering = true;
  struct pf_buf head;
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  batch_head(origin, &head);
  sim_send(sim, NODE_ORIGIN, NODE_QUEUE, PATH_REGISTER, SIM_CALL_MS, &head, on_registered, NULL, 0);
  pf_buf_done(&head);
}

static void on_tick(struct sim *sim, struct sim_event *event) {
  (void)event;
  core_on_tick(enter(sim));
  leave(sim);
  int64_t ms = core_next_tick_ms(&sim->origin->core);
  sim_after(sim, NODE_ORIGIN, (ms < 5 ? 5 : ms > 100 ? 100 : ms) * SIM_MS, on_tick, 0, 0);
}

/* ---- executors ---- */

/* REMOVE_DEDUPE: the continuation runs for a result that is not the first, too. */
static void effect_again(struct sim *sim, struct pf_slice batch) {
  struct pf_slice head, head_body, item, body;
  struct hop_result result;
  struct pf_arena arena;
  pf_arena_init(&arena);
  if (sim_read(batch, &head, &head_body, &item, &body) &&
      hop_result_decode(&result, item, &arena, NULL) == PF_OK) {
    struct sim_job *job = oracle_find(sim, result.job.local);
    if (job && job->done && job->events > 0) oracle_effect(sim, job);
  }
  pf_arena_done(&arena);
}

/* The origin has said so: the queue may dispatch it again. */
static void note_status(struct sim *sim, struct pf_slice batch) {
  struct pf_slice head, head_body, item, body;
  struct pf_job_id id;
  if (!sim_read(batch, &head, &head_body, &item, &body) || hop_status_decode(&id, item)) return;
  struct sim_job *job = oracle_find(sim, id.local);
  if (job && !job->done) job->excused = true;
}

static void edge_respond(
    void *arg, uint64_t request, int status, const char *content_type, struct pf_slice body) {
  struct sim *sim = ((struct sim_origin *)arg)->sim;
  (void)content_type;
  if (status == 200) sim_answer(sim, NODE_ORIGIN, request, body);
}

void origin_serve(struct sim *sim, enum sim_path path, uint64_t request, struct pf_slice batch) {
  struct core *core = enter(sim);
  if (path == PATH_RESULT) {
    if (sim->removal == REMOVE_DEDUPE) effect_again(sim, batch);
    core_on_results(core, request, batch);
  } else {
    PF_ASSERT(path == PATH_STATUS);
    note_status(sim, batch);
    core_on_status(core, request, batch);
  }
  leave(sim);
}

/* ---- life ---- */

static const struct origin_edge edge = {
    edge_commit, edge_lookup, edge_send, edge_close, edge_respond, edge_announce, edge_space_low};

struct sessions {
  struct session rows[64];
  size_t count;
};

static void add_session(void *arg, const struct session *row) {
  struct sessions *sessions = arg;
  PF_ASSERT(sessions->count < PF_COUNT(sessions->rows));
  sessions->rows[sessions->count++] = *row;
}

size_t origin_pending(const struct sim *sim) {
  return core_pending(&sim->origin->core) + !pf_list_empty(&sim->origin->store);
}

bool origin_heard(const struct sim *sim) {
  return core_endings(&sim->origin->core) == 0;
}

void origin_start(struct sim *sim, struct sim_stores *stores) {
  struct sim_origin *origin = sim->origin = pf_alloc(sizeof(*origin));
  *origin = (struct sim_origin){.sim = sim,
      .stores = stores,
      .log = {.role = "origin", .level = PF_LOG_ERROR, .fd = 2},
      .limits = {.pending_max = 1000,
          .pending_bytes_max = 1 << 20,
          .result_keep_ms = 1000000000,
          .result_count_max = 1000,
          .result_bytes_max = 1 << 20,
          .session_keep_ms = 1000000000,
          .sessions_max = 64,
          .session_events_max = 1000,
          .session_bytes_max = 1 << 20,
          .actor_idle_ms = 2000,
          .submit_keep_ms = 1000000000,
          .submit_count_max = 100000,
          .reannounce_ms = 10000}};
  pf_list_init(&origin->store);
  struct core_start first = {0};
  struct sessions sessions = {0};
  oracle_origin_rows(sim, stores->origin);
  PF_ASSERT(origin_db_start(stores->origin_tables, &first, add_session, &sessions) == PF_OK);
  core_init(&origin->core, &edge, origin, &origin->limits, &origin->log, classes, &first,
      pf_rand_u64(&sim->rand));
  enter(sim);
  for (size_t i = 0; i < sessions.count; i++)
    core_add_session(&origin->core, &sessions.rows[i]);
  core_recover(&origin->core);
  leave(sim);
  sim_after(sim, NODE_ORIGIN, SIM_MS, on_tick, 0, 0);
  sim_after(sim, NODE_ORIGIN, SIM_MS, on_beat, 0, 0);
}

/* REMOVE_ATOMIC: the first half of what was being written stays. */
static void tear(struct sim *sim, struct commit *commit) {
  size_t count = 0;
  for (const struct op *op = commit->ops; op; op = op->next)
    count++;
  if (count < 2) return;
  struct op *last = commit->ops;
  for (size_t i = 1; i < count / 2; i++)
    last = last->next;
  last->next = NULL;
  apply(sim, commit);
}

void origin_stop(struct sim *sim) {
  struct sim_origin *origin = sim->origin;
  bool torn = sim->removal != REMOVE_ATOMIC;
  core_done(&origin->core);
  for (struct pf_list *link; (link = pf_list_pop(&origin->store)) != NULL;) {
    struct store_item *item = pf_container_of(link, struct store_item, link);
    if (item->commit && !torn) tear(sim, item->commit);
    torn = torn || item->commit;
    if (item->commit) commit_free(item->commit);
    if (item->lookup) lookup_free(item->lookup);
    free(item);
  }
  free(origin);
  sim->origin = NULL;
}

void origin_wipe(struct sim_stores *stores) {
  static const char sql[] =
      "DELETE FROM meta; DELETE FROM actors; DELETE FROM state; DELETE FROM jobs;"
      "DELETE FROM results; DELETE FROM sessions; DELETE FROM events; DELETE FROM submits;"
      "INSERT INTO meta(key, value) VALUES('origin_id', 7)";
  PF_ASSERT(store_exec(stores->origin, sql, NULL) == PF_OK);
}

void origin_open_store(struct sim_stores *stores) {
  PF_ASSERT(sqlite3_open(":memory:", &stores->origin) == SQLITE_OK);
  for (int i = 0; i < origin_db_schema.version; i++)
    PF_ASSERT(store_exec(stores->origin, origin_db_schema.migrations[i], NULL) == PF_OK);
  PF_ASSERT(origin_db_prepare(stores->origin, NULL, &stores->origin_tables, NULL) == PF_OK);
}

void origin_close_store(struct sim_stores *stores) {
  origin_db_finish(stores->origin_tables);
  sqlite3_close(stores->origin);
}
