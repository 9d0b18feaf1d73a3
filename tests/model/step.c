/* Steps: how a next state is made presentable before anybody sees it. */
#include "rules.h"

#include "base/err.h"

/* An answer belongs to a call: when the caller has moved on, it is gone. */
static bool somebody_waits_for(const struct state *s, struct msg m) {
  const struct job *job = &s->job[m.job];
  const struct slot *slot = m.exec < EXECUTORS ? &job->slot[m.exec] : NULL;
  bool same = slot && slot->epoch == m.epoch && slot->n == m.n;
  switch ((enum msg_type)m.type) {
  case MSG_JOB_ANSWER:
    return job->row.state == ROW_PENDING && m.info != JOB_DONE &&
           (m.info != JOB_HAVE || !job->told);
  case MSG_START_ANSWER:
    return same && slot->state == SLOT_TAKEN;
  case MSG_RESULT_ANSWER:
    if (m.exec == BY_QUEUE) return job->entry.state == ENTRY_FAILING && m.epoch == s->epoch;
    return same && (slot->state == SLOT_RESULT || slot->state == SLOT_SENT);
  case MSG_STATUS_ANSWER:
    return job->asking && m.epoch == s->epoch && m.n == job->entry.n;
  case MSG_COMPLETE_ANSWER:
    return same && (slot->state == SLOT_DELIVERED || slot->state == SLOT_RETRY);
  case MSG_JOB:
  case MSG_END:
  case MSG_EXECUTE:
  case MSG_START:
  case MSG_RESULT:
  case MSG_STATUS:
  case MSG_COMPLETE:
    break;
  }
  return true;
}

/* Forgets what can make no difference any more, so that states become equal that behave alike. */
static void state_simplify(const struct design *design, struct state *s) {
  bool will_announce = s->submitted[0] < design->submits;
  for (unsigned i = s->net_count; i-- > 0;)
    if (!somebody_waits_for(s, msg_unpack(s->net[i]))) net_remove(s, i);
  for (unsigned j = 0; j < design->jobs; j++) {
    struct job *job = &s->job[j];
    /* Seen-sets are kept for as long as a copy of the dispatch may come. */
    uint8_t may_come[EXECUTORS][EPOCHS_MAX] = {{0}};
    for (unsigned i = 0; i < s->net_count; i++) {
      struct msg m = msg_unpack(s->net[i]);
      if (m.type == MSG_EXECUTE && m.job == j)
        may_come[m.exec][m.epoch] |= (uint8_t)(1 << (m.n - 1));
    }
    for (unsigned e = 0; e < EXECUTORS; e++)
      for (unsigned epoch = 0; epoch < EPOCHS_MAX; epoch++)
        job->seen[e][epoch] &= may_come[e][epoch];
    if (row_settled(&job->row_disk) && row_is_durable(job))
      job->told = job->row.first_epoch = job->row_disk.first_epoch = 0;
    else
      will_announce = true;
    if (job->told && job->told != s->epoch + 1)
      job->told = TOLD_BY_ANOTHER; /* that queue is no more */
  }
  if (!will_announce) s->known_epoch = 0;
}

void step_take(struct step *step, const char *words) {
  struct walk *walk = step->walk;
  if (walk->stop) return;
  state_simplify(walk->design, &step->s);
  walk->stop = walk->sink(walk->arg, step, words);
}
