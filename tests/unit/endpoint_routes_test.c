#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "routes.h"
#include "base/query.h"
#include "text.h"

struct fixture {
  struct lab lab;
  struct pf_buf out;
  struct answer answer; /* of the last request */
};

#define KEYS_MAX 4

static void setup(struct fixture *f, const char *token) {
  lab_init(&f->lab, token, KEYS_MAX, 1 << 20);
  pf_buf_init(&f->out, 1 << 20);
}

static void teardown(struct fixture *f) {
  lab_done(&f->lab);
  pf_buf_done(&f->out);
}

/* Sends "METHOD target" with extra header lines; returns the status, 0 if nothing was prepared. */
static int ask_with(struct fixture *f, const char *line, const char *headers, const char *body) {
  char text[HTTP_TARGET_MAX];
  struct http_request req;
  int len = snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: h\r\n%s\r\n", line, headers);
  assert_int_equal(http_parse_head(&req, text, (size_t)len, sizeof(text)), len);
  pf_buf_clear(&f->out);
  f->answer = routes_answer(&f->lab, &req, pf_slice_str(body), &f->out);
  int status = 0;
  pf_buf_append(&f->out, "", 1);
  assert_int_equal(f->out.err, PF_OK);
  if (f->out.len > 1) assert_int_equal(sscanf(f->out.data, "HTTP/1.1 %d ", &status), 1);
  return status;
}

static int ask(struct fixture *f, const char *line) {
  return ask_with(f, line, "", "");
}

static const char *body_of(const struct fixture *f) {
  const char *end = strstr(f->out.data, "\r\n\r\n");
  assert_non_null(end);
  return end + 4;
}

static void test_first_segment_may_be_anything(void **state) {
  (void)state;
  struct fixture f;
  setup(&f, NULL);
  assert_int_equal(ask(&f, "GET /uuid"), 200);
  assert_int_equal(strlen(body_of(&f)), 47);
  assert_int_equal(ask(&f, "GET /latency-test/uuid?x=1"), 200);
  assert_int_equal(ask(&f, "GET /status/201"), 201);
  assert_int_equal(ask(&f, "GET /status/status/201"), 201);
  assert_int_equal(
      ask(&f, "GET /status/uuid"), 200); /* status/{code} does not fit, {any}/uuid does */
  assert_int_equal(ask(&f, "GET /a/b/uuid"), 404);
  assert_int_equal(ask(&f, "GET /uuid/"), 404);
  assert_int_equal(ask(&f, "GET /status"), 404);
  assert_int_equal(ask(&f, "GET /nothing"), 404);
  assert_int_equal(ask(&f, "GET /"), 200);
  teardown(&f);
}

static void test_uuids_differ_and_are_version_4(void **state) {
  (void)state;
  struct fixture f;
  char first[48];
  setup(&f, NULL);
  ask(&f, "GET /uuid");
  snprintf(first, sizeof(first), "%s", body_of(&f));
  ask(&f, "GET /uuid");
  assert_string_not_equal(first, body_of(&f));
  assert_int_equal(first[9 + 14], '4');
  assert_non_null(strchr("89ab", first[9 + 19]));
  assert_int_equal(first[9 + 8], '-');
  assert_int_equal(first[9 + 23], '-');
  teardown(&f);
}

static void test_arguments_at_max_and_one_more(void **state) {
  (void)state;
  static const struct {
    const char *fits, *too_large;
  } cases[] = {
      {"GET /status/599", "GET /status/600"},
      {"GET /delay/86400000", "GET /delay/86400001"},
      {"GET /bytes/1073741824", "GET /bytes/1073741825"},
      {"GET /array/10000", "GET /array/10001"},
      {"GET /stream/1000000", "GET /stream/1000001"},
      {"GET /redirect/1000", "GET /redirect/1001"},
      {"GET /flaky/1000000", "GET /flaky/1000001"},
      {"GET /retry-after/86400", "GET /retry-after/86401"},
  };
  struct fixture f;
  setup(&f, NULL);
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    assert_int_not_equal(ask(&f, cases[i].fits), 400);
    assert_int_equal(ask(&f, cases[i].too_large), 400);
  }
  assert_int_equal(ask(&f, "GET /status/200"), 200);
  assert_int_equal(ask(&f, "GET /status/199"), 400);
  assert_int_equal(ask(&f, "GET /delay/-1"), 400);
  assert_int_equal(ask(&f, "GET /delay/1x"), 400);
  teardown(&f);
}

static void test_token_is_asked_for_everywhere_but_health(void **state) {
  (void)state;
  struct fixture f;
  setup(&f, "s3cret+");
  assert_int_equal(ask(&f, "GET /uuid"), 401);
  assert_int_equal(ask(&f, "GET /uuid?token=s3cret"), 401);
  assert_int_equal(ask(&f, "GET /uuid?token=s3cret%2Bx"), 401);
  assert_int_equal(ask(&f, "GET /uuid?token="), 401);
  assert_int_equal(ask(&f, "GET /uuid?a=b&token=s3cret%2B"), 200);
  assert_int_equal(ask_with(&f, "GET /uuid", "X-Test-Token: s3cret+\r\n", ""), 200);
  assert_int_equal(ask_with(&f, "GET /uuid", "X-Test-Token: S3CRET+\r\n", ""), 401);
  assert_int_equal(ask(&f, "DELETE /hits"), 401);
  assert_int_equal(ask(&f, "GET /health"), 200);
  teardown(&f);
}

static void test_methods(void **state) {
  (void)state;
  struct fixture f;
  setup(&f, NULL);
  assert_int_equal(ask(&f, "POST /uuid"), 200);
  assert_int_equal(ask(&f, "BREW /uuid"), 200);
  assert_int_equal(ask(&f, "POST /health"), 405);
  assert_non_null(strstr(f.out.data, "\r\nAllow: GET, HEAD\r\n"));
  assert_int_equal(ask(&f, "GE /health"), 405);
  assert_int_equal(ask(&f, "PUT /hits/k"), 405);
  assert_int_equal(ask(&f, "HEAD /uuid"), 200);
  assert_non_null(strstr(f.out.data, "\r\nContent-Length: 47\r\n"));
  assert_string_equal(body_of(&f), "");
  assert_int_equal(ask(&f, "HEAD /bytes/5"), 200);
  assert_int_equal(f.answer.source, ANSWER_NOTHING);
  teardown(&f);
}

static void test_hits_count_by_key(void **state) {
  (void)state;
  struct fixture f;
  setup(&f, NULL);
  ask(&f, "GET /hits/a%20b");
  assert_string_equal(body_of(&f), "{\"key\":\"a b\",\"hits\":0}");
  ask(&f, "GET /uuid?key=a+b");
  ask_with(&f, "POST /x/hang", "X-Key: a b\r\n", "");
  ask(&f, "GET /uuid?key=other");
  ask(&f, "GET /nothing?key=a+b"); /* no endpoint, no hit */
  ask(&f, "GET /hits/a%20b?key=a+b");
  assert_string_equal(body_of(&f), "{\"key\":\"a b\",\"hits\":2}");
  ask(&f, "DELETE /hits/a%20b");
  assert_string_equal(body_of(&f), "{\"key\":\"a b\",\"hits\":0}");
  ask(&f, "GET /hits");
  assert_string_equal(body_of(&f), "{\"keys\":1}");
  ask(&f, "DELETE /hits");
  assert_string_equal(body_of(&f), "{\"keys\":0}");
  teardown(&f);
}

static void test_keys_at_max_and_one_more(void **state) {
  (void)state;
  struct fixture f;
  char line[HITS_KEY_MAX + 64];
  setup(&f, NULL);
  snprintf(line, sizeof(line), "GET /uuid?key=%0*d", HITS_KEY_MAX, 1);
  assert_int_equal(ask(&f, line), 200);
  snprintf(line, sizeof(line), "GET /uuid?key=%0*d", HITS_KEY_MAX + 1, 1);
  assert_int_equal(ask(&f, line), 400);
  assert_int_equal(ask(&f, "GET /uuid?key="), 400);
  for (int i = 2; i <= KEYS_MAX; i++) {
    snprintf(line, sizeof(line), "GET /uuid?key=%d", i);
    assert_int_equal(ask(&f, line), 200);
  }
  assert_int_equal(ask(&f, "GET /uuid?key=more"), 503);
  assert_int_equal(ask(&f, "GET /uuid?key=2"), 200); /* known ones go on */
  assert_int_equal(ask(&f, "DELETE /hits/2"), 200);
  assert_int_equal(ask(&f, "GET /uuid?key=more"), 200);
  teardown(&f);
}

static void test_flaky_fails_as_often_as_asked(void **state) {
  (void)state;
  struct fixture f;
  setup(&f, NULL);
  assert_int_equal(ask(&f, "GET /flaky/2?key=a"), 503);
  assert_int_equal(ask(&f, "GET /flaky/2?key=b&fail=reset"), 0);
  assert_int_equal(f.answer.end, ANSWER_RESET);
  assert_int_equal(ask(&f, "GET /flaky/2?key=a"), 503);
  assert_int_equal(ask(&f, "GET /flaky/2?key=a"), 200);
  assert_int_equal(ask(&f, "GET /flaky/2?key=a"), 200);
  assert_int_equal(ask(&f, "GET /flaky/1"), 503); /* without a key the path is one */
  assert_int_equal(ask(&f, "GET /flaky/1?fail=status"), 200);
  assert_int_equal(ask(&f, "GET /flaky/0"), 200);
  assert_int_equal(ask(&f, "DELETE /hits"), 200);
  assert_int_equal(ask(&f, "GET /retry-after/7?times=1&key=c&status=429"), 429);
  assert_non_null(strstr(f.out.data, "\r\nRetry-After: 7\r\n"));
  assert_int_equal(ask(&f, "GET /retry-after/7?times=1&key=c&status=429"), 200);
  teardown(&f);
}

static void test_redirects_keep_prefix_and_query(void **state) {
  (void)state;
  struct fixture f;
  setup(&f, NULL);
  assert_int_equal(ask(&f, "GET /latency-test/redirect/2?token=t&status=307"), 307);
  assert_non_null(
      strstr(f.out.data, "\r\nLocation: /latency-test/redirect/1?token=t&status=307\r\n"));
  assert_int_equal(ask(&f, "GET /redirect/0"), 200);
  assert_int_equal(ask(&f, "GET /redirect/1?status=304"), 302);
  assert_int_equal(ask(&f, "GET /redirect-to?url=http%3A%2F%2Fa%2F%3Fb%26c"), 302);
  assert_non_null(strstr(f.out.data, "\r\nLocation: http://a/?b&c\r\n"));
  assert_int_equal(ask(&f, "GET /redirect-to?url=a%0d%0aSet-Cookie:x"), 400);
  assert_int_equal(ask(&f, "GET /redirect-to"), 400);
  teardown(&f);
}

static void test_echo_tells_all(void **state) {
  (void)state;
  struct fixture f;
  setup(&f, NULL);
  assert_int_equal(ask_with(&f, "PATCH /x/echo?q=1", "X-Odd: \"\\\xff\r\n", "gr\xc3\xbc\n"), 200);
  assert_string_equal(body_of(&f),
      "{\"method\":\"PATCH\",\"path\":\"/x/echo\",\"query\":\"q=1\",\"headers\":[[\"Host\",\"h\"],"
      "[\"X-Odd\",\"\\\"\\\\\\u00ff\"]],\"body\":\"gr\xc3\xbc\\u000a\"}");
  assert_int_equal(ask_with(&f, "PUT /echo", "", "\xff\xfe"), 200);
  assert_non_null(strstr(body_of(&f), ",\"bodyBase64\":\"//4=\"}"));
  teardown(&f);
}

static void test_only_echo_keeps_bodies(void **state) {
  (void)state;
  struct http_request req;
  const char *echo = "POST /x/echo HTTP/1.1\r\nHost: h\r\n\r\n",
             *uuid = "POST /uuid HTTP/1.1\r\nHost: h\r\n\r\n";
  assert_true(http_parse_head(&req, echo, strlen(echo), 1000) > 0);
  assert_true(routes_keep_body(&req));
  assert_true(http_parse_head(&req, uuid, strlen(uuid), 1000) > 0);
  assert_false(routes_keep_body(&req));
}

/* ---- the plan, step by step ---- */

static void test_a_drip_is_a_byte_per_pause(void **state) {
  (void)state;
  struct fixture f;
  struct pf_buf out;
  setup(&f, NULL);
  pf_buf_init(&out, 1 << 20);
  assert_int_equal(ask(&f, "GET /drip?bytes=3&ms=50"), 200);
  pf_buf_clear(&f.out);
  pf_buf_str(&f.out, "head");
  assert_true(answer_step(&f.answer, &f.out, &out));
  assert_int_equal(f.answer.wait_ms, 0); /* the first byte goes with the head */
  for (size_t sent = 5; sent <= 7; sent++) {
    assert_true(answer_step(&f.answer, &f.out, &out));
    assert_int_equal(out.len, sent);
    assert_int_equal(f.answer.wait_ms, sent < 7 ? 50 : 0);
  }
  assert_false(answer_step(&f.answer, &f.out, &out));
  assert_true(pf_slice_is(pf_buf_view(&out), "head012"));
  pf_buf_done(&out);
  teardown(&f);
}

static void test_a_stream_is_chunks_for_1_1_and_plain_for_1_0(void **state) {
  (void)state;
  struct fixture f;
  struct pf_buf out;
  setup(&f, NULL);
  pf_buf_init(&out, 1 << 20);
  assert_int_equal(ask(&f, "GET /stream/2"), 200);
  pf_buf_clear(&f.out);
  while (answer_step(&f.answer, &f.out, &out))
    assert_int_equal(f.answer.wait_ms, 0);
  assert_true(
      pf_slice_is(pf_buf_view(&out), "b\r\n{\"line\":0}\n\r\nb\r\n{\"line\":1}\n\r\n0\r\n\r\n"));
  assert_int_equal(f.answer.end, ANSWER_KEEP);

  struct http_request req;
  const char *old = "GET /stream/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  assert_true(http_parse_head(&req, old, strlen(old), 1000) > 0);
  pf_buf_clear(&f.out);
  pf_buf_clear(&out);
  f.answer = routes_answer(&f.lab, &req, pf_slice("", 0), &f.out);
  assert_int_equal(f.answer.end, ANSWER_CLOSE); /* only the end of the connection ends the body */
  pf_buf_clear(&f.out);
  while (answer_step(&f.answer, &f.out, &out))
    ;
  assert_true(pf_slice_is(pf_buf_view(&out), "{\"line\":0}\n"));
  pf_buf_done(&out);
  teardown(&f);
}

static void test_slow_headers_trickle(void **state) {
  (void)state;
  struct fixture f;
  struct pf_buf out;
  setup(&f, NULL);
  pf_buf_init(&out, 1000);
  assert_int_equal(ask(&f, "GET /slow-headers?ms=7"), 200);
  f.out.len--; /* the NUL of ask() */
  size_t total = f.out.len;
  for (size_t sent = 1; sent <= total; sent++) {
    assert_true(answer_step(&f.answer, &f.out, &out));
    assert_int_equal(out.len, sent);
    assert_int_equal(f.answer.wait_ms, 7);
  }
  assert_false(answer_step(&f.answer, &f.out, &out));
  pf_buf_done(&out);
  teardown(&f);
}

static void test_text(void **state) {
  (void)state;
  struct pf_buf out;
  pf_buf_init(&out, 1000);
  pf_percent_decode(&out, pf_slice_str("a%41%4a+%4%zz%"), true);
  assert_true(pf_slice_is(pf_buf_view(&out), "aAJ %4%zz%"));
  static const char *const base64[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="};
  for (size_t len = 0; len < PF_COUNT(base64); len++) {
    pf_buf_clear(&out);
    text_base64(&out, pf_slice("foobar", len));
    assert_true(pf_slice_is(pf_buf_view(&out), base64[len]));
  }
  static const char *const bad_utf8[] = {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82",
      "\x80", "\xf8\x88\x80\x80\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80"};
  for (size_t i = 0; i < PF_COUNT(bad_utf8); i++)
    assert_false(text_is_utf8(pf_slice_str(bad_utf8[i])));
  assert_true(text_is_utf8(pf_slice_str("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80")));
  assert_false(text_is_utf8(pf_slice("a\0b", 3)));
  pf_buf_clear(&out);
  text_decimal(&out, UINT64_MAX);
  assert_true(pf_slice_is(pf_buf_view(&out), "18446744073709551615"));
  pf_buf_done(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_first_segment_may_be_anything),
      cmocka_unit_test(test_uuids_differ_and_are_version_4),
      cmocka_unit_test(test_arguments_at_max_and_one_more),
      cmocka_unit_test(test_token_is_asked_for_everywhere_but_health),
      cmocka_unit_test(test_methods),
      cmocka_unit_test(test_hits_count_by_key),
      cmocka_unit_test(test_keys_at_max_and_one_more),
      cmocka_unit_test(test_flaky_fails_as_often_as_asked),
      cmocka_unit_test(test_redirects_keep_prefix_and_query),
      cmocka_unit_test(test_echo_tells_all),
      cmocka_unit_test(test_only_echo_keeps_bodies),
      cmocka_unit_test(test_a_drip_is_a_byte_per_pause),
      cmocka_unit_test(test_a_stream_is_chunks_for_1_1_and_plain_for_1_0),
      cmocka_unit_test(test_slow_headers_trickle),
      cmocka_unit_test(test_text),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
