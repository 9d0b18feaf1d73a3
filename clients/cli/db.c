/* `proxyfetch db`: look after the databases: check one that nobody has open, copy the one of a
 * running origin, put a copy in place of a lost one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "command.h"
#include "orchestrator/queue_db.h"
#include "origin/origin_file.h"
#include "request.h"
#include "ws_client.h"

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

static int db_check(const char *dir) {
  const struct {
    const char *name;
    const struct store_schema *schema;
  } files[] = {{"origin.db", &origin_db_schema}, {"queue.db", &queue_db_schema}};
  struct pf_error why = {0};
  for (size_t i = 0; i < PF_COUNT(files); i++) {
    char path[PATH_TEXT];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", dir, files[i].name);
    if (stat(path, &st)) continue;
    if (store_check_file(path, files[i].schema, &why)) return db_fail(why.text);
    printf("%s: ok, %lld bytes\n", path, (long long)st.st_size);
    return PF_EXIT_OK;
  }
  snprintf(why.text, sizeof(why.text), "%.400s: neither origin.db nor queue.db is there", dir);
  return db_fail(why.text);
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

static int db_restore(const char *from, const char *dir) {
  char path[PATH_TEXT];
  struct pf_error why = {0};
  snprintf(path, sizeof(path), "%s/origin.db", dir);
  if (mkdir(dir, 0700) && errno != EEXIST) {
    snprintf(why.text, sizeof(why.text), "cannot create %.400s: %s", dir, strerror(errno));
    return db_fail(why.text);
  }
  if (origin_db_restore(from, path, &why)) return db_fail(why.text);
  printf("%s: restored\n", path);
  return PF_EXIT_OK;
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
    code = db_restore(argv[at + 1], argv[at + 2]);
  else
    fprintf(stderr, "proxyfetch db: expected %s; --help says more\n", db_options.operands);
  pf_options_free(&db_options, &config);
  return code;
}
