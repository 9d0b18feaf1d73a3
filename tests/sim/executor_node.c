/* An executor and the targets it fetches from: the rules of executor/job.c, results.c and control.c
 * with the real seen-set, and a target that answers, fails or hangs as chance has it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/lease.h"
#include "executor/seen.h"
#include "sim.h"
#include "wire/batch.h"
#include "wire/hop.h"

enum {
  LEASE_MS = 3000,
  BEAT_MS = 1000,
  BACKOFF_MIN_MS = 50,
  BACKOFF_MAX_MS = 5000,
  GRACE_MS = 500
};

enum run_state { RUN_FREE, RUN_STARTING, RUN_FETCHING, RUN_DELIVERING, RUN_REPORTING };

struct run {
  enum run_state state;
  uint64_t id; /* never used again */
  struct hop_execute item;
  unsigned lapses;
  int64_t backoff_ms;
  int64_t until_us; /* its result is given up if no try has helped by then */
  bool aborted;
  enum hop_complete_how how;
  enum outcome outcome;
  enum certainty certainty;
  int status;
};

struct sim_executor {
  struct sim *sim;
  enum sim_node node;
  uint64_t incarnation, next_run;
  struct seen seen;
  struct run runs[SIM_SLOTS];
  bool beating;
  struct lease lease;
};

static struct sim_executor *executor_at(struct sim *sim, enum sim_node node) {
  return sim->executors[node - NODE_EXECUTOR];
}

static struct run *run_find(struct sim_executor *x, uint64_t id) {
  for (int i = 0; i < SIM_SLOTS; i++)
    if (x->runs[i].state != RUN_FREE && x->runs[i].id == id) return &x->runs[i];
  return NULL;
}

static int slots_free(const struct sim_executor *x) {
  int count = 0;
  for (int i = 0; i < SIM_SLOTS; i++)
    count += x->runs[i].state == RUN_FREE;
  return count;
}

static struct hop_held run_held(const struct run *run) {
  return (struct hop_held){.job = run->item.job, .fence = run->item.fence};
}

static void run_end(struct run *run) {
  run->state = RUN_FREE;
}

static void run_move(struct run *run, enum run_state to) {
  run->state = to;
  run->backoff_ms = BACKOFF_MIN_MS;
}

/* The lease has held since the job was taken. */
static bool may_send(const struct sim_executor *x, const struct run *run) {
  return lease_holds(&x->lease, x->sim->now_us / SIM_MS) && run->lapses == x->lease.lapses;
}

static void run_call(struct sim_executor *x, struct run *run);

static void run_again(struct sim *sim, struct sim_event *event) {
  struct sim_executor *x = executor_at(sim, event->at);
  struct run *run = run_find(x, event->a);
  if (!run || run->state != (enum run_state)event->b) return;
  if (run->state == RUN_STARTING && (run->aborted || !may_send(x, run)))
    run_end(run);
  else
    run_call(x, run);
}

static void run_again_later(struct sim_executor *x, struct run *run) {
  sim_after(x->sim, x->node, run->backoff_ms * SIM_MS, run_again, run->id, (uint64_t)run->state);
  run->backoff_ms = run->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : run->backoff_ms * 2;
}

/* ---- fetching ---- */

static void run_fetched(
    struct sim_executor *x, struct run *run, enum outcome outcome, enum certainty certainty) {
  run->outcome = outcome;
  run->certainty = certainty;
  run->status = certainty == CERTAINTY_ANSWERED ? 200 : 0;
  bool retry = !run->item.last && outcome_retried(outcome) &&
               (run->item.repeatable || certainty == CERTAINTY_NOT_SENT);
  if (retry) run->how = HOP_COMPLETE_RETRY;
  run_move(run, retry ? RUN_REPORTING : RUN_DELIVERING);
  run_call(x, run);
  if (x->sim->removal != REMOVE_COMPLETE_AFTER || retry) return;
  run_move(run, RUN_REPORTING); /* whatever becomes of the result */
  run_call(x, run);
}

static void fetch_ended(struct sim *sim, struct sim_event *event) {
  struct sim_executor *x = executor_at(sim, event->at);
  struct run *run = run_find(x, event->a);
  if (!run || run->state != RUN_FETCHING) return;
  enum outcome outcome = (enum outcome)event->b;
  if (outcome == OUTCOME_OK) {
    struct sim_job *job = oracle_find(sim, run->item.job.local);
    if (job) job->answered++;
  }
  run_fetched(x, run, outcome, outcome == OUTCOME_OK ? CERTAINTY_ANSWERED : CERTAINTY_SENT_UNKNOWN);
}

/* The connection is there: the first byte leaves now, or never. */
static void fetch_sends(struct sim *sim, struct sim_event *event) {
  struct sim_executor *x = executor_at(sim, event->at);
  struct run *run = run_find(x, event->a);
  if (!run || run->state != RUN_FETCHING) return;
  if (sim_chance(sim, sim->faults.connect_fails)) {
    run_fetched(x, run, OUTCOME_CONNECT_FAILED, CERTAINTY_NOT_SENT);
    return;
  }
  if (!may_send(x, run)) {
    run_end(run); /* it is somebody else's by now */
    return;
  }
  sim_note(
      sim, "hit job=%llx attempt=%d", (unsigned long long)run->item.job.local, run->item.attempt);
  oracle_hit(sim, run->item.job.local, run->item.fence.epoch + run->item.fence.counter);
  sim_worst_moment(sim, x->node, false);
  enum outcome outcome = OUTCOME_OK;
  int64_t us = sim_between(sim, 100, 50000);
  if (sim_chance(sim, sim->faults.resets)) {
    outcome = OUTCOME_RESET;
  } else if (sim_chance(sim, sim->faults.hangs)) {
    outcome = OUTCOME_TIMEOUT_ATTEMPT;
    us = run->item.attempt_ms * SIM_MS;
  }
  sim_after(sim, x->node, us, fetch_ended, run->id, (uint64_t)outcome);
}

static void run_fetch(struct sim_executor *x, struct run *run) {
  run_move(run, RUN_FETCHING);
  sim_worst_moment(x->sim, x->node, true);
  sim_after(x->sim, x->node, sim_between(x->sim, 50, 20000), fetch_sends, run->id, 0);
}

/* ---- calls ---- */

static void on_started(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct sim_executor *x = executor_at(sim, call->from);
  struct run *run = run_find(x, *(const uint64_t *)call->what);
  struct pf_slice head, head_body, item, body;
  int go = 0;
  if (!run || run->state != RUN_STARTING) return;
  bool heard = sim_read(answer, &head, &head_body, &item, &body) &&
               hop_answer_decode(&go, hop_start_answers, item) == PF_OK;
  if (!heard && !run->aborted)
    run_again_later(x, run);
  else if (!go || run->aborted)
    run_end(run);
  else
    run_fetch(x, run);
}

static void run_give_up(struct sim_executor *x, struct run *run) {
  sim_note(x->sim, "gave up job=%llx", (unsigned long long)run->item.job.local);
  if (run->outcome == OUTCOME_OK) run->outcome = OUTCOME_UNDELIVERED;
  run->how = HOP_COMPLETE_UNDELIVERED;
  run_move(run, RUN_REPORTING);
  run_call(x, run);
}

static void on_delivered(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct sim_executor *x = executor_at(sim, call->from);
  struct run *run = run_find(x, *(const uint64_t *)call->what);
  struct pf_slice head, head_body, item, body;
  struct hop_results_reply_head reply;
  int decoded = HOP_RESULT_RETRY;
  if (!run || run->state != RUN_DELIVERING) return;
  if (!sim_read(answer, &head, &head_body, &item, &body) ||
      hop_results_reply_head_decode(&reply, head) ||
      hop_answer_decode(&decoded, hop_result_answers, item))
    decoded = HOP_RESULT_RETRY;
  if (decoded == HOP_RESULT_RETRY && sim->removal != REMOVE_RESULT_RETRY) {
    if (sim->now_us < run->until_us)
      run_again_later(x, run);
    else
      run_give_up(x, run);
    return;
  }
  sim_note(sim, "delivered job=%llx answer=%d", (unsigned long long)run->item.job.local, decoded);
  run_move(run, RUN_REPORTING);
  run_call(x, run);
}

static void on_reported(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct sim_executor *x = executor_at(sim, call->from);
  struct run *run = run_find(x, *(const uint64_t *)call->what);
  if (!run || run->state != RUN_REPORTING) return;
  if (answer.data)
    run_end(run);
  else
    run_again_later(x, run);
}

static void encode_result(const struct run *run, struct pf_buf *head, struct pf_buf *item) {
  struct hop_result result = {.job = run->item.job,
      .fence = run->item.fence,
      .attempt = run->item.attempt,
      .capability = run->item.capability,
      .outcome = run->outcome,
      .certainty = run->certainty,
      .status = run->status,
      .response_length = run->status ? 2 : 0,
      .timings = {1, 1, -1, 1, -1, 1, 1}};
  if (run->outcome != OUTCOME_OK) result.error = pf_slice_str(outcome_text(run->outcome));
  hop_results_head_encode(head, &(struct hop_results_head){.to = run->item.job.origin});
  hop_result_encode(item, &result);
}

static void encode_report(const struct run *run, struct pf_buf *item) {
  struct hop_complete report = {.job = run->item.job, .fence = run->item.fence, .how = run->how};
  if (run->how != HOP_COMPLETE_DELIVERED) {
    report.outcome = run->outcome;
    report.certainty = run->certainty;
  }
  hop_complete_encode(item, &report);
}

/* What the run's state calls for; repeated until it is answered. */
static void run_call(struct sim_executor *x, struct run *run) {
  struct sim *sim = x->sim;
  struct pf_buf batch, head, item;
  pf_buf_init(&batch, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&item, PF_BUF_MAX_DEFAULT);
  enum sim_node to = run->state == RUN_DELIVERING ? NODE_ORIGIN : NODE_QUEUE;
  enum sim_path path = PATH_START;
  void (*done)(struct sim *, struct sim_call *, struct pf_slice) = on_started;
  if (run->state == RUN_STARTING) {
    struct hop_held held = run_held(run);
    hop_held_encode(&item, &held);
  } else if (run->state == RUN_DELIVERING) {
    encode_result(run, &head, &item);
    path = PATH_RESULT;
    done = on_delivered;
  } else {
    PF_ASSERT(run->state == RUN_REPORTING);
    encode_report(run, &item);
    path = PATH_COMPLETE;
    done = on_reported;
  }
  if (head.len == 0) pf_buf_str(&head, "{}");
  sim_batch(&batch, &head, &item, (struct pf_slice){0});
  sim_send(sim, x->node, to, path, SIM_CALL_MS, &batch, done, &run->id, sizeof(run->id));
  pf_buf_done(&batch);
  pf_buf_done(&head);
  pf_buf_done(&item);
}

/* ---- taking ---- */

static enum hop_execute_answer take(struct sim_executor *x, const struct hop_execute *item) {
  struct sim *sim = x->sim;
  if (sim->removal != REMOVE_SEEN && seen_has(&x->seen, item->fence))
    return seen_refused(&x->seen, item->fence) ? HOP_EXECUTE_FULL : HOP_EXECUTE_SEEN;
  bool full = slots_free(x) == 0;
  seen_put(&x->seen, item->fence, full);
  if (full) return HOP_EXECUTE_FULL;
  struct run *run = x->runs;
  while (run->state != RUN_FREE)
    run++;
  *run = (struct run){.id = ++x->next_run,
      .item = *item,
      .lapses = x->lease.lapses,
      .until_us = sim->now_us + (item->deadline_ms + GRACE_MS) * SIM_MS};
  sim_note(sim, "taken job=%llx attempt=%d", (unsigned long long)item->job.local, item->attempt);
  if (item->repeatable || sim->removal == REMOVE_START) {
    run_fetch(x, run);
  } else if (may_send(x, run)) {
    run_move(run, RUN_STARTING);
    run_call(x, run);
  }
  return HOP_EXECUTE_TAKEN;
}

void executor_serve(struct sim *sim, enum sim_node node, uint64_t request, struct pf_slice batch) {
  struct sim_executor *x = executor_at(sim, node);
  struct pf_slice head, head_body, item, body;
  struct hop_execute_head first;
  struct hop_execute execute;
  struct pf_arena arena;
  pf_arena_init(&arena);
  PF_ASSERT(sim_read(batch, &head, &head_body, &item, &body));
  PF_ASSERT(hop_execute_head_decode(&first, head, &arena, NULL) == PF_OK);
  PF_ASSERT(hop_execute_decode(&execute, item, NULL) == PF_OK);
  pf_arena_done(&arena);
  enum hop_execute_answer answer = HOP_EXECUTE_WRONG_INCARNATION;
  if (first.incarnation == x->incarnation || sim->removal == REMOVE_INCARNATION)
    answer = take(x, &execute);
  struct pf_buf out, text, empty;
  pf_buf_init(&out, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&empty, PF_BUF_MAX_DEFAULT);
  pf_buf_str(&empty, "{}");
  hop_answer_encode(&text, hop_execute_answers, (int)answer);
  sim_batch(&out, &empty, &text, (struct pf_slice){0});
  sim_answer(sim, node, request, pf_buf_view(&out));
  pf_buf_done(&out);
  pf_buf_done(&text);
  pf_buf_done(&empty);
}

/* ---- heartbeats ---- */

static void abort_run(struct sim_executor *x, const struct hop_held *held) {
  for (int i = 0; i < SIM_SLOTS; i++) {
    struct run *run = &x->runs[i];
    if (run->state == RUN_FREE || !pf_fence_eq(run->item.fence, held->fence)) continue;
    if (run->state == RUN_FETCHING) run_end(run);
    if (run->state == RUN_STARTING) run->aborted = true;
  }
}

static void on_beat_answered(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  struct sim_executor *x = executor_at(sim, call->from);
  struct batch_reader reader = batch_reader(answer);
  struct pf_slice head, aborts;
  struct hop_held held;
  x->beating = false;
  if (!answer.data || batch_next(&reader, &head, &aborts)) return;
  lease_grant(&x->lease, LEASE_MS);
  for (size_t i = 0; hop_held_read(aborts, i, &held); i++)
    abort_run(x, &held);
}

static void on_beat(struct sim *sim, struct sim_event *event) {
  struct sim_executor *x = executor_at(sim, event->at);
  sim_after(sim, x->node, BEAT_MS * SIM_MS, on_beat, 0, 0);
  if (x->beating) return;
  struct hop_heartbeat beat = {.executor = x->node,
      .incarnation = x->incarnation,
      .slots = SIM_SLOTS,
      .free = slots_free(x)};
  snprintf(beat.url, sizeof(beat.url), "http://127.0.0.1:8789");
  struct pf_buf batch, head, held;
  pf_buf_init(&batch, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&head, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&held, PF_BUF_MAX_DEFAULT);
  for (int i = 0; i < SIM_SLOTS; i++) {
    struct hop_held entry = run_held(&x->runs[i]);
    if (x->runs[i].state != RUN_FREE) hop_held_append(&held, &entry);
  }
  hop_heartbeat_encode(&head, &beat);
  batch_append(&batch, pf_buf_view(&head), pf_buf_view(&held));
  x->beating = true;
  lease_ask(&x->lease, sim->now_us / SIM_MS);
  sim_send(sim, x->node, NODE_QUEUE, PATH_HEARTBEAT, LEASE_MS - BEAT_MS, &batch, on_beat_answered,
      NULL, 0);
  pf_buf_done(&batch);
  pf_buf_done(&head);
  pf_buf_done(&held);
}

/* ---- life ---- */

void executor_start(struct sim *sim, enum sim_node node) {
  struct sim_executor *x = pf_alloc(sizeof(*x));
  *x = (struct sim_executor){.sim = sim, .node = node, .incarnation = pf_rand_u64(&sim->rand) | 1};
  seen_init(&x->seen);
  sim->executors[node - NODE_EXECUTOR] = x;
  sim_after(sim, node, sim_between(sim, 1, 1000), on_beat, 0, 0);
}

void executor_stop(struct sim *sim, enum sim_node node) {
  struct sim_executor *x = executor_at(sim, node);
  seen_done(&x->seen);
  free(x);
  sim->executors[node - NODE_EXECUTOR] = NULL;
}
