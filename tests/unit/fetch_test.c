#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/clock.h"
#include "executor/fetch.h"

/* ---- a resolver that answers by the name ----
 *
 * dead-*: nothing until the test opens the gate, then no such name. none-*: no such name. mixed-*:
 * a forbidden address and the server's. private-*: forbidden addresses only. Others: the server's.
 */

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_opened = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static unsigned lookups, lookups_running, lookups_most;

static struct sockaddr_storage v4(uint32_t addr) {
  struct sockaddr_storage storage = {0};
  struct sockaddr_in *in = (struct sockaddr_in *)&storage;
  in->sin_family = AF_INET;
  in->sin_addr.s_addr = htonl(addr);
  return storage;
}

static int lookup_by_name(
    const char *name, struct sockaddr_storage addrs[DNS_ADDRESSES_MAX], unsigned *ret_count) {
  pthread_mutex_lock(&gate_lock);
  lookups++;
  if (++lookups_running > lookups_most) lookups_most = lookups_running;
  pthread_cond_broadcast(&gate_opened);
  bool dead = strncmp(name, "dead-", 5) == 0;
  while (dead && !gate_open)
    pthread_cond_wait(&gate_opened, &gate_lock);
  lookups_running--;
  pthread_cond_broadcast(&gate_opened);
  pthread_mutex_unlock(&gate_lock);
  if (dead || strncmp(name, "none-", 5) == 0) return EAI_NONAME;
  unsigned count = 0;
  if (strncmp(name, "mixed-", 6) == 0 || strncmp(name, "private-", 8) == 0) {
    addrs[count++] = v4(0x0a000001); /* 10.0.0.1 */
    addrs[count++] = v4(0xa9fea9fe); /* 169.254.169.254 */
  }
  if (strncmp(name, "private-", 8) != 0) addrs[count++] = v4(INADDR_LOOPBACK);
  *ret_count = count;
  return 0;
}

static unsigned read_locked(const unsigned *count) {
  pthread_mutex_lock(&gate_lock);
  unsigned value = *count;
  pthread_mutex_unlock(&gate_lock);
  return value;
}

static void gate_set(bool open) {
  pthread_mutex_lock(&gate_lock);
  gate_open = open;
  pthread_cond_broadcast(&gate_opened);
  while (open && lookups_running > 0)
    pthread_cond_wait(&gate_opened, &gate_lock);
  pthread_mutex_unlock(&gate_lock);
}

/* ---- the target: answers every request with the same ---- */

#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"

struct world {
  uv_loop_t loop;
  uv_tcp_t listener;
  uint16_t port;
  unsigned accepted, requests;
  bool mute;   /* takes requests and says nothing */
  bool resets; /* breaks a connection when its request is about to leave */
  struct pf_list conns;
  struct egress_rules rules;
  struct fetch_engine *engine;
  bool may_send, closed;
  unsigned running; /* fetches not done */
  uv_timer_t watchdog;
};

struct conn {
  uv_tcp_t tcp;
  struct pf_list link;
  struct world *world;
  char in[4096];
  size_t len;
};

static void conn_gone(uv_handle_t *handle) {
  struct conn *c = handle->data;
  pf_list_del(&c->link);
  free(c);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
  struct conn *c = handle->data;
  (void)size;
  *buf = uv_buf_init(c->in + c->len, (unsigned)(sizeof(c->in) - c->len));
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf) {
  struct conn *c = stream->data;
  (void)buf;
  if (count < 0) {
    if (!uv_is_closing((uv_handle_t *)stream)) uv_close((uv_handle_t *)stream, conn_gone);
    return;
  }
  c->len += (size_t)count;
  if (!memmem(c->in, c->len, "\r\n\r\n", 4)) return;
  c->len = 0;
  c->world->requests++;
  uv_buf_t answer = uv_buf_init((char *)(uintptr_t)ANSWER, sizeof(ANSWER) - 1);
  if (!c->world->mute) assert_int_equal(uv_try_write(stream, &answer, 1), sizeof(ANSWER) - 1);
}

static void on_connection(uv_stream_t *stream, int status) {
  struct world *w = stream->data;
  assert_int_equal(status, 0);
  struct conn *c = calloc(1, sizeof(*c));
  c->world = w;
  c->tcp.data = c;
  pf_list_push(&w->conns, &c->link);
  assert_int_equal(uv_tcp_init(&w->loop, &c->tcp), 0);
  assert_int_equal(uv_accept(stream, (uv_stream_t *)&c->tcp), 0);
  assert_int_equal(uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read), 0);
  w->accepted++;
}

/* Resets the only connection, whether the loop has come to accept it or not; over loopback the
 * other end has that at once. */
static void reset_only(struct world *w) {
  if (!pf_list_empty(&w->conns)) {
    struct conn *c = pf_container_of(w->conns.next, struct conn, link);
    assert_int_equal(uv_tcp_close_reset(&c->tcp, conn_gone), 0);
    return;
  }
  uv_os_fd_t listener;
  assert_int_equal(uv_fileno((uv_handle_t *)&w->listener, &listener), 0);
  int fd = accept(listener, NULL, NULL);
  assert_true(fd >= 0);
  const struct linger at_once = {.l_onoff = 1};
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
  assert_int_equal(close(fd), 0);
}

static bool world_may_send(void *arg, const struct fetch *fetch) {
  struct world *w = arg;
  (void)fetch;
  if (w->resets) reset_only(w);
  return w->may_send;
}

static void on_watchdog(uv_timer_t *timer) {
  (void)timer;
  fail_msg("nothing has happened for too long");
}

static int world_open_with(void **state, const struct fetch_limits *limits) {
  struct world *w = calloc(1, sizeof(*w));
  pf_list_init(&w->conns);
  w->may_send = true;
  assert_int_equal(uv_loop_init(&w->loop), 0);
  assert_int_equal(uv_tcp_init(&w->loop, &w->listener), 0);
  w->listener.data = w;
  struct sockaddr_storage addr = v4(INADDR_LOOPBACK);
  assert_int_equal(uv_tcp_bind(&w->listener, (struct sockaddr *)&addr, 0), 0);
  assert_int_equal(uv_listen((uv_stream_t *)&w->listener, 1024, on_connection), 0);
  int len = sizeof(addr);
  assert_int_equal(uv_tcp_getsockname(&w->listener, (struct sockaddr *)&addr, &len), 0);
  w->port = pf_sockaddr_port((struct sockaddr *)&addr);
  char rule[64];
  snprintf(rule, sizeof(rule), "127.0.0.1:%u", w->port);
  assert_int_equal(egress_allow(&w->rules, rule, NULL), PF_OK);
  struct fetch_config config = {.limits = *limits,
      .rules = &w->rules,
      .dns.lookup = lookup_by_name,
      .may_send = world_may_send,
      .arg = w};
  assert_int_equal(fetch_engine_new(&w->engine, &w->loop, &config), PF_OK);
  assert_int_equal(uv_timer_init(&w->loop, &w->watchdog), 0);
  assert_int_equal(uv_timer_start(&w->watchdog, on_watchdog, 60000, 0), 0);
  gate_set(false);
  pthread_mutex_lock(&gate_lock);
  lookups = lookups_most = 0;
  pthread_mutex_unlock(&gate_lock);
  *state = w;
  return 0;
}

static const struct fetch_limits limits_default = {.dns_ms = 30000,
    .connect_ms = 30000,
    .idle_ms = 30000,
    .body_max = 1 << 20,
    .buffered_max = 1 << 20,
    .transfers_max = 2000};

static int world_open(void **state) {
  return world_open_with(state, &limits_default);
}

static void engine_gone(void *arg) {
  ((struct world *)arg)->closed = true;
}

static int world_close(void **state) {
  struct world *w = *state;
  gate_set(true); /* no thread of this test is left for the next one */
  uv_close((uv_handle_t *)&w->watchdog, NULL);
  uv_close((uv_handle_t *)&w->listener, NULL);
  fetch_engine_close(w->engine, engine_gone, w);
  PF_LIST_EACH(link, &w->conns) {
    struct conn *c = pf_container_of(link, struct conn, link);
    if (!uv_is_closing((uv_handle_t *)&c->tcp)) uv_close((uv_handle_t *)&c->tcp, conn_gone);
  }
  uv_run(&w->loop, UV_RUN_DEFAULT);
  assert_true(w->closed);
  assert_int_equal(uv_loop_close(&w->loop), 0);
  free(w);
  return 0;
}

/* ---- fetches ---- */

struct one {
  struct fetch fetch;
  struct pf_arena arena;
  struct world *world;
  char url[128];
  bool done;
  int64_t done_ms;
};

static void on_fetched(struct fetch *fetch) {
  struct one *one = pf_container_of(fetch, struct one, fetch);
  assert_false(one->done);
  one->done = true;
  one->done_ms = pf_clock_mono_ms();
  one->world->running--;
  /* UV_RUN_ONCE runs due timers and then waits: one of them may have ended the last fetch. */
  uv_stop(&one->world->loop);
}

static void one_start(struct world *w, struct one *one, const char *host) {
  one->world = w;
  pf_arena_init(&one->arena);
  snprintf(one->url, sizeof(one->url), "http://%s:%u/x", host, w->port);
  one->fetch.request.url = pf_slice_str(one->url);
  if (!one->fetch.request.method.len) one->fetch.request.method = pf_slice_str("GET");
  one->fetch.request.include = WIRE_INCLUDE_BODY;
  one->fetch.arena = &one->arena;
  if (!one->fetch.attempt_ms) one->fetch.attempt_ms = 30000;
  one->fetch.done = on_fetched;
  w->running++;
  fetch_start(w->engine, &one->fetch);
  assert_false(one->done);
}

static void one_end(struct one *one) {
  fetch_release(&one->fetch);
  pf_arena_done(&one->arena);
}

static void run_until(struct world *w, const bool *done) {
  while (!*done)
    uv_run(&w->loop, UV_RUN_ONCE);
}

static void one_run(struct world *w, struct one *one, const char *host) {
  one_start(w, one, host);
  run_until(w, &one->done);
}

static void one_expect(const struct one *one, enum outcome outcome, enum certainty certainty) {
  if (one->fetch.outcome != outcome || one->fetch.certainty != certainty)
    fail_msg("%s: %s, %s: %s", one->url, outcome_code(one->fetch.outcome),
        certainty_name(one->fetch.certainty), one->fetch.error);
}

static void test_a_fetch_by_address_and_by_name(void **state) {
  struct world *w = *state;
  const char *hosts[] = {"127.0.0.1", "localhost", "good", "mixed-1", "GOOD"};
  for (size_t i = 0; i < PF_COUNT(hosts); i++) {
    struct one one = {0};
    one_run(w, &one, hosts[i]);
    one_expect(&one, OUTCOME_OK, CERTAINTY_ANSWERED);
    assert_int_equal(one.fetch.status, 200);
    assert_int_equal(one.fetch.body.len, 10);
    assert_int_equal(fetch_buffered(w->engine), 10);
    one_end(&one);
    assert_int_equal(fetch_buffered(w->engine), 0);
  }
  assert_int_equal(read_locked(&lookups), 2); /* good, mixed-1 */
  assert_int_equal(w->requests, 5);
}

/* Every address that is not allowed is refused before a socket for it exists. */
static void test_refused_addresses_are_not_dialled(void **state) {
  struct world *w = *state;
  const char *hosts[] = {"private-1", "10.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]", "0x7f.2",
      "2130706434", "127.0.0.2", "[fe80::1]", "[::1]"};
  for (size_t i = 0; i < PF_COUNT(hosts); i++) {
    struct one one = {0};
    /* What our stand-in resolver says of numbers in disguise does not matter here: libcurl reads
     * them by itself, and the address it would dial is judged. */
    one_run(w, &one, hosts[i]);
    one_expect(&one, OUTCOME_POLICY_REFUSED, CERTAINTY_NOT_SENT);
    assert_false(one.fetch.dialed);
    assert_non_null(strstr(one.fetch.error, "--allow-target"));
    one_end(&one);
  }
  assert_int_equal(w->accepted, 0);
}

static void test_a_name_without_address(void **state) {
  struct world *w = *state;
  struct one one = {0};
  one_run(w, &one, "none-1");
  one_expect(&one, OUTCOME_DNS_FAILED, CERTAINTY_NOT_SENT);
  one_end(&one);
  struct one again = {0};
  one_run(w, &again, "none-1"); /* a failure is not remembered */
  one_end(&again);
  assert_int_equal(read_locked(&lookups), 2);
}

static void test_many_fetches_share_one_lookup(void **state) {
  struct world *w = *state;
  enum { COUNT = 1000 };
  struct one *all = calloc(COUNT, sizeof(*all));
  for (int i = 0; i < COUNT; i++)
    one_start(w, &all[i], "good");
  while (w->running > 0)
    uv_run(&w->loop, UV_RUN_ONCE);
  for (int i = 0; i < COUNT; i++) {
    one_expect(&all[i], OUTCOME_OK, CERTAINTY_ANSWERED);
    one_end(&all[i]);
  }
  assert_int_equal(read_locked(&lookups), 1);
  assert_int_equal(w->requests, COUNT);
  free(all);
}

/* Names whose servers never answer neither block the loop nor hold up others for long. */
static void test_500_dead_names_delay_nobody(void **state) {
  struct world *w = *state;
  enum { COUNT = 500 };
  struct one *dead = calloc(COUNT, sizeof(*dead)), good = {0};
  for (int i = 0; i < COUNT; i++) {
    char name[32];
    snprintf(name, sizeof(name), "dead-%d", i);
    one_start(w, &dead[i], name);
  }
  one_run(w, &good, "good");
  one_expect(&good, OUTCOME_OK, CERTAINTY_ANSWERED);
  assert_int_equal(w->running, COUNT); /* none of them has timed out yet */
  one_end(&good);
  gate_set(true);
  while (w->running > 0)
    uv_run(&w->loop, UV_RUN_ONCE);
  for (int i = 0; i < COUNT; i++) {
    one_expect(&dead[i], OUTCOME_DNS_FAILED, CERTAINTY_NOT_SENT);
    one_end(&dead[i]);
  }
  free(dead);
}

static int world_open_short(void **state) {
  struct fetch_limits limits = limits_default;
  limits.dns_ms = limits.idle_ms = 50;
  limits.buffered_max = 25;
  return world_open_with(state, &limits);
}

/* A thread that was started may come to its look-up after those who wanted it have given up. */
static void lookups_await(unsigned running) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 20;
  pthread_mutex_lock(&gate_lock);
  int rc = 0;
  while (lookups_running < running && rc == 0)
    rc = pthread_cond_timedwait(&gate_opened, &gate_lock, &until);
  pthread_mutex_unlock(&gate_lock);
  assert_int_equal(rc, 0);
}

/* However many names are asked for, threads stay bounded. */
static void test_threads_are_bounded(void **state) {
  struct world *w = *state;
  enum { COUNT = DNS_THREADS_MAX + 200 };
  struct one *dead = calloc(COUNT, sizeof(*dead));
  for (int round = 0, next = 0; next < COUNT; round++) {
    int end = next + 100 < COUNT ? next + 100 : COUNT;
    for (; next < end; next++) {
      char name[32];
      snprintf(name, sizeof(name), "dead-%d-%d", round, next);
      one_start(w, &dead[next], name);
    }
    while (w->running > 0)
      uv_run(&w->loop, UV_RUN_ONCE);
  }
  lookups_await(DNS_YOUNG_MAX);
  assert_in_range(read_locked(&lookups_most), DNS_YOUNG_MAX, DNS_THREADS_MAX);
  for (int i = 0; i < COUNT; i++) {
    one_expect(&dead[i], OUTCOME_DNS_TIMEOUT, CERTAINTY_NOT_SENT);
    one_end(&dead[i]);
  }
  free(dead);
}

static void test_bytes_of_all_answers_are_bounded(void **state) {
  struct world *w = *state;
  struct one fits[2] = {0}, over = {0}, later = {0};
  one_run(w, &fits[0], "127.0.0.1");
  one_run(w, &fits[1], "127.0.0.1");
  one_run(w, &over, "127.0.0.1");
  one_expect(&fits[1], OUTCOME_OK, CERTAINTY_ANSWERED);
  one_expect(&over, OUTCOME_EXECUTOR_INTERNAL, CERTAINTY_ANSWERED_PARTIAL);
  one_end(&over);
  one_end(&fits[0]);
  one_run(w, &later, "127.0.0.1");
  one_expect(&later, OUTCOME_OK, CERTAINTY_ANSWERED);
  one_end(&later);
  one_end(&fits[1]);
  assert_int_equal(fetch_buffered(w->engine), 0);
}

/* The first byte may take as long as the attempt; idle begins with the body. */
static void test_no_answer_in_time(void **state) {
  struct world *w = *state;
  struct one get = {.fetch.attempt_ms = 200};
  w->mute = true;
  int64_t begin_ms = pf_clock_mono_ms();
  one_run(w, &get, "127.0.0.1");
  one_expect(&get, OUTCOME_TIMEOUT_FIRST_BYTE, CERTAINTY_SENT_UNKNOWN);
  assert_in_range(get.done_ms - begin_ms, 199, 30000);
  one_end(&get);
}

static void test_a_lapsed_lease_sends_nothing(void **state) {
  struct world *w = *state;
  struct one one = {0};
  w->may_send = false;
  one_run(w, &one, "127.0.0.1");
  assert_true(one.fetch.lapsed);
  assert_int_equal(one.fetch.certainty, CERTAINTY_NOT_SENT);
  assert_int_equal(w->requests, 0);
  one_end(&one);
}

/* Evidence of what has left is the count of its bytes, not that it was about to: a POST of which
 * none did may be tried again. */
static void test_a_request_of_which_no_byte_left(void **state) {
  struct world *w = *state;
  struct one post = {
      .fetch.request = {.method = pf_slice_str("POST"), .body = pf_slice_str("once")}};
  w->resets = true;
  one_run(w, &post, "127.0.0.1");
  one_expect(&post, OUTCOME_RESET, CERTAINTY_NOT_SENT);
  assert_int_equal(post.fetch.sends, 1); /* it was allowed to */
  assert_int_equal(w->requests, 0);
  one_end(&post);
  struct one again = {
      .fetch.request = {.method = pf_slice_str("POST"), .body = pf_slice_str("once")}};
  w->resets = false;
  w->mute = true;
  again.fetch.attempt_ms = 200;
  one_run(w, &again, "127.0.0.1");
  one_expect(&again, OUTCOME_TIMEOUT_FIRST_BYTE, CERTAINTY_SENT_UNKNOWN);
  one_end(&again);
}

static void test_cancel_in_every_state(void **state) {
  struct world *w = *state;
  struct one queued = {0}, resolving = {0}, dialing = {0}, sent = {0}, after = {0};
  w->mute = true;
  one_start(w, &sent, "127.0.0.1");
  while (w->requests == 0)
    uv_run(&w->loop, UV_RUN_ONCE);
  assert_int_equal(sent.fetch.state, FETCH_SENT);
  one_start(w, &resolving, "dead-1");
  while (resolving.fetch.state == FETCH_QUEUED)
    uv_run(&w->loop, UV_RUN_NOWAIT);
  assert_int_equal(resolving.fetch.state, FETCH_RESOLVING);
  one_start(w, &dialing, "127.0.0.1");
  while (dialing.fetch.state == FETCH_QUEUED)
    uv_run(&w->loop, UV_RUN_NOWAIT);
  one_start(w, &queued, "127.0.0.1");
  assert_int_equal(queued.fetch.state, FETCH_QUEUED);
  struct one *all[] = {&queued, &resolving, &dialing, &sent};
  for (size_t i = 0; i < PF_COUNT(all); i++) {
    fetch_cancel(&all[i]->fetch);
    fetch_cancel(&all[i]->fetch); /* harmless */
    one_end(all[i]);
    w->running--;
  }
  w->mute = false;
  one_run(w, &after, "127.0.0.1");
  one_expect(&after, OUTCOME_OK, CERTAINTY_ANSWERED);
  for (size_t i = 0; i < PF_COUNT(all); i++)
    assert_false(all[i]->done);
  one_end(&after);
}

static void test_bad_requests(void **state) {
  struct world *w = *state;
  struct one method = {.fetch.request.method = pf_slice_str("BREW")}, url = {0};
  one_run(w, &method, "127.0.0.1");
  one_expect(&method, OUTCOME_BAD_REQUEST, CERTAINTY_NOT_SENT);
  one_run(w, &url, "user@127.0.0.1");
  one_expect(&url, OUTCOME_BAD_URL, CERTAINTY_NOT_SENT);
  one_end(&method);
  one_end(&url);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_open, world_close)
#define TEST_SHORT(f) cmocka_unit_test_setup_teardown(f, world_open_short, world_close)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_a_fetch_by_address_and_by_name),
      TEST(test_refused_addresses_are_not_dialled),
      TEST(test_a_name_without_address),
      TEST(test_many_fetches_share_one_lookup),
      TEST(test_500_dead_names_delay_nobody),
      TEST_SHORT(test_threads_are_bounded),
      TEST_SHORT(test_bytes_of_all_answers_are_bounded),
      TEST(test_no_answer_in_time),
      TEST(test_a_lapsed_lease_sends_nothing),
      TEST(test_a_request_of_which_no_byte_left),
      TEST(test_cancel_in_every_state),
      TEST(test_bad_requests),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
