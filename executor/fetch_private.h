/* What fetch.c (life of a fetch, budgets, verdicts) and exchange.c (one exchange with libcurl)
 * share. */
#ifndef PF_EXECUTOR_FETCH_PRIVATE_H
#define PF_EXECUTOR_FETCH_PRIVATE_H

#include "executor/fetch.h"
#include "http/multi.h"

#define MULTIS_MAX 64 /* bits of dns_answer.loaded */

struct shard {
  struct http_multi multi;
  struct fetch_engine *engine;
  unsigned active, index;
};

struct handle {        /* of libcurl, pooled */
  struct pf_list link; /* in engine.idle */
  CURL *easy;
  struct shard *shard; /* while in use */
  struct curl_slist *resolve;
  char error[CURL_ERROR_SIZE];
};

struct fetch_engine {
  uv_loop_t *loop;
  struct fetch_config config;
  struct shard *shards;
  unsigned shard_count;
  struct pf_list queued; /* struct fetch */
  struct pf_list idle;   /* struct handle */
  unsigned idle_count;
  uv_idle_t starter; /* runs while queued is not empty */
  struct timers timers;
  struct dns *dns;
  size_t buffered;
  uint64_t reused;
  unsigned closing_parts;
  void (*closed)(void *arg);
  void *closed_arg;
};

/* Sets all options of fetch->handle for the present hop. answer may be NULL. */
void exchange_prepare(struct fetch *fetch, const struct dns_answer *answer);
/* Reads timings and evidence from the handle at the end of a hop. */
void exchange_measure(struct fetch *fetch);
/* Bytes of the request have left. */
bool exchange_sent(const struct fetch *fetch);
/* What the end of the transfer means. */
enum outcome exchange_outcome(const struct fetch *fetch, CURLcode result);
/* Makes the handle fit for the next hop of any fetch. */
void exchange_reset(struct fetch *fetch);

#endif
