#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/heap.h"
#include "base/id.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/rand.h"

/* ---- list ---- */

struct number {
  struct pf_list link;
  int value;
};

static void assert_list(struct pf_list *head, const char *digits) {
  char found[16] = "";
  size_t len = 0;
  PF_LIST_EACH(link, head)
    found[len++] = (char)('0' + pf_container_of(link, struct number, link)->value);
  assert_string_equal(found, digits);
  len = strlen(digits); /* and the same backwards */
  for (struct pf_list *link = head->prev; link != head; link = link->prev)
    assert_int_equal(pf_container_of(link, struct number, link)->value, digits[--len] - '0');
  assert_int_equal(len, 0);
}

static void test_list(void **state) {
  (void)state;
  struct number n[5];
  struct pf_list head, other;
  pf_list_init(&head);
  pf_list_init(&other);
  assert_true(pf_list_empty(&head));
  assert_null(pf_list_pop(&head));
  for (int i = 0; i < 5; i++) {
    n[i].value = i;
    if (i < 3)
      pf_list_push(&head, &n[i].link);
    else
      pf_list_push_front(&other, &n[i].link);
  }
  assert_list(&head, "012");
  assert_list(&other, "43");
  pf_list_splice(&head, &other);
  assert_list(&head, "01243");
  assert_true(pf_list_empty(&other));
  pf_list_splice(&head, &other); /* of nothing */
  assert_list(&head, "01243");
  pf_list_del(&n[2].link);
  pf_list_del(&n[2].link); /* twice is harmless */
  assert_list(&head, "0143");
  assert_ptr_equal(pf_list_pop(&head), &n[0].link);
  PF_LIST_EACH(link, &head) {
    if (pf_container_of(link, struct number, link)->value != 4) pf_list_del(link);
  }
  assert_list(&head, "4");
}

/* ---- map, against an array of all keys ---- */

enum { KEYS = 512 };

struct entry {
  struct pf_map_node node;
  unsigned key;
  bool in;
};

static bool entry_eq(const struct pf_map_node *node, const void *key) {
  return pf_container_of(node, struct entry, node)->key == *(const unsigned *)key;
}

/* Few hashes for many keys, so that chains are long and equal hashes are told apart by eq. */
static uint64_t bad_hash(unsigned key) {
  return key % 7;
}

/* Each of the map is met once. What the loop deletes is overwritten at once, as if it were freed.
 */
static void check_walks(struct pf_map *map, struct entry *entries) {
  size_t seen = 0, in_buckets = 0, before = map->count;
  PF_MAP_EACH(it, map) {
    struct entry *entry = pf_container_of(it, struct entry, node);
    assert_true(entry->in);
    entry->in = false;
    seen++;
    if (entry->key % 2 == 0) continue;
    pf_map_del(map, it);
    memset(it, 0xff, sizeof(*it));
  }
  assert_int_equal(seen, before);
  seen = 0;
  PF_MAP_EACH(it, map) {
    struct entry *entry = pf_container_of(it, struct entry, node);
    assert_true(entry->key % 2 == 0 && !entry->in);
    entry->in = true;
    seen++;
  }
  assert_int_equal(seen, map->count);
  for (unsigned key = 0; key < KEYS; key += 2)
    seen -= entries[key].in;
  assert_int_equal(seen, 0);
  for (size_t i = 3; i <= map->mask + 3; i++) /* from any bucket on */
    for (struct pf_map_node *n = pf_map_bucket(map, i); n; n = n->next)
      in_buckets++;
  assert_int_equal(in_buckets, map->count);
}

static void check_map(bool collide) {
  static struct entry entries[KEYS];
  struct pf_rand rand = {collide};
  struct pf_map map;
  size_t count = 0;
  pf_map_init(&map);
  memset(entries, 0, sizeof(entries));
  for (int i = 0; i < 20000; i++) {
    unsigned key = (unsigned)pf_rand_below(&rand, KEYS);
    struct entry *entry = &entries[key];
    uint64_t hash = collide ? bad_hash(key) : pf_hash_u64(key);
    struct pf_map_node *found = pf_map_find(&map, hash, entry_eq, &key);
    assert_ptr_equal(found, entry->in ? &entry->node : NULL);
    if (entry->in) {
      pf_map_del(&map, &entry->node);
    } else {
      entry->key = key;
      pf_map_put(&map, &entry->node, hash);
    }
    entry->in = !entry->in;
    count += entry->in ? 1 : (size_t)-1;
    assert_int_equal(map.count, count);
  }
  check_walks(&map, entries);
  pf_map_done(&map);
}

static void test_map_against_a_model(void **state) {
  (void)state;
  check_map(false);
  check_map(true);
}

static void test_empty_map(void **state) {
  (void)state;
  struct pf_map map;
  struct entry entry = {.key = 1};
  pf_map_init(&map);
  assert_null(pf_map_find(&map, 1, entry_eq, &entry.key));
  assert_null(pf_map_bucket(&map, 0));
  PF_MAP_EACH(it, &map)
    fail();
  pf_map_put(&map, &entry.node, 1); /* empty, but with buckets */
  pf_map_del(&map, &entry.node);
  assert_null(pf_map_bucket(&map, 1));
  PF_MAP_EACH(it, &map)
    fail();
  pf_map_done(&map);
}

/* As at the end of everything: nodes are freed where they hang, and the map is given up. */
static void test_map_freed_in_a_walk(void **state) {
  (void)state;
  struct pf_map map;
  size_t freed = 0;
  pf_map_init(&map);
  for (unsigned key = 0; key < KEYS; key++) {
    struct entry *entry = test_malloc(sizeof(*entry)); /* cmocka sees double frees and leaks */
    pf_map_put(&map, &entry->node, bad_hash(key));
  }
  PF_MAP_EACH(it, &map) {
    test_free(pf_container_of(it, struct entry, node));
    freed++;
  }
  assert_int_equal(freed, KEYS);
  pf_map_done(&map);
}

/* The hash of keys that outsiders choose: known answers of SipHash-1-3 with the key 00 01 … 0f over
 * 00 01 02 …, computed by a separate implementation. */
static void test_hash_bytes(void **state) {
  (void)state;
  const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  unsigned char data[16];
  for (unsigned i = 0; i < sizeof(data); i++)
    data[i] = (unsigned char)i;
  static const struct {
    size_t len;
    uint64_t hash;
  } known[] = {{0, 0xabac0158050fc4dc}, {1, 0xc9f49bf37d57ca93}, {7, 0xd3927d989bb11140},
      {8, 0x369095118d299a8e}, {15, 0xd320d86d2a519956}};
  for (size_t i = 0; i < PF_COUNT(known); i++)
    assert_true(pf_hash_bytes(key, data, known[i].len) == known[i].hash);
}

/* ---- heap, against a search through all nodes ---- */

enum { NODES = 64 };

static const struct pf_heap_node *smallest(const struct pf_heap_node *nodes) {
  const struct pf_heap_node *best = NULL;
  for (int i = 0; i < NODES; i++)
    if (pf_heap_has(&nodes[i]) && (!best || nodes[i].key < best->key)) best = &nodes[i];
  return best;
}

static void test_heap_against_a_model(void **state) {
  (void)state;
  struct pf_heap_node nodes[NODES] = {{0, 0}};
  struct pf_heap heap;
  struct pf_rand rand = {4};
  size_t in = 0;
  pf_heap_init(&heap);
  assert_null(pf_heap_first(&heap));
  for (int i = 0; i < 50000; i++) {
    struct pf_heap_node *node = &nodes[pf_rand_below(&rand, NODES)];
    bool had = pf_heap_has(node);
    if (pf_rand_below(&rand, 3)) {
      int64_t key = (int64_t)pf_rand_below(&rand, 100) - 50; /* many are equal */
      if (pf_rand_below(&rand, 50) == 0) key = pf_rand_below(&rand, 2) ? INT64_MAX : INT64_MIN;
      pf_heap_set(&heap, node, key);
      in += !had;
      assert_true(pf_heap_has(node) && node->key == key);
    } else {
      pf_heap_del(&heap, node); /* also if it is in no heap */
      in -= had;
      assert_false(pf_heap_has(node));
    }
    const struct pf_heap_node *best = smallest(nodes), *first = pf_heap_first(&heap);
    assert_int_equal(heap.count, in);
    assert_true((best == NULL) == (first == NULL));
    if (best) assert_true(best->key == first->key);
  }
  int64_t last = INT64_MIN;
  for (struct pf_heap_node *first; (first = pf_heap_first(&heap)) != NULL; in--) {
    assert_true(first->key >= last);
    last = first->key;
    pf_heap_del(&heap, first);
  }
  assert_int_equal(in, 0);
  pf_heap_done(&heap);
}

/* ---- buf ---- */

static void test_buf_at_its_limit(void **state) {
  (void)state;
  char bytes[100];
  memset(bytes, 'b', sizeof(bytes));
  for (size_t step = 1; step <= 100; step += 33) {
    struct pf_buf buf;
    pf_buf_init(&buf, 100);
    while (buf.len + step <= 100)
      pf_buf_append(&buf, bytes, step);
    pf_buf_append(&buf, bytes, 100 - buf.len);
    assert_true(buf.err == PF_OK && buf.len == 100);
    pf_buf_append(&buf, bytes, 0); /* nothing always fits */
    assert_int_equal(buf.err, PF_OK);
    pf_buf_append(&buf, bytes, 1);
    assert_int_equal(buf.err, PF_ELIMIT);
    assert_int_equal(buf.len, 100);
    pf_buf_done(&buf);
  }
}

static void test_buf_error_sticks(void **state) {
  (void)state;
  struct pf_buf buf;
  size_t len;
  pf_buf_init(&buf, 4);
  pf_buf_str(&buf, "abc");
  pf_buf_str(&buf, "de");
  assert_int_equal(buf.err, PF_ELIMIT);
  pf_buf_str(&buf, "d"); /* would fit, but comes behind something that is missing */
  pf_buf_printf(&buf, "%d", 1);
  assert_int_equal(buf.len, 3);
  assert_null(pf_buf_reserve(&buf, 1));
  assert_null(pf_buf_take(&buf, &len));
  pf_buf_clear(&buf);
  assert_int_equal(buf.err, PF_OK);
  pf_buf_str(&buf, "wxyz");
  assert_true(buf.err == PF_OK && pf_slice_is(pf_buf_view(&buf), "wxyz"));
  assert_null(pf_buf_reserve(&buf, SIZE_MAX)); /* no sum wraps around */
  pf_buf_done(&buf);
}

static void test_buf_pieces(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, 1 << 20);
  size_t total = 0;
  for (int i = 0; i < 2000; i++) {
    pf_buf_printf(&buf, "%d,", i);
    total = buf.len;
  }
  assert_int_equal(total, 10 * 2 + 90 * 3 + 900 * 4 + 1000 * 5);
  assert_memory_equal(buf.data + total - 5, "1999,", 5);
  pf_buf_consume(&buf, total - 5);
  assert_true(pf_slice_is(pf_buf_view(&buf), "1999,"));
  pf_buf_slice(&buf, pf_slice("a\0b", 3));
  size_t len;
  char *bytes = pf_buf_take(&buf, &len);
  assert_int_equal(len, 8);
  assert_memory_equal(bytes, "1999,a\0b", 9); /* a NUL is behind it */
  assert_true(buf.data == NULL && buf.len == 0);
  free(bytes);
  bytes = pf_buf_take(&buf, &len); /* of nothing */
  assert_true(len == 0 && bytes && bytes[0] == '\0');
  free(bytes);
  pf_buf_done(&buf);
}

static void test_slices(void **state) {
  (void)state;
  struct pf_slice none = {0};
  assert_true(pf_slice_eq(none, pf_slice("", 0)));
  assert_true(pf_slice_eq(none, pf_slice_str(NULL)));
  assert_true(pf_slice_is(pf_slice("abc", 2), "ab"));
  assert_false(pf_slice_is(pf_slice("abc", 2), "abc"));
  assert_false(pf_slice_eq(pf_slice("a\0b", 3), pf_slice("a\0c", 3)));
}

/* ---- id ---- */

static void test_ids_round_trip(void **state) {
  (void)state;
  struct pf_rand rand = {6};
  for (int i = 0; i < 10000; i++) {
    struct pf_job_id id = {pf_rand_u64(&rand), pf_rand_u64(&rand)}, id_back;
    struct pf_fence fence = {pf_rand_u64(&rand), (uint64_t)i}, fence_back;
    uint64_t value;
    char text[PF_ID_TEXT];
    pf_job_id_print(text, id);
    assert_int_equal(pf_job_id_parse(&id_back, text, PF_ID_HEX), PF_OK);
    assert_true(pf_job_id_eq(id, id_back));
    assert_int_equal(pf_u64_parse(&value, text + PF_U64_HEX, PF_U64_HEX), PF_OK);
    assert_true(value == id.local);
    pf_fence_print(text, fence);
    assert_int_equal(pf_fence_parse(&fence_back, text, PF_ID_HEX), PF_OK);
    assert_true(pf_fence_eq(fence, fence_back));
  }
  char text[PF_ID_TEXT];
  pf_job_id_print(text, (struct pf_job_id){0x0123456789abcdefu, 42});
  assert_string_equal(text, "0123456789abcdef000000000000002a");
}

static void test_ids_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", "0123456789abcdef000000000000002", "0123456789abcdef",
      "0123456789abcdef000000000000002a0", "0123456789abcdef 00000000000002a",
      "g123456789abcdef000000000000002a", "0123456789abcdef00000000000000\xff\xff",
      "0x23456789abcdef000000000000002a", "-123456789abcdef000000000000002a"};
  struct pf_job_id untouched = {1, 2};
  struct pf_fence fence = {3, 4};
  for (size_t i = 0; i < PF_COUNT(bad); i++) {
    assert_int_equal(pf_job_id_parse(&untouched, bad[i], strlen(bad[i])), PF_EINVAL);
    assert_int_equal(pf_fence_parse(&fence, bad[i], strlen(bad[i])), PF_EINVAL);
  }
  assert_true(pf_job_id_eq(untouched, (struct pf_job_id){1, 2}));
  assert_true(pf_fence_eq(fence, (struct pf_fence){3, 4}));
  struct pf_job_id id;
  assert_int_equal(pf_job_id_parse(&id, "0123456789ABCDEF000000000000002A", 32), PF_OK);
  assert_true(pf_job_id_eq(id, (struct pf_job_id){0x0123456789abcdefu, 42}));
}

static void test_hex(void **state) {
  (void)state;
  unsigned char bytes[3];
  char text[7];
  pf_hex_print(text, "\x00\x7f\xff", 3);
  assert_string_equal(text, "007fff");
  assert_int_equal(pf_hex_parse(bytes, 3, "007FfF", 6), PF_OK);
  assert_memory_equal(bytes, "\x00\x7f\xff", 3);
  assert_int_equal(pf_hex_parse(bytes, 3, "007ff", 5), PF_EINVAL);
  assert_int_equal(pf_hex_parse(bytes, 3, "007fff0", 7), PF_EINVAL);
  assert_int_equal(pf_hex_parse(bytes, 3, "00/fff", 6), PF_EINVAL);
  assert_int_equal(pf_hex_parse(bytes, 3, "00:fff", 6), PF_EINVAL);
}

/* ---- arena ---- */

static void test_arena(void **state) {
  (void)state;
  struct pf_arena arena;
  struct pf_rand rand = {8};
  pf_arena_init(&arena);
  for (int round = 0; round < 100; round++) {
    unsigned char *pieces[40];
    size_t sizes[40];
    for (int i = 0; i < 40; i++) {
      sizes[i] = pf_rand_below(&rand, i % 20 == 0 ? 20000 : 300);
      pieces[i] = pf_arena_alloc(&arena, sizes[i]);
      assert_int_equal((uintptr_t)pieces[i] % 16, 0);
      for (size_t k = 0; k < sizes[i]; k++)
        assert_int_equal(pieces[i][k], 0); /* zeroed, also when used again */
      memset(pieces[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < 40; i++) /* none lies on another */
      for (size_t k = 0; k < sizes[i]; k++)
        assert_int_equal(pieces[i][k], i + 1);
    pf_arena_clear(&arena);
  }
  struct pf_slice copy = pf_arena_copy(&arena, pf_slice("a\0b", 3));
  assert_memory_equal(copy.data, "a\0b", 4);
  assert_int_equal(copy.len, 3);
  copy = pf_arena_copy(&arena, (struct pf_slice){0});
  assert_true(copy.len == 0 && copy.data && copy.data[0] == '\0');
  pf_arena_done(&arena);
  pf_arena_done(&arena); /* nothing is left */
}

/* ---- log ---- */

/* What one call writes. */
static const char *logged(enum pf_log_level least, enum pf_log_level level, const char *value) {
  static char line[PF_LOG_LINE_MAX + 1];
  int fd = memfd_create("log", MFD_CLOEXEC);
  assert_true(fd >= 0);
  struct pf_log log = {.role = "test", .level = least, .fd = fd};
  pf_log(&log, level, "happened", "key=\"%s\"", value);
  ssize_t len = pread(fd, line, PF_LOG_LINE_MAX + 1, 0);
  close(fd);
  assert_in_range(len, 0, PF_LOG_LINE_MAX);
  line[len] = '\0';
  return line;
}

static void test_log_line(void **state) {
  (void)state;
  const char *line = logged(PF_LOG_INFO, PF_LOG_WARN, "plain");
  assert_int_equal(strncmp(line, "ts=20", 5), 0);
  assert_string_equal(strchr(line, ' '), " level=warn role=test event=happened key=\"plain\"\n");
  assert_string_equal(logged(PF_LOG_WARN, PF_LOG_INFO, "x"), ""); /* less than what is wanted */
  assert_string_not_equal(logged(PF_LOG_DEBUG, PF_LOG_DEBUG, "x"), "");
}

static void test_log_values_cannot_forge_a_line(void **state) {
  (void)state;
  const char *line =
      logged(PF_LOG_INFO, PF_LOG_INFO, "a\nlevel=error event=b\r\t\x1b[31m\x7f\xc3\xa9");
  assert_non_null(
      strstr(line, "key=\"a\\x0alevel=error event=b\\x0d\\x09\\x1b[31m\\x7f\\xc3\\xa9\"\n"));
  assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_log_line_at_its_limit(void **state) {
  (void)state;
  static char value[2 * PF_LOG_LINE_MAX];
  for (size_t len = PF_LOG_LINE_MAX - 200; len < PF_LOG_LINE_MAX + 200; len++) {
    for (int hostile = 0; hostile < 2; hostile++) {
      memset(value, hostile ? '\n' : 'v', len);
      value[len] = '\0';
      const char *line = logged(PF_LOG_INFO, PF_LOG_INFO, value);
      size_t line_len = strlen(line);
      assert_in_range(line_len, PF_LOG_LINE_MAX - 210, PF_LOG_LINE_MAX);
      assert_ptr_equal(strchr(line, '\n'), line + line_len - 1);
    }
  }
}

static void test_log_allow(void **state) {
  (void)state;
  struct pf_log_limit limit = {0};
  int allowed = 0;
  for (int64_t now = 1000; now < 2000; now++)
    allowed += pf_log_allow(&limit, now, 3, 1000);
  assert_int_equal(allowed, 3);
  assert_true(pf_log_allow(&limit, 2000, 3, 1000)); /* the next window */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_list),
      cmocka_unit_test(test_map_against_a_model),
      cmocka_unit_test(test_empty_map),
      cmocka_unit_test(test_map_freed_in_a_walk),
      cmocka_unit_test(test_hash_bytes),
      cmocka_unit_test(test_heap_against_a_model),
      cmocka_unit_test(test_buf_at_its_limit),
      cmocka_unit_test(test_buf_error_sticks),
      cmocka_unit_test(test_buf_pieces),
      cmocka_unit_test(test_slices),
      cmocka_unit_test(test_ids_round_trip),
      cmocka_unit_test(test_ids_refused),
      cmocka_unit_test(test_hex),
      cmocka_unit_test(test_arena),
      cmocka_unit_test(test_log_line),
      cmocka_unit_test(test_log_values_cannot_forge_a_line),
      cmocka_unit_test(test_log_line_at_its_limit),
      cmocka_unit_test(test_log_allow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
