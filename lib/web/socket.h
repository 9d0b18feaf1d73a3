/* WebSocket: messages in, frames out, and the ways a socket ends. libwebsockets reads frames and
 * writes bytes; nothing of it is seen outside of here and server.c.
 *
 * Threads, ownership, ordering, limits: as in conn.h */
#ifndef PF_WEB_SOCKET_H
#define PF_WEB_SOCKET_H

#include "web/conn.h"

struct lws_protocols;
struct socket;

/* What lws is to speak, and calls back by. */
const struct lws_protocols *socket_protocols(void);
/* Asks the application. Returns 0 and a socket without connection, or the status that refuses. */
int socket_new(struct web_listener *l, struct pf_slice path, struct socket **ret_socket);
/* Connects it with fd, which lws owns from here on. early are bytes that came behind the head. */
void socket_adopt(
    struct socket *s, int fd, struct pf_slice key, bool subprotocol, struct pf_slice early);

#endif
