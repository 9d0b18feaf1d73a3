/* What a benchmark found: its figures by name, as text and as JSON.
 *
 * Threads    main thread
 * Ownership  none
 * Ordering   none
 * Limits     BENCH_FIGURES_MAX figures */
#ifndef MEASURE_BENCH_RESULT_H
#define MEASURE_BENCH_RESULT_H

#include "base/buf.h"
#include "clients/measure/bench_check.h"
#include "clients/measure/bench_run.h"
#include "clients/measure/proc.h"

#define BENCH_FIGURES_MAX 24
#define BENCH_WARNINGS_MAX 8
#define BENCH_WARNING_TEXT 160

struct bench_result {
  const char *mode, *url; /* "http" or "ws"; what was fetched */
  const char *server;     /* NULL for http */
  int64_t concurrency;
  int64_t clients;                 /* sockets of ws, else 0 */
  const char *offer;               /* what an open loop offers, in words; NULL for a closed loop */
  double rate;                     /* of it, on average */
  bool changes;                    /* the rate does: show it second by second */
  struct bench_run *run;           /* over */
  const struct bench_result *cold; /* filled; to show beside this one, or NULL */
  bool record_is_cut;              /* more was sent than a recording takes */
  struct proc_set procs;
  double cpu_us[PROC_MAX]; /* per fetch; not known without processes */
  double client_cpu_us;
  char warnings[BENCH_WARNINGS_MAX][BENCH_WARNING_TEXT];
  size_t warning_count;
  char problem[256]; /* words on the first failure */

  struct bench_figure figures[BENCH_FIGURES_MAX];
  size_t figure_count;
};

/* The names that assertions may use; all zero before bench_result_fill. */
void bench_result_init(struct bench_result *result);
void bench_result_warn(struct bench_result *result, const char *fmt, ...) PF_PRINTF(2, 3);
/* Once. Sorts the samples of the run. */
void bench_result_fill(struct bench_result *result);
void bench_result_print(const struct bench_result *result);
/* Of a name of the list; asserted. */
double bench_result_figure(const struct bench_result *result, const char *name);
enum bench_detail { BENCH_FIGURES_ONLY, BENCH_ALL };
void bench_result_json(
    const struct bench_result *result, enum bench_detail detail, struct pf_buf *ret);

#endif
