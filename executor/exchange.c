#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/clock.h"
#include "base/fault.h"
#include "executor/fetch_private.h"

#define REDIRECT_BODY_MAX 65536 /* of an answer that is not the result */
#define CONNECTION_IDLE_S 60
#define CONNECTION_AGE_S 600

/* Ends the transfer from inside a callback. Returns 0, which most callbacks fail with. */
static int answer_refuse(struct fetch *f, enum outcome verdict, const char *reason) {
  f->verdict = verdict;
  snprintf(f->reason, sizeof(f->reason), "%s", reason);
  return 0;
}

/* ---- sockets ---- */

static curl_socket_t exchange_open_socket(
    void *arg, curlsocktype purpose, struct curl_sockaddr *address) {
  (void)purpose;
  struct fetch *f = arg;
  if (!egress_check(f->engine->config.rules, &address->addr, f->reason)) return CURL_SOCKET_BAD;
  curl_socket_t fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd < 0) {
    answer_refuse(f, OUTCOME_EXECUTOR_INTERNAL, strerror(errno));
    return CURL_SOCKET_BAD;
  }
  f->verdict = OUTCOME_OK; /* whatever happened at another address of this name */
  f->dialed = true;
  http_multi_socket_opened(&f->handle->shard->multi, fd);
  return fd;
}

/* The address of a connection that is used again. */
static bool peer_allowed(struct fetch *f, const char *ip, int port) {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } addr = {0};
  if (inet_pton(AF_INET, ip, &addr.v4.sin_addr) == 1)
    addr.v4.sin_family = AF_INET;
  else if (inet_pton(AF_INET6, ip, &addr.v6.sin6_addr) == 1)
    addr.v6.sin6_family = AF_INET6;
  else
    return false;
  pf_sockaddr_set_port(&addr.any, (uint16_t)port);
  return egress_check(f->engine->config.rules, &addr.any, f->reason);
}

/* The connection stands, and the request is about to leave. */
static int exchange_before_send(
    void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port) {
  (void)local_ip, (void)local_port;
  struct fetch *f = arg;
  PF_FAULT("executor.after_start");
  if (!peer_allowed(f, remote_ip, remote_port)) {
    f->verdict = OUTCOME_POLICY_REFUSED;
    return CURL_PREREQFUNC_ABORT;
  }
  /* libcurl sends a request again by itself when a kept-alive connection broke before the answer.
   */
  if (f->sends > 0) {
    f->verdict = OUTCOME_RESET;
    return CURL_PREREQFUNC_ABORT;
  }
  if (!f->engine->config.may_send(f->engine->config.arg, f)) {
    f->verdict = OUTCOME_EXECUTOR_LOST;
    f->lapsed = true;
    return CURL_PREREQFUNC_ABORT;
  }
  f->sends++;
  f->state = FETCH_SENT;
  return CURL_PREREQFUNC_OK;
}

/* ---- the answer ---- */

static bool header_is(struct pf_slice name, const char *text) {
  return name.len == strlen(text) && strncasecmp(name.data, text, name.len) == 0;
}

/* Framing and hop-by-hop headers mean nothing behind us, cookies are not reflected, and a decoded
 * body has neither its encoding nor its length any more. */
static bool header_shown(const struct fetch *f, struct pf_slice name) {
  static const char *const hidden[] = {"connection", "keep-alive", "transfer-encoding", "trailer",
      "upgrade", "set-cookie", "set-cookie2", "proxy-authenticate", "proxy-connection", "alt-svc"};
  for (size_t i = 0; i < PF_COUNT(hidden); i++)
    if (header_is(name, hidden[i])) return false;
  return !f->decodes || !header_is(name, "content-encoding");
}

static struct pf_slice slice_trim(struct pf_slice s) {
  while (s.len && strchr(" \t\r\n", s.data[s.len - 1]))
    s.len--;
  while (s.len && strchr(" \t", s.data[0]))
    s.data++, s.len--;
  return s;
}

/* Values come from a stranger and end up in logs and frames. */
static struct pf_slice value_clean(struct pf_arena *arena, struct pf_slice value) {
  char *copy = (char *)pf_arena_copy(arena, value).data;
  for (size_t i = 0; i < value.len; i++)
    if ((unsigned char)copy[i] < 0x20 || copy[i] == 0x7f) copy[i] = ' ';
  return pf_slice(copy, value.len);
}

static void answer_header(struct fetch *f, struct pf_slice name, struct pf_slice value) {
  bool wanted = f->request.include & WIRE_INCLUDE_HEADERS;
  if (header_is(name, "location") && f->location.len == 0)
    f->location = pf_arena_copy(f->arena, value);
  if (header_is(name, "content-encoding") && f->decodes) f->encoded = true;
  if (!wanted || !header_shown(f, name)) return;
  if (!f->headers) f->headers = pf_arena_alloc(f->arena, FETCH_HEADERS_MAX * sizeof(*f->headers));
  f->headers[f->header_count++] = (struct wire_header){
      .name = value_clean(f->arena, name), .value = value_clean(f->arena, value)};
}

/* "HTTP/1.1 200 OK": another one follows each 1xx. */
static void answer_status(struct fetch *f, struct pf_slice line) {
  f->status = 0;
  const char *space = memchr(line.data, ' ', line.len);
  for (size_t i = 1; space && i <= 3 && space + i < line.data + line.len; i++)
    if (space[i] >= '0' && space[i] <= '9') f->status = f->status * 10 + (space[i] - '0');
  f->header_count = 0;
  f->encoded = false;
  f->location = pf_slice(NULL, 0);
}

static void headers_drop(struct fetch *f, const char *name) {
  size_t kept = 0;
  for (size_t i = 0; i < f->header_count; i++)
    if (!header_is(f->headers[i].name, name)) f->headers[kept++] = f->headers[i];
  f->header_count = kept;
}

static size_t exchange_on_header(char *data, size_t size, size_t count, void *arg) {
  struct fetch *f = arg;
  struct pf_slice line = pf_slice(data, size * count);
  if (f->headers_complete) return line.len; /* a trailer */
  f->header_bytes += line.len;
  if (f->header_bytes > FETCH_HEADER_BYTES_MAX)
    return (size_t)answer_refuse(
        f, OUTCOME_TOO_LARGE, "the answer's headers are larger than 64 KiB");
  if (line.len >= 5 && memcmp(line.data, "HTTP/", 5) == 0) {
    answer_status(f, line);
    return line.len;
  }
  if (line.len <= 2) { /* the empty line */
    if (f->encoded) headers_drop(f, "content-length");
    f->headers_complete = f->status >= 200;
    f->follows = redirect_status(f->status) && f->location.len > 0 &&
                 f->request.redirect == WIRE_REDIRECT_FOLLOW;
    return line.len;
  }
  const char *colon = memchr(line.data, ':', line.len);
  if (!colon) return line.len;
  if (f->header_count == FETCH_HEADERS_MAX)
    return (size_t)answer_refuse(f, OUTCOME_TOO_LARGE, "the answer has more than 256 headers");
  size_t name = (size_t)(colon - line.data);
  answer_header(f, pf_slice(line.data, name), slice_trim(pf_slice(colon + 1, line.len - name - 1)));
  return line.len;
}

static bool ratio_exceeded(const struct fetch *f) {
  if (!f->encoded || f->response_length < FETCH_RATIO_BYTES) return false;
  curl_off_t arrived = 0;
  curl_easy_getinfo(f->handle->easy, CURLINFO_SIZE_DOWNLOAD_T, &arrived);
  return f->response_length > (arrived + CURL_MAX_WRITE_SIZE) * FETCH_RATIO_MAX;
}

/* From the first byte on the body may not pause for longer than idle_ms. The timer is moved only if
 * it would come too late; when it comes too early it looks at active_at_ms. */
static void body_arrived(struct fetch *f) {
  f->active_at_ms = pf_clock_mono_ms();
  if (f->state == FETCH_BODY) return;
  f->state = FETCH_BODY;
  int64_t idle_at_ms = f->active_at_ms + f->engine->config.limits.idle_ms;
  if (f->timer.node.key > idle_at_ms) timer_set(&f->engine->timers, &f->timer, idle_at_ms);
}

static size_t exchange_on_body(char *data, size_t size, size_t count, void *arg) {
  struct fetch *f = arg;
  struct fetch_engine *e = f->engine;
  size_t len = size * count;
  PF_FAULT("executor.mid_body");
  body_arrived(f);
  f->response_length += (int64_t)len;
  size_t max = f->follows ? REDIRECT_BODY_MAX : e->config.limits.body_max;
  if ((size_t)f->response_length > max) {
    char why[64];
    snprintf(why, sizeof(why), "the answer is larger than %zu bytes", max);
    return (size_t)answer_refuse(f, OUTCOME_TOO_LARGE, why);
  }
  if (ratio_exceeded(f))
    return (size_t)answer_refuse(f, OUTCOME_DECODE_FAILED, "the answer expands too far");
  if (f->follows || !(f->request.include & WIRE_INCLUDE_BODY)) return len;
  if (e->buffered + len > e->config.limits.buffered_max)
    return (size_t)answer_refuse(
        f, OUTCOME_EXECUTOR_INTERNAL, "the executor holds too many bytes of other answers");
  pf_buf_append(&f->body, data, len);
  if (f->body.err)
    return (size_t)answer_refuse(f, OUTCOME_EXECUTOR_INTERNAL, "the executor is out of memory");
  e->buffered += len;
  return len;
}

/* ---- options ---- */

static bool request_names(const struct wire_request *request, const char *name) {
  for (size_t i = 0; i < request->header_count; i++)
    if (header_is(request->headers[i].name, name)) return true;
  return false;
}

struct header_list {
  struct pf_arena *arena;
  struct curl_slist *first, **last;
};

/* Nodes and texts live in the arena, so nothing has to be freed. */
static void header_add(
    struct header_list *list, struct pf_slice name, const char *middle, struct pf_slice value) {
  size_t middle_len = strlen(middle);
  struct curl_slist *node = pf_arena_alloc(list->arena, sizeof(*node));
  node->data = pf_arena_alloc(list->arena, name.len + middle_len + value.len + 1);
  memcpy(node->data, name.data, name.len);
  memcpy(node->data + name.len, middle, middle_len);
  if (value.len) memcpy(node->data + name.len + middle_len, value.data, value.len);
  *list->last = node;
  list->last = &node->next;
}

static struct curl_slist *request_headers(const struct fetch *f) {
  const struct wire_request *request = &f->request;
  struct header_list list = {.arena = f->arena, .last = &list.first};
  const struct pf_slice none = {0};
  char job[PF_ID_TEXT];
  pf_job_id_print(job, f->job);
  header_add(&list, pf_slice_str("X-Job-Id"), ": ", pf_slice_str(job));
  header_add(&list, pf_slice_str("Expect:"), "", none); /* libcurl adds none by itself then */
  for (size_t i = 0; i < request->header_count; i++) {
    const struct wire_header *h = &request->headers[i];
    /* libcurl takes "Name:" as an order to leave Name out; "Name;" sends it empty. */
    header_add(&list, h->name, h->value.len ? ": " : ";", h->value);
  }
  if (request->idempotency_key.len)
    header_add(&list, pf_slice_str("Idempotency-Key"), ": ", request->idempotency_key);
  if (!request_names(request, "user-agent"))
    header_add(&list, pf_slice_str("User-Agent"), ": ", pf_slice_str("proxyfetch/" PF_VERSION));
  if (request->body.len && !request_names(request, "content-type"))
    header_add(&list, pf_slice_str("Content-Type:"), "", none);
  return list.first;
}

static void exchange_set_method(CURL *easy, const struct fetch *f) {
  const struct wire_request *request = &f->request;
  if (pf_slice_is(request->method, "GET")) return;
  if (pf_slice_is(request->method, "HEAD")) {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    return;
  }
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, pf_arena_copy(f->arena, request->method).data);
  bool has_body = request->body.len || pf_slice_is(request->method, "POST") ||
                  pf_slice_is(request->method, "PUT") || pf_slice_is(request->method, "PATCH");
  if (!has_body) return;
  curl_easy_setopt(easy, CURLOPT_POST, 1L);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.len ? request->body.data : "");
}

/* What must never depend on a job or on the environment of the process. */
static void exchange_set_profile(CURL *easy, const struct fetch_engine *e) {
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  curl_easy_setopt(easy, CURLOPT_UNRESTRICTED_AUTH, 0L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  if (e->config.ca_file) curl_easy_setopt(easy, CURLOPT_CAINFO, e->config.ca_file);
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)CONNECTION_IDLE_S);
  curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, (long)CONNECTION_AGE_S);
  /* Time is measured by struct timers; libcurl's own default must not come first. */
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)WIRE_ATTEMPT_MS_MAX);
}

/* "+host:port:addr,addr" tells libcurl what we have looked up, so that it asks nobody. Its multi
 * remembers that for longer than we keep the answer. */
static struct curl_slist *resolve_list(const struct fetch *f, const struct dns_answer *answer) {
  char ip[PF_ADDR_TEXT];
  struct pf_buf text;
  pf_buf_init(&text, 4096);
  pf_buf_printf(&text, "+%s:%u:", f->target.host, f->target.port);
  for (unsigned i = 0, count = 0; i < answer->count; i++) {
    struct sockaddr_storage addr = answer->addrs[i];
    pf_sockaddr_set_port((struct sockaddr *)&addr, f->target.port);
    char unused[EGRESS_TEXT_MAX];
    if (!egress_check(f->engine->config.rules, (struct sockaddr *)&addr, unused)) continue;
    const void *raw = addr.ss_family == AF_INET
                          ? (const void *)&((struct sockaddr_in *)&addr)->sin_addr
                          : (const void *)&((struct sockaddr_in6 *)&addr)->sin6_addr;
    inet_ntop(addr.ss_family, raw, ip, sizeof(ip));
    pf_buf_printf(&text, count++ ? ",%s%s%s" : "%s%s%s", addr.ss_family == AF_INET6 ? "[" : "", ip,
        addr.ss_family == AF_INET6 ? "]" : "");
  }
  pf_buf_append(&text, "", 1);
  /* Without the list libcurl would look the name up by itself, past our time-out. */
  if (text.err == PF_ENOMEM) pf_out_of_memory();
  struct curl_slist *list = NULL;
  if (!text.err) list = curl_slist_append(NULL, text.data);
  pf_buf_done(&text);
  return list;
}

void exchange_prepare(struct fetch *f, const struct dns_answer *answer) {
  struct handle *h = f->handle;
  CURL *easy = h->easy;
  exchange_set_profile(easy, f->engine);
  http_multi_prepare(&h->shard->multi, easy);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, exchange_open_socket);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, f);
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, exchange_before_send);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, f);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, exchange_on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, f);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, exchange_on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, h->error);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, f);
  curl_easy_setopt(easy, CURLOPT_URL, pf_arena_copy(f->arena, f->request.url).data);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request_headers(f));
  /* A caller who names encodings gets what the target sends, as it is. */
  f->decodes = !request_names(&f->request, "accept-encoding");
  if (f->decodes) curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
  exchange_set_method(easy, f);
  if (answer) {
    h->resolve = resolve_list(f, answer);
    curl_easy_setopt(easy, CURLOPT_RESOLVE, h->resolve);
  }
}

void exchange_reset(struct fetch *f) {
  struct handle *h = f->handle;
  curl_easy_setopt(h->easy, CURLOPT_RESOLVE, NULL); /* a reset alone leaves it dangling */
  curl_slist_free_all(h->resolve);
  h->resolve = NULL;
  h->error[0] = '\0';
  curl_easy_reset(h->easy);
}

/* ---- the end ---- */

bool exchange_sent(const struct fetch *f) {
  if (f->sends == 0) return false;
  long bytes = 0;
  curl_easy_getinfo(f->handle->easy, CURLINFO_REQUEST_SIZE, &bytes);
  return bytes > 0;
}

void exchange_measure(struct fetch *f) {
  CURL *easy = f->handle->easy;
  curl_off_t lookup = 0, connect = 0, tls = 0, first = 0, total = 0;
  long connections = 0;
  curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &lookup);
  curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connect);
  curl_easy_getinfo(easy, CURLINFO_APPCONNECT_TIME_T, &tls);
  curl_easy_getinfo(easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
  curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &total);
  curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connections);
  /* A step that did not happen is 0 there. The step at which it ended gets the rest of the time, so
   * that the parts sum to the total. */
  if (f->sends == 0 && connect > 0) tls = total;
  if (f->sends == 0 && connect == 0) connect = total;
  if (f->status == 0) first = total;
  if (connect < lookup) connect = lookup;
  if (tls < connect) tls = connect;
  if (first < tls) first = tls;
  if (total < first) total = first;
  struct hop_timings *t = &f->timings;
  t->dns += (double)lookup / 1000;
  t->connect += (double)(connect - lookup) / 1000;
  t->tls += (double)(tls - connect) / 1000;
  t->ttfb += (double)(first - tls) / 1000;
  t->transfer += (double)(total - first) / 1000;
  f->reused = f->sends > 0 && connections == 0;
  f->engine->reused += f->reused;
}

enum outcome exchange_outcome(const struct fetch *f, CURLcode result) {
  if (f->verdict != OUTCOME_OK) return f->verdict;
  bool sent = f->sends > 0;
  switch (result) {
  case CURLE_OK:
    return OUTCOME_OK;
  case CURLE_URL_MALFORMAT:
    return OUTCOME_BAD_URL;
  case CURLE_UNSUPPORTED_PROTOCOL: /* also an answer that is not HTTP/1 */
    return sent ? OUTCOME_BAD_RESPONSE : OUTCOME_BAD_URL;
  case CURLE_COULDNT_RESOLVE_HOST:
    return OUTCOME_DNS_FAILED;
  case CURLE_COULDNT_CONNECT:
    return !f->dialed && f->reason[0] ? OUTCOME_POLICY_REFUSED : OUTCOME_CONNECT_FAILED;
  case CURLE_OPERATION_TIMEDOUT:
    return sent ? OUTCOME_TIMEOUT_ATTEMPT : OUTCOME_CONNECT_TIMEOUT;
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_ISSUER_ERROR:
  case CURLE_SSL_INVALIDCERTSTATUS:
    return OUTCOME_TLS_VERIFY;
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_SSL_CIPHER:
    return sent ? OUTCOME_RESET : OUTCOME_TLS_FAILED;
  case CURLE_BAD_CONTENT_ENCODING:
    return OUTCOME_DECODE_FAILED;
  case CURLE_WEIRD_SERVER_REPLY:
    return OUTCOME_BAD_RESPONSE;
  case CURLE_GOT_NOTHING:
  case CURLE_PARTIAL_FILE:
  case CURLE_SEND_ERROR:
  case CURLE_RECV_ERROR:
    if (sent) return OUTCOME_RESET;
    return f->target.https ? OUTCOME_TLS_FAILED : OUTCOME_CONNECT_FAILED;
  default:
    return OUTCOME_EXECUTOR_INTERNAL;
  }
}
