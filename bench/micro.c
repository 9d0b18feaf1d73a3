#include "micro.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "clients/measure/stats.h"

static double margin_percent(const double *samples, size_t count, double mean) {
  double squares = 0;
  for (size_t i = 0; i < count; i++)
    squares += (samples[i] - mean) * (samples[i] - mean);
  return count < 2 ? 0 : 196 * sqrt(squares / (double)(count - 1) / (double)count) / mean;
}

void micro_show(const char *name, const char *help, double *samples, size_t count, bool json) {
  struct stats s = stats_of(samples, count);
  double margin = margin_percent(samples, count, s.mean);
  if (!json) {
    printf("%-22s %9.0f/s +/- %4.1f %%  mean %8.3f  p50 %8.3f  p99 %8.3f  max %9.2f us  %s\n", name,
        1e6 / s.mean, margin, s.mean, s.p50, s.p99, s.max, help);
    return;
  }
  printf("{\"name\":\"%s\",\"help\":\"%s\",\"unit\":\"us\",\"samples\":%zu,\"opsPerSecond\":%.1f,"
         "\"marginPercent\":%.2f,\"min\":%.4f,\"mean\":%.4f,\"max\":%.4f,\"p50\":%.4f,"
         "\"p75\":%.4f,\"p90\":%.4f,\"p95\":%.4f,\"p99\":%.4f,\"p99_5\":%.4f,\"p99_9\":%.4f}\n",
      name, help, count, 1e6 / s.mean, margin, s.min, s.mean, s.max, s.p50, s.p75, s.p90, s.p95,
      s.p99, s.p995, s.p999);
}

struct micro_args micro_args(int argc, char **argv, size_t count, size_t count_max) {
  struct micro_args args = {.wanted = "all", .count = count};
  if (argc > 1 && strcmp(argv[1], "--json") == 0) args.json = true, argv++, argc--;
  if (argc > 1) args.wanted = argv[1];
  args.list = strcmp(args.wanted, "--list") == 0;
  if (argc > 2) {
    long given = strtol(argv[2], NULL, 10);
    args.count = given < 2 || (size_t)given > count_max ? 0 : (size_t)given;
  }
  return args;
}

bool micro_wants(const struct micro_args *args, const char *name) {
  return !args->list && args->count &&
         (strcmp(args->wanted, "all") == 0 || strcmp(args->wanted, name) == 0);
}

int micro_usage(const char *program) {
  fprintf(stderr, "usage: %s [--json] [--list] [NAME|all [OPERATIONS]]\n", program);
  return PF_EXIT_USAGE;
}
