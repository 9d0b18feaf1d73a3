/* A connection that comes back: a WebSocket with a session of the origin (`resume` and
 * `ack` of the protocol), or a plain one where the server has none.
 *
 * Threads    The loop's.
 * Ownership  The caller owns struct ws_session and what its config points to, until the loop has
 *            run after ws_session_close or closed.
 * Ordering   ready after each connection, before any text of it; owed after ready, or between
 *            texts; lost after each break that is to be mended; closed once, as the last callback,
 *            unless ws_session_close came first.
 * Limits     WS_SESSION_RESUME_MS for the answer to the first resume: a server that knows no
 *            sessions may say nothing at all. */
#ifndef WS_SESSION_H
#define WS_SESSION_H

#include <stdbool.h>
#include <uv.h>

#include "clients/ws/message.h"
#include "clients/ws/ws_client.h"

#define WS_SESSION_RESUME_MS 1000
#define WS_SESSION_PAUSE_MIN_MS 50
#define WS_SESSION_PAUSE_MAX_MS 2000

struct ws_session_config {
  const struct ws_url *url;
  bool plain;           /* do not ask for a session */
  int64_t reconnect_ms; /* how long a broken connection is worth the trouble */
  int64_t ack_every;    /* events between two acknowledgements */
  void *arg;
  void (*ready)(void *arg);
  void (*text)(void *arg, struct pf_slice text); /* gives messages to ws_session_take first */
  void (*pong)(void *arg);
  /* Of what it has confirmed the server has at most so many results to give. If more are waited
   * for, some are gone, or it lost them with its last moments: what was confirmed is then to be
   * submitted again, under its key. */
  void (*owed)(void *arg, int64_t most);
  void (*lost)(void *arg, const char *why);
  void (*closed)(void *arg, const char *why);
};

struct ws_session {
  struct ws_session_config config;
  uv_loop_t *loop;
  uv_timer_t timer; /* for the answer to resume, or until the next connection */
  struct ws_client *ws;
  char token[40];        /* empty: no session */
  int64_t offset, acked; /* of the last event */
  bool asking;           /* resume has been sent and not answered */
  bool plain, closing;
  int64_t lost_ms; /* when the connection broke, 0 = it stands */
  int64_t pause_ms;
};

void ws_session_open(
    struct ws_session *session, uv_loop_t *loop, const struct ws_session_config *config);
/* True if the message was about the session itself. */
bool ws_session_take(struct ws_session *session, const struct message *message);
/* Does nothing while there is no connection. */
void ws_session_send(struct ws_session *session, struct pf_slice text);
void ws_session_ping(struct ws_session *session);
void ws_session_close(struct ws_session *session);

#endif
