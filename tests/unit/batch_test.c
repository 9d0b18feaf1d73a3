#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "wire/batch.h"

static void fill(struct pf_buf *buf, struct pf_rand *rand, size_t len) {
  pf_buf_clear(buf);
  for (size_t i = 0; i < len; i++)
    pf_buf_append(buf, &(char){(char)pf_rand_u64(rand)}, 1);
}

/* Batches of random records read back, and every true prefix of one is torn. */
static void test_round_trip(void **state) {
  (void)state;
  struct pf_rand rand = {1};
  struct pf_buf buf, head, body;
  pf_buf_init(&buf, 1 << 20);
  pf_buf_init(&head, 4096);
  pf_buf_init(&body, 4096);
  for (int round = 0; round < 10000; round++) {
    size_t count = pf_rand_below(&rand, 4), ends[4];
    struct pf_rand replay = rand; /* the same records once more, when they are read */
    pf_buf_clear(&buf);
    for (size_t i = 0; i < count; i++) {
      fill(&head, &rand, pf_rand_below(&rand, 20));
      fill(&body, &rand, pf_rand_below(&rand, 20));
      if (round % 2) {
        batch_append(&buf, pf_buf_view(&head), pf_buf_view(&body));
      } else {
        size_t record = batch_begin(&buf);
        pf_buf_slice(&buf, pf_buf_view(&head));
        batch_end(&buf, record, pf_buf_view(&body));
      }
      ends[i] = buf.len;
    }
    struct batch_reader reader = batch_reader(pf_buf_view(&buf));
    for (size_t i = 0; i < count; i++) {
      struct pf_slice got_head, got_body;
      fill(&head, &replay, pf_rand_below(&replay, 20));
      fill(&body, &replay, pf_rand_below(&replay, 20));
      assert_int_equal(batch_next(&reader, &got_head, &got_body), PF_OK);
      assert_true(pf_slice_eq(got_head, pf_buf_view(&head)));
      assert_true(pf_slice_eq(got_body, pf_buf_view(&body)));
      assert_ptr_equal(got_body.data + got_body.len, buf.data + ends[i]);
    }
    struct pf_slice none;
    assert_int_equal(batch_next(&reader, &none, &none), PF_ENOTFOUND);
    assert_int_equal(batch_next(&reader, &none, &none), PF_ENOTFOUND);
  }
  pf_buf_done(&buf);
  pf_buf_done(&head);
  pf_buf_done(&body);
}

static void test_torn_records(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, 4096);
  batch_append(&buf, pf_slice_str("{}"), pf_slice_str("body"));
  size_t first = buf.len;
  batch_append(&buf, pf_slice_str("{\"a\":1}"), pf_slice_str(""));
  for (size_t cut = 0; cut < buf.len; cut++) {
    char *exact = malloc(cut ? cut : 1);
    assert_non_null(exact);
    memcpy(exact, buf.data, cut);
    struct batch_reader reader = batch_reader(pf_slice(exact, cut));
    struct pf_slice head, body;
    int err = batch_next(&reader, &head, &body);
    if (cut >= first) {
      assert_int_equal(err, PF_OK);
      err = batch_next(&reader, &head, &body);
    }
    assert_int_equal(err, cut == 0 || cut == first ? PF_ENOTFOUND : PF_EINVAL);
    free(exact);
  }
  pf_buf_done(&buf);
}

/* The lengths on the wire are big-endian, head first. */
static void test_layout(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 20);
  static char body[0x10203];
  batch_append(&buf, pf_slice_str("hd"), pf_slice(body, sizeof(body)));
  assert_int_equal(buf.len, BATCH_RECORD_OVERHEAD + 2 + sizeof(body));
  assert_memory_equal(buf.data, "\0\0\0\2\0\1\2\3hd", 10);
  pf_buf_done(&buf);
}

static int append_sizes(size_t head_len, size_t body_len) {
  char *zeros = calloc(1, head_len > body_len ? head_len : body_len);
  assert_non_null(zeros);
  struct pf_buf buf;
  pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
  batch_append(&buf, pf_slice(zeros, head_len), pf_slice(zeros, body_len));
  int err = buf.err;
  if (!err) {
    struct batch_reader reader = batch_reader(pf_buf_view(&buf));
    struct pf_slice head, body;
    assert_int_equal(batch_next(&reader, &head, &body), PF_OK);
    assert_int_equal(head.len, head_len);
    assert_int_equal(body.len, body_len);
  }
  pf_buf_done(&buf);
  free(zeros);
  return err;
}

static void test_lengths_at_limit(void **state) {
  (void)state;
  assert_int_equal(append_sizes(BATCH_HEAD_MAX, 1), PF_OK);
  assert_int_equal(append_sizes(BATCH_HEAD_MAX + 1, 1), PF_ELIMIT);
  assert_int_equal(append_sizes(1, BATCH_BODY_MAX), PF_OK);
  assert_int_equal(append_sizes(1, BATCH_BODY_MAX + 1), PF_ELIMIT);
  static const struct {
    const char *lengths;
    int err;
  } cases[] = {{"\x00\x04\x00\x00\x00\x00\x00\x00", PF_EINVAL}, /* max, and torn */
      {"\x00\x04\x00\x01\x00\x00\x00\x00", PF_ELIMIT},
      {"\x00\x00\x00\x00\x01\x10\x00\x00", PF_EINVAL},
      {"\x00\x00\x00\x00\x01\x10\x00\x01", PF_ELIMIT},
      {"\xff\xff\xff\xff\xff\xff\xff\xff", PF_ELIMIT}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct batch_reader reader = batch_reader(pf_slice(cases[i].lengths, BATCH_RECORD_OVERHEAD));
    struct pf_slice head, body;
    assert_int_equal(batch_next(&reader, &head, &body), cases[i].err);
  }
}

static void test_records_at_limit(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
  for (int i = 0; i <= BATCH_RECORDS_MAX; i++)
    batch_append(&buf, (struct pf_slice){0}, (struct pf_slice){0});
  struct pf_slice head, body;
  struct batch_reader reader = batch_reader(pf_buf_view(&buf));
  for (int i = 0; i < BATCH_RECORDS_MAX; i++)
    assert_int_equal(batch_next(&reader, &head, &body), PF_OK);
  assert_int_equal(batch_next(&reader, &head, &body), PF_ELIMIT);
  reader = batch_reader(pf_slice(buf.data, buf.len - BATCH_RECORD_OVERHEAD));
  for (int i = 0; i < BATCH_RECORDS_MAX; i++)
    assert_int_equal(batch_next(&reader, &head, &body), PF_OK);
  assert_int_equal(batch_next(&reader, &head, &body), PF_ENOTFOUND);
  pf_buf_done(&buf);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_torn_records),
      cmocka_unit_test(test_layout),
      cmocka_unit_test(test_lengths_at_limit),
      cmocka_unit_test(test_records_at_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
