/* The protocol as rules that may be left out one by one, and the faults it has to survive.
 *
 * Threads    pure
 * Ownership  none
 * Ordering   rules_each() gives the same steps in the same order for the same state.
 * Limits     those of state.h */
#ifndef PF_MODEL_RULES_H
#define PF_MODEL_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "state.h"

/* Each rule by what it demands. A design names those that it does without. */
#define RULE_MAP(X)                                                                                \
  /* origin */                                                                                     \
  X(KEY_REMEMBERED, "key-remembered", "a submit key is known for as long as it may be used again") \
  X(TELL_AFTER_COMMIT, "tell-after-commit", "the client hears nothing before the turn is durable") \
  X(SEND_AFTER_COMMIT, "send-after-commit", "no job leaves before the turn is durable")            \
  X(UNKNOWN_IS_FINAL, "unknown-is-final", "a result for an unknown job is answered for good")      \
  X(ANNOUNCE_AGAIN, "announce-again", "an announcement without an answer is repeated")             \
  X(ANNOUNCE_UNTIL_DONE, "announce-until-done", "a pending job is announced until it is done")     \
  X(EPOCH_IN_TURN, "epoch-in-turn", "the first epoch is durable before the first announcement")    \
  X(EPOCH_ALWAYS, "epoch-always", "each announcement names the first epoch, the first one too")    \
  X(LOST_IS_FINAL, "lost-is-final",                                                                \
      "a lost job is not announced anew, not even if it was sent once")                            \
  X(RESULT_BEFORE_ANSWER, "result-before-answer", "a result may come before the queue's answer")   \
  X(ORIGIN_DEDUPES, "origin-dedupes", "a second result of a job has no effect")                    \
  X(ENDED_IS_ENDED, "ended-is-ended", "a result of a job ended by its deadline has no effect")     \
  X(RESULT_DURABLE, "result-durable", "a result is committed before it is answered")               \
  X(STATUS_DURABLE, "status-durable", "a status is answered from what is durable")                 \
  X(MARK_WITH_EFFECT, "mark-with-effect", "done is not committed before the effects")              \
  X(EFFECT_WITH_MARK, "effect-with-mark", "the effects are not committed before done")             \
  X(LOW_IS_DONE, "low-is-done", "the watermark stays below all jobs that are not done")            \
  /* queue */                                                                                      \
  X(ACCEPT_DURABLE, "accept-durable", "a job is committed before it is answered")                  \
  X(LEASE_DURABLE, "lease-durable", "a lease is committed before the dispatch leaves")             \
  X(LEASE_ENDS, "lease-ends", "the lease of a silent executor ends")                               \
  X(ASK_STATUS, "ask-status", "the origin is asked before a lost job is dispatched again")         \
  X(START_ASKED, "start-asked", "a job that must not be repeated asks before its first byte")      \
  X(START_AFTER_RESTART, "start-after-restart",                                                    \
      "after a restart such leased jobs count as started")                                         \
  X(FENCE_DURABLE, "fence-durable", "no fence is given twice")                                     \
  X(FENCE_COMPLETES, "fence-completes", "a completion counts for its own lease only")              \
  X(TOMBSTONE, "tombstone", "a finished id is known until the watermark has passed it")            \
  X(LOW_DURABLE, "low-durable", "the watermark is durable with the deletes it allows")             \
  X(EPOCH_CHECKED, "epoch-checked", "a job of another epoch that must not be repeated is lost")    \
  X(REBOOT_COUNTS, "reboot-counts", "a queue that lost commits takes such jobs as started")        \
  /* executor */                                                                                   \
  X(INCARNATION, "incarnation", "a dispatch to an earlier incarnation is refused")                 \
  X(SEEN_SET, "seen-set", "a dispatch is taken once")                                              \
  X(RESULT_REPEATED, "result-repeated", "a result is sent until the origin has answered")          \
  X(COMPLETE_LAST, "complete-last", "the queue hears of completion after the origin has answered")

enum rule {
#define X(name, cli, text) RULE_##name,
  RULE_MAP(X)
#undef X
      RULES
};

#define FAULT_MAP(X)                                                                               \
  X(CRASH, "a process is killed: its memory is gone, and any of its requests on the way")          \
  X(LOSS, "a message is lost")                                                                     \
  X(COPY, "a message is delivered, and once more later")                                           \
  X(LEASE, "a lease ends though the executor has the job")                                         \
  X(QUEUE_LOST, "the queue's database is lost; a new one has a new epoch")                         \
  X(QUEUE_CUT, "power cut of the queue's machine in normal mode: the last commits are lost")       \
  X(ORIGIN_CUT, "power cut of the origin's machine in normal mode: the last commits are lost")

enum fault {
#define X(name, text) FAULT_##name,
  FAULT_MAP(X)
#undef X
      FAULTS
};

/* What is explored: so many jobs of a kind, these faults, these rules. */
struct design {
  const char *name, *text;
  uint8_t jobs;    /* ids that may be given */
  uint8_t submits; /* of the client, for each key */
  bool one_key;    /* all submits carry the same key */
  bool repeatable; /* GET, or with an idempotency key */
  uint8_t attempts;
  bool deadline;        /* the origin may end jobs: deadline, cancel */
  uint8_t queue_losses; /* how often the queue may lose its database, or commits */
  unsigned fault_kinds; /* PF_BIT(FAULT_...) */
  uint64_t without;     /* rules left out: 1 << RULE_... */
};

struct walk;

enum step_kind {
  STEP_FREE,     /* what the protocol does; any delay, any order */
  STEP_DEADLINE, /* the origin ends a job: possible, but not what finishing may rely on */
  STEP_FAULT,
};

/* A step in the making: `s` starts as the present state and is changed into the next one. */
struct step {
  struct walk *walk;
  enum step_kind kind;
  uint8_t job, exec; /* whom it concerns, for the trace */
  bool copied;       /* a copy of the message that is delivered stays on the way */
  struct state s;
};

/* Receives each possible step; true ends the enumeration. words: "who: what". */
typedef bool step_sink(void *arg, const struct step *step, const char *words);

struct walk {
  const struct design *design;
  step_sink *sink;
  void *arg;
  bool stop;
};

/* The step is complete. */
void step_take(struct step *step, const char *words);

static inline bool rule_holds(const struct walk *walk, enum rule rule) {
  return (walk->design->without >> rule & 1) == 0;
}

/* All steps that need no fault (rules.c). */
void rules_each(struct walk *walk, const struct state *from);
/* All faults that may strike now (faults.c). */
void faults_each(struct walk *walk, const struct state *from);

/* Delivers m, which is no longer among step->s.net, to its receiver. */
void rules_deliver(struct step step, struct msg m);
/* True if the executor that has the lease of this job can no longer have it, nor get it. */
bool lease_is_lost(const struct state *s, uint8_t job);
/* The lease ends: by right, or by the fault of that name. */
void lease_end(struct step step, uint8_t job, const char *words);

/* NULL if s breaks no promise, else which. */
const char *promise_broken(const struct design *design, const struct state *s);
/* True if all that was accepted has come to its end and nobody holds anything any more. */
bool state_is_finished(const struct design *design, const struct state *s);

#endif
