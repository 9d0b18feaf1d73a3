/* The protocol between origin, queue (in the orchestrator) and executors, one function a rule. It
 * reads from top to bottom like the life of a job. `rule_holds()` marks what can be left out to see
 * what it is for.
 *
 * A function looks at the present state; if its rule applies, it makes the next state and takes the
 * step. A step is atomic: a handler that commits and then answers is one step, and the crash
 * between the two is the crash that also loses the answer (faults.c). */
#include "rules.h"

#include <string.h>

#include "base/err.h"

static struct step step_begin(struct walk *walk, const struct state *from, uint8_t job) {
  return (struct step){.walk = walk, .kind = STEP_FREE, .s = *from, .job = job};
}

static struct step step_begin_at(
    struct walk *walk, const struct state *from, uint8_t job, uint8_t exec) {
  struct step step = step_begin(walk, from, job);
  step.exec = exec;
  return step;
}

/* A message about the transfer in this slot. */
static struct msg msg_of_slot(uint8_t type, uint8_t j, uint8_t e, const struct slot *slot) {
  return (struct msg){.type = type, .job = j, .exec = e, .epoch = slot->epoch, .n = slot->n};
}

/* A request without an answer is sent again. The answer may just be late, so this may be any time;
 * but two equal requests on the way at once are a fault (faults.c: COPY). */
static void send_unless_on_the_way(struct step *step, struct msg m, const char *words) {
  if (net_has(&step->s, m)) return;
  net_send(&step->s, m);
  step_take(step, words);
}

/* ==== origin ============================================================ */

/* The client may hear `enqueued`: the queue of this epoch has the job. */
static void client_tell(struct job *job, uint8_t epoch) {
  if (job->told == 0) job->told = (uint8_t)(epoch + 1);
}

/* Ids never return: a job gets the next one that was never used. */
static struct job *id_next(const struct design *design, struct state *s) {
  for (unsigned j = 0; j < design->jobs; j++)
    if (s->job[j].row.state == ROW_NONE) return &s->job[j];
  return NULL;
}

/* Only a job that must not be repeated will ever be asked for the epoch of its first announcement.
 */
static bool row_wants_epoch(const struct walk *w, const struct row *row) {
  return !w->design->repeatable && row->first_epoch == 0 && rule_holds(w, RULE_EPOCH_IN_TURN);
}

/* A client submits, or submits again because it is impatient. The turn runs in memory; the row
 * holds the queue epoch that the origin knows now. */
static void client_submits(struct walk *w, const struct state *from, uint8_t key) {
  if (from->submitted[key] == w->design->submits) return;
  if (key > 0 && from->submitted[key - 1] == 0)
    return; /* which client comes first makes no difference */
  struct step t = step_begin(w, from, key);
  t.s.submitted[key]++;
  for (unsigned j = 0; j < w->design->jobs; j++) {
    bool same_key = w->design->one_key || j == key;
    uint8_t state = from->job[j].row.state;
    if (same_key && state != ROW_NONE && state != ROW_FORGOTTEN) {
      step_take(&t, "client: submits again; the key is known, it is the same job");
      return;
    }
  }
  struct job *job = id_next(w->design, &t.s);
  if (!job) return;
  t.job = (uint8_t)(job - t.s.job);
  job->row.state = ROW_PENDING;
  if (row_wants_epoch(w, &job->row)) job->row.first_epoch = from->known_epoch;
  if (!rule_holds(w, RULE_EPOCH_ALWAYS) || !rule_holds(w, RULE_LOST_IS_FINAL))
    job->note = NOTE_NOT_ANNOUNCED;
  if (!rule_holds(w, RULE_TELL_AFTER_COMMIT)) job->told = TOLD_BY_ANOTHER;
  step_take(&t, "client: submits; the origin runs the turn");
}

/* Group commit. With all rules in force only a turn waits here; results are one step (see above).
 */
static void origin_commits(struct walk *w, const struct state *from, uint8_t j) {
  if (row_is_durable(&from->job[j])) return;
  struct step t = step_begin(w, from, j);
  row_commit(&t.s.job[j]);
  step_take(&t, "origin: commits");
}

/* PUT /v1/origins/{id}: at start, and whenever the origin wants to know the epoch of the queue. */
static void origin_registers(struct walk *w, const struct state *from) {
  if (from->known_epoch == from->epoch + 1) return;
  struct step t = step_begin(w, from, 0);
  t.s.known_epoch = (uint8_t)(from->epoch + 1);
  step_take(&t, "origin: registers and learns the queue's epoch");
}

/* A row from a time when no epoch was known gets one, durably, before its first announcement. */
static void origin_stamps(struct walk *w, const struct state *from, uint8_t j) {
  const struct job *job = &from->job[j];
  if (!row_wants_epoch(w, &job->row) || job->row_disk.state != ROW_PENDING ||
      from->known_epoch == 0)
    return;
  struct step t = step_begin(w, from, j);
  t.s.job[j].row.first_epoch = from->known_epoch;
  row_commit(&t.s.job[j]);
  step_take(&t, "origin: commits the epoch under which it will announce the job");
}

/* Pending rows are the outbox: announced until done, at once when the epoch changes, else slowly.
 */
static void origin_announces(struct walk *w, const struct state *from, uint8_t j) {
  const struct job *job = &from->job[j];
  if (job->row.state != ROW_PENDING || from->known_epoch == 0) return;
  if (rule_holds(w, RULE_SEND_AFTER_COMMIT) && job->row_disk.state != ROW_PENDING) return;
  if (row_wants_epoch(w, &job->row)) return;
  if (!rule_holds(w, RULE_ANNOUNCE_AGAIN) && job->outbox == 1) return;
  if (!rule_holds(w, RULE_ANNOUNCE_UNTIL_DONE) && job->outbox == 2) return;
  struct step t = step_begin(w, from, j);
  if (!rule_holds(w, RULE_ANNOUNCE_AGAIN)) t.s.job[j].outbox = 1;
  struct msg announcement = {.type = MSG_JOB, .job = j, .info = job->row.first_epoch};
  if (job->note == NOTE_NOT_ANNOUNCED && !rule_holds(w, RULE_EPOCH_ALWAYS)) announcement.info = 0;
  bool first = job->note == NOTE_NOT_ANNOUNCED && !rule_holds(w, RULE_LOST_IS_FINAL);
  t.s.job[j].note = first ? NOTE_ANNOUNCED_ONCE : NOTE_NONE;
  send_unless_on_the_way(&t, announcement, "origin: announces the job");
}

/* `done` for a pending row changes nothing: only an origin that lost commits can see it, and then
 * the deadline ends the job. */
static void origin_on_job_answer(struct step t, struct msg m) {
  struct walk *w = t.walk;
  struct job *job = &t.s.job[m.job];
  if (m.info == JOB_HAVE) {
    if (job->row_disk.state != ROW_NONE || !rule_holds(w, RULE_TELL_AFTER_COMMIT))
      client_tell(job, m.epoch);
    if (!rule_holds(w, RULE_ANNOUNCE_UNTIL_DONE)) job->outbox = 2;
    if (!rule_holds(w, RULE_EPOCH_IN_TURN) && job->row.first_epoch == 0) {
      job->row.first_epoch = (uint8_t)(m.epoch + 1);
      row_commit(job);
    }
    step_take(&t, "origin: the queue has the job; the client hears `enqueued`");
  } else if (m.info == JOB_LOST && job->note == NOTE_ANNOUNCED_ONCE) {
    job->note = NOTE_NOT_ANNOUNCED;
    job->row.first_epoch = (uint8_t)(m.epoch + 1);
    row_commit(job);
    step_take(&t, "origin: no other queue was ever asked; commits the new epoch");
  } else if (m.info == JOB_LOST && job->row.state == ROW_PENDING) {
    job->row.state = ROW_DONE;
    job->note = NOTE_NONE;
    job->row.declared = 1;
    job->row.effects++;
    row_commit(job);
    step_take(&t, "origin: the queue lost the job; its continuation gets `sent_unknown`, commits");
  } else {
    step_take(&t, "origin: has no use for this answer");
  }
}

/* POST /__receiveResult. The first result of any attempt counts. */
static void origin_on_result(struct step t, struct msg m) {
  struct walk *w = t.walk;
  struct job *job = &t.s.job[m.job];
  struct msg answer = m;
  answer.type = MSG_RESULT_ANSWER;
  answer.info = 1;
  const char *words = NULL;
  bool take = job->row.state == ROW_PENDING && job->row_disk.state == ROW_PENDING;
  if (take && !rule_holds(w, RULE_RESULT_BEFORE_ANSWER) && job->told == 0) {
    take = false;
    words = "origin: the queue has not answered yet, so the result is refused";
  } else if (!take && !rule_holds(w, RULE_ORIGIN_DEDUPES) && job->row_disk.state == ROW_DONE) {
    take = true;
  } else if (!take && !rule_holds(w, RULE_ENDED_IS_ENDED) && job->row.declared &&
             job->row.state == ROW_DONE) {
    take = true;
  } else if (!take && job->row.state == ROW_PENDING) {
    answer.info = rule_holds(w, RULE_UNKNOWN_IS_FINAL);
    words = "origin: no such job is in the database, answers `unknown`";
  } else if (!take && job->row.state == ROW_NONE) {
    answer.info = rule_holds(w, RULE_UNKNOWN_IS_FINAL);
    words = "origin: answers `unknown`";
  } else if (!take) {
    words = job->row.declared ? "origin: answers `stale`, records a late result"
                              : "origin: answers `duplicate`";
  }
  if (take) {
    words = "origin: commits the result, answers `accepted`";
    job->row.state = ROW_RECEIVED;
    job->note = NOTE_NONE;
    job->row.declared = m.exec == BY_QUEUE;
    client_tell(job, m.epoch);
    if (rule_holds(w, RULE_RESULT_DURABLE) && rule_holds(w, RULE_STATUS_DURABLE)) row_commit(job);
  }
  /* The answer waits for the commit: not yet durable = not yet answered, the sender will repeat. */
  if (!row_is_durable(job) && row_settled(&job->row) && rule_holds(w, RULE_RESULT_DURABLE))
    step_take(&t, "origin: has the result in memory, the commit is under way");
  else {
    net_send(&t.s, answer);
    step_take(&t, words);
  }
}

/* The continuation: its effects and the job's step to done are one transaction. */
static void origin_continues(struct walk *w, const struct state *from, uint8_t j) {
  const struct job *now = &from->job[j];
  if (!row_is_durable(now)) return;
  struct step t = step_begin(w, from, j);
  struct job *job = &t.s.job[j];
  if (now->row.state == ROW_DONE && now->note == NOTE_HALF_DONE) {
    job->note = NOTE_NONE;
    job->row.effects++;
    row_commit(job);
    step_take(&t, "origin: runs the continuation, commits its effects");
    return;
  }
  if (now->row.state != ROW_RECEIVED) return;
  if (!rule_holds(w, RULE_MARK_WITH_EFFECT)) {
    job->note = NOTE_HALF_DONE;
    job->row.state = ROW_DONE;
    row_commit(job);
    step_take(&t, "origin: marks the job as done, commits");
    return;
  }
  if (!rule_holds(w, RULE_EFFECT_WITH_MARK) && !now->note) {
    job->note = NOTE_HALF_DONE;
    job->row.effects++;
    row_commit(job);
    step_take(&t, "origin: runs the continuation, commits its effects");
    return;
  }
  if (!now->note) job->row.effects++;
  job->note = NOTE_NONE;
  job->row.state = ROW_DONE;
  row_commit(job);
  step_take(&t, "origin: runs the continuation; effects and `done` commit together");
}

/* Deadline or cancel: a transaction of the origin, then it tells the queue. A result that comes
 * later is `stale`. */
static void origin_ends(struct walk *w, const struct state *from, uint8_t j) {
  const struct job *now = &from->job[j];
  if (!w->design->deadline || now->row.state != ROW_PENDING || !row_is_durable(now)) return;
  struct step t = step_begin(w, from, j);
  t.kind = STEP_DEADLINE;
  struct job *job = &t.s.job[j];
  job->row.state = ROW_DONE;
  job->note = NOTE_NONE;
  job->row.declared = 1;
  job->row.effects++;
  row_commit(job);
  net_send(&t.s, (struct msg){.type = MSG_END, .job = j});
  step_take(&t, "origin: ends the job (deadline or cancel), commits, tells the queue");
}

static void origin_forgets_key(struct walk *w, const struct state *from, uint8_t j) {
  if (rule_holds(w, RULE_KEY_REMEMBERED) || from->job[j].row_disk.state != ROW_DONE) return;
  struct step t = step_begin(w, from, j);
  t.s.job[j].row.state = ROW_FORGOTTEN;
  row_commit(&t.s.job[j]);
  step_take(&t, "origin: forgets the job and its key");
}

/* POST /__status, answered from what is durable. */
static void origin_on_status(struct step t, struct msg m) {
  const struct job *job = &t.s.job[m.job];
  const struct row *row = rule_holds(t.walk, RULE_STATUS_DURABLE) ? &job->row_disk : &job->row;
  m.type = MSG_STATUS_ANSWER;
  m.info = row_settled(row)            ? STATUS_SETTLED
           : row->state == ROW_PENDING ? STATUS_PENDING
                                       : STATUS_UNKNOWN;
  net_send(&t.s, m);
  step_take(&t, "origin: answers the status");
}

/* ==== queue ============================================================ */

static void entry_commit(struct job *job) {
  job->entry_disk = job->entry;
}

/* The job is over here. A tombstone stays until the watermark has passed the id. Lazy: nobody waits
 * for this commit; after a crash the lease is there again, is lost, and the origin knows better. */
static void entry_close(struct walk *w, struct job *job) {
  uint8_t below_low = job->entry.below_low;
  bool tombstone = !below_low && rule_holds(w, RULE_TOMBSTONE);
  job->entry = (struct entry){.state = tombstone ? ENTRY_DONE : ENTRY_NONE, .below_low = below_low};
  job->started = job->asking = 0;
  if (job->settled == 1) job->settled = 0;
}

static void entry_requeue(struct walk *w, struct job *job) {
  bool spent = job->entry.attempt >= w->design->attempts;
  job->entry.state = spent ? ENTRY_FAILING : ENTRY_QUEUED;
  job->entry.n = job->entry.exec = job->entry.orphan = 0;
  job->started = job->asking = 0;
}

/* Nobody knows whether the request was sent: it is not repeated, the continuation gets an error. */
static void entry_fail(struct job *job) {
  job->entry.state = ENTRY_FAILING;
  job->entry.n = job->entry.exec = job->entry.orphan = 0;
  job->started = job->asking = 0;
}

static bool lease_is(const struct state *s, uint8_t j, uint8_t epoch, uint8_t n) {
  const struct entry *entry = &s->job[j].entry;
  return entry->state == ENTRY_LEASED && s->epoch == epoch && entry->n == n;
}

/* POST /v1/jobs: insert or ignore, commit, answer. An id below the watermark is done. A job that
 * must not be repeated may have been run by the queue of another epoch: then it is lost. */
static void queue_on_job(struct step t, struct msg m) {
  struct walk *w = t.walk;
  struct job *job = &t.s.job[m.job];
  bool same_epoch = m.info == 0 || m.info == t.s.epoch + 1;
  struct msg answer = {.type = MSG_JOB_ANSWER, .job = m.job, .epoch = t.s.epoch, .info = JOB_HAVE};
  const char *words = "queue: knows the job";
  if (job->entry.state == ENTRY_DONE || job->entry.below_low) {
    answer.info = JOB_DONE;
    words = "queue: the job is done here";
  } else if (job->entry.state == ENTRY_NONE && !w->design->repeatable && !same_epoch &&
             rule_holds(w, RULE_EPOCH_CHECKED)) {
    answer.info = JOB_LOST;
    words = "queue: may have run in another epoch, must not be repeated: lost";
  } else if (job->entry.state == ENTRY_NONE) {
    job->entry.state = ENTRY_QUEUED;
    if (rule_holds(w, RULE_ACCEPT_DURABLE)) entry_commit(job);
    words = "queue: accepts the job";
  }
  net_send(&t.s, answer);
  step_take(&t, words);
}

/* The origin has ended the job. Leaves a tombstone also if the job itself is still on its way. */
static void queue_on_end(struct step t, struct msg m) {
  entry_close(t.walk, &t.s.job[m.job]);
  step_take(&t, "queue: closes the job that the origin has ended");
}

/* Lease with a new fence and commit, then dispatch to an executor whose heartbeat shows a free
 * slot. */
static void queue_leases(struct walk *w, const struct state *from, uint8_t j) {
  const struct job *now = &from->job[j];
  if (now->entry.state != ENTRY_QUEUED || now->counter == DISPATCHES_MAX) return;
  for (uint8_t e = 0; e < EXECUTORS; e++) {
    if (now->slot[e].state != SLOT_EMPTY) continue;
    struct step t = step_begin(w, from, j);
    struct job *job = &t.s.job[j];
    job->entry.state = ENTRY_LEASED;
    job->entry.attempt++;
    job->entry.n = ++job->counter;
    job->entry.exec = e;
    if (now->settled) job->settled = 2;
    if (rule_holds(w, RULE_LEASE_DURABLE)) entry_commit(job);
    bool last = job->entry.attempt == w->design->attempts;
    struct msg dispatch = {.type = MSG_EXECUTE, .job = j, .exec = e, .epoch = from->epoch};
    dispatch.n = job->entry.n;
    dispatch.info = last;
    net_send(&t.s, dispatch);
    step_take(&t, "queue: leases the job, commits, dispatches it");
  }
}

/* POST /v1/start, for jobs that must not be repeated. Granted in memory, for the present lease
 * only. */
static void queue_on_start(struct step t, struct msg m) {
  struct job *job = &t.s.job[m.job];
  bool go = lease_is(&t.s, m.job, m.epoch, m.n) && !job->asking;
  if (go) job->started = 1;
  m.type = MSG_START_ANSWER;
  m.info = go;
  net_send(&t.s, m);
  step_take(&t, go ? "queue: grants START, in memory" : "queue: refuses START");
}

/* POST /v1/complete. Delivered: the origin has answered a result of this job, whichever lease it
 * was. Retry: the lease is over, the outcome may be repeated; a later lease is none of its
 * business. */
static void queue_on_complete(struct step t, struct msg m) {
  struct walk *w = t.walk;
  struct job *job = &t.s.job[m.job];
  bool active = job->entry.state != ENTRY_NONE && job->entry.state != ENTRY_DONE;
  bool own = lease_is(&t.s, m.job, m.epoch, m.n) ||
             (!rule_holds(w, RULE_FENCE_COMPLETES) && job->entry.state == ENTRY_LEASED);
  const char *words = "queue: an old story, answers ok";
  if (m.info == COMPLETION_DELIVERED && active) {
    entry_close(w, job);
    words = "queue: closes the job (commit later), answers ok";
  } else if (m.info == COMPLETION_RETRY && own) {
    job->settled = job->settled == 2 ? 2 : 0;
    entry_requeue(w, job);
    words = job->entry.state == ENTRY_QUEUED ? "queue: will try again, answers ok"
                                             : "queue: attempts are spent, answers ok";
  }
  m.type = MSG_COMPLETE_ANSWER;
  m.info = 0;
  net_send(&t.s, m);
  step_take(&t, words);
}

/* Heartbeats tell: the incarnation is gone, or does not list the job and will not get it. */
bool lease_is_lost(const struct state *s, uint8_t j) {
  const struct entry *entry = &s->job[j].entry;
  const struct slot *slot = &s->job[j].slot[entry->exec];
  if (entry->orphan) return true;
  if (slot->state != SLOT_EMPTY && slot->epoch == s->epoch && slot->n == entry->n) return false;
  for (unsigned i = 0; i < s->net_count; i++) {
    struct msg m = msg_unpack(s->net[i]);
    if (m.type == MSG_EXECUTE && m.job == j && m.exec == entry->exec && m.epoch == s->epoch &&
        m.n == entry->n && m.info / 2 == 0)
      return false;
  }
  return true;
}

/* The policy for a lost lease when the origin has no result. */
static void entry_redispatch(struct walk *w, struct job *job) {
  if (!w->design->repeatable && job->started)
    entry_fail(job);
  else
    entry_requeue(w, job);
}

void lease_end(struct step t, uint8_t j, const char *words) {
  struct job *job = &t.s.job[j];
  if (row_settled(&job->row_disk)) job->settled = 1;
  if (rule_holds(t.walk, RULE_ASK_STATUS))
    job->asking = 1;
  else
    entry_redispatch(t.walk, job);
  step_take(&t, words);
}

static void queue_notices_lost_lease(struct walk *w, const struct state *from, uint8_t j) {
  const struct job *now = &from->job[j];
  if (now->entry.state != ENTRY_LEASED || now->asking || !rule_holds(w, RULE_LEASE_ENDS)) return;
  if (lease_is_lost(from, j))
    lease_end(
        step_begin(w, from, j), j, "queue: the executor has not the job any more, its lease ends");
}

/* While the origin is silent nothing is dispatched again. */
static void queue_asks_origin(struct walk *w, const struct state *from, uint8_t j) {
  const struct job *now = &from->job[j];
  if (!now->asking) return;
  struct step t = step_begin(w, from, j);
  send_unless_on_the_way(&t,
      (struct msg){.type = MSG_STATUS, .job = j, .epoch = from->epoch, .n = now->entry.n},
      "queue: asks the origin for the status");
}

static void queue_on_status_answer(struct step t, struct msg m) {
  struct job *job = &t.s.job[m.job];
  if (!job->asking || m.epoch != t.s.epoch || m.n != job->entry.n) {
    step_take(&t, "queue: did not ask that");
  } else if (m.info == STATUS_UNKNOWN && !rule_holds(t.walk, RULE_UNKNOWN_IS_FINAL)) {
    step_take(&t, "queue: will ask again");
  } else if (m.info == STATUS_PENDING) {
    entry_redispatch(t.walk, job);
    step_take(&t, job->entry.state == ENTRY_QUEUED ? "queue: will dispatch the job again"
                                                   : "queue: gives up, will deliver the failure");
  } else {
    entry_close(t.walk, job);
    step_take(&t, "queue: the origin does not wait for it, closes the job");
  }
}

/* What no executor holds the queue delivers itself, to the same place and just as stubbornly. */
static void queue_delivers_failure(struct walk *w, const struct state *from, uint8_t j) {
  if (from->job[j].entry.state != ENTRY_FAILING) return;
  struct step t = step_begin(w, from, j);
  send_unless_on_the_way(&t,
      (struct msg){.type = MSG_RESULT, .job = j, .exec = BY_QUEUE, .epoch = from->epoch},
      "queue: delivers the failure to the origin");
}

/* Batches of an origin carry `low`, its oldest id that is not done. Tombstones below go; the ids
 * stay known as done by the watermark, which commits with the deletes. */
static void queue_learns_low(struct walk *w, const struct state *from, uint8_t j) {
  if (from->job[j].entry.below_low) return;
  for (unsigned i = 0; i <= j; i++) {
    uint8_t row = from->job[i].row_disk.state;
    if (row == ROW_PENDING && !rule_holds(w, RULE_LOW_IS_DONE)) continue;
    if (row != ROW_DONE && row != ROW_FORGOTTEN) return;
  }
  struct step t = step_begin(w, from, j);
  struct job *job = &t.s.job[j];
  job->entry.below_low = 1;
  if (job->entry.state == ENTRY_DONE) job->entry.state = ENTRY_NONE;
  step_take(&t, "queue: the origin's watermark has passed the job");
}

/* ==== executor ============================================================ */

/* POST /v1/execute. */
static void executor_on_execute(struct step t, struct msg m) {
  struct walk *w = t.walk;
  struct slot *slot = &t.s.job[m.job].slot[m.exec];
  uint8_t *seen = &t.s.job[m.job].seen[m.exec][m.epoch];
  uint8_t bit = (uint8_t)(1 << (m.n - 1));
  bool same = slot->epoch == m.epoch && slot->n == m.n;
  if (m.info / 2 && rule_holds(w, RULE_INCARNATION)) {
    step_take(&t, "executor: that was for my predecessor, refuses");
  } else if ((*seen & bit) && rule_holds(w, RULE_SEEN_SET)) {
    step_take(&t, "executor: has seen this dispatch");
  } else if (slot->state != SLOT_EMPTY && !same) {
    *seen |= bit;
    step_take(&t, "executor: is full");
  } else {
    *seen |= bit;
    *slot = (struct slot){SLOT_TAKEN, m.epoch, m.n, m.info & 1};
    step_take(&t, "executor: takes the job");
  }
}

/* The fetch, to its end. Either it is a result for the origin (a response, or an error that must
 * not or can not be tried again), or a failure that may be repeated: a repeatable job whatever
 * happened, the other kind only if nothing was sent. The last attempt has no such choice. */
static void executor_transfers(struct step t, uint8_t j, uint8_t e) {
  struct walk *w = t.walk;
  bool last = t.s.job[j].slot[e].last;
  struct step failed = t;
  struct job *job = &t.s.job[j];
  job->fetches++;
  job->slot[e].state = SLOT_RESULT;
  if (!rule_holds(w, RULE_COMPLETE_LAST))
    net_send(&t.s, msg_of_slot(MSG_COMPLETE, j, e, &job->slot[e]));
  step_take(&t, "executor: makes the request, has a result");
  if (last) return;
  job = &failed.s.job[j];
  if (w->design->repeatable) job->fetches++;
  job->slot[e].state = SLOT_RETRY;
  step_take(&failed, w->design->repeatable ? "executor: makes the request, which fails"
                                           : "executor: cannot connect, nothing was sent");
}

static void executor_begins(struct walk *w, const struct state *from, uint8_t j, uint8_t e) {
  const struct slot *slot = &from->job[j].slot[e];
  if (slot->state != SLOT_TAKEN) return;
  struct step t = step_begin_at(w, from, j, e);
  if (w->design->repeatable || !rule_holds(w, RULE_START_ASKED))
    executor_transfers(t, j, e);
  else
    send_unless_on_the_way(&t, msg_of_slot(MSG_START, j, e, slot), "executor: asks for START");
}

static void executor_on_start_answer(struct step t, struct msg m) {
  struct slot *slot = &t.s.job[m.job].slot[m.exec];
  if (slot->state != SLOT_TAKEN || slot->epoch != m.epoch || slot->n != m.n) {
    step_take(&t, "executor: has no use for this answer");
  } else if (m.info) {
    executor_transfers(t, m.job, m.exec);
  } else {
    *slot = (struct slot){SLOT_EMPTY, 0, 0, 0};
    step_take(&t, "executor: may not start, drops the job");
  }
}

/* The answer to a heartbeat lists what is cancelled: what the queue has closed or leased anew. A
 * result that is there already is delivered all the same. */
static void executor_hears_of_cancel(
    struct walk *w, const struct state *from, uint8_t j, uint8_t e) {
  const struct slot *slot = &from->job[j].slot[e];
  const struct entry *entry = &from->job[j].entry;
  if (slot->state != SLOT_TAKEN || slot->epoch != from->epoch || entry->state == ENTRY_NONE ||
      lease_is(from, j, slot->epoch, slot->n))
    return;
  struct step t = step_begin_at(w, from, j, e);
  t.s.job[j].slot[e] = (struct slot){SLOT_EMPTY, 0, 0, 0};
  step_take(&t, "executor: hears with its heartbeat that the job is cancelled, drops it");
}

/* The result is held and sent until the origin has answered. */
static void executor_posts_result(struct walk *w, const struct state *from, uint8_t j, uint8_t e) {
  const struct slot *slot = &from->job[j].slot[e];
  if (slot->state != SLOT_RESULT) return;
  struct step t = step_begin_at(w, from, j, e);
  if (!rule_holds(w, RULE_RESULT_REPEATED)) t.s.job[j].slot[e].state = SLOT_SENT;
  send_unless_on_the_way(&t, msg_of_slot(MSG_RESULT, j, e, slot), "executor: posts the result");
}

/* Also the queue sends results: its answers end here. */
static void sender_on_result_answer(struct step t, struct msg m) {
  struct job *job = &t.s.job[m.job];
  if (m.exec == BY_QUEUE) {
    bool close = m.info && m.epoch == t.s.epoch && job->entry.state == ENTRY_FAILING;
    if (close) entry_close(t.walk, job);
    step_take(&t, close ? "queue: the origin has the failure, closes the job"
                        : "queue: has no use for this answer");
    return;
  }
  struct slot *slot = &job->slot[m.exec];
  bool mine = slot->epoch == m.epoch && slot->n == m.n &&
              (slot->state == SLOT_RESULT || slot->state == SLOT_SENT);
  if (mine && m.info) slot->state = SLOT_DELIVERED;
  step_take(&t, !mine    ? "executor: has no use for this answer"
                : m.info ? "executor: the origin has answered, lets go of the result"
                         : "executor: keeps the result for another try");
}

/* Only then the queue hears of it; the slot stays on the heartbeat list until the queue has
 * answered. */
static void executor_completes(struct walk *w, const struct state *from, uint8_t j, uint8_t e) {
  const struct slot *slot = &from->job[j].slot[e];
  if (slot->state != SLOT_DELIVERED && slot->state != SLOT_RETRY) return;
  struct step t = step_begin_at(w, from, j, e);
  bool retry = slot->state == SLOT_RETRY;
  struct msg report = msg_of_slot(MSG_COMPLETE, j, e, slot);
  report.info = retry ? COMPLETION_RETRY : COMPLETION_DELIVERED;
  send_unless_on_the_way(&t, report,
      retry ? "executor: reports a failure that may be repeated" : "executor: reports completion");
}

static void executor_on_complete_answer(struct step t, struct msg m) {
  struct slot *slot = &t.s.job[m.job].slot[m.exec];
  bool mine = slot->epoch == m.epoch && slot->n == m.n &&
              (slot->state == SLOT_DELIVERED || slot->state == SLOT_RETRY);
  if (mine) *slot = (struct slot){SLOT_EMPTY, 0, 0, 0};
  step_take(&t, mine ? "executor: forgets the job" : "executor: has no use for this answer");
}

/* ==== all of it ============================================================ */

void rules_deliver(struct step t, struct msg m) {
  t.job = m.job;
  t.exec = m.exec;
  switch ((enum msg_type)m.type) {
  case MSG_JOB:
    queue_on_job(t, m);
    break;
  case MSG_END:
    queue_on_end(t, m);
    break;
  case MSG_JOB_ANSWER:
    origin_on_job_answer(t, m);
    break;
  case MSG_EXECUTE:
    executor_on_execute(t, m);
    break;
  case MSG_START:
    queue_on_start(t, m);
    break;
  case MSG_START_ANSWER:
    executor_on_start_answer(t, m);
    break;
  case MSG_RESULT:
    origin_on_result(t, m);
    break;
  case MSG_RESULT_ANSWER:
    sender_on_result_answer(t, m);
    break;
  case MSG_STATUS:
    origin_on_status(t, m);
    break;
  case MSG_STATUS_ANSWER:
    queue_on_status_answer(t, m);
    break;
  case MSG_COMPLETE:
    queue_on_complete(t, m);
    break;
  case MSG_COMPLETE_ANSWER:
    executor_on_complete_answer(t, m);
    break;
  }
}

/* In the order of progress: who looks for a way to the end finds it soon. */
void rules_each(struct walk *w, const struct state *from) {
  for (unsigned i = 0; i < from->net_count && !w->stop; i++) {
    struct step t = step_begin(w, from, 0);
    net_remove(&t.s, i);
    rules_deliver(t, msg_unpack(from->net[i]));
  }
  for (uint8_t j = 0; j < w->design->jobs && !w->stop; j++) {
    for (uint8_t e = 0; e < EXECUTORS; e++) {
      executor_completes(w, from, j, e);
      executor_posts_result(w, from, j, e);
      executor_begins(w, from, j, e);
      executor_hears_of_cancel(w, from, j, e);
    }
    origin_continues(w, from, j);
    queue_delivers_failure(w, from, j);
    queue_notices_lost_lease(w, from, j);
    queue_asks_origin(w, from, j);
    queue_leases(w, from, j);
    queue_learns_low(w, from, j);
    origin_commits(w, from, j);
    origin_stamps(w, from, j);
    origin_announces(w, from, j);
    origin_forgets_key(w, from, j);
    origin_ends(w, from, j);
  }
  origin_registers(w, from);
  for (uint8_t key = 0; key < (w->design->one_key ? 1 : w->design->jobs); key++)
    client_submits(w, from, key);
}
