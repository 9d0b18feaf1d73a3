#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/id.h"

static void test_job_id_round_trips(void **state) {
  (void)state;
  struct pf_job_id id = {.origin = 0x0123456789abcdefu, .local = 42}, back;
  char text[PF_ID_TEXT];
  pf_job_id_print(text, id);
  assert_string_equal(text, "0123456789abcdef000000000000002a");
  assert_int_equal(pf_job_id_parse(&back, text, PF_ID_HEX), PF_OK);
  assert_true(pf_job_id_eq(id, back));
  assert_int_equal(pf_job_id_parse(&back, text, PF_ID_HEX - 1), PF_EINVAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_job_id_round_trips)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
