#include "origin/core.h"

#include <stdlib.h>

#include "base/fault.h"
#include "origin/parts.h"

/* Retention deletes little and often, so that no commit waits long behind it. */
enum { INVARIANT_JOBS = 64, TICK_MS_MAX = 1000, SWEEP_MS = 100 };

struct lookup *lookup_new(
    enum lookup_kind kind, uint64_t id, void (*done)(struct core *, struct lookup *)) {
  struct lookup *lookup = pf_alloc(sizeof(*lookup));
  lookup->kind = kind;
  lookup->id = id;
  lookup->done = done;
  pf_arena_init(&lookup->arena);
  lookup_rows_clear(lookup);
  return lookup;
}

struct lookup_row *lookup_add_row(struct lookup *lookup) {
  struct lookup_row *row = pf_arena_alloc(&lookup->arena, sizeof(*row));
  *lookup->rows_end = row;
  lookup->rows_end = &row->next;
  lookup->row_count++;
  return row;
}

void lookup_rows_clear(struct lookup *lookup) {
  lookup->rows = NULL;
  lookup->rows_end = &lookup->rows;
  lookup->row_count = 0;
}

void lookup_free(struct lookup *lookup) {
  pf_arena_done(&lookup->arena);
  free(lookup);
}

void core_init(struct core *core, const struct origin_edge *edge, void *edge_arg,
    const struct core_limits *limits, const struct pf_log *log,
    const struct actor_class *const *classes, const struct core_start *start, uint64_t seed) {
  *core = (struct core){
      .edge = *edge,
      .edge_arg = edge_arg,
      .limits = limits,
      .log = log,
      .rand = {seed},
      .classes = classes,
      .origin_id = start->origin_id,
      .origin_epoch = start->start_number,
      .next_local = start->start_number << PF_LOCAL_COUNT_BITS,
      .next_actor = start->next_actor,
      .next_session = start->start_number << PF_LOCAL_COUNT_BITS,
      .result_rows = start->result_rows,
      .result_bytes = start->result_bytes,
      .submit_rows = start->submit_rows,
  };
  core->hash_key[0] = pf_rand_u64(&core->rand);
  core->hash_key[1] = pf_rand_u64(&core->rand);
  pf_list_init(&core->dirty_actors);
  pf_list_init(&core->dirty_sessions);
  pf_list_init(&core->jobs_old);
  pf_list_init(&core->jobs_live);
  pf_list_init(&core->announce_ready);
  pf_list_init(&core->endings_ready);
  pf_list_init(&core->idle_actors);
  pf_list_init(&core->lookups);
  pf_list_init(&core->late_rows);
  pf_list_init(&core->listings);
  core->open = commit_new(1, 0);
}

void core_done(struct core *core) {
  for (struct pf_list *link; (link = pf_list_pop(&core->lookups)) != NULL;)
    lookup_free(pf_container_of(link, struct lookup, link));
  queries_done(core);
  results_done(core);
  clients_done(core);
  sessions_done(core);
  actors_done(core);
  announce_done(core);
  jobs_done(core);
  pf_heap_done(&core->deadlines);
  pf_heap_done(&core->announces);
  pf_heap_done(&core->waiters);
  commit_free(core->open);
}

void core_set_time(struct core *core, int64_t mono_ns, int64_t wall_ms) {
  int64_t passed_ms = mono_ns / 1000000 - core->now_ns / 1000000;
  core->kept_ms = core->timed ? core->kept_ms + passed_ms : wall_ms;
  core->timed = true;
  core->now_ns = mono_ns;
  core->wall_ms = wall_ms;
}

/* ---- recovery ---- */

static void recover_page(struct core *core);

static void recover_on_page(struct core *core, struct lookup *lookup) {
  bool more = lookup->row_count == LOOKUP_PAGE;
  for (struct lookup_row *row = lookup->rows; row; row = row->next) {
    if (row->id >> PF_LOCAL_COUNT_BITS >= core->origin_epoch) {
      more = false; /* made in this run: in memory already, or done since */
      break;
    }
    core->load_cursor = row->id;
    struct job *job = jobs_load_row(core, row);
    if (!job) {
      pf_log(core->log, PF_LOG_ERROR, "job_row_unreadable", "local=%016llx",
          (unsigned long long)row->id);
      core->stats.invariant_failures++;
      continue;
    }
    if (job->state == JOB_PENDING)
      announce_now(core, job);
    else if (job->state == JOB_RECEIVED)
      results_run(core, job->local);
  }
  lookup_free(lookup);
  if (more) {
    recover_page(core);
  } else {
    core->loading = false;
    pf_log(core->log, PF_LOG_INFO, "recovered", "jobs=%zu", core->jobs.count);
  }
  announce_pump(core);
}

static void recover_page(struct core *core) {
  struct lookup *lookup = lookup_new(LOOKUP_JOBS, 0, recover_on_page);
  lookup->n = (int64_t)core->load_cursor;
  core_ask(core, lookup);
}

bool core_is_unread(const struct core *core, uint64_t local) {
  return core->loading && local > core->load_cursor &&
         local >> PF_LOCAL_COUNT_BITS < core->origin_epoch;
}

bool core_await_row(struct core *core, uint64_t local, uint64_t token,
    void (*done)(struct core *core, struct lookup *lookup)) {
  if (!core_is_unread(core, local)) return false;
  struct lookup *lookup = lookup_new(LOOKUP_EVENTS, 0, done); /* finds nothing: its turn matters */
  lookup->n = (int64_t)local;
  lookup->token = token;
  core_ask(core, lookup);
  return true;
}

void core_recover(struct core *core) {
  core->loading = true;
  recover_page(core);
}

/* ---- the gate ---- */

static void output_release(struct core *core, const struct output *output) {
  switch (output->kind) {
  case OUT_FRAME:
    core->edge.send(core->edge_arg, output->id, output->bytes);
    break;
  case OUT_EVENT:
    sessions_on_event_durable(core, output);
    break;
  case OUT_CLOSE:
    core->edge.close(core->edge_arg, output->id, output->code, output->bytes);
    break;
  case OUT_RESPOND:
    core->edge.respond(
        core->edge_arg, output->id, output->code, output->content_type, output->bytes);
    break;
  case OUT_ANNOUNCE: {
    struct job *job = jobs_find(core, output->id);
    if (!job) break;
    if (job->state == JOB_COMMITTING) {
      jobs_move(core, job, JOB_PENDING);
      job->durable_ns = core->now_ns;
    }
    job->announcing = false;
    announce_now(core, job);
    break;
  }
  case OUT_ANSWER:
    results_answer(core, output->id, output->index, output->code);
    break;
  case OUT_RUN:
    results_run(core, output->id);
    break;
  case OUT_FORGET: {
    struct job *job = jobs_find(core, output->id);
    if (job) jobs_forget(core, job);
    break;
  }
  case OUT_REPLAY:
    sessions_on_greeted(core, output->id);
    break;
  case OUT_END:
    announce_end(core, output->id);
    break;
  }
}

static void commit_release(struct core *core, struct commit *commit) {
  PF_ASSERT(commit->seq == core->durable_seq + 1);
  core->durable_seq = commit->seq;
  core->stats.commits++;
  core->result_bytes += commit->result_bytes;
  int64_t results = commit->sweep ? commit->sweep->m : 0;
  int64_t submits = commit->submit_sweep ? commit->submit_sweep->m : 0;
  core->result_rows -= results;
  core->submit_rows -= submits;
  core->stats.results_forgotten += (uint64_t)results;
  core->stats.submits_forgotten += (uint64_t)submits;
  for (const struct output *output = commit->outputs; output; output = output->next)
    output_release(core, output);
  commit_free(commit);
}

void core_on_durable(struct core *core, struct commit *commit) {
  PF_FAULT("origin.release.before");
  commit_release(core, commit);
  announce_pump(core);
}

void core_ask(struct core *core, struct lookup *lookup) {
  pf_list_push(&core->lookups, &lookup->link);
}

static void lookups_send(struct core *core) {
  for (struct pf_list *link; (link = pf_list_pop(&core->lookups)) != NULL;)
    core->edge.lookup(core->edge_arg, pf_container_of(link, struct lookup, link));
}

/* Hands the open commit on. True if it is released already: nothing was to be written, and nothing
 * unconfirmed was before it. */
static bool commit_submit(struct core *core) {
  struct commit *commit = core->open;
  core->open = commit_new(commit->seq + 1, core->now_ns);
  if (commit->ops || commit->seq != core->durable_seq + 1) {
    core->edge.commit(core->edge_arg, commit);
    return false;
  }
  commit_release(core, commit);
  announce_pump(core);
  return true;
}

/* Released outputs may make new turns (a continuation whose result is now safe); those fill the
 * next commit, so the loop runs until nothing is left that could leave at once. */
void core_flush(struct core *core) {
  bool again = true;
  while (again) {
    actors_flush_dirty(core, core->open);
    sessions_flush_dirty(core, core->open);
    again = !commit_empty(core->open) && commit_submit(core);
  }
  lookups_send(core);
}

/* ---- time ---- */

static void deadlines_tick(struct core *core) {
  for (;;) {
    struct pf_heap_node *first = pf_heap_first(&core->deadlines);
    if (!first || first->key > core->now_ns) return;
    struct job *job = pf_container_of(first, struct job, deadline);
    pf_heap_del(&core->deadlines, first);
    jobs_end(core, job, OUTCOME_DEADLINE, pf_slice_str(outcome_text(OUTCOME_DEADLINE)));
  }
}

/* The oldest jobs are where a job that nobody will ever touch again would be found. */
static void invariants_tick(struct core *core) {
  unsigned left = INVARIANT_JOBS;
  PF_LIST_EACH(link, &core->jobs_live) {
    const struct job *job = pf_container_of(link, struct job, by_id);
    if (left-- == 0) break;
    bool timed = pf_heap_has(&job->deadline) &&
                 (job->announcing || pf_heap_has(&job->announce) || !pf_list_empty(&job->ready));
    if (job->state != JOB_PENDING || timed) continue;
    core->stats.invariant_failures++;
    pf_log(core->log, PF_LOG_ERROR, "invariant_broken",
        "rule=\"a pending job has a deadline and will be announced\" local=%016llx",
        (unsigned long long)job->local);
  }
}

static int64_t above(int64_t value, int64_t max) {
  return value > max ? value - max : 0;
}

/* While more is stored than may be, it is swept often. */
static int64_t sweep_every_ms(const struct core *core) {
  bool surplus = core->result_rows > core->limits->result_count_max ||
                 core->result_bytes > core->limits->result_bytes_max;
  return surplus ? SWEEP_MS : TICK_MS_MAX;
}

static void sweep_tick(struct core *core) {
  if (core->now_ns / 1000000 - core->swept_ms < sweep_every_ms(core)) return;
  if (core->sweep_seq > core->durable_seq) return; /* what it deletes is still counted */
  core->swept_ms = core->now_ns / 1000000;
  if (core->result_rows == 0 && core->submit_rows == 0) return;
  core->sweep_seq = core->open->seq;
  if (core->result_rows > 0) {
    struct op *op = commit_op(core->open, OP_SWEEP_RESULTS, 0);
    op->w = core->kept_ms - core->limits->result_keep_ms;
    op->n = above(core->result_rows, core->limits->result_count_max);
    op->other = (uint64_t)above(core->result_bytes, core->limits->result_bytes_max);
    core->open->sweep = op;
  }
  if (core->submit_rows > 0) {
    struct op *op = commit_op(core->open, OP_SWEEP_SUBMITS, 0);
    op->w = core->kept_ms - core->limits->submit_keep_ms;
    core->open->submit_sweep = op;
  }
}

void core_on_tick(struct core *core) {
  deadlines_tick(core);
  queries_tick(core);
  sessions_tick(core);
  announce_tick(core);
  invariants_tick(core);
  sweep_tick(core);
  announce_pump(core);
  core_flush(core); /* what an actor wrote is on its way before the actor leaves memory */
  actors_evict_idle(core);
}

int64_t core_next_tick_ms(const struct core *core) {
  int64_t next_ns = core->now_ns + sweep_every_ms(core) * 1000000;
  const struct pf_heap_node *deadline = pf_heap_first(&core->deadlines);
  const struct pf_heap_node *announce = pf_heap_first(&core->announces);
  if (deadline && deadline->key < next_ns) next_ns = deadline->key;
  if (announce && announce->key < next_ns) next_ns = announce->key;
  const struct pf_heap_node *ending = pf_heap_first(&core->endings_again);
  const struct pf_heap_node *waiter = pf_heap_first(&core->waiters);
  if (ending && ending->key < next_ns) next_ns = ending->key;
  if (waiter && waiter->key < next_ns) next_ns = waiter->key;
  int64_t ms = (next_ns - core->now_ns + 999999) / 1000000;
  return ms < 1 ? 1 : ms;
}

uint64_t core_low(const struct core *core) {
  if (core->loading && pf_list_empty(&core->jobs_old)) return core->load_cursor + 1;
  if (!pf_list_empty(&core->jobs_old))
    return pf_container_of(core->jobs_old.next, struct job, by_id)->local;
  if (!pf_list_empty(&core->jobs_live))
    return pf_container_of(core->jobs_live.next, struct job, by_id)->local;
  return core->next_local;
}

size_t core_outbox(const struct core *core) {
  return core->job_count[JOB_PENDING] - core->accepted;
}

size_t core_endings(const struct core *core) {
  return core->endings.count;
}

static int64_t age_of_first_ms(const struct core *core, const struct pf_list *jobs) {
  if (pf_list_empty(jobs)) return 0;
  return (core->now_ns - pf_container_of(jobs->next, struct job, by_id)->received_ns) / 1000000;
}

int64_t core_oldest_ms(const struct core *core) {
  int64_t old_ms = age_of_first_ms(core, &core->jobs_old);
  int64_t live_ms = age_of_first_ms(core, &core->jobs_live);
  return old_ms > live_ms ? old_ms : live_ms;
}

size_t core_pending(const struct core *core) {
  return core->jobs.count - core->job_count[JOB_PARKED];
}
