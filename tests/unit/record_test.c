/* Recorded loads (clients/measure/record.h): lines and what is wrong with them, files, limits. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/measure/record.h"

#define MS INT64_C(1000000)

static int setup(void **state) {
  *state = pf_alloc(sizeof(struct record));
  record_init(*state);
  return 0;
}

static int teardown(void **state) {
  record_done(*state);
  free(*state);
  return 0;
}

static void add(struct record *r, const char *line) {
  struct pf_error why = {0};
  if (record_add_line(r, pf_slice_str(line), 1, &why)) fail_msg("%s: %s", line, why.text);
}

static void lines_are_read_and_same_requests_kept_once(void **state) {
  struct record *r = *state;
  add(r, "{\"at\":0,\"url\":\"http://t/a\"}");
  add(r, "{\"url\":\"http://t/b\",\"body\":\"a\\\"\\n\",\"later\":[1,{}],\"at\":1.5,\"method\":"
         "\"POST\"}");
  add(r, " {\"at\":1.5,\"url\":\"http://t/a\",\"method\":\"GET\",\"body\":\"\"} ");
  assert_int_equal(r->send_count, 3);
  assert_int_equal(r->request_count, 2);
  assert_true(pf_slice_is(r->requests[0].method, "GET") && r->requests[0].body.len == 0);
  assert_string_equal(r->requests[1].url.data, "http://t/b");
  assert_true(pf_slice_is(r->requests[1].body, "a\"\n"));
  assert_int_equal(r->at_ns[1], 1500000);
  assert_int_equal(r->which[1], 1);
  assert_int_equal(r->which[2], 0);
}

static void bad_lines_are_refused(void **state) {
  struct record *r = *state;
  static const struct {
    const char *line, *why;
  } bad[] = {{"", "byte"}, {"[]", "byte"}, {"{\"at\":0,\"url\":\"http://t/\"", "byte"},
      {"{\"at\":0,\"url\":\"http://t/\"} x", "byte"}, {"{\"url\":\"http://t/\"}", "\"at\""},
      {"{\"at\":-1,\"url\":\"http://t/\"}", "\"at\""},
      {"{\"at\":\"5\",\"url\":\"http://t/\"}", "byte"},
      {"{\"at\":4.9,\"url\":\"http://t/\"}", "less than in the line before"},
      {"{\"at\":9}", "\"url\""}, {"{\"at\":9,\"url\":\"\"}", "\"url\""},
      {"{\"at\":9,\"url\":\"http://t/a b\"}", "\"url\""},
      {"{\"at\":9,\"url\":\"http://t/\\r\\nX: y\"}", "\"url\""},
      {"{\"at\":9,\"url\":\"http://t/\",\"method\":\"\"}", "\"method\""},
      {"{\"at\":9,\"url\":\"http://t/\",\"method\":\"GET /\"}", "\"method\""},
      {"{\"at\":9,\"url\":\"http://t/\",\"body\":{}}", "byte"}};
  add(r, "{\"at\":5,\"url\":\"http://t/\"}");
  for (size_t i = 0; i < PF_COUNT(bad); i++) {
    struct pf_error why = {0};
    assert_int_equal(record_add_line(r, pf_slice_str(bad[i].line), 2, &why), PF_EINVAL);
    if (!strstr(why.text, bad[i].why)) fail_msg("%s: %s", bad[i].line, why.text);
    assert_int_equal(r->send_count, 1);
  }
}

static void limits_of_a_line(void **state) {
  struct record *r = *state;
  add(r, "{\"at\":0,\"url\":\"http://t/\",\"method\":\"SIXTEEN-LETTERS-\"}");
  assert_int_equal(r->requests[0].method.len, RECORD_METHOD_MAX);
  struct pf_slice longer =
      pf_slice_str("{\"at\":0,\"url\":\"http://t/\",\"method\":\"SEVENTEEN-LETTERS\"}");
  assert_int_equal(record_add_line(r, longer, 2, NULL), PF_EINVAL);
  add(r, "{\"at\":86400000,\"url\":\"http://t/\"}");
  struct pf_slice later = pf_slice_str("{\"at\":86400000.001,\"url\":\"http://t/\"}");
  assert_int_equal(record_add_line(r, later, 3, NULL), PF_EINVAL);
}

static void limit_of_requests(void **state) {
  struct record *r = *state;
  add(r, "{\"at\":0,\"url\":\"http://t/\"}");
  for (size_t i = 1; i < RECORD_SENDS_MAX; i++)
    assert_int_equal(record_send(r, 0, (int64_t)i), PF_OK);
  assert_int_equal(record_send(r, 0, (int64_t)RECORD_SENDS_MAX), PF_ELIMIT);
  struct pf_error why = {0};
  struct pf_slice line = pf_slice_str("{\"at\":9,\"url\":\"http://t/\"}");
  assert_int_equal(record_add_line(r, line, 1000001, &why), PF_ELIMIT);
  assert_string_equal(why.text, "more than 1000000 requests");
  assert_int_equal(r->send_count, RECORD_SENDS_MAX);
}

static void limit_of_text(void **state) {
  struct record *r = *state;
  char *body = pf_alloc(RECORD_LINE_MAX);
  struct load_request request = {.method = pf_slice_str("PUT"), .url = pf_slice_str("u")};
  uint32_t index;
  for (size_t left = RECORD_TEXT_MAX, i = 0; left; i++) {
    size_t bytes = left < RECORD_LINE_MAX ? left : RECORD_LINE_MAX;
    snprintf(body, RECORD_LINE_MAX, "%zu", i);
    request.body = pf_slice(body, bytes - 4); /* and PUT, u */
    assert_int_equal(record_request(r, &request, &index), PF_OK);
    assert_int_equal(index, i);
    left -= bytes;
  }
  assert_int_equal(r->text_bytes, RECORD_TEXT_MAX);
  assert_int_equal(record_request(r, &request, &index), PF_OK); /* known */
  request = (struct load_request){.method = {"", 0}, .url = {"x", 1}, .body = {"", 0}};
  assert_int_equal(record_request(r, &request, &index), PF_ELIMIT);
  free(body);
}

/* ---- files ---- */

struct file {
  char path[32];
  FILE *out;
};

static struct file file_new(void) {
  struct file f = {.path = "/tmp/record_test.XXXXXX"};
  int fd = mkstemp(f.path);
  assert_true(fd >= 0);
  f.out = fdopen(fd, "w");
  assert_non_null(f.out);
  return f;
}

static int file_read(struct file *f, struct record *r, struct pf_error *why) {
  fclose(f->out);
  int err = record_read(r, f->path, why);
  unlink(f->path);
  return err;
}

static void what_is_written_can_be_read(void **state) {
  struct record *r = *state, again;
  struct file f = file_new();
  struct pf_error why = {0};
  add(r, "{\"at\":0.125,\"url\":\"http://t/a\"}");
  add(r,
      "{\"at\":2,\"method\":\"POST\",\"url\":\"http://t/b\",\"body\":\"{\\\"x\\\":\\\"ü\\\"}\"}");
  add(r, "{\"at\":3,\"url\":\"http://t/a\"}");
  assert_int_equal(record_write(r, f.out), PF_OK);
  record_init(&again);
  assert_int_equal(file_read(&f, &again, &why), PF_OK);
  assert_int_equal(again.send_count, 3);
  assert_int_equal(again.request_count, 2);
  assert_memory_equal(again.at_ns, r->at_ns, 3 * sizeof(*r->at_ns));
  assert_memory_equal(again.which, r->which, 3 * sizeof(*r->which));
  assert_true(pf_slice_is(again.requests[1].body, "{\"x\":\"ü\"}"));
  record_done(&again);
}

static void a_bad_line_is_named(void **state) {
  struct file f = file_new();
  struct pf_error why = {0};
  fputs("{\"at\":0,\"url\":\"http://t/\"}\n{\"at\":0,\"url\":\"http://t/\"}\noops\n", f.out);
  assert_int_equal(file_read(&f, *state, &why), PF_EINVAL);
  assert_non_null(strstr(why.text, f.path));
  assert_non_null(strstr(why.text, ", line 3: byte"));
}

static void a_file_that_says_nothing_is_refused(void **state) {
  struct file f = file_new();
  struct pf_error why = {0};
  assert_int_equal(file_read(&f, *state, &why), PF_EINVAL);
  assert_non_null(strstr(why.text, "is empty"));
  assert_int_equal(record_read(*state, f.path, &why), PF_EIO); /* it is gone */
}

static void limit_of_bytes_in_a_line(void **state) {
  static const char head[] = "{\"at\":0,\"url\":\"http://t/\",\"body\":\"", tail[] = "\"}";
  for (size_t more = 0; more <= 1; more++) {
    struct file f = file_new();
    struct pf_error why = {0};
    fputs(head, f.out);
    for (size_t i = strlen(head) + strlen(tail); i < RECORD_LINE_MAX + more; i++)
      fputc('x', f.out);
    fputs(tail, f.out);
    assert_int_equal(file_read(&f, *state, &why), more ? PF_ELIMIT : PF_OK);
    if (more) assert_non_null(strstr(why.text, ", line 1: longer than 1048576 bytes"));
  }
}

static void speed_divides_the_times(void **state) {
  struct record *r = *state;
  struct pf_error why = {0};
  add(r, "{\"at\":10,\"url\":\"http://t/\"}");
  add(r, "{\"at\":43200000,\"url\":\"http://t/\"}");
  assert_int_equal(record_speed(r, 0.5, &why), PF_OK); /* a day: as long as a load may last */
  assert_int_equal(r->at_ns[0], 20 * MS);
  assert_int_equal(record_speed(r, 0.999, &why), PF_EINVAL);
  assert_int_equal(record_speed(r, 4, &why), PF_OK);
  assert_int_equal(r->at_ns[0], 5 * MS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(lines_are_read_and_same_requests_kept_once),
      TEST(bad_lines_are_refused),
      TEST(limits_of_a_line),
      TEST(limit_of_requests),
      TEST(limit_of_text),
      TEST(what_is_written_can_be_read),
      TEST(a_bad_line_is_named),
      TEST(a_file_that_says_nothing_is_refused),
      TEST(limit_of_bytes_in_a_line),
      TEST(speed_divides_the_times),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
