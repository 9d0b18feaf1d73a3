#include "clients/measure/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "wire/json.h"
#include "wire/scan.h"

#define MS_NS 1e6
#define TIME_MAX_MS (BENCH_SECONDS_MAX * 1000.0)

struct known { /* a request that is there, by its content */
  struct pf_map_node node;
  uint32_t index;
  struct load_request request;
};

void record_init(struct record *r) {
  *r = (struct record){.hash_key = {pf_rand_secret_u64(), pf_rand_secret_u64()}};
  pf_arena_init(&r->arena);
  pf_map_init(&r->by_content);
}

void record_done(struct record *r) {
  pf_map_done(&r->by_content);
  pf_arena_done(&r->arena);
  free(r->requests);
  free(r->at_ns);
  free(r->which);
}

/* ---- adding ---- */

static bool same_request(const struct load_request *a, const struct load_request *b) {
  return pf_slice_eq(a->url, b->url) && pf_slice_eq(a->body, b->body) &&
         pf_slice_eq(a->method, b->method);
}

static bool known_is(const struct pf_map_node *node, const void *key) {
  return same_request(&((const struct known *)node)->request, key);
}

static uint64_t request_hash(const struct record *r, const struct load_request *q) {
  return pf_hash_bytes(r->hash_key, q->url.data, q->url.len) ^
         pf_hash_u64(pf_hash_bytes(r->hash_key, q->body.data, q->body.len));
}

int record_request(struct record *r, const struct load_request *request, uint32_t *ret_index) {
  uint64_t hash = request_hash(r, request);
  struct pf_map_node *node = pf_map_find(&r->by_content, hash, known_is, request);
  if (node) {
    *ret_index = ((struct known *)node)->index;
    return PF_OK;
  }
  size_t bytes = request->method.len + request->url.len + request->body.len;
  if (bytes > RECORD_TEXT_MAX - r->text_bytes) return PF_ELIMIT;
  r->text_bytes += bytes;
  if (r->request_count == r->request_room) {
    r->request_room = r->request_room ? 2 * r->request_room : 16;
    r->requests = pf_realloc(r->requests, r->request_room * sizeof(*r->requests));
  }
  struct known *known = pf_arena_alloc(&r->arena, sizeof(*known));
  known->index = (uint32_t)r->request_count;
  known->request = (struct load_request){.method = pf_arena_copy(&r->arena, request->method),
      .url = pf_arena_copy(&r->arena, request->url),
      .body = pf_arena_copy(&r->arena, request->body),
      .line = request->line};
  pf_map_put(&r->by_content, &known->node, hash);
  r->requests[r->request_count++] = known->request;
  *ret_index = known->index;
  return PF_OK;
}

int record_send(struct record *r, uint32_t request, int64_t at_ns) {
  PF_ASSERT(request < r->request_count);
  if (r->send_count == RECORD_SENDS_MAX) return PF_ELIMIT;
  if (r->send_count == r->send_room) {
    r->send_room = r->send_room ? 2 * r->send_room : 1024;
    r->at_ns = pf_realloc(r->at_ns, r->send_room * sizeof(*r->at_ns));
    r->which = pf_realloc(r->which, r->send_room * sizeof(*r->which));
  }
  r->at_ns[r->send_count] = at_ns;
  r->which[r->send_count++] = request;
  return PF_OK;
}

/* ---- a line ---- */

static int read_members(struct json_scan *s, struct load_request *ret_request, double *ret_at_ms,
    struct pf_arena *arena) {
  struct scan_text name, text;
  int err = scan_object(s);
  while (!err && (err = scan_member(s, &name)) == PF_OK) {
    struct pf_slice *field = pf_slice_is(name.raw, "method") ? &ret_request->method
                             : pf_slice_is(name.raw, "url")  ? &ret_request->url
                             : pf_slice_is(name.raw, "body") ? &ret_request->body
                                                             : NULL;
    if (field) {
      err = scan_string(s, &text);
      if (!err) *field = scan_text_slice(text, arena);
    } else {
      err = pf_slice_is(name.raw, "at") ? scan_double(s, ret_at_ms) : scan_skip(s);
    }
  }
  return err == PF_ENOTFOUND ? scan_end(s) : err;
}

static bool has_only_visible(struct pf_slice text) {
  for (size_t i = 0; i < text.len; i++)
    if (text.data[i] <= ' ' || text.data[i] > '~') return false;
  return text.len > 0;
}

static int check_line(
    const struct record *r, const struct load_request *q, double at_ms, struct pf_error *reterr) {
  if (!(at_ms >= 0 && at_ms <= TIME_MAX_MS))
    return pf_error_set(reterr, PF_EINVAL, "\"at\" is to be from 0 to %.0f ms", TIME_MAX_MS);
  if (r->send_count && at_ms * MS_NS + 0.5 < (double)r->at_ns[r->send_count - 1])
    return pf_error_set(reterr, PF_EINVAL, "\"at\" is less than in the line before");
  if (!has_only_visible(q->url))
    return pf_error_set(reterr, PF_EINVAL, "there is no \"url\", or it has characters of no URL");
  if (!has_only_visible(q->method) || q->method.len > RECORD_METHOD_MAX)
    return pf_error_set(reterr, PF_EINVAL, "\"method\" is no method");
  return PF_OK;
}

int record_add_line(struct record *r, struct pf_slice text, int64_t line, struct pf_error *reterr) {
  struct load_request request = {
      .method = pf_slice_str("GET"), .url = {"", 0}, .body = {"", 0}, .line = line};
  struct json_scan scan = json_scan(text, reterr);
  struct pf_arena arena;
  double at_ms = -1;
  uint32_t index = 0;
  pf_arena_init(&arena);
  int err = read_members(&scan, &request, &at_ms, &arena);
  if (!err) err = check_line(r, &request, at_ms, reterr);
  if (!err && record_request(r, &request, &index))
    err = pf_error_set(reterr, PF_ELIMIT, "more than %zu bytes of requests", RECORD_TEXT_MAX);
  if (!err && record_send(r, index, (int64_t)(at_ms * MS_NS + 0.5)))
    err = pf_error_set(reterr, PF_ELIMIT, "more than %zu requests", RECORD_SENDS_MAX);
  pf_arena_done(&arena);
  return err;
}

/* ---- files ---- */

/* Without its end; at most RECORD_LINE_MAX + 1 bytes of it. False at the end of the file. */
static bool read_line(FILE *in, char *line, size_t *ret_len) {
  size_t len = 0;
  int c = getc_unlocked(in);
  if (c == EOF) return false;
  for (; c != EOF && c != '\n' && len <= RECORD_LINE_MAX; c = getc_unlocked(in))
    line[len++] = (char)c;
  *ret_len = len;
  return true;
}

int record_read(struct record *r, const char *path, struct pf_error *reterr) {
  FILE *in = fopen(path, "re");
  if (!in) return pf_error_set(reterr, PF_EIO, "%s: %s", path, strerror(errno));
  char *line = pf_alloc(RECORD_LINE_MAX + 1);
  size_t len;
  int err = PF_OK;
  for (int64_t number = 1; !err && read_line(in, line, &len); number++) {
    struct pf_error why = {0};
    if (len > RECORD_LINE_MAX)
      err = pf_error_set(&why, PF_ELIMIT, "longer than %zu bytes", RECORD_LINE_MAX);
    else
      err = record_add_line(r, pf_slice(line, len), number, &why);
    if (err)
      (void)pf_error_set(reterr, err, "%s, line %lld: %s", path, (long long)number, why.text);
  }
  if (!err && ferror(in)) err = pf_error_set(reterr, PF_EIO, "%s: %s", path, strerror(errno));
  if (!err && r->send_count == 0) err = pf_error_set(reterr, PF_EINVAL, "%s is empty", path);
  free(line);
  fclose(in);
  return err;
}

int record_write(const struct record *r, FILE *out) {
  struct pf_buf line;
  pf_buf_init(&line, PF_BUF_MAX_DEFAULT);
  bool good = true;
  for (size_t i = 0; i < r->send_count && good; i++) {
    const struct load_request *request = &r->requests[r->which[i]];
    struct json_writer writer = json_writer(&line), *w = &writer;
    pf_buf_clear(&line);
    json_begin_object(w, NULL);
    json_put_ms(w, "at", (double)r->at_ns[i] / MS_NS);
    json_put_string(w, "method", request->method);
    json_put_string(w, "url", request->url);
    if (request->body.len) json_put_string(w, "body", request->body);
    json_end_object(w);
    pf_buf_str(&line, "\n");
    good = !line.err && fwrite(line.data, 1, line.len, out) == line.len;
  }
  good = fflush(out) == 0 && good;
  pf_buf_done(&line);
  return good ? PF_OK : PF_EIO;
}

int record_speed(struct record *r, double speed, struct pf_error *reterr) {
  PF_ASSERT(speed >= RECORD_SPEED_MIN && speed <= RECORD_SPEED_MAX);
  double last_ms = r->send_count ? (double)r->at_ns[r->send_count - 1] / MS_NS / speed : 0;
  if (last_ms > TIME_MAX_MS)
    return pf_error_set(
        reterr, PF_EINVAL, "at this speed it lasts more than %d seconds", BENCH_SECONDS_MAX);
  for (size_t i = 0; i < r->send_count; i++)
    r->at_ns[i] = (int64_t)((double)r->at_ns[i] / speed);
  return PF_OK;
}
