/* Any bytes: what the guard accepts the parser accepts too, the scanner reads it to its end, and
 * each string of it survives being written and read again. */
#include <stdint.h>

#include "wire/json.h"
#include "wire/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void string_check(struct pf_slice text) {
  struct pf_buf buf;
  pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
  struct json_writer w = json_writer(&buf);
  json_put_string(&w, NULL, text);
  PF_ASSERT(utf8_is_text(text) && buf.len == json_string_size(text));
  struct json *root;
  struct pf_slice back;
  int err = json_parse(&root, pf_buf_view(&buf), NULL);
  PF_ASSERT(err == PF_OK && json_string(root, &back) && pf_slice_eq(text, back));
  json_free(root);
  pf_buf_done(&buf);
}

static void tree_check(const struct json *node, size_t *strings) {
  struct pf_slice text;
  int64_t whole;
  double number;
  if (json_string(node, &text) && (*strings)++ < 8) string_check(text);
  if (json_int(node, -5, 5, &whole))
    PF_ASSERT(json_double(node, &number) && (int64_t)number == whole);
  size_t count = 0;
  for (const struct json *it = json_first(node); it; it = json_next(it), count++)
    tree_check(it, strings);
  PF_ASSERT(count == json_count(node));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct pf_slice text = pf_slice(data, len), raw;
  struct pf_error why = {0};
  struct json *root = NULL;
  int guard = json_check(text, &why), parsed = json_parse(&root, text, NULL);
  PF_ASSERT(guard == parsed && (guard == PF_OK) == (why.text[0] == '\0'));
  struct json_scan scan = json_scan(text, NULL);
  int err = scan_skip(&scan);
  if (!err) err = scan_end(&scan);
  PF_ASSERT(guard != PF_OK || err == PF_OK);
  if (json_raw(text, "a", &raw)) PF_ASSERT(raw.data >= text.data && raw.len <= len && raw.len > 0);
  if (guard) return 0;
  size_t strings = 0;
  tree_check(root, &strings);
  const struct json *member = json_get(root, "a");
  PF_ASSERT((member != NULL) == json_raw(text, "a", &raw));
  PF_ASSERT(!member || json_check(raw, NULL) == PF_OK);
  json_free(root);
  return 0;
}
