/* lib/web as an HTTP server: its limits, its clocks, its listeners and its end. */
#include "web_http_tests.h"

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
  fixture_open(&f);
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
  fixture_open(&f);
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

/* ---- clocks ---- */

static void test_slow_headers(void **state) {
  (void)state;
  struct fixture f;
  fixture_init(&f);
  f.config.limits.header_s = 1;
  fixture_listen(&f);
  int64_t begin = pf_clock_mono_ms(); /* the last clock starts later */
  int silent = client_dial(&f), slow = client_dial(&f), again = client_dial(&f);
  int idle = client_dial(&f);
  assert_int_equal(client_ask(&f, again, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  assert_int_equal(client_ask(&f, idle, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
  assert_true(client_say(&f, slow, "GET / HTTP/1.1\r\nHos"));
  assert_true(client_say(&f, again, "GET / HTTP/1.1\r\nHos")); /* begun on a kept-alive one */
  assert_true(client_ended(&f, silent));
  int begun[] = {slow, again};
  for (size_t i = 0; i < PF_COUNT(begun); i++) {
    struct answer a = client_answer(&f, begun[i], true);
    assert_int_equal(a.status, 408);
    free(a.body);
    assert_true(client_ended(&f, begun[i]));
  }
  assert_in_range(pf_clock_mono_ms() - begin, 800, WAIT_MS);
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
  int64_t begin = pf_clock_mono_ms();
  assert_true(
      client_say(&f, slow, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\nslow"));
  f.defer = true;
  assert_true(client_say(&f, waiting, "GET / HTTP/1.1\r\n" HOST "\r\n"));
  struct answer a = client_answer(&f, slow, true);
  assert_int_equal(a.status, 408);
  assert_in_range(pf_clock_mono_ms() - begin, 900, WAIT_MS);
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
  fixture_open(&f);
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
  fixture_open(&f);
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

int web_http_limit_tests(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_body_limit),
      cmocka_unit_test(test_body_in_small_pieces),
      cmocka_unit_test(test_connection_limit),
      cmocka_unit_test(test_header_limits),
      cmocka_unit_test(test_slow_headers),
      cmocka_unit_test(test_slow_body),
      cmocka_unit_test(test_answers_that_nobody_reads),
      cmocka_unit_test(test_answer_read_slowly),
      cmocka_unit_test(test_idle_connection),
      cmocka_unit_test(test_both_families),
      cmocka_unit_test(test_stop_listening),
      cmocka_unit_test(test_close_with_work_under_way),
  };
  return cmocka_run_group_tests_name("web_http_limit", tests, NULL, NULL);
}
