#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "base/addr.h"
#include "http/client.h"
#include "http/peer.h"
#include "wire/batch.h"

/* ---- what libcurl is told ----
 *
 * The linker leads curl_easy_setopt() here (--wrap). A test that cannot wait for the default
 * time-out sees that it was set, and puts a shorter one in its place. */

static struct {
  long seen_ms; /* the last CURLOPT_TIMEOUT_MS; -1 = none */
  long instead_ms;
} timeout;

CURLcode __real_curl_easy_setopt(CURL *easy, CURLoption option, ...);
CURLcode __wrap_curl_easy_setopt(CURL *easy, CURLoption option, ...);

CURLcode __wrap_curl_easy_setopt(CURL *easy, CURLoption option, ...) {
  va_list args;
  va_start(args, option);
  CURLcode code;
  if (option >= CURLOPTTYPE_OFF_T && option < CURLOPTTYPE_BLOB) {
    code = __real_curl_easy_setopt(easy, option, va_arg(args, curl_off_t));
  } else if (option < CURLOPTTYPE_OBJECTPOINT) {
    long value = va_arg(args, long);
    if (option == CURLOPT_TIMEOUT_MS) {
      timeout.seen_ms = value;
      if (timeout.instead_ms) value = timeout.instead_ms;
    }
    code = __real_curl_easy_setopt(easy, option, value);
  } else {
    code = __real_curl_easy_setopt(easy, option, va_arg(args, void *));
  }
  va_end(args);
  return code;
}

/* ---- a server on the same loop that answers as it is told ---- */

struct server;
struct conn {
  uv_tcp_t tcp;
  struct server *server;
  struct pf_buf in;
  unsigned requests; /* on this connection */
  struct pf_list link;
};
struct server {
  uv_loop_t loop;
  uv_tcp_t tcp;
  struct http *http;
  char url[PF_ADDR_TEXT];
  struct pf_list conns;
  unsigned accepted, requests;
  /* Called for each complete request; closes or answers. */
  void (*answer)(struct conn *c, struct pf_slice body);
  void *arg;
  unsigned pending; /* calls of the test that are not done */
  uv_async_t wake;  /* one of them is done */
  int left;         /* answers still to be given normally */
};

static void conn_closed(uv_handle_t *handle) {
  struct conn *c = handle->data;
  pf_list_del(&c->link);
  pf_buf_done(&c->in);
  free(c);
}

static void conn_close(struct conn *c) {
  if (!uv_is_closing((uv_handle_t *)&c->tcp)) uv_close((uv_handle_t *)&c->tcp, conn_closed);
}

static void on_written(uv_write_t *req, int status) {
  (void)status;
  free(req->data);
  free(req);
}

static void conn_reply(struct conn *c, int status, struct pf_slice body) {
  char *text = malloc(body.len + 256);
  int len = snprintf(text, 256, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n", status, body.len);
  if (body.len) memcpy(text + len, body.data, body.len);
  uv_write_t *req = malloc(sizeof(*req));
  req->data = text;
  uv_buf_t buf = uv_buf_init(text, (unsigned)((size_t)len + body.len));
  assert_int_equal(uv_write(req, (uv_stream_t *)&c->tcp, &buf, 1, on_written), 0);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
  (void)size;
  struct conn *c = handle->data;
  *buf = uv_buf_init(pf_buf_reserve(&c->in, 65536), 65536);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf) {
  (void)buf;
  struct conn *c = stream->data;
  if (count < 0) {
    conn_close(c);
    return;
  }
  c->in.len += (size_t)count;
  char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
  if (!end) return;
  size_t head = (size_t)(end - c->in.data) + 4;
  char *length = memmem(c->in.data, head, "Content-Length: ", 16);
  size_t body = length ? strtoul(length + 16, NULL, 10) : 0;
  if (c->in.len < head + body) return;
  assert_null(memmem(c->in.data, head, "Expect", 6));
  c->requests++;
  c->server->requests++;
  c->server->answer(c, pf_slice(c->in.data + head, body));
  pf_buf_clear(&c->in);
}

static void on_connection(uv_stream_t *stream, int status) {
  struct server *s = stream->data;
  assert_int_equal(status, 0);
  struct conn *c = calloc(1, sizeof(*c));
  c->server = s;
  c->tcp.data = c;
  pf_buf_init(&c->in, (size_t)64 << 20);
  pf_list_push(&s->conns, &c->link);
  assert_int_equal(uv_tcp_init(&s->loop, &c->tcp), 0);
  assert_int_equal(uv_accept(stream, (uv_stream_t *)&c->tcp), 0);
  assert_int_equal(uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read), 0);
  s->accepted++;
}

static int server_open(void **state) {
  struct server *s = calloc(1, sizeof(*s));
  timeout.seen_ms = -1;
  timeout.instead_ms = 0;
  pf_list_init(&s->conns);
  assert_int_equal(uv_loop_init(&s->loop), 0);
  assert_int_equal(uv_tcp_init(&s->loop, &s->tcp), 0);
  s->tcp.data = s;
  struct sockaddr_in addr;
  assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &addr), 0);
  assert_int_equal(uv_tcp_bind(&s->tcp, (struct sockaddr *)&addr, 0), 0);
  assert_int_equal(uv_listen((uv_stream_t *)&s->tcp, 128, on_connection), 0);
  struct sockaddr_storage bound;
  int len = sizeof(bound);
  assert_int_equal(uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&bound, &len), 0);
  snprintf(
      s->url, sizeof(s->url), "http://127.0.0.1:%u/", pf_sockaddr_port((struct sockaddr *)&bound));
  assert_int_equal(uv_async_init(&s->loop, &s->wake, NULL), 0);
  assert_int_equal(http_new(&s->http, &s->loop), PF_OK);
  *state = s;
  return 0;
}

static void http_gone(void *arg) {
  struct server *s = arg;
  s->http = NULL;
  uv_close((uv_handle_t *)&s->tcp, NULL);
  uv_close((uv_handle_t *)&s->wake, NULL);
  PF_LIST_EACH(link, &s->conns) {
    conn_close(pf_container_of(link, struct conn, link));
  }
}

static int server_close(void **state) {
  struct server *s = *state;
  http_close(s->http, http_gone, s);
  uv_run(&s->loop, UV_RUN_DEFAULT);
  assert_null(s->http);
  assert_int_equal(uv_loop_close(&s->loop), 0); /* no handle is left */
  free(s);
  return 0;
}

/* UV_RUN_ONCE runs due timers and then waits: if one of them ended the last call, nothing else need
 * ever come, so that it has to be woken. */
static void one_done(struct server *s) {
  s->pending--;
  assert_int_equal(uv_async_send(&s->wake), 0);
}

static void run_until_done(struct server *s) {
  while (s->pending > 0)
    uv_run(&s->loop, UV_RUN_ONCE);
}

/* ---- calls ---- */

struct seen {
  struct http_call call;
  struct server *server;
  int err, status;
  size_t len;
  unsigned times;
};

static void on_call(struct http_call *call) {
  struct seen *seen = call->arg;
  seen->err = call->err;
  seen->status = call->status;
  seen->len = call->response.len;
  seen->times++;
  one_done(seen->server);
}

static void call_start(struct server *s, struct seen *seen) {
  seen->server = s;
  if (!seen->call.method) seen->call.method = "GET";
  seen->call.url = s->url;
  seen->call.done = on_call;
  seen->call.arg = seen;
  s->pending++;
  http_start(s->http, &seen->call);
  assert_int_equal(seen->times, 0); /* never from inside */
}

static void call_run(struct server *s, struct seen *seen) {
  call_start(s, seen);
  run_until_done(s);
}

static void answer_ok(struct conn *c, struct pf_slice body) {
  conn_reply(c, 200, body.len ? body : pf_slice_str("hello"));
}

static void test_calls_reuse_the_connection(void **state) {
  struct server *s = *state;
  s->answer = answer_ok;
  for (unsigned i = 1; i <= 20; i++) {
    struct seen seen = {.call = {.method = i % 2 ? "POST" : "PUT",
                            .content_type = HTTP_CONTENT_JSON,
                            .body = pf_slice("{\"n\":1}", 7)}};
    call_run(s, &seen);
    assert_int_equal(seen.err, PF_OK);
    assert_int_equal(seen.status, 200);
    assert_int_equal(seen.len, 7);
    assert_int_equal(s->requests, i);
  }
  assert_int_equal(s->accepted, 1);
}

static void answer_500(struct conn *c, struct pf_slice body) {
  (void)body;
  conn_reply(c, 500, pf_slice(NULL, 0));
}

static void test_any_status_is_an_answer(void **state) {
  struct server *s = *state;
  s->answer = answer_500;
  struct seen seen = {0};
  call_run(s, &seen);
  assert_int_equal(seen.err, PF_OK);
  assert_int_equal(seen.status, 500);
}

static void test_response_limit(void **state) {
  struct server *s = *state;
  s->answer = answer_ok;
  struct seen fits = {.call.response_max = 5}, over = {.call.response_max = 4};
  call_run(s, &fits);
  assert_int_equal(fits.err, PF_OK);
  assert_int_equal(fits.len, 5);
  call_run(s, &over);
  assert_int_equal(over.err, PF_ELIMIT);
  assert_string_equal(over.call.error, "the answer is larger than its limit");
}

static void answer_never(struct conn *c, struct pf_slice body) {
  (void)c, (void)body;
}

static void test_time_out(void **state) {
  struct server *s = *state;
  s->answer = answer_never;
  struct seen seen = {.call.timeout_ms = 50};
  call_run(s, &seen);
  assert_int_equal(seen.err, PF_ETIMEOUT);
  assert_int_equal(s->requests, 1);
}

static void test_default_time_out(void **state) {
  struct server *s = *state;
  s->answer = answer_ok;
  struct seen plain = {0}, own = {.call.timeout_ms = 4321};
  call_run(s, &own);
  assert_int_equal(timeout.seen_ms, 4321);
  call_run(s, &plain); /* by the handle of the one before */
  assert_int_equal(timeout.seen_ms, HTTP_TIMEOUT_MS_DEFAULT);
  assert_int_equal(HTTP_TIMEOUT_MS_DEFAULT, 5000);
}

static void test_refused_connection(void **state) {
  struct server *s = *state;
  s->answer = answer_never;
  struct seen seen = {0};
  snprintf(s->url, sizeof(s->url), "http://127.0.0.1:1/");
  call_run(s, &seen);
  assert_int_equal(seen.err, PF_ENET);
  assert_true(seen.call.error[0] != '\0');
}

static void answer_then_close(struct conn *c, struct pf_slice body) {
  if (c->server->left-- > 0)
    answer_ok(c, body);
  else
    conn_close(c);
}

/* The server reads a whole request on a kept-alive connection and closes without an answer: libcurl
 * by itself would send it again. */
static void test_a_request_is_sent_once(void **state) {
  struct server *s = *state;
  s->answer = answer_then_close;
  s->left = 1;
  struct seen first = {0}, second = {.call = {.method = "POST",
                                         .content_type = HTTP_CONTENT_JSON,
                                         .body = pf_slice("{}", 2)}};
  call_run(s, &first);
  assert_int_equal(first.err, PF_OK);
  call_run(s, &second);
  assert_int_equal(second.err, PF_ENET);
  assert_int_equal(s->requests, 2);
  assert_string_equal(second.call.error, "the peer closed the connection without an answer");
}

static void test_cancel(void **state) {
  struct server *s = *state;
  s->answer = answer_never;
  struct seen seen = {0};
  call_start(s, &seen);
  while (s->requests == 0)
    uv_run(&s->loop, UV_RUN_ONCE);
  http_cancel(s->http, &seen.call);
  http_cancel(s->http, &seen.call);
  assert_int_equal(seen.times, 0);
  run_until_done(s);
  assert_int_equal(seen.err, PF_ECANCEL);
  http_cancel(s->http, &seen.call); /* not under way: harmless */
  assert_int_equal(seen.times, 1);
}

static void test_close_cancels_what_is_under_way(void **state) {
  struct server *s = *state;
  s->answer = answer_never;
  struct seen seen[3] = {0};
  for (int i = 0; i < 3; i++)
    call_start(s, &seen[i]);
  while (s->requests < 3)
    uv_run(&s->loop, UV_RUN_ONCE);
  assert_int_equal(server_close(state), 0);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(seen[i].times, 1);
    assert_int_equal(seen[i].err, PF_ECANCEL);
  }
  server_open(state); /* for the teardown */
}

/* ---- peers ---- */

struct sent {
  struct http_item item;
  struct server *server;
  struct http_peer *again; /* send once more on failure */
  char text[16];
  int err;
  bool right;
  unsigned times;
};

static void item_done(
    struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch) {
  struct sent *sent = pf_container_of(item, struct sent, item);
  sent->err = err;
  sent->right = !err && pf_slice_eq(answer, item->head) && pf_slice_is(answer_batch, "{\"b\":1}");
  sent->times++;
  if (err && sent->again) {
    peer_send(sent->again, item);
    sent->again = NULL;
    return;
  }
  one_done(sent->server);
}

static void batch_head(void *arg, struct pf_buf *head) {
  (void)arg;
  pf_buf_str(head, "{\"h\":1}");
}

static void item_send(
    struct server *s, struct http_peer *peer, struct sent *sent, int number, struct pf_slice body) {
  *sent = (struct sent){.server = s, .again = sent->again, .err = 1};
  int len = snprintf(sent->text, sizeof(sent->text), "{\"i\":%d}", number);
  sent->item.head = pf_slice(sent->text, (size_t)len);
  sent->item.body = body;
  sent->item.done = item_done;
  s->pending++;
  peer_send(peer, &sent->item);
}

static struct http_peer *peer_open(struct server *s) {
  struct http_peer *peer;
  struct http_peer_config config = {.url = s->url, .batch_head = batch_head};
  assert_int_equal(peer_new(&peer, s->http, &config), PF_OK);
  return peer;
}

#define BATCHES_MAX 8
struct batches {
  unsigned items[BATCHES_MAX], count;
  int torn; /* the answer of this batch lacks its last record */
};

/* Echoes the heads. */
static void answer_batch_echo(struct conn *c, struct pf_slice body) {
  struct batches *seen = c->server->arg;
  struct batch_reader reader = batch_reader(body);
  struct pf_slice head, raw;
  struct pf_buf out;
  pf_buf_init(&out, (size_t)16 << 20);
  assert_int_equal(batch_next(&reader, &head, &raw), PF_OK);
  assert_true(pf_slice_is(head, "{\"h\":1}"));
  batch_append(&out, pf_slice_str("{\"b\":1}"), pf_slice(NULL, 0));
  unsigned items = 0;
  size_t before_last = out.len;
  while (batch_next(&reader, &head, &raw) == PF_OK) {
    before_last = out.len;
    batch_append(&out, head, pf_slice(NULL, 0));
    items++;
  }
  assert_true(seen->count < BATCHES_MAX);
  seen->items[seen->count++] = items;
  if ((int)seen->count == seen->torn) out.len = before_last;
  conn_reply(c, 200, pf_buf_view(&out));
  pf_buf_done(&out);
}

static void test_items_of_one_turn_leave_together(void **state) {
  struct server *s = *state;
  struct batches seen = {0};
  s->answer = answer_batch_echo;
  s->arg = &seen;
  struct http_peer *peer = peer_open(s);
  struct sent *sent = calloc(600, sizeof(*sent));
  for (int i = 0; i < 600; i++)
    item_send(s, peer, &sent[i], i, pf_slice(NULL, 0));
  assert_int_equal(peer_waiting(peer), 600);
  run_until_done(s);
  for (int i = 0; i < 600; i++) {
    assert_int_equal(sent[i].times, 1);
    assert_true(sent[i].right);
  }
  assert_int_equal(seen.count, 3);
  assert_int_equal(seen.items[0], PEER_ITEMS_MAX);
  assert_int_equal(seen.items[1], PEER_ITEMS_MAX);
  assert_int_equal(s->accepted, 1);
  free(sent);
  peer_free(peer);
}

static void test_batches_are_bounded_in_bytes(void **state) {
  struct server *s = *state;
  struct batches seen = {0};
  s->answer = answer_batch_echo;
  s->arg = &seen;
  struct http_peer *peer = peer_open(s);
  char *body = calloc(1, PEER_BYTES_MAX * 2);
  struct sent sent[5] = {0};
  item_send(s, peer, &sent[0], 0, pf_slice(body, PEER_BYTES_MAX * 2)); /* alone */
  item_send(s, peer, &sent[1], 1, pf_slice(body, PEER_BYTES_MAX / 2));
  item_send(s, peer, &sent[2], 2, pf_slice(body, PEER_BYTES_MAX / 2)); /* just too much */
  item_send(s, peer, &sent[3], 3, pf_slice(body, 10));
  item_send(s, peer, &sent[4], 4, pf_slice(body, 10));
  run_until_done(s);
  assert_int_equal(seen.count, 3);
  assert_int_equal(seen.items[0], 1);
  assert_int_equal(seen.items[1], 1);
  assert_int_equal(seen.items[2], 3);
  for (int i = 0; i < 5; i++)
    assert_true(sent[i].right);
  free(body);
  peer_free(peer);
}

static void test_a_torn_answer_fails_the_whole_batch(void **state) {
  struct server *s = *state;
  struct batches seen = {.torn = 1};
  s->answer = answer_batch_echo;
  s->arg = &seen;
  struct http_peer *peer = peer_open(s);
  struct sent sent[3] = {{.again = peer}, {.again = NULL}, {.again = peer}};
  for (int i = 0; i < 3; i++)
    item_send(s, peer, &sent[i], i, pf_slice(NULL, 0));
  run_until_done(s);
  assert_int_equal(sent[1].err, PF_EINVAL);
  assert_int_equal(sent[1].times, 1);
  assert_true(sent[0].right && sent[2].right);
  assert_int_equal(sent[0].times, 2);
  assert_int_equal(seen.count, 2);
  peer_free(peer);
}

static void answer_the_second(struct conn *c, struct pf_slice body) {
  if (c->server->requests > 1) answer_batch_echo(c, body);
}

/* A peer that takes a batch and says nothing: its items are told, and go again. */
static void test_a_silent_peer_is_given_up_and_asked_again(void **state) {
  struct server *s = *state;
  struct batches seen = {0};
  s->answer = answer_the_second;
  s->arg = &seen;
  timeout.instead_ms = 50;
  struct http_peer *peer = peer_open(s);
  struct sent sent[2] = {{.again = peer}, {.again = NULL}};
  for (int i = 0; i < 2; i++)
    item_send(s, peer, &sent[i], i, pf_slice(NULL, 0));
  while (s->requests == 0)
    uv_run(&s->loop, UV_RUN_ONCE);
  assert_int_equal(timeout.seen_ms, HTTP_TIMEOUT_MS_DEFAULT); /* else it would wait for ever */
  run_until_done(s);
  assert_int_equal(sent[1].err, PF_ETIMEOUT);
  assert_int_equal(sent[0].times, 2);
  assert_true(sent[0].right);
  assert_int_equal(seen.count, 1);
  peer_free(peer);
}

/* What came is a batch with an entry for each item, and yet no answer. */
static void answer_503_echo(struct conn *c, struct pf_slice body) {
  conn_reply(c, 503, body);
}

static void test_a_bad_status_fails_the_whole_batch(void **state) {
  struct server *s = *state;
  static void (*const answers[])(struct conn *, struct pf_slice) = {answer_500, answer_503_echo};
  struct http_peer *peer = peer_open(s);
  for (size_t i = 0; i < PF_COUNT(answers); i++) {
    struct sent sent = {0};
    s->answer = answers[i];
    item_send(s, peer, &sent, 0, pf_slice(NULL, 0));
    run_until_done(s);
    assert_int_equal(sent.err, PF_EINVAL);
  }
  peer_free(peer);
}

static void test_unsend_and_free(void **state) {
  struct server *s = *state;
  s->answer = answer_never;
  struct http_peer *peer = peer_open(s);
  struct sent sent[3] = {0};
  item_send(s, peer, &sent[0], 0, pf_slice(NULL, 0));
  while (s->requests == 0)
    uv_run(&s->loop, UV_RUN_ONCE);
  item_send(s, peer, &sent[1], 1, pf_slice(NULL, 0));
  item_send(s, peer, &sent[2], 2, pf_slice(NULL, 0));
  assert_false(peer_unsend(peer, &sent[0].item));
  assert_true(peer_unsend(peer, &sent[1].item));
  s->pending--;
  assert_int_equal(peer_waiting(peer), 1);
  peer_free(peer);
  assert_int_equal(s->pending, 0);
  assert_int_equal(sent[0].err, PF_ECANCEL);
  assert_int_equal(sent[1].times, 0);
  assert_int_equal(sent[2].err, PF_ECANCEL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, server_open, server_close)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_calls_reuse_the_connection),
      TEST(test_any_status_is_an_answer),
      TEST(test_response_limit),
      TEST(test_time_out),
      TEST(test_default_time_out),
      TEST(test_refused_connection),
      TEST(test_a_request_is_sent_once),
      TEST(test_cancel),
      TEST(test_close_cancels_what_is_under_way),
      TEST(test_items_of_one_turn_leave_together),
      TEST(test_batches_are_bounded_in_bytes),
      TEST(test_a_torn_answer_fails_the_whole_batch),
      TEST(test_a_silent_peer_is_given_up_and_asked_again),
      TEST(test_a_bad_status_fails_the_whole_batch),
      TEST(test_unsend_and_free),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
