#include "clients/measure/bench_schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1e9
#define ROUNDING 1e-6 /* of a request: sums of doubles are not exact */

/* ---- a stage ---- */

/* Requests that are due in the first at_ns of a stage: the area under its rate. */
static double stage_area(const struct bench_stage *stage, int64_t at_ns) {
  double at = (double)at_ns / SECOND_NS, length = (double)stage->length_ns / SECOND_NS;
  return at * (stage->from + (stage->to - stage->from) / 2 * at / length);
}

/* When the area is reached. The root of the quadratic in the form that does not cancel. */
static int64_t stage_time(const struct bench_stage *stage, double area) {
  double slope = (stage->to - stage->from) * SECOND_NS / (double)stage->length_ns;
  double root = sqrt(fmax(0, stage->from * stage->from + 2 * slope * area));
  double at = area > 0 ? 2 * area / (stage->from + root) : 0;
  int64_t at_ns = (int64_t)(at * SECOND_NS + 0.5);
  return at_ns < stage->length_ns ? at_ns : stage->length_ns;
}

/* ---- profiles ---- */

static bool read_rate(const char **at, double *ret_rate) {
  char *end;
  *ret_rate = strtod(*at, &end);
  bool good = end != *at && *ret_rate >= 0 && *ret_rate <= BENCH_RATE_MAX;
  *at = end;
  return good;
}

/* "10s@1000:50000"; the s may be left out. */
static bool read_stage(const char **at, struct bench_stage *ret_stage) {
  char *end;
  double windows = strtod(*at, &end) * 1000 / BENCH_WINDOW_MS;
  double whole = round(windows);
  if (end == *at || !(windows > 0) || fabs(windows - whole) > 1e-6) return false;
  if (whole > BENCH_SECONDS_MAX * 1000.0 / BENCH_WINDOW_MS) return false;
  ret_stage->length_ns = (int64_t)whole * BENCH_WINDOW_MS * 1000000;
  *at = end + (*end == 's');
  if (*(*at)++ != '@' || !read_rate(at, &ret_stage->from)) return false;
  ret_stage->to = ret_stage->from;
  if (**at != ':') return true;
  ++*at;
  return read_rate(at, &ret_stage->to);
}

int bench_schedule_parse(
    struct bench_schedule *ret_schedule, const char *profile, struct pf_error *reterr) {
  struct bench_schedule s = {.stage_count = 0};
  for (const char *at = profile;;) {
    if (s.stage_count == BENCH_STAGES_MAX)
      return pf_error_set(reterr, PF_EINVAL, "a profile has at most %d stages", BENCH_STAGES_MAX);
    int len = (int)strcspn(at, ",");
    const char *stage = at;
    if (!read_stage(&at, &s.stages[s.stage_count++]) || (*at && *at != ','))
      return pf_error_set(reterr, PF_EINVAL,
          "'%.*s' is not a stage like 10s@500 or 10s@500:2000 (seconds in steps of 0.1, at most "
          "%d; rates up to %d)",
          len < 100 ? len : 100, stage, BENCH_SECONDS_MAX, BENCH_RATE_MAX);
    if (!*at++) break;
  }
  int64_t length_ns = bench_schedule_length_ns(&s);
  if (length_ns > BENCH_SECONDS_MAX * INT64_C(1000000000))
    return pf_error_set(reterr, PF_EINVAL, "a profile lasts %d seconds at most", BENCH_SECONDS_MAX);
  if (bench_schedule_count(&s, length_ns) == 0)
    return pf_error_set(reterr, PF_EINVAL, "'%.100s' sends nothing", profile);
  *ret_schedule = s;
  return PF_OK;
}

void bench_schedule_constant(struct bench_schedule *schedule, double rate, int64_t length_ns) {
  PF_ASSERT(rate > 0 && length_ns > 0);
  *schedule = (struct bench_schedule){
      .stages = {{.length_ns = length_ns, .from = rate, .to = rate}}, .stage_count = 1};
}

/* ---- times ---- */

bool bench_schedule_due(
    const struct bench_schedule *s, struct bench_cursor *cursor, int64_t *ret_at_ns) {
  if (s->at_ns) {
    if ((size_t)cursor->index >= s->at_count) return false;
    *ret_at_ns = s->at_ns[cursor->index];
    return true;
  }
  for (; cursor->stage < s->stage_count; cursor->stage++) {
    const struct bench_stage *stage = &s->stages[cursor->stage];
    double area = stage_area(stage, stage->length_ns);
    double wanted = (double)cursor->index - cursor->before;
    if (wanted < area - ROUNDING) {
      *ret_at_ns = cursor->begin_ns + stage_time(stage, wanted);
      return true;
    }
    cursor->before += area;
    cursor->begin_ns += stage->length_ns;
  }
  return false;
}

static int64_t count_recorded(const struct bench_schedule *s, int64_t at_ns) {
  size_t low = 0, high = s->at_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (s->at_ns[middle] < at_ns)
      low = middle + 1;
    else
      high = middle;
  }
  return (int64_t)low;
}

int64_t bench_schedule_count(const struct bench_schedule *s, int64_t at_ns) {
  if (s->at_ns) return count_recorded(s, at_ns);
  double count = 0;
  for (size_t i = 0; i < s->stage_count && at_ns > 0; i++) {
    const struct bench_stage *stage = &s->stages[i];
    count += stage_area(stage, at_ns < stage->length_ns ? at_ns : stage->length_ns);
    at_ns -= stage->length_ns;
  }
  return count > 0 ? (int64_t)ceil(count - ROUNDING) : 0;
}

int64_t bench_schedule_length_ns(const struct bench_schedule *s) {
  int64_t length_ns = 0;
  if (s->at_ns) return s->at_count ? s->at_ns[s->at_count - 1] + 1 : 0;
  for (size_t i = 0; i < s->stage_count; i++)
    length_ns += s->stages[i].length_ns;
  return length_ns;
}

double bench_schedule_first_rate(const struct bench_schedule *s) {
  return s->stage_count ? s->stages[0].from : 0;
}
