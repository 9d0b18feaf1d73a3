#include "wire/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "wire/scan.h"

/* struct json is cJSON under a name of our own; this file alone knows. */
static const cJSON *tree(const struct json *node) {
  return (const cJSON *)node;
}

static const struct json *node_of(const cJSON *item) {
  return (const struct json *)item;
}

int json_check(struct pf_slice text, struct pf_error *reterr) {
  struct json_scan scan = json_scan(text, reterr);
  int err = scan_guard(&scan);
  return err ? err : scan_end(&scan);
}

int json_parse(struct json **ret_root, struct pf_slice text, struct pf_error *reterr) {
  int err = json_check(text, reterr);
  if (err) return err;
  cJSON *root = cJSON_ParseWithLengthOpts(text.data, text.len, NULL, 0);
  if (!root) /* the guard is stricter than cJSON, so nothing else is left */
    return pf_error_set(reterr, PF_ENOMEM, "out of memory");
  *ret_root = (struct json *)root;
  return PF_OK;
}

int json_parse_own(struct json **ret_root, struct pf_slice text) {
  int err = json_parse(ret_root, text, NULL);
  if (err == PF_ENOMEM) pf_out_of_memory();
  return err;
}

void json_free(struct json *root) {
  cJSON_Delete((cJSON *)root);
}

enum json_type json_type(const struct json *node) {
  const cJSON *item = tree(node);
  if (cJSON_IsString(item)) return JSON_STRING;
  if (cJSON_IsNumber(item)) return JSON_NUMBER;
  if (cJSON_IsObject(item)) return JSON_OBJECT;
  if (cJSON_IsArray(item)) return JSON_ARRAY;
  if (cJSON_IsBool(item)) return JSON_BOOL;
  return JSON_NULL;
}

const struct json *json_get(const struct json *object, const char *name) {
  if (!cJSON_IsObject(tree(object))) return NULL;
  return node_of(cJSON_GetObjectItemCaseSensitive(tree(object), name));
}

const struct json *json_first(const struct json *container) {
  const cJSON *item = tree(container);
  return cJSON_IsObject(item) || cJSON_IsArray(item) ? node_of(item->child) : NULL;
}

const struct json *json_next(const struct json *node) {
  return node_of(tree(node)->next);
}

size_t json_count(const struct json *container) {
  size_t count = 0;
  for (const struct json *it = json_first(container); it; it = json_next(it))
    count++;
  return count;
}

struct pf_slice json_name(const struct json *member) {
  return pf_slice_str(tree(member)->string);
}

bool json_raw(struct pf_slice text, const char *name, struct pf_slice *ret_json) {
  struct json_scan scan = json_scan(text, NULL);
  struct pf_arena arena;
  pf_arena_init(&arena);
  bool found = false;
  int err = scan_object(&scan);
  for (struct scan_text key; !err && !found && (err = scan_member(&scan, &key)) == PF_OK;) {
    (void)scan_peek(&scan);
    const char *begin = scan.at;
    err = scan_skip(&scan);
    found = !err && pf_slice_is(scan_text_slice(key, &arena), name);
    if (found) *ret_json = pf_slice(begin, (size_t)(scan.at - begin));
  }
  pf_arena_done(&arena);
  return found;
}

bool json_string(const struct json *node, struct pf_slice *ret_text) {
  if (!cJSON_IsString(tree(node))) return false;
  *ret_text = pf_slice_str(tree(node)->valuestring); /* the guard lets no NUL in */
  return true;
}

bool json_bool(const struct json *node, bool *ret_value) {
  if (!cJSON_IsBool(tree(node))) return false;
  *ret_value = cJSON_IsTrue(tree(node));
  return true;
}

bool json_double(const struct json *node, double *ret_value) {
  if (!cJSON_IsNumber(tree(node)) || !isfinite(tree(node)->valuedouble)) return false;
  *ret_value = tree(node)->valuedouble;
  return true;
}

bool json_int(const struct json *node, int64_t min, int64_t max, int64_t *ret_value) {
  double value;
  /* Beyond 2^53 a double no longer tells neighbours apart. */
  if (!json_double(node, &value) || value != trunc(value) || fabs(value) > 9007199254740992.0)
    return false;
  int64_t number = (int64_t)value;
  if (number < min || number > max) return false;
  *ret_value = number;
  return true;
}
