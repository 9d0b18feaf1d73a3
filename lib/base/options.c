#include "base/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define NAME_MAX_LEN 64

/* getopt_long values of the options that every table has; table options use their index + 1000. */
enum { VAL_HELP = 1, VAL_VERSION, VAL_CONFIG, VAL_MARKDOWN, VAL_OPTION = 1000, VAL_NEGATED = 2000 };

static void *field_of(const struct pf_option *opt, void *config) {
  return (char *)config + opt->offset;
}

static int value_refused(const struct pf_option *opt, const char *source, const char *value,
    const char *expected, struct pf_error *reterr) {
  return pf_error_set(
      reterr, PF_EINVAL, "%s: %s: '%s' is not %s", source, opt->name, value, expected);
}

static int set_flag(const struct pf_option *opt, bool *field, const char *value, const char *source,
    struct pf_error *reterr) {
  static const char *const yes[] = {"1", "true", "yes", "on"};
  static const char *const no[] = {"0", "false", "no", "off"};
  for (size_t i = 0; i < PF_COUNT(yes); i++) {
    if (strcmp(value, yes[i]) == 0) return *field = true, PF_OK;
    if (strcmp(value, no[i]) == 0) return *field = false, PF_OK;
  }
  return value_refused(opt, source, value, "true or false", reterr);
}

static int set_int(const struct pf_option *opt, int64_t *field, const char *value,
    const char *source, struct pf_error *reterr) {
  char expected[128];
  snprintf(expected, sizeof(expected), "a number from %lld to %lld%s%s", (long long)opt->min,
      (long long)opt->max, opt->unit ? " " : "", opt->unit ? opt->unit : "");
  char *end;
  errno = 0;
  long long number = strtoll(value, &end, 10);
  if (end == value || errno) return value_refused(opt, source, value, expected, reterr);
  int shift = 0;
  if (*end && opt->unit && strcmp(opt->unit, "bytes") == 0) {
    switch (tolower((unsigned char)*end)) {
    case 'k':
      shift = 10, end++;
      break;
    case 'm':
      shift = 20, end++;
      break;
    case 'g':
      shift = 30, end++;
      break;
    default:
      break;
    }
  }
  if (*end || number > (opt->max >> shift) || number < (opt->min >> shift))
    return value_refused(opt, source, value, expected, reterr);
  number = (long long)((unsigned long long)number << shift);
  if (number < opt->min || number > opt->max)
    return value_refused(opt, source, value, expected, reterr);
  *field = number;
  return PF_OK;
}

static int set_choice(const struct pf_option *opt, int *field, const char *value,
    const char *source, struct pf_error *reterr) {
  char expected[256] = "one of";
  for (int i = 0; opt->choices[i]; i++) {
    if (strcmp(opt->choices[i], value) == 0) return *field = i, PF_OK;
    size_t len = strlen(expected);
    snprintf(expected + len, sizeof(expected) - len, "%s %s", i ? "," : "", opt->choices[i]);
  }
  return value_refused(opt, source, value, expected, reterr);
}

static int option_set(const struct pf_option *opt, void *config, const char *value,
    const char *source, struct pf_error *reterr) {
  if (strlen(value) > PF_OPTION_VALUE_MAX)
    return pf_error_set(reterr, PF_EINVAL, "%s: %s: the value is longer than %d bytes", source,
        opt->name, PF_OPTION_VALUE_MAX);
  void *field = field_of(opt, config);
  switch (opt->type) {
  case PF_OPT_FLAG:
    return set_flag(opt, field, value, source, reterr);
  case PF_OPT_INT:
    return set_int(opt, field, value, source, reterr);
  case PF_OPT_CHOICE:
    return set_choice(opt, field, value, source, reterr);
  case PF_OPT_STRING:
    free(*(char **)field);
    *(char **)field = pf_strdup(value);
    return PF_OK;
  case PF_OPT_ADDR: {
    struct pf_error why = {0};
    if (pf_listen_addr_parse(field, value, &why))
      return pf_error_set(reterr, PF_EINVAL, "%s: %s: %s", source, opt->name, why.text);
    return PF_OK;
  }
  case PF_OPT_LIST: {
    struct pf_option_list *list = field;
    if (list->count == PF_OPTION_LIST_MAX)
      return pf_error_set(
          reterr, PF_EINVAL, "%s: %s: more than %d values", source, opt->name, PF_OPTION_LIST_MAX);
    list->items[list->count++] = pf_strdup(value);
    return PF_OK;
  }
  }
  return PF_EINVAL;
}

/* A list given on a stronger source replaces the weaker one's values. */
static void list_reset(const struct pf_option *opt, void *config) {
  if (opt->type != PF_OPT_LIST) return;
  struct pf_option_list *list = field_of(opt, config);
  for (size_t i = 0; i < list->count; i++)
    free(list->items[i]);
  list->count = 0;
}

/* Lists travel as "a,b" in the environment and in files. */
static int option_set_text(const struct pf_option *opt, void *config, const char *value,
    const char *source, struct pf_error *reterr) {
  if (opt->type != PF_OPT_LIST) return option_set(opt, config, value, source, reterr);
  char *copy = pf_strdup(value), *rest = copy;
  int err = PF_OK;
  for (char *item; !err && (item = strsep(&rest, ",")) != NULL;)
    if (*item) err = option_set(opt, config, item, source, reterr);
  free(copy);
  return err;
}

static const struct pf_option *option_find(const struct pf_option_table *table, const char *name) {
  for (size_t i = 0; i < table->count; i++)
    if (strcmp(table->options[i].name, name) == 0) return &table->options[i];
  return NULL;
}

static void env_name(const struct pf_option_table *table, const struct pf_option *opt, char *name) {
  int len = snprintf(name, NAME_MAX_LEN * 2, "%s%s", table->env_prefix, opt->name);
  for (int i = 0; i < len; i++)
    name[i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
}

/* ---- sources, weakest first ---- */

static int apply_defaults(
    const struct pf_option_table *table, void *config, struct pf_error *reterr) {
  for (size_t i = 0; i < table->count; i++) {
    const struct pf_option *opt = &table->options[i];
    if (!opt->fallback) continue;
    int err = option_set_text(opt, config, opt->fallback, "default", reterr);
    if (err) return err;
  }
  return PF_OK;
}

static char *text_trim(char *text) {
  while (isspace((unsigned char)*text))
    text++;
  char *end = text + strlen(text);
  while (end > text && isspace((unsigned char)end[-1]))
    *--end = '\0';
  return text;
}

static int apply_file_line(const struct pf_option_table *table, void *config, char *line,
    const char *source, bool *list_seen, struct pf_error *reterr) {
  line = text_trim(line);
  if (*line == '\0' || *line == '#') return PF_OK;
  char *equals = strchr(line, '=');
  if (!equals) return pf_error_set(reterr, PF_EINVAL, "%s: expected `name = value`", source);
  *equals = '\0';
  char *name = text_trim(line);
  const struct pf_option *opt = option_find(table, name);
  if (!opt)
    return pf_error_set(reterr, PF_EINVAL, "%s: unknown key '%s'; %s --help lists them", source,
        name, table->program);
  if (!list_seen[opt - table->options]) list_reset(opt, config);
  list_seen[opt - table->options] = true;
  return option_set_text(opt, config, text_trim(equals + 1), source, reterr);
}

static int apply_file(
    const struct pf_option_table *table, void *config, const char *path, struct pf_error *reterr) {
  FILE *file = fopen(path, "re");
  if (!file)
    return pf_error_set(reterr, PF_EINVAL, "cannot read config file %s: %s", path, strerror(errno));
  char *text = pf_alloc(PF_CONFIG_FILE_MAX + 2);
  bool *list_seen = pf_alloc(table->count * sizeof(bool) + 1);
  size_t len = fread(text, 1, PF_CONFIG_FILE_MAX + 1, file);
  int err = PF_OK;
  if (ferror(file))
    err = pf_error_set(reterr, PF_EINVAL, "cannot read config file %s", path);
  else if (len > PF_CONFIG_FILE_MAX)
    err = pf_error_set(
        reterr, PF_EINVAL, "config file %s is larger than %d bytes", path, PF_CONFIG_FILE_MAX);
  else if (memchr(text, '\0', len)) /* what is behind it would be passed over in silence */
    err = pf_error_set(reterr, PF_EINVAL, "config file %s contains a NUL byte", path);
  fclose(file);
  char *rest = text, *line;
  for (int number = 1; !err && (line = strsep(&rest, "\n")) != NULL; number++) {
    char source[512];
    snprintf(source, sizeof(source), "%s:%d", path, number);
    err = apply_file_line(table, config, line, source, list_seen, reterr);
  }
  free(list_seen);
  free(text);
  return err;
}

static int apply_environment(
    const struct pf_option_table *table, void *config, struct pf_error *reterr) {
  for (size_t i = 0; i < table->count; i++) {
    char name[NAME_MAX_LEN * 2];
    env_name(table, &table->options[i], name);
    const char *value = getenv(name);
    if (!value) continue;
    list_reset(&table->options[i], config);
    int err = option_set_text(&table->options[i], config, value, name, reterr);
    if (err) return err;
  }
  return PF_OK;
}

/* ---- help ---- */

static void option_describe(const struct pf_option *opt, char *left, size_t size) {
  char letter[8] = "";
  if (opt->letter) snprintf(letter, sizeof(letter), "-%c, ", opt->letter);
  const char *unit = opt->unit ? opt->unit : opt->type == PF_OPT_INT ? "N" : "VALUE";
  if (opt->type == PF_OPT_FLAG) {
    snprintf(left, size, "%s--%s", letter, opt->name);
  } else if (opt->type == PF_OPT_CHOICE) {
    int len = snprintf(left, size, "%s--%s ", letter, opt->name);
    for (int i = 0; opt->choices[i] && (size_t)len < size; i++)
      len += snprintf(left + len, size - (size_t)len, "%s%s", i ? "|" : "", opt->choices[i]);
  } else {
    snprintf(left, size, "%s--%s %s", letter, opt->name, unit);
  }
}

#define HELP_COLUMN 32

/* An option that is too long for its column has a line of its own. */
static void print_help_option(const char *left, const char *help) {
  if (strlen(left) > HELP_COLUMN)
    printf("  %s\n  %-*s %s", left, HELP_COLUMN, "", help);
  else
    printf("  %-*s %s", HELP_COLUMN, left, help);
}

/* What the table of docs/configuration.md says about values. */
static void print_help_values(const struct pf_option *opt) {
  bool shown = opt->fallback && opt->type != PF_OPT_FLAG, range = opt->type == PF_OPT_INT;
  if (shown || range) printf(" [");
  if (shown) printf("default: %s%s", opt->fallback, range ? "; " : "");
  if (range) printf("%lld to %lld", (long long)opt->min, (long long)opt->max);
  printf(shown || range ? "]\n" : "\n");
}

static void print_help(const struct pf_option_table *table) {
  printf("%s - %s\n\nUsage: %s [options]%s%s\n\nOptions:\n", table->program, table->summary,
      table->program, table->operands ? " " : "", table->operands ? table->operands : "");
  for (size_t i = 0; i < table->count; i++) {
    const struct pf_option *opt = &table->options[i];
    char left[128];
    option_describe(opt, left, sizeof(left));
    print_help_option(left, opt->help);
    print_help_values(opt);
  }
  print_help_option("--config FILE", "Read options from FILE, one `name = value` a line.\n");
  print_help_option("--help", "Show this help and exit.\n");
  print_help_option("--version", "Show the version and exit.\n");
  if (table->count)
    printf("\nEvery option can also be set in the environment: %sNAME, in capitals, '_' for '-'.\n",
        table->env_prefix);
  if (table->epilog) printf("\n%s", table->epilog);
}

static void print_markdown(const struct pf_option_table *table) {
  printf("## %s\n\n%s\n\n", table->program, table->summary);
  printf("| option | environment | default | range | what it does |\n|---|---|---|---|---|\n");
  for (size_t i = 0; i < table->count; i++) {
    const struct pf_option *opt = &table->options[i];
    char left[128], name[NAME_MAX_LEN * 2];
    option_describe(opt, left, sizeof(left));
    for (char *bar; (bar = strchr(left, '|')) != NULL;)
      *bar = '/'; /* a bar would end the table cell */
    env_name(table, opt, name);
    printf("| `%s` | `%s` | %s | ", left, name, opt->fallback ? opt->fallback : "-");
    if (opt->type == PF_OPT_INT)
      printf("%lld to %lld", (long long)opt->min, (long long)opt->max);
    else
      printf("-");
    printf(" | %s |\n", opt->help);
  }
  printf("\n");
}

/* ---- the command line ---- */

struct getopt_tables {
  struct option *longs;
  char *shorts;
};

static void getopt_tables_make(const struct pf_option_table *table, struct getopt_tables *ret) {
  size_t count = table->count * 2 + 5, at = 0;
  ret->longs = pf_alloc(count * sizeof(*ret->longs));
  ret->shorts = pf_alloc(table->count * 2 + 8);
  /* '+': stop at the first operand, so that `up fetch --json` leaves --json to the command;
   * ':': report a missing argument apart from an unknown option. */
  ret->shorts[0] = table->operands ? ':' : '+';
  ret->shorts[1] = table->operands ? '\0' : ':';
  for (size_t i = 0; i < table->count; i++) {
    const struct pf_option *opt = &table->options[i];
    bool has_value = opt->type != PF_OPT_FLAG;
    ret->longs[at++] = (struct option){opt->name, has_value, NULL, VAL_OPTION + (int)i};
    if (opt->letter) {
      size_t len = strlen(ret->shorts);
      ret->shorts[len] = opt->letter;
      if (has_value) ret->shorts[len + 1] = ':';
    }
    if (!has_value) {
      size_t size = strlen(opt->name) + sizeof("no-");
      char *negated = pf_alloc(size);
      snprintf(negated, size, "no-%s", opt->name);
      ret->longs[at++] = (struct option){negated, 0, NULL, VAL_NEGATED + (int)i};
    }
  }
  ret->longs[at++] = (struct option){"help", 0, NULL, VAL_HELP};
  ret->longs[at++] = (struct option){"version", 0, NULL, VAL_VERSION};
  ret->longs[at++] = (struct option){"config", 1, NULL, VAL_CONFIG};
  ret->longs[at++] = (struct option){"help-markdown", 0, NULL, VAL_MARKDOWN};
}

static void getopt_tables_free(struct getopt_tables *tables) {
  for (struct option *o = tables->longs; o->name; o++)
    if (o->val >= VAL_NEGATED) free((char *)o->name);
  free(tables->longs);
  free(tables->shorts);
}

static const struct pf_option *option_by_value(const struct pf_option_table *table, int value) {
  if (value >= VAL_NEGATED) return &table->options[value - VAL_NEGATED];
  if (value >= VAL_OPTION) return &table->options[value - VAL_OPTION];
  for (size_t i = 0; i < table->count; i++)
    if (table->options[i].letter == value) return &table->options[i];
  return NULL;
}

/* One pass over argv. With config NULL only --help and the like and --config are looked at, because
 * the file is the weaker source and must be read before the rest of the line. */
static int scan_arguments(const struct pf_option_table *table, void *config, int argc, char **argv,
    const char **ret_file, int *ret_operand, struct pf_error *reterr) {
  struct getopt_tables tables;
  getopt_tables_make(table, &tables);
  bool *list_seen = pf_alloc(table->count * sizeof(bool) + 1);
  int err = PF_OK, value;
  optind = 0; /* glibc: start over, also after an earlier scan */
  opterr = 0;
  while (!err && (value = getopt_long(argc, argv, tables.shorts, tables.longs, NULL)) != -1) {
    const struct pf_option *opt = option_by_value(table, value);
    if (value == VAL_HELP || value == VAL_VERSION || value == VAL_MARKDOWN) {
      if (value == VAL_HELP) print_help(table);
      if (value == VAL_VERSION) printf("%s %s\n", table->program, PF_VERSION);
      if (value == VAL_MARKDOWN) print_markdown(table);
      err = PF_ECANCEL;
    } else if (value == VAL_CONFIG) {
      *ret_file = optarg;
    } else if (value == '?') {
      err = pf_error_set(reterr, PF_EINVAL, "unknown option '%s'; %s --help lists them",
          argv[optind - 1], table->program);
    } else if (value == ':') {
      err = pf_error_set(reterr, PF_EINVAL, "option '%s' needs a value", argv[optind - 1]);
    } else if (config && opt) {
      if (!list_seen[opt - table->options]) list_reset(opt, config);
      list_seen[opt - table->options] = true;
      const char *text = opt->type != PF_OPT_FLAG ? optarg : value >= VAL_NEGATED ? "0" : "1";
      err = option_set(opt, config, text, "command line", reterr);
    }
  }
  *ret_operand = optind;
  if (!err && !table->operands && optind < argc)
    err = pf_error_set(reterr, PF_EINVAL, "unexpected argument '%s'; %s --help shows the usage",
        argv[optind], table->program);
  free(list_seen);
  getopt_tables_free(&tables);
  return err;
}

int pf_options_parse(const struct pf_option_table *table, void *config, int argc, char **argv,
    int *ret_operand, struct pf_error *reterr) {
  const char *file = NULL;
  int operand;
  int err = scan_arguments(table, NULL, argc, argv, &file, &operand, reterr);
  if (!err) err = apply_defaults(table, config, reterr);
  if (!err && file) err = apply_file(table, config, file, reterr);
  if (!err) err = apply_environment(table, config, reterr);
  if (!err) err = scan_arguments(table, config, argc, argv, &file, &operand, reterr);
  if (!err && ret_operand) *ret_operand = operand;
  return err;
}

int pf_options_parse_or_exit(
    const struct pf_option_table *table, void *config, int argc, char **argv) {
  struct pf_error why = {0};
  int operand = argc;
  int err = pf_options_parse(table, config, argc, argv, &operand, &why);
  if (!err) return operand;
  pf_options_free(table, config);
  if (err == PF_ECANCEL) exit(fflush(stdout) ? PF_EXIT_FAILURE : PF_EXIT_OK);
  fprintf(stderr, "%s: %s\n", table->program, why.text);
  exit(PF_EXIT_USAGE);
}

void pf_options_free(const struct pf_option_table *table, void *config) {
  for (size_t i = 0; i < table->count; i++) {
    const struct pf_option *opt = &table->options[i];
    list_reset(opt, config);
    if (opt->type != PF_OPT_STRING) continue;
    char **field = field_of(opt, config);
    free(*field);
    *field = NULL;
  }
}
