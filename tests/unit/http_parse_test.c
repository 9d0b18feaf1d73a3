#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_parse.h"

#define HEAD_MAX 16384

static int parse(struct http_request *req, const char *text) {
  return http_parse_head(req, text, strlen(text), HEAD_MAX);
}

static void assert_slice(struct pf_slice slice, const char *text) {
  if (!pf_slice_is(slice, text)) fail_msg("'%.*s' is not '%s'", (int)slice.len, slice.data, text);
}

static void test_a_head_is_taken_apart(void **state) {
  (void)state;
  struct http_request req;
  const char *text =
      "POST /a/b?x=1&y=%20 HTTP/1.1\r\nHost: h\r\nX-Blank:\t two words \r\nEmpty:\r\n"
      "Content-Length: 12\r\n\r\nbody";
  assert_int_equal(parse(&req, text), strlen(text) - strlen("body"));
  assert_slice(req.method, "POST");
  assert_slice(req.path, "/a/b");
  assert_slice(req.query, "x=1&y=%20");
  assert_int_equal(req.minor, 1);
  assert_int_equal(req.header_count, 4);
  assert_slice(http_header_find(&req, "x-blank")->value, "two words");
  assert_slice(http_header_find(&req, "EMPTY")->value, "");
  assert_null(http_header_find(&req, "x-blan"));
  assert_int_equal(req.content_length, 12);
  assert_true(req.keep_alive);
  assert_false(req.chunked);
}

static void test_every_shorter_prefix_needs_more(void **state) {
  (void)state;
  struct http_request req;
  const char *text =
      "\r\nGET http://host:1/p?q HTTP/1.0\r\nA: b\r\nConnection: x, Keep-Alive\r\n\r\n";
  size_t len = strlen(text);
  for (size_t cut = 0; cut < len; cut++)
    assert_int_equal(http_parse_head(&req, text, cut, HEAD_MAX), 0);
  assert_int_equal(http_parse_head(&req, text, len, HEAD_MAX), len);
  assert_slice(req.path, "/p");
  assert_slice(req.query, "q");
  assert_int_equal(req.minor, 0);
  assert_true(req.keep_alive);
}

static void test_what_is_refused_and_how(void **state) {
  (void)state;
  static const struct {
    int status;
    const char *text;
  } cases[] = {
      {400, "GET\r\n\r\n"},
      {400, "GET /\r\n\r\n"},
      {400, " GET / HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET  HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET / HTTX/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET / HTTP/1.1x\r\nHost: h\r\n\r\n"},
      {400, "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET a HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET * HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET http://host HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "G(T / HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET / HTTP/1.1\nHost: h\n\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\001b\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\177b\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost : h\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000000000\r\n\r\n"},
      {400,
          "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
            "chunked\r\n\r\n"},
      {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {417, "POST / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\n\r\n"},
      {501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
      {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
  };
  struct http_request req;
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    int got = parse(&req, cases[i].text);
    if (got != -cases[i].status)
      fail_msg("%d instead of %d: %s", got, -cases[i].status, cases[i].text);
  }
  static const char nul[] = "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n";
  assert_int_equal(http_parse_head(&req, nul, sizeof(nul) - 1, HEAD_MAX), -400);
}

static void test_keep_alive_and_expect(void **state) {
  (void)state;
  struct http_request req;
  assert_true(parse(&req, "GET / HTTP/1.1\r\nHost: h\r\nConnection: x ,CLOSE\r\n\r\n") > 0);
  assert_false(req.keep_alive);
  assert_true(parse(&req, "GET / HTTP/1.0\r\n\r\n") > 0);
  assert_false(req.keep_alive);
  assert_true(parse(&req, "GET / HTTP/1.1\r\nHost: h\r\nConnection: closed\r\n\r\n") > 0);
  assert_true(req.keep_alive);
  assert_true(parse(&req, "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n") > 0);
  assert_true(req.expect_continue);
  assert_true(parse(&req, "PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n") > 0);
  assert_false(req.expect_continue);
}

static void test_head_limit_at_max_and_one_more(void **state) {
  (void)state;
  struct http_request req;
  const char *text = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  size_t len = strlen(text);
  assert_int_equal(http_parse_head(&req, text, len, len), len);
  assert_int_equal(http_parse_head(&req, text, len, len - 1), -431);
  assert_int_equal(http_parse_head(&req, text, len - 1, len), 0);
  assert_int_equal(http_parse_head(&req, text, len - 1, len - 1), -431);
}

static int parse_with_target(size_t target_len) {
  struct http_request req;
  struct pf_buf text;
  pf_buf_init(&text, HEAD_MAX * 2);
  pf_buf_str(&text, "GET /");
  for (size_t i = 1; i < target_len; i++)
    pf_buf_str(&text, "a");
  pf_buf_str(&text, " HTTP/1.1\r\nHost: h\r\n\r\n");
  int got = http_parse_head(&req, text.data, text.len, HEAD_MAX);
  if (got == (int)text.len) got = 0;
  pf_buf_done(&text);
  return got;
}

static void test_target_limit_at_max_and_one_more(void **state) {
  (void)state;
  assert_int_equal(parse_with_target(HTTP_TARGET_MAX), 0);
  assert_int_equal(parse_with_target(HTTP_TARGET_MAX + 1), -414);
  struct http_request req; /* a line that does not end is refused before the head limit */
  static char endless[HTTP_TARGET_MAX + 100];
  memset(endless, 'a', sizeof(endless));
  assert_int_equal(http_parse_head(&req, endless, sizeof(endless), HEAD_MAX), -414);
}

static int parse_with_headers(unsigned count) {
  struct http_request req;
  struct pf_buf text;
  pf_buf_init(&text, HEAD_MAX);
  pf_buf_str(&text, "GET / HTTP/1.1\r\nHost: h\r\n");
  for (unsigned i = 1; i < count; i++)
    pf_buf_printf(&text, "X-%u: v\r\n", i);
  pf_buf_str(&text, "\r\n");
  int got = http_parse_head(&req, text.data, text.len, HEAD_MAX);
  if (got == (int)text.len) got = (int)req.header_count;
  pf_buf_done(&text);
  return got;
}

static void test_header_count_at_max_and_one_more(void **state) {
  (void)state;
  assert_int_equal(parse_with_headers(HTTP_HEADERS_MAX), HTTP_HEADERS_MAX);
  assert_int_equal(parse_with_headers(HTTP_HEADERS_MAX + 1), -431);
}

/* ---- bodies ---- */

/* Feeds text in pieces of at most `step` bytes. Returns the bytes taken, or -400; *out has the
 * body. */
static int decode(
    struct http_body *body, const char *text, size_t len, size_t step, struct pf_buf *out) {
  size_t at = 0;
  while (at < len && body->state != HTTP_BODY_DONE) {
    size_t piece_len = len - at < step ? len - at : step;
    struct pf_slice piece;
    int taken = http_body_feed(body, text + at, piece_len, &piece);
    if (taken < 0) return taken;
    assert_true(taken > 0);
    pf_buf_slice(out, piece);
    at += (size_t)taken;
  }
  return (int)at;
}

static int decode_chunked(const char *text, size_t step, const char *expected) {
  struct http_request req = {.chunked = true};
  struct http_body body;
  struct pf_buf out;
  pf_buf_init(&out, 1 << 20);
  http_body_init(&body, &req);
  int taken = decode(&body, text, strlen(text), step, &out);
  if (taken >= 0) {
    assert_int_equal(body.state, HTTP_BODY_DONE);
    assert_int_equal(body.total, strlen(expected));
    assert_slice(pf_buf_view(&out), expected);
  }
  pf_buf_done(&out);
  return taken;
}

static void test_chunks_in_pieces_of_every_size(void **state) {
  (void)state;
  const char *text =
      "5\r\nhello\r\n00a;ext=\"x y\"\r\n world 123\r\n0\r\nTrailer: x\r\nMore: y\r\n\r\nGET";
  int len = (int)(strlen(text) - strlen("GET"));
  for (size_t step = 1; step <= strlen(text); step++)
    assert_int_equal(decode_chunked(text, step, "hello world 123"), len);
  assert_int_equal(decode_chunked("0\r\n\r\n", 1, ""), 5);
}

static void test_broken_chunks_are_refused(void **state) {
  (void)state;
  static const char *const cases[] = {
      "\r\n",
      "x\r\n",
      "-1\r\n",
      "5\nhello",
      "5\r\nhelloX",
      "5\r\nhello\rX",
      "5\r\nhello\n",
      "5 \r\nhello",
      ";ext\r\n",
      "1000000000000000\r\n",
      "0\r\nA: b\nC",
      "0\r\n\rX",
  };
  for (size_t i = 0; i < PF_COUNT(cases); i++)
    for (size_t step = 1; step < 20; step += 18)
      if (decode_chunked(cases[i], step, "") != -400) fail_msg("accepted: %s", cases[i]);
}

/* One chunk whose size line has line_len bytes with its CRLF, one trailer section of trailer_len.
 */
static int decode_with_lines(size_t line_len, size_t trailer_len) {
  struct pf_buf text;
  pf_buf_init(&text, 64 * 1024);
  pf_buf_str(&text, "1;");
  for (size_t i = 4; i < line_len; i++)
    pf_buf_str(&text, "e");
  pf_buf_str(&text, "\r\nx\r\n0\r\n");
  for (size_t i = 4; i < trailer_len; i++)
    pf_buf_str(&text, "t");
  pf_buf_append(&text, "\r\n\r\n", 5); /* with its NUL */
  int got = decode_chunked(text.data, 1000, "x");
  if (got == (int)text.len - 1) got = 0;
  pf_buf_done(&text);
  return got;
}

static void test_chunk_line_and_trailer_at_max_and_one_more(void **state) {
  (void)state;
  assert_int_equal(decode_with_lines(HTTP_CHUNK_LINE_MAX, HTTP_TRAILER_MAX), 0);
  assert_int_equal(decode_with_lines(HTTP_CHUNK_LINE_MAX + 1, 10), -400);
  assert_int_equal(decode_with_lines(10, HTTP_TRAILER_MAX + 1), -400);
}

static void test_a_counted_body_ends_where_it_ends(void **state) {
  (void)state;
  struct http_request req = {.content_length = 5};
  struct http_body body;
  struct pf_buf out;
  pf_buf_init(&out, 100);
  http_body_init(&body, &req);
  assert_int_equal(decode(&body, "helloGET", 8, 3, &out), 5);
  assert_int_equal(body.state, HTTP_BODY_DONE);
  assert_slice(pf_buf_view(&out), "hello");
  pf_buf_done(&out);
  req.content_length = 0;
  http_body_init(&body, &req);
  assert_int_equal(body.state, HTTP_BODY_DONE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_head_is_taken_apart),
      cmocka_unit_test(test_every_shorter_prefix_needs_more),
      cmocka_unit_test(test_what_is_refused_and_how),
      cmocka_unit_test(test_keep_alive_and_expect),
      cmocka_unit_test(test_head_limit_at_max_and_one_more),
      cmocka_unit_test(test_target_limit_at_max_and_one_more),
      cmocka_unit_test(test_header_count_at_max_and_one_more),
      cmocka_unit_test(test_chunks_in_pieces_of_every_size),
      cmocka_unit_test(test_broken_chunks_are_refused),
      cmocka_unit_test(test_chunk_line_and_trailer_at_max_and_one_more),
      cmocka_unit_test(test_a_counted_body_ends_where_it_ends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
