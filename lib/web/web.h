/* HTTP/1.1 and WebSocket server on a libuv loop. HTTP is ours, WebSocket is libwebsockets'; nothing
 * of lws shows through. Why: docs/decisions/0040-http-by-ourselves.md
 *
 * Threads    Everything on the loop given to web_new().
 * Ownership  Slices handed to callbacks are valid during the callback only. Requests and sockets
 *            are named by id (never re-used): a late answer to one that has gone does nothing.
 * Ordering   Frames of one socket leave in the order of web_ws_send.
 * Limits     struct web_limits, and in web/head.h those of a request's head, all enforced here.
 *
 * HTTP       400 for what two servers could read differently: doubled or malformed Content-Length,
 *            any Transfer-Encoding, folded lines, bare LF, no Host or two. 408 for a head that is
 *            not complete in header_s and a body slower than body_bytes_per_s, 411 for a POST or
 *            PUT without length, 413 over body_max, 431 over the limits of the head. Each of these
 *            ends its connection. Pipelined requests are handed over one by one. An answer of which
 *            nothing is taken for stall_s is given up with its connection.
 * WebSocket  Text only (binary: 1003), UTF-8 is checked (1007), messages and fragments are bounded
 *            (1009), no extensions. A reader that lets its outbox fill, or takes nothing of it for
 *            stall_s, is closed with 1013, one that does not answer a ping is cut off. Frames that
 *            break the protocol end the connection (1002), and what comes behind a close is not
 *            heard. Exceptions: lws 4.1.6 takes frames without a mask (a mask protects proxies from
 *            scripts, not this server) and closes with codes above 4999; a control frame of more
 *            than 125 bytes, a length above 2^63 and a close whose words are not UTF-8 end the
 *            connection without a close frame.
 * Memory     What waits for all clients of a listener together is bounded, too (unread_max): above
 * it those are given up that have taken nothing for longest. */
#ifndef PF_WEB_WEB_H
#define PF_WEB_WEB_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"

struct web;

/* Accepted, but not needed. */
#define WEB_SUBPROTOCOL "proxyfetch.v1"

enum web_method { WEB_GET, WEB_HEAD, WEB_POST, WEB_PUT, WEB_DELETE, WEB_OPTIONS, WEB_OTHER };

struct web_limits {
  size_t body_max;        /* bytes of a request body */
  size_t frame_max;       /* bytes of one WebSocket message, fragments put together */
  size_t outbox_max;      /* bytes waiting for one socket before it is closed */
  size_t unread_max;      /* bytes waiting for all clients, answers and frames */
  unsigned fragments_max; /* of one message */
  unsigned connections_max;
  int ping_s, pong_s;        /* idle sockets are pinged after ping_s and closed after pong_s more */
  int stall_s;               /* waiting bytes of which a client takes none */
  int close_s;               /* for the closing handshake of a WebSocket */
  int idle_s;                /* kept-alive connections without requests; clients give up first */
  int header_s;              /* headers complete within */
  unsigned body_bytes_per_s; /* averaged, after the grace */
  int body_grace_s;
};
/* 1 MiB, 1 MiB, 4 MiB, 1 GiB, 1024, 20000, 30, 10, 60, 5, 300, 10, 1024, 5. Fault builds take
 * others from PF_LIMIT (base/fault.h), as in web.stall_s:1. */
extern const struct web_limits web_limits_default;

struct web_request {
  uint64_t id; /* for web_respond */
  enum web_method method;
  struct pf_slice path;  /* decoded path, without the query */
  struct pf_slice query; /* raw, without '?' */
  struct pf_slice body;  /* complete */
  void *priv;            /* for web_request_header */
};

struct web_handlers {
  void *arg;
  /* A complete request. Answer now or later, exactly once, with web_respond(). */
  void (*on_request)(void *arg, const struct web_request *req);
  /* An upgrade to WebSocket: 0 accepts, else the HTTP status that refuses (404). NULL: none served.
   */
  int (*on_ws_open)(void *arg, uint64_t ws, struct pf_slice path);
  void (*on_ws_message)(void *arg, uint64_t ws, struct pf_slice text);
  /* The socket has gone, for whatever reason; ws names nothing from now on. */
  void (*on_ws_close)(void *arg, uint64_t ws);
};

struct web_listener_config {
  struct pf_listen_addr listen;
  struct web_limits limits;
  struct web_handlers handlers;
  /* For listeners that browsers can reach: requires a known Host (an address, localhost, or one
   * of allowed_hosts) on everything, and on upgrades and on methods other than GET, HEAD and
   * OPTIONS an Origin that is absent, the page's own, or in allowed_origins (403 otherwise), and
   * Content-Type: application/json on POST and PUT (415 otherwise). */
  bool browser_guard;
  const char *const *allowed_origins; /* NULL-terminated or NULL; "*" allows any */
  const char *const *allowed_hosts;
};

/* Creates the server without any listener. Raise the limit of open files before: lws sizes its
 * tables by it. Errors: PF_ENOMEM. */
PF_MUST_CHECK int web_new(struct web **ret_web, uv_loop_t *loop, struct pf_error *reterr);

/* Starts listening. *ret_bound has the real ports. Errors: PF_EADDRINUSE, PF_EPERM, PF_EINVAL, each
 * with a text that names the address. */
PF_MUST_CHECK int web_listen(struct web *web, const struct web_listener_config *config,
    struct pf_listen_addr *ret_bound, struct pf_error *reterr);

/* A header of the request being handled, lower-case name without colon ("prefer"); false if absent.
 */
bool web_request_header(
    const struct web_request *req, const char *name, struct pf_slice *ret_value);
/* The value of a query parameter, percent-decoded into buf; false if absent. */
bool web_query_param(struct pf_slice query, const char *name, struct pf_buf *buf);

struct web_response {
  int status;
  const char *content_type;
  const char *extra_headers; /* "Name: value\r\n…" or NULL; the caller vouches for its grammar */
  struct pf_slice body;      /* copied */
};
/* Headers and body leave in one write. */
void web_respond(struct web *web, uint64_t request, const struct web_response *response);
/* {"error":{"code":…,"message":…}} with the status. */
void web_respond_error(
    struct web *web, uint64_t request, int status, const char *code, const char *message);

/* Queues one text frame; many frames of one loop turn leave in one write. */
void web_ws_send(struct web *web, uint64_t ws, struct pf_slice text);
/* Sends what is queued, then closes with code and reason. */
void web_ws_close(struct web *web, uint64_t ws, int code, const char *reason);
/* Bytes queued for this socket and not yet handed to the kernel; 0 if it has gone. */
size_t web_ws_backlog(const struct web *web, uint64_t ws);

struct web_stats {
  uint64_t requests, sockets_opened, frames_in, frames_out, refused;
  uint64_t slow_readers;                 /* given up because they did not read */
  uint64_t connections, sockets, unread; /* now; bytes that wait for clients */
};
void web_read_stats(const struct web *web, struct web_stats *ret_stats);

/* Stops accepting new connections and upgrades; what is open goes on. */
void web_stop_listening(struct web *web);
/* Closes all (sockets with 1001), then calls closed from the loop; web is gone when it returns. */
void web_close(struct web *web, void (*closed)(void *arg), void *arg);

#endif
