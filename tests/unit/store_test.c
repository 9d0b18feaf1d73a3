#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store_fixture.h"

/* What is left when an assertion fails in the middle of a test. Returns the end of a process that
 * tears it down; SIGALRM: it hung. */
static int teardown_of_a_failed_test(bool in_flight) {
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    struct held held;
    void *state;
    alarm(10);
    (void)!freopen("/dev/null", "w", stderr); /* it would complain */
    setup(&state);
    struct fixture *f = state;
    open_ok(f);
    put_and_wait(f, 1);
    if (in_flight) held_submit(&held, f, 2);
    teardown(&state);
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return status;
}

static void test_a_failed_assertion_does_not_hang(void **state) {
  (void)state;
  int idle = teardown_of_a_failed_test(false), busy = teardown_of_a_failed_test(true);
  assert_true(WIFEXITED(idle) && WEXITSTATUS(idle) == 0); /* the next tests can run */
  assert_true(
      WIFEXITED(busy) && WEXITSTATUS(busy) == 1); /* its requests were on the test's stack */
}

static int store_fixture_tests(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_failed_assertion_does_not_hang),
  };
  return cmocka_run_group_tests_name("store_fixture", tests, NULL, NULL);
}

int main(void) {
  return store_fixture_tests() + store_commit_tests() + store_file_tests() + store_log_tests();
}
