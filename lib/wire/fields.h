/* One table per message is its encoder, its decoder and its list of limits: each row names a member
 * of the JSON object and the field of the struct that it fills. Private to lib/wire.
 *
 * Encoding writes the rows in order. Optional rows are left out when they hold nothing: zero,
 * false, an empty text, a negative time. Decoding takes members in any order, ignores unknown ones,
 * and refuses a member that comes twice, a required one that is missing, and any value out of its
 * range.
 *
 * Threads    pure
 * Ownership  Slices point into the text, or into the arena where the text has escapes.
 * Ordering   Members that come in the order of the table are found without a search.
 * Limits     FIELDS_MAX rows. */
#ifndef PF_WIRE_FIELDS_H
#define PF_WIRE_FIELDS_H

#include <stddef.h>

#include "wire/json.h"
#include "wire/scan.h"

#define FIELDS_MAX 32

enum field_kind {
  FIELD_JOB,    /* struct pf_job_id: 32 hex digits */
  FIELD_FENCE,  /* struct pf_fence: 32 hex digits */
  FIELD_HEX64,  /* uint64_t: 16 hex digits */
  FIELD_BYTES,  /* `size` bytes as hex */
  FIELD_BOOL,   /* bool */
  FIELD_INT,    /* int or int64_t by size, within [min, max] */
  FIELD_MS,     /* double; negative means not measured */
  FIELD_CHARS,  /* char[size], NUL-terminated */
  FIELD_TEXT,   /* struct pf_slice of at most max bytes */
  FIELD_CHOICE, /* enum or bool: index into names */
  FIELD_OBJECT, /* the rows of `fields` in an object of its own, offsets counted from the same
                   struct */
  FIELD_CUSTOM, /* by the functions given */
};

struct field {
  const char *name;
  size_t name_len;
  enum field_kind kind;
  bool optional;
  size_t offset, size;
  int64_t min, max;
  const char *const *names; /* NULL-terminated */
  const struct fields *fields;
  void (*encode)(struct json_writer *w, const char *name, const void *base);
  int (*decode)(struct json_scan *s, void *base, struct pf_arena *arena);
};

struct fields {
  const struct field *rows;
  size_t count;
};

#define FIELD_MEMBER(type, member) sizeof(((type *)0)->member)
#define FIELD(json, kind_, type, member, ...)                                                      \
  {                                                                                                \
    .name = json, .name_len = sizeof(json) - 1, .kind = kind_, .offset = offsetof(type, member),   \
    .size = FIELD_MEMBER(type, member), __VA_ARGS__                                                \
  }
#define FIELD_NESTED(json, table, ...)                                                             \
  {                                                                                                \
    .name = json, .name_len = sizeof(json) - 1, .kind = FIELD_OBJECT, .fields = &(table),          \
    __VA_ARGS__                                                                                    \
  }
#define FIELD_OWN(json, encode_, decode_, ...)                                                     \
  {                                                                                                \
    .name = json, .name_len = sizeof(json) - 1, .kind = FIELD_CUSTOM, .encode = encode_,           \
    .decode = decode_, __VA_ARGS__                                                                 \
  }
#define FIELD_OPTIONAL .optional = true
#define FIELDS(name, ...)                                                                          \
  static const struct field name##_rows[] = {__VA_ARGS__};                                         \
  static const struct fields name = {name##_rows, PF_COUNT(name##_rows)};                          \
  _Static_assert(PF_COUNT(name##_rows) <= FIELDS_MAX, "one bit each")

void fields_encode(struct json_writer *w, const struct fields *fields, const void *base);
/* The whole text is the object. base must be zeroed by the caller; after an error its content is
 * undefined. arena may be NULL if the table has no FIELD_TEXT and no custom rows that need it. */
PF_MUST_CHECK int fields_decode(const struct fields *fields, void *base, struct pf_slice text,
    struct pf_arena *arena, struct pf_error *reterr);
/* The parts of it: the object at the scanner's position, *ret_seen with one bit for each row that
 * came; then whether all that is required is among them. */
PF_MUST_CHECK int fields_scan(const struct fields *fields, void *base, struct json_scan *s,
    struct pf_arena *arena, uint32_t *ret_seen);
PF_MUST_CHECK int fields_require(const struct fields *fields, uint32_t seen, struct json_scan *s);
/* Times that do not come were not measured: -1. fields_decode does it by itself. */
void fields_clear_times(const struct fields *fields, void *base);

#endif
