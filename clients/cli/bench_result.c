#include "bench_result.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "build_info.h"
#include "machine.h"
#include "stats.h"
#include "wire/json.h"

#define HISTOGRAM_FROM_MS 0.01
#define PATH_TEXT 4096
#define STATE_FOLDER "/proxyfetch/bench"

static const struct quantile {
  const char *name;
  double q;
} quantiles[] = {{"p50_ms", 0.5}, {"p75_ms", 0.75}, {"p90_ms", 0.9}, {"p95_ms", 0.95},
    {"p99_ms", 0.99}, {"p99_5_ms", 0.995}, {"p99_9_ms", 0.999}};

/* ---- figures ---- */

static void add(struct bench_result *r, const char *name, double value) {
  PF_ASSERT(r->figure_count < BENCH_FIGURES_MAX);
  r->figures[r->figure_count++] = (struct bench_figure){name, value};
}

static void set_figures(struct bench_result *r, const struct bench_run *run, double *samples) {
  struct stats s = stats_of(samples, run ? run->sample_count : 0);
  double seconds = run ? bench_run_seconds(run) : 0;
  double tried = run ? (double)(run->ended + run->failed) : 0;
  r->figure_count = 0;
  add(r, "fetches_per_s", seconds > 0 ? (double)run->ended / seconds : 0);
  add(r, "margin_percent", run ? bench_run_margin(run) * 100 : 0);
  add(r, "error_percent", tried > 0 ? (double)run->failed * 100 / tried : 0);
  add(r, "samples", (double)s.count);
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
  set_figures(r, NULL, NULL);
}

void bench_result_fill(struct bench_result *r) {
  set_figures(r, r->run, r->run->samples_ms);
}

void bench_result_warn(struct bench_result *r, const char *fmt, ...) {
  if (r->warning_count == BENCH_WARNINGS_MAX) return;
  va_list args;
  va_start(args, fmt);
  vsnprintf(r->warnings[r->warning_count++], BENCH_WARNING_TEXT, fmt, args);
  va_end(args);
}

static double figure(const struct bench_result *r, const char *name) {
  for (size_t i = 0; i < r->figure_count; i++)
    if (strcmp(r->figures[i].name, name) == 0) return r->figures[i].value;
  PF_ASSERT(false);
  return 0;
}

/* ---- text ---- */

static void print_cpu(const struct bench_result *r) {
  if (r->procs.count == 0) return;
  printf("  CPU per fetch  ");
  for (size_t i = 0; i < r->procs.count; i++)
    printf("%s %.1f + ", r->procs.procs[i].role, r->cpu_us[i]);
  printf("client %.1f = %.1f us\n", r->client_cpu_us, figure(r, "cpu_us"));
}

void bench_result_print(const struct bench_result *r) {
  struct machine machine;
  machine_read(&machine);
  printf("proxyfetch bench  %s  commit %s  %s\n", machine.date, build_commit(), PF_VERSION);
  printf("machine  %ld x %s, %ld MiB, %s\n", machine.cpus, machine.cpu, machine.memory_mib,
      machine.kernel);
  printf("%s  %s", r->mode, r->url);
  if (r->server) printf("  through %s", r->server);
  printf("\n\n  %.0f fetches/s  +/- %.1f %%  (%" PRId64 " fetches in %.1f s, %" PRId64
         " in flight%s)\n",
      figure(r, "fetches_per_s"), figure(r, "margin_percent"), r->run->ended,
      bench_run_seconds(r->run), r->concurrency, r->rate > 0 ? " at most" : "");
  if (r->rate > 0)
    printf("  offered %.0f/s; latency counts from when a fetch was due; %" PRId64
           " had not ended at the end\n",
        r->rate, r->run->late);
  printf("  latency ms     mean %.3f  min %.3f  max %.3f\n                 ", figure(r, "mean_ms"),
      figure(r, "min_ms"), figure(r, "max_ms"));
  for (size_t i = 0; i < PF_COUNT(quantiles); i++)
    printf("p%g %.3f  ", quantiles[i].q * 100, figure(r, quantiles[i].name));
  printf("\n");
  print_cpu(r);
  if (r->run->failed) printf("  %" PRId64 " failed: %s\n", r->run->failed, r->problem);
  for (size_t i = 0; i < r->warning_count; i++)
    printf("  warning: %s\n", r->warnings[i]);
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

void bench_result_json(const struct bench_result *r, struct pf_buf *ret) {
  struct json_writer writer = json_writer(ret), *w = &writer;
  struct machine machine;
  machine_read(&machine);
  json_begin_object(w, NULL);
  machine_write(&machine, w);
  json_put_text(w, "mode", r->mode);
  json_put_text(w, "url", r->url);
  if (r->server) json_put_text(w, "server", r->server);
  json_put_int(w, "concurrency", r->concurrency);
  json_put_ms(w, "rate", r->rate);
  json_put_bool(w, "steady", r->run->steady);
  json_put_int(w, "fetches", r->run->ended);
  json_put_int(w, "failed", r->run->failed);
  json_put_int(w, "late", r->run->late);
  if (r->problem[0]) json_put_text(w, "problem", r->problem);
  json_begin_object(w, "figures");
  for (size_t i = 0; i < r->figure_count; i++)
    json_put_ms(w, r->figures[i].name, r->figures[i].value);
  json_end_object(w);
  json_cpu(w, r);
  json_histogram(w, r->run);
  json_put_int(w, "windowMs", BENCH_WINDOW_MS);
  json_begin_array(w, "windows");
  for (size_t i = 0; i < r->run->window_count; i++)
    json_put_int(w, NULL, (int64_t)r->run->windows[i]);
  json_end_array(w);
  json_begin_array(w, "warnings");
  for (size_t i = 0; i < r->warning_count; i++)
    json_put_text(w, NULL, r->warnings[i]);
  json_end_array(w);
  json_end_object(w);
  PF_ASSERT(ret->err == PF_OK);
}

/* ---- baselines ---- */

/* The file of a baseline, or with name NULL their folder. */
static int baseline_path(char path[PATH_TEXT], const char *name, struct pf_error *reterr) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
  bool own = state && *state;
  if (name && (!*name || *name == '.' || strlen(name) > 64 || name[strspn(name, allowed)]))
    return pf_error_set(
        reterr, PF_EINVAL, "'%s': letters, digits, '-', '_' and '.' make a name", name);
  if (!own && !home) return pf_error_set(reterr, PF_EINVAL, "HOME is not set");
  snprintf(path, PATH_TEXT, "%s%s" STATE_FOLDER "%s%s%s", own ? state : home,
      own ? "" : "/.local/state", name ? "/" : "", name ? name : "", name ? ".json" : "");
  return PF_OK;
}

static int make_folders(char *path, struct pf_error *reterr) {
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    bool failed = mkdir(path, 0777) != 0 && errno != EEXIST;
    if (failed) return pf_error_set(reterr, PF_EIO, "%s: %s", path, strerror(errno));
    *slash = '/';
  }
  return PF_OK;
}

int bench_baseline_save(
    const struct bench_result *result, const char *name, struct pf_error *reterr) {
  char path[PATH_TEXT];
  int err = baseline_path(path, name, reterr);
  if (!err) err = make_folders(path, reterr);
  if (err) return err;
  struct pf_buf text;
  pf_buf_init(&text, BENCH_BASELINE_MAX);
  bench_result_json(result, &text);
  FILE *out = fopen(path, "we");
  bool written = out && fwrite(text.data, 1, text.len, out) == text.len;
  if (out) written = fclose(out) == 0 && written;
  pf_buf_done(&text);
  return written ? PF_OK : pf_error_set(reterr, PF_EIO, "%s: %s", path, strerror(errno));
}

static int baseline_read(struct json **ret_root, const char *name, struct pf_error *reterr) {
  char path[PATH_TEXT];
  int err = baseline_path(path, name, reterr);
  if (err) return err;
  FILE *in = fopen(path, "re");
  if (!in) return pf_error_set(reterr, PF_EINVAL, "%s: %s", path, strerror(errno));
  char *text = pf_alloc(BENCH_BASELINE_MAX);
  size_t len = fread(text, 1, BENCH_BASELINE_MAX, in);
  fclose(in);
  err = json_parse(ret_root, pf_slice(text, len), reterr);
  free(text);
  return err;
}

int bench_baseline_compare(const struct bench_result *r, const char *name, double threshold,
    bool *ret_worse, struct pf_error *reterr) {
  static const char *const shown[] = {"fetches_per_s", "p50_ms", "p90_ms", "p99_ms", "cpu_us"};
  struct json *root;
  int err = baseline_read(&root, name, reterr);
  if (err) return err;
  const struct json *figures = json_type(root) == JSON_OBJECT ? json_get(root, "figures") : NULL;
  bool worse = false;
  fprintf(stderr, "\nagainst %s:\n", name);
  for (size_t i = 0; i < PF_COUNT(shown); i++) {
    double old = 0, now = figure(r, shown[i]);
    if (!figures || json_type(figures) != JSON_OBJECT ||
        !json_double(json_get(figures, shown[i]), &old) || old <= 0)
      continue;
    double change = now / old - 1;
    bool bad = (i == 0 && change < -threshold) || (i == 3 && change > threshold);
    worse |= bad;
    fprintf(stderr, "  %-14s %12.3f %12.3f  %+6.1f %%%s\n", shown[i], old, now, change * 100,
        bad ? "  worse" : "");
  }
  json_free(root);
  *ret_worse = worse;
  return PF_OK;
}
