/* sim: runs seeds, and says which of them broke a rule.
 *
 *   sim --seeds N --from S     N runs, seeds S, S+1, …
 *   sim … --twice              each run twice, and their logs must be the same
 *   sim … --remove RULE        with a rule left out: finding nothing is the failure
 *   sim --removals --seeds N   each of the rules in turn
 *   sim … --trace              prints the log */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

struct options {
  uint64_t seeds, from;
  bool twice, trace, removals;
  enum sim_removal removal;
};

struct totals {
  uint64_t events, crashes, amnesias, jobs, undelivered, abandoned;
};

static bool run_seed(const struct options *options, struct sim_stores *stores, uint64_t seed,
    struct totals *totals) {
  struct sim sim, again;
  sim_run(&sim, stores, seed, options->removal, options->trace);
  totals->events += sim.events;
  totals->crashes += sim.crashes;
  totals->amnesias += sim.amnesias;
  totals->undelivered += sim.undelivered;
  totals->abandoned += sim.abandoned;
  totals->jobs += sim.job_count;
  if (sim.why[0]) {
    printf("seed %llu: %s\n", (unsigned long long)seed, sim.why);
    return false;
  }
  if (!options->twice) return true;
  sim_run(&again, stores, seed, options->removal, false);
  if (again.hash == sim.hash) return true;
  printf("seed %llu: two runs differ\n", (unsigned long long)seed);
  return false;
}

/* How many seeds broke a rule; with a rule left out the first is enough. */
static uint64_t run_seeds(const struct options *options, struct totals *totals) {
  struct sim_stores stores;
  uint64_t broken = 0;
  origin_open_store(&stores);
  queue_open_store(&stores);
  for (uint64_t i = 0; i < options->seeds; i++) {
    broken += !run_seed(options, &stores, options->from + i, totals);
    fflush(stdout);
    if (broken && options->removal != REMOVE_NOTHING) break;
  }
  origin_close_store(&stores);
  queue_close_store(&stores);
  return broken;
}

static double cpu_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run_plain(const struct options *options) {
  struct totals totals = {0};
  double began_s = cpu_s();
  uint64_t broken = run_seeds(options, &totals);
  double took_s = cpu_s() - began_s;
  printf("seeds=%llu from=%llu broken=%llu jobs=%llu crashes=%llu amnesias=%llu undelivered=%llu"
         " abandoned=%llu events=%llu cpu_s=%.1f events_per_s=%.0f\n",
      (unsigned long long)options->seeds, (unsigned long long)options->from,
      (unsigned long long)broken, (unsigned long long)totals.jobs,
      (unsigned long long)totals.crashes, (unsigned long long)totals.amnesias,
      (unsigned long long)totals.undelivered, (unsigned long long)totals.abandoned,
      (unsigned long long)totals.events, took_s, (double)totals.events / took_s);
  if (options->removal != REMOVE_NOTHING) return broken == 0;
  return broken != 0;
}

/* In a process of its own: a rule left out may also be caught by an assertion. */
static bool removal_is_caught(const struct options *options, enum sim_removal removal) {
  struct options one = *options;
  struct totals totals = {0};
  one.removal = removal;
  printf("without %s: ", sim_removals[removal]);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) _exit(run_seeds(&one, &totals) ? 0 : 1);
  int status;
  PF_ASSERT(pid > 0 && waitpid(pid, &status, 0) == pid);
  if (WIFSIGNALED(status)) printf("an assertion failed\n");
  bool caught = WIFSIGNALED(status) || WEXITSTATUS(status) == 0;
  if (!caught) printf("NOT CAUGHT in %llu seeds\n", (unsigned long long)options->seeds);
  return caught;
}

static int run_removals(const struct options *options) {
  int missed = 0;
  for (int i = REMOVE_NOTHING + 1; i < REMOVALS; i++)
    missed += !removal_is_caught(options, (enum sim_removal)i);
  return missed != 0;
}

static enum sim_removal removal_named(const char *name) {
  for (int i = 0; i < REMOVALS; i++)
    if (strcmp(sim_removals[i], name) == 0) return (enum sim_removal)i;
  fprintf(stderr, "sim: no such rule: %s\n", name);
  exit(2);
}

static void print_usage(void) {
  printf("usage: sim [OPTION]...\n"
         "Plays seeds of a world with faults; exit 0 if nothing is broken.\n"
         "  --seeds N      how many seeds (1)\n"
         "  --from SEED    the first one (1)\n"
         "  --twice        plays each twice and compares\n"
         "  --trace        prints every event\n"
         "  --remove RULE  without this rule; exit 0 if that is caught\n"
         "  --removals     without each rule in turn; exit 0 if all are caught\n"
         "  --help         this\n"
         "Rules:");
  for (int i = REMOVE_NOTHING + 1; i < REMOVALS; i++)
    printf(" %s", sim_removals[i]);
  printf("\n");
}

int main(int argc, char **argv) {
  static const struct option table[] = {{"seeds", required_argument, NULL, 's'},
      {"from", required_argument, NULL, 'f'}, {"twice", no_argument, NULL, '2'},
      {"trace", no_argument, NULL, 't'}, {"remove", required_argument, NULL, 'r'},
      {"removals", no_argument, NULL, 'R'}, {"help", no_argument, NULL, 'h'}, {0}};
  struct options options = {.seeds = 1, .from = 1};
  for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
    if (c == 's') options.seeds = strtoull(optarg, NULL, 10);
    if (c == 'f') options.from = strtoull(optarg, NULL, 10);
    if (c == '2') options.twice = true;
    if (c == 't') options.trace = true;
    if (c == 'r') options.removal = removal_named(optarg);
    if (c == 'R') options.removals = true;
    if (c == 'h') return print_usage(), 0;
    if (c == '?') return 2;
  }
  return options.removals ? run_removals(&options) : run_plain(&options);
}
