/* Time, chance, crashes, and one run. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  SEQUENCE_BITS = 24,
  QUIET_MS = 150000, /* after the last fault everything must have ended in this time */
};

const char *const sim_removals[REMOVALS] = {
#define X(symbol, name) name,
    SIM_REMOVALS(X)
#undef X
};

/* ---- log ---- */

static void log_line(struct sim *sim, const char *line) {
  if (sim->trace) printf("%10lld %s\n", (long long)sim->now_us, line);
  sim->hash = (sim->hash ^ (uint64_t)sim->now_us) * 0x100000001b3;
  for (const char *c = line; *c; c++)
    sim->hash = (sim->hash ^ (unsigned char)*c) * 0x100000001b3;
}

void sim_note(struct sim *sim, const char *fmt, ...) {
  char line[256];
  va_list args;
  va_start(args, fmt);
  vsnprintf(line, sizeof(line), fmt, args);
  va_end(args);
  log_line(sim, line);
}

void sim_fail(struct sim *sim, const char *fmt, ...) {
  va_list args;
  if (sim->why[0]) return;
  va_start(args, fmt);
  vsnprintf(sim->why, sizeof(sim->why), fmt, args);
  va_end(args);
  log_line(sim, sim->why);
}

/* ---- chance and time ---- */

bool sim_chance(struct sim *sim, unsigned parts) {
  return sim->now_us < sim->calm_us && parts && pf_rand_below(&sim->rand, 1000) < parts;
}

int64_t sim_between(struct sim *sim, int64_t low, int64_t high) {
  return low + (int64_t)pf_rand_below(&sim->rand, (uint64_t)(high - low + 1));
}

void sim_after_bytes(struct sim *sim, enum sim_node at, bool any_life, int64_t us,
    void (*fire)(struct sim *sim, struct sim_event *event), uint64_t a, uint64_t b,
    struct pf_slice bytes) {
  struct sim_event *event = pf_alloc(sizeof(*event) + bytes.len + 1);
  event->at = at;
  event->life = any_life ? 0 : sim->nodes[at].life;
  event->fire = fire;
  event->a = a;
  event->b = b;
  event->len = bytes.len;
  if (bytes.len) memcpy(event->bytes, bytes.data, bytes.len);
  event->bytes[bytes.len] = 0;
  PF_ASSERT(++sim->sequence < 1ull << SEQUENCE_BITS);
  pf_heap_set(&sim->heap, &event->node,
      (int64_t)((uint64_t)(sim->now_us + us) << SEQUENCE_BITS | sim->sequence));
}

void sim_after(struct sim *sim, enum sim_node at, int64_t us,
    void (*fire)(struct sim *sim, struct sim_event *event), uint64_t a, uint64_t b) {
  sim_after_bytes(sim, at, false, us, fire, a, b, (struct pf_slice){0});
}

static void fire(struct sim *sim, struct sim_event *event) {
  struct sim_state *node = &sim->nodes[event->at];
  bool gone = node->down || (event->life && event->life != node->life);
  if (!gone && node->paused_until_us > sim->now_us) {
    PF_ASSERT(++sim->sequence < 1ull << SEQUENCE_BITS);
    pf_heap_set(&sim->heap, &event->node,
        (int64_t)((uint64_t)node->paused_until_us << SEQUENCE_BITS | sim->sequence));
    return;
  }
  if (!gone) {
    sim->events++;
    event->fire(sim, event);
  }
  free(event);
}

static bool step(struct sim *sim) {
  struct pf_heap_node *first = pf_heap_first(&sim->heap);
  if (!first || sim->why[0]) return false;
  pf_heap_del(&sim->heap, first);
  sim->now_us = first->key >> SEQUENCE_BITS;
  fire(sim, pf_container_of(first, struct sim_event, node));
  return true;
}

/* ---- life of the nodes ---- */

struct run {
  struct sim sim; /* first */
  struct sim_stores *stores;
};

static void node_start(struct sim *sim, enum sim_node node) {
  struct sim_stores *stores = ((struct run *)sim)->stores;
  sim->nodes[node].down = false;
  sim->nodes[node].life++;
  sim_note(sim, "start %d", node);
  if (node == NODE_QUEUE)
    queue_start_node(sim, stores, pf_rand_u64(&sim->rand) >> 1 | 1);
  else if (node == NODE_ORIGIN)
    origin_start(sim, stores);
  else
    executor_start(sim, node);
}

static void node_stop(struct sim *sim, enum sim_node node) {
  sim_note(sim, "stop %d", node);
  sim->nodes[node].down = true;
  sim->nodes[node].paused_until_us = 0;
  sim_forget_calls(sim, node);
  if (node == NODE_QUEUE)
    queue_stop(sim);
  else if (node == NODE_ORIGIN)
    origin_stop(sim);
  else
    executor_stop(sim, node);
}

static void node_returns(struct sim *sim, struct sim_event *event) {
  if (sim->nodes[event->a].down) node_start(sim, (enum sim_node)event->a);
}

static void node_crash(struct sim *sim, enum sim_node node) {
  if (sim->nodes[node].down) return;
  node_stop(sim, node);
  sim->crashes++;
  for (int i = 0; node == NODE_ORIGIN && i < SIM_CLIENTS; i++)
    client_on_closed(sim, sim->clients[i].conn);
  if (node == NODE_QUEUE && sim_chance(sim, sim->faults.amnesia)) {
    sim_note(sim, "amnesia");
    queue_wipe(((struct run *)sim)->stores);
    sim->amnesias++;
    oracle_new_queue(sim);
  }
  bool soon = sim_between(sim, 0, 1);
  sim_after(sim, NODE_WORLD, sim_between(sim, 1, soon ? 50 : 4000) * SIM_MS, node_returns, node, 0);
}

static void struck(struct sim *sim, struct sim_event *event) {
  node_crash(sim, (enum sim_node)event->a);
}

void sim_worst_moment(struct sim *sim, enum sim_node node, bool freeze) {
  if (freeze && sim_chance(sim, sim->faults.freeze))
    sim->nodes[node].paused_until_us = sim->now_us + sim_between(sim, 2500, 8000) * SIM_MS;
  if (sim_chance(sim, sim->faults.strike))
    sim_after(sim, NODE_WORLD, sim_between(sim, 1, 3000), struck, node, 0);
}

/* ---- faults ---- */

/* Each seed has its own mixture: most kinds are absent, the others mild or fierce. */
static unsigned draw(struct sim *sim, unsigned max) {
  return sim_between(sim, 0, 2) == 0 ? (unsigned)sim_between(sim, 1, max) : 0;
}

static void draw_faults(struct sim *sim) {
  struct sim_faults *f = &sim->faults;
  f->lose = draw(sim, 300);
  f->twice = draw(sim, 300);
  f->slow = draw(sim, 200);
  f->slow_ms = (unsigned)sim_between(sim, 50, 8000);
  f->strike = draw(sim, 100);
  f->freeze = draw(sim, 200);
  for (int i = 0; i < NODES; i++)
    f->crash[i] = draw(sim, 60);
  f->pause = draw(sim, 60);
  f->cut = draw(sim, 80);
  f->amnesia = draw(sim, 600);
  f->jump = draw(sim, 40);
  f->hang_up = draw(sim, 150);
  f->connect_fails = draw(sim, 500);
  f->resets = draw(sim, 400);
  f->hangs = draw(sim, 300);
  f->keep_ms = draw(sim, 2000);
}

static void mischief(struct sim *sim, struct sim_event *event) {
  const struct sim_faults *f = &sim->faults;
  (void)event;
  if (sim->now_us >= sim->calm_us) return;
  sim_after(sim, NODE_WORLD, sim_between(sim, 20, 400) * SIM_MS, mischief, 0, 0);
  for (int i = 0; i < NODES; i++)
    if (sim_chance(sim, f->crash[i])) node_crash(sim, (enum sim_node)i);
  if (sim_chance(sim, f->pause))
    sim->nodes[sim_between(sim, 0, NODES - 1)].paused_until_us =
        sim->now_us + sim_between(sim, 100, 8000) * SIM_MS;
  if (sim_chance(sim, f->cut))
    sim->cut_until_us[sim_between(sim, 0, NODES - 1)][sim_between(sim, 0, NODES - 1)] =
        sim->now_us + sim_between(sim, 100, 8000) * SIM_MS;
  if (sim_chance(sim, f->jump)) sim->skew_ms += sim_between(sim, -3600000, 3600000);
  if (sim_chance(sim, f->hang_up)) client_hang_up(sim, (int)sim_between(sim, 0, SIM_CLIENTS - 1));
}

/* ---- one run ---- */

static void calm(struct sim *sim) {
  memset(sim->cut_until_us, 0, sizeof(sim->cut_until_us));
  for (int i = 0; i < NODES; i++)
    if (sim->nodes[i].down) node_start(sim, (enum sim_node)i);
}

static bool quiet(const struct sim *sim) {
  for (int i = 0; i < NODES; i++)
    if (sim->nodes[i].down) return false;
  return clients_finished(sim) && origin_pending(sim) == 0 && origin_heard(sim) &&
         queue_jobs(sim) == 0;
}

static void release(struct sim *sim) {
  for (int i = 0; i < NODES; i++)
    if (!sim->nodes[i].down) node_stop(sim, (enum sim_node)i);
  for (struct pf_heap_node *node; (node = pf_heap_first(&sim->heap)) != NULL;) {
    pf_heap_del(&sim->heap, node);
    free(pf_container_of(node, struct sim_event, node));
  }
  pf_heap_done(&sim->heap);
}

void sim_run(struct sim *ret, struct sim_stores *stores, uint64_t seed, enum sim_removal removal,
    bool trace) {
  struct run run = {.sim = {.seed = seed,
                        .rand = {seed},
                        .removal = removal,
                        .trace = trace,
                        .now_us = 1000000,
                        .hash = 0xcbf29ce484222325},
      .stores = stores};
  struct sim *sim = &run.sim;
  pf_heap_init(&sim->heap);
  pf_list_init(&sim->calls);
  sim->nodes[NODE_WORLD].life = 1;
  origin_wipe(stores);
  queue_wipe(stores);
  draw_faults(sim);
  sim->calm_us = sim->now_us + sim_between(sim, 2000, 12000) * SIM_MS;
  for (int i = 0; i < NODES; i++)
    node_start(sim, (enum sim_node)i);
  clients_start(sim);
  sim_after(sim, NODE_WORLD, 1, mischief, 0, 0);
  while (sim->now_us < sim->calm_us && step(sim))
    continue;
  if (!sim->why[0]) calm(sim);
  int64_t end_us = sim->calm_us + QUIET_MS * SIM_MS;
  while (!quiet(sim) && sim->now_us < end_us && step(sim))
    continue;
  if (!sim->why[0]) oracle_end(sim);
  if (!sim->why[0]) oracle_origin_rows(sim, stores->origin);
  if (!sim->why[0]) oracle_queue_rows(sim, stores->queue, 0);
  release(sim);
  *ret = *sim;
}
