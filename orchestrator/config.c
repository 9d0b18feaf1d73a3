#include "orchestrator/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "orchestrator/queue.h"

static const char *const sync_choices[] = {"full", "normal", NULL};
static const char *const level_choices[] = {"error", "warn", "info", "debug", NULL};

#define FIELD(member) offsetof(struct config, member)

static const struct pf_option options[] = {
    {"listen", 'l', PF_OPT_ADDR, FIELD(listen), "ADDR:PORT", "localhost:8788", 0, 0, NULL,
        "Where origins and executors reach this process."},
    {"data", 'd', PF_OPT_STRING, FIELD(data), "DIR", NULL, 0, 0, NULL,
        "Directory of the queue (default: $XDG_STATE_HOME/proxyfetch/orchestrator)."},
    {"sync", 0, PF_OPT_CHOICE, FIELD(sync), NULL, "full", 0, 0, sync_choices,
        "full survives power loss, normal any crash of the process."},
    {"lease-ms", 0, PF_OPT_INT, FIELD(lease_ms), "ms", "3000", 100, 600000, NULL,
        "Silence after which an executor counts as lost."},
    {"grace-ms", 0, PF_OPT_INT, FIELD(grace_ms), "ms", "3000", 0, 600000, NULL,
        "Added once after a restart, so that executors find the way back."},
    {"retry-base-ms", 0, PF_OPT_INT, FIELD(retry_base_ms), "ms", "500", 1, 3600000, NULL,
        "Bound of the first retry's random delay; it doubles with each attempt."},
    {"retry-cap-ms", 0, PF_OPT_INT, FIELD(retry_cap_ms), "ms", "60000", 1, 3600000, NULL,
        "Largest bound of a retry's delay."},
    {"retry-after-max-ms", 0, PF_OPT_INT, FIELD(retry_after_cap_ms), "ms", "300000", 0, 86400000,
        NULL, "Longest Retry-After of a target that is honoured."},
    {"queue-max", 0, PF_OPT_INT, FIELD(queue_max), "jobs", "1000000", 1, 100000000, NULL,
        "Jobs held; above it origins are told to come back later."},
    {"queue-memory", 0, PF_OPT_INT, FIELD(queue_memory), "bytes", "256m", 0, (int64_t)1 << 40, NULL,
        "Requests kept in memory; above it they are read again at dispatch."},
    {"disk-reserve", 0, PF_OPT_INT, FIELD(disk_reserve), "bytes", "64m", 0, (int64_t)1 << 40, NULL,
        "Free disk space below which no new job is taken."},
    {"log-level", 0, PF_OPT_CHOICE, FIELD(log_level), NULL, "info", 0, 0, level_choices,
        "Which lines are written to stderr."},
};

static const struct pf_option_table table = {
    .program = "proxyfetch-orchestrator",
    .summary = "the durable job queue between origins and executors",
    .env_prefix = "PROXYFETCH_ORCHESTRATOR_",
    .options = options,
    .count = PF_COUNT(options),
};

static char *default_data(void) {
  const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
  char path[4096];
  if (state && *state)
    snprintf(path, sizeof(path), "%s/proxyfetch/orchestrator", state);
  else
    snprintf(path, sizeof(path), "%s/.local/state/proxyfetch/orchestrator", home ? home : ".");
  return pf_strdup(path);
}

void config_parse_or_exit(struct config *config, int argc, char **argv) {
  (void)pf_options_parse_or_exit(&table, config, argc, argv); /* there are no operands */
  if (!config->data) config->data = default_data();
}

void config_free(struct config *config) {
  pf_options_free(&table, config);
}

static int make_directory(const char *path, struct pf_error *reterr) {
  if (mkdir(path, 0700) == 0 || errno == EEXIST) return PF_OK;
  return pf_error_set(
      reterr, PF_EPERM, "cannot create the data directory %s: %s", path, strerror(errno));
}

int config_make_data(struct config *config, struct pf_error *reterr) {
  char *path = config->data;
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    int err = make_directory(path, reterr);
    *slash = '/';
    if (err) return err;
  }
  return make_directory(path, reterr);
}
