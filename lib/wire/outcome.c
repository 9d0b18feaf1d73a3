#include "wire/outcome.h"

#include "base/err.h"

struct outcome_row {
  enum owner owner;
  bool retried;
  int http_status;
  const char *text;
};

static const struct outcome_row rows[OUTCOME_COUNT] = {
#define X(symbol, code, owner, retried, status, text) [symbol] = {owner, retried, status, text},
    OUTCOME_MAP(X)
#undef X
};

const char *const outcome_codes[] = {
#define X(symbol, code, owner, retried, status, text) [symbol] = code,
    OUTCOME_MAP(X)
#undef X
        NULL,
};

const char *const certainty_names[] = {
    [CERTAINTY_NOT_SENT] = "not_sent",
    [CERTAINTY_SENT_UNKNOWN] = "sent_unknown",
    [CERTAINTY_ANSWERED_PARTIAL] = "answered_partial",
    [CERTAINTY_ANSWERED] = "answered",
    NULL,
};

static const char *const owner_names[] = {
    [OWNER_POLICY] = "policy",
    [OWNER_DNS] = "dns",
    [OWNER_TARGET] = "target",
    [OWNER_EXECUTOR] = "executor",
    [OWNER_ORCHESTRATOR] = "orchestrator",
    [OWNER_ORIGIN] = "origin",
    [OWNER_CLIENT] = "client",
};

static const struct outcome_row *row_of(enum outcome outcome) {
  PF_ASSERT((unsigned)outcome < OUTCOME_COUNT);
  return &rows[outcome];
}

static bool name_find(const char *const names[], struct pf_slice name, int *ret_index) {
  for (int i = 0; names[i]; i++)
    if (pf_slice_is(name, names[i])) return *ret_index = i, true;
  return false;
}

const char *certainty_name(enum certainty certainty) {
  PF_ASSERT((unsigned)certainty <= CERTAINTY_ANSWERED);
  return certainty_names[certainty];
}

bool certainty_parse(struct pf_slice name, enum certainty *ret) {
  int index;
  if (!name_find(certainty_names, name, &index)) return false;
  *ret = (enum certainty)index;
  return true;
}

const char *owner_name(enum owner owner) {
  PF_ASSERT((unsigned)owner < PF_COUNT(owner_names));
  return owner_names[owner];
}

const char *outcome_code(enum outcome outcome) {
  PF_ASSERT((unsigned)outcome < OUTCOME_COUNT);
  return outcome_codes[outcome];
}

enum owner outcome_owner(enum outcome outcome) {
  return row_of(outcome)->owner;
}

bool outcome_retried(enum outcome outcome) {
  return row_of(outcome)->retried;
}

bool outcome_declared(enum outcome outcome) {
  return outcome == OUTCOME_EXECUTOR_LOST || outcome == OUTCOME_POISON ||
         outcome == OUTCOME_QUEUE_TIMEOUT || outcome == OUTCOME_QUEUE_LOST ||
         outcome == OUTCOME_DEADLINE || outcome == OUTCOME_CANCELED;
}

int outcome_http_status(enum outcome outcome) {
  return row_of(outcome)->http_status;
}

const char *outcome_text(enum outcome outcome) {
  return row_of(outcome)->text;
}

bool outcome_parse(struct pf_slice code, enum outcome *ret) {
  int index;
  if (!name_find(outcome_codes, code, &index)) return false;
  *ret = (enum outcome)index;
  return true;
}
