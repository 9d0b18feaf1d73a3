/* Inside of the web server: what it is, and what all connections have, whatever they speak. Every
 * accepted connection is an HTTP connection (httpd.h), which reads and writes its socket itself.
 * One that asks for WebSocket is handed to libwebsockets (socket.h).
 *
 *   server ──► httpd ──► socket ──► conn
 *                |                          each calls only what is to the right of it or below
 *                '────► guard, response
 *
 * What conn has to do to a connection, it does through the kind of it.
 *
 * lws 4.1.6 is not trusted with HTTP: a request with a body and another one behind it, in one
 * segment, make it turn in a circle for good, and it can neither answer 431 nor see bare LF. It
 * sees only an upgrade request that we wrote (docs/decisions/0040-http-by-ourselves.md).
 *
 * Threads    The loop's.
 * Ownership  Connections free themselves when their handle or their wsi has gone.
 * Ordering   A phase is a list, sorted by since_ms, because every entry goes to its tail. That
 *            makes all timers of all connections one coarse timer that looks at heads.
 * Limits     those of the listener */
#ifndef PF_WEB_CONN_H
#define PF_WEB_CONN_H

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "web/head.h"
#include "web/web.h"

enum {
  WEB_IO_BYTES = 64 << 10, /* of one read, and of one write to a WebSocket */
  /* lws has so much for each WebSocket as long as it is there, and a piece of a message that it
   * hands over is no longer. Messages of more are put together in a copy. With less than this a
   * turn of the loop takes in fewer messages, and batches get smaller. */
  WEB_RX_BYTES = 16 << 10,
  WEB_LINGER_S = 2,         /* for the client to see the last answer before its bytes are refused */
  WEB_KEEP_BYTES = 16 << 10 /* memory that a connection keeps for its next message */
};

/*  accept        whole head       whole request        rest to write
 *  -----> HEADER ---------> BODY ---------------> WAIT -------------> RESPOND
 *           |  ^                                   |                    |  last request
 *   upgrade |  '------------------ IDLE <----------+--------------------+-------> LINGER
 *           v
 *          OPEN <---> PINGED ---> CLOSING */
enum conn_phase {
  CONN_HEADER,
  CONN_BODY,
  CONN_WAIT,
  CONN_RESPOND,
  CONN_IDLE,
  CONN_LINGER,
  CONN_OPEN,
  CONN_PINGED,
  CONN_CLOSING,
  CONN_PHASES
};

struct conn;
struct lws_context;
struct lws_vhost;
struct socket;

/* How a connection meets what all of them may meet. */
struct conn_kind {
  void (*expire)(struct conn *c); /* the time of its phase is up */
  /* Its client takes nothing of what waits for it. Calls no handler of the application: it may be
   * what called us. */
  void (*stall)(struct conn *c);
  void (*stop)(struct conn *c); /* the server is stopping */
};

struct web_listener {
  struct pf_list link;
  struct web *web;
  struct web_listener_config config;
  struct pf_listen_addr bound;
  char name[PF_ADDR_TEXT];
  struct lws_vhost *vhost;
  struct pf_list phases[CONN_PHASES];
  struct pf_list unread; /* conn.unread, who has taken nothing for longest first */
  size_t unread_bytes;
  unsigned connections;
  bool paused; /* out of descriptors: no accepting until the next tick */
  uv_poll_t polls[PF_ADDR_MAX];
  int fds[PF_ADDR_MAX]; /* -1 = closed */
};

enum web_stage { WEB_SERVING, WEB_CLOSING, WEB_DESTROYING };

struct web {
  uv_loop_t *loop;
  struct lws_context *context;
  struct pf_list listeners;
  struct pf_map ids; /* requests that wait for an answer, and sockets */
  uint64_t last_id;
  char *io;                /* WEB_IO_BYTES, what was read last */
  struct head head;        /* of the request that is handled now */
  struct pf_buf scratch;   /* an answer while it is put together */
  struct pf_arena arena;   /* decoded paths */
  struct socket *adopting; /* lws calls back before it has told us the wsi */
  struct pf_list ready;    /* of httpd: answered, with the next request already read */
  struct web_stats stats;
  uv_timer_t tick;
  uv_idle_t soon; /* runs while ready is not empty; in the end it counts turns */
  unsigned turns;
  unsigned handles;                /* uv handles of ours that are open */
  void (*finish)(struct web *web); /* when none of them is left */
  enum web_stage stage;
  uint64_t close_at_ms;
  void (*closed)(void *arg);
  void *closed_arg;
};

/* A handle of ours has been closed. */
void web_handle_gone(struct web *web);

/* What both kinds have. */
struct conn {
  const struct conn_kind *kind;
  struct pf_map_node node; /* in web.ids while id is not 0 */
  uint64_t id;
  struct pf_list link; /* in listener->phases[phase] */
  enum conn_phase phase;
  uint64_t since_ms; /* entry into the phase, or the latest sign of life in it */
  struct pf_list unread;
  size_t unread_bytes; /* that wait for the client */
  uint64_t unread_ms;  /* since when it has taken none of them */
  struct web_listener *listener;
};

static inline bool conn_is_socket(const struct conn *c) {
  return c->phase >= CONN_OPEN;
}

/* The connection is in a phase and counted until conn_done(). */
void conn_init(struct conn *c, const struct conn_kind *kind, struct web_listener *listener,
    enum conn_phase phase);
void conn_done(struct conn *c);
void conn_enter(struct conn *c, enum conn_phase phase);
/* Gives the connection a new id, under which conn_find() finds it until conn_release(). */
void conn_name(struct conn *c);
void conn_release(struct conn *c);
struct conn *conn_find(const struct web *web, uint64_t id);
/* So many bytes wait for the client now. Fewer than before means that it reads. */
void conn_unread(struct conn *c, size_t bytes);
/* After more wait for c: others that take nothing make room, if that is too much. */
void conn_make_room(struct conn *c);
/* The end of a connection without more ado: what the kernel has for the client goes with it. */
void conn_give_up(int fd);
/* Acts on all whose time is up. */
void conn_timers(struct web_listener *l, uint64_t now_ms);

#endif
