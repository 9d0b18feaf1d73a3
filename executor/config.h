/* The options of proxyfetch-executor. */
#ifndef PF_EXECUTOR_CONFIG_H
#define PF_EXECUTOR_CONFIG_H

#include "base/options.h"
#include "executor/egress.h"

struct config {
  struct pf_listen_addr listen;
  char *orchestrator, *advertise, *ca_file;
  struct pf_option_list allow_target, deny_target, allow_port;
  int64_t slots, heartbeat_ms, lease_ms, body_max, buffer_max, dns_ms, connect_ms, idle_ms,
      drain_ms, result_grace_ms;
  int log_level;
};

/* Ends the program on a bad value, --help and the like. Fills *ret_rules from the lists. */
void config_read(struct config *config, struct egress_rules *ret_rules, int argc, char **argv);
void config_done(struct config *config);

#endif
