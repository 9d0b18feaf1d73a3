/* lib/web as an HTTP server: what it hands over, what it answers, what it refuses. */
#include "web_http_tests.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_request_parts(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  int fd = client_dial(&f);
  static const struct {
    const char *line, *path, *query, *param;
    enum web_method method;
  } cases[] = {
      {"GET / HTTP/1.1", "/", "", NULL, WEB_GET},
      {"GET /a/b%20c HTTP/1.1", "/a/b c", "", NULL, WEB_GET},
      {"GET /x?wait=10 HTTP/1.1", "/x", "wait=10", "10", WEB_GET},
      {"DELETE /x?a=1&wait=b%26c%3D%25&d HTTP/1.1", "/x", NULL, "b&c=%", WEB_DELETE},
      {"GET /x?wait HTTP/1.1", "/x", NULL, "", WEB_GET},
      {"GET /x?waiting=1 HTTP/1.1", "/x", "waiting=1", NULL, WEB_GET},
      {"OPTIONS /x HTTP/1.1", "/x", "", NULL, WEB_OPTIONS},
  };
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    char text[512];
    f.ask_param = "wait";
    snprintf(text, sizeof(text), "%s\r\n" HOST "\r\n", cases[i].line);
    assert_int_equal(client_ask(&f, fd, text), 200);
    is_text(&f.path, cases[i].path);
    if (cases[i].query) is_text(&f.query, cases[i].query);
    assert_int_equal(f.has_param, cases[i].param != NULL);
    if (cases[i].param) is_text(&f.param, cases[i].param);
    assert_int_equal(f.method, cases[i].method);
  }
  assert_int_equal(f.request_count, PF_COUNT(cases));
  close(fd);
  fixture_done(&f);
}

static void test_request_headers(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  int fd = client_dial(&f);
  static const struct {
    const char *name, *value;
  } cases[] = {{"prefer", "wait=10"}, {"x-pf-version", "1"}, {"host", "localhost"},
      {"content-type", "a/b; c=d"}, {"x-absent", NULL}, {"authorization", NULL}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    f.ask_header = cases[i].name;
    struct answer a;
    assert_true(client_say(&f, fd,
        "POST /h HTTP/1.1\r\n" HOST "Prefer: wait=10\r\nX-Pf-Version: 1\r\n"
        "Content-Type: a/b; c=d\r\nContent-Length: 5\r\n\r\nhello"));
    a = client_answer(&f, fd, true);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "hello");
    assert_non_null(strstr(a.head, "\r\ncontent-type: text/plain\r\n"));
    assert_non_null(strstr(a.head, "\r\nx-test: yes\r\n"));
    assert_false(a.closes);
    free(a.body);
    assert_int_equal(f.has_header, cases[i].value != NULL);
    if (cases[i].value) is_text(&f.header, cases[i].value);
  }
  close(fd);
  fixture_done(&f);
}

static void test_head_has_no_body(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  f.answer = pf_slice_str("twelve bytes");
  int fd = client_dial(&f);
  assert_true(client_say(&f, fd, "HEAD / HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.1\r\n" HOST "\r\n"));
  struct answer a = client_answer(&f, fd, false);
  assert_int_equal(a.status, 200);
  assert_int_equal(a.body_len, 12);
  a = client_answer(&f, fd, true); /* comes right behind the head */
  assert_string_equal(a.body, "twelve bytes");
  free(a.body);
  close(fd);
  fixture_done(&f);
}

static void test_empty_bodies(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  int fd = client_dial(&f);
  static const char *const methods[] = {"POST", "PUT", "DELETE", "PATCH", "GET"};
  for (size_t i = 0; i < PF_COUNT(methods); i++) {
    char text[256];
    snprintf(text, sizeof(text), "%s / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", methods[i]);
    assert_int_equal(client_ask(&f, fd, text), 200);
    assert_int_equal(f.request_count, i + 1);
    assert_int_equal(f.body.len, 0);
  }
  close(fd);
  fixture_done(&f);
}

static void test_pipelined_in_order(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  int fd = client_dial(&f);
  struct pf_buf all;
  pf_buf_init(&all, PF_BUF_MAX_DEFAULT);
  for (int i = 0; i < 50; i++)
    pf_buf_printf(&all, "POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n%02d", i);
  assert_true(client_send(&f, fd, all.data, all.len));
  for (int i = 0; i < 50; i++) {
    char text[12];
    snprintf(text, sizeof(text), "%02d", i);
    struct answer a = client_answer(&f, fd, true);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, text);
    free(a.body);
  }
  pf_buf_done(&all);
  close(fd);
  fixture_done(&f);
}

/* The second request has come before the first is answered. */
static void test_pipelined_behind_deferred(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  f.defer = true;
  int fd = client_dial(&f);
  assert_true(client_say(&f, fd,
      "GET /1 HTTP/1.1\r\n" HOST "\r\nPOST /2 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"));
  fixture_await(&f, &f.request_count, 1);
  is_text(&f.path, "/1");
  assert_true(client_say(&f, fd, "GET /3 HTTP/1.1\r\n" HOST "\r\n"));
  for (int i = 0; i < 20; i++)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  assert_int_equal(f.request_count, 1);
  static const char *const paths[] = {"/1", "/2", "/3"};
  for (unsigned i = 0; i < 3; i++) {
    fixture_await(&f, &f.request_count, i + 1);
    is_text(&f.path, paths[i]);
    web_respond(f.web, f.requests[i],
        &(struct web_response){.status = 200, .body = pf_slice_str(paths[i])});
    struct answer a = client_answer(&f, fd, true);
    assert_string_equal(a.body, paths[i]);
    free(a.body);
  }
  close(fd);
  fixture_done(&f);
}

static void test_last_request_closes(void **state) {
  (void)state;
  static const char *const requests[] = {"GET / HTTP/1.0\r\n" HOST "\r\n",
      "GET / HTTP/1.0\r\n" HOST "Connection: keep-alive\r\n\r\n",
      "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
      "GET / HTTP/1.1\r\n" HOST "Connection: x, Close\r\n\r\n"};
  struct fixture f;
  fixture_open(&f);
  for (int deferred = 0; deferred < 2; deferred++) {
    for (size_t i = 0; i < PF_COUNT(requests); i++) {
      int fd = client_dial(&f);
      f.defer = deferred;
      unsigned before = f.request_count;
      assert_true(client_say(&f, fd, requests[i]));
      fixture_await(&f, &f.request_count, before + 1);
      if (deferred) web_respond(f.web, f.requests[before], &(struct web_response){.status = 204});
      struct answer a = client_answer(&f, fd, true);
      assert_int_equal(a.status, deferred ? 204 : 200);
      assert_true(a.closes);
      free(a.body);
      assert_true(client_ended(&f, fd));
      close(fd);
    }
  }
  fixture_done(&f);
}

static void test_late_answers_do_nothing(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  f.defer = true;
  int fd = client_dial(&f);
  assert_true(client_say(&f, fd, "GET /gone HTTP/1.1\r\n" HOST "\r\n"));
  fixture_await(&f, &f.request_count, 1);
  close(fd);
  struct web_stats stats;
  do {
    fixture_turn(&f, -1);
    web_read_stats(f.web, &stats);
  } while (stats.connections);
  struct web_response response = {.status = 200, .body = pf_slice_str("late")};
  web_respond(f.web, f.requests[0], &response);
  fd = client_dial(&f);
  assert_true(client_say(&f, fd, "GET /here HTTP/1.1\r\n" HOST "\r\n"));
  fixture_await(&f, &f.request_count, 2);
  assert_true(f.requests[1] > f.requests[0]);
  web_respond(f.web, f.requests[0], &response); /* names nothing, also now */
  web_respond_error(f.web, f.requests[1], 409, "taken", "a \"name\" with\na line");
  web_respond(f.web, f.requests[1], &response); /* answered already */
  struct answer a = client_answer(&f, fd, true);
  assert_int_equal(a.status, 409);
  assert_string_equal(
      a.body, "{\"error\":{\"code\":\"taken\",\"message\":\"a \\\"name\\\" with\\u000aa line\"}}");
  free(a.body);
  close(fd);
  fixture_done(&f);
}

static void test_large_answer_to_slow_reader(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  size_t len = 12 << 20;
  char *body = malloc(len);
  assert_non_null(body);
  for (size_t i = 0; i < len; i++)
    body[i] = (char)('a' + i * 7 % 26);
  f.answer = pf_slice(body, len);
  int slow = client_dial(&f), quick = client_dial(&f);
  assert_true(client_say(&f, slow, "GET / HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.1\r\n" HOST "\r\n"));
  fixture_await(&f, &f.request_count, 1);
  struct pf_slice large = f.answer;
  f.answer = pf_slice_str("short");
  assert_int_equal(client_ask(&f, quick, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200); /* meanwhile */
  f.answer = large;
  for (int i = 0; i < 2; i++) {
    struct answer a = client_answer(&f, slow, true);
    assert_int_equal(a.body_len, len);
    assert_memory_equal(a.body, body, len);
    free(a.body);
  }
  free(body);
  close(slow);
  close(quick);
  fixture_done(&f);
}

static void test_continue_is_sent(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  int fd = client_dial(&f);
  assert_int_equal(
      client_ask(
          &f, fd, "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
      100);
  assert_int_equal(client_ask(&f, fd, "hi"), 200);
  is_text(&f.body, "hi");
  close(fd);
  fixture_done(&f);
}

/* ---- what is refused ---- */

static void test_refused_requests(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int status;
  } cases[] = {
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc", 400},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3, 30\r\n\r\nabc", 400},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3abc\r\n\r\nabc", 400},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\nabc", 400},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\nabc", 400},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\nabc", 400},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999\r\n\r\nabc", 400},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 9999999999\r\n\r\nabc", 413},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
          400},
      {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\n" HOST "\r\nabc", 411}, {"PUT / HTTP/1.1\r\n" HOST "\r\nabc", 411},
      {"GET / HTTP/1.1\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" HOST "Host: other\r\n\r\n", 400},
      {"CONNECT localhost:80 HTTP/1.1\r\n" HOST "\r\n", 400},
      {"GET http://localhost/ HTTP/1.1\r\n" HOST "\r\n", 400},
      {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 400}, {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"GET / HTTP/1.2\r\n" HOST "\r\n", 505}, {"GET / http/1.1\r\n" HOST "\r\n", 400},
      {"GET /\r\n\r\n", 400}, {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400},
      {"G(T / HTTP/1.1\r\n" HOST "\r\n", 400}, {"GET /\x7f HTTP/1.1\r\n" HOST "\r\n", 400},
      {"GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 400}, {"GET /# HTTP/1.1\r\n" HOST "\r\n", 400},
      {"GET /%00 HTTP/1.1\r\n" HOST "\r\n", 400}, {"GET /%2 HTTP/1.1\r\n" HOST "\r\n", 400},
      {"GET /%zz HTTP/1.1\r\n" HOST "\r\n", 400}, {"GET /%0a HTTP/1.1\r\n" HOST "\r\n", 400},
      {"GET / HTTP/1.1\n" HOST "\r\n", 400}, {"GET / HTTP/1.1\r\nHost: localhost\n\n", 400},
      {"\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 400},
      {"GET / HTTP/1.1\r\n" HOST " folded: yes\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" HOST "Name : x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" HOST ": x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n", 400},
      {"\x16\x03\x01\x02\x01\x01\x01\x01\xfc\x03\x03", 408}, /* TLS */
  };
  struct fixture f;
  fixture_init(&f);
  f.config.limits.header_s = 1; /* garbage may look like the beginning of a request */
  fixture_listen(&f);
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    int fd = client_dial(&f);
    int status = client_ask(&f, fd, cases[i].text);
    if (status != cases[i].status)
      fail_msg("%d instead of %d for %s", status, cases[i].status, cases[i].text);
    assert_true(client_ended(&f, fd));
    close(fd);
    assert_int_equal(f.request_count, 0);
  }
  int fd = client_dial(&f);
  assert_int_equal(client_ask(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200); /* still well */
  close(fd);
  fixture_done(&f);
}

/* RFC 9110 7.8: an upgrade that is not known is ignored. */
static void test_other_upgrades_are_ignored(void **state) {
  (void)state;
  struct fixture f;
  fixture_open(&f);
  int fd = client_dial(&f);
  assert_int_equal(client_ask(&f, fd,
                       "GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\n"
                       "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"),
      200);
  assert_int_equal(client_ask(&f, fd, "FOO / HTTP/1.1\r\n" HOST "\r\n"), 200);
  assert_int_equal(f.method, WEB_OTHER);
  close(fd);
  fixture_done(&f);
}

static void test_browser_guard(void **state) {
  (void)state;
  static const char *const origins[] = {"https://app.example", NULL};
  static const char *const hosts[] = {"proxy.example", NULL};
#define JSON "Content-Type: application/json\r\n"
#define POST "POST / HTTP/1.1\r\nHost: localhost:80\r\nContent-Length: 2\r\n"
  static const struct {
    const char *text;
    int status;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
      {"GET / HTTP/1.1\r\nHost: LOCALHOST:8787\r\n\r\n", 200},
      {"GET / HTTP/1.1\r\nHost: 127.0.0.1:8787\r\n\r\n", 200},
      {"GET / HTTP/1.1\r\nHost: [::1]:8787\r\n\r\n", 200},
      {"GET / HTTP/1.1\r\nHost: proxy.example:80\r\n\r\n", 200},
      {"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403},
      {"GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 403},
      {"GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 403},
      {"GET / HTTP/1.1\r\nHost: localhost:x\r\n\r\n", 403},
      {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 403},
      {"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 200},
      {POST JSON "\r\n{}", 200},
      {POST "Content-Type: Application/JSON ; charset=utf-8\r\n\r\n{}", 200},
      {POST "\r\n{}", 415},
      {POST "Content-Type: text/plain\r\n\r\n{}", 415},
      {POST "Content-Type: application/jsonx\r\n\r\n{}", 415},
      {POST JSON "Origin: http://localhost:80\r\n\r\n{}", 200},
      {POST JSON "Origin: https://app.example\r\n\r\n{}", 200},
      {POST JSON "Origin: https://app.example.evil\r\n\r\n{}", 403},
      {POST JSON "Origin: http://app.example\r\n\r\n{}", 403},
      {POST JSON "Origin: http://localhost:81\r\n\r\n{}", 403},
      {POST JSON "Origin: null\r\n\r\n{}", 403},
      {"DELETE / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 403},
      {"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
  };
  struct fixture f;
  fixture_init(&f);
  f.config.browser_guard = true;
  f.config.allowed_origins = origins;
  f.config.allowed_hosts = hosts;
  fixture_listen(&f);
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    int fd = client_dial(&f);
    unsigned before = f.request_count;
    int status = client_ask(&f, fd, cases[i].text);
    if (status != cases[i].status)
      fail_msg("%d instead of %d for %s", status, cases[i].status, cases[i].text);
    assert_int_equal(f.request_count - before, status == 200);
    close(fd);
  }
  fixture_done(&f);
}

int web_http_request_tests(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_request_parts),
      cmocka_unit_test(test_request_headers),
      cmocka_unit_test(test_head_has_no_body),
      cmocka_unit_test(test_empty_bodies),
      cmocka_unit_test(test_pipelined_in_order),
      cmocka_unit_test(test_pipelined_behind_deferred),
      cmocka_unit_test(test_last_request_closes),
      cmocka_unit_test(test_late_answers_do_nothing),
      cmocka_unit_test(test_large_answer_to_slow_reader),
      cmocka_unit_test(test_continue_is_sent),
      cmocka_unit_test(test_refused_requests),
      cmocka_unit_test(test_other_upgrades_are_ignored),
      cmocka_unit_test(test_browser_guard),
  };
  return cmocka_run_group_tests_name("web_http_request", tests, NULL, NULL);
}
