#include "clients/measure/measurement.h"

#include <stdio.h>
#include <string.h>

#include "clients/measure/build_info.h"
#include "clients/measure/machine.h"
#include "wire/client.h"
#include "wire/json.h"

struct load_faults measurement_faults(const struct measurement *m) {
  struct load_faults sum = {0};
  for (size_t i = 0; i < m->run_count; i++) {
    const struct load_faults *f = &m->runs[i].faults;
    sum.failed += f->failed;
    sum.missing += f->missing;
    sum.out_of_order += f->out_of_order;
    sum.repeated += f->repeated;
    sum.other_id += f->other_id;
    sum.strange += f->strange;
    if (!sum.first[0]) memcpy(sum.first, f->first, sizeof(sum.first));
  }
  return sum;
}

static const struct run *run_find(
    const struct measurement *m, enum run_kind kind, int64_t concurrency) {
  for (size_t i = 0; i < m->run_count; i++) {
    const struct run *run = &m->runs[i];
    if (run->finished && run->kind == kind && run->concurrency == concurrency) return run;
  }
  return NULL;
}

bool measurement_added_ms(const struct measurement *m, double *ret_ms) {
  const struct run *single = run_find(m, RUN_SUSTAINED, 1);
  if (!single || m->direct_ms.count == 0) return false;
  *ret_ms = single->whole_ms.p50 - m->direct_ms.p50 - m->round_trip_ms.p50;
  return true;
}

/* A burst as a share of what the same fetches would take one after the other; 0 if unknown. */
static double ratio_to_linear(const struct measurement *m, const struct run *burst) {
  const struct run *single = run_find(m, RUN_SUSTAINED, 1);
  if (!single || single->whole_ms.mean <= 0) return 0;
  return burst->total_ms / (single->whole_ms.mean * (double)burst->iterations);
}

/* ---- text ---- */

static void print_header(const struct measurement *m) {
  struct machine machine;
  machine_read(&machine);
  printf("proxyfetch measure  %s  commit %s  %s\n", machine.date, build_commit(), PF_VERSION);
  printf("machine  %ld x %s, %ld MiB, %s\n", machine.cpus, machine.cpu, machine.memory_mib,
      machine.kernel);
  printf("server   %s\ntarget   %s\n\n", m->server, m->target);
}

static void print_single(const struct measurement *m) {
  printf("WebSocket round trip   p50 %.3f  min %.3f  p99 %.3f ms   (%s)\n", m->round_trip_ms.p50,
      m->round_trip_ms.min, m->round_trip_ms.p99,
      m->round_trip_by_frame ? "protocol ping" : "ping message");
  if (m->direct_problem[0])
    printf("direct fetch           not possible from here: %s\n", m->direct_problem);
  else
    printf("direct fetch           p50 %.3f  min %.3f  p99 %.3f ms   (first, with connect: %.3f)\n",
        m->direct_ms.p50, m->direct_ms.min, m->direct_ms.p99, m->direct_first_ms);
  const struct run *cold = run_find(m, RUN_COLD, 1);
  if (cold)
    printf("first fetch (cold)     %.3f ms = enqueue %.3f + execution %.3f\n", cold->total_ms,
        cold->enqueue_ms.p50, cold->execution_ms.p50);
  double added_ms;
  if (measurement_added_ms(m, &added_ms))
    printf(
        "added latency          %.3f ms = %.3f (fetch) - %.3f (direct) - %.3f (round trip), p50\n",
        added_ms, run_find(m, RUN_SUSTAINED, 1)->whole_ms.p50, m->direct_ms.p50,
        m->round_trip_ms.p50);
}

static void print_throughput(const struct measurement *m) {
  printf("\n             |        burst of that many        |       that many in flight\n"
         "concurrency  |  total ms  ms/fetch  to linear   |  fetches  total ms  ms/fetch  "
         "fetches/s\n");
  for (size_t i = 0; i < m->run_count; i++) {
    const struct run *s = &m->runs[i];
    if (s->kind != RUN_SUSTAINED || !s->finished) continue;
    const struct run *b = run_find(m, RUN_BURST, s->concurrency);
    double ratio = b ? ratio_to_linear(m, b) : 0;
    char linear[16] = "-";
    if (ratio > 0) snprintf(linear, sizeof(linear), "%.3f", ratio);
    printf("%11lld  |%10.2f%10.4f%11s   |%9lld%10.1f%10.4f%11.0f\n", (long long)s->concurrency,
        b ? b->total_ms : 0, b ? b->total_ms / (double)b->iterations : 0, linear,
        (long long)s->iterations, s->total_ms, s->total_ms / (double)s->iterations,
        (double)s->iterations * 1000 / s->total_ms);
  }
}

static void print_row(const char *name, const struct stats *s) {
  if (s->count == 0)
    printf("             %-26s not reported by the server\n", name);
  else
    printf("             %-26s%9.3f%9.3f%9.3f%9.3f%9.3f\n", name, s->min, s->p50, s->p90, s->p99,
        s->max);
}

static void print_latencies(const struct measurement *m) {
  printf("\nconcurrency  phase, ms                      min      p50      p90      p99      max\n");
  for (size_t i = 0; i < m->run_count; i++) {
    const struct run *s = &m->runs[i];
    if (s->kind != RUN_SUSTAINED || !s->finished) continue;
    printf("%11lld\n", (long long)s->concurrency);
    print_row("enqueue (our clock)", &s->enqueue_ms);
    print_row("enqueueTime (origin)", &s->origin_enqueue_ms);
    print_row("execution (our clock)", &s->execution_ms);
    print_row("whole fetch", &s->whole_ms);
  }
}

static void print_cpu(const struct measurement *m) {
  printf("\nCPU per fetch, us");
  if (m->procs.count == 0)
    printf(" (no process of the system found on this machine: only this client)");
  printf("\nconcurrency ");
  for (size_t p = 0; p < m->procs.count; p++)
    printf(" %14s", m->procs.procs[p].role);
  printf(" %14s %9s\n", "client", "sum");
  for (size_t i = 0; i < m->run_count; i++) {
    const struct run *s = &m->runs[i];
    if (s->kind != RUN_SUSTAINED || !s->finished) continue;
    double sum = s->client_cpu_us;
    printf("%11lld ", (long long)s->concurrency);
    for (size_t p = 0; p < m->procs.count; p++) {
      printf(" %14.1f", s->cpu_us[p]);
      sum += s->cpu_us[p];
    }
    printf(" %14.1f %9.1f\n", s->client_cpu_us, sum);
  }
}

static void print_phases(const struct run *run) {
  printf("\ntimings at %lld in flight, ms     min      p50      p90      p99      max     mean\n",
      (long long)run->concurrency);
  for (int i = 0; i < MESSAGE_TIMINGS; i++) {
    const struct stats *s = &run->timings_ms[i];
    printf("  %-25s%9.3f%9.3f%9.3f%9.3f%9.3f%9.3f\n", client_timing_names[i], s->min, s->p50,
        s->p90, s->p99, s->max, s->mean);
  }
  printf("  the parts add up to the total in %lld of %lld\n",
      (long long)(run->timings_count - run->sums_wrong), (long long)run->timings_count);
}

static void print_timings(const struct measurement *m) {
  for (size_t i = 0; i < m->run_count; i++) {
    const struct run *run = &m->runs[i];
    if (run->kind != RUN_TIMINGS || !run->finished) continue;
    if (run->timings_count == 0) {
      printf("\nconnection re-use      not reported by the server\n");
      return;
    }
    if (m->phases) print_phases(run);
    printf(
        "%sconnection re-use      %lld of %lld fetches used an open connection to the target (%lld "
        "in flight)\n",
        m->phases ? "" : "\n", (long long)run->reused, (long long)run->timings_count,
        (long long)run->concurrency);
  }
}

static void print_verdict(const struct measurement *m) {
  struct load_faults f = measurement_faults(m);
  int64_t fetches = 0;
  for (size_t i = 0; i < m->run_count; i++)
    if (m->runs[i].finished) fetches += m->runs[i].iterations;
  if (load_faults_sum(&f) == 0) {
    printf("\nall %lld fetches ended exactly once: one enqueued, then one good result\n",
        (long long)fetches);
    return;
  }
  printf(
      "\nFAILED: of %lld fetches %lld failed, %lld are missing, %lld came out of order, %lld were "
      "answered twice, %lld changed their id; %lld messages belong to none\nfirst: %s\n",
      (long long)fetches, (long long)f.failed, (long long)f.missing, (long long)f.out_of_order,
      (long long)f.repeated, (long long)f.other_id, (long long)f.strange, f.first);
}

void measurement_print(const struct measurement *m) {
  print_header(m);
  print_single(m);
  print_throughput(m);
  print_latencies(m);
  print_cpu(m);
  print_timings(m);
  print_verdict(m);
}

/* ---- JSON ---- */

static void json_stats(struct json_writer *w, const char *name, const struct stats *s) {
  if (s->count == 0) {
    json_put_null(w, name);
    return;
  }
  json_begin_object(w, name);
  json_put_int(w, "samples", (int64_t)s->count);
  json_put_ms(w, "min", s->min);
  json_put_ms(w, "mean", s->mean);
  json_put_ms(w, "p50", s->p50);
  json_put_ms(w, "p75", s->p75);
  json_put_ms(w, "p90", s->p90);
  json_put_ms(w, "p95", s->p95);
  json_put_ms(w, "p99", s->p99);
  json_put_ms(w, "p995", s->p995);
  json_put_ms(w, "p999", s->p999);
  json_put_ms(w, "max", s->max);
  json_end_object(w);
}

static void json_run(struct json_writer *w, const struct measurement *m, const struct run *run) {
  static const char *const kinds[] = {"cold", "burst", "sustained", "timings"};
  json_begin_object(w, NULL);
  json_put_text(w, "kind", kinds[run->kind]);
  json_put_int(w, "concurrency", run->concurrency);
  json_put_int(w, "fetches", run->iterations);
  json_put_ms(w, "totalMs", run->total_ms);
  json_put_ms(w, "perSecond", (double)run->iterations * 1000 / run->total_ms);
  if (run->kind == RUN_BURST && ratio_to_linear(m, run) > 0)
    json_put_ms(w, "toLinear", ratio_to_linear(m, run));
  json_stats(w, "enqueueMs", &run->enqueue_ms);
  json_stats(w, "originEnqueueMs", &run->origin_enqueue_ms);
  json_stats(w, "executionMs", &run->execution_ms);
  json_stats(w, "wholeMs", &run->whole_ms);
  json_begin_object(w, "cpuUsPerFetch");
  for (size_t p = 0; p < m->procs.count; p++)
    json_put_ms(w, m->procs.procs[p].role, run->cpu_us[p]);
  json_put_ms(w, "client", run->client_cpu_us);
  json_end_object(w);
  if (run->timings_count) {
    json_begin_object(w, "timingsMs");
    for (int i = 0; i < MESSAGE_TIMINGS; i++)
      json_stats(w, client_timing_names[i], &run->timings_ms[i]);
    json_end_object(w);
    json_put_int(w, "timingsReported", run->timings_count);
    json_put_int(w, "timingsNotAddingUp", run->sums_wrong);
    json_put_int(w, "connectionsReused", run->reused);
  }
  json_end_object(w);
}

static void json_head(struct json_writer *w, const struct measurement *m) {
  struct machine machine;
  machine_read(&machine);
  machine_write(&machine, w);
  json_put_text(w, "server", m->server);
  json_put_text(w, "target", m->target);
}

static void json_faults(struct json_writer *w, const struct load_faults *f) {
  json_begin_object(w, "faults");
  json_put_int(w, "failed", f->failed);
  json_put_int(w, "missing", f->missing);
  json_put_int(w, "outOfOrder", f->out_of_order);
  json_put_int(w, "repeated", f->repeated);
  json_put_int(w, "otherId", f->other_id);
  json_put_int(w, "strange", f->strange);
  if (f->first[0]) json_put_text(w, "first", f->first);
  json_end_object(w);
}

void measurement_print_json(const struct measurement *m) {
  struct pf_buf buf;
  pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
  struct json_writer writer = json_writer(&buf), *w = &writer;
  json_begin_object(w, NULL);
  json_head(w, m);
  json_stats(w, "roundTripMs", &m->round_trip_ms);
  json_put_text(w, "roundTripBy", m->round_trip_by_frame ? "frame" : "message");
  json_stats(w, "directMs", &m->direct_ms);
  if (m->direct_problem[0]) json_put_text(w, "directProblem", m->direct_problem);
  double added_ms;
  if (measurement_added_ms(m, &added_ms)) json_put_ms(w, "addedMs", added_ms);
  json_begin_array(w, "runs");
  for (size_t i = 0; i < m->run_count; i++)
    if (m->runs[i].finished) json_run(w, m, &m->runs[i]);
  json_end_array(w);
  struct load_faults faults = measurement_faults(m);
  json_faults(w, &faults);
  json_put_bool(w, "ok", load_faults_sum(&faults) == 0);
  json_end_object(w);
  PF_ASSERT(buf.err == PF_OK);
  printf("%.*s\n", (int)buf.len, buf.data);
  pf_buf_done(&buf);
}
