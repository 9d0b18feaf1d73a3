/* Single steps of the origin's core, each too short to be timed alone: a sample is the mean of
 * BATCH of them, but for continuation-dispatch. SQLite in memory, RESIDENTS actors with a client
 * each.
 *
 *   build/bin/core_bench [--json] [--list] [NAME|all [SAMPLES]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "micro.h"
#include "origin/parts.h"
#include "support/origin_world.h"

enum { SAMPLES = 2000, SAMPLES_MAX = 100000, BATCH = 100, RESIDENTS = 10000, IDLE_MS = 120000 };

struct bench {
  struct world world;
  int64_t entered_ns; /* the continuation */
  uint64_t names;     /* given so far */
};

/* ---- dispatch ---- */

/* A class has no state of its own; the edge's argument leads back to ours. */
static struct bench *bench_of(const struct actor *actor) {
  return pf_container_of((struct world *)actor->core->edge_arg, struct bench, world);
}

static int run_enter(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)result, (void)context;
  bench_of(actor)->entered_ns = pf_clock_mono_ns();
  return PF_OK;
}

static int on_message(struct actor *actor, const struct actor_client *client,
    const struct client_message *message, struct pf_slice text) {
  (void)text;
  struct pf_job_id job;
  struct actor_fetch spec = {.fetch = &message->fetch, .continuation = "enter", .client = *client};
  return actor_fetch(actor, &spec, &job, NULL);
}

static const struct actor_continuation continuations[] = {{.name = "enter", .run = run_enter}};
static const struct actor_class class_bench = {.name = "proxy",
    .on_message = on_message,
    .continuations = continuations,
    .continuation_count = 1};
static const struct actor_class *const class_table[] = {&class_bench, NULL};

/* From "its result is safe" to the first line of the continuation: job, actor, turn, result. The
 * commit that made it safe is applied afterwards, so that the database is not in it. */
static void dispatch(struct bench *b, double *samples, size_t count) {
  static const char start[] =
      "{\"type\":\"start-fetch\",\"url\":\"http://target/\",\"clientId\":\"c\"}";
  struct world *world = &b->world;
  for (size_t at = 0; at < count;) {
    size_t batch = count - at < BATCH ? count - at : BATCH;
    struct hop_job jobs[BATCH];
    for (size_t i = 0; i < batch; i++)
      world_say(world, 1 + (at + i) % RESIDENTS, start);
    world_settle(world);
    PF_ASSERT(world->announcements.count == batch);
    for (size_t i = 0; i < batch; i++)
      jobs[i] = world_announced(world, i);
    world_accept_all(world, HOP_JOB_QUEUED);
    for (size_t i = 0; i < batch; i++)
      (void)world_deliver(world, &jobs[i], 200, "{}");
    for (size_t i = 0; i < batch; i++) {
      b->entered_ns = 0;
      int64_t start_ns = pf_clock_mono_ns();
      results_run(&world->core, jobs[i].job.local);
      PF_ASSERT(b->entered_ns != 0);
      samples[at++] = (double)(b->entered_ns - start_ns) / 1e3;
    }
    world_settle(world);
    PF_ASSERT(world_count_rows(world, "jobs") == 0);
    world_forget_records(world);
  }
}

/* ---- the table of resident actors ---- */

static struct pf_slice resident_name(char text[32], uint64_t i) {
  return pf_slice(text, (size_t)snprintf(text, 32, "resident-%llu", (unsigned long long)i));
}

static struct pf_slice new_name(struct bench *b, char text[32]) {
  return pf_slice(text, (size_t)snprintf(text, 32, "guest-%llu", (unsigned long long)b->names++));
}

struct names {
  char text[BATCH][32];
  struct pf_slice slices[BATCH];
};

static const struct pf_slice class_name = {.data = "proxy", .len = 5};

static void hit(struct bench *b, double *samples, size_t count) {
  struct names names;
  for (size_t at = 0; at < count; at++) {
    for (size_t i = 0; i < BATCH; i++)
      names.slices[i] = resident_name(names.text[i], (at * BATCH + i) * 7919 % RESIDENTS);
    size_t before = b->world.core.actors_by_name.count;
    int64_t start_ns = pf_clock_mono_ns();
    for (size_t i = 0; i < BATCH; i++)
      PF_ASSERT(actors_get(&b->world.core, class_name, names.slices[i])->id != 0);
    samples[at] = (double)(pf_clock_mono_ns() - start_ns) / 1e3 / BATCH;
    PF_ASSERT(b->world.core.actors_by_name.count == before);
  }
}

static bool is_named(const struct pf_map_node *node, const void *arg) {
  return pf_slice_is(
      *(const struct pf_slice *)arg, pf_container_of(node, struct actor, by_name)->name);
}

/* actors_get makes what it misses, so the look-up is done here, with its key. */
static void miss(struct bench *b, double *samples, size_t count) {
  struct core *core = &b->world.core;
  struct names names;
  for (size_t at = 0; at < count; at++) {
    for (size_t i = 0; i < BATCH; i++)
      names.slices[i] = new_name(b, names.text[i]);
    int64_t start_ns = pf_clock_mono_ns();
    for (size_t i = 0; i < BATCH; i++) {
      uint64_t hash = pf_hash_bytes(core->hash_key, names.slices[i].data, names.slices[i].len) ^
                      pf_hash_u64((uint64_t)(uintptr_t)&class_bench);
      PF_ASSERT(!pf_map_find(&core->actors_by_name, hash, is_named, &names.slices[i]));
    }
    samples[at] = (double)(pf_clock_mono_ns() - start_ns) / 1e3 / BATCH;
  }
}

/* Enters BATCH actors, loads them and lets them leave again; either end can be timed. */
static void come_and_go(struct bench *b, double *insert_us, double *evict_us) {
  struct world *world = &b->world;
  struct core *core = &world->core;
  size_t before = core->actors_by_name.count;
  struct names names;
  for (size_t i = 0; i < BATCH; i++)
    names.slices[i] = new_name(b, names.text[i]);
  int64_t start_ns = pf_clock_mono_ns();
  for (size_t i = 0; i < BATCH; i++)
    (void)actors_get(core, class_name, names.slices[i]);
  *insert_us = (double)(pf_clock_mono_ns() - start_ns) / 1e3 / BATCH;
  world_settle(world);
  PF_ASSERT(core->actors_by_name.count == before + BATCH);
  world->now_ms += IDLE_MS;
  core_set_time(core, world->now_ms * 1000000, 1700000000000 + world->now_ms);
  start_ns = pf_clock_mono_ns();
  actors_evict_idle(core);
  *evict_us = (double)(pf_clock_mono_ns() - start_ns) / 1e3 / BATCH;
  PF_ASSERT(core->actors_by_name.count == before);
}

static void insert(struct bench *b, double *samples, size_t count) {
  double unused;
  for (size_t at = 0; at < count; at++)
    come_and_go(b, &samples[at], &unused);
}

static void evict(struct bench *b, double *samples, size_t count) {
  double unused;
  for (size_t at = 0; at < count; at++)
    come_and_go(b, &unused, &samples[at]);
}

static const struct {
  const char *name, *help;
  void (*run)(struct bench *b, double *samples, size_t count);
} scenarios[] = {
    {"continuation-dispatch", "from a result that is safe to the continuation's first line",
        dispatch},
    {"table-hit", "an actor is found in memory", hit},
    {"table-miss", "an actor is not found in memory", miss},
    {"table-insert", "an actor is entered, and asked for in the database", insert},
    {"table-evict", "an actor leaves memory", evict},
};

static void bench_open(struct bench *b) {
  world_init(&b->world, class_table);
  for (uint64_t i = 0; i < RESIDENTS; i++) {
    char path[64], name[32];
    (void)resident_name(name, i);
    snprintf(path, sizeof(path), "/actors/proxy/%s", name);
    PF_ASSERT(core_on_ws_open(&b->world.core, 1 + i, pf_slice_str(path)) == 0);
  }
  world_settle(&b->world);
  PF_ASSERT(b->world.core.actors_by_name.count == RESIDENTS);
}

int main(int argc, char **argv) {
  struct micro_args args = micro_args(argc, argv, SAMPLES, SAMPLES_MAX);
  bool known = args.list;
  for (size_t i = 0; i < PF_COUNT(scenarios); i++) {
    if (args.list) printf("%s\t%s\n", scenarios[i].name, scenarios[i].help);
    if (!micro_wants(&args, scenarios[i].name)) continue;
    known = true;
    struct bench *b = pf_alloc(sizeof(*b));
    double *samples = pf_alloc(args.count * sizeof(*samples));
    bench_open(b);
    scenarios[i].run(b, samples, args.count);
    micro_show(scenarios[i].name, scenarios[i].help, samples, args.count, args.json);
    world_done(&b->world);
    free(samples);
    free(b);
  }
  return known ? PF_EXIT_OK : micro_usage("core_bench");
}
