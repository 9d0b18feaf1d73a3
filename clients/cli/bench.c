/* `proxyfetch bench`: a load of HTTP requests, or of fetches through an origin's WebSocket, with
 * the options that load tools usually have. `bench suite`, `bench compare` and the like are passed
 * on to the programs in bench/. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clients/cli/bench_options.h"
#include "clients/cli/child.h"
#include "clients/cli/command.h"
#include "clients/measure/bench_baseline.h"
#include "clients/measure/bench_load.h"
#include "clients/measure/machine.h"

#define BUSY_WARN 0.2
#define FILES_SPARE 64
#define SECOND_NS INT64_C(1000000000)

struct measurement {
  struct bench_run run;
  struct bench_result result;
};

struct bench {
  struct bench_config config;
  struct bench_schedule schedule;
  const char *offer;  /* in words */
  struct record load; /* what is sent: one request, or a recorded load */
  struct record sent; /* --record */
  FILE *record_out;
  struct bench_load_plan plan;
  struct measurement warm, cold;
  bool holds; /* all assertions */
};

/* ---- before ---- */

static void look_around(struct bench *b) {
  const struct bench_config *c = &b->config;
  struct bench_result *r = &b->warm.result;
  int64_t sockets = c->ws && c->keepalive && !c->compare ? c->clients : c->concurrency;
  struct rlimit files;
#ifndef PF_RELEASE
  bench_result_warn(r, "this is not a release build");
#endif
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < (rlim_t)sockets + FILES_SPARE)
    bench_result_warn(
        r, "only %llu files may be open: see ulimit -n", (unsigned long long)files.rlim_cur);
  double busy = machine_busy_share();
  if (busy > BUSY_WARN)
    bench_result_warn(r, "other programs use %.0f %% of the machine", busy * 100);
}

static void ignore(void *arg, const char *assertion, size_t len, double value, bool holds) {
  (void)arg, (void)assertion, (void)len, (void)value, (void)holds;
}

/* What options say against each other. */
static int check_options(const struct bench_config *c, struct pf_error *reterr) {
  if ((c->rate > 0) + !!c->ramp + !!c->profile + !!c->replay > 1)
    return pf_error_set(
        reterr, PF_EINVAL, "--rate, --ramp, --profile and --replay exclude each other");
  if (c->compare && (c->record || !c->keepalive))
    return pf_error_set(
        reterr, PF_EINVAL, "--compare-cold-warm excludes --record and --no-keepalive");
  if (!c->ws && c->clients > 1) return pf_error_set(reterr, PF_EINVAL, "--clients needs --ws");
  return bench_baseline_check(c->baseline, c->save, reterr);
}

static int read_speed(const char *text, double *ret_speed, struct pf_error *reterr) {
  char *end;
  *ret_speed = strtod(text, &end);
  if (end != text && !*end && *ret_speed >= RECORD_SPEED_MIN && *ret_speed <= RECORD_SPEED_MAX)
    return PF_OK;
  return pf_error_set(reterr, PF_EINVAL, "--speed '%.40s' is not from %g to %g", text,
      RECORD_SPEED_MIN, RECORD_SPEED_MAX);
}

/* The requests, and when they are due. */
static int plan_load(struct bench *b, struct pf_error *reterr) {
  const struct bench_config *c = &b->config;
  char ramp[PF_OPTION_VALUE_MAX + 32];
  double speed;
  uint32_t index;
  int err = read_speed(c->speed, &speed, reterr);
  if (err) return err;
  if (c->replay) {
    b->offer = c->replay;
    err = record_read(&b->load, c->replay, reterr);
    if (!err) err = record_speed(&b->load, speed, reterr);
    b->schedule.at_ns = b->load.at_ns;
    b->schedule.at_count = b->load.send_count;
    return err;
  }
  struct load_request request = {.method = pf_slice_str(c->method),
      .url = pf_slice_str(c->url),
      .body = pf_slice_str(c->body)};
  PF_ASSERT(record_request(&b->load, &request, &index) == PF_OK); /* options are short */
  if (c->profile) {
    b->offer = c->profile;
    return bench_schedule_parse(&b->schedule, c->profile, reterr);
  }
  if (c->ramp) {
    b->offer = c->ramp;
    snprintf(ramp, sizeof(ramp), "%" PRId64 "s@%s", c->duration_s, c->ramp);
    if (strchr(c->ramp, ',') || !strchr(c->ramp, ':'))
      return pf_error_set(reterr, PF_EINVAL, "--ramp '%.100s' is not like 500:2000", c->ramp);
    return bench_schedule_parse(&b->schedule, ramp, reterr);
  }
  if (c->rate) {
    b->offer = "at a constant rate";
    bench_schedule_constant(&b->schedule, (double)c->rate, c->duration_s * SECOND_NS);
  }
  return PF_OK;
}

/* Whom to ask: an origin, or a server that all URLs are of. */
static int plan_server(struct bench *b, struct pf_error *reterr) {
  const struct bench_config *c = &b->config;
  struct pf_error why = {0};
  if (c->ws) return ws_url_parse(&b->plan.server, c->server, reterr);
  for (size_t i = 0; i < b->load.request_count; i++) {
    const struct load_request *request = &b->load.requests[i];
    const struct ws_url *first = &b->plan.server;
    struct ws_url url;
    int err = ws_url_parse(&url, request->url.data, &why);
    if (!err && i == 0) b->plan.server = url;
    if (!err && (strcmp(url.host, first->host) != 0 || strcmp(url.port, first->port) != 0))
      err =
          pf_error_set(&why, PF_EINVAL, "not of %s:%s, as the first URL", first->host, first->port);
    if (err && c->replay)
      return pf_error_set(
          reterr, err, "%s, line %" PRId64 ": %.300s", c->replay, request->line, why.text);
    if (err) return pf_error_set(reterr, err, "%s", why.text);
  }
  return PF_OK;
}

static int plan_record(struct bench *b, struct pf_error *reterr) {
  uint32_t index;
  if (!b->config.record) return PF_OK;
  for (size_t i = 0; i < b->load.request_count; i++) /* the same indices */
    PF_ASSERT(record_request(&b->sent, &b->load.requests[i], &index) == PF_OK && index == i);
  b->record_out = fopen(b->config.record, "we");
  if (!b->record_out)
    return pf_error_set(reterr, PF_EIO, "%s: %s", b->config.record, strerror(errno));
  b->plan.sent = &b->sent;
  return PF_OK;
}

static void plan_fill(struct bench *b) {
  const struct bench_config *c = &b->config;
  struct bench_load_plan *p = &b->plan;
  p->run.schedule = b->offer ? &b->schedule : NULL;
  p->run.warmup_ns = c->replay ? 0 : c->warmup_s * SECOND_NS;
  p->run.duration_ns =
      b->offer ? bench_schedule_length_ns(&b->schedule) : c->duration_s * SECOND_NS;
  p->run.drain_ns = c->replay ? BENCH_DRAIN_S * SECOND_NS : 0;
  p->ws = c->ws;
  p->requests = b->load.requests;
  p->request_count = b->load.request_count;
  p->which = b->load.which;
  p->include = c->include;
  p->concurrency = (size_t)c->concurrency;
  p->clients = (size_t)c->clients;
  p->fresh = !c->keepalive;
  p->find_processes = c->ws && !c->pids;
}

/* Errors: those of a bad option, with a message on stderr. */
static int bench_prepare(struct bench *b) {
  struct pf_error why = {0};
  const struct bench_config *c = &b->config;
  struct bench_result *r = &b->warm.result;
  int err = check_options(c, &why);
  if (!err) err = plan_load(b, &why);
  if (!err) err = plan_server(b, &why);
  if (!err && c->check)
    err = bench_check(c->check, r->figures, r->figure_count, ignore, NULL, &why);
  if (!err && c->pids && !proc_add_list(&r->procs, c->pids))
    err = pf_error_set(&why, PF_EINVAL, "'%s' is not ROLE=PID,... of running processes", c->pids);
  if (!err) err = plan_record(b, &why);
  if (err)
    fprintf(stderr, "proxyfetch bench: %s\n", why.text);
  else
    plan_fill(b);
  return err;
}

/* ---- the load ---- */

static void result_describe(struct bench *b, struct measurement *m) {
  const struct bench_config *c = &b->config;
  struct bench_result *r = &m->result;
  int64_t length_ns = b->plan.run.duration_ns;
  r->mode = c->ws ? "ws" : "http";
  r->url = c->replay ? b->load.requests[0].url.data : c->url;
  r->server = c->ws ? c->server : NULL;
  r->concurrency = c->concurrency;
  r->clients = c->ws ? c->clients : 0;
  r->offer = b->offer;
  r->changes = b->offer && !c->rate;
  if (b->offer)
    r->rate = (double)bench_schedule_count(&b->schedule, length_ns) * SECOND_NS / (double)length_ns;
  r->run = &m->run;
}

/* The same load without warm-up, with a connection for each request. */
static int bench_run_cold(struct bench *b) {
  struct bench_load_plan plan = b->plan;
  plan.fresh = true;
  plan.run.warmup_ns = 0;
  b->cold.result.procs = b->warm.result.procs; /* of --pids */
  int code = bench_load_run(&plan, &b->cold.run, &b->cold.result);
  if (code == PF_EXIT_OK) {
    bench_result_fill(&b->cold.result);
    b->warm.result.cold = &b->cold.result;
  }
  return code;
}

static int write_record(struct bench *b) {
  if (!b->record_out) return PF_OK;
  int err = record_write(&b->sent, b->record_out);
  if (fclose(b->record_out) != 0) err = PF_EIO;
  b->record_out = NULL;
  if (err) fprintf(stderr, "proxyfetch bench: cannot write %s\n", b->config.record);
  if (b->warm.result.record_is_cut)
    bench_result_warn(
        &b->warm.result, "only the first %zu requests are recorded", RECORD_SENDS_MAX);
  return err;
}

/* ---- after ---- */

static void check_one(void *arg, const char *assertion, size_t len, double value, bool holds) {
  struct bench *b = arg;
  if (holds) return;
  b->holds = false;
  fprintf(stderr, "proxyfetch bench: %.*s does not hold: it is %.3f\n", (int)len, assertion, value);
}

static int bench_judge(struct bench *b) {
  const struct bench_result *r = &b->warm.result;
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
  bool some = b->warm.run.ended > 0 && (!r->cold || b->cold.run.ended > 0);
  return !err && b->holds && !worse && some ? PF_EXIT_OK : PF_EXIT_FAILURE;
}

static void bench_show(struct bench *b) {
  bench_result_fill(&b->warm.result);
  if (!b->config.json) {
    bench_result_print(&b->warm.result);
    fflush(stdout);
    return;
  }
  struct pf_buf text;
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  bench_result_json(&b->warm.result, BENCH_ALL, &text);
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

static int bench_go(struct bench *b) {
  int code = PF_EXIT_OK;
  result_describe(b, &b->warm);
  result_describe(b, &b->cold);
  look_around(b);
  if (b->config.compare) code = bench_run_cold(b);
  if (code == PF_EXIT_OK) code = bench_load_run(&b->plan, &b->warm.run, &b->warm.result);
  if (write_record(b)) code = PF_EXIT_FAILURE;
  if (b->warm.run.phase == BENCH_OVER) bench_show(b);
  return code == PF_EXIT_OK ? bench_judge(b) : code;
}

int bench_command(int argc, char **argv) {
  if (wants_suite(argc, argv)) return run_suite(argc, argv);
  struct bench *b = pf_alloc(sizeof(*b));
  pf_options_parse_or_exit(&bench_options, &b->config, argc, argv);
  b->holds = true;
  record_init(&b->load);
  record_init(&b->sent);
  bench_result_init(&b->warm.result);
  bench_result_init(&b->cold.result);
  int code = bench_prepare(b) == PF_OK ? bench_go(b) : PF_EXIT_USAGE;
  if (b->record_out) fclose(b->record_out);
  bench_run_done(&b->warm.run);
  bench_run_done(&b->cold.run);
  record_done(&b->load);
  record_done(&b->sent);
  pf_options_free(&bench_options, &b->config);
  free(b);
  return code;
}
