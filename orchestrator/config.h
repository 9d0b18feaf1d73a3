/* The orchestrator's options.
 *
 * Threads    Call at start.
 * Ownership  config_free releases the strings.
 * Ordering   none
 * Limits     those of the table in config.c */
#ifndef PF_ORCHESTRATOR_CONFIG_H
#define PF_ORCHESTRATOR_CONFIG_H

#include "base/options.h"

struct config {
  bool check;
  struct pf_listen_addr listen;
  char *data; /* as given: NULL = the default place */
  int sync;   /* enum store_sync */
  int log_level;
  int64_t lease_ms, grace_ms, drain_ms;
  int64_t retry_base_ms, retry_cap_ms, retry_after_cap_ms;
  int64_t queue_max, queue_memory, disk_reserve, undelivered_keep_ms;
};

/* Ends the program as a command line tool would if the options are wrong. */
void config_parse_or_exit(struct config *config, int argc, char **argv);
void config_free(struct config *config);

#endif
