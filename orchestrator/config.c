#include "orchestrator/config.h"

#include "base/log.h"
#include "orchestrator/queue.h"
#include "store/store.h"

#define FIELD(member) offsetof(struct config, member)

static const struct pf_option options[] = {
    {"listen", 'l', PF_OPT_ADDR, FIELD(listen), "ADDR:PORT", "localhost:8788", 0, 0, NULL,
        "Where origins and executors reach this process."},
    {"data", 'd', PF_OPT_STRING, FIELD(data), "DIR", NULL, 0, 0, NULL,
        "Directory of the queue (default: $XDG_STATE_HOME/proxyfetch/orchestrator)."},
    {"sync", 0, PF_OPT_CHOICE, FIELD(sync), NULL, "full", 0, 0, store_sync_names,
        "full survives power loss, normal any crash of the process."},
    {"lease-ms", 0, PF_OPT_INT, FIELD(lease_ms), "ms", "3000", 100, 600000, NULL,
        "Silence after which an executor counts as lost."},
    {"grace-ms", 0, PF_OPT_INT, FIELD(grace_ms), "ms", "3000", 0, 600000, NULL,
        "Added once after a restart, so that executors find the way back."},
    {"drain-ms", 0, PF_OPT_INT, FIELD(drain_ms), "ms", "2000", 0, 3600000, NULL,
        "After SIGTERM, executors may take this long to answer for their leases."},
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
    {"undelivered-keep-ms", 0, PF_OPT_INT, FIELD(undelivered_keep_ms), "ms", "604800000", 0,
        31536000000, NULL,
        "How long after its deadline a job is kept for an origin that is silent as long."},
    {"disk-reserve", 0, PF_OPT_INT, FIELD(disk_reserve), "bytes", "64m", 0, (int64_t)1 << 40, NULL,
        "Free disk space below which no new job is taken."},
    {"check", 0, PF_OPT_FLAG, FIELD(check), NULL, NULL, 0, 0, NULL,
        "Read the whole database, say what is wrong with it, and exit."},
    {"log-level", 0, PF_OPT_CHOICE, FIELD(log_level), NULL, "info", 0, 0, pf_log_level_names,
        "Which lines are written to stderr."},
};

static const struct pf_option_table table = {
    .program = "proxyfetch-orchestrator",
    .summary = "the durable job queue between origins and executors",
    .env_prefix = "PROXYFETCH_ORCHESTRATOR_",
    .options = options,
    .count = PF_COUNT(options),
};

void config_parse_or_exit(struct config *config, int argc, char **argv) {
  (void)pf_options_parse_or_exit(&table, config, argc, argv); /* there are no operands */
}

void config_free(struct config *config) {
  pf_options_free(&table, config);
}
