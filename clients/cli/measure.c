/* `proxyfetch measure`: what one fetch and many at once take, beside what the network and the
 * target take without us; and whether each of them ended exactly once. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/cli/command.h"
#include "clients/measure/measurement_run.h"

#define LEVELS_MAX 16
#define RUNS_MAX (3 * LEVELS_MAX + 2)
#define FETCHES_MIN 1000     /* of a level, by default */
#define FETCHES_PER_LEVEL 20 /* times the concurrency, if that is more */
#define DEFAULT_SEND_MS 5000 /* so that slow targets do not take minutes */
#define REUSE_CONCURRENCY 10
#define REUSE_FETCHES 200

struct measure_config {
  char *url, *target, *concurrency, *pids;
  int64_t iterations, timeout_ms;
  bool phases, json, session;
};

#define FIELD(name) offsetof(struct measure_config, name)
static const struct pf_option measure_option_list[] = {
    {.name = "url",
        .type = PF_OPT_STRING,
        .offset = FIELD(url),
        .unit = "WS",
        .fallback = COMMAND_ORIGIN_WS,
        .help = "The server to measure."},
    {.name = "target",
        .type = PF_OPT_STRING,
        .offset = FIELD(target),
        .unit = "URL",
        .fallback = COMMAND_TARGET_URL,
        .help = "What the server is told to fetch."},
    {.name = "concurrency",
        .type = PF_OPT_STRING,
        .offset = FIELD(concurrency),
        .unit = "LIST",
        .fallback = "1,10,100,1000",
        .help = "How many fetches are in flight, level by level."},
    {.name = "iterations",
        .type = PF_OPT_INT,
        .offset = FIELD(iterations),
        .min = 0,
        .max = LOAD_ITERATIONS_MAX,
        .help =
            "Fetches of each level; 0: twenty times the concurrency, at least 1000, but only what "
            "can be begun in 5 s."},
    {.name = "phases",
        .type = PF_OPT_FLAG,
        .offset = FIELD(phases),
        .help = "Also show the twelve timings of each level, and check that they add up."},
    {.name = "json", .type = PF_OPT_FLAG, .offset = FIELD(json), .help = "Print JSON."},
    {.name = "pids",
        .type = PF_OPT_STRING,
        .offset = FIELD(pids),
        .unit = "ROLE=PID,...",
        .help = "The processes whose CPU time is counted; by default those of this machine that "
                "belong to the server."},
    {.name = "session",
        .type = PF_OPT_FLAG,
        .offset = FIELD(session),
        .help = "Run within a session of the server, and go on after a broken connection: nothing "
                "may be lost or doubled then either."},
    {.name = "timeout-ms",
        .type = PF_OPT_INT,
        .offset = FIELD(timeout_ms),
        .unit = "ms",
        .fallback = "30000",
        .min = 1,
        .max = 86400000,
        .help = "Give up when nothing has ended for so long."},
};
const struct pf_option_table measure_options = {
    .program = "proxyfetch measure",
    .summary = "measure a server: latency, throughput, phases, CPU; and check that nothing is lost",
    .env_prefix = "PROXYFETCH_MEASURE_",
    .epilog =
        "A load test that checks each of 10,000 fetches at 1,000 in flight:\n"
        "  proxyfetch measure --concurrency 1000 --iterations 10000\n"
        "The exit code is 0 only if every fetch got exactly one enqueued and one good result.\n",
    .options = measure_option_list,
    .count = PF_COUNT(measure_option_list),
};

struct measure {
  struct measure_config config;
  struct measurement_plan plan;
  struct run runs[RUNS_MAX];
  struct measurement found;
};

static void run_add(
    struct measure *m, enum run_kind kind, int64_t concurrency, int64_t iterations, bool bounded) {
  PF_ASSERT(m->found.run_count < RUNS_MAX);
  m->runs[m->found.run_count++] = (struct run){.kind = kind,
      .concurrency = concurrency,
      .iterations = iterations,
      .send_ms = bounded ? DEFAULT_SEND_MS : 0};
}

/* All loads of this measurement, in their order. */
static int runs_plan(struct measure *m) {
  int64_t levels[LEVELS_MAX];
  size_t count = 0;
  const char *at = m->config.concurrency;
  for (; *at; at += *at == ',') {
    char *end;
    levels[count] = strtoll(at, &end, 10);
    if (end == at || (*end && *end != ',') || levels[count] < 1 ||
        levels[count] > LOAD_CONCURRENCY_MAX || ++count == LEVELS_MAX)
      return PF_EINVAL;
    at = end;
  }
  if (count == 0) return PF_EINVAL;
  run_add(m, RUN_COLD, 1, 1, false);
  for (size_t i = 0; i < count; i++) {
    int64_t many = levels[i] * FETCHES_PER_LEVEL;
    bool given = m->config.iterations > 0;
    int64_t iterations = given ? m->config.iterations : many > FETCHES_MIN ? many : FETCHES_MIN;
    run_add(m, RUN_BURST, levels[i], levels[i], false);
    run_add(m, RUN_SUSTAINED, levels[i], iterations, !given);
    if (m->config.phases) run_add(m, RUN_TIMINGS, levels[i], iterations, !given);
  }
  if (!m->config.phases) run_add(m, RUN_TIMINGS, REUSE_CONCURRENCY, REUSE_FETCHES, true);
  return PF_OK;
}

static int measure_check(struct measure *m) {
  struct pf_error why = {0};
  if (ws_url_parse(&m->plan.server, m->config.url, &why)) {
    fprintf(stderr, "proxyfetch measure: url: %s\n", why.text);
    return PF_EINVAL;
  }
  if (runs_plan(m)) {
    fprintf(stderr,
        "proxyfetch measure: concurrency: '%s' is not a list of up to %d numbers from 1 to %d\n",
        m->config.concurrency, LEVELS_MAX - 1, LOAD_CONCURRENCY_MAX);
    return PF_EINVAL;
  }
  if (m->config.pids && !proc_add_list(&m->found.procs, m->config.pids)) {
    fprintf(stderr, "proxyfetch measure: pids: '%s' is not ROLE=PID,... of running processes\n",
        m->config.pids);
    return PF_EINVAL;
  }
  return PF_OK;
}

static int measure_go(struct measure *m) {
  const struct measure_config *c = &m->config;
  m->plan.session = c->session;
  m->plan.find_processes = !c->pids;
  m->plan.progress = isatty(STDERR_FILENO);
  m->plan.timeout_ms = c->timeout_ms;
  m->found.server = c->url;
  m->found.target = c->target;
  m->found.phases = c->phases;
  int code = measurement_run(&m->plan, &m->found);
  bool something = m->runs[0].finished;
  if (something && c->json) measurement_print_json(&m->found);
  if (something && !c->json) measurement_print(&m->found);
  struct load_faults faults = measurement_faults(&m->found);
  return code == PF_EXIT_OK && load_faults_sum(&faults) ? PF_EXIT_FAILURE : code;
}

int measure_command(int argc, char **argv) {
  struct measure *m = pf_alloc(sizeof(*m));
  pf_options_parse_or_exit(&measure_options, &m->config, argc, argv);
  m->found.runs = m->runs;
  int code = measure_check(m) == PF_OK ? measure_go(m) : PF_EXIT_USAGE;
  pf_options_free(&measure_options, &m->config);
  free(m);
  return code;
}
