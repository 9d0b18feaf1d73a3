#include "executor/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/hop.h"

#define PROGRAM "proxyfetch-executor"

#define FIELD(name) offsetof(struct config, name)
static const struct pf_option options[] = {
    {"listen", 'l', PF_OPT_ADDR, FIELD(listen), "ADDR:PORT", "localhost:8789", 0, 0, NULL,
        "Where the orchestrator reaches this process; port 0 takes a free one."},
    {"orchestrator", 0, PF_OPT_STRING, FIELD(orchestrator), "URL", "http://127.0.0.1:8788", 0, 0,
        NULL, "Base URL of the orchestrator."},
    {"advertise", 0, PF_OPT_STRING, FIELD(advertise), "URL", NULL, 0, 0, NULL,
        "Base URL under which the orchestrator reaches this process, if not the bound address."},
    {"slots", 0, PF_OPT_INT, FIELD(slots), NULL, "10000", 1, 38000, NULL,
        "Jobs held at one time, also bounded by the limit of open files."},
    {"allow-target", 0, PF_OPT_LIST, FIELD(allow_target), "CIDR[:PORT]", NULL, 0, 0, NULL,
        "Addresses that may be fetched from although they are not public; may be given many "
        "times."},
    {"deny-target", 0, PF_OPT_LIST, FIELD(deny_target), "CIDR[:PORT]", NULL, 0, 0, NULL,
        "Addresses that are never fetched from; stronger than all that allows."},
    {"allow-port", 0, PF_OPT_LIST, FIELD(allow_port), "PORT|any", NULL, 0, 0, NULL,
        "Ports of public addresses besides 80 and 443."},
    {"heartbeat-ms", 0, PF_OPT_INT, FIELD(heartbeat_ms), "ms", "1000", 20, 60000, NULL,
        "How often the orchestrator is told that this process lives; at most half of --lease-ms."},
    {"lease-ms", 0, PF_OPT_INT, FIELD(lease_ms), "ms", "3000", 60, 600000, NULL,
        "Without an answer to a heartbeat for this long no request leaves; as at the "
        "orchestrator."},
    {"body-max", 0, PF_OPT_INT, FIELD(body_max), "bytes", "8m", 0, 16 << 20, NULL,
        "Largest answer of a target, decoded."},
    {"buffer-max", 0, PF_OPT_INT, FIELD(buffer_max), "bytes", "1g", 1 << 20, (int64_t)1 << 40, NULL,
        "Bytes of answers held in memory; nearly full, no new jobs are taken."},
    {"dns-ms", 0, PF_OPT_INT, FIELD(dns_ms), "ms", "5000", 1, 600000, NULL,
        "Longest wait for a name server."},
    {"connect-ms", 0, PF_OPT_INT, FIELD(connect_ms), "ms", "10000", 1, 600000, NULL,
        "Longest wait for a connection, TLS handshake included."},
    {"idle-ms", 0, PF_OPT_INT, FIELD(idle_ms), "ms", "10000", 1, 86400000, NULL,
        "Longest pause within a body."},
    {"result-grace-ms", 0, PF_OPT_INT, FIELD(result_grace_ms), "ms", "60000", 0, 604800000, NULL,
        "How long after a job's deadline its result waits for its origin to take it."},
    {"drain-ms", 0, PF_OPT_INT, FIELD(drain_ms), "ms", "10000", 0, 3600000, NULL,
        "After SIGTERM, jobs may take this long to end."},
    {"ca-file", 0, PF_OPT_STRING, FIELD(ca_file), "FILE", NULL, 0, 0, NULL,
        "Certificates to trust instead of the system's (PEM)."},
    {"log-level", 0, PF_OPT_CHOICE, FIELD(log_level), NULL, "info", 0, 0, pf_log_level_names,
        "Least important lines to write."},
};

static const struct pf_option_table option_table = {
    .program = PROGRAM,
    .summary = "makes the external requests of a proxyfetch system",
    .env_prefix = "PROXYFETCH_EXECUTOR_",
    .epilog = "Private, loopback and other special addresses are refused unless an --allow-target\n"
              "names them, whatever the URL or a redirect says:\n"
              "  " PROGRAM " --allow-target 127.0.0.1/32:8790 --allow-target 10.1.0.0/16\n",
    .options = options,
    .count = PF_COUNT(options),
};

static int rules_fill(const struct pf_option_list *list,
    int (*add)(struct egress_rules *, const char *, struct pf_error *), struct egress_rules *rules,
    const char *option) {
  struct pf_error why = {0};
  for (size_t i = 0; i < list->count; i++) {
    int err = add(rules, list->items[i], &why);
    if (!err) continue;
    fprintf(stderr, PROGRAM ": --%s: %s\n", option, why.text);
    return err;
  }
  return PF_OK;
}

static int url_check(char *url, const char *option) {
  struct pf_error why = {0};
  int err = url ? hop_url_read(url, &why) : PF_OK;
  if (err) fprintf(stderr, PROGRAM ": --%s: %s\n", option, why.text);
  return err;
}

/* libcurl would say so at each fetch only. */
static int file_check(const char *path, const char *option) {
  if (!path || access(path, R_OK) == 0) return PF_OK;
  fprintf(stderr, PROGRAM ": --%s: cannot read %s: %s\n", option, path, strerror(errno));
  return PF_EINVAL;
}

void config_read(struct config *config, struct egress_rules *ret_rules, int argc, char **argv) {
  *config = (struct config){0};
  *ret_rules = (struct egress_rules){0};
  pf_options_parse_or_exit(&option_table, config, argc, argv);
  int err = url_check(config->orchestrator, "orchestrator");
  if (!err) err = url_check(config->advertise, "advertise");
  if (!err) err = file_check(config->ca_file, "ca-file");
  if (!err) err = rules_fill(&config->allow_target, egress_allow, ret_rules, "allow-target");
  if (!err) err = rules_fill(&config->deny_target, egress_deny, ret_rules, "deny-target");
  if (!err) err = rules_fill(&config->allow_port, egress_allow_port, ret_rules, "allow-port");
  if (!err && config->heartbeat_ms * 2 > config->lease_ms) {
    fprintf(stderr, PROGRAM ": --heartbeat-ms: has to be at most half of --lease-ms\n");
    err = PF_EINVAL;
  }
  if (!err) return;
  config_done(config);
  exit(PF_EXIT_USAGE);
}

void config_done(struct config *config) {
  pf_options_free(&option_table, config);
}
