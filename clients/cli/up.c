/* `proxyfetch up`: one of each process on this machine, started in the order in which they need
 * each other's addresses, kept running, and stopped together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "clients/cli/child.h"
#include "clients/cli/command.h"
#include "loop/signals.h"

#define EXECUTORS_MAX 64
#define CHILDREN_MAX (EXECUTORS_MAX + 3)
#define PATH_TEXT (PF_OPTION_VALUE_MAX + 32)

struct up_config {
  char *data;
  char *origin, *origin_internal, *orchestrator, *executor, *test_endpoints;
  bool no_test_endpoints;
  int64_t executors;
  int sync, log_level;
  struct pf_option_list allow_target;
  int64_t grace_ms;
};

static const char *const sync_names[] = {"full", "normal", NULL};

#define FIELD(name) offsetof(struct up_config, name)
static const struct pf_option up_option_list[] = {
    {.name = "data",
        .type = PF_OPT_STRING,
        .offset = FIELD(data),
        .unit = "DIR",
        .help = "Where origin and orchestrator keep their databases (default: proxyfetch in "
                "$XDG_STATE_HOME or ~/.local/state)."},
    {.name = "origin",
        .type = PF_OPT_STRING,
        .offset = FIELD(origin),
        .unit = "ADDR:PORT",
        .fallback = "localhost:8787",
        .help = "Where the origin serves clients; port 0 is any free one."},
    {.name = "origin-internal",
        .type = PF_OPT_STRING,
        .offset = FIELD(origin_internal),
        .unit = "ADDR:PORT",
        .fallback = "localhost:8786",
        .help = "Where the origin takes results from the other processes."},
    {.name = "orchestrator",
        .type = PF_OPT_STRING,
        .offset = FIELD(orchestrator),
        .unit = "ADDR:PORT",
        .fallback = "localhost:8788",
        .help = "Where the orchestrator listens."},
    {.name = "executor",
        .type = PF_OPT_STRING,
        .offset = FIELD(executor),
        .unit = "ADDR:PORT",
        .fallback = "localhost:8789",
        .help = "Where the first executor listens; further ones take any free port."},
    {.name = "test-endpoints",
        .type = PF_OPT_STRING,
        .offset = FIELD(test_endpoints),
        .unit = "ADDR:PORT",
        .fallback = "localhost:8790",
        .help = "Where the test endpoints listen."},
    {.name = "no-test-endpoints",
        .type = PF_OPT_FLAG,
        .offset = FIELD(no_test_endpoints),
        .help = "Start no test endpoints."},
    {.name = "executors",
        .type = PF_OPT_INT,
        .offset = FIELD(executors),
        .fallback = "1",
        .min = 1,
        .max = EXECUTORS_MAX,
        .help = "How many executors."},
    {.name = "sync",
        .type = PF_OPT_CHOICE,
        .offset = FIELD(sync),
        .fallback = "full",
        .choices = sync_names,
        .help = "full survives a power loss; normal survives any crash of a process."},
    {.name = "allow-target",
        .type = PF_OPT_LIST,
        .offset = FIELD(allow_target),
        .unit = "CIDR[:PORT]",
        .help = "A private or loopback range that may be fetched from, in addition to the test "
                "endpoints; may be given many times."},
    {.name = "log-level",
        .type = PF_OPT_CHOICE,
        .offset = FIELD(log_level),
        .fallback = "info",
        .choices = pf_log_level_names,
        .help = "The least important lines that are shown, of all processes."},
    {.name = "grace-ms",
        .type = PF_OPT_INT,
        .offset = FIELD(grace_ms),
        .unit = "ms",
        .fallback = "3000",
        .min = 0,
        .max = 600000,
        .help = "How long a process may take to stop before it is killed."},
};
const struct pf_option_table up_options = {
    .program = "proxyfetch up",
    .summary = "start the whole system on this machine and keep it running",
    .env_prefix = "PROXYFETCH_UP_",
    .epilog =
        "What else a process can be told goes through its environment variables, for example\n"
        "PROXYFETCH_EXECUTOR_SLOTS=5000 proxyfetch up.\n",
    .options = up_option_list,
    .count = PF_COUNT(up_option_list),
};

/* In the order of their start. */
enum part { PART_ENDPOINTS, PART_ORCHESTRATOR, PART_EXECUTOR, PART_ORIGIN };

struct up {
  struct up_config config;
  uv_loop_t loop;
  struct pf_log log;
  struct pf_signals signals;
  struct child_handlers handlers;
  struct child children[CHILDREN_MAX];
  enum part parts[CHILDREN_MAX];
  size_t count;
  size_t started; /* children[0..started) have been ready once, the next one is starting */
  size_t stage;   /* of stopping */
  size_t stopping_now;
  bool stopping;
  int exit_code;
};

/* ---- preparation ---- */

static int check_addresses(const struct up_config *config) {
  const char *const options[][2] = {{"origin", config->origin},
      {"origin-internal", config->origin_internal}, {"orchestrator", config->orchestrator},
      {"executor", config->executor}, {"test-endpoints", config->test_endpoints}};
  for (size_t i = 0; i < PF_COUNT(options); i++) {
    struct pf_listen_addr addr;
    struct pf_error why = {0};
    if (pf_listen_addr_parse(&addr, options[i][1], &why) == PF_OK) continue;
    fprintf(stderr, "proxyfetch up: %s: %s\n", options[i][0], why.text);
    return PF_EINVAL;
  }
  return PF_OK;
}

static void up_add(struct up *up, enum part part, const char *name, const char *program) {
  up->parts[up->count] = part;
  child_init(&up->children[up->count++], &up->loop, &up->log, name, program, &up->handlers);
}

static void up_add_all(struct up *up) {
  if (!up->config.no_test_endpoints)
    up_add(up, PART_ENDPOINTS, "test-endpoints", "proxyfetch-test-endpoints");
  up_add(up, PART_ORCHESTRATOR, "orchestrator", "proxyfetch-orchestrator");
  for (int i = 1; i <= (int)up->config.executors; i++) {
    char name[CHILD_NAME_MAX];
    snprintf(name, sizeof(name), i == 1 ? "executor" : "executor-%d", i);
    up_add(up, PART_EXECUTOR, name, "proxyfetch-executor");
  }
  up_add(up, PART_ORIGIN, "origin", "proxyfetch-origin");
}

static struct child *up_find(struct up *up, enum part part) {
  for (size_t i = 0; i < up->count; i++)
    if (up->parts[i] == part) return &up->children[i];
  return NULL;
}

/* ---- what each process is told ---- */

/* The executor may fetch from exactly the sockets of our own test endpoints. */
static void allow_own_endpoints(struct up *up, struct child *executor) {
  const struct child *endpoints = up_find(up, PART_ENDPOINTS);
  if (!endpoints) return;
  for (size_t i = 0; i < endpoints->url_count; i++) {
    const char *port = strrchr(endpoints->urls[i], ':');
    bool v6 = strchr(endpoints->urls[i], '[') != NULL;
    char target[64];
    snprintf(target, sizeof(target), "%s%s", v6 ? "::1/128" : "127.0.0.1/32", port);
    child_arg_pair(executor, "--allow-target", target);
  }
}

static void give_executor(struct up *up, struct child *child) {
  char any[PF_ADDR_TEXT * 2];
  const char *addr = up->config.executor;
  snprintf(any, sizeof(any), "%.*s:0", (int)(strrchr(addr, ':') - addr), addr);
  child_arg_listen(child, child == up_find(up, PART_EXECUTOR) ? addr : any);
  child_arg_pair(child, "--orchestrator", up_find(up, PART_ORCHESTRATOR)->urls[0]);
  allow_own_endpoints(up, child);
  for (size_t i = 0; i < up->config.allow_target.count; i++)
    child_arg_pair(child, "--allow-target", up->config.allow_target.items[i]);
}

/* Without --data each process knows its own place. */
static void give_data(struct up *up, struct child *child, const char *part) {
  char path[PATH_TEXT];
  child_arg_pair(child, "--sync", sync_names[up->config.sync]);
  if (!up->config.data) return;
  snprintf(path, sizeof(path), "%s/%s", up->config.data, part);
  child_arg_pair(child, "--data", path);
}

static void give_arguments(struct up *up, struct child *child, enum part part) {
  child_arg_pair(child, "--log-level", pf_log_level_names[up->config.log_level]);
  switch (part) {
  case PART_ENDPOINTS:
    child_arg_listen(child, up->config.test_endpoints);
    break;
  case PART_EXECUTOR:
    give_executor(up, child);
    break;
  case PART_ORCHESTRATOR:
    child_arg_listen(child, up->config.orchestrator);
    give_data(up, child, "orchestrator");
    break;
  case PART_ORIGIN:
    child_arg_listen(child, up->config.origin);
    child_arg_pair(child, "--internal-listen", up->config.origin_internal);
    child_arg_pair(child, "--orchestrator", up_find(up, PART_ORCHESTRATOR)->urls[0]);
    give_data(up, child, "origin");
    break;
  }
}

/* ---- stopping ---- */

/* Executors first, while there is somebody to hand their results to; then those that clients and
 * executors talk to. */
static const enum part stop_order[] = {
    PART_EXECUTOR, PART_ORIGIN, PART_ORCHESTRATOR, PART_ENDPOINTS};

static void up_finish(struct up *up) {
  for (size_t i = 0; i < up->count; i++)
    child_close(&up->children[i]);
}

static void up_stop_stage(struct up *up) {
  if (up->stage == PF_COUNT(stop_order)) {
    up_finish(up);
    return;
  }
  enum part part = stop_order[up->stage++];
  up->stopping_now = 1; /* ours, so that the stage does not end inside the loop */
  for (size_t i = 0; i < up->count; i++)
    up->stopping_now += up->parts[i] == part;
  for (size_t i = 0; i < up->count; i++)
    if (up->parts[i] == part) child_stop(&up->children[i], up->config.grace_ms);
  if (--up->stopping_now == 0) up_stop_stage(up);
}

static void up_on_stopped(void *arg, struct child *child) {
  struct up *up = arg;
  (void)child;
  if (--up->stopping_now == 0) up_stop_stage(up);
}

static void up_stop(void *arg) {
  struct up *up = arg;
  if (up->stopping) return;
  up->stopping = true;
  up_stop_stage(up);
}

/* ---- starting ---- */

static void up_start_next(struct up *up) {
  struct child *child = &up->children[up->started];
  give_arguments(up, child, up->parts[up->started]);
  child_start(child);
}

static void urls_print(const struct child *child) {
  for (size_t i = 0; i < child->url_count; i++)
    printf(" %s", child->urls[i]);
  printf("\n");
}

static void up_print_addresses(struct up *up) {
  for (size_t i = 0; i < up->count; i++) {
    printf("%-14s pid %-7d", up->children[i].name, up->children[i].pid);
    urls_print(&up->children[i]);
  }
  printf("proxyfetch listening on");
  urls_print(up_find(up, PART_ORIGIN));
  fflush(stdout);
}

static void up_on_ready(void *arg, struct child *child) {
  struct up *up = arg;
  if (up->stopping) return;
  if (up->started == up->count) {
    pf_log(&up->log, PF_LOG_INFO, "child_serves_again", "name=%s pid=%d url=%s", child->name,
        child->pid, child->urls[0]);
    return;
  }
  PF_ASSERT(child->urls[0][0] != '\0');
  if (child != &up->children[up->started]) return; /* an earlier one died meanwhile, and is back */
  if (++up->started == up->count)
    up_print_addresses(up);
  else
    up_start_next(up);
}

static void up_on_failed(void *arg, struct child *child) {
  struct up *up = arg;
  fprintf(stderr,
      "proxyfetch up: %s did not start (exit code %d); its last line says why, and `proxyfetch up "
      "--help` lists what can be changed\n",
      child->name, (int)child->exit_code);
  up->exit_code = PF_EXIT_START;
  up_stop(up);
}

int up_run(int argc, char **argv) {
  struct up *up = pf_alloc(sizeof(*up));
  pf_options_parse_or_exit(&up_options, &up->config, argc, argv);
  if (check_addresses(&up->config)) {
    pf_options_free(&up_options, &up->config);
    free(up);
    return PF_EXIT_USAGE;
  }
  up->log = (struct pf_log){
      .role = "up", .level = (enum pf_log_level)up->config.log_level, .fd = STDERR_FILENO};
  up->handlers = (struct child_handlers){
      .arg = up, .ready = up_on_ready, .failed = up_on_failed, .stopped = up_on_stopped};
  PF_ASSERT(uv_loop_init(&up->loop) == 0);
  pf_signals_open(&up->signals, &up->loop, up_stop, up);
  up_add_all(up);
  up_start_next(up);
  uv_run(&up->loop, UV_RUN_DEFAULT);
  pf_signals_close(&up->signals);
  uv_run(&up->loop, UV_RUN_DEFAULT);
  PF_ASSERT(uv_loop_close(&up->loop) == 0);
  int code = up->exit_code;
  pf_options_free(&up_options, &up->config);
  free(up);
  return code;
}
