#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "executor/egress.h"

struct address {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  };
};

static struct address address_of(const char *text, uint16_t port) {
  struct address a = {0};
  if (inet_pton(AF_INET, text, &a.v4.sin_addr) == 1) {
    a.v4.sin_family = AF_INET;
    a.v4.sin_port = htons(port);
  } else {
    assert_int_equal(inet_pton(AF_INET6, text, &a.v6.sin6_addr), 1);
    a.v6.sin6_family = AF_INET6;
    a.v6.sin6_port = htons(port);
  }
  return a;
}

/* Each range by its first and last address and by the neighbours outside. */
static const struct {
  const char *address;
  enum egress_class class;
} vectors[] = {
    {"0.0.0.0", EGRESS_UNSPECIFIED},
    {"0.255.255.255", EGRESS_UNSPECIFIED},
    {"1.0.0.0", EGRESS_PUBLIC},
    {"9.255.255.255", EGRESS_PUBLIC},
    {"10.0.0.0", EGRESS_PRIVATE},
    {"10.255.255.255", EGRESS_PRIVATE},
    {"11.0.0.0", EGRESS_PUBLIC},
    {"100.63.255.255", EGRESS_PUBLIC},
    {"100.64.0.0", EGRESS_SHARED},
    {"100.127.255.255", EGRESS_SHARED},
    {"100.128.0.0", EGRESS_PUBLIC},
    {"126.255.255.255", EGRESS_PUBLIC},
    {"127.0.0.0", EGRESS_LOOPBACK},
    {"127.0.0.1", EGRESS_LOOPBACK},
    {"127.255.255.255", EGRESS_LOOPBACK},
    {"128.0.0.0", EGRESS_PUBLIC},
    {"168.63.129.15", EGRESS_PUBLIC},
    {"168.63.129.16", EGRESS_CLOUD},
    {"168.63.129.17", EGRESS_PUBLIC},
    {"169.253.255.255", EGRESS_PUBLIC},
    {"169.254.0.0", EGRESS_LINK_LOCAL},
    {"169.254.169.254", EGRESS_LINK_LOCAL}, /* metadata services */
    {"169.254.255.255", EGRESS_LINK_LOCAL},
    {"169.255.0.0", EGRESS_PUBLIC},
    {"172.15.255.255", EGRESS_PUBLIC},
    {"172.16.0.0", EGRESS_PRIVATE},
    {"172.31.255.255", EGRESS_PRIVATE},
    {"172.32.0.0", EGRESS_PUBLIC},
    {"191.255.255.255", EGRESS_PUBLIC},
    {"192.0.0.0", EGRESS_RESERVED},
    {"192.0.0.255", EGRESS_RESERVED},
    {"192.0.1.0", EGRESS_PUBLIC},
    {"192.0.2.0", EGRESS_RESERVED},
    {"192.0.2.255", EGRESS_RESERVED},
    {"192.0.3.0", EGRESS_PUBLIC},
    {"192.88.98.255", EGRESS_PUBLIC},
    {"192.88.99.0", EGRESS_TRANSLATION},
    {"192.88.99.255", EGRESS_TRANSLATION},
    {"192.88.100.0", EGRESS_PUBLIC},
    {"192.167.255.255", EGRESS_PUBLIC},
    {"192.168.0.0", EGRESS_PRIVATE},
    {"192.168.255.255", EGRESS_PRIVATE},
    {"192.169.0.0", EGRESS_PUBLIC},
    {"198.17.255.255", EGRESS_PUBLIC},
    {"198.18.0.0", EGRESS_RESERVED},
    {"198.19.255.255", EGRESS_RESERVED},
    {"198.20.0.0", EGRESS_PUBLIC},
    {"198.51.99.255", EGRESS_PUBLIC},
    {"198.51.100.0", EGRESS_RESERVED},
    {"198.51.100.255", EGRESS_RESERVED},
    {"198.51.101.0", EGRESS_PUBLIC},
    {"203.0.112.255", EGRESS_PUBLIC},
    {"203.0.113.0", EGRESS_RESERVED},
    {"203.0.113.255", EGRESS_RESERVED},
    {"203.0.114.0", EGRESS_PUBLIC},
    {"223.255.255.255", EGRESS_PUBLIC},
    {"224.0.0.0", EGRESS_MULTICAST},
    {"239.255.255.255", EGRESS_MULTICAST},
    {"240.0.0.0", EGRESS_RESERVED},
    {"255.255.255.255", EGRESS_RESERVED},
    {"::", EGRESS_UNSPECIFIED},
    {"::1", EGRESS_LOOPBACK},
    {"::2", EGRESS_RESERVED},
    {"::7f00:1", EGRESS_RESERVED},         /* IPv4-compatible 127.0.0.1 */
    {"::ffff:127.0.0.1", EGRESS_LOOPBACK}, /* mapped */
    {"::ffff:10.1.2.3", EGRESS_PRIVATE},
    {"::ffff:169.254.169.254", EGRESS_LINK_LOCAL},
    {"::ffff:0.0.0.0", EGRESS_UNSPECIFIED},
    {"::ffff:8.8.8.8", EGRESS_PUBLIC},
    {"::ffff:0:127.0.0.1", EGRESS_RESERVED}, /* translated, RFC 2765 */
    {"64:ff9b::7f00:1", EGRESS_TRANSLATION}, /* NAT64 */
    {"64:ff9b:1::1", EGRESS_TRANSLATION},
    {"100::1", EGRESS_RESERVED},
    {"1fff:ffff::1", EGRESS_RESERVED},
    {"2000::", EGRESS_PUBLIC},
    {"2001::1", EGRESS_TRANSLATION}, /* Teredo */
    {"2001:1ff:ffff::", EGRESS_TRANSLATION},
    {"2001:200::", EGRESS_PUBLIC},
    {"2001:db7:ffff::", EGRESS_PUBLIC},
    {"2001:db8::", EGRESS_RESERVED},
    {"2001:db8:ffff::1", EGRESS_RESERVED},
    {"2001:db9::", EGRESS_PUBLIC},
    {"2001:4860:4860::8888", EGRESS_PUBLIC},
    {"2002:7f00:1::", EGRESS_TRANSLATION}, /* 6to4 of 127.0.0.1 */
    {"2003::1", EGRESS_PUBLIC},
    {"2606:4700::1111", EGRESS_PUBLIC},
    {"3ffe:ffff::", EGRESS_PUBLIC},
    {"3fff::", EGRESS_RESERVED},
    {"3fff:fff:ffff::", EGRESS_RESERVED},
    {"3fff:1000::", EGRESS_PUBLIC},
    {"3fff:ffff::", EGRESS_PUBLIC},
    {"4000::1", EGRESS_RESERVED},
    {"5f00::1", EGRESS_RESERVED},
    {"fc00::", EGRESS_PRIVATE},
    {"fd00:ec2::254", EGRESS_PRIVATE}, /* a metadata service */
    {"fdff:ffff::1", EGRESS_PRIVATE},
    {"fe7f:ffff::", EGRESS_RESERVED},
    {"fe80::1", EGRESS_LINK_LOCAL},
    {"febf:ffff::", EGRESS_LINK_LOCAL},
    {"fec0::1", EGRESS_PRIVATE},
    {"ff00::", EGRESS_MULTICAST},
    {"ff02::1", EGRESS_MULTICAST},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", EGRESS_MULTICAST},
};

static void test_every_vector(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(vectors); i++) {
    struct address a = address_of(vectors[i].address, 80);
    if (egress_classify(&a.any) == vectors[i].class) continue;
    fail_msg("%s is %s, not %s", vectors[i].address, egress_class_text(egress_classify(&a.any)),
        egress_class_text(vectors[i].class));
  }
}

/* Whatever is not public is refused without rules, on the ports of the web too, and the text shows
 * the way. */
static void test_only_public_is_allowed(void **state) {
  (void)state;
  struct egress_rules none = {0};
  char why[EGRESS_TEXT_MAX];
  for (size_t i = 0; i < PF_COUNT(vectors); i++) {
    struct address a = address_of(vectors[i].address, 443);
    bool allowed = egress_check(&none, &a.any, why);
    assert_int_equal(allowed, vectors[i].class == EGRESS_PUBLIC);
    if (!allowed) assert_non_null(strstr(why, "--allow-target"));
  }
}

/* The option that a refusal names allows exactly that. */
static void test_the_refusal_names_the_option(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(vectors); i++) {
    struct egress_rules rules = {0};
    struct address a = address_of(vectors[i].address, 8790),
                   other = address_of(vectors[i].address, 8791);
    char why[EGRESS_TEXT_MAX], value[EGRESS_TEXT_MAX];
    if (vectors[i].class == EGRESS_PUBLIC) continue;
    assert_false(egress_check(&rules, &a.any, why));
    const char *option = strstr(why, "--allow-target ");
    assert_non_null(option);
    assert_int_equal(sscanf(option, "--allow-target %255s to allow it", value), 1);
    assert_int_equal(egress_allow(&rules, value, NULL), PF_OK);
    assert_true(egress_check(&rules, &a.any, why));
    assert_false(egress_check(&rules, &other.any, why));
  }
  struct egress_rules none = {0};
  struct address loopback = address_of("127.0.0.1", 8790);
  char why[EGRESS_TEXT_MAX];
  assert_false(egress_check(&none, &loopback.any, why));
  assert_string_equal(why, "127.0.0.1:8790 is a loopback address; start the executor with "
                           "--allow-target 127.0.0.1/32:8790 to allow it");
}

static void test_ports(void **state) {
  (void)state;
  struct egress_rules rules = {0};
  char why[EGRESS_TEXT_MAX];
  struct address odd = address_of("8.8.8.8", 8443);
  assert_false(egress_check(&rules, &odd.any, why));
  assert_non_null(strstr(why, "--allow-port 8443"));
  assert_int_equal(egress_allow_port(&rules, "8443", NULL), PF_OK);
  assert_true(egress_check(&rules, &odd.any, why));
  struct address other = address_of("8.8.8.8", 22);
  assert_false(egress_check(&rules, &other.any, why));
  assert_int_equal(egress_allow_port(&rules, "any", NULL), PF_OK);
  assert_true(egress_check(&rules, &other.any, why));
  /* A port makes no address public. */
  struct address loopback = address_of("127.0.0.1", 8443);
  assert_false(egress_check(&rules, &loopback.any, why));
  const char *bad[] = {"", "0", "65536", "-1", "80x", " 80", "all"};
  for (size_t i = 0; i < PF_COUNT(bad); i++)
    assert_int_equal(egress_allow_port(&rules, bad[i], NULL), PF_EINVAL);
}

static void test_rules(void **state) {
  (void)state;
  static const struct {
    const char *rule, *address;
    uint16_t port;
    bool allowed;
  } cases[] = {
      {"127.0.0.1", "127.0.0.1", 1, true},
      {"127.0.0.1", "127.0.0.2", 1, false},
      {"127.0.0.1:8790", "127.0.0.1", 8790, true},
      {"127.0.0.1:8790", "127.0.0.1", 8791, false},
      {"127.0.0.1/32:8790", "127.0.0.1", 8790, true},
      {"10.1.0.0/16", "10.1.255.255", 9, true},
      {"10.1.0.0/16", "10.2.0.0", 9, false},
      {"10.1.2.3/9", "10.127.0.0", 9, true},
      {"10.1.2.3/9", "10.128.0.0", 9, false},
      {"0.0.0.0/0", "127.0.0.1", 9, true},
      {"0.0.0.0/0", "::ffff:127.0.0.1", 9, true}, /* the same address */
      {"0.0.0.0/0", "::1", 9, false},
      {"::1", "::1", 9, true},
      {"::1", "127.0.0.1", 9, false},
      {"::/0", "127.0.0.1", 9, true}, /* all of IPv6 contains the mapped ones */
      {"[::1]:80", "::1", 80, true},
      {"[::1]:80", "::1", 81, false},
      {"[::1]/128:80", "::1", 80, true},
      {"[fd00::]/8:443", "fdff::1", 443, true},
      {"fd00::/8", "fdff::1", 443, true},
      {"fd00::/8:443", "fdff::1", 443, true},
      {"fd00::/8:443", "fdff::1", 80, false},
      {"[::ffff:127.0.0.1]/128", "127.0.0.1", 5, true},
  };
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct egress_rules rules = {0};
    char why[EGRESS_TEXT_MAX];
    assert_int_equal(egress_allow(&rules, cases[i].rule, NULL), PF_OK);
    struct address a = address_of(cases[i].address, cases[i].port);
    if (egress_check(&rules, &a.any, why) != cases[i].allowed)
      fail_msg("%s and %s", cases[i].rule, cases[i].address);
  }
}

static void test_bad_rules(void **state) {
  (void)state;
  const char *bad[] = {"", "localhost", "127.1", "127.0.0.1/33", "127.0.0.1/-1", "127.0.0.1/",
      "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1/8:x", "::1/129", "[::1", "[::1]x",
      "[::1]:", "::1%lo", "http://127.0.0.1", "127.0.0.1 ", "0x7f000001", "2130706433", ":80",
      "/8"};
  struct egress_rule rule;
  struct pf_error why;
  for (size_t i = 0; i < PF_COUNT(bad); i++) {
    if (egress_rule_parse(&rule, bad[i], &why) == PF_EINVAL) {
      assert_non_null(strstr(why.text, bad[i]));
      continue;
    }
    fail_msg("'%s' was accepted", bad[i]);
  }
}

static void test_deny_is_stronger(void **state) {
  (void)state;
  struct egress_rules rules = {0};
  char why[EGRESS_TEXT_MAX];
  struct address a = address_of("8.8.8.8", 80), b = address_of("8.8.4.4", 80);
  assert_int_equal(egress_allow(&rules, "8.8.8.8", NULL), PF_OK);
  assert_int_equal(egress_deny(&rules, "8.8.8.0/24", NULL), PF_OK);
  assert_false(egress_check(&rules, &a.any, why));
  assert_string_equal(why, "8.8.8.8:80 is refused by --deny-target");
  assert_true(egress_check(&rules, &b.any, why));
}

static void test_limit_of_rules(void **state) {
  (void)state;
  struct egress_rules rules = {0};
  for (int i = 0; i < EGRESS_RULES_MAX; i++) {
    assert_int_equal(egress_allow(&rules, "10.0.0.0/8", NULL), PF_OK);
    assert_int_equal(egress_allow_port(&rules, "81", NULL), PF_OK);
  }
  assert_int_equal(egress_allow(&rules, "10.0.0.0/8", NULL), PF_ELIMIT);
  assert_int_equal(egress_allow_port(&rules, "81", NULL), PF_ELIMIT);
}

static void test_other_families(void **state) {
  (void)state;
  struct egress_rules rules = {0};
  char why[EGRESS_TEXT_MAX];
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  assert_int_equal(egress_allow(&rules, "::/0", NULL), PF_OK);
  assert_int_equal(egress_classify((struct sockaddr *)&local), EGRESS_FAMILY);
  assert_false(egress_check(&rules, (struct sockaddr *)&local, why));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_vector),
      cmocka_unit_test(test_only_public_is_allowed),
      cmocka_unit_test(test_the_refusal_names_the_option),
      cmocka_unit_test(test_ports),
      cmocka_unit_test(test_rules),
      cmocka_unit_test(test_bad_rules),
      cmocka_unit_test(test_deny_is_stronger),
      cmocka_unit_test(test_limit_of_rules),
      cmocka_unit_test(test_other_families),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
