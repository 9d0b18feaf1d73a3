/* One CURLM on a libuv loop: the only place where the two event models meet. The control plane
 * (http/client.h) and the egress of the executor each own multis of their own.
 *
 * All sockets of a multi live in one epoll set, and the loop polls that set. A kept-alive socket
 * stays registered between two transfers, which saves two system calls a transfer over a uv_poll_t
 * for each socket.
 *
 * Threads    Everything on the loop given to http_multi_open().
 * Ownership  The caller owns struct http_multi and the easy handles. Every easy handle opens and
 * closes its sockets through http_multi_prepare(), or its own open function calls
 *            http_multi_socket_opened().
 * Ordering   done comes from the loop, never from inside http_multi_add(); the handle is no longer
 *            in the multi by then. done may add and remove handles.
 * Limits     none of its own: the caller admits transfers (libcurl's own limits queue inside the
 *            time-outs). Above about 600 transfers a multi gets slow; use several. */
#ifndef PF_HTTP_MULTI_H
#define PF_HTTP_MULTI_H

#include <curl/curl.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct http_socket;

struct http_multi {
  CURLM *curl;
  int epoll_fd;
  uv_poll_t poll;              /* of epoll_fd */
  uv_timer_t timer;            /* libcurl's own deadlines */
  unsigned handles;            /* uv handles not closed yet */
  struct http_socket *sockets; /* by descriptor */
  size_t socket_cap;
  size_t open_sockets, opened_total;
  void (*done)(void *arg, CURL *easy, CURLcode result);
  void (*closed)(void *arg);
  void *arg; /* of done and closed */
};

/* curl_global_init(), with memory that does not return without it, like pf_alloc(): libcurl goes on
 * with a wrong method, another proxy or without a query where it could not copy them. Counted, as
 * curl_global_cleanup() is. */
PF_MUST_CHECK int http_global_init(void);

/* idle_max: connections kept open for re-use. Errors: PF_ENOMEM, PF_ELIMIT (descriptors). */
PF_MUST_CHECK int http_multi_open(struct http_multi *multi, uv_loop_t *loop, long idle_max,
    void (*done)(void *arg, CURL *easy, CURLcode result), void *arg);

/* Sets the options that every handle of this multi needs; again after each curl_easy_reset(). */
void http_multi_prepare(struct http_multi *multi, CURL *easy);
/* For handles with a CURLOPT_OPENSOCKETFUNCTION of their own: fd is new. */
void http_multi_socket_opened(struct http_multi *multi, curl_socket_t fd);

void http_multi_add(struct http_multi *multi, CURL *easy);
/* Breaks the transfer off without done. Not from inside a callback of libcurl. */
void http_multi_remove(struct http_multi *multi, CURL *easy);

/* All handles have been removed. Calls closed later, when multi may be freed. */
void http_multi_close(struct http_multi *multi, void (*closed)(void *arg));

#endif
