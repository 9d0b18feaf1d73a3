/* Structured log lines on stderr: `ts=… level=warn role=executor event=lease_lost job=… age_ms=…`.
 *
 * Threads    A struct pf_log may be used from any thread: one write(2) per line.
 * Ownership  The caller owns struct pf_log; role must outlive it.
 * Ordering   none
 * Limits     PF_LOG_LINE_MAX bytes per line; longer ones are cut. Control characters and bytes that
 *            are not ASCII are escaped, so that hostile values cannot forge a line. */
#ifndef PF_BASE_LOG_H
#define PF_BASE_LOG_H

#include <stdint.h>

#include "base/err.h"

#define PF_LOG_LINE_MAX 2048

enum pf_log_level { PF_LOG_ERROR, PF_LOG_WARN, PF_LOG_INFO, PF_LOG_DEBUG };
extern const char *const pf_log_level_names[]; /* by level, NULL-terminated: choices of an option */

struct pf_log {
  const char *role;
  enum pf_log_level level; /* lines above it are not written */
  int fd;                  /* normally 2 */
};

/* Lets at most `burst` lines through in each `every_ms`; the owner keeps one per cause and peer. */
struct pf_log_limit {
  int64_t window_start_ms;
  unsigned in_window;
};

/* fmt gives the keys: "job=%s age_ms=%d". Quote values that may hold spaces: reason=\"%s\". */
void pf_log(const struct pf_log *log, enum pf_log_level level, const char *event, const char *fmt,
    ...) PF_PRINTF(4, 5);
/* True if the line may be written now. */
int pf_log_allow(struct pf_log_limit *limit, int64_t now_ms, unsigned burst, int64_t every_ms);

#endif
