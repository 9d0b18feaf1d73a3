#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "executor/redirect.h"

static struct wire_header headers[] = {
    {{"Authorization", 13}, {"Bearer x", 8}},
    {{"X-Api-Key", 9}, {"secret", 6}},
    {{"Cookie", 6}, {"a=b", 3}},
    {{"Accept", 6}, {"text/plain", 10}},
    {{"USER-AGENT", 10}, {"me", 2}},
    {{"Content-Type", 12}, {"text/plain", 10}},
};

struct hop {
  struct wire_request request;
  struct target target;
  struct pf_arena arena;
};

static struct hop hop_from(const char *method, const char *url) {
  struct hop hop = {.request = {.url = pf_slice_str(url),
                        .method = pf_slice_str(method),
                        .headers = headers,
                        .header_count = PF_COUNT(headers),
                        .idempotency_key = pf_slice_str("key")}};
  if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
    hop.request.body = pf_slice_str("body");
  pf_arena_init(&hop.arena);
  assert_int_equal(target_parse(&hop.target, &hop.request, NULL), PF_OK);
  return hop;
}

static int hop_follow(struct hop *hop, int status, const char *location, struct pf_error *why) {
  return redirect_follow(
      &hop->request, &hop->target, status, pf_slice_str(location), &hop->arena, why);
}

static bool has_header(const struct hop *hop, const char *name) {
  for (size_t i = 0; i < hop->request.header_count; i++)
    if (pf_slice_is(hop->request.headers[i].name, name)) return true;
  return false;
}

static void test_targets(void **state) {
  (void)state;
  static const struct {
    const char *url, *host;
    uint16_t port;
    bool https, needs_lookup;
  } cases[] = {
      {"http://example.com/", "example.com", 80, false, true},
      {"HTTPS://Example.COM", "example.com", 443, true, true},
      {"http://127.0.0.1:8790/x", "127.0.0.1", 8790, false, false},
      {"http://[::1]:8790/x", "[::1]", 8790, false, false},
      {"https://[2001:DB8::1]/", "[2001:db8::1]", 443, true, false},
      {"http://localhost:1/", "localhost", 1, false, false},
      {"http://a.b.localhost/", "a.b.localhost", 80, false, false},
      {"http://localhost.example/", "localhost.example", 80, false, true},
      {"http://notlocalhost/", "notlocalhost", 80, false, true},
      {"http://127.1/", "127.1", 80, false, true}, /* whatever it resolves to is judged */
      {"http://2130706433/", "2130706433", 80, false, true},
  };
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct wire_request request = {
        .url = pf_slice_str(cases[i].url), .method = pf_slice_str("GET")};
    struct target target;
    assert_int_equal(target_parse(&target, &request, NULL), PF_OK);
    assert_string_equal(target.host, cases[i].host);
    assert_int_equal(target.port, cases[i].port);
    assert_int_equal(target.https, cases[i].https);
    assert_int_equal(target.needs_lookup, cases[i].needs_lookup);
  }
}

static void test_locations(void **state) {
  (void)state;
  static const struct {
    const char *location, *url; /* NULL: refused */
  } cases[] = {
      {"http://other.example/x", "http://other.example/x"},
      {"/x", "http://example.com/x"},
      {"x?y=1", "http://example.com/a/x?y=1"},
      {"../x", "http://example.com/x"},
      {"?q", "http://example.com/a/b?q"},
      {"//other.example/x", "http://other.example/x"},
      {"https://example.com/", "https://example.com/"},
      {"/x#fragment", "http://example.com/x"},
      {"http:///x", "http://x/"}, /* as browsers do; this is what is dialled, and judged there */
      {"/a b", "http://example.com/a%20b"},
      {"/\xc3\xa4", "http://example.com/%c3%a4"},
      {"http://user:pass@other.example/", NULL},
      {"file:///etc/passwd", NULL},
      {"gopher://other.example/", NULL},
      {"ftp://other.example/", NULL},
      {"http://other.example:0/", NULL},
      {"http://other.example:99999/", NULL},
      {"http://127.0.0.1\\@other.example/", NULL},
      {"http://\xe2\x91\xa0.example/", NULL},
  };
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct hop hop = hop_from("GET", "http://example.com/a/b");
    struct pf_error why = {0};
    int err = hop_follow(&hop, 302, cases[i].location, &why);
    bool refused = err == PF_EINVAL && strncmp(why.text, "url: ", 5) == 0;
    if (cases[i].url ? err || !pf_slice_is(hop.request.url, cases[i].url) : !refused)
      fail_msg("%s: err %d, %.*s %s", cases[i].location, err, (int)hop.request.url.len,
          hop.request.url.data, why.text);
    if (err) assert_true(pf_slice_is(hop.request.url, "http://example.com/a/b"));
    pf_arena_done(&hop.arena);
  }
}

static void test_methods(void **state) {
  (void)state;
  static const struct {
    const char *method;
    int status;
    const char *next;
  } cases[] = {
      {"GET", 301, "GET"},
      {"GET", 302, "GET"},
      {"GET", 303, "GET"},
      {"GET", 307, "GET"},
      {"GET", 308, "GET"},
      {"HEAD", 301, "HEAD"},
      {"HEAD", 303, "HEAD"},
      {"POST", 301, "GET"},
      {"POST", 302, "GET"},
      {"POST", 303, "GET"},
      {"POST", 307, "POST"},
      {"POST", 308, "POST"},
      {"PUT", 301, "PUT"},
      {"PUT", 302, "PUT"},
      {"PUT", 303, "GET"},
      {"PUT", 307, "PUT"},
      {"DELETE", 303, "GET"},
      {"DELETE", 302, "DELETE"},
      {"PATCH", 308, "PATCH"},
      {"PATCH", 303, "GET"},
  };
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct hop hop = hop_from(cases[i].method, "http://example.com/");
    assert_int_equal(hop_follow(&hop, cases[i].status, "/next", NULL), PF_OK);
    assert_true(pf_slice_is(hop.request.method, cases[i].next));
    bool became_get = strcmp(cases[i].method, cases[i].next) != 0;
    bool had_body = strcmp(cases[i].method, "GET") != 0 && strcmp(cases[i].method, "HEAD") != 0;
    assert_int_equal(hop.request.body.len > 0, had_body && !became_get);
    assert_int_equal(has_header(&hop, "Content-Type"), !became_get);
    assert_true(has_header(&hop, "Authorization")); /* the same origin */
    pf_arena_done(&hop.arena);
  }
}

static void test_headers_of_another_origin(void **state) {
  (void)state;
  const char *elsewhere[] = {"http://other.example/", "http://example.com:8080/",
      "https://example.com/", "http://sub.example.com/", "//example.com.evil.example/"};
  for (size_t i = 0; i < PF_COUNT(elsewhere); i++) {
    struct hop hop = hop_from("POST", "http://example.com/");
    assert_int_equal(hop_follow(&hop, 307, elsewhere[i], NULL), PF_OK);
    assert_false(has_header(&hop, "Authorization"));
    assert_false(has_header(&hop, "X-Api-Key"));
    assert_false(has_header(&hop, "Cookie"));
    assert_true(has_header(&hop, "Accept"));
    assert_true(has_header(&hop, "USER-AGENT"));
    assert_true(has_header(&hop, "Content-Type"));
    assert_int_equal(hop.request.idempotency_key.len, 0);
    /* Secrets do not come back with a second redirect to the first origin. */
    assert_int_equal(hop_follow(&hop, 307, "http://example.com/", NULL), PF_OK);
    assert_false(has_header(&hop, "Authorization"));
    pf_arena_done(&hop.arena);
  }
}

static void test_same_origin_keeps_headers(void **state) {
  (void)state;
  const char *here[] = {"/", "http://EXAMPLE.com/x", "http://example.com:80/", "//example.com/"};
  for (size_t i = 0; i < PF_COUNT(here); i++) {
    struct hop hop = hop_from("GET", "http://example.com/");
    assert_int_equal(hop_follow(&hop, 302, here[i], NULL), PF_OK);
    assert_int_equal(hop.request.header_count, PF_COUNT(headers));
    assert_true(pf_slice_is(hop.request.idempotency_key, "key"));
    pf_arena_done(&hop.arena);
  }
}

static void test_url_limit(void **state) {
  (void)state;
  char location[WIRE_URL_MAX + 16] = "/";
  for (int over = 0; over <= 1; over++) {
    size_t len = (size_t)(WIRE_URL_MAX + over) - strlen("http://example.com");
    memset(location + 1, 'a', len - 1);
    location[len] = '\0';
    struct hop hop = hop_from("GET", "http://example.com/");
    assert_int_equal(hop_follow(&hop, 302, location, NULL), over ? PF_ELIMIT : PF_OK);
    pf_arena_done(&hop.arena);
  }
}

static void test_statuses(void **state) {
  (void)state;
  for (int status = 200; status < 600; status++)
    assert_int_equal(redirect_status(status),
        status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_targets),
      cmocka_unit_test(test_locations),
      cmocka_unit_test(test_methods),
      cmocka_unit_test(test_headers_of_another_origin),
      cmocka_unit_test(test_same_origin_keeps_headers),
      cmocka_unit_test(test_url_limit),
      cmocka_unit_test(test_statuses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
