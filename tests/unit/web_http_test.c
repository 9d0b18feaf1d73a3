/* lib/web as an HTTP server: what it hands over, what it refuses, its limits and its clocks. */
#include "web_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "web/head.h"

#define HOST "Host: localhost\r\n"

static void is_text(const struct pf_buf *buf, const char *text) {
  assert_int_equal(buf->len, strlen(text));
  assert_memory_equal(buf->data ? buf->data : "", text, buf->len);
}

/* ---- what a handler sees, what a client gets ---- */

static void test_request_parts(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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
  fixture_init(&f);
  fixture_listen(&f);
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

/* ---- limits ---- */

static int post(struct fixture *f, size_t len, size_t piece) {
  int fd = client_dial(f);
  char head[128];
  char *body = malloc(len);
  assert_non_null(body);
  memset(body, 'b', len);
  snprintf(head, sizeof(head), "POST / HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", len);
  assert_true(client_say(f, fd, head));
  for (size_t at = 0; at < len; at += piece)
    if (!client_send(f, fd, body + at, len - at < piece ? len - at : piece)) break;
  struct answer a = client_answer(f, fd, true);
  if (a.status == 200) {
    assert_int_equal(a.body_len, len);
    assert_memory_equal(a.body, body, len);
  } else {
    assert_true(a.closes);
  }
  free(a.body);
  free(body);
  close(fd);
  return a.status;
}

static void test_body_limit(void **state) {
  (void)state;
  static const size_t limits[] = {1, 1000, 1 << 20, 20 << 20};
  for (size_t i = 0; i < PF_COUNT(limits); i++) {
    struct fixture f;
    fixture_init(&f);
    f.config.limits.body_max = limits[i];
    fixture_listen(&f);
    assert_int_equal(post(&f, limits[i], 100000), 200);
    assert_int_equal(f.request_count, 1);
    assert_int_equal(post(&f, limits[i] + 1, 100000), 413);
    assert_int_equal(f.request_count, 1);
    fixture_done(&f);
  }
}

static void test_body_in_small_pieces(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  fixture_listen(&f);
  assert_int_equal(post(&f, 300, 1), 200);
  static const char text[] = "POST /x HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbody"
                             "GET /y HTTP/1.1\r\n" HOST "\r\n";
  int fd = client_dial(&f);
  for (size_t i = 0; i + 1 < sizeof(text); i++)
    assert_true(client_send(&f, fd, text + i, 1));
  struct answer a = client_answer(&f, fd, true);
  assert_string_equal(a.body, "body");
  free(a.body);
  a = client_answer(&f, fd, true);
  assert_int_equal(a.status, 200);
  free(a.body);
  is_text(&f.path, "/y");
  close(fd);
  fixture_done(&f);
}

static void test_connection_limit(void **state) {
  (void)state;
  enum { MAX = 5 };
  struct fixture f;
  fixture_init(&f);
  f.config.limits.connections_max = MAX;
  fixture_listen(&f);
  int fds[MAX + 1];
  for (int i = 0; i < MAX; i++) {
    fds[i] = client_dial(&f);
    assert_int_equal(client_ask(&f, fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  }
  fds[MAX] = client_dial(&f);
  assert_true(client_ended(&f, fds[MAX]));
  struct web_stats stats;
  web_read_stats(f.web, &stats);
  assert_int_equal(stats.connections, MAX);
  assert_int_equal(stats.refused, 1);
  assert_int_equal(client_ask(&f, fds[0], "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  for (int i = 0; i <= MAX; i++)
    close(fds[i]);
  fixture_done(&f);
}

static int ask_with_header(struct fixture *f, size_t len) {
  int fd = client_dial(f);
  char *text = malloc(len + 256);
  assert_non_null(text);
  int at = snprintf(text, 128, "GET / HTTP/1.1\r\n" HOST "X-Long: ");
  memset(text + at, 'l', len);
  memcpy(text + at + len, "\r\n\r\n", 5);
  int status = client_ask(f, fd, text);
  free(text);
  close(fd);
  return status;
}

static int ask_with_fields(struct fixture *f, int count) {
  int fd = client_dial(f);
  struct pf_buf text;
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  pf_buf_str(&text, "GET / HTTP/1.1\r\n" HOST);
  for (int i = 0; i < count; i++)
    pf_buf_printf(&text, "X-%d: 0123456789\r\n", i);
  pf_buf_append(&text, "\r\n", 3);
  int status = client_ask(f, fd, text.data);
  pf_buf_done(&text);
  close(fd);
  return status;
}

static void test_header_limits(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  fixture_listen(&f);
  size_t rest = strlen("GET / HTTP/1.1\r\n" HOST "X-Long: \r\n\r\n");
  assert_int_equal(ask_with_header(&f, HEAD_MAX - rest), 200);
  assert_int_equal(ask_with_header(&f, HEAD_MAX - rest + 1), 431);
  assert_int_equal(ask_with_header(&f, 200 << 10), 431);
  assert_int_equal(ask_with_fields(&f, HEAD_FIELDS_MAX - 1), 200);
  assert_int_equal(ask_with_fields(&f, HEAD_FIELDS_MAX), 431); /* and Host */
  assert_int_equal(ask_with_fields(&f, 2000), 431);
  assert_int_equal(f.request_count, 2);
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
  fixture_init(&f);
  fixture_listen(&f);
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

/* ---- clocks ---- */

static void test_slow_headers(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  f.config.limits.header_s = 1;
  fixture_listen(&f);
  int silent = client_dial(&f), slow = client_dial(&f), again = client_dial(&f);
  int idle = client_dial(&f);
  assert_int_equal(client_ask(&f, again, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  assert_int_equal(client_ask(&f, idle, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  assert_true(client_say(&f, slow, "GET / HTTP/1.1\r\nHos"));
  assert_true(client_say(&f, again, "GET / HTTP/1.1\r\nHos")); /* begun on a kept-alive one */
  int64_t begin = pf_clock_mono_ms();
  assert_true(client_ended(&f, silent));
  int begun[] = {slow, again};
  for (size_t i = 0; i < PF_COUNT(begun); i++) {
    struct answer a = client_answer(&f, begun[i], true);
    assert_int_equal(a.status, 408);
    free(a.body);
    assert_true(client_ended(&f, begun[i]));
  }
  assert_in_range(pf_clock_mono_ms() - begin, 800, 5000);
  assert_int_equal(client_ask(&f, idle, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200); /* stays open */
  close(silent);
  close(slow);
  close(again);
  close(idle);
  fixture_done(&f);
}

static void test_slow_body(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  f.config.limits.body_grace_s = 1;
  fixture_listen(&f);
  int slow = client_dial(&f), waiting = client_dial(&f);
  assert_true(
      client_say(&f, slow, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\nslow"));
  f.defer = true;
  assert_true(client_say(&f, waiting, "GET / HTTP/1.1\r\n" HOST "\r\n"));
  int64_t begin = pf_clock_mono_ms();
  struct answer a = client_answer(&f, slow, true);
  assert_int_equal(a.status, 408);
  assert_in_range(pf_clock_mono_ms() - begin, 900, 5000);
  free(a.body);
  assert_true(client_ended(&f, slow));
  assert_int_equal(f.request_count, 1);
  web_respond(
      f.web, f.requests[0], &(struct web_response){.status = 200}); /* answers may be slow */
  a = client_answer(&f, waiting, true);
  assert_int_equal(a.status, 200);
  free(a.body);
  close(slow);
  close(waiting);
  fixture_done(&f);
}

/* Turns the loop until so many connections are left. */
static void await_connections(struct fixture *f, unsigned count) {
  struct web_stats stats;
  int64_t begin = pf_clock_mono_ms();
  do {
    fixture_turn(f, -1);
    web_read_stats(f->web, &stats);
    assert_in_range(pf_clock_mono_ms() - begin, 0, WAIT_MS);
  } while (stats.connections > count);
  assert_int_equal(stats.connections, count);
}

/* Reads all that is on its way. Returns the bytes. */
static size_t drain(struct fixture *f, int fd) {
  size_t len = 0;
  for (char byte; client_read(f, fd, &byte, 1);)
    len++;
  return len;
}

/* One has asked once and reads nothing, the other goes on asking. */
static void test_answers_that_nobody_reads(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  f.config.limits.stall_s = 1;
  fixture_listen(&f);
  size_t len = 12 << 20;
  char *body = calloc(1, len);
  assert_non_null(body);
  f.answer = pf_slice(body, len);
  int once = client_dial(&f), quick = client_dial(&f), again = client_dial(&f);
  assert_true(client_say(&f, once, "GET / HTTP/1.1\r\n" HOST "\r\n"));
  fixture_await(&f, &f.request_count, 1);
  f.answer = pf_slice(body, 64 << 10);
  for (int i = 0; i < 400; i++) /* their answers are more than the kernel keeps */
    assert_true(client_say(&f, again, "GET / HTTP/1.1\r\n" HOST "\r\n"));
  struct web_stats stats;
  web_read_stats(f.web, &stats);
  assert_true(stats.unread > 0);
  assert_int_equal(stats.connections, 3);
  assert_int_equal(client_ask(&f, quick, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  await_connections(&f, 1);
  assert_true(drain(&f, once) < len);
  web_read_stats(f.web, &stats);
  assert_int_equal(stats.slow_readers, 2);
  assert_int_equal(stats.unread, 0);
  assert_int_equal(client_ask(&f, quick, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  free(body);
  close(once);
  close(again);
  close(quick);
  fixture_done(&f);
}

/* Slowly, but more than nothing: as long as it takes. */
static void test_answer_read_slowly(void **state) {
  (void)state;
  enum { STALL_S = 3, PARTS = 16, PAUSE_MS = 250 };
  struct fixture f;
  fixture_init(&f);
  f.config.limits.stall_s = STALL_S;
  fixture_listen(&f);
  size_t len = 24 << 20, got = 0;
  char *body = calloc(1, len);
  assert_non_null(body);
  f.answer = pf_slice(body, len);
  int fd = client_dial(&f);
  assert_true(client_say(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n"));
  struct answer a = client_answer(&f, fd, false);
  assert_int_equal(a.status, 200);
  int64_t begin = pf_clock_mono_ms();
  for (; got < len; got += len / PARTS) {
    assert_true(client_read(&f, fd, body, len / PARTS));
    for (int64_t pause = pf_clock_mono_ms(); pf_clock_mono_ms() - pause < PAUSE_MS;)
      fixture_turn(&f, -1);
  }
  assert_true(pf_clock_mono_ms() - begin > STALL_S * 1000);
  free(body);
  close(fd);
  fixture_done(&f);
}

static void test_idle_connection(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  f.config.limits.idle_s = 1;
  fixture_listen(&f);
  int idle = client_dial(&f);
  assert_int_equal(client_ask(&f, idle, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  assert_true(client_ended(&f, idle));
  await_connections(&f, 0);
  close(idle);
  fixture_done(&f);
}

/* ---- listeners and the end ---- */

static void test_both_families(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  assert_int_equal(pf_listen_addr_parse(&f.config.listen, "localhost:0", NULL), PF_OK);
  fixture_listen(&f);
  assert_true(f.bound.count >= 1 && f.bound.port != 0);
  for (unsigned i = 0; i < f.bound.count; i++) {
    const struct sockaddr *addr = (const struct sockaddr *)&f.bound.addr[i];
    assert_int_equal(pf_sockaddr_port(addr), f.bound.port);
    int fd = socket(addr->sa_family, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, addr, pf_sockaddr_len(addr)), 0);
    assert_int_equal(client_ask(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
    close(fd);
  }
  struct web_listener_config taken = f.config;
  struct pf_listen_addr bound;
  struct pf_error err = {0};
  taken.listen = f.bound;
  assert_int_equal(web_listen(f.web, &taken, &bound, &err), PF_EADDRINUSE);
  assert_non_null(strstr(err.text, "127.0.0.1:"));
  fixture_done(&f);
}

static void test_stop_listening(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  fixture_listen(&f);
  int fd = client_dial(&f);
  assert_int_equal(client_ask(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  web_stop_listening(f.web);
  web_stop_listening(f.web);
  uv_run(&f.loop, UV_RUN_NOWAIT);
  assert_int_equal(client_ask(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200); /* goes on */
  assert_int_equal(client_upgrade(&f, fd, NULL), 503);
  const struct sockaddr *addr = (const struct sockaddr *)&f.bound.addr[0];
  int late = socket(addr->sa_family, SOCK_STREAM, 0);
  assert_int_not_equal(connect(late, addr, pf_sockaddr_len(addr)), 0);
  close(late);
  close(fd);
  fixture_done(&f);
}

/* Connections in every phase are there when the server closes. */
static void test_close_with_work_under_way(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  fixture_listen(&f);
  size_t len = 8 << 20;
  char *body = calloc(1, len);
  assert_non_null(body);
  f.answer = pf_slice(body, len);
  int fds[6];
  for (size_t i = 0; i < PF_COUNT(fds); i++)
    fds[i] = client_dial(&f);
  assert_true(client_say(&f, fds[0], "GET / HT"));
  assert_true(client_say(&f, fds[1], "POST / HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nab"));
  assert_true(client_say(&f, fds[2], "GET / HTTP/1.1\r\n" HOST "\r\n")); /* not read to its end */
  fixture_await(&f, &f.request_count, 1);
  f.defer = true;
  assert_true(client_say(&f, fds[3], "GET / HTTP/1.1\r\n" HOST "\r\n"));
  fixture_await(&f, &f.request_count, 2);
  assert_int_equal(client_upgrade(&f, fds[4], NULL), 101);
  int64_t begin = pf_clock_mono_ms();
  fixture_close(&f);
  assert_in_range(pf_clock_mono_ms() - begin, 0, 4000);
  assert_int_equal(f.close_count, 1);
  for (size_t i = 0; i < PF_COUNT(fds); i++)
    close(fds[i]);
  free(body);
  fixture_done(&f);
}

int main(void) {
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
      cmocka_unit_test(test_body_limit),
      cmocka_unit_test(test_body_in_small_pieces),
      cmocka_unit_test(test_connection_limit),
      cmocka_unit_test(test_header_limits),
      cmocka_unit_test(test_refused_requests),
      cmocka_unit_test(test_other_upgrades_are_ignored),
      cmocka_unit_test(test_browser_guard),
      cmocka_unit_test(test_slow_headers),
      cmocka_unit_test(test_slow_body),
      cmocka_unit_test(test_answers_that_nobody_reads),
      cmocka_unit_test(test_answer_read_slowly),
      cmocka_unit_test(test_idle_connection),
      cmocka_unit_test(test_both_families),
      cmocka_unit_test(test_stop_listening),
      cmocka_unit_test(test_close_with_work_under_way),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
