/* What turns cost: the origin's core and its tables (SQLite in memory) driven in this process,
 * without sockets, disk or other processes. One operation is: the result of a fetch arrives, its
 * continuation runs, everything it asked for is done and durable.
 *
 *   build/bin/turn_bench [--json] [--list] [NAME|all [OPERATIONS]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "micro.h"
#include "support/origin_world.h"
#include "wire/json.h"

enum {
  OPERATIONS = 2000,
  OPERATIONS_MAX = 1000000,
  STEPS = 1000,
  ROWS = 1000,
  FOLLOW_UPS = 5,
  STATE_APPEND_MAX = 1000, /* bytes; then it begins again */
  WORLD_OPERATIONS = 500,  /* then a new world, so that memory and tables stay alike */
  IDLE_MS = 120000,        /* longer than an unused actor stays in memory */
};

#define ROW_VALUE "{\"value\":1}"

/* ---- the class ---- */

static int run_noop(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)actor, (void)result, (void)context;
  return PF_OK;
}

static int put_number(struct actor *actor, const char *key, uint64_t number) {
  char text[32];
  int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
  return actor_put(actor, pf_slice_str(key), pf_slice(text, (size_t)len));
}

/* A computation whose every step needs the one before. */
static int run_steps(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  uint64_t x = result->job.local;
  for (int i = 0; i < STEPS; i++)
    x = x * 6364136223846793005U + 1442695040888963407U + (x >> 33);
  return put_number(actor, "x", x);
}

static int fetch_more(
    struct actor *actor, const struct actor_result *result, const char *continuation) {
  struct client_fetch fetch;
  struct pf_job_id job;
  int err = actor_fetch_get(&fetch, pf_slice_str("http://target/next"), NULL);
  struct actor_fetch spec = {
      .fetch = &fetch, .continuation = continuation, .client = result->client};
  return err ? err : actor_fetch(actor, &spec, &job, NULL);
}

static int run_follow(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  return fetch_more(actor, result, "noop");
}

static int run_parallel(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  int err = put_number(actor, "joined", 0);
  for (int i = 0; !err && i < FOLLOW_UPS; i++)
    err = fetch_more(actor, result, "join");
  return err;
}

static int run_join(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  struct pf_slice value;
  uint64_t joined = 0;
  if (actor_get(actor, pf_slice_str("joined"), &value) && value.len == 1)
    joined = (uint64_t)(value.data[0] - '0');
  if (++joined == FOLLOW_UPS) actor_send(actor, &result->client, pf_slice_str("{\"all\":true}"));
  return put_number(actor, "joined", joined);
}

static int run_extract(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  struct json *root;
  struct pf_slice name;
  int err = json_parse(&root, result->body, NULL);
  if (err) return err;
  const struct json *user = json_get(root, "user");
  PF_ASSERT(user && json_string(json_get(user, "name"), &name) && pf_slice_is(name, "Ada"));
  err = actor_put(actor, pf_slice_str("name"), name);
  json_free(root);
  return err;
}

static int run_append(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context, (void)result;
  char text[STATE_APPEND_MAX + 16];
  struct pf_slice old = {0};
  size_t len = 0;
  if (actor_get(actor, pf_slice_str("text"), &old) && old.len < STATE_APPEND_MAX)
    memcpy(text, old.data, len = old.len);
  memcpy(text + len, "0123456789", 10);
  return actor_put(actor, pf_slice_str("text"), pf_slice(text, len + 10));
}

static int run_row(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  char key[32];
  snprintf(key, sizeof(key), "row/%llu", (unsigned long long)result->job.local);
  return actor_put(actor, pf_slice_str(key), pf_slice_str(ROW_VALUE));
}

static bool count_row(struct pf_slice key, struct pf_slice value, void *arg) {
  (void)key;
  *(uint64_t *)arg += value.len;
  return true;
}

static int run_iterate(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context, (void)result;
  uint64_t bytes = 0;
  actor_list(actor, pf_slice_str("row/"), count_row, &bytes);
  PF_ASSERT(bytes == ROWS * (sizeof(ROW_VALUE) - 1));
  return put_number(actor, "bytes", bytes);
}

/* context: how many lines. */
static int run_log(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  char text[16];
  snprintf(text, sizeof(text), "%.*s", (int)context.len, context.len ? context.data : "");
  for (int i = 0, lines = (int)strtol(text, NULL, 10); i < lines; i++)
    actor_log(actor, "line %d of job %llu", i, (unsigned long long)result->job.local);
  actor_reply(actor, result);
  return PF_OK;
}

static const struct actor_continuation continuations[] = {{.name = "noop", .run = run_noop},
    {.name = "steps", .run = run_steps}, {.name = "follow", .run = run_follow},
    {.name = "parallel", .run = run_parallel}, {.name = "join", .run = run_join},
    {.name = "extract", .needs = WIRE_INCLUDE_BODY, .run = run_extract},
    {.name = "append", .run = run_append}, {.name = "row", .run = run_row},
    {.name = "iterate", .run = run_iterate}, {.name = "log", .run = run_log}};

static int fill_rows(struct actor *actor) {
  int err = PF_OK;
  for (int i = 0; !err && i < ROWS; i++) {
    char key[32];
    snprintf(key, sizeof(key), "row/%05d", i);
    err = actor_put(actor, pf_slice_str(key), pf_slice_str(ROW_VALUE));
  }
  return err;
}

static int fill_state(struct actor *actor, size_t bytes) {
  char *value = pf_alloc(bytes);
  memset(value, 'x', bytes);
  int err = actor_put(actor, pf_slice_str("state"), pf_slice(value, bytes));
  free(value);
  return err;
}

/* Messages: start-fetch with a continuation; "rows"; {"type":"state","clientId":"BYTES"}; "touch".
 */
static int on_message(struct actor *actor, const struct actor_client *client,
    const struct client_message *message, struct pf_slice text) {
  (void)text;
  if (pf_slice_is(message->type_name, "rows")) return fill_rows(actor);
  if (pf_slice_is(message->type_name, "state")) {
    char bytes[24];
    snprintf(bytes, sizeof(bytes), "%.*s", (int)message->client_id.len, message->client_id.data);
    return fill_state(actor, (size_t)strtoul(bytes, NULL, 10));
  }
  if (message->type != CLIENT_START_FETCH) return put_number(actor, "touched", 1);
  char name[64];
  struct pf_job_id job;
  snprintf(name, sizeof(name), "%.*s", (int)message->fetch.continuation.len,
      message->fetch.continuation.data);
  struct actor_fetch spec = {.fetch = &message->fetch,
      .continuation = name,
      .context = message->fetch.context,
      .client = *client};
  return actor_fetch(actor, &spec, &job, NULL);
}

static const struct actor_class class_bench = {.name = "proxy",
    .on_message = on_message,
    .continuations = continuations,
    .continuation_count = PF_COUNT(continuations)};
static const struct actor_class *const class_table[] = {&class_bench, NULL};

/* ---- the scenarios ---- */

struct scenario {
  const char *name, *help;
  const char *prepare;                      /* a message to every new actor, or NULL */
  const char *message;                      /* that starts an operation */
  enum { RUN, MESSAGE, WAKE, CREATE } kind; /* WAKE: the actor has left memory before */
};

#define START(continuation)                                                                        \
  "{\"type\":\"start-fetch\",\"url\":\"http://target/"                                             \
  "\",\"clientId\":\"c\",\"continuation\":\"" continuation "\"}"
#define LOGS(lines)                                                                                \
  "{\"type\":\"start-fetch\",\"url\":\"http://target/"                                             \
  "\",\"clientId\":\"c\",\"include\":[\"logs\"],"                                                  \
  "\"continuation\":\"log\",\"context\":" lines "}"
#define STATE(bytes) "{\"type\":\"state\",\"clientId\":\"" bytes "\"}"
#define TOUCH "{\"type\":\"touch\"}"

static const struct scenario scenarios[] = {
    {"continuation-noop", "a continuation that does nothing", NULL, START("noop"), RUN},
    {"continuation-steps", "1,000 steps of computation", NULL, START("steps"), RUN},
    {"continuation-follow", "one follow-up fetch", NULL, START("follow"), RUN},
    {"continuation-parallel", "five follow-up fetches and a join", NULL, START("parallel"), RUN},
    {"continuation-extract", "a field of a JSON body", NULL, START("extract"), RUN},
    {"continuation-append", "a string grows in the state", NULL, START("append"), RUN},
    {"continuation-row", "a new row of state", NULL, START("row"), RUN},
    {"continuation-iterate", "over 1,000 rows of state", "{\"type\":\"rows\"}", START("iterate"),
        RUN},
    {"log-off", "nobody asked for logs", NULL,
        "{\"type\":\"start-fetch\",\"url\":\"http://target/\",\"clientId\":\"c\","
        "\"continuation\":\"log\",\"context\":0}",
        RUN},
    {"log-0", "logs asked for, none written", NULL, LOGS("0"), RUN},
    {"log-1", "one line", NULL, LOGS("1"), RUN},
    {"log-5", "five lines", NULL, LOGS("5"), RUN},
    {"log-10", "ten lines", NULL, LOGS("10"), RUN},
    {"wake-1k", "an actor with 1 KB of state wakes", STATE("1024"), TOUCH, WAKE},
    {"wake-64k", "an actor with 64 KB of state wakes", STATE("65536"), TOUCH, WAKE},
    {"wake-1m", "an actor with 1 MB of state wakes", STATE("1048576"), TOUCH, WAKE},
    {"message-state", "a message that writes state", NULL, TOUCH, MESSAGE},
    {"create-1k", "an actor with 1 KB of state is made", NULL, STATE("1024"), CREATE},
    {"create-64k", "an actor with 64 KB of state is made", NULL, STATE("65536"), CREATE},
    {"create-1m", "an actor with 1 MB of state is made", NULL, STATE("1048576"), CREATE},
};

/* ---- running them ---- */

static const char answer[] =
    "{\"user\":{\"id\":\"u1\",\"name\":\"Ada\",\"tags\":[\"a\",\"b\",\"c\"]},\"ok\":true}";

enum { SOCKET = 7 };

static void world_open(struct world *world, const struct scenario *s) {
  world_init(world, class_table);
  PF_ASSERT(core_on_ws_open(&world->core, SOCKET, pf_slice_str("/actors/proxy/bench")) == 0);
  if (s->prepare) world_say(world, SOCKET, s->prepare);
  world_settle(world);
}

static double wake_once(struct world *world, const struct scenario *s) {
  world_advance(world, IDLE_MS);
  int64_t start = pf_clock_mono_ns();
  world_say(world, SOCKET, s->message);
  world_settle(world);
  return (double)(pf_clock_mono_ns() - start) / 1e3;
}

static double message_once(struct world *world, const struct scenario *s) {
  int64_t start = pf_clock_mono_ns();
  world_say(world, SOCKET, s->message);
  world_settle(world);
  return (double)(pf_clock_mono_ns() - start) / 1e3;
}

/* A client comes to an actor that never was, and leaves again. */
static double create_once(struct world *world, const struct scenario *s, size_t i) {
  char path[64];
  snprintf(path, sizeof(path), "/actors/proxy/new-%zu", i);
  int64_t start = pf_clock_mono_ns();
  PF_ASSERT(core_on_ws_open(&world->core, SOCKET + 1, pf_slice_str(path)) == 0);
  world_say(world, SOCKET + 1, s->message);
  world_settle(world);
  double us = (double)(pf_clock_mono_ns() - start) / 1e3;
  core_on_ws_close(&world->core, SOCKET + 1);
  world_settle(world);
  return us;
}

static double run_once(struct world *world, const struct scenario *s) {
  world_say(world, SOCKET, s->message);
  world_settle(world);
  PF_ASSERT(world->announcements.count == 1);
  int64_t start = pf_clock_mono_ns();
  while (world->announcements.count) {
    struct pf_job_id jobs[FOLLOW_UPS];
    struct capability capabilities[FOLLOW_UPS];
    size_t count = world->announcements.count;
    PF_ASSERT(count <= FOLLOW_UPS);
    for (size_t i = 0; i < count; i++) {
      struct hop_job job = world_announced(world, i);
      jobs[i] = job.job;
      capabilities[i] = job.capability;
    }
    world_accept_all(world, HOP_JOB_QUEUED);
    for (size_t i = 0; i < count; i++)
      (void)world_deliver(
          world, &(struct hop_job){.job = jobs[i], .capability = capabilities[i]}, 200, answer);
    world_settle(world);
  }
  return (double)(pf_clock_mono_ns() - start) / 1e3;
}

static double once(struct world *world, const struct scenario *s, size_t i) {
  switch (s->kind) {
  case WAKE:
    return wake_once(world, s);
  case MESSAGE:
    return message_once(world, s);
  case CREATE:
    return create_once(world, s, i);
  default:
    return run_once(world, s);
  }
}

static void measure(const struct scenario *s, double *samples, size_t count) {
  struct world *world = pf_alloc(sizeof(*world));
  for (size_t i = 0; i < count; i++) {
    if (i % WORLD_OPERATIONS == 0) {
      if (i) world_done(world);
      world_open(world, s);
    }
    samples[i] = once(world, s, i);
    PF_ASSERT(world_count_frames(world, "\"type\":\"error\"") == 0);
    PF_ASSERT(world_count_rows(world, "jobs") == 0);
    world_forget_records(world);
  }
  world_done(world);
  free(world);
}

int main(int argc, char **argv) {
  struct micro_args args = micro_args(argc, argv, OPERATIONS, OPERATIONS_MAX);
  bool known = args.list;
  double *samples = pf_alloc((args.count + 1) * sizeof(*samples));
  for (size_t i = 0; i < PF_COUNT(scenarios); i++) {
    if (args.list) printf("%s\t%s\n", scenarios[i].name, scenarios[i].help);
    if (!micro_wants(&args, scenarios[i].name)) continue;
    known = true;
    measure(&scenarios[i], samples, args.count);
    micro_show(scenarios[i].name, scenarios[i].help, samples, args.count, args.json);
  }
  free(samples);
  return known ? PF_EXIT_OK : micro_usage("turn_bench");
}
