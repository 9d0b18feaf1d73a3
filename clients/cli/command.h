/* The subcommands of `proxyfetch`. A new one is a file with its options and its run function, and
 * one line in the table of main.c.
 *
 * Threads    main thread
 * Ownership  none
 * Ordering   none
 * Limits     none */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "base/options.h"

/* Where the processes that `proxyfetch up` starts listen by default. */
#define COMMAND_ORIGIN_WS "ws://localhost:8787/"
#define COMMAND_TARGET_URL "http://127.0.0.1:8790/uuid"

struct command {
  const char *name;
  const struct pf_option_table *options; /* with the summary that `proxyfetch --help` shows */
  /* argv[0] is the command's name. Returns the exit code (enum pf_exit). */
  int (*run)(int argc, char **argv);
};

extern const struct pf_option_table up_options, measure_options, fetch_options, jobs_options,
    db_options, bench_options;
int up_run(int argc, char **argv);
int measure_command(int argc, char **argv);
int fetch_run(int argc, char **argv);
int jobs_run(int argc, char **argv);
int db_run(int argc, char **argv);
int bench_command(int argc, char **argv);

#endif
