#include "explore.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"

enum { NOBODY = UINT32_MAX };

/* All states, packed, one behind the other; `at` in half words of two bytes. The table holds index
 * + 1 and, beside it, half of the hash: most probes then need no look at the state. */
struct explorer {
  const struct design *design;
  const struct limits *limits;
  uint8_t *bytes;
  size_t len, cap;
  uint32_t *at, *parent;
  uint8_t *ends; /* 1: a way to the end is known */
  size_t count, count_cap;
  uint64_t *table;
  size_t table_mask;
  struct findings findings;
  uint32_t current; /* whose steps are being enumerated */
  uint32_t broken_state;
};

/* ---- the set of states ---- */

static uint64_t hash_bytes(const uint8_t *bytes, size_t len) {
  uint64_t hash = len;
  uint64_t word;
  for (; len >= sizeof(word); bytes += sizeof(word), len -= sizeof(word)) {
    memcpy(&word, bytes, sizeof(word));
    hash = pf_hash_u64(hash ^ word);
  }
  word = 0;
  memcpy(&word, bytes, len);
  return pf_hash_u64(hash ^ word);
}

static const uint8_t *packed_of(const struct explorer *x, uint32_t index) {
  return x->bytes + (size_t)x->at[index] * 2;
}

static void table_put(struct explorer *x, uint64_t hash, uint32_t index) {
  size_t slot = hash & x->table_mask;
  while (x->table[slot])
    slot = (slot + 1) & x->table_mask;
  x->table[slot] = (hash & 0xffffffff00000000u) | ((uint64_t)index + 1);
}

static void table_grow(struct explorer *x) {
  uint64_t *old = x->table;
  size_t old_slots = old ? x->table_mask + 1 : 0;
  size_t slots = old ? old_slots * 2 : 1024;
  x->table = pf_alloc(slots * sizeof(*x->table));
  x->table_mask = slots - 1;
  free(old);
  for (uint32_t i = 0; i < x->count; i++) {
    const uint8_t *packed = packed_of(x, i);
    table_put(x, hash_bytes(packed, state_packed_len(x->design->jobs, packed)), i);
  }
}

static uint32_t states_find(
    const struct explorer *x, uint64_t hash, const uint8_t *packed, size_t len) {
  for (size_t slot = hash & x->table_mask; x->table[slot]; slot = (slot + 1) & x->table_mask) {
    uint32_t index = (uint32_t)x->table[slot] - 1;
    if (x->table[slot] >> 32 == hash >> 32 && memcmp(packed_of(x, index), packed, len) == 0)
      return index;
  }
  return NOBODY;
}

static void states_reserve(struct explorer *x, size_t len) {
  if (x->len + len > x->cap) {
    x->cap = x->cap * 3 / 2 + (1 << 20);
    x->bytes = pf_realloc(x->bytes, x->cap);
  }
  if (x->count == x->count_cap) {
    x->count_cap = x->count_cap * 3 / 2 + 4096;
    x->at = pf_realloc(x->at, x->count_cap * sizeof(*x->at));
    x->parent = pf_realloc(x->parent, x->count_cap * sizeof(*x->parent));
    x->ends = pf_realloc(x->ends, x->count_cap);
  }
  if ((x->count + 1) * 3 > x->table_mask * 2) table_grow(x);
}

/* The form in which a state is kept and looked for. */
static size_t pack_ordered(const struct explorer *x, const struct state *s, uint8_t *packed) {
  struct state ordered = *s;
  state_order_executors(&ordered);
  return state_pack(&ordered, x->design->jobs, packed);
}

/* Adds s unless it is known, and looks at the promises. True: stop. */
static bool states_add(struct explorer *x, const struct state *s) {
  uint8_t packed[STATE_PACKED_MAX];
  size_t len = pack_ordered(x, s, packed);
  uint64_t hash = hash_bytes(packed, len);
  if (states_find(x, hash, packed, len) != NOBODY) return false;
  if (x->count == x->limits->states_max) {
    x->findings.gave_up = true;
    return true;
  }
  size_t even = (len + 1) & ~(size_t)1;
  states_reserve(x, even);
  uint32_t index = (uint32_t)x->count++;
  PF_ASSERT(x->len / 2 <= UINT32_MAX);
  x->at[index] = (uint32_t)(x->len / 2);
  memcpy(x->bytes + x->len, packed, len);
  x->len += even;
  x->parent[index] = x->current;
  x->ends[index] = state_is_finished(x->design, s);
  table_put(x, hash, index);
  for (unsigned j = 0; j < x->design->jobs; j++) {
    if (s->job[j].row.effects > x->findings.effects_max)
      x->findings.effects_max = s->job[j].row.effects;
    if (s->job[j].fetches > x->findings.fetches_max) x->findings.fetches_max = s->job[j].fetches;
  }
  x->findings.broken = promise_broken(x->design, s);
  x->broken_state = index;
  return x->findings.broken != NULL;
}

/* ---- the search ---- */

static bool on_step(void *arg, const struct step *step, const char *words) {
  (void)words;
  return states_add(arg, &step->s);
}

/* Everything that is reachable from the states first.. without a fault. */
static bool explore_free(struct explorer *x, size_t first) {
  for (size_t i = first; i < x->count; i++) {
    struct state s;
    state_unpack(&s, x->design->jobs, packed_of(x, (uint32_t)i));
    struct walk walk = {.design = x->design, .sink = on_step, .arg = x};
    x->current = (uint32_t)i;
    rules_each(&walk, &s);
    if (walk.stop) return true;
  }
  return false;
}

/* One fault in each of the states first..end. */
static bool explore_faults(struct explorer *x, size_t first, size_t end) {
  for (size_t i = first; i < end; i++) {
    struct state s;
    state_unpack(&s, x->design->jobs, packed_of(x, (uint32_t)i));
    struct walk walk = {.design = x->design, .sink = on_step, .arg = x};
    x->current = (uint32_t)i;
    faults_each(&walk, &s);
    if (walk.stop) return true;
  }
  return false;
}

/* ---- ways to the end ---- */

struct way {
  const struct explorer *x;
  bool found;
};

static bool on_way(void *arg, const struct step *step, const char *words) {
  (void)words;
  struct way *way = arg;
  if (step->kind == STEP_DEADLINE && !way->x->limits->deadline_ends) return false;
  uint8_t packed[STATE_PACKED_MAX];
  size_t len = pack_ordered(way->x, &step->s, packed);
  uint32_t index = states_find(way->x, hash_bytes(packed, len), packed, len);
  PF_ASSERT(index != NOBODY);
  way->found = way->x->ends[index];
  return way->found;
}

static bool leads_to_end(const struct explorer *x, size_t index) {
  struct state s;
  state_unpack(&s, x->design->jobs, packed_of(x, (uint32_t)index));
  struct way way = {.x = x};
  struct walk walk = {.design = x->design, .sink = on_way, .arg = &way};
  rules_each(&walk, &s);
  return way.found;
}

/* Marks backwards from the finished states until nothing changes. What is found late leads to what
 * was found later still, so that going from the back few passes are needed. */
static bool find_stuck(struct explorer *x, size_t first) {
  size_t unknown, before = SIZE_MAX;
  for (;;) {
    unknown = 0;
    for (size_t i = x->count; i-- > first;) {
      if (!x->ends[i]) x->ends[i] = leads_to_end(x, i);
      if (!x->ends[i]) {
        unknown++;
        x->broken_state = (uint32_t)i;
      }
    }
    if (unknown == 0 || unknown == before) break;
    before = unknown;
  }
  x->findings.stuck = unknown;
  if (unknown > 0) x->findings.broken = "an accepted job can no longer come to its end";
  return unknown > 0;
}

/* ---- traces ---- */

struct replay {
  const struct explorer *x;
  const uint8_t *packed; /* the state to be reached */
  struct step step;      /* that leads there; executors have the numbers of the beginning */
  const char *words;     /* NULL: not found yet */
};

static bool on_replay(void *arg, const struct step *step, const char *words) {
  struct replay *replay = arg;
  uint8_t packed[STATE_PACKED_MAX];
  size_t len = pack_ordered(replay->x, &step->s, packed);
  if (len != state_packed_len(replay->x->design->jobs, replay->packed) ||
      memcmp(packed, replay->packed, len) != 0)
    return false;
  replay->step = *step;
  replay->words = words;
  return true;
}

static void trace_messages(
    FILE *out, const struct state *here, const struct state *there, const char *sign) {
  for (unsigned i = 0; i < here->net_count; i++) {
    struct msg m = msg_unpack(here->net[i]);
    if (net_has(there, m)) continue;
    struct pf_buf buf;
    pf_buf_init(&buf, 4096);
    msg_words(&buf, m);
    fprintf(out, "                 %s %.*s\n", sign, (int)buf.len, buf.data);
    pf_buf_done(&buf);
  }
}

/* Prints the step from s to the state of this index, and takes it. */
static void trace_step(const struct explorer *x, FILE *out, struct state *s, uint32_t index) {
  static const char executor[] = "executor:";
  struct replay replay = {.x = x, .packed = packed_of(x, index)};
  struct walk walk = {.design = x->design, .sink = on_replay, .arg = &replay};
  rules_each(&walk, s);
  if (!replay.words) faults_each(&walk, s);
  PF_ASSERT(replay.words);
  const char *words = replay.words;
  const char *fault = replay.step.copied ? "**FAULT: a message comes twice** " : "**FAULT** ";
  fprintf(out, "    %s", replay.step.kind == STEP_FAULT ? fault : "");
  if (x->design->jobs > 1) fprintf(out, "[job %d] ", replay.step.job);
  if (strncmp(words, executor, strlen(executor)) == 0)
    fprintf(out, "executor %d:%s\n", replay.step.exec, words + strlen(executor));
  else
    fprintf(out, "%s\n", words);
  trace_messages(out, s, &replay.step.s, "<-");
  trace_messages(out, &replay.step.s, s, "->");
  *s = replay.step.s;
}

/* From the beginning to the state. <- is a message that is gone (taken, or lost), -> one that
 * leaves. */
static void trace_to(const struct explorer *x, FILE *out, uint32_t index) {
  uint32_t path[1024];
  unsigned steps = 0;
  for (; x->parent[index] != NOBODY && steps < PF_COUNT(path); index = x->parent[index])
    path[steps++] = index;
  struct state s;
  state_unpack(&s, x->design->jobs, packed_of(x, index));
  while (steps-- > 0)
    trace_step(x, out, &s, path[steps]);
  fprintf(out, "    => %s\n", x->findings.broken);
}

struct findings explore(const struct design *design, const struct limits *limits, FILE *trace) {
  struct explorer x = {.design = design, .limits = limits, .current = NOBODY};
  struct state start;
  memset(&start, 0, sizeof(start));
  start.known_epoch = 1;
  table_grow(&x);
  bool stop = states_add(&x, &start);
  for (size_t first = 0; !stop; x.findings.faults++) {
    stop = explore_free(&x, first) || find_stuck(&x, first);
    if (stop || x.findings.faults == limits->faults) break;
    size_t end = x.count;
    if (explore_faults(&x, first, end)) {
      stop = true;
      x.findings.faults++;
      break;
    }
    first = end;
  }
  if (x.findings.broken && trace) trace_to(&x, trace, x.broken_state);
  x.findings.states = x.count;
  x.findings.memory_bytes =
      x.cap + x.count_cap * (2 * sizeof(uint32_t) + 1) + (x.table_mask + 1) * sizeof(*x.table);
  free(x.bytes);
  free(x.at);
  free(x.parent);
  free(x.ends);
  free(x.table);
  return x.findings;
}
