/* `proxyfetch jobs`: what an origin still has to do, and what an operator may do about it; and
 * which origins have jobs in the queue, and which results wait for them there. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "clients/cli/command.h"
#include "clients/cli/request.h"
#include "clients/ws/ws_client.h"
#include "wire/json.h"

struct jobs_config {
  char *url, *orchestrator;
  int state;
  int64_t limit;
  bool json;
};

static const char *const states[] = {"any", "pending", "enqueued", "received", "parked", NULL};

#define FIELD(name) offsetof(struct jobs_config, name)
static const struct pf_option jobs_option_list[] = {
    {.name = "url",
        .type = PF_OPT_STRING,
        .offset = FIELD(url),
        .unit = "URL",
        .fallback = "http://localhost:8787",
        .help = "The origin."},
    {.name = "orchestrator",
        .type = PF_OPT_STRING,
        .offset = FIELD(orchestrator),
        .unit = "URL",
        .fallback = "http://127.0.0.1:8788",
        .help = "origins, undelivered: the orchestrator that is asked."},
    {.name = "state",
        .type = PF_OPT_CHOICE,
        .offset = FIELD(state),
        .fallback = "any",
        .choices = states,
        .help = "list: only jobs in this state."},
    {.name = "limit",
        .type = PF_OPT_INT,
        .offset = FIELD(limit),
        .fallback = "100",
        .min = 1,
        .max = 1000,
        .help = "list: at most this many, the oldest first."},
    {.name = "json",
        .type = PF_OPT_FLAG,
        .offset = FIELD(json),
        .help = "list, origins, undelivered: print the answer as it came."},
};

const struct pf_option_table jobs_options = {
    .program = "proxyfetch jobs",
    .summary = "list, show, cancel or run again the jobs of an origin; list origins and what waits "
               "for them",
    .operands = "list|show ID|cancel ID|rerun ID|origins|undelivered",
    .env_prefix = "PROXYFETCH_JOBS_",
    .epilog =
        "A parked job has its result, but its continuation failed on every run; `rerun` gives\n"
        "it a new budget of runs. `origins` shows how long ago the queue has heard of each\n"
        "origin, and how many jobs it holds for it; `undelivered` the jobs that have ended while\n"
        "their origin could not be reached.\n",
    .options = jobs_option_list,
    .count = PF_COUNT(jobs_option_list),
};

static int print_unreadable(void) {
  fprintf(stderr, "proxyfetch jobs: the answer is not what this version reads\n");
  return PF_EXIT_FAILURE;
}

static void print_row(const struct json *job) {
  static const char *const columns[] = {"state", "host", "continuation", "clientId"};
  static const int widths[] = {9, 28, 12, 0};
  struct pf_slice id = {0};
  double age_ms = 0;
  int64_t runs = 0;
  json_string(json_get(job, "reqId"), &id);
  json_double(json_get(job, "ageMs"), &age_ms);
  json_int(json_get(job, "runs"), 0, INT32_MAX, &runs);
  request_print_text(stdout, 32, id);
  printf("  %8.1f s  %4" PRId64 "  ", age_ms / 1000, runs);
  for (size_t i = 0; i < PF_COUNT(columns); i++) {
    struct pf_slice text = pf_slice_str("-");
    json_string(json_get(job, columns[i]), &text);
    request_print_text(stdout, widths[i], text);
    printf("%s", i + 1 < PF_COUNT(columns) ? "  " : "\n");
  }
}

static void print_total(int64_t total, const char *more) {
  printf("%" PRId64 " job%s%s\n", total, total == 1 ? "" : "s", more);
}

static int print_list(const struct pf_buf *body) {
  struct json *root;
  if (json_parse(&root, pf_buf_view(body), NULL)) return print_unreadable();
  int64_t total = 0, shown = 0;
  json_int(json_get(root, "total"), 0, INT64_MAX, &total);
  const struct json *jobs = json_get(root, "jobs");
  if (total > 0)
    printf("%-32s  %10s  %4s  %-9s  %-28s  %-12s  %s\n", "job", "age", "runs", "state", "host",
        "continuation", "clientId");
  for (const struct json *job = jobs ? json_first(jobs) : NULL; job; job = json_next(job), shown++)
    print_row(job);
  print_total(total, shown < total ? "; --limit shows more" : "");
  json_free(root);
  return PF_EXIT_OK;
}

static int print_origins(const struct pf_buf *body) {
  struct json *root;
  if (json_parse(&root, pf_buf_view(body), NULL)) return print_unreadable();
  const struct json *origins = json_get(root, "origins");
  printf("%-16s  %14s  %10s  %s\n", "origin", "heard", "jobs", "url");
  for (const struct json *it = origins ? json_first(origins) : NULL; it; it = json_next(it)) {
    struct pf_slice id = {0}, url = {0};
    int64_t jobs = 0;
    double silent_ms = 0;
    json_string(json_get(it, "origin"), &id);
    json_string(json_get(it, "url"), &url);
    json_int(json_get(it, "jobs"), 0, INT64_MAX, &jobs);
    json_double(json_get(it, "silentMs"), &silent_ms);
    if (!url.len) url = pf_slice_str("- (not heard of since the queue started)");
    request_print_text(stdout, 16, id);
    printf("  %8.1f s ago  %10" PRId64 "  ", silent_ms / 1000, jobs);
    request_print_text(stdout, 0, url);
    putchar('\n');
  }
  json_free(root);
  return PF_EXIT_OK;
}

static int print_undelivered(const struct pf_buf *body) {
  struct json *root;
  if (json_parse(&root, pf_buf_view(body), NULL)) return print_unreadable();
  const struct json *jobs = json_get(root, "jobs");
  int64_t total = 0, shown = 0;
  json_int(json_get(root, "total"), 0, INT64_MAX, &total);
  if (total > 0) printf("%-32s  %14s  %-16s  %s\n", "job", "origin heard", "certainty", "error");
  for (const struct json *it = jobs ? json_first(jobs) : NULL; it; it = json_next(it), shown++) {
    struct pf_slice id = {0}, certainty = {0}, error = {0};
    double silent_ms = 0;
    json_string(json_get(it, "reqId"), &id);
    json_string(json_get(it, "certainty"), &certainty);
    json_string(json_get(it, "error"), &error);
    json_double(json_get(it, "originSilentMs"), &silent_ms);
    request_print_text(stdout, 32, id);
    printf("  %8.1f s ago  ", silent_ms / 1000);
    request_print_text(stdout, 16, certainty);
    printf("  ");
    request_print_text(stdout, 0, error);
    putchar('\n');
  }
  print_total(total, shown < total ? ", the first of them shown" : "");
  json_free(root);
  return PF_EXIT_OK;
}

/* print NULL: the answer as it came. */
static int ask(const char *server, const char *method, const char *path,
    int (*print)(const struct pf_buf *body)) {
  struct ws_url url;
  struct pf_error why = {0};
  char address[WS_CLIENT_HOST_MAX + 256];
  if (ws_url_parse(&url, server, &why)) {
    fprintf(stderr, "proxyfetch jobs: %s\n", why.text);
    return PF_EXIT_USAGE;
  }
  ws_url_http(&url, path, address, sizeof(address));
  struct pf_buf body;
  int status, code = PF_EXIT_FAILURE;
  if (request_run(method, address, &status, &body, &why))
    fprintf(stderr, "proxyfetch jobs: %s\n", why.text);
  else if (status >= 300)
    request_print_error("jobs", status, &body);
  else if (print)
    code = print(&body);
  else
    code = printf("%.*s\n", (int)body.len, body.data) < 0 ? PF_EXIT_FAILURE : PF_EXIT_OK;
  pf_buf_done(&body);
  return code;
}

static int jobs_ask(const struct jobs_config *config, int argc, char **argv) {
  char path[160];
  struct pf_job_id id;
  if (argc == 1 && strcmp(argv[0], "list") == 0) {
    snprintf(path, sizeof(path), "/v1/jobs?limit=%" PRId64 "&state=%.32s", config->limit,
        config->state ? states[config->state] : "");
    return ask(config->url, "GET", path, config->json ? NULL : print_list);
  }
  if (argc == 1 && strcmp(argv[0], "origins") == 0)
    return ask(config->orchestrator, "GET", "/v1/queue", config->json ? NULL : print_origins);
  if (argc == 1 && strcmp(argv[0], "undelivered") == 0)
    return ask(
        config->orchestrator, "GET", "/v1/undelivered", config->json ? NULL : print_undelivered);
  static const char *const verbs[][3] = {
      {"show", "GET", ""}, {"cancel", "DELETE", ""}, {"rerun", "POST", "/rerun"}};
  for (size_t i = 0; argc == 2 && i < PF_COUNT(verbs); i++) {
    if (strcmp(argv[0], verbs[i][0]) != 0) continue;
    if (pf_job_id_parse(&id, argv[1], strlen(argv[1]))) {
      fprintf(stderr, "proxyfetch jobs: '%s' is not a job id (32 hex digits)\n", argv[1]);
      return PF_EXIT_USAGE;
    }
    snprintf(path, sizeof(path), "/v1/jobs/%s%s", argv[1], verbs[i][2]);
    return ask(config->url, verbs[i][1], path, NULL);
  }
  fprintf(stderr, "proxyfetch jobs: expected %s; --help says more\n", jobs_options.operands);
  return PF_EXIT_USAGE;
}

int jobs_run(int argc, char **argv) {
  struct jobs_config config = {0};
  int operand = pf_options_parse_or_exit(&jobs_options, &config, argc, argv);
  int code = jobs_ask(&config, argc - operand, argv + operand);
  pf_options_free(&jobs_options, &config);
  return code;
}
