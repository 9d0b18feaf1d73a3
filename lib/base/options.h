/* The options of a program, in one table: command line, environment, config file, --help and
 * docs/configuration.md all come from it.
 *
 * Precedence: command line, then environment (PREFIX + upper-case name: PROXYFETCH_ORIGIN_LISTEN),
 * then the file of --config (lines `name = value`, `#` comments), then the default.
 * Every table has --help, --version, --config FILE and --help-markdown in addition.
 *
 * Threads    Call at start, before any thread.
 * Ownership  Strings and lists written to the config belong to it; pf_options_free releases them.
 * Limits     PF_OPTION_LIST_MAX values per list, PF_OPTION_VALUE_MAX bytes per value, a config file
 *            of PF_CONFIG_FILE_MAX bytes. */
#ifndef PF_BASE_OPTIONS_H
#define PF_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

#define PF_OPTION_LIST_MAX 64 /* and a NULL behind them */
#define PF_OPTION_VALUE_MAX 8192
#define PF_CONFIG_FILE_MAX (64 * 1024)

enum pf_option_type {
  PF_OPT_FLAG,   /* bool; --name, --no-name; 0/1/true/false/yes/no elsewhere */
  PF_OPT_INT,    /* int64_t within [min, max]; k, m, g multiply by 1024 where unit is "bytes" */
  PF_OPT_STRING, /* char * */
  PF_OPT_ADDR,   /* struct pf_listen_addr */
  PF_OPT_CHOICE, /* int: index into choices */
  PF_OPT_LIST,   /* struct pf_option_list; may be given many times */
};

struct pf_option_list {
  char *items[PF_OPTION_LIST_MAX + 1];
  size_t count;
};

struct pf_option {
  const char *name; /* long name, "lease-ms" */
  char letter;      /* short form, 0 if none */
  enum pf_option_type type;
  size_t offset;              /* of the field in the config struct */
  const char *unit;           /* what the value is, for --help: "ADDR:PORT", "ms", "bytes", "DIR" */
  const char *fallback;       /* default as text; NULL = unset (NULL, 0, false, empty) */
  int64_t min, max;           /* PF_OPT_INT only */
  const char *const *choices; /* PF_OPT_CHOICE only, NULL-terminated */
  const char *help;           /* one sentence */
};

struct pf_option_table {
  const char *program;    /* "proxyfetch-origin" */
  const char *summary;    /* one line for --help */
  const char *operands;   /* "URL", or NULL if the program takes none */
  const char *env_prefix; /* "PROXYFETCH_ORIGIN_" */
  const char *epilog;     /* examples and the like, or NULL */
  const struct pf_option *options;
  size_t count;
};

/* Fills config. Returns PF_OK and the index of the first operand in argv; or PF_ECANCEL when
 * --help,
 * --version or --help-markdown was answered on stdout and the program should exit 0; or PF_EINVAL
 * with a text that names the option and where it came from. config is complete on PF_OK only, but
 * may always be passed to pf_options_free. */
PF_MUST_CHECK int pf_options_parse(const struct pf_option_table *table, void *config, int argc,
    char **argv, int *ret_operand, struct pf_error *reterr);
/* The same, and on failure prints to stderr: ends the program as a command line tool would.
 * Returns normally only with a complete config; the result is the index of the first operand. */
int pf_options_parse_or_exit(
    const struct pf_option_table *table, void *config, int argc, char **argv);
void pf_options_free(const struct pf_option_table *table, void *config);

#endif
