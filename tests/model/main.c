/* Runs the model: `model good`, `model removals`, `model run DESIGN`, `model list`. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "designs.h"
#include "explore.h"

enum { FAULTS_DEFAULT = 2, FAULTS_MAX = 6 };

struct options {
  int faults; /* -1: not given */
  size_t states_max;
  const char *only, *except; /* parts of names; NULL: not given */
  uint64_t without;
  bool trace;
};

static void usage(FILE *out) {
  fputs("Usage: model good      the designs that must hold\n"
        "       model removals  what must be found out, rule by rule\n"
        "       model run NAME  one of them, with the trace of how it breaks\n"
        "       model list      designs, removals, rules and faults\n"
        "Options:\n"
        "  --faults N      up to N faults, 0 to 6. Default 2, which for the larger designs is an "
        "effort\n"
        "                  of 1 or none; `good` adds to that, or cuts it, as N is more or less "
        "than 2\n"
        "  --states N      give up at N states (default 30000000, about 3 GiB)\n"
        "  --only TEXT,…, --except TEXT,…   designs by parts of their names\n"
        "  --without RULE  leave out a rule more (run)\n"
        "  --trace         print all traces (removals)\n",
      out);
}

static double cpu_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_heading(void) {
  printf("%-26s %6s %11s %8s %8s %7s %7s  %s\n", "design", "faults", "states", "effects", "fetches",
      "stuck", "s, MiB", "");
}

static void print_findings(const char *name, const struct findings *f, double s) {
  printf("%-26s %6u %11zu %8u %8u %7zu %4.1f %4zu  ", name, f->faults, f->states, f->effects_max,
      f->fetches_max, f->stuck, s, f->memory_bytes >> 20);
}

static struct findings run(
    const struct design *design, const struct options *options, const struct limits *limits) {
  double begin = cpu_s();
  struct findings f = explore(design, limits, NULL);
  print_findings(design->name, &f, cpu_s() - begin);
  if (f.broken && options->trace) {
    printf("\n");
    explore(design, limits, stdout);
  }
  return f;
}

/* What the table says is the effort for FAULTS_DEFAULT. */
static unsigned faults_for(const struct options *options, unsigned table) {
  if (options->faults < 0) return table;
  unsigned faults = (unsigned)options->faults;
  if (faults > FAULTS_DEFAULT) return table + faults - FAULTS_DEFAULT;
  return faults < table ? faults : table;
}

/* parts: separated by commas. */
static bool has_part(const char *name, const char *parts) {
  for (const char *at = parts; *at; at += *at == ',') {
    size_t len = strcspn(at, ",");
    if (len > 0 && memmem(name, strlen(name), at, len)) return true;
    at += len;
  }
  return false;
}

static bool is_wanted(const struct options *options, const struct design *design) {
  return (!options->only || has_part(design->name, options->only)) &&
         (!options->except || !has_part(design->name, options->except));
}

static int none_wanted(void) {
  fprintf(stderr, "model: no design has such a name; `model list` shows them\n");
  return PF_EXIT_USAGE;
}

/* All designs hold. A broken one prints how. */
static int command_good(struct options *options) {
  unsigned failed = 0, ran = 0;
  options->trace = true;
  print_heading();
  for (size_t i = 0; i < good_count; i++) {
    if (!is_wanted(options, &goods[i].design)) continue;
    struct limits limits = {.faults = faults_for(options, goods[i].faults),
        .states_max = options->states_max,
        .deadline_ends = goods[i].deadline_ends};
    struct findings f = run(&goods[i].design, options, &limits);
    bool ok = !f.broken && !f.gave_up;
    ran++;
    printf("%s\n", ok ? "ok" : f.gave_up ? "GAVE UP: too many states" : "BROKEN");
    fflush(stdout);
    failed += !ok;
  }
  if (ran == 0) return none_wanted();
  return failed ? PF_EXIT_FAILURE : PF_EXIT_OK;
}

/* Each removal breaks with as many faults as the table says, neither more nor fewer. */
static int command_removals(const struct options *options) {
  unsigned failed = 0;
  print_heading();
  for (size_t i = 0; i < removal_count; i++) {
    const struct removal *r = &removals[i];
    if (!is_wanted(options, &r->design)) continue;
    struct limits limits = {
        .faults = faults_for(options, FAULTS_DEFAULT), .states_max = options->states_max};
    struct findings f = run(&r->design, options, &limits);
    bool ok = !f.gave_up &&
              (r->faults == HOLDS || r->faults > limits.faults ? !f.broken
                                                               : f.broken && f.faults == r->faults);
    printf("%s%s (%s)\n", ok ? "" : "NOT AS EXPECTED: ", f.broken ? f.broken : "holds", r->symptom);
    fflush(stdout);
    failed += !ok;
  }
  return failed ? PF_EXIT_FAILURE : PF_EXIT_OK;
}

static int command_run(struct options *options, const char *name) {
  struct design design;
  struct limits limits = {
      .faults = faults_for(options, FAULTS_DEFAULT), .states_max = options->states_max};
  bool known = false;
  for (size_t i = 0; i < good_count; i++)
    if (strcmp(goods[i].design.name, name) == 0) {
      design = goods[i].design;
      limits.deadline_ends = goods[i].deadline_ends;
      known = true;
    }
  for (size_t i = 0; i < removal_count; i++)
    if (strcmp(removals[i].design.name, name) == 0) {
      design = removals[i].design;
      known = true;
    }
  if (!known) {
    fprintf(stderr, "model: there is no design '%s'; see `model list`\n", name);
    return PF_EXIT_USAGE;
  }
  design.without |= options->without;
  options->trace = true;
  print_heading();
  struct findings f = run(&design, options, &limits);
  printf("%s\n", f.broken ? f.broken : f.gave_up ? "gave up: too many states" : "ok");
  return f.broken || f.gave_up ? PF_EXIT_FAILURE : PF_EXIT_OK;
}

static int command_list(void) {
  printf("Designs that must hold:\n");
  for (size_t i = 0; i < good_count; i++)
    printf("  %-26s %s\n", goods[i].design.name, goods[i].design.text);
  printf("Removals:\n");
  for (size_t i = 0; i < removal_count; i++)
    printf("  %-26s %s\n", removals[i].design.name, removals[i].design.text);
  printf("Rules, for --without:\n");
  for (unsigned rule = 0; rule < RULES; rule++)
    printf("  %-26s %s\n", rule_name(rule), rule_text(rule));
  printf("Faults:\n");
#define X(id, text) printf("  %-26s %s\n", #id, text);
  FAULT_MAP(X)
#undef X
  return PF_EXIT_OK;
}

/* False, with a message, if text is not a number from 0 to max. */
static bool parse_number(
    const char *what, const char *text, unsigned long max, unsigned long *ret) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end || errno || value > max) {
    fprintf(stderr, "model: --%s wants a number from 0 to %lu, not '%s'\n", what, max, text);
    return false;
  }
  *ret = value;
  return true;
}

static bool parse_option(struct options *options, int c) {
  unsigned long number;
  enum rule rule;
  switch (c) {
  case 'f':
    if (!parse_number("faults", optarg, FAULTS_MAX, &number)) return false;
    options->faults = (int)number;
    return true;
  case 's':
    if (!parse_number("states", optarg, UINT32_MAX - 1, &number)) return false;
    options->states_max = number;
    return true;
  case 'w':
    rule = rule_find(optarg);
    if (rule == RULES) {
      fprintf(stderr, "model: there is no rule '%s'; see `model list`\n", optarg);
      return false;
    }
    options->without |= (uint64_t)1 << rule;
    return true;
  case 'o':
    options->only = optarg;
    return true;
  case 'e':
    options->except = optarg;
    return true;
  case 't':
    options->trace = true;
    return true;
  default:
    return false;
  }
}

int main(int argc, char **argv) {
  static const struct option longs[] = {{"faults", required_argument, NULL, 'f'},
      {"states", required_argument, NULL, 's'}, {"without", required_argument, NULL, 'w'},
      {"only", required_argument, NULL, 'o'}, {"except", required_argument, NULL, 'e'},
      {"trace", no_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'}, {0}};
  struct options options = {.faults = -1, .states_max = 30000000};
  for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
    if (c == 'h') {
      usage(stdout);
      return PF_EXIT_OK;
    }
    if (!parse_option(&options, c)) {
      usage(stderr);
      return PF_EXIT_USAGE;
    }
  }
  const char *command = optind < argc ? argv[optind] : "";
  bool alone = optind + 1 == argc;
  if (strcmp(command, "good") == 0 && alone) return command_good(&options);
  if (strcmp(command, "removals") == 0 && alone) return command_removals(&options);
  if (strcmp(command, "list") == 0 && alone) return command_list();
  if (strcmp(command, "run") == 0 && optind + 2 == argc)
    return command_run(&options, argv[optind + 1]);
  usage(stderr);
  return PF_EXIT_USAGE;
}
