/* What web.c and conn.c share. One struct conn per TCP connection, HTTP first, then perhaps
 * WebSocket.
 *
 * Threads, ownership: as in web/web.h. */
#ifndef PF_WEB_INTERNAL_H
#define PF_WEB_INTERNAL_H

#include <libwebsockets.h>

#include "base/list.h"
#include "base/map.h"
#include "loop/listen.h"
#include "web/web.h"

#define WEB_IO_BYTES 65536  /* of one write */
#define WEB_KEEPALIVE_S 600 /* idle connections between requests */
#define WEB_DOOMED_MS 2000  /* what a closing connection may take to send its last bytes */
#define WEB_HEADER_VALUE_MAX 1024

struct listener {
  struct pf_list link;
  struct web *web;
  struct web_listener_config config;
  struct lws_vhost *vhost;
  struct pf_listeners sockets;
  uv_poll_t polls[PF_ADDR_MAX];
  unsigned poll_count, polls_open;
};

struct conn {
  struct pf_map_node node; /* in web.conns by id, while id is not 0 */
  struct pf_list link;     /* web.all */
  struct listener *listener;
  struct lws *wsi;
  uint64_t id; /* of the request under way, or of the socket */
  bool is_ws, established, responding, in_request, head_only, doomed, pinged;
  int close_code; /* ws: with doomed; http: close after the response if not 0 */
  char close_reason[124];
  size_t body_expected;
  struct pf_buf in; /* request body or WebSocket message so far */
  unsigned fragments;
  struct pf_buf out; /* bytes to write, from out_sent on */
  size_t out_sent;
  int64_t since_ms; /* last sign of life, or since when it is doomed, or since the body began */
  /* The request as handed to the handler; its slices point into these. */
  struct pf_buf path, query, header;
  enum web_method method;
};

struct web {
  uv_loop_t *loop;
  struct lws_context *context;
  struct pf_list listeners;
  struct pf_list all; /* struct conn */
  struct pf_map conns;
  uint64_t next_id;
  uv_timer_t timer;
  uv_idle_t idle;
  unsigned handles;
  unsigned turns_left; /* until the context is destroyed for good */
  bool closing;
  char *io; /* LWS_PRE + WEB_IO_BYTES */
  struct web_stats stats;
  void (*closed)(void *arg);
  void *closed_arg;
};

extern const struct lws_protocols web_protocols[];

struct conn *conn_find(const struct web *web, uint64_t id);
void conn_name(struct conn *conn); /* gives it a new id */
void conn_unname(struct conn *conn);
struct conn *conn_new(struct listener *listener);
void conn_free(struct conn *conn);
/* Writes what is queued, at the next moment when the socket takes bytes. */
void conn_want_write(struct conn *conn);
/* Ends a WebSocket from outside of its own callbacks. */
void conn_doom(struct conn *conn, int code, const char *reason);
/* Looks at its clocks; called each second, outside of lws callbacks. */
void conn_tick(struct conn *conn, int64_t now_ms);
void conn_put_frame(struct conn *conn, unsigned char opcode, struct pf_slice payload);

/* guard.c: pure rules about header values. */
bool guard_content_length(const char *text, size_t len, size_t *ret_bytes);
bool guard_host(const char *host, const char *const *allowed);
bool guard_origin(const char *origin, const char *host, const char *const *allowed);
bool guard_is_json(const char *content_type);

#endif
