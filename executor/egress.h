/* Which addresses and ports a fetch may reach. Judges the socket address that is about to be
 * dialled, never the text of a URL, so that no spelling and no redirect gets around it.
 *
 * Public unicast addresses are allowed on ports 80 and 443 and those of --allow-port. Everything
 * else is refused unless an --allow-target names it. --deny-target is stronger than both.
 *
 * Threads    pure
 * Ownership  struct egress_rules is filled once, at start, and then only read.
 * Ordering   none
 * Limits     EGRESS_RULES_MAX rules of each kind. */
#ifndef PF_EXECUTOR_EGRESS_H
#define PF_EXECUTOR_EGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

#define EGRESS_RULES_MAX 64
#define EGRESS_TEXT_MAX 256

/* What kind of address it is; all but EGRESS_PUBLIC are refused by default. */
#define EGRESS_MAP(X)                                                                              \
  X(EGRESS_PUBLIC, "a public address")                                                             \
  X(EGRESS_UNSPECIFIED, "an unspecified address")                                                  \
  X(EGRESS_LOOPBACK, "a loopback address")                                                         \
  X(EGRESS_PRIVATE, "a private address")                                                           \
  X(EGRESS_LINK_LOCAL, "a link-local address")                                                     \
  X(EGRESS_SHARED, "an address of a carrier's shared network")                                     \
  X(EGRESS_CLOUD, "an address of a cloud's host agent")                                            \
  X(EGRESS_MULTICAST, "a multicast address")                                                       \
  X(EGRESS_TRANSLATION, "an address of a translation or tunnel prefix")                            \
  X(EGRESS_RESERVED, "a reserved address")                                                         \
  X(EGRESS_FAMILY, "not an internet address")

enum egress_class {
#define X(name, text) name,
  EGRESS_MAP(X)
#undef X
};
const char *egress_class_text(enum egress_class class);

/* IPv4 addresses mapped into IPv6 are judged as IPv4. */
enum egress_class egress_classify(const struct sockaddr *addr);

struct egress_rule {
  uint8_t network[16]; /* IPv4 mapped into IPv6, so that both families compare alike */
  unsigned bits;       /* of 128 */
  uint16_t port;       /* 0 = any */
};

struct egress_rules {
  struct egress_rule allow[EGRESS_RULES_MAX], deny[EGRESS_RULES_MAX];
  size_t allow_count, deny_count;
  uint16_t ports[EGRESS_RULES_MAX]; /* besides 80 and 443, for public addresses */
  size_t port_count;
  bool any_port;
};

/* "10.1.0.0/16", "127.0.0.1/32:8790", "127.0.0.1:8790", "[fd00::]/8:443", "fd00::/8". Errors:
 * PF_EINVAL with a text that says what was expected. */
PF_MUST_CHECK int egress_rule_parse(
    struct egress_rule *ret_rule, const char *text, struct pf_error *reterr);
PF_MUST_CHECK int egress_allow(
    struct egress_rules *rules, const char *text, struct pf_error *reterr);
PF_MUST_CHECK int egress_deny(
    struct egress_rules *rules, const char *text, struct pf_error *reterr);
/* A port, or "any". */
PF_MUST_CHECK int egress_allow_port(
    struct egress_rules *rules, const char *text, struct pf_error *reterr);

/* True if addr with its port may be dialled. Otherwise why says what it is and which option would
 * allow it: "127.0.0.1:8790 is a loopback address; start the executor with --allow-target
 * 127.0.0.1/32:8790 to allow it". */
bool egress_check(
    const struct egress_rules *rules, const struct sockaddr *addr, char why[EGRESS_TEXT_MAX]);

#endif
