#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "wire/batch.h"
#include "wire/request.h"

/* ---- URLs ---- */

static const struct {
  const char *url, *host; /* host NULL: refused */
} urls[] = {
    {"http://a/", "a:80"},
    {"https://a/", "a:443"},
    {"http://a", "a:80"},
    {"http://a?x", "a:80"},
    {"http://a#x", "a:80"},
    {"HTTP://A/", "a:80"},
    {"hTtPs://Example.COM/P", "example.com:443"},
    {"http://a:1/", "a:1"},
    {"http://a:65535/", "a:65535"},
    {"https://a:80/", "a:80"},
    {"http://localhost:8790/x?y=1&z=%20#f", "localhost:8790"},
    {"http://127.0.0.1/", "127.0.0.1:80"},
    {"http://[::1]/", "[::1]:80"},
    {"http://[::1]:8080/", "[::1]:8080"},
    {"http://[2001:DB8::1]/", "[2001:db8::1]:80"},
    {"http://[::ffff:1.2.3.4]/", "[::ffff:1.2.3.4]:80"},
    {"http://xn--bcher-kva.example/", "xn--bcher-kva.example:80"},
    {"http://a_b.c-d./", "a_b.c-d.:80"},
    {"http://2130706433/",
        "2130706433:80"}, /* an address in disguise: judged where it is dialled */
    {"http://a/@b", "a:80"},
    {"http://a/?u=http://b:c@d", "a:80"},
    {"http://a/:99999", "a:80"},
    {"http://a/%0d%0a", "a:80"},
    {"http://a/{}|^`\"<>", "a:80"},
    {"", NULL},
    {"http", NULL},
    {"http:", NULL},
    {"http:/", NULL},
    {"http://", NULL},
    {"http:///", NULL},
    {"http:///a", NULL},
    {"http:/a", NULL},
    {"http:a", NULL},
    {"//a/", NULL},
    {"a/", NULL},
    {"/a", NULL},
    {"localhost:80/", NULL},
    {" http://a/", NULL},
    {"http://a/ ", NULL},
    {"http://a/ b", NULL},
    {"http://a b/", NULL},
    {"ftp://a/", NULL},
    {"file:///etc/passwd", NULL},
    {"gopher://a/", NULL},
    {"ws://a/", NULL},
    {"httpx://a/", NULL},
    {"http+unix://a/", NULL},
    {"javascript:alert(1)", NULL},
    {"http://u@a/", NULL},
    {"http://u:p@a/", NULL},
    {"http://@a/", NULL},
    {"http://a@/", NULL},
    {"http://a\\@b/", NULL},
    {"http://a/\\b", NULL},
    {"http:\\\\a\\", NULL},
    {"http://a\r\nHost: b/", NULL},
    {"http://a/\n", NULL},
    {"http://a/\t", NULL},
    {"http://a/\x7f", NULL},
    {"http://a/\xc3\xa9", NULL},
    {"http://\xc3\xa9/", NULL},
    {"http://\xe2\x93\x9bocalhost/", NULL},
    {"http://127\xe3\x80\x82"
     "0.0.1/",
        NULL},
    {"http://127%2e0%2e0%2e1/", NULL},
    {"http://%31/", NULL},
    {"http://a%00/", NULL},
    {"http://a:/", NULL},
    {"http://a:0/", NULL},
    {"http://a:65536/", NULL},
    {"http://a:99999/", NULL},
    {"http://a:080/", NULL},
    {"http://a:+80/", NULL},
    {"http://a:8a/", NULL},
    {"http://a:123456/", NULL},
    {"http://a:80:80/", NULL},
    {"http://a: 80/", NULL},
    {"http://:80/", NULL},
    {"http://?x", NULL},
    {"http://#x", NULL},
    {"http://.a/", NULL},
    {"http://a,b/", NULL},
    {"http://a;b/", NULL},
    {"http://a*b/", NULL},
    {"http://a!/", NULL},
    {"http://(a)/", NULL},
    {"http://[::1/", NULL},
    {"http://::1/", NULL},
    {"http://[]/", NULL},
    {"http://[:]/", NULL},
    {"http://[::1]x/", NULL},
    {"http://[::1]80/", NULL},
    {"http://[fe80::1%25eth0]/", NULL},
    {"http://[fe80::1%eth0]/", NULL},
    {"http://[v1.a]/", NULL},
    {"http://[localhost]/", NULL},
    {"http://a[::1]/", NULL},
    {"http://[[::1]]/", NULL},
};

static struct wire_request get(const char *url) {
  return (struct wire_request){.url = pf_slice_str(url), .method = pf_slice_str("GET")};
}

static void test_urls(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(urls); i++) {
    char host[WIRE_HOST_MAX] = "";
    struct pf_error why = {0};
    struct wire_request request = get(urls[i].url);
    int err = wire_request_check(&request, host, &why);
    if (err != (urls[i].host ? PF_OK : PF_EINVAL)) fail_msg("%d for %s", err, urls[i].url);
    if (urls[i].host)
      assert_string_equal(host, urls[i].host);
    else
      assert_int_equal(strncmp(why.text, "url: ", 5), 0);
  }
}

static void test_url_with_nul(void **state) {
  (void)state;
  char host[WIRE_HOST_MAX];
  assert_int_equal(wire_url_check(pf_slice("http://a\0b/", 11), host, NULL), PF_EINVAL);
  assert_int_equal(wire_url_check(pf_slice("http://a/\0", 10), host, NULL), PF_EINVAL);
}

static void test_url_lengths(void **state) {
  (void)state;
  static char url[WIRE_URL_MAX + 1];
  char host[WIRE_HOST_MAX];
  memset(url, 'a', sizeof(url));
  memcpy(url, "http://h/", 9);
  assert_int_equal(wire_url_check(pf_slice(url, WIRE_URL_MAX), host, NULL), PF_OK);
  assert_int_equal(wire_url_check(pf_slice(url, WIRE_URL_MAX + 1), host, NULL), PF_ELIMIT);
  memset(url, 'a', sizeof(url)); /* the longest host and port fit WIRE_HOST_MAX */
  memcpy(url, "https://", 8);
  memcpy(url + 8 + 253, ":65535", 6);
  assert_int_equal(wire_url_check(pf_slice(url, 8 + 253 + 6), host, NULL), PF_OK);
  assert_int_equal(strlen(host), 253 + 6);
  assert_int_equal(wire_url_check(pf_slice(url, 8 + 253), host, NULL), PF_OK);
  url[8 + 253] = 'a';
  assert_int_equal(wire_url_check(pf_slice(url, 8 + 254), host, NULL), PF_EINVAL);
}

/* Whatever is accepted has exactly one reading of its authority. */
static void test_random_urls(void **state) {
  (void)state;
  struct pf_rand rand = {5};
  static const char letters[] = "ab1:/@[].%\\?#- \x80";
  unsigned taken = 0;
  for (int i = 0; i < 10000; i++) {
    char url[40] = "http://", host[WIRE_HOST_MAX];
    size_t len = 7 + pf_rand_below(&rand, 8);
    for (size_t k = 7; k < len; k++)
      url[k] = letters[pf_rand_below(&rand, sizeof(letters) - 1)];
    if (wire_url_check(pf_slice(url, len), host, NULL)) continue;
    taken++;
    size_t authority = strcspn(url + 7, "/?#");
    assert_null(memchr(url + 7, '@', authority));
    assert_null(memchr(url + 7, '%', authority));
    assert_int_equal(strncmp(host, url + 7, authority), 0);
    assert_non_null(strrchr(host, ':'));
  }
  assert_true(taken > 100);
}

/* ---- methods, bodies, keys ---- */

static int check(const struct wire_request *request, const char *expected) {
  char host[WIRE_HOST_MAX];
  struct pf_error why = {0};
  int err = wire_request_check(request, host, &why);
  if (err && !strstr(why.text, expected)) fail_msg("'%s' lacks '%s'", why.text, expected);
  return err;
}

static void test_methods(void **state) {
  (void)state;
  static const struct {
    const char *name;
    bool allowed, repeatable, body;
  } methods[] = {{"GET", true, true, false}, {"HEAD", true, true, false},
      {"POST", true, false, true}, {"PUT", true, true, true}, {"PATCH", true, false, true},
      {"DELETE", true, true, true}, {"OPTIONS", true, true, true}, {"CONNECT", false, false, false},
      {"TRACE", false, false, false}, {"get", false, false, false}, {"", false, false, false},
      {"GETX", false, false, false}, {"GE", false, false, false},
      {"GET / HTTP/1.1\r\n", false, false, false}, {"PROPFIND", false, false, false}};
  for (size_t i = 0; i < PF_COUNT(methods); i++) {
    struct wire_request request = get("http://a/");
    request.method = pf_slice_str(methods[i].name);
    assert_int_equal(check(&request, "method"), methods[i].allowed ? PF_OK : PF_EINVAL);
    assert_int_equal(wire_request_repeatable(&request), methods[i].repeatable);
    request.idempotency_key = pf_slice_str("k");
    assert_true(wire_request_repeatable(&request));
    request.body = pf_slice_str("x");
    if (methods[i].allowed)
      assert_int_equal(check(&request, "body"), methods[i].body ? PF_OK : PF_EINVAL);
  }
}

static void test_body_at_limit(void **state) {
  (void)state;
  char *body = calloc(1, WIRE_REQUEST_BODY_MAX + 1);
  assert_non_null(body);
  struct wire_request request = get("http://a/");
  request.method = pf_slice_str("POST");
  request.body = pf_slice(body, WIRE_REQUEST_BODY_MAX);
  assert_int_equal(check(&request, "body"), PF_OK);
  request.body.len++;
  assert_int_equal(check(&request, "body"), PF_ELIMIT);
  free(body);
}

static void test_idempotency_key(void **state) {
  (void)state;
  static char key[WIRE_KEY_MAX + 1];
  memset(key, 'k', sizeof(key));
  struct wire_request request = get("http://a/");
  request.idempotency_key = pf_slice(key, WIRE_KEY_MAX);
  assert_int_equal(check(&request, "idempotencyKey"), PF_OK);
  request.idempotency_key.len++;
  assert_int_equal(check(&request, "idempotencyKey"), PF_ELIMIT);
  static const char *const bad[] = {"a b", "a\r\nX: y", "\xc3\xa9", "\x7f", "\t"};
  for (size_t i = 0; i < PF_COUNT(bad); i++) {
    request.idempotency_key = pf_slice_str(bad[i]);
    assert_int_equal(check(&request, "idempotencyKey"), PF_EINVAL);
  }
}

/* ---- headers ---- */

static int check_header(struct pf_slice name, struct pf_slice value) {
  struct wire_header header = {name, value};
  struct wire_request request = get("http://a/");
  request.headers = &header;
  request.header_count = 1;
  return check(&request, "headers");
}

static void test_header_grammar(void **state) {
  (void)state;
  struct pf_slice good = pf_slice_str("X-A"), value = pf_slice_str("v");
  for (int c = 0; c < 256; c++) {
    char one = (char)c;
    bool token = c && (strchr("!#$%&'*+-.^_`|~", c) || (c >= '0' && c <= '9') ||
                          (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'));
    char name[] = {'X', one, 'a'}, text[] = {'a', one, 'b'};
    assert_int_equal(check_header(pf_slice(name, 3), value), token ? PF_OK : PF_EINVAL);
    bool text_fine = (c >= 0x20 && c != 0x7f) || c == '\t';
    assert_int_equal(check_header(good, pf_slice(text, 3)), text_fine ? PF_OK : PF_EINVAL);
    bool edge_fine = text_fine && c != ' ' && c != '\t';
    assert_int_equal(check_header(good, pf_slice(text, 2)), edge_fine ? PF_OK : PF_EINVAL);
    assert_int_equal(check_header(good, pf_slice(text + 1, 2)), edge_fine ? PF_OK : PF_EINVAL);
  }
  assert_int_equal(check_header(pf_slice_str(""), value), PF_EINVAL);
  assert_int_equal(check_header(good, pf_slice_str("")), PF_OK);
}

static void test_headers_that_are_ours(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int err;
  } cases[] = {{"Host", PF_EINVAL}, {"host", PF_EINVAL}, {"hOST", PF_EINVAL},
      {"Connection", PF_EINVAL}, {"Keep-Alive", PF_EINVAL}, {"Proxy-Authorization", PF_EINVAL},
      {"Proxy-", PF_EINVAL}, {"proxy-connection", PF_EINVAL}, {"TE", PF_EINVAL},
      {"Trailer", PF_EINVAL}, {"Transfer-Encoding", PF_EINVAL}, {"Upgrade", PF_EINVAL},
      {"Content-Length", PF_EINVAL}, {"Expect", PF_EINVAL}, {"Metadata", PF_EINVAL},
      {"Metadata-Flavor", PF_EINVAL}, {"X-aws-ec2-metadata-token", PF_EINVAL},
      {"X-AWS-EC2-Metadata-Token-TTL-Seconds", PF_EINVAL}, {"X-Forwarded-For", PF_EINVAL},
      {"x-forwarded-host", PF_EINVAL}, {"X-Forwarded-", PF_EINVAL}, {"X-Pf-Version", PF_EINVAL},
      {"x-pf-anything", PF_EINVAL}, {"Hosts", PF_OK}, {"X-Host", PF_OK}, {"Proxy", PF_OK},
      {"TEA", PF_OK}, {"Trailers", PF_OK}, {"Metadata-X", PF_OK}, {"X-Forwarded", PF_OK},
      {"X-Pfx", PF_OK}, {"Content-Type", PF_OK}, {"Authorization", PF_OK}, {"Cookie", PF_OK},
      {"Accept-Encoding", PF_OK}, {"User-Agent", PF_OK}, {"Idempotency-Key", PF_OK}};
  for (size_t i = 0; i < PF_COUNT(cases); i++)
    if (check_header(pf_slice_str(cases[i].name), pf_slice_str("v")) != cases[i].err)
      fail_msg("%s", cases[i].name);
  struct wire_header header = {pf_slice_str("idempotency-KEY"), pf_slice_str("a")};
  struct wire_request request = get("http://a/");
  request.headers = &header;
  request.header_count = 1;
  request.idempotency_key = pf_slice_str("b");
  assert_int_equal(check(&request, "not both"), PF_EINVAL);
}

static void test_header_limits(void **state) {
  (void)state;
  static struct wire_header headers[WIRE_HEADERS_MAX + 1];
  static char bytes[WIRE_HEADER_BYTES_MAX];
  memset(bytes, 'v', sizeof(bytes));
  for (size_t i = 0; i < PF_COUNT(headers); i++)
    headers[i] = (struct wire_header){pf_slice_str("a"), pf_slice_str("b")};
  struct wire_request request = get("http://a/");
  request.headers = headers;
  request.header_count = WIRE_HEADERS_MAX;
  assert_int_equal(check(&request, "headers"), PF_OK);
  request.header_count++;
  assert_int_equal(check(&request, "headers"), PF_ELIMIT);
  request.header_count = 2; /* "a" + "b" + "a" are three of the bytes */
  headers[1].value = pf_slice(bytes, WIRE_HEADER_BYTES_MAX - 3);
  assert_int_equal(check(&request, "headers"), PF_OK);
  headers[1].value.len++;
  assert_int_equal(check(&request, "headers"), PF_ELIMIT);
}

/* ---- names and statuses ---- */

static void test_names(void **state) {
  (void)state;
  static char name[WIRE_NAME_MAX + 1];
  memset(name, 'n', sizeof(name));
  assert_true(wire_name_valid(pf_slice(name, WIRE_NAME_MAX)));
  assert_false(wire_name_valid(pf_slice(name, WIRE_NAME_MAX + 1)));
  static const char *const good[] = {"a", "Z", "on_token", "a.b-c_9"};
  static const char *const bad[] = {
      "", "9a", "_a", "-a", ".a", "a b", "a/b", "a\n", "\xc3\xa9", "a%"};
  for (size_t i = 0; i < PF_COUNT(good); i++)
    assert_true(wire_name_valid(pf_slice_str(good[i])));
  for (size_t i = 0; i < PF_COUNT(bad); i++)
    assert_false(wire_name_valid(pf_slice_str(bad[i])));
  assert_false(wire_name_valid(pf_slice("a\0", 2)));
}

static void test_statuses_named(void **state) {
  (void)state;
  struct wire_retry retry = {.statuses = {429, 5}, .status_count = 2};
  static const int named[] = {429, 500, 503, 599}, others[] = {0, 5, 99, 200, 428, 430, 499, 600};
  for (size_t i = 0; i < PF_COUNT(named); i++)
    assert_true(wire_retry_names(&retry, named[i]));
  for (size_t i = 0; i < PF_COUNT(others); i++)
    assert_false(wire_retry_names(&retry, others[i]));
  retry.status_count = 0;
  assert_false(wire_retry_names(&retry, 500));
}

/* ---- the bytes that travel ---- */

static struct pf_slice some_text(struct pf_rand *r, struct pf_arena *arena, size_t max) {
  static const char letters[] = "abc/%\"\\\t\n\x01\xc3";
  size_t len = pf_rand_below(r, max + 1);
  char *text = pf_arena_alloc(arena, len + 1);
  for (size_t i = 0; i < len; i++)
    text[i] = letters[pf_rand_below(r, sizeof(letters) - 2)]; /* without the broken UTF-8 */
  return pf_slice(text, len);
}

static void test_round_trip(void **state) {
  (void)state;
  struct pf_rand r = {3};
  struct pf_arena arena;
  struct pf_buf buf;
  pf_arena_init(&arena);
  pf_buf_init(&buf, 1 << 20);
  for (int i = 0; i < 10000; i++) {
    pf_arena_clear(&arena);
    pf_buf_clear(&buf);
    struct wire_header headers[8];
    struct wire_request in = {.url = some_text(&r, &arena, 60),
                            .method = some_text(&r, &arena, 16),
                            .headers = headers,
                            .header_count = pf_rand_below(&r, 9),
                            .idempotency_key = some_text(&r, &arena, 10),
                            .redirect = (enum wire_redirect)pf_rand_below(&r, 3),
                            .include = (unsigned)pf_rand_below(&r, 16)},
                        out;
    for (size_t k = 0; k < in.header_count; k++)
      headers[k] = (struct wire_header){some_text(&r, &arena, 20), some_text(&r, &arena, 20)};
    char body[64];
    in.body = pf_slice(body, pf_rand_below(&r, sizeof(body) + 1));
    for (size_t k = 0; k < in.body.len; k++)
      body[k] = (char)pf_rand_u64(&r);
    wire_request_encode(&buf, &in);
    assert_int_equal(wire_request_decode(&out, pf_buf_view(&buf), &arena, NULL), PF_OK);
    assert_true(pf_slice_eq(in.url, out.url) && pf_slice_eq(in.method, out.method) &&
                pf_slice_eq(in.body, out.body) &&
                pf_slice_eq(in.idempotency_key, out.idempotency_key));
    assert_true(in.redirect == out.redirect && in.include == out.include &&
                in.header_count == out.header_count);
    for (size_t k = 0; k < in.header_count; k++)
      assert_true(pf_slice_eq(headers[k].name, out.headers[k].name) &&
                  pf_slice_eq(headers[k].value, out.headers[k].value));
  }
  pf_buf_done(&buf);
  pf_arena_done(&arena);
}

static int decode_text(const char *head, size_t body_len) {
  struct pf_buf buf;
  struct pf_arena arena;
  struct wire_request out;
  char *body = calloc(1, body_len + 1);
  assert_non_null(body);
  pf_buf_init(&buf, (size_t)4 << 20);
  pf_arena_init(&arena);
  batch_append(&buf, pf_slice_str(head), pf_slice(body, body_len));
  int err = wire_request_decode(&out, pf_buf_view(&buf), &arena, NULL);
  for (size_t cut = 0; !err && cut < buf.len && cut < 200; cut++)
    assert_int_equal(wire_request_decode(&out, pf_slice(buf.data, cut), &arena, NULL), PF_EINVAL);
  if (!err) { /* one record, nothing behind it */
    batch_append(&buf, pf_slice_str("{}"), pf_slice_str(""));
    assert_int_equal(wire_request_decode(&out, pf_buf_view(&buf), &arena, NULL), PF_EINVAL);
  }
  pf_buf_done(&buf);
  pf_arena_done(&arena);
  free(body);
  return err;
}

static void test_decode_refuses(void **state) {
  (void)state;
  static const struct {
    const char *head;
    int err;
  } cases[] = {{"{\"url\":\"u\",\"method\":\"m\"}", PF_OK}, {"{\"url\":\"u\"}", PF_EINVAL},
      {"{\"method\":\"m\"}", PF_EINVAL}, {"{\"url\":1,\"method\":\"m\"}", PF_EINVAL},
      {"{\"url\":\"u\",\"method\":\"aaaaaaaaaaaaaaaa\"}", PF_OK},
      {"{\"url\":\"u\",\"method\":\"aaaaaaaaaaaaaaaaa\"}", PF_ELIMIT},
      {"{\"url\":\"u\",\"method\":\"m\",\"redirect\":\"x\"}", PF_EINVAL},
      {"{\"url\":\"u\",\"method\":\"m\",\"include\":[\"x\"]}", PF_EINVAL},
      {"{\"url\":\"u\",\"method\":\"m\",\"include\":[\"body\",1]}", PF_EINVAL},
      {"{\"url\":\"u\",\"method\":\"m\",\"headers\":[[\"a\"]]}", PF_EINVAL}, {"[]", PF_EINVAL},
      {"", PF_EINVAL}, {"{}", PF_EINVAL}};
  for (size_t i = 0; i < PF_COUNT(cases); i++)
    assert_int_equal(decode_text(cases[i].head, 3), cases[i].err);
  assert_int_equal(decode_text(cases[0].head, WIRE_REQUEST_BODY_MAX), PF_OK);
  assert_int_equal(decode_text(cases[0].head, WIRE_REQUEST_BODY_MAX + 1), PF_ELIMIT);
}

static void test_decode_limits(void **state) {
  (void)state;
  static char text[WIRE_URL_MAX + 1];
  static struct wire_header headers[WIRE_HEADERS_MAX + 1];
  memset(text, 'a', sizeof(text));
  for (size_t i = 0; i < PF_COUNT(headers); i++)
    headers[i] = (struct wire_header){pf_slice_str("a"), pf_slice_str("b")};
  const struct {
    size_t url, key, headers;
    int err;
  } cases[] = {{WIRE_URL_MAX, WIRE_KEY_MAX, WIRE_HEADERS_MAX, PF_OK},
      {WIRE_URL_MAX + 1, 0, 0, PF_ELIMIT}, {1, WIRE_KEY_MAX + 1, 0, PF_ELIMIT},
      {1, 0, WIRE_HEADERS_MAX + 1, PF_ELIMIT}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct wire_request in = {.url = pf_slice(text, cases[i].url),
                            .method = pf_slice_str("GET"),
                            .idempotency_key = pf_slice(text, cases[i].key),
                            .headers = headers,
                            .header_count = cases[i].headers},
                        out;
    struct pf_buf buf;
    struct pf_arena arena;
    pf_buf_init(&buf, 1 << 20);
    pf_arena_init(&arena);
    wire_request_encode(&buf, &in);
    assert_int_equal(wire_request_decode(&out, pf_buf_view(&buf), &arena, NULL), cases[i].err);
    pf_buf_done(&buf);
    pf_arena_done(&arena);
  }
}

/* The largest headers that the check lets through still fit a record, however they are escaped. */
static void test_largest_request_fits_a_record(void **state) {
  (void)state;
  static char bytes[WIRE_HEADER_BYTES_MAX];
  memset(bytes, '"', sizeof(bytes));
  struct wire_header header = {pf_slice_str("a"), pf_slice(bytes, sizeof(bytes) - 1)};
  struct wire_request request = get("http://a/");
  request.headers = &header;
  request.header_count = 1;
  assert_int_equal(check(&request, ""), PF_OK);
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 20);
  wire_request_encode(&buf, &request);
  assert_int_equal(buf.err, PF_OK);
  pf_buf_done(&buf);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_urls),
      cmocka_unit_test(test_url_with_nul),
      cmocka_unit_test(test_url_lengths),
      cmocka_unit_test(test_random_urls),
      cmocka_unit_test(test_methods),
      cmocka_unit_test(test_body_at_limit),
      cmocka_unit_test(test_idempotency_key),
      cmocka_unit_test(test_header_grammar),
      cmocka_unit_test(test_headers_that_are_ours),
      cmocka_unit_test(test_header_limits),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_statuses_named),
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_decode_refuses),
      cmocka_unit_test(test_decode_limits),
      cmocka_unit_test(test_largest_request_fits_a_record),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
