/* Any bytes: the end of a head is found at the same place however the bytes are cut, the parser
 * stays inside of it, and what it takes has only fields that nobody can read in two ways. */
#include <stdlib.h>
#include <string.h>

#include "web/guard.h"
#include "web/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool inside(struct pf_slice slice, const char *text, size_t len) {
  return slice.len == 0 || (slice.data >= text && slice.data + slice.len <= text + len);
}

/* As if the bytes came step by step. */
static int find_end(const char *text, size_t len, size_t step) {
  size_t scanned = 0;
  int end = 0;
  for (size_t have = step; end == 0 && have < len + step; have += step)
    end = head_find_end(text, have < len ? have : len, &scanned);
  return end;
}

static void check_value(struct pf_slice value, const char *text, size_t len) {
  PF_ASSERT(inside(value, text, len));
  for (size_t i = 0; i < value.len; i++)
    PF_ASSERT(value.data[i] != '\r' && value.data[i] != '\n' && value.data[i] != '\0');
}

static void check_head(const struct head *head, const char *text, size_t len) {
  PF_ASSERT(head->count <= HEAD_FIELDS_MAX && head->target.len > 0);
  PF_ASSERT(inside(head->target, text, len) && inside(head->query, text, len));
  for (unsigned i = 0; i < head->count; i++) {
    struct pf_slice name = head->fields[i].name;
    PF_ASSERT(inside(name, text, len) && name.len > 0 && !memchr(name.data, ' ', name.len));
    check_value(head->fields[i].value, text, len);
  }
  char *path = pf_alloc(head->target.len);
  size_t path_len;
  if (head_path(head, path, &path_len))
    PF_ASSERT(path_len > 0 && path_len <= head->target.len && !memchr(path, '\n', path_len));
  free(path);
}

static void check_rules(const struct head *head) {
  struct pf_slice value, host = {0};
  uint64_t length = 0;
  if (head_field(head, "content-length", &value) && guard_content_length(value, &length))
    PF_ASSERT(length <= 9999999999 && value.len > 0);
  if (head_field(head, "host", &host)) (void)guard_host_known(host, NULL);
  if (head_field(head, "origin", &value)) (void)guard_origin_allowed(value, host, NULL);
  if (head_field(head, "connection", &value)) (void)guard_list_has(value, "close");
  if (head_field(head, "content-type", &value)) (void)guard_type_is_json(value);
  if (head_field(head, "sec-websocket-key", &value)) (void)guard_ws_key(value);
  struct pf_buf param;
  pf_buf_init(&param, HEAD_MAX);
  if (web_query_param(head->query, "wait", &param)) PF_ASSERT(param.len <= head->query.len);
  pf_buf_done(&param);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  char *text = pf_memdup(data, len);
  int end = find_end(text, len, len ? len : 1);
  PF_ASSERT(end == find_end(text, len, 1) && end <= (int)len && end <= HEAD_MAX);
  PF_ASSERT(end >= 0 || end == -400 || end == -431);
  if (end > 0) {
    struct head head;
    int status = head_parse(&head, text, (size_t)end);
    PF_ASSERT(status == 0 || (status >= 400 && status < 600));
    if (status == 0) {
      check_head(&head, text, (size_t)end);
      check_rules(&head);
    }
  }
  free(text);
  return 0;
}
