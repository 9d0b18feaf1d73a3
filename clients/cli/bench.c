/* `proxyfetch bench`: a load of HTTP requests, or of fetches through an origin's WebSocket, with
 * the options that load tools usually have. `bench suite`, `bench compare` and the like are passed
 * on to the programs in bench/. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "bench_result.h"
#include "child.h"
#include "command.h"
#include "http/client.h"
#include "http_load.h"
#include "loop/signals.h"
#include "wire/json.h"
#include "ws_load.h"

#define CONCURRENCY_MAX 100000
#define TICK_MS 50
#define IDLE_CHECK_MS 200
#define BUSY_WARN 0.2
#define FILES_SPARE 64
#define EXIT_INTERRUPTED 130

struct bench_config {
  char *url, *server, *method, *body, *check, *save, *baseline, *pids, *include;
  int64_t concurrency, duration_s, warmup_s, rate, threshold;
  bool keepalive, ws, json;
};

#define FIELD(name) offsetof(struct bench_config, name)
static const struct pf_option bench_option_list[] = {
    {.name = "url",
        .letter = 'u',
        .type = PF_OPT_STRING,
        .offset = FIELD(url),
        .unit = "URL",
        .fallback = "http://127.0.0.1:8790/uuid",
        .help = "What is fetched."},
    {.name = "concurrency",
        .letter = 'c',
        .type = PF_OPT_INT,
        .offset = FIELD(concurrency),
        .fallback = "50",
        .min = 1,
        .max = CONCURRENCY_MAX,
        .help = "How many requests are in flight; with --rate, at most."},
    {.name = "duration",
        .letter = 'd',
        .type = PF_OPT_INT,
        .offset = FIELD(duration_s),
        .unit = "s",
        .fallback = "10",
        .min = 1,
        .max = BENCH_SECONDS_MAX,
        .help = "How long to measure."},
    {.name = "warmup",
        .letter = 'w',
        .type = PF_OPT_INT,
        .offset = FIELD(warmup_s),
        .unit = "s",
        .fallback = "2",
        .min = 0,
        .max = 3600,
        .help = "How long to warm up; up to three times as long until the figure is steady."},
    {.name = "method",
        .letter = 'm',
        .type = PF_OPT_STRING,
        .offset = FIELD(method),
        .fallback = "GET",
        .help = "The method of the requests."},
    {.name = "body",
        .letter = 'b',
        .type = PF_OPT_STRING,
        .offset = FIELD(body),
        .unit = "TEXT",
        .help = "The body of the requests."},
    {.name = "keepalive",
        .type = PF_OPT_FLAG,
        .offset = FIELD(keepalive),
        .fallback = "true",
        .help = "Use connections for many requests (--no-keepalive: one each; HTTP only)."},
    {.name = "rate",
        .type = PF_OPT_INT,
        .offset = FIELD(rate),
        .unit = "1/s",
        .min = 0,
        .max = 10000000,
        .help = "Send so many a second, whether or not the answers keep up, and count latency from "
                "when each was due; 0: as fast as answers come."},
    {.name = "ws",
        .type = PF_OPT_FLAG,
        .offset = FIELD(ws),
        .help = "Let an origin fetch the URL, and wait for the results."},
    {.name = "server",
        .type = PF_OPT_STRING,
        .offset = FIELD(server),
        .unit = "WS",
        .fallback = "ws://localhost:8787/",
        .help = "The origin of --ws."},
    {.name = "include",
        .type = PF_OPT_STRING,
        .offset = FIELD(include),
        .unit = "LIST",
        .help = "With --ws: what results are to carry, like body,headers,timings,logs."},
    {.name = "pids",
        .type = PF_OPT_STRING,
        .offset = FIELD(pids),
        .unit = "ROLE=PID,...",
        .help = "The processes whose CPU time is counted; with --ws by default those of this "
                "machine that belong to the server."},
    {.name = "json", .type = PF_OPT_FLAG, .offset = FIELD(json), .help = "Print JSON."},
    {.name = "assert",
        .type = PF_OPT_STRING,
        .offset = FIELD(check),
        .unit = "LIST",
        .help = "Figures that must hold, like fetches_per_s>5000,p99_ms<50; else exit code 1."},
    {.name = "save-baseline",
        .type = PF_OPT_STRING,
        .offset = FIELD(save),
        .unit = "NAME",
        .help = "Keep the figures under this name."},
    {.name = "baseline",
        .type = PF_OPT_STRING,
        .offset = FIELD(baseline),
        .unit = "NAME",
        .help = "Compare with figures that were kept; exit code 1 if throughput or p99 is worse."},
    {.name = "threshold",
        .type = PF_OPT_INT,
        .offset = FIELD(threshold),
        .unit = "percent",
        .fallback = "10",
        .min = 0,
        .max = 1000,
        .help = "What --baseline takes for noise."},
};
const struct pf_option_table bench_options = {
    .program = "proxyfetch bench",
    .summary = "load an HTTP server, or a whole system through its WebSocket, and show the figures",
    .env_prefix = "PROXYFETCH_BENCH_",
    .epilog = "Also (each with --help; these need Node and the folder bench/ of the sources):\n"
              "  proxyfetch bench suite [--scenario NAME|all] [--short]   the named scenarios\n"
              "  proxyfetch bench sides [--short]                         beside other systems\n"
              "  proxyfetch bench compare OLD NEW [--threshold 0.10]      two runs of the suite\n",
    .options = bench_option_list,
    .count = PF_COUNT(bench_option_list),
};

struct slot {
  int64_t due_ns;
  bool busy;
};

struct bench {
  struct bench_config config;
  uv_loop_t loop;
  struct pf_signals signals;
  uv_timer_t tick;
  uv_poll_t due; /* open loop: a timer that is finer than the loop's */
  int due_fd;
  struct ws_url url, server;
  struct http_load *http_load;
  struct ws_load *ws_load;
  struct http *http; /* asks the server who it is */
  struct http_call call;
  char health_url[WS_CLIENT_HOST_MAX + 32];

  struct bench_run run;
  struct slot *slots;
  size_t *free_slots, free_count;
  size_t *resting, resting_count; /* failed just now; tried again at the next tick */
  bool loading, pumping, ended;
  int64_t client_cpu_ns;
  struct bench_result result;
  bool holds; /* all assertions */
  int exit_code;
};

/* ---- ending ---- */

static void http_on_closed(void *arg) {
  (void)arg;
}

static void bench_end(struct bench *b, int exit_code) {
  if (b->ended) return;
  b->ended = true;
  b->loading = false;
  b->exit_code = exit_code;
  if (b->http_load) http_load_close(b->http_load);
  if (b->ws_load) ws_load_close(b->ws_load);
  http_close(b->http, http_on_closed, NULL);
  uv_close((uv_handle_t *)&b->tick, NULL);
  uv_close((uv_handle_t *)&b->due, NULL);
}

static void bench_on_signal(void *arg) {
  bench_end(arg, EXIT_INTERRUPTED);
}

/* ---- the load ---- */

static void cpu_begin(struct bench *b) {
  int64_t ignored[PROC_MAX];
  proc_sample(&b->result.procs, ignored);
  b->client_cpu_ns = proc_cpu_ns(getpid());
}

static void load_over(struct bench *b) {
  int64_t used_ns[PROC_MAX], client_ns = proc_cpu_ns(getpid()) - b->client_cpu_ns;
  double count = b->run.ended > 0 ? (double)b->run.ended : 1;
  proc_sample(&b->result.procs, used_ns);
  for (size_t i = 0; i < b->result.procs.count; i++)
    b->result.cpu_us[i] = (double)used_ns[i] / 1e3 / count;
  b->result.client_cpu_us = (double)client_ns / 1e3 / count;
  for (int64_t i = 0; i < b->config.concurrency; i++)
    if (b->slots[i].busy) bench_run_unended(&b->run, b->slots[i].due_ns);
  if (!b->run.steady) bench_result_warn(&b->result, "the figure was not steady after the warm-up");
  bench_end(b, PF_EXIT_OK);
}

static void due_arm(struct bench *b) {
  int64_t at_ns = bench_run_next_due_ns(&b->run);
  struct itimerspec when = {
      .it_value = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000}};
  PF_ASSERT(timerfd_settime(b->due_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

/* Sends what is due, as far as there are free slots. */
static void pump(struct bench *b) {
  int64_t due_ns;
  if (b->pumping || !b->loading) return;
  b->pumping = true;
  while (b->free_count && bench_run_take_due(&b->run, pf_clock_mono_ns(), &due_ns)) {
    size_t slot = b->free_slots[--b->free_count];
    b->slots[slot] = (struct slot){.due_ns = due_ns, .busy = true};
    if (b->config.ws)
      ws_load_send(b->ws_load, slot);
    else
      http_load_send(b->http_load, slot);
  }
  b->pumping = false;
  if (b->config.rate && b->free_count) due_arm(b);
}

static void look(struct bench *b, int64_t now_ns) {
  enum bench_phase before = b->run.phase, now = bench_run_tick(&b->run, now_ns);
  if (before == BENCH_WARMUP && now == BENCH_MEASURING) cpu_begin(b);
  if (now == BENCH_OVER) load_over(b);
}

static void load_on_done(void *arg, size_t slot, int status, const char *why) {
  struct bench *b = arg;
  if (!b->loading) return;
  int64_t now_ns = pf_clock_mono_ns();
  bool good = status >= 100 && status < 400;
  look(b, now_ns); /* a phase may end before this counts */
  if (!b->loading) return;
  b->slots[slot].busy = false;
  bench_run_ended(&b->run, b->slots[slot].due_ns, now_ns, good);
  if (!good && !b->result.problem[0] && status)
    snprintf(b->result.problem, sizeof(b->result.problem), "status %d", status);
  else if (!good && !b->result.problem[0])
    snprintf(b->result.problem, sizeof(b->result.problem), "%s", why);
  if (status)
    b->free_slots[b->free_count++] = slot;
  else
    b->resting[b->resting_count++] = slot;
  pump(b);
}

static void load_begin(struct bench *b) {
  struct bench_plan plan = {.rate = (double)b->config.rate,
      .warmup_ns = b->config.warmup_s * 1000000000,
      .duration_ns = b->config.duration_s * 1000000000};
  bench_run_begin(&b->run, &plan, pf_clock_mono_ns());
  cpu_begin(b);
  b->loading = true;
  pump(b);
}

static void tick_on_timer(uv_timer_t *timer) {
  struct bench *b = timer->data;
  if (!b->loading) return;
  look(b, pf_clock_mono_ns());
  while (b->resting_count)
    b->free_slots[b->free_count++] = b->resting[--b->resting_count];
  pump(b);
}

static void due_on_poll(uv_poll_t *poll, int status, int events) {
  struct bench *b = poll->data;
  uint64_t times;
  (void)status, (void)events;
  if (read(b->due_fd, &times, sizeof(times)) == sizeof(times)) pump(b);
}

/* ---- through an origin ---- */

/* {"status":"ok","role":"origin","pid":123,...} */
static void health_done(struct http_call *call) {
  struct bench *b = call->arg;
  struct json *root = NULL;
  int64_t pid;
  if (b->ended) return;
  if (!call->err && json_parse(&root, pf_buf_view(&call->response), NULL) == PF_OK &&
      json_type(root) == JSON_OBJECT && json_int(json_get(root, "pid"), 1, INT32_MAX, &pid))
    proc_add_family(&b->result.procs, (int)pid);
  json_free(root);
  load_begin(b);
}

static void ws_on_opened(void *arg) {
  struct bench *b = arg;
  if (b->config.pids) {
    load_begin(b);
    return;
  }
  ws_url_http(&b->server, "/health", b->health_url, sizeof(b->health_url));
  b->call =
      (struct http_call){.method = "GET", .url = b->health_url, .done = health_done, .arg = b};
  http_start(b->http, &b->call);
}

static void ws_on_closed(void *arg, int err, const char *why) {
  struct bench *b = arg;
  (void)err;
  if (b->ended) return;
  fprintf(stderr, "proxyfetch bench: %s: %s\n", b->config.server, why);
  bench_end(b, PF_EXIT_FAILURE);
}

/* ---- before ---- */

/* The share of all processors that is in use while we sleep. */
static double busy_share(void) {
  unsigned long long before[2] = {0}, after[2] = {0};
  for (int round = 0; round < 2; round++) {
    unsigned long long *at = round ? after : before, part[8] = {0};
    FILE *in = fopen("/proc/stat", "re");
    if (!in) return 0;
    int got = fscanf(in, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &part[0], &part[1],
        &part[2], &part[3], &part[4], &part[5], &part[6], &part[7]);
    fclose(in);
    if (got != 8) return 0;
    for (int i = 0; i < 8; i++)
      at[1] += part[i];
    at[0] = at[1] - part[3] - part[4]; /* idle, waiting for disks */
    struct timespec pause = {.tv_nsec = IDLE_CHECK_MS * 1000000};
    if (round == 0) nanosleep(&pause, NULL);
  }
  return after[1] > before[1] ? (double)(after[0] - before[0]) / (double)(after[1] - before[1]) : 0;
}

static void look_around(struct bench *b) {
  struct rlimit files;
#ifndef PF_RELEASE
  bench_result_warn(&b->result, "this is not a release build");
#endif
  if (!b->config.ws && getrlimit(RLIMIT_NOFILE, &files) == 0 &&
      files.rlim_cur < (rlim_t)b->config.concurrency + FILES_SPARE)
    bench_result_warn(&b->result, "only %llu files may be open: see ulimit -n",
        (unsigned long long)files.rlim_cur);
  double busy = busy_share();
  if (busy > BUSY_WARN)
    bench_result_warn(&b->result, "other programs use %.0f %% of the machine", busy * 100);
}

static void ignore(void *arg, const char *assertion, size_t len, double value, bool holds) {
  (void)arg, (void)assertion, (void)len, (void)value, (void)holds;
}

static int bench_check_config(struct bench *b) {
  struct pf_error why = {0};
  const struct bench_result *r = &b->result;
  int err = b->config.ws ? ws_url_parse(&b->server, b->config.server, &why)
                         : ws_url_parse(&b->url, b->config.url, &why);
  if (!err && b->config.check)
    err = bench_check(b->config.check, r->figures, r->figure_count, ignore, NULL, &why);
  if (!err && b->config.pids && !proc_add_list(&b->result.procs, b->config.pids))
    err = pf_error_set(
        &why, PF_EINVAL, "'%s' is not ROLE=PID,... of running processes", b->config.pids);
  if (err) fprintf(stderr, "proxyfetch bench: %s\n", why.text);
  return err;
}

static int load_open(struct bench *b) {
  struct pf_slice body = pf_slice_str(b->config.body);
  size_t slots = (size_t)b->config.concurrency;
  struct pf_error why = {0};
  if (b->config.ws) {
    struct ws_load_plan plan = {.server = b->server,
        .target = b->config.url,
        .method = b->config.method,
        .include = b->config.include,
        .body = body,
        .slots = slots};
    struct ws_load_handlers handlers = {
        .arg = b, .opened = ws_on_opened, .done = load_on_done, .closed = ws_on_closed};
    b->ws_load = ws_load_open(&b->loop, &plan, &handlers);
    return PF_OK;
  }
  struct http_load_plan plan = {.url = b->url,
      .method = b->config.method,
      .body = body,
      .slots = slots,
      .keep_alive = b->config.keepalive};
  struct http_load_handlers handlers = {.arg = b, .done = load_on_done};
  if (http_load_open(&b->http_load, &b->loop, &plan, &handlers, &why)) {
    fprintf(stderr, "proxyfetch bench: %s\n", why.text);
    return PF_ENET;
  }
  load_begin(b);
  return PF_OK;
}

static void bench_go(struct bench *b) {
  PF_ASSERT(uv_loop_init(&b->loop) == 0 && uv_timer_init(&b->loop, &b->tick) == 0);
  b->due_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC); /* as pf_clock_mono */
  PF_ASSERT(b->due_fd >= 0 && uv_poll_init(&b->loop, &b->due, b->due_fd) == 0);
  b->tick.data = b->due.data = b;
  PF_ASSERT(uv_timer_start(&b->tick, tick_on_timer, TICK_MS, TICK_MS) == 0);
  PF_ASSERT(uv_poll_start(&b->due, UV_READABLE, due_on_poll) == 0);
  PF_ASSERT(http_new(&b->http, &b->loop) == PF_OK);
  pf_signals_open(&b->signals, &b->loop, bench_on_signal, b);
  if (load_open(b)) bench_end(b, PF_EXIT_FAILURE);
  uv_run(&b->loop, UV_RUN_DEFAULT);
  pf_signals_close(&b->signals);
  uv_run(&b->loop, UV_RUN_DEFAULT);
  PF_ASSERT(uv_loop_close(&b->loop) == 0);
  close(b->due_fd);
}

/* ---- after ---- */

static void check_one(void *arg, const char *assertion, size_t len, double value, bool holds) {
  struct bench *b = arg;
  if (holds) return;
  b->holds = false;
  fprintf(stderr, "proxyfetch bench: %.*s does not hold: it is %.3f\n", (int)len, assertion, value);
}

static int bench_judge(struct bench *b) {
  const struct bench_result *r = &b->result;
  struct pf_error why = {0};
  bool worse = false;
  int err = PF_OK;
  if (b->config.check)
    err = bench_check(b->config.check, r->figures, r->figure_count, check_one, b, &why);
  if (!err && b->config.baseline)
    err = bench_baseline_compare(
        r, b->config.baseline, (double)b->config.threshold / 100, &worse, &why);
  if (!err && b->config.save) err = bench_baseline_save(r, b->config.save, &why);
  if (err) fprintf(stderr, "proxyfetch bench: %s\n", why.text);
  return !err && b->holds && !worse && b->run.ended > 0 ? PF_EXIT_OK : PF_EXIT_FAILURE;
}

static void bench_show(struct bench *b) {
  bench_result_fill(&b->result);
  if (!b->config.json) {
    bench_result_print(&b->result);
    fflush(stdout);
    return;
  }
  struct pf_buf text;
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  bench_result_json(&b->result, &text);
  printf("%.*s\n", (int)text.len, text.data);
  fflush(stdout);
  pf_buf_done(&text);
}

/* The rest of the suite is written for Node; it lies in bench/, beside the build. */
static int run_suite(int argc, char **argv) {
  char script[CHILD_PATH_MAX], programs[CHILD_PATH_MAX], *args[CHILD_ARGS_MAX] = {"node", script};
  child_path(script, "../../bench/suite.mjs");
  child_path(programs, ".");
  if (argc + 2 > CHILD_ARGS_MAX) return PF_EXIT_USAGE;
  memcpy(args + 2, argv + 1, (size_t)(argc - 1) * sizeof(*args));
  if (access(script, R_OK) != 0) {
    fprintf(stderr, "proxyfetch bench: %s is not there: it comes with the sources\n", script);
    return PF_EXIT_START;
  }
  setenv("PF_BIN", programs, 1);
  execvp("node", args);
  fprintf(stderr, "proxyfetch bench: node cannot be run; it is needed for this\n");
  return PF_EXIT_START;
}

static bool wants_suite(int argc, char **argv) {
  if (argc > 1 && argv[1][0] != '-') return true;
  for (int i = 1; i < argc; i++)
    if (strncmp(argv[i], "--scenario", 10) == 0) return true;
  return false;
}

int bench_command(int argc, char **argv) {
  if (wants_suite(argc, argv)) return run_suite(argc, argv);
  struct bench *b = pf_alloc(sizeof(*b));
  pf_options_parse_or_exit(&bench_options, &b->config, argc, argv);
  b->exit_code = PF_EXIT_USAGE;
  b->holds = true;
  bench_result_init(&b->result);
  if (bench_check_config(b) == PF_OK) {
    size_t count = (size_t)b->config.concurrency;
    b->slots = pf_alloc(count * sizeof(*b->slots));
    b->free_slots = pf_alloc(count * sizeof(*b->free_slots));
    b->resting = pf_alloc(count * sizeof(*b->resting));
    for (; b->free_count < count; b->free_count++)
      b->free_slots[b->free_count] = b->free_count;
    b->result.mode = b->config.ws ? "ws" : "http";
    b->result.url = b->config.url;
    b->result.server = b->config.ws ? b->config.server : NULL;
    b->result.concurrency = b->config.concurrency;
    b->result.rate = (double)b->config.rate;
    b->result.run = &b->run;
    look_around(b);
    bench_go(b);
    if (b->exit_code == PF_EXIT_OK) {
      bench_show(b);
      b->exit_code = bench_judge(b);
    }
  }
  int code = b->exit_code;
  ws_load_free(b->ws_load);
  bench_run_done(&b->run);
  free(b->slots);
  free(b->free_slots);
  free(b->resting);
  pf_options_free(&bench_options, &b->config);
  free(b);
  return code;
}
