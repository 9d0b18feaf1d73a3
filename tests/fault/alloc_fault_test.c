/* Each allocation of a codec and of an outgoing call fails once. What outsiders can size is refused
 * with PF_ENOMEM and leaves no trace; the rest ends the process with PF_EXIT_MEMORY; nothing in
 * between. A child process makes each try, since the end of the process is one of the answers. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/buf.h"
#include "fault/failing.h"
#include "http/client.h"
#include "loop/listen.h"
#include "wire/batch.h"
#include "wire/client.h"
#include "wire/hop.h"
#include "wire/json.h"

enum { ENDED_WELL = 0, REFUSED = 100, WRONG = 101, TRIES_MAX = 5000 };

/* One try: PF_OK, or PF_ENOMEM after a check that nothing is left behind; anything else is wrong.
 * Without memory for something of our own it does not return. */
typedef int try_fn(void *arg);

static struct failing_plan *page; /* shared with the child */

static int run_child(try_fn *try, void *arg, uint64_t at) {
  memset(page, 0, FAILING_PAGE);
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    fclose(stderr); /* its one line is known */
    failing_use(page);
    page->kind = FAILING_ALLOC;
    page->action = ENOMEM;
    page->at = at;
    int err = try(arg);
    failing_use(NULL);
    _exit(err == PF_OK ? ENDED_WELL : err == PF_ENOMEM ? REFUSED : WRONG);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (!WIFEXITED(status)) fail_msg("allocation %u: signal %d", (unsigned)at, WTERMSIG(status));
  return WEXITSTATUS(status);
}

struct seen {
  unsigned well, refused, ended;
};

/* For n = 1, 2, … until a try needs no more. */
static struct seen each_allocation(try_fn *try, void *arg) {
  struct seen seen = {0};
  for (uint64_t n = 1;; n++) {
    assert_true(n < TRIES_MAX);
    int code = run_child(try, arg, n);
    if (!page->fired) {
      assert_int_equal(code, ENDED_WELL);
      return seen;
    }
    if (code == REFUSED)
      seen.refused++;
    else if (code == PF_EXIT_MEMORY)
      seen.ended++;
    else if (code == ENDED_WELL)
      seen.well++;
    else
      fail_msg("allocation %u: exit code %d, fired at %s", (unsigned)n, code,
          (const char *)page + FAILING_FIRED_AT);
  }
}

/* ---- buffers and codecs ---- */

static int try_buf(void *arg) {
  (void)arg;
  struct pf_buf buf;
  pf_buf_init(&buf, 4096);
  for (int i = 0; i < 40 && !buf.err; i++) {
    size_t len = buf.len;
    pf_buf_printf(&buf, "%d:", i);
    if (!buf.err) pf_buf_append(&buf, "0123456789abcdef0123456789abcdef", 32);
    if (buf.err && buf.len < len) return PF_EINVAL;
  }
  int err = buf.err;
  size_t len = buf.len, taken_len = 0;
  char *taken = pf_buf_take(&buf, &taken_len);
  if (!taken && !buf.err) return PF_EINVAL;
  if (!taken) err = buf.err;
  if (taken && (err || taken_len != len || taken[len] != '\0')) return PF_EINVAL;
  free(taken);
  pf_buf_done(&buf);
  return err;
}

static void test_a_buffer_reports_it_and_stays_as_it_was(void **state) {
  (void)state;
  struct seen seen = each_allocation(try_buf, NULL);
  assert_true(seen.refused >= 3);
  assert_int_equal(seen.ended + seen.well, 0);
}

static const char message_text[] =
    "{\"type\":\"start-fetch\",\"url\":\"http://localhost/"
    "a\",\"clientId\":\"c\\u00e4\",\"method\":\"PUT\","
    "\"headers\":[[\"x-a\",\"1\"],[\"x-b\",\"2\"]],\"body\":\"text\",\"retry\":{\"attempts\":3,"
    "\"statuses\":[429,"
    "\"5xx\"]},\"include\":[\"headers\",\"body\"],\"context\":{\"deep\":[1,2,{\"a\":null}]}}";

static int try_json(void *arg) {
  (void)arg;
  struct json *const untouched = (struct json *)(void *)&page, *root = untouched;
  int err = json_parse(&root, pf_slice_str(message_text), NULL);
  if (err) return root == untouched ? err : PF_EINVAL;
  json_free(root);
  return PF_OK;
}

static void test_json_is_refused(void **state) {
  (void)state;
  struct seen seen = each_allocation(try_json, NULL);
  assert_true(seen.refused >= 20);
  assert_int_equal(seen.ended + seen.well, 0);
}

static int try_own_json(void *arg) {
  (void)arg;
  struct json *root;
  int err = json_parse_own(&root, pf_slice_str(message_text));
  if (err) return PF_EINVAL; /* as if what we have stored could not be read */
  json_free(root);
  return PF_OK;
}

static void test_json_of_our_own_is_never_taken_for_broken(void **state) {
  (void)state;
  struct seen seen = each_allocation(try_own_json, NULL);
  assert_true(seen.ended >= 20);
  assert_int_equal(seen.refused + seen.well, 0);
}

static int try_message(void *arg) {
  (void)arg;
  struct pf_arena arena;
  struct client_message message;
  struct pf_error why = {0};
  const char *code = NULL;
  pf_arena_init(&arena);
  int err = client_message_decode(&message, pf_slice_str(message_text), &arena, &code, &why);
  pf_arena_done(&arena);
  if (!err) return code ? PF_EINVAL : PF_OK;
  return code && strcmp(code, "busy") == 0 ? err : PF_EINVAL; /* it is not the client's fault */
}

static void test_a_message_is_refused_for_now(void **state) {
  (void)state;
  struct seen seen = each_allocation(try_message, NULL);
  assert_true(seen.refused >= 20);
  assert_int_equal(seen.well, 0);
}

static int try_encode(void *arg) {
  const bool *viewed = arg;
  char body[3000];
  memset(body, 'b', sizeof(body));
  struct client_result result = {.client_id = pf_slice_str("c"),
      .outcome = OUTCOME_OK,
      .attempts = 1,
      .status = 200,
      .include = WIRE_INCLUDE_BODY,
      .has_body = true,
      .body = pf_slice(body, sizeof(body)),
      .offset = -1};
  struct pf_buf message, batch;
  pf_buf_init(&message, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&batch, PF_BUF_MAX_DEFAULT);
  client_result_encode(&message, &result);
  int err = message.err;
  if (!err || *viewed) batch_append(&batch, pf_buf_view(&message), pf_slice_str("body"));
  if (!err) err = batch.err;
  if (err && *viewed && message.err) return PF_EINVAL; /* a part was taken for the whole */
  struct batch_reader reader = batch_reader((struct pf_slice){batch.data, batch.len});
  struct pf_slice head, rest;
  if (!err && (batch_next(&reader, &head, &rest) || head.len != message.len)) return PF_EINVAL;
  pf_buf_done(&message);
  pf_buf_done(&batch);
  return err;
}

static void test_an_encoder_reports_it(void **state) {
  (void)state;
  struct seen seen = each_allocation(try_encode, &(bool){false});
  assert_true(seen.refused >= 3);
  assert_int_equal(seen.ended + seen.well, 0);
}

static void test_a_part_is_never_viewed_as_the_whole(void **state) {
  (void)state;
  struct seen seen = each_allocation(try_encode, &(bool){true});
  assert_true(seen.ended >= 3);
}

/* ---- an outgoing call ---- */

struct outgoing {
  uv_loop_t loop;
  uv_poll_t accepting;
  struct http *http;
  struct http_call call;
  struct pf_listeners sockets;
  bool ended, wrong;
};

/* The peer: one request, which must be what was asked for. */
static void peer_on_readable(uv_poll_t *poll, int status, int events) {
  struct outgoing *o = poll->data;
  (void)status, (void)events;
  static const char wanted[] = "PUT /x HTTP/1.1\r\n",
                    answer[] = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
  char head[2048];
  int fd = accept(o->sockets.fds[0], NULL, NULL);
  if (fd < 0) return;
  struct timeval patience = {.tv_sec = 5};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ssize_t len = recv(fd, head, sizeof(head) - 1, 0);
  head[len > 0 ? len : 0] = '\0';
  if (len > 0 && (strncmp(head, wanted, sizeof(wanted) - 1) != 0 ||
                     !strstr(head, "\r\nContent-Type: a/b\r\n") ||
                     !strstr(head, "\r\n" HOP_VERSION_HEADER ": ") || strstr(head, "\r\nExpect:")))
    o->wrong = true;
  (void)!write(fd, answer, sizeof(answer) - 1);
  close(fd);
}

static void call_on_done(struct http_call *call) {
  struct outgoing *o = call->arg;
  o->ended = true;
  uv_close((uv_handle_t *)&o->accepting, NULL);
  http_close(o->http, NULL, NULL); /* the loop ends for want of handles */
}

static int try_call(void *arg) {
  struct outgoing *o = arg;
  char url[64];
  snprintf(url, sizeof(url), "http://127.0.0.1:%u/x", o->sockets.bound.port);
  o->call = (struct http_call){.method = "PUT",
      .url = url,
      .content_type = "a/b",
      .body = pf_slice_str("hello"),
      .done = call_on_done,
      .arg = o};
  http_start(o->http, &o->call);
  uv_run(&o->loop, UV_RUN_DEFAULT);
  if (!o->ended || o->wrong || (!o->call.err && o->call.status != 200)) return PF_EINVAL;
  return o->call.err ? PF_ENOMEM : PF_OK;
}

static void test_a_call_is_made_as_asked_or_not_at_all(void **state) {
  (void)state;
  struct outgoing o = {0};
  struct pf_error why = {0};
  struct pf_listen_addr listen;
  assert_int_equal(pf_listen_addr_parse(&listen, "127.0.0.1:0", &why), 0);
  assert_int_equal(pf_listen_open(&listen, &o.sockets, &why), 0);
  assert_int_equal(uv_loop_init(&o.loop), 0);
  assert_int_equal(http_new(&o.http, &o.loop), 0);
  assert_int_equal(uv_poll_init(&o.loop, &o.accepting, o.sockets.fds[0]), 0);
  o.accepting.data = &o;
  assert_int_equal(uv_poll_start(&o.accepting, UV_READABLE, peer_on_readable), 0);
  struct seen seen = each_allocation(try_call, &o);
  assert_true(seen.ended >= 5);
}

int main(void) {
  page = mmap(NULL, FAILING_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_buffer_reports_it_and_stays_as_it_was),
      cmocka_unit_test(test_json_is_refused),
      cmocka_unit_test(test_json_of_our_own_is_never_taken_for_broken),
      cmocka_unit_test(test_a_message_is_refused_for_now),
      cmocka_unit_test(test_an_encoder_reports_it),
      cmocka_unit_test(test_a_part_is_never_viewed_as_the_whole),
      cmocka_unit_test(test_a_call_is_made_as_asked_or_not_at_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
