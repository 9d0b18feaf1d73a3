#include "executor/egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"

#define MAPPED_BITS 96 /* of ::ffff:0:0/96, the prefix before a mapped IPv4 address */

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static const char *const class_texts[] = {
#define X(name, text) text,
    EGRESS_MAP(X)
#undef X
};

const char *egress_class_text(enum egress_class class) {
  return class_texts[class];
}

/* ---- classes ---- */

/* The first line that fits decides. Sources: the IANA special-purpose registries, RFC 6890 and its
 * successors; 168.63.129.16 is a public address by number, but belongs to the host of a machine in
 * Azure. */
static const struct {
  uint8_t network[4];
  uint8_t bits;
  enum egress_class class;
} special4[] = {
    {{0}, 8, EGRESS_UNSPECIFIED},
    {{10}, 8, EGRESS_PRIVATE},
    {{100, 64}, 10, EGRESS_SHARED},
    {{127}, 8, EGRESS_LOOPBACK},
    {{168, 63, 129, 16}, 32, EGRESS_CLOUD},
    {{169, 254}, 16, EGRESS_LINK_LOCAL},
    {{172, 16}, 12, EGRESS_PRIVATE},
    {{192, 0, 0}, 24, EGRESS_RESERVED},
    {{192, 0, 2}, 24, EGRESS_RESERVED},
    {{192, 88, 99}, 24, EGRESS_TRANSLATION},
    {{192, 168}, 16, EGRESS_PRIVATE},
    {{198, 18}, 15, EGRESS_RESERVED},
    {{198, 51, 100}, 24, EGRESS_RESERVED},
    {{203, 0, 113}, 24, EGRESS_RESERVED},
    {{224}, 4, EGRESS_MULTICAST},
    {{240}, 4, EGRESS_RESERVED},
};

static const struct {
  uint8_t network[16];
  uint8_t bits;
  enum egress_class class;
} special6[] = {
    {{0}, 128, EGRESS_UNSPECIFIED},
    {{[15] = 1}, 128, EGRESS_LOOPBACK},
    {{0, 0x64, 0xff, 0x9b}, 96, EGRESS_TRANSLATION},
    {{0, 0x64, 0xff, 0x9b, 0, 1}, 48, EGRESS_TRANSLATION},
    {{0x20, 0x01}, 23, EGRESS_TRANSLATION}, /* Teredo, ORCHID and other protocol assignments */
    {{0x20, 0x01, 0x0d, 0xb8}, 32, EGRESS_RESERVED},
    {{0x20, 0x02}, 16, EGRESS_TRANSLATION},
    {{0x3f, 0xff}, 20, EGRESS_RESERVED},
    {{0x20}, 3, EGRESS_PUBLIC}, /* the only range in use for public unicast */
    {{0xfc}, 7, EGRESS_PRIVATE},
    {{0xfe, 0x80}, 10, EGRESS_LINK_LOCAL},
    {{0xfe, 0xc0}, 10, EGRESS_PRIVATE},
    {{0xff}, 8, EGRESS_MULTICAST},
};

static bool prefix_holds(const uint8_t *network, unsigned bits, const uint8_t *addr) {
  unsigned bytes = bits / 8, rest = bits % 8;
  if (memcmp(network, addr, bytes) != 0) return false;
  return rest == 0 || ((network[bytes] ^ addr[bytes]) >> (8 - rest)) == 0;
}

static enum egress_class classify4(const uint8_t addr[4]) {
  for (size_t i = 0; i < PF_COUNT(special4); i++)
    if (prefix_holds(special4[i].network, special4[i].bits, addr)) return special4[i].class;
  return EGRESS_PUBLIC;
}

static enum egress_class classify6(const uint8_t addr[16]) {
  if (memcmp(addr, mapped_prefix, sizeof(mapped_prefix)) == 0) return classify4(addr + 12);
  for (size_t i = 0; i < PF_COUNT(special6); i++)
    if (prefix_holds(special6[i].network, special6[i].bits, addr)) return special6[i].class;
  return EGRESS_RESERVED;
}

/* The address as 16 bytes; false for other families. */
static bool addr_bytes(const struct sockaddr *addr, uint8_t bytes[16]) {
  if (addr->sa_family == AF_INET) {
    memcpy(bytes, mapped_prefix, sizeof(mapped_prefix));
    memcpy(bytes + 12, &((const struct sockaddr_in *)(const void *)addr)->sin_addr, 4);
    return true;
  }
  if (addr->sa_family != AF_INET6) return false;
  memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, 16);
  return true;
}

enum egress_class egress_classify(const struct sockaddr *addr) {
  uint8_t bytes[16];
  return addr_bytes(addr, bytes) ? classify6(bytes) : EGRESS_FAMILY;
}

/* ---- rules ---- */

static bool number_parse(const char *text, unsigned long max, unsigned long *ret_value) {
  if (text[0] < '0' || text[0] > '9') return false;
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (*end != '\0' || errno || value > max) return false;
  *ret_value = value;
  return true;
}

/* Splits "ADDR[/BITS][:PORT]", with or without brackets around an IPv6 address, in place. */
static bool rule_split(char *text, char **ret_addr, char **ret_bits, char **ret_port) {
  *ret_bits = *ret_port = NULL;
  char *rest;
  if (text[0] == '[') {
    *ret_addr = text + 1;
    char *bracket = strchr(text, ']');
    if (!bracket) return false;
    *bracket = '\0';
    rest = bracket + 1;
  } else {
    *ret_addr = text;
    bool v6 = strchr(text, ':') != strrchr(text, ':') && strchr(text, '.') == NULL;
    /* Without brackets or a slash every colon belongs to an IPv6 address. */
    rest = v6 ? strchr(text, '/') : strpbrk(text, "/:");
    if (!rest) return true;
  }
  if (*rest == '/') {
    *rest = '\0';
    *ret_bits = rest + 1;
    rest = strchr(rest + 1, ':');
    if (!rest) return true;
  }
  if (*rest == '\0') return true;
  if (*rest != ':') return false;
  *rest = '\0';
  *ret_port = rest + 1;
  return true;
}

int egress_rule_parse(struct egress_rule *ret_rule, const char *text, struct pf_error *reterr) {
  char copy[128];
  char *addr, *bits_text, *port_text;
  unsigned long bits, port = 0;
  struct egress_rule rule = {0};
  if (strlen(text) >= sizeof(copy)) goto bad;
  memcpy(copy, text, strlen(text) + 1);
  if (!rule_split(copy, &addr, &bits_text, &port_text)) goto bad;
  if (port_text && (!number_parse(port_text, 65535, &port) || port == 0)) goto bad;
  if (inet_pton(AF_INET, addr, rule.network + 12) == 1) {
    memcpy(rule.network, mapped_prefix, sizeof(mapped_prefix));
    bits = 32;
    if (bits_text && !number_parse(bits_text, 32, &bits)) goto bad;
    bits += MAPPED_BITS;
  } else if (inet_pton(AF_INET6, addr, rule.network) == 1) {
    bits = 128;
    if (bits_text && !number_parse(bits_text, 128, &bits)) goto bad;
  } else {
    goto bad;
  }
  rule.bits = (unsigned)bits;
  rule.port = (uint16_t)port;
  *ret_rule = rule;
  return PF_OK;
bad:
  return pf_error_set(reterr, PF_EINVAL,
      "'%s' is not ADDRESS[/BITS][:PORT], for example 10.1.0.0/16 or [fd00::]/8:443", text);
}

static int rule_add(
    struct egress_rule *rules, size_t *count, const char *text, struct pf_error *reterr) {
  if (*count == EGRESS_RULES_MAX)
    return pf_error_set(reterr, PF_ELIMIT, "more than %d rules", EGRESS_RULES_MAX);
  int err = egress_rule_parse(&rules[*count], text, reterr);
  if (!err) ++*count;
  return err;
}

int egress_allow(struct egress_rules *rules, const char *text, struct pf_error *reterr) {
  return rule_add(rules->allow, &rules->allow_count, text, reterr);
}

int egress_deny(struct egress_rules *rules, const char *text, struct pf_error *reterr) {
  return rule_add(rules->deny, &rules->deny_count, text, reterr);
}

int egress_allow_port(struct egress_rules *rules, const char *text, struct pf_error *reterr) {
  unsigned long port;
  if (strcmp(text, "any") == 0) {
    rules->any_port = true;
    return PF_OK;
  }
  if (!number_parse(text, 65535, &port) || port == 0)
    return pf_error_set(reterr, PF_EINVAL, "'%s' is not a port or 'any'", text);
  if (rules->port_count == EGRESS_RULES_MAX)
    return pf_error_set(reterr, PF_ELIMIT, "more than %d ports", EGRESS_RULES_MAX);
  rules->ports[rules->port_count++] = (uint16_t)port;
  return PF_OK;
}

static bool rules_name(
    const struct egress_rule *rules, size_t count, const uint8_t addr[16], uint16_t port) {
  for (size_t i = 0; i < count; i++)
    if ((rules[i].port == 0 || rules[i].port == port) &&
        prefix_holds(rules[i].network, rules[i].bits, addr))
      return true;
  return false;
}

static bool port_allowed(const struct egress_rules *rules, uint16_t port) {
  if (rules->any_port || port == 80 || port == 443) return true;
  for (size_t i = 0; i < rules->port_count; i++)
    if (rules->ports[i] == port) return true;
  return false;
}

/* The option that would allow exactly this address and port. */
static void rule_print(char text[PF_ADDR_TEXT + 8], const uint8_t addr[16], uint16_t port) {
  char ip[INET6_ADDRSTRLEN] = "";
  if (memcmp(addr, mapped_prefix, sizeof(mapped_prefix)) == 0) {
    inet_ntop(AF_INET, addr + 12, ip, sizeof(ip));
    snprintf(text, PF_ADDR_TEXT + 8, "%s/32:%u", ip, port);
  } else {
    inet_ntop(AF_INET6, addr, ip, sizeof(ip));
    snprintf(text, PF_ADDR_TEXT + 8, "[%s]/128:%u", ip, port);
  }
}

bool egress_check(
    const struct egress_rules *rules, const struct sockaddr *addr, char why[EGRESS_TEXT_MAX]) {
  uint8_t bytes[16];
  char where[PF_ADDR_TEXT], option[PF_ADDR_TEXT + 8];
  if (!addr_bytes(addr, bytes)) {
    snprintf(why, EGRESS_TEXT_MAX, "the target is %s", egress_class_text(EGRESS_FAMILY));
    return false;
  }
  uint16_t port = pf_sockaddr_port(addr);
  pf_sockaddr_print(where, addr);
  if (rules_name(rules->deny, rules->deny_count, bytes, port)) {
    snprintf(why, EGRESS_TEXT_MAX, "%s is refused by --deny-target", where);
    return false;
  }
  if (rules_name(rules->allow, rules->allow_count, bytes, port)) return true;
  enum egress_class class = classify6(bytes);
  if (class != EGRESS_PUBLIC) {
    rule_print(option, bytes, port);
    snprintf(why, EGRESS_TEXT_MAX,
        "%s is %s; start the executor with --allow-target %s to allow it", where,
        egress_class_text(class), option);
    return false;
  }
  if (port_allowed(rules, port)) return true;
  snprintf(why, EGRESS_TEXT_MAX,
      "%s is not on port 80 or 443; start the executor with --allow-port %u to allow it", where,
      port);
  return false;
}
