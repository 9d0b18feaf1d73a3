#include "wire/fields.h"

#include <string.h>

/* ---- encoding ---- */

static int64_t int_load(const void *at, size_t size) {
  int narrow;
  int64_t wide;
  bool truth;
  switch (size) {
  case sizeof(truth):
    return memcpy(&truth, at, size), truth;
  case sizeof(narrow):
    return memcpy(&narrow, at, size), narrow;
  default:
    PF_ASSERT(size == sizeof(wide));
    return memcpy(&wide, at, size), wide;
  }
}

static void int_store(void *at, size_t size, int64_t value) {
  int narrow = (int)value;
  bool truth = value != 0;
  switch (size) {
  case sizeof(truth):
    memcpy(at, &truth, size);
    break;
  case sizeof(narrow):
    memcpy(at, &narrow, size);
    break;
  default:
    PF_ASSERT(size == sizeof(value));
    memcpy(at, &value, size);
    break;
  }
}

static void text_encode(struct json_writer *w, const struct field *f, struct pf_slice text) {
  if (text.len || !f->optional) json_put_string(w, f->name, text);
}

static void int_encode(struct json_writer *w, const struct field *f, int64_t value) {
  if (value || !f->optional) json_put_int(w, f->name, value);
}

static void field_encode(struct json_writer *w, const struct field *f, const void *base) {
  const void *at = (const char *)base + f->offset;
  switch (f->kind) {
  case FIELD_JOB:
    json_put_job(w, f->name, *(const struct pf_job_id *)at);
    break;
  case FIELD_FENCE:
    json_put_fence(w, f->name, *(const struct pf_fence *)at);
    break;
  case FIELD_HEX64:
    if (*(const uint64_t *)at || !f->optional) json_put_hex64(w, f->name, *(const uint64_t *)at);
    break;
  case FIELD_BYTES:
    json_put_hex(w, f->name, pf_slice(at, f->size));
    break;
  case FIELD_BOOL:
    if (*(const bool *)at || !f->optional) json_put_bool(w, f->name, *(const bool *)at);
    break;
  case FIELD_INT:
    int_encode(w, f, int_load(at, f->size));
    break;
  case FIELD_MS:
    if (*(const double *)at >= 0) json_put_ms(w, f->name, *(const double *)at);
    break;
  case FIELD_CHARS:
    text_encode(w, f, pf_slice_str(at));
    break;
  case FIELD_TEXT:
    text_encode(w, f, *(const struct pf_slice *)at);
    break;
  case FIELD_CHOICE: {
    int64_t index = int_load(at, f->size);
    if (index || !f->optional) json_put_text(w, f->name, f->names[index]);
    break;
  }
  case FIELD_OBJECT: {
    json_begin_object(w, f->name);
    for (size_t i = 0; i < f->fields->count; i++)
      field_encode(w, &f->fields->rows[i], base);
    json_end_object(w);
    break;
  }
  case FIELD_CUSTOM:
    f->encode(w, f->name, base);
    break;
  }
}

void fields_encode(struct json_writer *w, const struct fields *fields, const void *base) {
  json_begin_object(w, NULL);
  for (size_t i = 0; i < fields->count; i++)
    field_encode(w, &fields->rows[i], base);
  json_end_object(w);
}

/* ---- decoding ---- */

static int refused(struct json_scan *s, const struct field *f, int code, const char *expected) {
  return pf_error_set(s->reterr, code, "%s: %s", f->name, expected);
}

static int hex_decode(struct json_scan *s, const struct field *f, void *at) {
  struct scan_text text;
  int err = scan_string(s, &text);
  if (err) return err;
  const char *digits = text.raw.data;
  size_t len = text.raw.len;
  switch (f->kind) {
  case FIELD_JOB:
    err = pf_job_id_parse(at, digits, len);
    break;
  case FIELD_FENCE:
    err = pf_fence_parse(at, digits, len);
    break;
  case FIELD_HEX64:
    err = pf_u64_parse(at, digits, len);
    break;
  default:
    err = pf_hex_parse(at, f->size, digits, len);
    break;
  }
  return err ? refused(s, f, PF_EINVAL, "hex digits of its fixed length were expected") : PF_OK;
}

static int chars_decode(struct json_scan *s, const struct field *f, char *at) {
  struct scan_text text;
  size_t len;
  int err = scan_string(s, &text);
  if (err) return err;
  if (!scan_text_copy(text, at, f->size - 1, &len)) return refused(s, f, PF_ELIMIT, "too long");
  at[len] = '\0';
  return PF_OK;
}

static int text_decode(
    struct json_scan *s, const struct field *f, struct pf_slice *at, struct pf_arena *arena) {
  struct scan_text text;
  int err = scan_string(s, &text);
  if (err) return err;
  PF_ASSERT(arena);
  *at = scan_text_slice(text, arena);
  return at->len > (size_t)f->max ? refused(s, f, PF_ELIMIT, "too long") : PF_OK;
}

static int choice_decode(struct json_scan *s, const struct field *f, void *at) {
  struct scan_text text;
  int err = scan_string(s, &text);
  if (err) return err;
  for (int i = 0; f->names[i]; i++)
    if (pf_slice_is(text.raw, f->names[i])) return int_store(at, f->size, i), PF_OK;
  return refused(s, f, PF_EINVAL, "an unknown word");
}

static int ms_decode(struct json_scan *s, const struct field *f, double *at) {
  int err = scan_double(s, at);
  if (err) return err;
  return *at < 0 ? refused(s, f, PF_EINVAL, "a time that is not negative was expected") : PF_OK;
}

static int fields_object(
    const struct fields *fields, void *base, struct json_scan *s, struct pf_arena *arena) {
  uint32_t seen;
  int err = fields_scan(fields, base, s, arena, &seen);
  return err ? err : fields_require(fields, seen, s);
}

static int field_scan(
    const struct field *f, void *base, struct json_scan *s, struct pf_arena *arena) {
  void *at = (char *)base + f->offset;
  int64_t number;
  int err;
  switch (f->kind) {
  case FIELD_JOB:
  case FIELD_FENCE:
  case FIELD_HEX64:
  case FIELD_BYTES:
    return hex_decode(s, f, at);
  case FIELD_BOOL:
    return scan_bool(s, at);
  case FIELD_INT:
    err = scan_int(s, f->min, f->max, &number);
    if (!err) int_store(at, f->size, number);
    return err;
  case FIELD_MS:
    return ms_decode(s, f, at);
  case FIELD_CHARS:
    return chars_decode(s, f, at);
  case FIELD_TEXT:
    return text_decode(s, f, at, arena);
  case FIELD_CHOICE:
    return choice_decode(s, f, at);
  case FIELD_OBJECT:
    return fields_object(f->fields, base, s, arena);
  case FIELD_CUSTOM:
    return f->decode(s, base, arena);
  }
  return PF_EINVAL;
}

static bool row_is(const struct field *f, struct pf_slice name) {
  return f->name_len == name.len && memcmp(f->name, name.data, name.len) == 0;
}

/* Our own peers write in the order of the table, so that `expected` nearly always hits. */
static size_t row_find(const struct fields *fields, struct pf_slice name, size_t expected) {
  for (size_t i = expected; i < fields->count; i++)
    if (row_is(&fields->rows[i], name)) return i;
  for (size_t i = 0; i < expected; i++)
    if (row_is(&fields->rows[i], name)) return i;
  return fields->count;
}

int fields_scan(const struct fields *fields, void *base, struct json_scan *s,
    struct pf_arena *arena, uint32_t *ret_seen) {
  uint32_t seen = 0;
  size_t expected = 0;
  struct scan_text name;
  int err = scan_object(s);
  while (!err && (err = scan_member(s, &name)) == PF_OK) {
    size_t i = row_find(fields, name.raw, expected);
    if (i == fields->count) {
      err = scan_skip(s);
      continue;
    }
    if (seen & PF_BIT(i)) return refused(s, &fields->rows[i], PF_EINVAL, "given twice");
    seen |= PF_BIT(i);
    expected = i + 1;
    err = field_scan(&fields->rows[i], base, s, arena);
  }
  if (err != PF_ENOTFOUND) return err;
  *ret_seen = seen;
  return PF_OK;
}

int fields_require(const struct fields *fields, uint32_t seen, struct json_scan *s) {
  for (size_t i = 0; i < fields->count; i++)
    if (!fields->rows[i].optional && !(seen & PF_BIT(i)))
      return refused(s, &fields->rows[i], PF_EINVAL, "missing");
  return PF_OK;
}

void fields_clear_times(const struct fields *fields, void *base) {
  for (size_t i = 0; i < fields->count; i++) {
    const struct field *f = &fields->rows[i];
    if (f->kind == FIELD_MS) *(double *)((char *)base + f->offset) = -1;
    if (f->kind == FIELD_OBJECT) fields_clear_times(f->fields, base);
  }
}

int fields_decode(const struct fields *fields, void *base, struct pf_slice text,
    struct pf_arena *arena, struct pf_error *reterr) {
  struct json_scan scan = json_scan(text, reterr);
  fields_clear_times(fields, base);
  int err = fields_object(fields, base, &scan, arena);
  return err ? err : scan_end(&scan);
}
