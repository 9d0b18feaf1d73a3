#include "designs.h"

#include <string.h>

#include "base/err.h"

static const struct {
  const char *name, *text;
} rule_words[] = {
#define X(id, cli, words) [RULE_##id] = {cli, words},
    RULE_MAP(X)
#undef X
};

const char *rule_name(enum rule rule) {
  PF_ASSERT(rule < RULES);
  return rule_words[rule].name;
}

const char *rule_text(enum rule rule) {
  PF_ASSERT(rule < RULES);
  return rule_words[rule].text;
}

enum rule rule_find(const char *name) {
  enum rule rule = 0;
  while (rule < RULES && strcmp(rule_words[rule].name, name) != 0)
    rule++;
  return rule;
}

#define ORDINARY                                                                                   \
  (PF_BIT(FAULT_CRASH) | PF_BIT(FAULT_LOSS) | PF_BIT(FAULT_COPY) | PF_BIT(FAULT_LEASE))
#define AMNESIA (ORDINARY | PF_BIT(FAULT_QUEUE_LOST))
#define WITHOUT(rule) ((uint64_t)1 << RULE_##rule)

/* One job of one client, two attempts. The queue of a repeatable job is lost once at most, because
 * each queue makes its own attempts, and they multiply. */
#define ONE_JOB .jobs = 1, .submits = 1, .attempts = 2
#define REPEATABLE ONE_JOB, .repeatable = true, .queue_losses = 1
#define ONCE ONE_JOB, .repeatable = false, .queue_losses = EPOCHS_MAX - 1

const struct good goods[] = {
    {{"repeatable", "a GET: fetched at least once", REPEATABLE, .fault_kinds = ORDINARY}, 2, false},
    {{"once", "a POST: fetched at most once", ONCE, .fault_kinds = ORDINARY}, 2, false},
    {{"repeatable-amnesia", "a GET, and the queue may lose its database", REPEATABLE,
         .fault_kinds = AMNESIA},
        2, false},
    {{"once-amnesia", "a POST, and the queue may lose its database", ONCE, .fault_kinds = AMNESIA},
        2, false},
    {{"repeatable-deadline", "a GET with deadline and cancel", REPEATABLE, .deadline = true,
         .fault_kinds = ORDINARY},
        2, false},
    {{"once-deadline", "a POST with deadline and cancel", ONCE, .deadline = true,
         .fault_kinds = ORDINARY},
        2, false},
    {{"repeatable-amnesia-again", "a GET, and the queue may lose its database more than once",
         ONE_JOB, .repeatable = true, .queue_losses = EPOCHS_MAX - 1, .fault_kinds = AMNESIA},
        1, false},
    {{"resubmit", "a POST that its client submits twice under one key", .jobs = 2, .submits = 2,
         .attempts = 2, .one_key = true, .fault_kinds = ORDINARY},
        1, false},
    {{"repeatable-queue-normal", "a GET, and a power cut of the queue in normal mode", REPEATABLE,
         .fault_kinds = ORDINARY | PF_BIT(FAULT_QUEUE_CUT)},
        1, false},
    {{"once-queue-normal", "a POST, and a power cut of the queue in normal mode", ONCE,
         .fault_kinds = ORDINARY | PF_BIT(FAULT_QUEUE_CUT)},
        1, false},
    {{"once-origin-normal", "a POST, and a power cut of the origin in normal mode", ONCE,
         .deadline = true, .fault_kinds = ORDINARY | PF_BIT(FAULT_ORIGIN_CUT)},
        1, true},
    {{"three-attempts", "a POST with three attempts", .jobs = 1, .submits = 1, .attempts = 3,
         .fault_kinds = ORDINARY},
        1, false},
    {{"two-jobs", "two GETs", .jobs = 2, .submits = 1, .attempts = 2, .repeatable = true,
         .fault_kinds = ORDINARY},
        0, false},
};
const size_t good_count = PF_COUNT(goods);

#define REMOVAL(name, text, kind, kinds, rules, min, what)                                         \
  { {name, text, kind, .fault_kinds = kinds, .without = rules}, min, what }

const struct removal removals[] = {
    /* origin */
    REMOVAL("no-dedupe", "the origin does not know results by job id", REPEATABLE, ORDINARY,
        WITHOUT(ORIGIN_DEDUPES), 0, "effect twice"),
    {{"key-forgotten", "the origin forgets the key of a finished job early", .jobs = 2,
         .submits = 2, .attempts = 2, .repeatable = true, .one_key = true, .fault_kinds = ORDINARY,
         .without = WITHOUT(KEY_REMEMBERED)},
        0, "effect twice"},
    REMOVAL("send-before-commit", "the job leaves before the turn is durable", REPEATABLE, ORDINARY,
        WITHOUT(SEND_AFTER_COMMIT), 0, "job lost"),
    REMOVAL("send-before-commit-retry", "the same, and an unknown job is not a final answer",
        REPEATABLE, ORDINARY, WITHOUT(SEND_AFTER_COMMIT) | WITHOUT(UNKNOWN_IS_FINAL), HOLDS,
        "survives"),
    REMOVAL("told-before-commit", "the client is told before the turn is durable", REPEATABLE,
        ORDINARY, WITHOUT(TELL_AFTER_COMMIT), 1, "job lost"),
    REMOVAL("announced-once", "the announcement is sent once", REPEATABLE, ORDINARY,
        WITHOUT(ANNOUNCE_AGAIN), 1, "job lost"),
    REMOVAL("plain-outbox", "the announcement ends with the queue's answer", REPEATABLE, AMNESIA,
        WITHOUT(ANNOUNCE_UNTIL_DONE), 1, "job lost"),
    REMOVAL("result-needs-answer", "a result before the queue's answer is refused", REPEATABLE,
        ORDINARY, WITHOUT(RESULT_BEFORE_ANSWER), 0, "job lost"),
    REMOVAL("result-before-commit", "a result is answered before it is durable", REPEATABLE,
        ORDINARY, WITHOUT(RESULT_DURABLE), 1, "result lost"),
    REMOVAL("mark-then-effect", "done is committed before the effects", REPEATABLE, ORDINARY,
        WITHOUT(MARK_WITH_EFFECT), 1, "effect lost"),
    REMOVAL("effect-then-mark", "the effects are committed before done", REPEATABLE, ORDINARY,
        WITHOUT(EFFECT_WITH_MARK), 1, "effect twice"),
    {{"ended-takes-result", "a job that its deadline has ended takes a result", REPEATABLE,
         .deadline = true, .fault_kinds = ORDINARY, .without = WITHOUT(ENDED_IS_ENDED)},
        0, "effect twice"},
    REMOVAL("status-before-commit", "a status is answered from what is not durable", REPEATABLE,
        ORDINARY, WITHOUT(STATUS_DURABLE), 2, "job lost"),
    REMOVAL("low-too-high", "the watermark passes a job that is not done", REPEATABLE, ORDINARY,
        WITHOUT(LOW_IS_DONE), 0, "job lost"),
    REMOVAL("epoch-after-answer", "a row gets its first epoch with the queue's answer", ONCE,
        AMNESIA, WITHOUT(EPOCH_IN_TURN), 1, "fetched twice"),
    REMOVAL("epoch-not-first", "the first announcement names no epoch, because it is the first",
        ONCE, AMNESIA, WITHOUT(EPOCH_ALWAYS), 1, "fetched twice"),
    REMOVAL("lost-once-again", "a job lost at its only announcement gets a new first epoch", ONCE,
        AMNESIA, WITHOUT(LOST_IS_FINAL), 2, "fetched twice"),
    REMOVAL("no-deadline", "a power cut of the origin in normal mode, and jobs without a deadline",
        ONCE, ORDINARY | PF_BIT(FAULT_ORIGIN_CUT), 0, 1, "stuck"),
    /* queue */
    REMOVAL("accept-before-commit", "a job is answered before it is durable", REPEATABLE, ORDINARY,
        WITHOUT(ACCEPT_DURABLE), 1, "job lost"),
    REMOVAL("dispatch-before-commit", "the dispatch leaves before its lease is durable", ONCE,
        ORDINARY, WITHOUT(LEASE_DURABLE), 1, "fetched twice"),
    REMOVAL(
        "no-lease-end", "leases do not end", REPEATABLE, ORDINARY, WITHOUT(LEASE_ENDS), 1, "stuck"),
    REMOVAL("no-status", "the origin is not asked before a redispatch", REPEATABLE, ORDINARY,
        WITHOUT(ASK_STATUS), 1, "fetched again"),
    REMOVAL(
        "no-start", "START is left out", ONCE, ORDINARY, WITHOUT(START_ASKED), 1, "fetched twice"),
    REMOVAL("start-forgotten", "after a restart leased jobs count as not started", ONCE, ORDINARY,
        WITHOUT(START_AFTER_RESTART), 2, "fetched twice"),
    REMOVAL("fence-in-memory", "a restart begins again with the first fence", ONCE, ORDINARY,
        WITHOUT(FENCE_DURABLE), 2, "fetched twice"),
    {{"complete-any-lease", "a completion counts for whatever lease there is", .jobs = 1,
         .submits = 1, .attempts = 3, .fault_kinds = ORDINARY, .without = WITHOUT(FENCE_COMPLETES)},
        0, "fetched twice"},
    REMOVAL("no-tombstone", "the queue forgets a finished id early", ONCE, ORDINARY,
        WITHOUT(TOMBSTONE), 0, "fetched twice"),
    REMOVAL("low-in-memory", "the watermark is gone after a crash, the tombstones too", ONCE,
        ORDINARY, WITHOUT(LOW_DURABLE), 1, "fetched twice"),
    REMOVAL("no-epoch-check", "a job of another epoch is taken as new", ONCE, AMNESIA,
        WITHOUT(EPOCH_CHECKED), 1, "fetched twice"),
    REMOVAL("reboot-forgets", "a queue that lost commits goes on with what it has", ONCE,
        ORDINARY | PF_BIT(FAULT_QUEUE_CUT), WITHOUT(REBOOT_COUNTS), 1, "fetched twice"),
    /* executor */
    REMOVAL("no-incarnation", "a dispatch to an earlier incarnation is taken", ONCE, ORDINARY,
        WITHOUT(INCARNATION), 2, "fetched twice"),
    REMOVAL("no-seen-set", "an executor does not remember dispatches", ONCE, ORDINARY,
        WITHOUT(SEEN_SET), 1, "fetched twice"),
    REMOVAL("result-once", "the result is sent once", REPEATABLE, ORDINARY,
        WITHOUT(RESULT_REPEATED), 1, "stuck"),
    REMOVAL("complete-first",
        "completion is reported with the fetch, not after the origin's answer", REPEATABLE,
        ORDINARY, WITHOUT(COMPLETE_LAST), 1, "result lost"),
};
const size_t removal_count = PF_COUNT(removals);
