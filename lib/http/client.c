#include "http/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/multi.h"
#include "wire/hop.h"

#define IDLE_CONNECTIONS_MAX 64

struct http_transfer { /* pooled with its easy handle */
  struct pf_list link; /* in http.running, http.ended or http.idle */
  struct http *http;
  CURL *easy;
  struct http_call *call;
  struct curl_slist *headers;
  unsigned attempts; /* times libcurl was about to send the request */
  char error[CURL_ERROR_SIZE];
};

struct http {
  struct http_multi multi;
  uv_timer_t soon_timer; /* 0 ms: the end of the turn */
  struct pf_list soon;
  struct http_soon deliver; /* calls that ended without libcurl */
  struct pf_list running, ended, idle;
  bool closing;
  unsigned closing_parts;
  void (*closed)(void *arg);
  void *closed_arg;
};

static void http_close_parts(struct http *http);

/* ---- work at the end of the turn ---- */

static void http_on_soon(uv_timer_t *timer) {
  struct http *http = timer->data;
  struct pf_list now;
  pf_list_init(&now);
  pf_list_splice(&now, &http->soon);
  struct pf_list *link;
  while ((link = pf_list_pop(&now)) != NULL) {
    struct http_soon *soon = pf_container_of(link, struct http_soon, link);
    soon->run(soon);
  }
  if (http->closing && pf_list_empty(&http->soon)) http_close_parts(http);
}

void http_soon(struct http *http, struct http_soon *soon) {
  if (!pf_list_empty(&soon->link)) return; /* waiting already */
  if (pf_list_empty(&http->soon)) uv_timer_start(&http->soon_timer, http_on_soon, 0, 0);
  pf_list_push(&http->soon, &soon->link);
}

void http_soon_cancel(struct http_soon *soon) {
  pf_list_del(&soon->link);
}

/* ---- callbacks of libcurl ---- */

static size_t transfer_on_body(char *data, size_t size, size_t count, void *arg) {
  struct http_transfer *t = arg;
  pf_buf_append(&t->call->response, data, size * count);
  return t->call->response.err ? 0 : size * count;
}

/* Called before each time the request goes out. The second time in one call is libcurl's own
 * repetition on a fresh connection, which could double what the peer does. */
static int transfer_before_send(
    void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port) {
  (void)remote_ip, (void)local_ip, (void)remote_port, (void)local_port;
  struct http_transfer *t = arg;
  return ++t->attempts > 1 ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* ---- transfers ---- */

static struct http_transfer *transfer_take(struct http *http) {
  struct pf_list *link = pf_list_pop(&http->idle);
  if (link) return pf_container_of(link, struct http_transfer, link);
  struct http_transfer *t = pf_alloc(sizeof(*t));
  t->easy = curl_easy_init();
  PF_ASSERT(t->easy);
  return t;
}

static void transfer_free(struct http_transfer *t) {
  curl_easy_cleanup(t->easy);
  free(t);
}

static void transfer_set_method(CURL *easy, const struct http_call *call) {
  if (strcmp(call->method, "GET") == 0) return;
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
  if (!call->content_type && strcmp(call->method, "DELETE") == 0) return;
  curl_easy_setopt(easy, CURLOPT_POST, 1L);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body.data ? call->body.data : "");
}

static void transfer_prepare(struct http_transfer *t) {
  struct http_call *call = t->call;
  CURL *easy = t->easy;
  http_multi_prepare(&t->http->multi, easy);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->error);
  curl_easy_setopt(easy, CURLOPT_URL, call->url);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
      (long)(call->timeout_ms ? call->timeout_ms : HTTP_TIMEOUT_MS_DEFAULT));
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, transfer_on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, transfer_before_send);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
  transfer_set_method(easy, call);

  char content_type[128];
  t->headers = curl_slist_append(NULL, "Expect:");
  t->headers = curl_slist_append(t->headers, HOP_VERSION_HEADER ": " HOP_VERSION);
  if (call->content_type) {
    snprintf(content_type, sizeof(content_type), "Content-Type: %s", call->content_type);
    t->headers = curl_slist_append(t->headers, content_type);
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
}

/* Back to the pool, then done: it may start the call again. */
static void transfer_finish(struct http_transfer *t) {
  struct http *http = t->http;
  struct http_call *call = t->call;
  curl_slist_free_all(t->headers);
  curl_easy_reset(t->easy);
  t->headers = NULL;
  t->call = NULL;
  t->attempts = 0;
  t->error[0] = '\0';
  pf_list_del(&t->link);
  pf_list_push_front(&http->idle, &t->link);

  call->priv = NULL;
  struct pf_buf response = call->response; /* done may free call, or start it again */
  call->done(call);
  pf_buf_done(&response);
}

static int call_err(const struct http_call *call, CURLcode result) {
  if (result == CURLE_OK) return PF_OK;
  if (result == CURLE_OPERATION_TIMEDOUT) return PF_ETIMEOUT;
  if (call->response.err) return call->response.err;
  return PF_ENET;
}

static void http_on_done(void *arg, CURL *easy, CURLcode result) {
  (void)arg;
  char *priv;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &priv);
  struct http_transfer *t = (struct http_transfer *)(void *)priv;
  struct http_call *call = t->call;
  call->err = call_err(call, result);
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  if (!call->err) {
    call->status = (int)status;
  } else {
    const char *text = t->attempts > 1 ? "the peer closed the connection without an answer"
                       : call->response.err == PF_ENOMEM ? "out of memory"
                       : call->response.err              ? "the answer is larger than its limit"
                       : t->error[0]                     ? t->error
                                                         : curl_easy_strerror(result);
    snprintf(call->error, sizeof(call->error), "%.*s", (int)sizeof(call->error) - 1, text);
  }
  transfer_finish(t);
}

/* ---- calls ---- */

void http_start(struct http *http, struct http_call *call) {
  PF_ASSERT(call->method && call->url && call->done);
  struct http_transfer *t = transfer_take(http);
  t->http = http;
  t->call = call;
  call->priv = t;
  call->err = PF_OK;
  call->status = 0;
  call->error[0] = '\0';
  pf_buf_init(&call->response, call->response_max ? call->response_max : HTTP_RESPONSE_MAX_DEFAULT);
  if (http->closing) {
    call->err = PF_ECANCEL;
    pf_list_push(&http->ended, &t->link);
    http_soon(http, &http->deliver);
    return;
  }
  transfer_prepare(t);
  pf_list_push(&http->running, &t->link);
  http_multi_add(&http->multi, t->easy);
}

void http_cancel(struct http *http, struct http_call *call) {
  struct http_transfer *t = call->priv;
  if (!t || call->err == PF_ECANCEL) return;
  http_multi_remove(&http->multi, t->easy);
  call->err = PF_ECANCEL;
  snprintf(call->error, sizeof(call->error), "canceled");
  pf_list_del(&t->link);
  pf_list_push(&http->ended, &t->link);
  http_soon(http, &http->deliver);
}

static void http_deliver(struct http_soon *soon) {
  struct http *http = pf_container_of(soon, struct http, deliver);
  struct pf_list now;
  pf_list_init(&now);
  pf_list_splice(&now, &http->ended);
  struct pf_list *link;
  while ((link = pf_list_pop(&now)) != NULL)
    transfer_finish(pf_container_of(link, struct http_transfer, link));
}

/* ---- life ---- */

int http_new(struct http **ret_http, uv_loop_t *loop) {
  if (http_global_init()) return PF_ENOMEM;
  struct http *http = pf_alloc(sizeof(*http));
  int err = http_multi_open(&http->multi, loop, IDLE_CONNECTIONS_MAX, http_on_done, http);
  if (err) {
    free(http);
    curl_global_cleanup();
    return err;
  }
  int rc = uv_timer_init(loop, &http->soon_timer);
  PF_ASSERT(rc == 0);
  http->soon_timer.data = http;
  pf_list_init(&http->soon);
  pf_list_init(&http->deliver.link);
  http->deliver.run = http_deliver;
  pf_list_init(&http->running);
  pf_list_init(&http->ended);
  pf_list_init(&http->idle);
  *ret_http = http;
  return PF_OK;
}

static void http_part_closed(struct http *http) {
  PF_ASSERT(http->closing_parts > 0);
  if (--http->closing_parts > 0) return;
  void (*closed)(void *) = http->closed;
  void *arg = http->closed_arg;
  free(http);
  curl_global_cleanup();
  if (closed) closed(arg);
}

static void http_timer_closed(uv_handle_t *handle) {
  http_part_closed(handle->data);
}

static void http_multi_closed(void *arg) {
  http_part_closed(arg);
}

/* Every call has been delivered, and none was started by the last ones. */
static void http_close_parts(struct http *http) {
  PF_ASSERT(pf_list_empty(&http->running) && pf_list_empty(&http->ended));
  struct pf_list *link;
  while ((link = pf_list_pop(&http->idle)) != NULL)
    transfer_free(pf_container_of(link, struct http_transfer, link));
  http->closing_parts = 2;
  uv_close((uv_handle_t *)&http->soon_timer, http_timer_closed);
  http_multi_close(&http->multi, http_multi_closed);
}

void http_close(struct http *http, void (*closed)(void *arg), void *arg) {
  PF_ASSERT(!http->closing);
  http->closing = true;
  http->closed = closed;
  http->closed_arg = arg;
  PF_LIST_EACH(link, &http->running) {
    http_cancel(http, pf_container_of(link, struct http_transfer, link)->call);
  }
  uv_timer_start(&http->soon_timer, http_on_soon, 0, 0);
}
