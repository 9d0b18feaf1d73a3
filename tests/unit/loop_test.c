#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/lag.h"
#include "loop/listen.h"
#include "loop/signals.h"

static struct pf_listen_addr addr_of(const char *text) {
  struct pf_listen_addr addr;
  assert_int_equal(pf_listen_addr_parse(&addr, text, NULL), PF_OK);
  return addr;
}

static int connect_to(const struct sockaddr_storage *addr) {
  int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int err =
      connect(fd, (const struct sockaddr *)addr, pf_sockaddr_len((const struct sockaddr *)addr));
  close(fd);
  return err;
}

static void test_port_zero_is_one_port_for_all_addresses(void **state) {
  (void)state;
  struct pf_listen_addr addr = addr_of("localhost:0");
  struct pf_listeners listeners;
  assert_int_equal(pf_listen_open(&addr, &listeners, NULL), PF_OK);
  assert_in_range(listeners.bound.count, 1, PF_ADDR_MAX);
  assert_int_not_equal(listeners.bound.port, 0);
  for (unsigned i = 0; i < listeners.bound.count; i++) {
    const struct sockaddr_storage *one = &listeners.bound.addr[i];
    assert_int_equal(pf_sockaddr_port((const struct sockaddr *)one), listeners.bound.port);
    assert_int_equal(connect_to(one), 0);
  }
  pf_listen_close(&listeners);
  assert_int_equal(connect_to(&listeners.bound.addr[0]), -1);
}

static void test_a_taken_port_is_refused_and_named(void **state) {
  (void)state;
  struct pf_listen_addr addr = addr_of("127.0.0.1:0");
  struct pf_listeners first, second;
  assert_int_equal(pf_listen_open(&addr, &first, NULL), PF_OK);
  struct pf_error why;
  char text[PF_ADDR_TEXT];
  pf_sockaddr_print(text, (struct sockaddr *)&first.bound.addr[0]);
  assert_int_equal(pf_listen_open(&first.bound, &second, &why), PF_EADDRINUSE);
  assert_int_equal(why.native, EADDRINUSE);
  assert_non_null(strstr(why.text, text));
  assert_non_null(strstr(why.text, "choose another port"));
  pf_listen_close(&first);
}

/* 192.0.2.0/24 is for documentation: no machine has an address of it. */
static void test_a_foreign_address_is_refused(void **state) {
  (void)state;
  struct pf_listen_addr addr = addr_of("192.0.2.1:0");
  struct pf_listeners listeners;
  struct pf_error why;
  assert_int_equal(pf_listen_open(&addr, &listeners, &why), PF_ENET);
  assert_non_null(strstr(why.text, "192.0.2.1"));
  assert_non_null(strstr(why.text, "this machine has no such address"));
}

static void test_urls_of_both_families(void **state) {
  (void)state;
  struct pf_listen_addr addr = addr_of("localhost:8787");
  char text[PF_LISTEN_URLS_TEXT];
  pf_listen_urls(text, &addr);
  assert_string_equal(text, "http://127.0.0.1:8787 http://[::1]:8787");
}

static void test_open_files_limit_is_raised_up_to_a_bound(void **state) {
  (void)state;
  struct rlimit limit, now;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  assert_true(limit.rlim_max >= 64);
  struct rlimit low = {.rlim_cur = 32, .rlim_max = limit.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
  assert_int_equal(pf_open_files_raise(64), 64);
  assert_int_equal(pf_open_files_raise(33), 64); /* never lowers */
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
  assert_int_equal(now.rlim_cur, 64);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void test_open_files_are_shared_out(void **state) {
  (void)state;
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  static const struct {
    rlim_t files;
    size_t wanted, others, share, share_others;
  } cases[] = {{300, 200, 100, 200, 100}, {299, 200, 100, 199, 100}, {201, 200, 100, 101, 100},
      {200, 200, 100, 100, 100}, {199, 200, 100, 99, 100}, {64, 200, 100, 32, 32},
      {120, 20, 100, 20, 100}, {119, 20, 100, 20, 99}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    pid_t child = fork(); /* the hard limit cannot be raised again */
    assert_true(child >= 0);
    if (child == 0) {
      struct rlimit low = {.rlim_cur = cases[i].files, .rlim_max = cases[i].files};
      size_t others = 0;
      bool set = setrlimit(RLIMIT_NOFILE, &low) == 0;
      size_t share = pf_open_files_share(cases[i].wanted, cases[i].others, &others);
      _exit(set && share == cases[i].share && others == cases[i].share_others ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status) fail_msg("case %zu", i);
  }
}

#define NEVER_MS 20000

static void on_never(uv_timer_t *timer) {
  uv_stop(timer->loop);
}

static void count_drain(void *arg) {
  ++*(int *)arg;
  raise(SIGINT); /* the second one */
}

static void test_first_signal_drains_second_exits(void **state) {
  (void)state;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    uv_loop_t loop;
    uv_timer_t busy; /* keeps the loop running */
    struct pf_signals signals;
    int drains = 0;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &busy);
    uv_timer_start(&busy, on_never, NEVER_MS, 0);
    pf_signals_open(&signals, &loop, count_drain, &drains);
    raise(SIGPIPE);
    raise(SIGTERM);
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(drains);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 128 + SIGINT);
}

static void close_busy(void *arg) {
  uv_close(arg, NULL);
}

static void test_the_loop_ends_after_draining(void **state) {
  (void)state;
  uv_loop_t loop;
  uv_timer_t busy;
  struct pf_signals signals;
  assert_int_equal(uv_loop_init(&loop), 0);
  uv_timer_init(&loop, &busy);
  uv_timer_start(&busy, on_never, NEVER_MS, 0);
  pf_signals_open(&signals, &loop, close_busy, &busy);
  raise(SIGTERM);
  assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
  pf_signals_close(&signals);
  assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(uv_loop_close(&loop), 0);
}

#define BLOCKED_MS 60

struct blocked {
  struct pf_lag lag;
  uv_timer_t block, end;
  int64_t calm_ns; /* the largest lag before the loop was blocked */
};

static void blocked_end(uv_timer_t *timer) {
  struct blocked *b = timer->data;
  uv_close((uv_handle_t *)&b->block, NULL);
  uv_close((uv_handle_t *)&b->end, NULL);
}

/* Begins just before the look is due, and is busy until well after. */
static void blocked_block(uv_timer_t *timer) {
  struct blocked *b = timer->data;
  b->calm_ns = pf_lag_max_ns(&b->lag);
  int64_t until_ns = b->lag.due_ns + (int64_t)BLOCKED_MS * 1000000;
  while (pf_clock_mono_ns() < until_ns)
    ;
}

static void test_a_blocked_loop_shows_as_lag(void **state) {
  (void)state;
  uv_loop_t loop;
  struct blocked b;
  assert_int_equal(uv_loop_init(&loop), 0);
  pf_lag_open(&b.lag, &loop);
  uv_timer_init(&loop, &b.block);
  uv_timer_init(&loop, &b.end);
  b.block.data = b.end.data = &b;
  uv_timer_start(&b.block, blocked_block, PF_LAG_EVERY_MS / 2, 0);
  uv_timer_start(&b.end, blocked_end, 2 * PF_LAG_EVERY_MS + BLOCKED_MS, 0);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(b.calm_ns, 0);
  assert_true(pf_lag_max_ns(&b.lag) >= (int64_t)BLOCKED_MS * 1000000);
  struct pf_buf text;
  pf_buf_init(&text, 4096);
  pf_lag_print(&b.lag, &text);
  pf_buf_append(&text, "", 1);
  assert_non_null(strstr(text.data, "\npf_loop_lag_seconds "));
  const char *max = strstr(text.data, "\npf_loop_lag_seconds_max ");
  assert_non_null(max);
  double off_s = strtod(strchr(max, ' '), NULL) - (double)pf_lag_max_ns(&b.lag) / 1e9;
  assert_true(off_s > -0.001 && off_s < 0.001);
  pf_buf_done(&text);
  pf_lag_close(&b.lag);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_blocked_loop_shows_as_lag),
      cmocka_unit_test(test_port_zero_is_one_port_for_all_addresses),
      cmocka_unit_test(test_a_taken_port_is_refused_and_named),
      cmocka_unit_test(test_a_foreign_address_is_refused),
      cmocka_unit_test(test_urls_of_both_families),
      cmocka_unit_test(test_open_files_limit_is_raised_up_to_a_bound),
      cmocka_unit_test(test_open_files_are_shared_out),
      cmocka_unit_test(test_first_signal_drains_second_exits),
      cmocka_unit_test(test_the_loop_ends_after_draining),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
