/* Judges from outside: what the origin's disk, the target and the clients have seen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin/commit.h"
#include "base/arena.h"
#include "sim.h"
#include "store/stmt.h"
#include "wire/request.h"

struct sim_job *oracle_find(struct sim *sim, uint64_t local) {
  for (size_t i = 0; i < sim->job_count; i++)
    if (sim->jobs[i].local == local) return &sim->jobs[i];
  return NULL;
}

/* ---- frames ---- */

static const char *frame_member(const char *frame, const char *name) {
  char key[32];
  int len = snprintf(key, sizeof(key), "\"%s\":", name);
  const char *at = strstr(frame, key);
  return at ? at + len : NULL;
}

bool frame_text(const char *frame, const char *name, char *ret, size_t size) {
  const char *at = frame_member(frame, name);
  if (!at || *at != '"') return false;
  size_t len = strcspn(at + 1, "\"");
  if (len >= size) return false;
  memcpy(ret, at + 1, len);
  ret[len] = 0;
  return true;
}

int64_t frame_number(const char *frame, const char *name, int64_t otherwise) {
  const char *at = frame_member(frame, name);
  return at ? strtoll(at, NULL, 10) : otherwise;
}

/* ---- the origin's disk ---- */

/* Which submit a request belongs to: its URL ends in the number. */
static int submit_of(struct pf_slice request) {
  struct wire_request decoded;
  struct pf_arena arena;
  int submit = -1;
  pf_arena_init(&arena);
  if (wire_request_decode(&decoded, request, &arena, NULL) == PF_OK)
    for (size_t i = decoded.url.len; i-- > 0;)
      if (decoded.url.data[i] == '/') {
        submit = (int)strtol(decoded.url.data + i + 1, NULL, 10);
        break;
      }
  pf_arena_done(&arena);
  return submit;
}

static void job_put(struct sim *sim, const struct op *op) {
  int submit = submit_of(op->b);
  PF_ASSERT(sim->job_count < SIM_JOBS);
  PF_ASSERT(submit >= 0 && (size_t)submit < sim->submit_count);
  if (oracle_find(sim, op->id))
    sim_fail(sim, "the id of job %llx returned", (unsigned long long)op->id);
  struct sim_submit *s = &sim->submits[submit];
  sim->jobs[sim->job_count++] =
      (struct sim_job){.local = op->id, .submit = submit, .repeatable = s->repeatable};
  if (++s->jobs > (s->batch ? SIM_BATCH : 1)) sim_fail(sim, "submit %d made too many jobs", submit);
}

void oracle_effect(struct sim *sim, struct sim_job *job) {
  if (++job->events > 1)
    sim_fail(sim, "job %llx had its effect %u times", (unsigned long long)job->local, job->events);
}

static void result_put(struct sim *sim, const char *frame) {
  char id[64], code[64];
  if (!frame_text(frame, "reqId", id, sizeof(id)) || strlen(id) < 16) return;
  struct sim_job *job = oracle_find(sim, strtoull(id + strlen(id) - 16, NULL, 16));
  if (!job) {
    sim_fail(sim, "a result of a job that was never made");
    return;
  }
  oracle_effect(sim, job);
  if (strstr(frame, "\"success\":true") && job->answered == 0)
    sim_fail(sim, "job %llx succeeded without an answer", (unsigned long long)job->local);
  if (!frame_text(frame, "code", code, sizeof(code))) return;
  const struct sim_submit *s = &sim->submits[job->submit];
  /* An origin whose clock went back may announce a job that the queue has given up (0024). */
  bool given_up = queue_abandoned(sim) > 0;
  if (strcmp(code, "queue_lost") == 0 && !given_up && (job->repeatable || sim->amnesias == 0))
    sim_fail(sim, "job %llx was lost by a queue that lost nothing", (unsigned long long)job->local);
  bool late = strcmp(code, "deadline") == 0 || strcmp(code, "undelivered") == 0;
  if (late && s->deadline_ms == 0 && sim->faults.jump == 0)
    sim_fail(sim, "job %llx waited for its deadline", (unsigned long long)job->local);
  if (strcmp(code, "canceled") == 0 && !s->cancelled)
    sim_fail(sim, "job %llx was canceled by nobody", (unsigned long long)job->local);
}

static void batch_put(struct sim *sim, const char *frame) {
  char id[64];
  PF_ASSERT(frame_text(frame, "batchId", id, sizeof(id)));
  struct sim_submit *s = &sim->submits[strtol(id + 1, NULL, 10)];
  if (++s->batch_events > s->sends)
    sim_fail(sim, "batch %s completed more often than it was asked for", id);
}

static void event_put(struct sim *sim, const struct op *op) {
  char *frame = pf_alloc(op->a.len + 1);
  memcpy(frame, op->a.data, op->a.len);
  if (strstr(frame, "\"type\":\"result\"")) result_put(sim, frame);
  if (strstr(frame, "\"type\":\"batch-complete\"")) batch_put(sim, frame);
  free(frame);
}

void oracle_committed(struct sim *sim, const struct commit *commit) {
  for (const struct op *op = commit->ops; op; op = op->next) {
    sim_note(sim, "op %d id=%llx", op->kind, (unsigned long long)op->id);
    if (op->kind == OP_JOB_PUT) job_put(sim, op);
    if (op->kind == OP_EVENT_PUT) event_put(sim, op);
    if (op->kind != OP_JOB_DELETE) continue;
    struct sim_job *job = oracle_find(sim, op->id);
    if (!job || ++job->deleted > 1) {
      sim_fail(sim, "job %llx ended twice or never began", (unsigned long long)op->id);
      continue;
    }
    job->done = true;
  }
  for (const struct output *output = commit->outputs; output; output = output->next) {
    struct sim_job *job = output->kind == OUT_END ? oracle_find(sim, output->id) : NULL;
    if (job) job->ended_by = sim->nodes[NODE_ORIGIN].life;
  }
}

/* ---- rows ---- */

/* A row is a job that is not done, and each such job has one: what a start finds is what is owed.
 */
void oracle_origin_rows(struct sim *sim, sqlite3 *db) {
  sqlite3_stmt *stmt;
  size_t rows = 0, open = 0;
  PF_ASSERT(store_stmts_prepare(db, &stmt, (const char *const[]){"SELECT id FROM jobs"}, 1, NULL) ==
            PF_OK);
  while (store_step(stmt) == STORE_ROW) {
    uint64_t local = store_column_u64(stmt, 0);
    const struct sim_job *job = oracle_find(sim, local);
    if (!job || job->done)
      sim_fail(sim, "job %llx is over and has a row", (unsigned long long)local);
    rows++;
  }
  store_stmts_finalize(&stmt, 1);
  for (size_t i = 0; i < sim->job_count; i++)
    open += !sim->jobs[i].done;
  if (rows != open) sim_fail(sim, "%zu rows of %zu jobs that are not done", rows, open);
}

/* Of a queue, that may have lost some of them: no job twice. */
void oracle_queue_rows(struct sim *sim, sqlite3 *db, size_t max) {
  static const char *const sql = "SELECT count(*), count(DISTINCT local) FROM jobs";
  sqlite3_stmt *stmt;
  PF_ASSERT(store_stmts_prepare(db, &stmt, &sql, 1, NULL) == PF_OK);
  PF_ASSERT(store_step(stmt) == STORE_ROW);
  int64_t rows = store_column_i64(stmt, 0), jobs = store_column_i64(stmt, 1);
  sqlite3_reset(stmt);
  store_stmts_finalize(&stmt, 1);
  if (rows != jobs)
    sim_fail(sim, "the queue has %lld rows of %lld jobs", (long long)rows, (long long)jobs);
  if ((size_t)rows > max) sim_fail(sim, "the queue keeps %lld rows", (long long)rows);
}

/* ---- the target and the queue ---- */

void oracle_hit(struct sim *sim, uint64_t local, uint64_t fence) {
  struct sim_job *job = oracle_find(sim, local);
  if (!job) {
    sim_fail(sim, "job %llx was fetched before it was durable", (unsigned long long)local);
    return;
  }
  if (job->hit_fence == fence)
    sim_fail(sim, "one dispatch of job %llx was fetched twice", (unsigned long long)local);
  job->hit_fence = fence;
  unsigned max = job->repeatable ? SIM_ATTEMPTS * (1 + sim->amnesias) : 1;
  if (++job->hits > max)
    sim_fail(sim, "job %llx was fetched %u times", (unsigned long long)local, job->hits);
}

/* A second dispatch needs a reason: a failure that was reported, a refusal, or the origin's word
 * that it has no result. */
void oracle_dispatched(struct sim *sim, uint64_t local, uint64_t fence) {
  struct sim_job *job = oracle_find(sim, local);
  if (!job || job->fence == fence) return; /* the same one, sent again */
  if (job->fence && !job->excused)
    sim_fail(sim, "job %llx was dispatched again unasked", (unsigned long long)local);
  job->fence = fence;
  job->excused = false;
}

void oracle_new_queue(struct sim *sim) {
  for (size_t i = 0; i < sim->job_count; i++)
    sim->jobs[i].fence = sim->jobs[i].hit_fence = 0;
}

/* ---- the end ---- */

void oracle_end(struct sim *sim) {
  for (size_t i = 0; i < sim->job_count; i++) {
    const struct sim_job *job = &sim->jobs[i];
    if (job->deleted != 1) sim_fail(sim, "job %llx never ended", (unsigned long long)job->local);
    if (job->ended_by == sim->nodes[NODE_ORIGIN].life && !job->end_heard)
      sim_fail(sim, "no queue was told that job %llx is over", (unsigned long long)job->local);
    if (!sim->submits[job->submit].batch && job->events != 1)
      sim_fail(sim, "job %llx ended without its effect", (unsigned long long)job->local);
  }
  for (size_t i = 0; i < sim->submit_count; i++) {
    const struct sim_submit *s = &sim->submits[i];
    if (s->batch && s->jobs > 0 && (s->jobs != SIM_BATCH || s->batch_events == 0))
      sim_fail(sim, "batch %zu is not complete", i);
    if ((s->enqueued || s->keyed) && !s->over && s->results == 0)
      sim_fail(sim, "submit %zu was accepted and its client never heard the result", i);
  }
  if (sim->why[0] == 0 && !clients_finished(sim)) sim_fail(sim, "a client is still waiting");
  if (sim->why[0] == 0 && (origin_pending(sim) || queue_jobs(sim)))
    sim_fail(sim, "something is stuck: origin=%zu queue=%zu", origin_pending(sim), queue_jobs(sim));
}
