#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "wire/json.h"
#include "wire/scan.h"

struct vector {
  const char *text;
  size_t len;
};
#define V(text)                                                                                    \
  { text, sizeof(text) - 1 }

/* What every reader of RFC 8259 has to accept, as far as the guard does not limit it. */
static const struct vector accepted[] = {V("[]"), V("{}"), V(" [] "), V("\t\r\n{}\n"), V("null"),
    V("true"), V("false"), V("0"), V("-0"), V("\"\""), V("\"a\""), V("[null]"), V("[true,false]"),
    V("[[]]"), V("[[],[]]"), V("[{}]"), V("[1]"), V("[ 1 ]"), V("[1 ,2]"), V("[1,\n2]"),
    V("[\"\"]"), V("[\"a\",\"b\"]"), V("[1,null,1,\"1\",{}]"), V("[0e1]"), V("[0e+1]"), V("[1E22]"),
    V("[1E-2]"), V("[1E+2]"), V("[123e45]"), V("[123.456e78]"), V("[1e-2]"), V("[1e+2]"),
    V("[123]"), V("[-1]"), V("[-123]"), V("[-0]"), V("[-0.0]"), V("[0.5]"), V("[20e1]"),
    V("[1.000000000000005]"), V("[0.00000000000000000000000000000001]"), V("[9007199254740993]"),
    V("[123456789012345678901234567890]"), V("{\"\":0}"), V("{\"a\":[]}"), V("{\"a\":{}}"),
    V("{\"a\":1,\"b\":2}"), V("{ \"a\" : 1 , \"b\" : 2 }"), V("{\"a\":1,\"A\":2}"),
    V("{\"a\":{\"a\":{\"a\":1}}}"), V("[{\"a\":1},{\"a\":1}]"),
    V("{\"a\":{\"x\":1},\"b\":{\"x\":1}}"), V("{\"\\u0061b\":1,\"a\":2}"), V("{\"\xc3\xa9\":1}"),
    V("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), V("\"\\u0001\""), V("\"\\u001f\""), V("\"\\u0020\""),
    V("\"\\u00E9\""), V("\"\\u00e9\""), V("\"\\uFFFF\""), V("\"\\uD834\\uDD1E\""),
    V("\"\\ud834\\udd1e\""), V("\"\\uDBFF\\uDFFF\""), V("\"\\ud800\\udc00\""),
    V("\"\\ud7ff\\ue000\""), V("\"\\u2028\\u2029\""), V("\"\x7f\""), V("\"/\""), V("\"\xc2\x80\""),
    V("\"\xdf\xbf\""), V("\"\xe0\xa0\x80\""), V("\"\xed\x9f\xbf\""), V("\"\xee\x80\x80\""),
    V("\"\xef\xbf\xbf\""), V("\"\xef\xbb\xbf\""), V("\"\xf0\x90\x80\x80\""),
    V("\"\xf4\x8f\xbf\xbf\""), V("\"\xf0\x9d\x84\x9e\""), V("\"\xe2\x82\xac \xe3\x81\x82\""),
    V("[\"a/*b*/c\"]"), V("[\"\\\\u0000\"]"), V("[\"\\\\a\"]"), V("[\"new\\u000Aline\"]"),
    V("\"u\"")};

static const struct vector refused[] = {
    /* nothing, or more than one thing */
    V(""), V(" "), V("\n"), V("[] []"), V("{} x"), V("1 2"), V("[]]"), V("{}}"), V("[1]x"),
    V("[],"), V("nulls"), V("\"a\" \"b\""), V("{}#"), V("{}/**/"), V("{}//"), V("\0"), V("[]\0"),
    V("\xef\xbb\xbf{}"), V("\xef\xbb\xbf"), V("\f[]"), V("[\v1]"), V("[\xc2\xa0]"),
    V("\xe2\x81\xa0[]"), V("<null>"), V("*"), V("a"), V("&"),
    /* arrays */
    V("["), V("[1"), V("[1,"), V("[,1]"), V("[1,]"), V("[1,,2]"), V("[,]"), V("[1 2]"), V("[1:2]"),
    V("[\"a\""), V("[\"a\" \"b\"]"), V("[1}"), V("]"), V("[[]"), V("[3[4]]"), V("[x"),
    V("[\"x\"]]"), V("[-]"), V("[1,\n1\n,1"), V("[\"a\",,]"), V("[{}"), V("[;]"), V("(1)"),
    /* objects */
    V("{"), V("{\"a\""), V("{\"a\":"), V("{\"a\":1"), V("{\"a\":1,"), V("{\"a\":1,}"), V("{,}"),
    V("{\"a\" 1}"), V("{\"a\",1}"), V("{\"a\"::1}"), V("{\"a\":1 \"b\":2}"),
    V("{\"a\":1,,\"b\":2}"), V("{a:1}"), V("{'a':1}"), V("{1:1}"), V("{null:1}"), V("{[]:1}"),
    V("{\"a\":}"), V("{:1}"), V("{\"a\":1]"), V("}"), V("{\"a\":1}}"), V("{\"a\":1:2}"),
    V("{\"a\"}"), V("{\"a\":/*x*/1}"), V("{key: 'value'}"), V("{9999E9999:1}"),
    V("{\"a\":\"a\" 123}"),
    /* names that come twice, also in disguise and deep inside */
    V("{\"a\":1,\"a\":1}"), V("{\"a\":1,\"b\":2,\"a\":3}"), V("{\"\":0,\"\":0}"),
    V("{\"a\":1,\"\\u0061\":2}"), V("{\"\\u0061\":1,\"a\":2}"), V("[{\"x\":{\"a\":1,\"a\":2}}]"),
    V("{\"\\/\":1,\"/\":2}"), V("{\"\\u00e9\":1,\"\xc3\xa9\":2}"),
    V("{\"\\ud834\\udd1e\":1,\"\xf0\x9d\x84\x9e\":2}"),
    /* numbers */
    V("+1"), V("-"), V("--1"), V("-a"), V("01"), V("-01"), V("00"), V("-012"), V("1."), V(".5"),
    V("-.5"), V("1.e1"), V("0.e1"), V("1e"), V("1e+"), V("1E-"), V("1ee2"), V("1e1.5"), V("1.2.3"),
    V("0x1"), V("0x42"), V("1a"), V("1_0"), V("1 000"), V("Infinity"), V("-Infinity"), V("NaN"),
    V("inf"), V("-NaN"), V("[0e"), V("[0E+"), V("2.e-3"), V("\xef\xbc\x91"), V("1e1e1"), V("-1x"),
    V("[1+2]"), V("[0.3e+]"), V("9.e+"), V("[-foo]"), V("[1eE2]"),
    /* words */
    V("nul"), V("tru"), V("fals"), V("True"), V("NULL"), V("truee"), V("undefined"), V("[fals]"),
    V("[nul"), V("nil"), V("t"),
    /* strings */
    V("\""), V("\"a"), V("'a'"), V("a\""), V("\"\\\""), V("\"\\"), V("\"\\x41\""), V("\"\\a\""),
    V("\"\\0\""), V("\"\\U0041\""), V("\"\\'\""), V("\"\\ \""), V("\"\\u\""), V("\"\\u1\""),
    V("\"\\u12\""), V("\"\\u123\""), V("\"\\u12g4\""), V("\"\\u+123\""), V("\"\\u 123\""),
    V("\"\\\n\""), V("\"\\\xc3\xa9\""), V("\"\n\""), V("\"\t\""), V("\"\r\""), V("\"\x01\""),
    V("\"\x1f\""), V("\"a\0b\""), V("\"\\u0000\""), V("\"a\\u0000b\""), V("{\"a\\u0000\":1}"),
    /* lone surrogates */
    V("\"\\ud800\""), V("\"\\uDBFF\""), V("\"\\udc00\""), V("\"\\uDFFF\""), V("\"\\ud800x\""),
    V("\"\\ud800\\u0041\""), V("\"\\ud800\\udbff\""), V("\"\\ud800\\ue000\""),
    V("\"\\ud800\\ud800\""), V("\"\\udc00\\ud800\""), V("\"\\ud800\\n\""), V("\"\\ud834\\udd1\""),
    V("\"\\ud834\\\""), V("\"\\ud834\\u\""),
    /* bytes that are not UTF-8 */
    V("\"\x80\""), V("\"\xbf\""), V("\"\xc0\x80\""), V("\"\xc0\xaf\""), V("\"\xc1\xbf\""),
    V("\"\xc3\""), V("\"\xc3\x28\""), V("\"\xe0\x80\xaf\""), V("\"\xe0\x9f\xbf\""),
    V("\"\xe2\x82\""), V("\"\xe2\x28\xa1\""), V("\"\xed\xa0\x80\""), V("\"\xed\xbf\xbf\""),
    V("\"\xf0\x80\x80\xaf\""), V("\"\xf0\x8f\xbf\xbf\""), V("\"\xf0\x90\x80\""),
    V("\"\xf4\x90\x80\x80\""), V("\"\xf5\x80\x80\x80\""), V("\"\xf8\x88\x80\x80\x80\""),
    V("\"\xfe\""), V("\"\xff\""), V("\"\xc3"), V("\"\xf0\x9d\x84"), V("[\"\xe9\"]"),
    V("{\"\xff\":1}"), V("\"\xff\xfe\"\0"), V("\xff\xfe[\0]\0"), V("[\xe9]"), V("1\xe5"),
    V("[0\xe5]"), V("[1e1\xe5]")};

static const char *shown(struct vector v) {
  static char text[4 * 64 + 1]; /* cmocka wants a string when a vector fails */
  text[0] = '\0';
  for (size_t i = 0; i < v.len && i < 64; i++)
    snprintf(text + strlen(text), 5, v.text[i] >= 0x20 && v.text[i] < 0x7f ? "%c" : "\\x%02x",
        (unsigned char)v.text[i]);
  return text;
}

static int check(struct vector v, struct pf_error *reterr) {
  char *exact = malloc(v.len ? v.len : 1); /* so that a sanitizer sees any step beyond the end */
  assert_non_null(exact);
  memcpy(exact, v.text, v.len);
  struct json *root = NULL;
  int err = json_check(pf_slice(exact, v.len), reterr);
  int parsed = json_parse(&root, pf_slice(exact, v.len), NULL);
  free(exact);
  if (err != parsed) fail_msg("guard %d, parser %d: %s", err, parsed, shown(v));
  if (!parsed) json_free(root);
  return err;
}

static void test_guard_accepts(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(accepted); i++) {
    struct pf_error why = {0};
    if (check(accepted[i], &why)) fail_msg("refused: %s: %s", shown(accepted[i]), why.text);
  }
}

static void test_guard_refuses_and_says_where(void **state) {
  (void)state;
  for (size_t i = 0; i < PF_COUNT(refused); i++) {
    struct pf_error why = {0};
    if (check(refused[i], &why) != PF_EINVAL) fail_msg("accepted: %s", shown(refused[i]));
    assert_int_equal(strncmp(why.text, "byte ", 5), 0);
  }
  assert_true(PF_COUNT(accepted) + PF_COUNT(refused) >= 150);
}

/* Every accepted text without its last byte, and with one of its bytes replaced, is looked at too:
 * guard and parser have to agree (check asserts that). */
static void test_guard_and_parser_agree_on_neighbours(void **state) {
  (void)state;
  static const char others[] = "\0\"\\{}[],:0-eu\xff";
  for (size_t i = 0; i < PF_COUNT(accepted); i++) {
    struct vector v = accepted[i];
    char copy[64];
    assert_true(v.len < sizeof(copy));
    for (size_t cut = 0; cut < v.len; cut++)
      (void)check((struct vector){v.text, cut}, NULL);
    for (size_t at = 0; at < v.len; at++)
      for (size_t k = 0; k < sizeof(others) - 1; k++) {
        memcpy(copy, v.text, v.len);
        copy[at] = others[k];
        (void)check((struct vector){copy, v.len}, NULL);
      }
  }
}

static void test_depth_at_limit(void **state) {
  (void)state;
  char text[2 * (JSON_DEPTH_MAX + 1)];
  for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    assert_int_equal(
        check((struct vector){text, 2 * depth}, NULL), depth > JSON_DEPTH_MAX ? PF_ELIMIT : PF_OK);
  }
}

static void test_tokens_at_limit(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
  for (size_t items = JSON_TOKENS_MAX - 1; items <= JSON_TOKENS_MAX; items++) {
    pf_buf_clear(&buf);
    pf_buf_str(&buf, "[1"); /* the array itself is a token */
    for (size_t i = 1; i < items; i++)
      pf_buf_str(&buf, ",1");
    pf_buf_str(&buf, "]");
    assert_int_equal(check((struct vector){buf.data, buf.len}, NULL),
        items == JSON_TOKENS_MAX ? PF_ELIMIT : PF_OK);
  }
  pf_buf_done(&buf);
}

static void test_number_length_at_limit(void **state) {
  (void)state;
  char text[JSON_NUMBER_MAX + 1];
  memset(text, '1', sizeof(text));
  assert_int_equal(check((struct vector){text, JSON_NUMBER_MAX}, NULL), PF_OK);
  assert_int_equal(check((struct vector){text, JSON_NUMBER_MAX + 1}, NULL), PF_ELIMIT);
}

/* Objects with so many names that they are sorted instead of compared each with each. */
static void test_duplicates_among_many_names(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
  for (size_t names = 2; names < 3000; names = names * 3 / 2 + 1) {
    for (size_t twice = 0; twice < names; twice += names / 2) {
      pf_buf_clear(&buf);
      pf_buf_str(&buf, "{\"o\":{\"k0\":1,\"k1\":2},");
      for (size_t i = 0; i < names; i++)
        pf_buf_printf(&buf, "\"k%zu\":{\"k\":%zu},", i, i);
      size_t without = buf.len;
      pf_buf_printf(&buf, "\"\\u006b%zu\":0}", twice);
      struct pf_error why;
      assert_int_equal(json_check(pf_buf_view(&buf), &why), PF_EINVAL);
      assert_non_null(strstr(why.text, "twice"));
      buf.data[without - 1] = '}';
      assert_int_equal(json_check(pf_slice(buf.data, without), NULL), PF_OK);
    }
  }
  pf_buf_done(&buf);
}

static struct json *parsed(const char *text) {
  struct json *root;
  struct pf_error why;
  if (json_parse(&root, pf_slice_str(text), &why)) fail_msg("%s: %s", text, why.text);
  return root;
}

static void test_tree(void **state) {
  (void)state;
  struct json *root = parsed("{\"s\":\"a\\u00e9\\ud834\\udd1e\",\"b\":true,\"n\":null,\"d\":-1.5,"
                             "\"a\":[1,2,3],\"o\":{\"x\":1}}");
  struct pf_slice text;
  bool truth = false;
  double number = 0;
  int64_t whole = 0;
  assert_int_equal(json_type(root), JSON_OBJECT);
  assert_int_equal(json_count(root), 6);
  assert_true(json_string(json_get(root, "s"), &text));
  assert_true(pf_slice_is(text, "a\xc3\xa9\xf0\x9d\x84\x9e"));
  assert_true(json_bool(json_get(root, "b"), &truth) && truth);
  assert_int_equal(json_type(json_get(root, "n")), JSON_NULL);
  assert_true(json_double(json_get(root, "d"), &number) && number == -1.5);
  assert_false(json_int(json_get(root, "d"), -9, 9, &whole));
  assert_false(json_string(json_get(root, "d"), &text));
  assert_null(json_get(root, "S")); /* names are case-sensitive */
  assert_null(json_get(json_get(root, "a"), "x"));
  int64_t sum = 0;
  for (const struct json *it = json_first(json_get(root, "a")); it; it = json_next(it))
    if (json_int(it, 1, 3, &whole)) sum = sum * 10 + whole;
  assert_int_equal(sum, 123);
  assert_true(pf_slice_is(json_name(json_first(json_get(root, "o"))), "x"));
  assert_false(json_string(NULL, &text) || json_bool(NULL, &truth) || json_double(NULL, &number) ||
               json_int(NULL, 0, 1, &whole));
  json_free(root);
}

static void test_int_range(void **state) {
  (void)state;
  struct json *root = parsed("[9007199254740992,9007199254740994,1e999,5,6,4,1.0,1e2,-0]");
  const struct json *it = json_first(root);
  int64_t whole;
  double number;
  assert_true(json_int(it, 0, INT64_MAX, &whole) && whole == 9007199254740992);
  assert_false(json_int(it = json_next(it), 0, INT64_MAX, &whole)); /* not exact any more */
  it = json_next(it);
  assert_false(json_int(it, 0, INT64_MAX, &whole) || json_double(it, &number)); /* infinite */
  assert_true(json_int(it = json_next(it), 5, 5, &whole));
  assert_false(json_int(it = json_next(it), 5, 5, &whole));
  assert_false(json_int(it = json_next(it), 5, 5, &whole));
  assert_true(json_int(it = json_next(it), 1, 1, &whole));
  assert_true(json_int(it = json_next(it), 100, 100, &whole));
  assert_true(json_int(it = json_next(it), 0, 0, &whole));
  json_free(root);
}

static void test_raw_is_the_exact_text(void **state) {
  (void)state;
  struct pf_slice text = pf_slice_str(
      "{ \"x\" : {\"n\": 12345678901234567890.0 , \"d\":[1]} , \"y\":1,\"\\u007a\":\"\\u0041\"}");
  struct pf_slice raw;
  assert_true(json_raw(text, "x", &raw));
  assert_true(pf_slice_is(raw, "{\"n\": 12345678901234567890.0 , \"d\":[1]}"));
  assert_true(json_raw(text, "z", &raw) && pf_slice_is(raw, "\"\\u0041\""));
  assert_false(json_raw(text, "n", &raw)); /* of the root only */
  assert_false(json_raw(pf_slice_str("[1]"), "x", &raw));
}

/* ---- scanner ---- */

static void test_scan_int_range(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int err;
  } cases[] = {{"9223372036854775807", PF_OK}, {"-9223372036854775808", PF_OK},
      {"9223372036854775808", PF_EINVAL}, {"-9223372036854775809", PF_EINVAL},
      {"99999999999999999999999", PF_EINVAL}, {"1.0", PF_EINVAL}, {"1e2", PF_EINVAL},
      {"\"1\"", PF_EINVAL}, {"", PF_EINVAL}, {"-", PF_EINVAL}, {"-0", PF_OK}, {"true", PF_EINVAL}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct json_scan s = json_scan(pf_slice_str(cases[i].text), NULL);
    int64_t value = 7;
    assert_int_equal(scan_int(&s, INT64_MIN, INT64_MAX, &value), cases[i].err);
    if (cases[i].err == PF_OK) assert_true(value == strtoll(cases[i].text, NULL, 10));
  }
  for (int64_t n = -3; n <= 3; n++) {
    char text[8];
    int64_t value;
    snprintf(text, sizeof(text), "%d", (int)n);
    struct json_scan s = json_scan(pf_slice_str(text), NULL);
    assert_int_equal(scan_int(&s, -2, 2, &value), n < -2 || n > 2 ? PF_EINVAL : PF_OK);
  }
}

static void test_scan_double_is_the_nearest(void **state) {
  (void)state;
  struct pf_rand rand = {42};
  static const char *const fixed[] = {"0", "-0", "0.1", "1e22", "1e-22", "123456789.123456789",
      "9007199254740993", "2.2250738585072014e-308", "1.7976931348623157e308", "0.000001",
      "5e-324"};
  for (size_t i = 0; i < 10000 + PF_COUNT(fixed); i++) {
    char text[64];
    int decimals = (int)pf_rand_below(&rand, 12);
    if (i < PF_COUNT(fixed))
      snprintf(text, sizeof(text), "%s", fixed[i]);
    else
      snprintf(text, sizeof(text), "%.*f", decimals,
          ((double)(int64_t)pf_rand_u64(&rand)) / pow(10, (double)pf_rand_below(&rand, 20)));
    struct json_scan s = json_scan(pf_slice_str(text), NULL);
    double value = NAN;
    assert_int_equal(scan_double(&s, &value), PF_OK);
    if (value != strtod(text, NULL)) fail_msg("%s read as %.17g", text, value);
  }
  double value;
  struct json_scan s = json_scan(pf_slice_str("1e999"), NULL);
  assert_int_equal(scan_double(&s, &value), PF_EINVAL);
}

static void test_text_copy_at_its_size(void **state) {
  (void)state;
  struct json_scan s = json_scan(pf_slice_str("\"\\u00e9\\n\\ud834\\udd1ex\""), NULL);
  struct scan_text text;
  char out[16];
  size_t len;
  assert_int_equal(scan_string(&s, &text), PF_OK);
  assert_true(text.escaped);
  assert_false(scan_text_copy(text, out, 7, &len));
  assert_true(scan_text_copy(text, out, 8, &len));
  assert_int_equal(len, 8);
  assert_memory_equal(out, "\xc3\xa9\n\xf0\x9d\x84\x9ex", 8);
}

/* ---- writer ---- */

static void test_writer(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, 4096);
  struct json_writer w = json_writer(&buf);
  json_begin_object(&w, NULL);
  json_put_text(&w, "text", "a\"\\/\b\f\n\r\t\x01\x1f\x7f\xc3\xa9");
  json_put_string(&w, "bad", pf_slice("\xff\xc3", 2));
  json_put_string(&w, "nul", pf_slice("a\0b", 3));
  json_put_string(&w, "none", (struct pf_slice){0});
  json_put_int(&w, "min", INT64_MIN);
  json_put_int(&w, "max", INT64_MAX);
  json_put_bool(&w, "yes", true);
  json_put_null(&w, "nil");
  json_begin_array(&w, "list");
  json_put_int(&w, NULL, 0);
  json_begin_object(&w, NULL);
  json_end_object(&w);
  json_begin_array(&w, NULL);
  json_end_array(&w);
  json_end_array(&w);
  json_put_raw(&w, "raw", pf_slice_str("[ 1 ]"));
  json_put_hex64(&w, "id", 0xabcu);
  json_put_job(&w, "job", (struct pf_job_id){1, 2});
  json_put_fence(&w, "fence", (struct pf_fence){3, 4});
  json_put_hex(&w, "hex", pf_slice("\x00\xff", 2));
  json_end_object(&w);
  static const char expected[] =
      "{\"text\":\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa9\","
      "\"bad\":\"\xef\xbf\xbd\xef\xbf\xbd\",\"nul\":\"a\\u0000b\",\"none\":\"\","
      "\"min\":-9223372036854775808,\"max\":9223372036854775807,\"yes\":true,\"nil\":null,"
      "\"list\":[0,{},[]],\"raw\":[ 1 ],\"id\":\"0000000000000abc\","
      "\"job\":\"00000000000000010000000000000002\",\"fence\":\"00000000000000030000000000000004\","
      "\"hex\":\"00ff\"}";
  assert_int_equal(buf.err, PF_OK);
  assert_int_equal(buf.len, sizeof(expected) - 1);
  assert_memory_equal(buf.data, expected, buf.len);
  pf_buf_done(&buf);
}

static void test_ms(void **state) {
  (void)state;
  static const struct {
    double ms;
    const char *text;
  } cases[] = {{0, "0"}, {1.9, "1.9"}, {0.84, "0.84"}, {0.0004, "0"}, {0.0005, "0.001"},
      {0.001, "0.001"}, {12.3456, "12.346"}, {1000, "1000"}, {0.05, "0.05"}, {99.9996, "100"},
      {1.25, "1.25"}, {-1.5, "-1.5"}, {-0.0001, "0"}, {1e300, "9000000000000"}, {NAN, "0"},
      {INFINITY, "9000000000000"}, {123456789.125, "123456789.125"}};
  struct pf_buf buf;
  pf_buf_init(&buf, 4096);
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    pf_buf_clear(&buf);
    struct json_writer w = json_writer(&buf);
    json_put_ms(&w, NULL, cases[i].ms);
    assert_int_equal(buf.len, strlen(cases[i].text));
    assert_memory_equal(buf.data, cases[i].text, buf.len);
  }
  pf_buf_done(&buf);
}

/* Any bytes written as a string read back as themselves, with U+FFFD for what is no UTF-8. */
static void test_strings_round_trip(void **state) {
  (void)state;
  struct pf_rand rand = {7};
  struct pf_buf buf;
  pf_buf_init(&buf, 4096);
  for (int round = 0; round < 10000; round++) {
    char bytes[40];
    size_t len = pf_rand_below(&rand, sizeof(bytes) + 1);
    bool ascii = round % 2;
    for (size_t i = 0; i < len; i++)
      bytes[i] = (char)(ascii ? 1 + pf_rand_below(&rand, 0x7f) : 1 + pf_rand_below(&rand, 0xff));
    struct pf_slice text = pf_slice(bytes, len);
    pf_buf_clear(&buf);
    struct json_writer w = json_writer(&buf);
    json_put_string(&w, NULL, text);
    assert_int_equal(buf.len, json_string_size(text));
    struct json *root;
    struct pf_slice back;
    assert_int_equal(json_parse(&root, pf_buf_view(&buf), NULL), PF_OK);
    assert_true(json_string(root, &back));
    if (utf8_is_text(text)) assert_true(pf_slice_eq(text, back));
    assert_true(utf8_is_text(back));
    json_free(root);
  }
  assert_false(utf8_is_text(pf_slice("a\0", 2)));
  assert_true(utf8_is_text(pf_slice(NULL, 0)));
  pf_buf_done(&buf);
}

static void test_writer_stops_at_the_limit(void **state) {
  (void)state;
  struct pf_slice quotes = pf_slice_str("\"\"\"\"\"\"");
  for (size_t max = 0; max <= 24; max++) {
    struct pf_buf buf;
    pf_buf_init(&buf, max);
    struct json_writer w = json_writer(&buf);
    json_begin_object(&w, NULL);
    json_put_string(&w, "s", quotes); /* {"s":"\"\"\"\"\"\""} is 20 bytes */
    json_end_object(&w);
    assert_int_equal(buf.err, max < 20 ? PF_ELIMIT : PF_OK);
    assert_true(buf.len <= max);
    pf_buf_done(&buf);
  }
}

/* ---- base64 ---- */

static void test_base64_round_trip(void **state) {
  (void)state;
  struct pf_rand rand = {11};
  struct pf_buf text, back;
  pf_buf_init(&text, 4096);
  for (int round = 0; round < 10000; round++) {
    unsigned char bytes[64];
    size_t len = pf_rand_below(&rand, sizeof(bytes) + 1);
    for (size_t i = 0; i < len; i++)
      bytes[i] = (unsigned char)pf_rand_u64(&rand);
    pf_buf_clear(&text);
    struct json_writer w = json_writer(&text);
    json_put_base64(&w, NULL, pf_slice(bytes, len));
    assert_int_equal(text.len, json_base64_size(pf_slice(bytes, len)));
    pf_buf_init(&back, len); /* it fits exactly */
    assert_int_equal(base64_decode(&back, pf_slice(text.data + 1, text.len - 2)), PF_OK);
    assert_int_equal(back.len, len);
    if (len) assert_memory_equal(back.data, bytes, len);
    pf_buf_done(&back);
    if (len == 0) continue;
    pf_buf_init(&back, len - 1); /* and does not fit one byte less */
    assert_int_equal(base64_decode(&back, pf_slice(text.data + 1, text.len - 2)), PF_ELIMIT);
    pf_buf_done(&back);
  }
  pf_buf_done(&text);
}

static void test_base64_vectors(void **state) {
  (void)state;
  static const struct {
    const char *text, *bytes; /* bytes NULL: refused */
  } cases[] = {{"", ""}, {"Zg==", "f"}, {"Zm8=", "fo"}, {"Zm9v", "foo"}, {"Zm9vYg==", "foob"},
      {"Zm9vYmE=", "fooba"}, {"Zm9vYmFy", "foobar"}, {"+/+/", "\xfb\xff\xbf"}, {"Zg", NULL},
      {"Zg=", NULL}, {"Z", NULL}, {"=", NULL}, {"====", NULL}, {"Z===", NULL}, {"Zh==", NULL},
      {"Zm9=", NULL}, {"Zg==Zg==", NULL}, {"Zm8=Zm8=", NULL}, {"Zm9v\n", NULL}, {"Zm 9", NULL},
      {"Zm-_", NULL}, {"Zm9\xc3", NULL}, {"=Zm9", NULL}, {"Zm=v", NULL}, {"Z=9v", NULL}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct pf_buf back;
    pf_buf_init(&back, 64);
    int err = base64_decode(&back, pf_slice_str(cases[i].text));
    assert_int_equal(err, cases[i].bytes ? PF_OK : PF_EINVAL);
    if (!err) assert_true(pf_slice_is(pf_buf_view(&back), cases[i].bytes));
    pf_buf_done(&back);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_guard_accepts),
      cmocka_unit_test(test_guard_refuses_and_says_where),
      cmocka_unit_test(test_guard_and_parser_agree_on_neighbours),
      cmocka_unit_test(test_depth_at_limit),
      cmocka_unit_test(test_tokens_at_limit),
      cmocka_unit_test(test_number_length_at_limit),
      cmocka_unit_test(test_duplicates_among_many_names),
      cmocka_unit_test(test_tree),
      cmocka_unit_test(test_int_range),
      cmocka_unit_test(test_raw_is_the_exact_text),
      cmocka_unit_test(test_scan_int_range),
      cmocka_unit_test(test_scan_double_is_the_nearest),
      cmocka_unit_test(test_text_copy_at_its_size),
      cmocka_unit_test(test_writer),
      cmocka_unit_test(test_ms),
      cmocka_unit_test(test_strings_round_trip),
      cmocka_unit_test(test_writer_stops_at_the_limit),
      cmocka_unit_test(test_base64_round_trip),
      cmocka_unit_test(test_base64_vectors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
