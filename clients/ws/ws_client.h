/* A WebSocket client for load and measurements: one connection over uv_tcp, text messages, many
 * frames in one write. Nothing but what RFC 6455 demands of a client: no extensions, no TLS.
 *
 * Threads    Everything on the loop given to ws_client_open.
 * Ownership  The client frees itself after `closed`, its last callback. Slices handed to callbacks
 *            are valid during the callback only.
 * Ordering   opened, then texts and pongs as they arrive, then closed, exactly once, also when the
 *            connection never opened. What was sent in one loop turn leaves in one write.
 * Limits     WS_CLIENT_MESSAGE_MAX bytes per message received, WS_CLIENT_OUTBOX_MAX waiting to be
 *            sent (above it the connection closes with PF_ELIMIT), WS_CLIENT_OPEN_MS to open. */
#ifndef WS_CLIENT_H
#define WS_CLIENT_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

#define WS_CLIENT_MESSAGE_MAX ((size_t)16 << 20)
#define WS_CLIENT_OUTBOX_MAX ((size_t)64 << 20)
#define WS_CLIENT_OPEN_MS 10000
#define WS_CLIENT_CLOSE_MS 1000
#define WS_CLIENT_HOST_MAX 256
#define WS_CLIENT_PATH_MAX 2048

struct ws_url {
  char host[WS_CLIENT_HOST_MAX]; /* without the brackets of IPv6 */
  char port[8];
  char path[WS_CLIENT_PATH_MAX]; /* with the query */
};
/* "ws://host[:port][/path]"; http:// means the same. Errors: PF_EINVAL with a text. */
PF_MUST_CHECK int ws_url_parse(struct ws_url *ret_url, const char *text, struct pf_error *reterr);

/* "http://host:port" + path: where the same server speaks HTTP. Cut at the end of text. */
void ws_url_http(const struct ws_url *url, const char *path, char *text, size_t size);

struct ws_client;

struct ws_client_handlers {
  void *arg;
  void (*opened)(void *arg);
  void (*text)(void *arg, struct pf_slice text);
  void (*pong)(void *arg);
  /* err: PF_OK after ws_client_close, else PF_ENET, PF_ETIMEOUT, PF_EINVAL (the peer does not speak
   * the protocol), PF_ELIMIT; why is for people. */
  void (*closed)(void *arg, int err, const char *why);
};

struct ws_client *ws_client_open(
    uv_loop_t *loop, const struct ws_url *url, const struct ws_client_handlers *handlers);
/* One text message; may be called once opened. Does nothing on a client that is closing. */
void ws_client_send(struct ws_client *client, struct pf_slice text);
/* A protocol ping; pong is called when the peer answers. */
void ws_client_ping(struct ws_client *client);
/* Sends what is queued, says goodbye and waits up to WS_CLIENT_CLOSE_MS for the peer's. Idempotent.
 */
void ws_client_close(struct ws_client *client);

#endif
