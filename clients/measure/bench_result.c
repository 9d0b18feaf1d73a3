#include "clients/measure/bench_result.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clients/measure/build_info.h"
#include "clients/measure/machine.h"
#include "clients/measure/stats.h"
#include "wire/json.h"

#define HISTOGRAM_FROM_MS 0.01

static const struct quantile {
  const char *name;
  double q;
} quantiles[] = {{"p50_ms", 0.5}, {"p75_ms", 0.75}, {"p90_ms", 0.9}, {"p95_ms", 0.95},
    {"p99_ms", 0.99}, {"p99_5_ms", 0.995}, {"p99_9_ms", 0.999}};

static const char *const compared[] = {
    "fetches_per_s", "error_percent", "first_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms", "cpu_us"};

/* ---- figures ---- */

static void add(struct bench_result *r, const char *name, double value) {
  PF_ASSERT(r->figure_count < BENCH_FIGURES_MAX);
  r->figures[r->figure_count++] = (struct bench_figure){name, value};
}

static void set_figures(struct bench_result *r, struct bench_run *run, double first_ms) {
  double *samples = run ? run->samples_ms : NULL;
  struct stats s = stats_of(samples, run ? run->sample_count : 0);
  double seconds = run ? bench_run_seconds(run) : 0;
  double tried = run ? (double)(run->ended + run->failed) : 0;
  r->figure_count = 0;
  add(r, "fetches_per_s", seconds > 0 ? (double)run->ended / seconds : 0);
  add(r, "margin_percent", run ? bench_run_margin(run) * 100 : 0);
  add(r, "error_percent", tried > 0 ? (double)run->failed * 100 / tried : 0);
  add(r, "samples", (double)s.count);
  add(r, "first_ms", first_ms);
  add(r, "min_ms", s.min);
  add(r, "mean_ms", s.mean);
  for (size_t i = 0; i < PF_COUNT(quantiles); i++)
    add(r, quantiles[i].name, run ? stats_quantile(samples, run->sample_count, quantiles[i].q) : 0);
  add(r, "max_ms", s.max);
  double cpu_us = 0;
  for (size_t i = 0; i < r->procs.count; i++)
    cpu_us += r->cpu_us[i];
  add(r, "cpu_us", r->procs.count ? cpu_us + r->client_cpu_us : 0);
}

void bench_result_init(struct bench_result *r) {
  set_figures(r, NULL, 0);
}

void bench_result_fill(struct bench_result *r) {
  double first_ms = r->run->sample_count ? r->run->samples_ms[0] : 0;
  bench_run_quantiles(r->run);
  set_figures(r, r->run, first_ms);
}

void bench_result_warn(struct bench_result *r, const char *fmt, ...) {
  if (r->warning_count == BENCH_WARNINGS_MAX) return;
  va_list args;
  va_start(args, fmt);
  vsnprintf(r->warnings[r->warning_count++], BENCH_WARNING_TEXT, fmt, args);
  va_end(args);
}

double bench_result_figure(const struct bench_result *r, const char *name) {
  for (size_t i = 0; i < r->figure_count; i++)
    if (strcmp(r->figures[i].name, name) == 0) return r->figures[i].value;
  PF_ASSERT(false);
  return 0;
}

/* Within `seconds` from at_s on; 0 if nothing is offered, but all that can be is sent. */
static double offered_per_s(const struct bench_result *r, double at_s, double seconds) {
  const struct bench_schedule *schedule = r->run->plan.schedule;
  if (!schedule) return 0;
  int64_t from = bench_schedule_count(schedule, (int64_t)(at_s * 1e9 + 0.5));
  int64_t to = bench_schedule_count(schedule, (int64_t)((at_s + seconds) * 1e9 + 0.5));
  return (double)(to - from) / seconds;
}

/* ---- text ---- */

static void print_cpu(const struct bench_result *r) {
  if (r->procs.count == 0) return;
  printf("  CPU per fetch  ");
  for (size_t i = 0; i < r->procs.count; i++)
    printf("%s %.1f + ", r->procs.procs[i].role, r->cpu_us[i]);
  printf("client %.1f = %.1f us\n", r->client_cpu_us, bench_result_figure(r, "cpu_us"));
}

static void print_offer(const struct bench_result *r) {
  if (!r->offer) return;
  printf("  offered %s, %.0f/s on average; latency counts from when a fetch was due; %" PRId64
         " had not ended at the end\n",
      r->offer, r->rate, r->run->late);
}

/* A second of a changing load a line. */
static void print_timeline(const struct bench_result *r) {
  double at_s = 0;
  printf("\n       s  offered/s  fetches/s  in flight      p50 ms      p99 ms  failed\n");
  for (size_t i = 0; i < r->run->second_count; i++) {
    const struct bench_second *s = &r->run->seconds[i];
    double offered = offered_per_s(r, at_s, s->seconds);
    at_s += s->seconds;
    printf("  %6.1f %10.0f %10.0f %10" PRId64, at_s, offered, (double)s->ended / s->seconds,
        s->in_flight);
    if (s->sample_count)
      printf("  %10.3f  %10.3f", s->p50_ms, s->p99_ms);
    else
      printf("  %10s  %10s", "-", "-");
    printf("  %6" PRId64 "\n", s->failed);
  }
}

static void print_cold(const struct bench_result *r) {
  printf("\n  %-14s %12s %12s %8s\n", "", "cold", "warm", "ratio");
  for (size_t i = 0; i < PF_COUNT(compared); i++) {
    double cold = bench_result_figure(r->cold, compared[i]);
    double warm = bench_result_figure(r, compared[i]);
    printf("  %-14s %12.3f %12.3f", compared[i], cold, warm);
    if (warm > 0) printf(" %8.2f", cold / warm);
    printf("\n");
  }
  printf(
      "  cold: no warm-up, and a connection for each fetch; the figures above are the warm ones\n");
  if (r->cold->run->failed)
    printf("  %" PRId64 " of the cold ones failed: %s\n", r->cold->run->failed, r->cold->problem);
}

void bench_result_print(const struct bench_result *r) {
  struct machine machine;
  char sockets[48] = "";
  machine_read(&machine);
  if (r->clients > 1) snprintf(sockets, sizeof(sockets), ", %" PRId64 " sockets", r->clients);
  printf("proxyfetch bench  %s  commit %s  %s\n", machine.date, build_commit(), PF_VERSION);
  printf("machine  %ld x %s, %ld MiB, %s\n", machine.cpus, machine.cpu, machine.memory_mib,
      machine.kernel);
  printf("%s  %s", r->mode, r->url);
  if (r->server) printf("  through %s", r->server);
  printf("\n\n  %.0f fetches/s  +/- %.1f %%  (%" PRId64 " fetches in %.1f s, %" PRId64
         " in flight%s%s)\n",
      bench_result_figure(r, "fetches_per_s"), bench_result_figure(r, "margin_percent"),
      r->run->ended, bench_run_seconds(r->run), r->concurrency, r->offer ? " at most" : "",
      sockets);
  print_offer(r);
  printf("  latency ms     mean %.3f  min %.3f  max %.3f\n                 ",
      bench_result_figure(r, "mean_ms"), bench_result_figure(r, "min_ms"),
      bench_result_figure(r, "max_ms"));
  for (size_t i = 0; i < PF_COUNT(quantiles); i++)
    printf("p%g %.3f  ", quantiles[i].q * 100, bench_result_figure(r, quantiles[i].name));
  printf("\n");
  print_cpu(r);
  if (r->run->failed) printf("  %" PRId64 " failed: %s\n", r->run->failed, r->problem);
  for (size_t i = 0; i < r->warning_count; i++)
    printf("  warning: %s\n", r->warnings[i]);
  if (r->changes) print_timeline(r);
  if (r->cold) print_cold(r);
}

/* ---- JSON ---- */

static void json_cpu(struct json_writer *w, const struct bench_result *r) {
  if (r->procs.count == 0) return;
  json_begin_object(w, "cpuUsPerFetch");
  for (size_t i = 0; i < r->procs.count; i++)
    json_put_ms(w, r->procs.procs[i].role, r->cpu_us[i]);
  json_put_ms(w, "client", r->client_cpu_us);
  json_end_object(w);
}

/* [[upper edge in ms, count], ...]: two of them double the latency. Samples are sorted. */
static void json_histogram(struct json_writer *w, const struct bench_run *run) {
  double edge_ms = HISTOGRAM_FROM_MS;
  json_begin_array(w, "histogram");
  for (size_t at = 0; at < run->sample_count; edge_ms *= M_SQRT2) {
    size_t from = at;
    while (at < run->sample_count && run->samples_ms[at] <= edge_ms)
      at++;
    if (at == from) continue;
    json_begin_array(w, NULL);
    json_put_ms(w, NULL, edge_ms);
    json_put_int(w, NULL, (int64_t)(at - from));
    json_end_array(w);
  }
  json_end_array(w);
}

static void json_figures(struct json_writer *w, const struct bench_result *r) {
  json_begin_object(w, "figures");
  for (size_t i = 0; i < r->figure_count; i++)
    json_put_ms(w, r->figures[i].name, r->figures[i].value);
  json_end_object(w);
  json_cpu(w, r);
}

static void json_counts(struct json_writer *w, const struct bench_result *r) {
  json_put_bool(w, "steady", r->run->steady);
  json_put_int(w, "fetches", r->run->ended);
  json_put_int(w, "failed", r->run->failed);
  json_put_int(w, "late", r->run->late);
  if (r->problem[0]) json_put_text(w, "problem", r->problem);
}

static void json_timeline(struct json_writer *w, const struct bench_result *r) {
  double at_s = 0;
  json_begin_array(w, "timeline");
  for (size_t i = 0; i < r->run->second_count; i++) {
    const struct bench_second *s = &r->run->seconds[i];
    json_begin_object(w, NULL);
    if (r->offer) json_put_ms(w, "offered_per_s", offered_per_s(r, at_s, s->seconds));
    at_s += s->seconds;
    json_put_ms(w, "at_s", at_s);
    json_put_ms(w, "fetches_per_s", (double)s->ended / s->seconds);
    json_put_int(w, "failed", s->failed);
    json_put_int(w, "in_flight", s->in_flight);
    if (s->sample_count) {
      json_put_ms(w, "p50_ms", s->p50_ms);
      json_put_ms(w, "p99_ms", s->p99_ms);
    }
    json_end_object(w);
  }
  json_end_array(w);
}

static void json_series(struct json_writer *w, const struct bench_result *r) {
  json_histogram(w, r->run);
  json_put_int(w, "windowMs", BENCH_WINDOW_MS);
  json_begin_array(w, "windows");
  for (size_t i = 0; i < r->run->window_count; i++)
    json_put_int(w, NULL, (int64_t)r->run->windows[i]);
  json_end_array(w);
  json_timeline(w, r);
}

static void json_cold(struct json_writer *w, const struct bench_result *r) {
  json_begin_object(w, "cold");
  json_counts(w, r->cold);
  json_figures(w, r->cold);
  json_timeline(w, r->cold);
  json_end_object(w);
  json_begin_object(w, "coldToWarm");
  for (size_t i = 0; i < PF_COUNT(compared); i++) {
    double warm = bench_result_figure(r, compared[i]);
    if (warm > 0) json_put_ms(w, compared[i], bench_result_figure(r->cold, compared[i]) / warm);
  }
  json_end_object(w);
}

void bench_result_json(const struct bench_result *r, enum bench_detail detail, struct pf_buf *ret) {
  struct json_writer writer = json_writer(ret), *w = &writer;
  struct machine machine;
  machine_read(&machine);
  json_begin_object(w, NULL);
  machine_write(&machine, w);
  json_put_text(w, "mode", r->mode);
  json_put_text(w, "url", r->url);
  if (r->server) json_put_text(w, "server", r->server);
  json_put_int(w, "concurrency", r->concurrency);
  if (r->clients) json_put_int(w, "clients", r->clients);
  json_put_ms(w, "rate", r->rate);
  if (r->offer) json_put_text(w, "offered", r->offer);
  json_counts(w, r);
  json_figures(w, r);
  if (detail == BENCH_ALL) json_series(w, r);
  if (detail == BENCH_ALL && r->cold) json_cold(w, r);
  json_begin_array(w, "warnings");
  for (size_t i = 0; i < r->warning_count; i++)
    json_put_text(w, NULL, r->warnings[i]);
  json_end_array(w);
  json_end_object(w);
  PF_ASSERT(ret->err == PF_OK);
}
