/* The command line `proxyfetch`: finds the subcommand and runs it. */
#include <stdio.h>
#include <string.h>

#include "clients/cli/child.h"
#include "clients/cli/command.h"

static const struct command commands[] = {
    {"up", &up_options, up_run},
    {"fetch", &fetch_options, fetch_run},
    {"measure", &measure_options, measure_command},
    {"bench", &bench_options, bench_command},
    {"jobs", &jobs_options, jobs_run},
    {"db", &db_options, db_run},
};

static int print_usage(void) {
  printf("proxyfetch - durable fetches from the command line\n\n"
         "Usage: proxyfetch COMMAND [options]\n\nCommands:\n");
  for (size_t i = 0; i < PF_COUNT(commands); i++)
    printf("  %-10s %s\n", commands[i].name, commands[i].options->summary);
  printf("\n`proxyfetch COMMAND --help` shows the options of a command.\n");
  return PF_EXIT_OK;
}

/* docs/configuration.md holds the options of all commands. */
static int print_markdown(void) {
  char *argv[] = {"proxyfetch", "--help-markdown", NULL};
  for (size_t i = 0; i < PF_COUNT(commands); i++)
    if (pf_options_parse(commands[i].options, NULL, 2, argv, NULL, NULL) != PF_ECANCEL)
      return PF_EXIT_FAILURE;
  return PF_EXIT_OK;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "proxyfetch: no command given; proxyfetch --help lists them\n");
    return PF_EXIT_USAGE;
  }
  const char *name = argv[1];
  if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) return print_usage();
  if (strcmp(name, "--help-markdown") == 0) return print_markdown();
  if (strcmp(name, "--version") == 0) {
    printf("proxyfetch %s\n", PF_VERSION);
    return PF_EXIT_OK;
  }
  if (strcmp(name, CHILD_EXEC) == 0) return child_exec(argc - 1, argv + 1);
  for (size_t i = 0; i < PF_COUNT(commands); i++)
    if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
  fprintf(stderr, "proxyfetch: unknown command '%s'; proxyfetch --help lists them\n", name);
  return PF_EXIT_USAGE;
}
