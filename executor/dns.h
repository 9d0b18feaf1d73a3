/* Host names to addresses, without ever blocking the loop.
 *
 * getaddrinfo() runs on a thread for each look-up. Those that want the same name share one; answers
 * are kept for DNS_KEEP_MS. A look-up that takes longer than DNS_YOUNG_MS no longer counts among
 * the DNS_YOUNG_MAX that may start at once, so that hundreds of names whose servers never answer
 * hold up a good name by a fraction of a second only. A look-up cannot be called off: when nobody
 * waits for it any more its thread just runs to the end, and counts up to DNS_THREADS_MAX.
 *
 * Threads    Everything on the loop given, except dns_config.lookup.
 * Ownership  The caller owns struct dns_wait, in place until done or dns_cancel. A struct
 *            dns_answer is counted: dns_answer_ref and dns_answer_unref.
 * Ordering   Look-ups start in the order asked for. done never comes from inside dns_resolve.
 * Limits     DNS_ADDRESSES_MAX addresses of one name are looked at, DNS_NAMES_MAX names kept. */
#ifndef PF_EXECUTOR_DNS_H
#define PF_EXECUTOR_DNS_H

#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/list.h"

#define DNS_KEEP_MS 30000
#define DNS_YOUNG_MS 50
#define DNS_YOUNG_MAX 64
#define DNS_THREADS_MAX 1024
#define DNS_ADDRESSES_MAX 16
#define DNS_NAMES_MAX 4096
#define DNS_NAME_MAX 255

struct dns;

struct dns_answer {
  unsigned refs;
  int failed; /* 0, or what getaddrinfo said (EAI_*) */
  unsigned count;
  /* For the user of the answer: the port and, one bit each, the caches that know it. */
  uint16_t loaded_port;
  uint64_t loaded;
  struct sockaddr_storage addrs[]; /* without port */
};

struct dns_wait {
  struct pf_list link; /* private while waiting */
  /* Keeps its own reference to answer if it wants it longer than the call. */
  void (*done)(struct dns_wait *wait, struct dns_answer *answer);
};

struct dns_config {
  /* getaddrinfo, or a stand-in for tests; called on a thread of its own. */
  int (*lookup)(
      const char *name, struct sockaddr_storage addrs[DNS_ADDRESSES_MAX], unsigned *ret_count);
};
/* The system's resolver. */
int dns_lookup_system(
    const char *name, struct sockaddr_storage addrs[DNS_ADDRESSES_MAX], unsigned *ret_count);

struct dns_stats {
  uint64_t started, failed;
  unsigned queued, running; /* now; running: threads, also those that nobody waits for */
};

struct dns *dns_new(uv_loop_t *loop, const struct dns_config *config);
/* The answer at once if it is known and fresh (borrowed, as in done), else NULL, and done comes
 * later. */
struct dns_answer *dns_resolve(struct dns *dns, const char *name, struct dns_wait *wait);
/* done will not come. Harmless if it does not wait. */
void dns_cancel(struct dns *dns, struct dns_wait *wait);
void dns_answer_ref(struct dns_answer *answer);
void dns_answer_unref(struct dns_answer *answer);
void dns_read_stats(const struct dns *dns, struct dns_stats *ret_stats);
/* Nobody waits any more. Threads that still run are left to their end. */
void dns_close(struct dns *dns, void (*closed)(void *arg), void *arg);

#endif
