/* What a benchmark found: its figures by name, on paper, and beside those of an earlier one.
 *
 * Threads    main thread
 * Ownership  none
 * Ordering   none
 * Limits     BENCH_FIGURES_MAX figures; baselines of BENCH_BASELINE_MAX bytes */
#ifndef CLI_BENCH_RESULT_H
#define CLI_BENCH_RESULT_H

#include "base/buf.h"
#include "bench_check.h"
#include "bench_run.h"
#include "proc.h"

#define BENCH_FIGURES_MAX 24
#define BENCH_WARNINGS_MAX 5
#define BENCH_WARNING_TEXT 160
#define BENCH_BASELINE_MAX ((size_t)1 << 20)

struct bench_result {
  const char *mode, *url; /* "http" or "ws"; what was fetched */
  const char *server;     /* NULL for http */
  int64_t concurrency;
  double rate;
  const struct bench_run *run; /* over */
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
/* Sorts the samples of the run. */
void bench_result_fill(struct bench_result *result);
void bench_result_print(const struct bench_result *result);
void bench_result_json(const struct bench_result *result, struct pf_buf *ret);

/* Baselines: one JSON file each, below $XDG_STATE_HOME or ~/.local/state. Errors: PF_EINVAL (a bad
 * name, or no such baseline), PF_EIO, with a text. */
PF_MUST_CHECK int bench_baseline_save(
    const struct bench_result *result, const char *name, struct pf_error *reterr);
/* Prints old, new and the difference; *ret_worse if throughput or p99 is worse by more than
 * threshold (0.10 = a tenth). */
PF_MUST_CHECK int bench_baseline_compare(const struct bench_result *result, const char *name,
    double threshold, bool *ret_worse, struct pf_error *reterr);

#endif
