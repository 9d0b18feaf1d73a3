/* `proxyfetch db`: look after the databases: check one that nobody has open, copy the one of a
 * running origin, put a copy in place of a lost one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/child.h"
#include "clients/cli/command.h"
#include "clients/cli/request.h"
#include "clients/ws/ws_client.h"

#define PATH_TEXT 1200

struct db_config {
  char *url;
};

static const struct pf_option db_option_list[] = {
    {.name = "internal-url",
        .type = PF_OPT_STRING,
        .offset = offsetof(struct db_config, url),
        .unit = "URL",
        .fallback = "http://127.0.0.1:8786",
        .help = "backup: the internal listener of the origin."},
};

const struct pf_option_table db_options = {
    .program = "proxyfetch db",
    .summary = "check, back up or restore a database",
    .operands = "check DIR|backup|restore FILE DIR",
    .env_prefix = "PROXYFETCH_DB_",
    .epilog =
        "check    reads the whole database of a stopped origin or orchestrator and says what is "
        "wrong.\n"
        "backup   lets a running origin write a copy into its data directory, and prints its "
        "path.\n"
        "restore  puts such a copy into an empty DIR. Jobs that were pending at that time are "
        "made\n"
        "         again; those that must not be repeated end with certainty sent_unknown.\n"
        "The orchestrator's queue needs no backup: without it, origins announce all jobs again.\n",
    .options = db_option_list,
    .count = PF_COUNT(db_option_list),
};

static int db_fail(const char *text) {
  fprintf(stderr, "proxyfetch db: %s\n", text);
  return PF_EXIT_FAILURE;
}

/* The program that owns the database looks after it; this one becomes that program. */
static int db_exec(const char *program, const char *dir, const char *verb, const char *file) {
  char path[CHILD_PATH_MAX];
  child_path(path, program);
  execl(path, program, "--data", dir, verb, file, (char *)NULL);
  char why[CHILD_PATH_MAX + 64];
  snprintf(why, sizeof(why), "cannot run %s: %s", path, strerror(errno));
  return db_fail(why);
}

static int db_check(const char *dir) {
  static const char *const owners[][2] = {
      {"origin.db", "proxyfetch-origin"}, {"queue.db", "proxyfetch-orchestrator"}};
  char path[PATH_TEXT];
  for (size_t i = 0; i < PF_COUNT(owners); i++) {
    snprintf(path, sizeof(path), "%s/%s", dir, owners[i][0]);
    if (access(path, F_OK) == 0) return db_exec(owners[i][1], dir, "--check", NULL);
  }
  snprintf(path, sizeof(path), "%s: neither origin.db nor queue.db is there", dir);
  return db_fail(path);
}

static int db_backup(const struct db_config *config) {
  char url[WS_CLIENT_HOST_MAX + 64];
  struct pf_buf body;
  struct pf_error why = {0};
  int status, code = PF_EXIT_FAILURE;
  snprintf(url, sizeof(url), "%s/v1/backup", config->url);
  if (request_run("POST", url, &status, &body, &why))
    db_fail(why.text);
  else if (status != 200)
    request_print_error("db", status, &body);
  else
    code = printf("%.*s\n", (int)body.len, body.data) < 0 ? PF_EXIT_FAILURE : PF_EXIT_OK;
  pf_buf_done(&body);
  return code;
}

int db_run(int argc, char **argv) {
  struct db_config config = {0};
  int at = pf_options_parse_or_exit(&db_options, &config, argc, argv);
  const char *verb = at < argc ? argv[at] : "";
  int code = PF_EXIT_USAGE;
  if (argc - at == 2 && strcmp(verb, "check") == 0)
    code = db_check(argv[at + 1]);
  else if (argc - at == 1 && strcmp(verb, "backup") == 0)
    code = db_backup(&config);
  else if (argc - at == 3 && strcmp(verb, "restore") == 0)
    code = db_exec("proxyfetch-origin", argv[at + 2], "--restore", argv[at + 1]);
  else
    fprintf(stderr, "proxyfetch db: expected %s; --help says more\n", db_options.operands);
  pf_options_free(&db_options, &config);
  return code;
}
