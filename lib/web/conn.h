/* Inside of the web server: one accepted connection from its first byte to its last, first as HTTP
 * and perhaps later as a WebSocket. Only the .c files of this folder include it.
 *
 * Threads    The loop's.
 * Ownership  A connection lives from the accept until lws reports that its wsi has gone. lws closes
 *            connections in its own time, so nobody here frees one: conn_doom() asks for it.
 * Ordering   A phase is a list, sorted by since_ms, because every entry goes to its tail. That
 * makes all timers of all connections one coarse timer that looks at heads. Limits     those of the
 * listener */
#ifndef PF_WEB_CONN_H
#define PF_WEB_CONN_H

#include <libwebsockets.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "web/web.h"

enum {
  WEB_IO_BYTES = 64 << 10,     /* of one write, and of one read */
  WEB_HEADER_MAX = 16 << 10,   /* all headers of a request together: 431 */
  WEB_HEADER_STORE = 32 << 10, /* what lws keeps of them; beyond, it hangs up without an answer */
  WEB_IDLE_S = 300,            /* a kept-alive connection without requests; clients give up first */
  WEB_STALL_S = 60,            /* an answer of which nothing is taken */
  WEB_CLOSE_S = 5,             /* for the closing handshake */
  WEB_BODY_GRACE_S = 5,
  WEB_BODY_KEEP = 16 << 10, /* memory that an idle connection keeps for its next message */
};

/*           accept                      whole request            answer begun, more to write
 *  --------> HEADER ---> BODY ---> WAIT ------------> RESPOND
 *              | ^                  |                   |
 *     upgrade  | '-- (lws) -- IDLE <--------------------'
 *              v
 *             OPEN <---> PINGED           each of them ---> CLOSING */
enum conn_phase {
  CONN_HEADER,
  CONN_BODY,
  CONN_WAIT,
  CONN_RESPOND,
  CONN_IDLE,
  CONN_OPEN,
  CONN_PINGED,
  CONN_CLOSING,
  CONN_PHASES
};

struct web_listener {
  struct pf_list link;
  struct web *web;
  struct web_listener_config config;
  struct pf_listen_addr bound;
  struct lws_vhost *vhost;
  struct pf_list phases[CONN_PHASES];
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
  struct pf_buf scratch; /* an answer while it is put together */
  struct pf_arena arena; /* what web_request_header and the query point to */
  struct web_stats stats;
  uv_timer_t tick;
  uv_idle_t turn; /* counts loop turns while lws closes its handles */
  unsigned turns;
  unsigned handles; /* uv handles of ours that are open */
  enum web_stage stage;
  uint64_t close_at_ms;
  void (*closed)(void *arg);
  void *closed_arg;
};

struct conn {
  struct pf_map_node node; /* in web.ids while id is not 0 */
  uint64_t id;
  struct pf_list link; /* in listener->phases[phase] */
  enum conn_phase phase;
  uint64_t since_ms; /* entry into the phase, or the latest sign of life in OPEN */
  struct web_listener *listener;
  struct lws *wsi;
  struct pf_buf in;  /* request body or WebSocket message, as far as it has come */
  struct pf_buf out; /* LWS_PRE bytes of room, then answer or frames; empty or at least that */
  size_t out_at;     /* what lies before has been written */
  bool doomed;       /* close at the next opportunity */

  /* HTTP */
  enum web_method method;
  uint64_t body_length;
  bool last_request; /* the client wants no other on this connection */

  /* WebSocket */
  bool upgraded; /* on_ws_open has accepted it, on_ws_close is due */
  bool established;
  bool writing;    /* WRITEABLE has been asked for */
  bool frame_open; /* more of the current frame is to come */
  unsigned fragments;
  int close_code; /* not 0: closing once the outbox is empty */
  char close_reason[124];
};

static inline void conn_outbox_init(struct conn *c) {
  pf_buf_init(&c->out, c->listener->config.limits.outbox_max + LWS_PRE + WEB_IO_BYTES);
  c->out_at = 0;
}

void conn_enter(struct conn *c, enum conn_phase phase);
/* Closes the connection soon; harmless if it is closing already. */
void conn_doom(struct conn *c);
/* Closes it now. Not from inside a callback of lws. */
void conn_kill(struct conn *c);
/* Gives the connection a new id, under which conn_find() finds it until conn_release(). */
void conn_name(struct conn *c);
void conn_release(struct conn *c);
struct conn *conn_find(const struct web *web, uint64_t id);
void conn_timers(struct web_listener *l, uint64_t now_ms);

extern const struct lws_protocols web_protocols[];

/* request.c. Those that return int are 0 or -1 = close the connection. */
int request_on_headers(struct conn *c);
int request_on_begin(struct conn *c);
int request_on_body(struct conn *c, const char *data, size_t len);
int request_on_complete(struct conn *c);
int request_on_upgrade(struct conn *c, struct pf_slice *ret_path);

/* response.c */
int response_on_writeable(struct conn *c);
/* Answers with an error of this layer, if the connection is still able to, and closes it. */
int response_refuse(struct conn *c, int status, const char *code, const char *message);

/* socket.c */
int socket_on_upgrade(struct conn *c);
void socket_on_established(struct conn *c);
int socket_on_receive(struct conn *c, const char *data, size_t len);
void socket_on_alive(struct conn *c);
int socket_on_writeable(struct conn *c);
void socket_on_gone(struct conn *c);
void socket_ping(struct conn *c);
void socket_close(struct conn *c, int code, const char *reason);

#endif
