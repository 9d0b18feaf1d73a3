#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

const char *const pf_log_level_names[] = {"error", "warn", "info", "debug", NULL};

/* Appends text with everything but printable ASCII escaped. Returns the new length. */
static size_t line_escape(char *line, size_t len, size_t max, const char *text) {
  for (; *text && len + 5 < max; text++) {
    unsigned char c = (unsigned char)*text;
    if (c >= 0x20 && c < 0x7f)
      line[len++] = (char)c;
    else
      len += (size_t)snprintf(line + len, 5, "\\x%02x", c);
  }
  return len;
}

void pf_log(
    const struct pf_log *log, enum pf_log_level level, const char *event, const char *fmt, ...) {
  if (level > log->level) return;
  char keys[PF_LOG_LINE_MAX], line[PF_LOG_LINE_MAX];
  va_list args;
  va_start(args, fmt);
  vsnprintf(keys, sizeof(keys), fmt, args);
  va_end(args);

  int64_t now_ms = pf_clock_wall_ms();
  time_t now = (time_t)(now_ms / 1000);
  struct tm tm;
  gmtime_r(&now, &tm);
  int head = snprintf(line, sizeof(line),
      "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ level=%s role=%s event=%s ", tm.tm_year + 1900,
      tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(now_ms % 1000),
      pf_log_level_names[level], log->role, event);
  size_t len = line_escape(line, (size_t)head, sizeof(line), keys);
  while (len && line[len - 1] == ' ')
    len--;
  line[len++] = '\n';
  /* A log that cannot be written is no reason to stop. */
  ssize_t written = write(log->fd, line, len);
  (void)written;
}

int pf_log_allow(struct pf_log_limit *limit, int64_t now_ms, unsigned burst, int64_t every_ms) {
  if (now_ms - limit->window_start_ms >= every_ms || limit->window_start_ms == 0) {
    limit->window_start_ms = now_ms;
    limit->in_window = 0;
  }
  return limit->in_window++ < burst;
}
