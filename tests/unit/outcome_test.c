#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/outcome.h"

static void test_codes_parse_back(void **state) {
  (void)state;
  for (int i = 0; i < OUTCOME_COUNT; i++) {
    enum outcome back = OUTCOME_COUNT;
    assert_string_equal(outcome_code((enum outcome)i), outcome_codes[i]);
    assert_true(outcome_parse(pf_slice_str(outcome_codes[i]), &back));
    assert_int_equal(back, i);
  }
  assert_null(outcome_codes[OUTCOME_COUNT]);
  enum outcome untouched = OUTCOME_POISON;
  assert_false(outcome_parse(pf_slice_str(""), &untouched));
  assert_false(outcome_parse(pf_slice_str("OK"), &untouched));
  assert_false(outcome_parse(pf_slice_str("okay"), &untouched));
  assert_int_equal(untouched, OUTCOME_POISON);
}

static void test_certainties_parse_back(void **state) {
  (void)state;
  int count = 0;
  for (; certainty_names[count]; count++) {
    enum certainty back;
    assert_true(certainty_parse(pf_slice_str(certainty_names[count]), &back));
    assert_int_equal(back, count);
    assert_string_equal(certainty_name(back), certainty_names[count]);
  }
  assert_int_equal(count, CERTAINTY_ANSWERED + 1);
  enum certainty untouched;
  assert_false(certainty_parse(pf_slice_str("sent"), &untouched));
}

/* What is certain cannot be improved by trying again, and only failures of the network or of an
 * executor can. */
static void test_table_is_consistent(void **state) {
  (void)state;
  assert_int_equal(outcome_http_status(OUTCOME_OK), 200);
  for (int i = 0; i < OUTCOME_COUNT; i++) {
    enum outcome outcome = (enum outcome)i;
    enum owner owner = outcome_owner(outcome);
    if (outcome_retried(outcome))
      assert_true(owner == OWNER_DNS || owner == OWNER_TARGET || owner == OWNER_EXECUTOR);
    if (outcome != OUTCOME_OK) assert_in_range(outcome_http_status(outcome), 400, 599);
    assert_true(strlen(outcome_text(outcome)) > 5);
  }
}

/* ---- docs/errors.md ---- */

static char *read_document(void) {
  FILE *file = fopen(DOCS_DIR "/errors.md", "re");
  assert_non_null(file);
  static char text[1 << 16];
  size_t len = fread(text, 1, sizeof(text) - 1, file);
  assert_true(len > 0 && len < sizeof(text) - 1);
  fclose(file);
  text[len] = '\0';
  return text;
}

/* "| a | b |" into its cells, without the spaces around them. */
static int row_cells(char *row, char *cells[8]) {
  int count = 0;
  for (char *at = row + 1, *bar; count < 8 && (bar = strchr(at, '|')) != NULL; at = bar + 1) {
    *bar = '\0';
    while (*at == ' ')
      at++;
    char *end = at + strlen(at);
    while (end > at && end[-1] == ' ')
      *--end = '\0';
    cells[count++] = at;
  }
  return count;
}

static void check_certainties(char *list) {
  int count = 0;
  for (char *word; (word = strsep(&list, ",")) != NULL; count++) {
    enum certainty ignored;
    while (*word == ' ')
      word++;
    if (!certainty_parse(pf_slice_str(word), &ignored)) fail_msg("certainty '%s'", word);
  }
  assert_true(count > 0);
}

static void check_row(char *const cells[8], enum outcome outcome) {
  char code[64];
  snprintf(code, sizeof(code), "`%s`", outcome_code(outcome));
  assert_string_equal(cells[0], code);
  check_certainties(cells[1]);
  assert_string_equal(cells[2], owner_name(outcome_owner(outcome)));
  assert_string_equal(cells[3], outcome_retried(outcome) ? "yes" : "no");
  assert_int_equal(strtol(cells[4], NULL, 10), outcome_http_status(outcome));
  assert_string_equal(cells[5], outcome_text(outcome));
}

static void test_document_lists_exactly_the_table(void **state) {
  (void)state;
  char *rest = strstr(read_document(), "\n| code | certainty |");
  assert_non_null(rest);
  rest++;
  char *cells[8];
  assert_int_equal(row_cells(strsep(&rest, "\n"), cells), 6);
  (void)strsep(&rest, "\n"); /* the line of dashes */
  int rows = 0;
  for (char *row; (row = strsep(&rest, "\n")) != NULL && row[0] == '|'; rows++) {
    assert_true(rows < OUTCOME_COUNT);
    assert_int_equal(row_cells(row, cells), 6);
    check_row(cells, (enum outcome)rows);
  }
  assert_int_equal(rows, OUTCOME_COUNT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_codes_parse_back),
      cmocka_unit_test(test_certainties_parse_back),
      cmocka_unit_test(test_table_is_consistent),
      cmocka_unit_test(test_document_lists_exactly_the_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
