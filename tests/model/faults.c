/* What may go wrong, each for the price of one fault, and the promises that must hold all the same.
 *
 * A crash and the restart after it are one step: being down is no different from being slow. */
#include "rules.h"

#include <string.h>

#include "base/err.h"

/* ---- messages ---- */

static void message_lost(struct walk *w, const struct state *from, unsigned i) {
  struct step t = {.walk = w, .kind = STEP_FAULT, .s = *from};
  net_remove(&t.s, i);
  step_take(&t, "network: loses a message");
}

static void message_copied(struct walk *w, const struct state *from, unsigned i) {
  struct step t = {.walk = w, .kind = STEP_FAULT, .copied = true, .s = *from};
  rules_deliver(t, msg_unpack(from->net[i]));
}

/* Connections end with the process. Answers to it find nobody (nor does anybody want the answer to
 * a status that it asked for), and of all else from it and to it any part may be lost. That is also
 * how a crash between commit and answer, or between receipt and commit, looks from outside. */
static void take_with_broken_connections(struct step t, unsigned process, const char *words) {
  uint16_t doubtful[NET_MAX];
  unsigned count = 0;
  struct state base = t.s;
  base.net_count = 0;
  for (unsigned i = 0; i < t.s.net_count; i++) {
    struct msg m = msg_unpack(t.s.net[i]);
    bool from_it = msg_sender(m) == process, to_it = msg_receiver(m) == process;
    if ((to_it && msg_is_answer(m)) || (from_it && m.type == MSG_STATUS)) continue;
    if (from_it || to_it)
      doubtful[count++] = t.s.net[i];
    else
      base.net[base.net_count++] = t.s.net[i];
  }
  for (unsigned kept = 0; kept < PF_BIT(count) && !t.walk->stop; kept++) {
    t.s = base;
    for (unsigned i = 0; i < count; i++)
      if (kept & PF_BIT(i)) net_send(&t.s, msg_unpack(doubtful[i]));
    step_take(&t, words);
  }
}

/* ---- processes ---- */

static void origin_restarts(struct state *s) {
  s->known_epoch = 0;
  for (unsigned j = 0; j < JOBS_MAX; j++) {
    s->job[j].row = s->job[j].row_disk;
    s->job[j].note = 0;
  }
}

/* Nobody waits for a lazy commit, so that it makes no difference when it happened, only whether. */
static void queue_commits(struct state *s) {
  for (unsigned j = 0; j < JOBS_MAX; j++)
    s->job[j].entry_disk = s->job[j].entry;
}

/* START was granted in memory. Who was leased a job that must not be repeated may have started it.
 */
static void queue_restarts(struct walk *w, struct state *s) {
  for (unsigned j = 0; j < JOBS_MAX; j++) {
    struct job *job = &s->job[j];
    if (!rule_holds(w, RULE_LOW_DURABLE)) job->entry_disk.below_low = 0;
    job->entry = job->entry_disk;
    job->started = !w->design->repeatable && job->entry.state == ENTRY_LEASED &&
                   rule_holds(w, RULE_START_AFTER_RESTART);
    job->asking = 0;
    if (job->settled == 1) job->settled = 0;
    if (!rule_holds(w, RULE_FENCE_DURABLE)) job->counter = 0;
  }
}

static void executor_restarts(struct state *s, unsigned e) {
  for (unsigned j = 0; j < JOBS_MAX; j++) {
    struct job *job = &s->job[j];
    job->slot[e] = (struct slot){SLOT_EMPTY, 0, 0, 0};
    memset(job->seen[e], 0, sizeof(job->seen[e]));
    if (job->entry.state == ENTRY_LEASED && job->entry.exec == e) job->entry.orphan = 1;
    if (job->entry_disk.state == ENTRY_LEASED && job->entry_disk.exec == e)
      job->entry_disk.orphan = 1;
  }
  struct state old = *s;
  s->net_count = 0;
  for (unsigned i = 0; i < old.net_count; i++) {
    struct msg m = msg_unpack(old.net[i]);
    if (m.type == MSG_EXECUTE && m.exec == e) m.info |= 2;
    net_send(s, m);
  }
}

static void crashes(struct walk *w, const struct state *from) {
  static const char *const words[EXECUTORS] = {
      "executor 0: is killed, restarts", "executor 1: is killed, restarts"};
  struct step t = {.walk = w, .kind = STEP_FAULT, .s = *from};
  origin_restarts(&t.s);
  take_with_broken_connections(t, ORIGIN, "origin: is killed, restarts");
  t.s = *from;
  queue_restarts(w, &t.s);
  take_with_broken_connections(
      t, QUEUE, "queue: the orchestrator is killed, what was lazy is lost, restarts");
  t.s = *from;
  queue_commits(&t.s);
  queue_restarts(w, &t.s);
  take_with_broken_connections(t, QUEUE, "queue: the orchestrator is killed, restarts");
  for (unsigned e = 0; e < EXECUTORS; e++) {
    t.s = *from;
    executor_restarts(&t.s, e);
    take_with_broken_connections(t, EXECUTOR_0 + e, words[e]);
  }
}

/* ---- disks ---- */

static void queue_begins_epoch(struct walk *w, struct state *s) {
  s->epoch++;
  queue_restarts(w, s);
  for (unsigned j = 0; j < JOBS_MAX; j++)
    s->job[j].counter = 0;
}

static void queue_is_lost(struct walk *w, const struct state *from) {
  if (from->epoch == w->design->queue_losses) return;
  struct step t = {.walk = w, .kind = STEP_FAULT, .s = *from};
  for (unsigned j = 0; j < JOBS_MAX; j++)
    t.s.job[j].entry_disk = (struct entry){0};
  queue_begins_epoch(w, &t.s);
  take_with_broken_connections(t, QUEUE, "queue: its database is lost, a new one has a new epoch");
}

/* The queue in normal mode after a power cut: an older state of the database, known by the new
 * boot, so the epoch is renewed. No lease of the old epoch holds. Whatever of the other kind is
 * queued or leased may have been sent in the moments that are lost. */
static void queue_reopens_older(
    struct walk *w, const struct state *from, bool committed, uint8_t older) {
  struct step t = {.walk = w, .kind = STEP_FAULT, .s = *from};
  if (committed) queue_commits(&t.s);
  for (unsigned j = 0; j < JOBS_MAX; j++) {
    struct entry *disk = &t.s.job[j].entry_disk;
    if (disk->state == ENTRY_NONE && !disk->below_low) continue;
    if (older == ENTRY_NONE)
      *disk = (struct entry){0};
    else if (older == ENTRY_QUEUED)
      *disk = (struct entry){.state = ENTRY_QUEUED};
    else if (disk->state == ENTRY_LEASED)
      *disk = (struct entry){.state = ENTRY_QUEUED, .below_low = disk->below_low};
    if (!w->design->repeatable && disk->state == ENTRY_QUEUED && rule_holds(w, RULE_REBOOT_COUNTS))
      disk->state = ENTRY_FAILING;
  }
  queue_begins_epoch(w, &t.s);
  take_with_broken_connections(
      t, QUEUE, "queue: power cut in normal mode, its last commits are lost; new epoch");
}

static void queue_is_cut(struct walk *w, const struct state *from) {
  if (from->epoch == w->design->queue_losses) return;
  queue_reopens_older(w, from, false, ENTRY_NONE);
  queue_reopens_older(w, from, false, ENTRY_QUEUED);
  queue_reopens_older(w, from, false, ENTRY_LEASED);
  queue_reopens_older(w, from, true, ENTRY_LEASED);
}

/* The origin in normal mode after a power cut: its last commits are undone, the effects with them.
 */
static void origin_is_cut(struct walk *w, const struct state *from) {
  static const uint8_t older[] = {ROW_NONE, ROW_PENDING};
  for (unsigned i = 0; i < PF_COUNT(older); i++) {
    struct step t = {.walk = w, .kind = STEP_FAULT, .s = *from};
    for (unsigned j = 0; j < JOBS_MAX; j++) {
      struct row *disk = &t.s.job[j].row_disk;
      if (disk->state <= older[i]) continue;
      t.s.job[j].settled = 0;
      uint8_t first_epoch = older[i] == ROW_NONE ? 0 : 1; /* there is no other epoch here */
      *disk = (struct row){.state = older[i], .first_epoch = first_epoch};
    }
    origin_restarts(&t.s);
    take_with_broken_connections(
        t, ORIGIN, "origin: power cut in normal mode, its last commits are lost");
  }
}

static void lease_ends_wrongly(struct walk *w, const struct state *from, uint8_t j) {
  const struct job *job = &from->job[j];
  if (job->entry.state != ENTRY_LEASED || job->asking || lease_is_lost(from, j)) return;
  lease_end((struct step){.walk = w, .kind = STEP_FAULT, .s = *from}, j,
      "queue: hears no heartbeat in time and ends the lease, though the executor is alive");
}

void faults_each(struct walk *w, const struct state *from) {
  unsigned kinds = w->design->fault_kinds;
  for (unsigned i = 0; i < from->net_count; i++) {
    if (kinds & PF_BIT(FAULT_LOSS)) message_lost(w, from, i);
    if (kinds & PF_BIT(FAULT_COPY)) message_copied(w, from, i);
  }
  for (uint8_t j = 0; j < w->design->jobs; j++)
    if (kinds & PF_BIT(FAULT_LEASE)) lease_ends_wrongly(w, from, j);
  if (kinds & PF_BIT(FAULT_CRASH)) crashes(w, from);
  if (kinds & PF_BIT(FAULT_QUEUE_LOST)) queue_is_lost(w, from);
  if (kinds & PF_BIT(FAULT_QUEUE_CUT)) queue_is_cut(w, from);
  if (kinds & PF_BIT(FAULT_ORIGIN_CUT)) origin_is_cut(w, from);
}

/* ---- promises ---- */

const char *promise_broken(const struct design *design, const struct state *s) {
  unsigned effects = 0;
  for (unsigned j = 0; j < design->jobs; j++) {
    const struct job *job = &s->job[j];
    effects = (design->one_key ? effects : 0) + job->row.effects;
    if (effects > 1) return "the effects of a continuation happened twice";
    if (!design->repeatable && job->fetches > 1)
      return "a request that must not be repeated was made twice";
    /* Each queue that was lost took its count of attempts with it. */
    if (design->repeatable && job->fetches > design->attempts * (s->epoch + 1))
      return "a request was made more often than the attempts allow";
    if (job->settled == 2)
      return "a job was dispatched again though its origin had the result when the lease was lost";
    bool may_lose = design->fault_kinds & PF_BIT(FAULT_ORIGIN_CUT);
    if (job->told && job->row.state == ROW_NONE && !may_lose)
      return "the client was told `enqueued`, and the origin has lost the job";
    if (job->told == s->epoch + 1 && job->row.state == ROW_PENDING && !may_lose &&
        job->entry.state == ENTRY_NONE && !job->entry.below_low)
      return "the queue has lost a job that it had accepted";
  }
  return NULL;
}

bool state_is_finished(const struct design *design, const struct state *s) {
  for (unsigned j = 0; j < design->jobs; j++) {
    const struct job *job = &s->job[j];
    uint8_t row = job->row_disk.state;
    if (row == ROW_NONE) continue; /* never accepted: promised nothing */
    if ((row != ROW_DONE && row != ROW_FORGOTTEN) || job->row_disk.effects != 1) return false;
    if (job->entry.state != ENTRY_NONE && job->entry.state != ENTRY_DONE) return false;
    for (unsigned e = 0; e < EXECUTORS; e++)
      if (job->slot[e].state != SLOT_EMPTY) return false;
  }
  return true;
}
