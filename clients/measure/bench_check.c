#include "clients/measure/bench_check.h"

#include <stdlib.h>
#include <string.h>

static bool compare(double value, char op, bool or_equal, double limit) {
  if (value == limit) return op == '=' || or_equal;
  return op == '<' ? value < limit : op == '>' ? value > limit : false;
}

static const struct bench_figure *find(
    const struct bench_figure *figures, size_t count, const char *name, size_t len) {
  for (size_t i = 0; i < count; i++)
    if (strlen(figures[i].name) == len && strncmp(figures[i].name, name, len) == 0)
      return &figures[i];
  return NULL;
}

int bench_check(const char *text, const struct bench_figure *figures, size_t count,
    void (*each)(void *arg, const char *assertion, size_t len, double value, bool holds), void *arg,
    struct pf_error *reterr) {
  for (const char *at = text; *at;) {
    size_t len = strcspn(at, ","), name_len = strcspn(at, "<>=,");
    const char *op = at + name_len, *number = op + 1;
    bool or_equal = *op && *number == '=';
    number += or_equal;
    char *end = NULL;
    double limit = name_len < len ? strtod(number, &end) : 0;
    if (name_len == 0 || name_len > BENCH_NAME_MAX || !end || end == number || end != at + len)
      return pf_error_set(reterr, PF_EINVAL, "'%.*s' is not like p99_ms<50", (int)len, at);
    const struct bench_figure *figure = find(figures, count, at, name_len);
    if (!figure && count)
      return pf_error_set(reterr, PF_EINVAL, "there is no figure '%.*s'", (int)name_len, at);
    if (figure) each(arg, at, len, figure->value, compare(figure->value, *op, or_equal, limit));
    at += len + (at[len] == ',');
  }
  return PF_OK;
}
