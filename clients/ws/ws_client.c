#include "clients/ws/ws_client.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include "base/rand.h"
#include "clients/ws/ws_frame.h"

#define HANDSHAKE_MAX 16384
#define READ_BYTES 65536
#define KEY_BYTES 16
#define KEY_TEXT 25    /* base64 of 16 bytes and NUL */
#define ACCEPT_TEXT 29 /* base64 of 20 bytes and NUL */

/*   RESOLVING ─► CONNECTING ─► HANDSHAKE ─► OPEN ─► GOODBYE ─► GONE
 *                                              any failure ──►      */
enum ws_state { WS_RESOLVING, WS_CONNECTING, WS_HANDSHAKE, WS_OPEN, WS_GOODBYE, WS_GONE };

struct ws_client {
  uv_loop_t *loop;
  struct ws_url url;
  struct ws_client_handlers handlers;
  enum ws_state state;
  int err; /* what `closed` is told */
  char why[512];

  uv_getaddrinfo_t resolve;
  struct addrinfo *addrs, *next_addr;
  uv_connect_t connect;
  uv_tcp_t tcp;
  uv_timer_t timer;     /* opening, then closing */
  uv_prepare_t flusher; /* runs once before the loop waits, if something was queued */
  uv_write_t write;
  unsigned pending; /* handles and requests that still call back */
  bool tcp_open;

  char key[KEY_TEXT];
  struct pf_rand rand; /* masks */
  struct pf_buf in;
  struct pf_buf message;     /* fragments so far */
  struct pf_buf out, flying; /* flying belongs to the kernel while `writing` */
  bool writing, in_fragments;
};

static void ws_gone(struct ws_client *c, int err, const char *why);
static void ws_try_next_address(struct ws_client *c);

/* ---- URL ---- */

static bool url_split(struct ws_url *url, const char *host, size_t host_len, const char *port,
    size_t port_len, const char *path) {
  if (host_len == 0 || host_len >= sizeof(url->host) || port_len >= sizeof(url->port) ||
      strlen(path) + 2 > sizeof(url->path))
    return false;
  snprintf(url->host, sizeof(url->host), "%.*s", (int)host_len, host);
  snprintf(url->port, sizeof(url->port), "%.*s", (int)port_len, port);
  snprintf(url->path, sizeof(url->path), "%s%s", *path == '/' ? "" : "/", path);
  for (const char *c = url->port; *c; c++)
    if (!isdigit((unsigned char)*c)) return false;
  return url->port[0] != '\0';
}

static int url_refuse(const char *text, struct pf_error *reterr) {
  return pf_error_set(reterr, PF_EINVAL,
      "'%s' is not a URL like ws://localhost:8787/ or http://localhost:8787/", text);
}

int ws_url_parse(struct ws_url *ret_url, const char *text, struct pf_error *reterr) {
  if (strncmp(text, "wss://", 6) == 0 || strncmp(text, "https://", 8) == 0)
    return pf_error_set(
        reterr, PF_EINVAL, "%s: TLS is not spoken here; use ws:// or http://", text);
  size_t scheme = strncmp(text, "ws://", 5) == 0 ? 5 : strncmp(text, "http://", 7) == 0 ? 7 : 0;
  const char *host = text + scheme, *path = host + strcspn(host, "/?#");
  for (const char *c = text; *c; c++)
    if (scheme == 0 || *c <= ' ' || *c > '~' || *c == '#' || (*c == '@' && c < path))
      return url_refuse(text, reterr);
  const char *host_end = *host == '[' ? strchr(host, ']') : host + strcspn(host, ":/?");
  struct ws_url url;
  if (host_end && host_end <= path) {
    bool v6 = *host == '[';
    const char *after = host_end + v6;
    size_t port_len = *after == ':' ? (size_t)(path - after - 1) : 2;
    const char *port = *after == ':' ? after + 1 : "80";
    if ((*after == ':' || after == path) &&
        url_split(&url, host + v6, (size_t)(host_end - host - v6), port, port_len, path)) {
      *ret_url = url;
      return PF_OK;
    }
  }
  return url_refuse(text, reterr);
}

void ws_url_http(const struct ws_url *url, const char *path, char *text, size_t size) {
  bool v6 = strchr(url->host, ':') != NULL;
  snprintf(
      text, size, "http://%s%s%s:%s%s", v6 ? "[" : "", url->host, v6 ? "]" : "", url->port, path);
}

/* ---- the end ---- */

static void ws_release(struct ws_client *c) {
  PF_ASSERT(c->pending > 0);
  if (--c->pending > 0 || c->state != WS_GONE) return;
  c->handlers.closed(c->handlers.arg, c->err, c->why);
  if (c->addrs) uv_freeaddrinfo(c->addrs);
  pf_buf_done(&c->in);
  pf_buf_done(&c->message);
  pf_buf_done(&c->out);
  pf_buf_done(&c->flying);
  free(c);
}

static void ws_on_handle_closed(uv_handle_t *handle) {
  ws_release(handle->data);
}

/* The one way out. The client is freed when the last of its handles and requests has called back.
 */
static void ws_gone(struct ws_client *c, int err, const char *why) {
  if (c->state == WS_GONE) return;
  c->state = WS_GONE;
  c->err = err;
  snprintf(c->why, sizeof(c->why), "%s", why);
  uv_cancel((uv_req_t *)&c->resolve); /* harmless if it is not waiting any more */
  uv_close((uv_handle_t *)&c->timer, ws_on_handle_closed);
  uv_close((uv_handle_t *)&c->flusher, ws_on_handle_closed);
  if (c->tcp_open) uv_close((uv_handle_t *)&c->tcp, ws_on_handle_closed);
  c->tcp_open = false;
}

static void ws_on_timeout(uv_timer_t *timer) {
  struct ws_client *c = timer->data;
  if (c->state == WS_GOODBYE) {
    ws_gone(c, PF_OK, "closed");
  } else {
    char why[128 + WS_CLIENT_HOST_MAX];
    snprintf(why, sizeof(why), "no connection to %s:%s in %d ms", c->url.host, c->url.port,
        WS_CLIENT_OPEN_MS);
    ws_gone(c, PF_ETIMEOUT, why);
  }
}

/* ---- sending ---- */

static void ws_flush(struct ws_client *c);

static void ws_on_written(uv_write_t *req, int status) {
  struct ws_client *c = req->data;
  c->writing = false;
  pf_buf_clear(&c->flying);
  if (status < 0)
    ws_gone(c, PF_ENET, uv_strerror(status));
  else
    ws_flush(c);
  ws_release(c);
}

static void ws_flush(struct ws_client *c) {
  if (c->writing || c->out.len == 0 || c->state == WS_GONE) return;
  uv_buf_t buf = uv_buf_init(c->out.data, (unsigned)c->out.len);
  int sent = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
  if (sent < 0 && sent != UV_EAGAIN) {
    ws_gone(c, PF_ENET, uv_strerror(sent));
    return;
  }
  if (sent > 0) pf_buf_consume(&c->out, (size_t)sent);
  if (c->out.len == 0) return;
  struct pf_buf empty = c->flying;
  c->flying = c->out;
  c->out = empty;
  buf = uv_buf_init(c->flying.data, (unsigned)c->flying.len);
  c->write.data = c;
  int err = uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, ws_on_written);
  if (err) {
    ws_gone(c, PF_ENET, uv_strerror(err));
    return;
  }
  c->writing = true;
  c->pending++;
}

static void ws_on_prepare(uv_prepare_t *flusher) {
  uv_prepare_stop(flusher);
  ws_flush(flusher->data);
}

static void ws_queue(struct ws_client *c, enum ws_opcode opcode, struct pf_slice payload) {
  if (c->out.len == 0) PF_ASSERT(uv_prepare_start(&c->flusher, ws_on_prepare) == 0);
  ws_frame_encode(&c->out, opcode, payload, (uint32_t)pf_rand_u64(&c->rand));
  if (c->out.err) ws_gone(c, PF_ELIMIT, "the peer does not read what is sent to it");
}

void ws_client_send(struct ws_client *c, struct pf_slice text) {
  if (c->state == WS_OPEN) ws_queue(c, WS_TEXT, text);
}

void ws_client_ping(struct ws_client *c) {
  if (c->state == WS_OPEN) ws_queue(c, WS_PING, pf_slice("", 0));
}

void ws_client_close(struct ws_client *c) {
  if (c->state == WS_GOODBYE || c->state == WS_GONE) return;
  if (c->state != WS_OPEN) {
    ws_gone(c, PF_OK, "closed");
    return;
  }
  static const char normal[] = {0x03, (char)0xe8}; /* 1000 */
  ws_queue(c, WS_CLOSE, pf_slice(normal, sizeof(normal)));
  if (c->state == WS_GONE) return;
  c->state = WS_GOODBYE;
  PF_ASSERT(uv_timer_start(&c->timer, ws_on_timeout, WS_CLIENT_CLOSE_MS, 0) == 0);
}

/* ---- receiving ---- */

static void ws_on_close_frame(struct ws_client *c, struct pf_slice payload) {
  if (c->state == WS_GOODBYE) {
    ws_gone(c, PF_OK, "closed");
    return;
  }
  char why[160];
  unsigned code = payload.len < 2 ? 1005
                                  : (unsigned)(unsigned char)payload.data[0] << 8 |
                                        (unsigned char)payload.data[1];
  int text_len = payload.len < 2 ? 0 : (int)payload.len - 2;
  snprintf(why, sizeof(why), "the server closed the connection (%u%s%.*s)", code,
      text_len ? ": " : "", text_len, text_len ? payload.data + 2 : "");
  ws_gone(c, PF_ENET, why);
}

static void ws_on_data_frame(struct ws_client *c, const struct ws_frame *frame) {
  bool first = frame->opcode != WS_CONTINUATION;
  if (first == c->in_fragments || frame->opcode == WS_BINARY) {
    ws_gone(c, PF_EINVAL, "the server sent a binary message, or fragments out of order");
    return;
  }
  if (first && frame->final) {
    if (c->state == WS_OPEN) c->handlers.text(c->handlers.arg, frame->payload);
    return;
  }
  c->in_fragments = !frame->final;
  pf_buf_slice(&c->message, frame->payload);
  if (c->message.err) {
    ws_gone(c, PF_ELIMIT, "the server sent a message that is too long");
    return;
  }
  if (!frame->final) return;
  if (c->state == WS_OPEN) c->handlers.text(c->handlers.arg, pf_buf_view(&c->message));
  pf_buf_clear(&c->message);
}

static void ws_on_frame(struct ws_client *c, const struct ws_frame *frame) {
  switch (frame->opcode) {
  case WS_PING:
    if (c->state == WS_OPEN) ws_queue(c, WS_PONG, frame->payload);
    break;
  case WS_PONG:
    if (c->state == WS_OPEN) c->handlers.pong(c->handlers.arg);
    break;
  case WS_CLOSE:
    ws_on_close_frame(c, frame->payload);
    break;
  default:
    ws_on_data_frame(c, frame);
    break;
  }
}

static void ws_read_frames(struct ws_client *c) {
  size_t at = 0;
  while (c->state == WS_OPEN || c->state == WS_GOODBYE) {
    struct ws_frame frame;
    int64_t len =
        ws_frame_decode(&frame, pf_slice(c->in.data + at, c->in.len - at), WS_CLIENT_MESSAGE_MAX);
    if (len == 0) break;
    if (len < 0) {
      ws_gone(c, (int)len,
          len == PF_ELIMIT ? "the server sent a message that is too long"
                           : "the server broke the WebSocket protocol");
      return;
    }
    at += (size_t)len;
    ws_on_frame(c, &frame);
  }
  if (c->state != WS_GONE) pf_buf_consume(&c->in, at);
}

/* ---- handshake ---- */

/* base64(SHA-1(key + the fixed GUID of RFC 6455)) */
static void accept_of_key(char accept[ACCEPT_TEXT], const char *key) {
  char text[KEY_TEXT + 40];
  unsigned char digest[EVP_MAX_MD_SIZE];
  int len = snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
  PF_ASSERT(EVP_Digest(text, (size_t)len, digest, NULL, EVP_sha1(), NULL) == 1);
  EVP_EncodeBlock((unsigned char *)accept, digest, 20);
}

/* The value of a header in a NUL-terminated head, trimmed; empty if absent. */
static struct pf_slice head_value(const char *head, const char *name) {
  size_t name_len = strlen(name);
  for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
    line += 2;
    if (strncasecmp(line, name, name_len) != 0 || line[name_len] != ':') continue;
    const char *value = line + name_len + 1 + strspn(line + name_len + 1, " \t");
    size_t len = strcspn(value, "\r\n");
    while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
      len--;
    return pf_slice(value, len);
  }
  return pf_slice("", 0);
}

static void ws_read_handshake(struct ws_client *c) {
  const char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
  if (!end) {
    if (c->in.len > HANDSHAKE_MAX) ws_gone(c, PF_EINVAL, "the answer to the upgrade is too long");
    return;
  }
  size_t head_len = (size_t)(end + 4 - c->in.data);
  char *head = pf_memdup(c->in.data, head_len);
  char accept[ACCEPT_TEXT];
  accept_of_key(accept, c->key);
  bool good = strncmp(head, "HTTP/1.1 101", 12) == 0 &&
              pf_slice_is(head_value(head, "Sec-WebSocket-Accept"), accept);
  if (!good) {
    char why[128];
    snprintf(why, sizeof(why), "the server did not upgrade to WebSocket: %.*s",
        (int)strcspn(head, "\r\n"), head);
    ws_gone(c, PF_EINVAL, why);
  }
  free(head);
  if (!good) return;
  pf_buf_consume(&c->in, head_len);
  uv_timer_stop(&c->timer);
  c->state = WS_OPEN;
  c->handlers.opened(c->handlers.arg);
}

static void ws_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  (void)suggested;
  struct ws_client *c = handle->data;
  char *room = pf_buf_reserve(&c->in, READ_BYTES);
  *buf = uv_buf_init(room, room ? READ_BYTES : 0);
}

static void ws_on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf) {
  (void)buf;
  struct ws_client *c = stream->data;
  if (count < 0) {
    bool expected = c->state == WS_GOODBYE;
    ws_gone(c, expected ? PF_OK : PF_ENET,
        expected          ? "closed"
        : count == UV_EOF ? "the server closed the connection"
                          : uv_strerror((int)count));
    return;
  }
  c->in.len += (size_t)count;
  if (c->state == WS_HANDSHAKE) ws_read_handshake(c);
  ws_read_frames(c);
}

static void ws_send_upgrade(struct ws_client *c) {
  unsigned char random[KEY_BYTES];
  pf_rand_secret(random, sizeof(random));
  EVP_EncodeBlock((unsigned char *)c->key, random, sizeof(random));
  char base[WS_CLIENT_HOST_MAX + 32];
  ws_url_http(&c->url, "", base, sizeof(base));
  pf_buf_printf(&c->out,
      "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
      c->url.path, base + strlen("http://"), c->key);
  ws_flush(c);
}

/* ---- connecting ---- */

static void ws_on_connected(uv_connect_t *req, int status) {
  struct ws_client *c = req->data;
  if (status == 0 && c->state == WS_CONNECTING) {
    c->state = WS_HANDSHAKE;
    uv_tcp_nodelay(&c->tcp, 1);
    PF_ASSERT(uv_read_start((uv_stream_t *)&c->tcp, ws_on_alloc, ws_on_read) == 0);
    ws_send_upgrade(c);
  } else if (c->state == WS_CONNECTING) {
    snprintf(c->why, sizeof(c->why), "cannot connect to %s:%s: %s%s", c->url.host, c->url.port,
        uv_strerror(status), status == UV_ECONNREFUSED ? "; is it running?" : "");
    ws_try_next_address(c);
  }
  ws_release(c);
}

static void ws_connect(struct ws_client *c) {
  PF_ASSERT(uv_tcp_init(c->loop, &c->tcp) == 0);
  c->tcp.data = c;
  c->tcp_open = true;
  c->pending++;
  const struct addrinfo *addr = c->next_addr;
  c->next_addr = addr->ai_next;
  c->connect.data = c;
  int err = uv_tcp_connect(&c->connect, &c->tcp, addr->ai_addr, ws_on_connected);
  if (err)
    ws_gone(c, PF_ENET, uv_strerror(err));
  else
    c->pending++;
}

static void ws_on_failed_tcp_closed(uv_handle_t *handle) {
  struct ws_client *c = handle->data;
  if (c->state == WS_CONNECTING) ws_connect(c);
  ws_release(c);
}

static void ws_try_next_address(struct ws_client *c) {
  if (!c->next_addr) {
    char why[sizeof(c->why)];
    memcpy(why, c->why, sizeof(why));
    ws_gone(c, PF_ENET, why);
    return;
  }
  c->tcp_open = false;
  uv_close((uv_handle_t *)&c->tcp, ws_on_failed_tcp_closed);
}

static void ws_on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *addrs) {
  struct ws_client *c = req->data;
  c->addrs = c->next_addr = addrs;
  if (c->state == WS_RESOLVING && status == 0) {
    c->state = WS_CONNECTING;
    ws_connect(c);
  } else if (c->state == WS_RESOLVING) {
    char why[128 + WS_CLIENT_HOST_MAX];
    snprintf(why, sizeof(why), "cannot resolve %s: %s", c->url.host, uv_strerror(status));
    ws_gone(c, PF_ENET, why);
  }
  ws_release(c);
}

struct ws_client *ws_client_open(
    uv_loop_t *loop, const struct ws_url *url, const struct ws_client_handlers *handlers) {
  struct ws_client *c = pf_alloc(sizeof(*c));
  *c = (struct ws_client){.loop = loop, .url = *url, .handlers = *handlers};
  c->rand.state = pf_rand_secret_u64();
  pf_buf_init(&c->in, WS_CLIENT_MESSAGE_MAX + 2 * READ_BYTES);
  pf_buf_init(&c->message, WS_CLIENT_MESSAGE_MAX);
  pf_buf_init(&c->out, WS_CLIENT_OUTBOX_MAX);
  pf_buf_init(&c->flying, WS_CLIENT_OUTBOX_MAX);
  PF_ASSERT(uv_timer_init(loop, &c->timer) == 0 && uv_prepare_init(loop, &c->flusher) == 0);
  c->timer.data = c->flusher.data = c->resolve.data = c;
  c->pending = 3; /* timer, flusher, resolve */
  PF_ASSERT(uv_timer_start(&c->timer, ws_on_timeout, WS_CLIENT_OPEN_MS, 0) == 0);
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  int err = uv_getaddrinfo(loop, &c->resolve, ws_on_resolved, url->host, url->port, &hints);
  PF_ASSERT(err == 0 || err == UV_ENOMEM || err == UV_EINVAL || err == UV_ENAMETOOLONG);
  if (err) {
    c->pending--;
    ws_gone(c, PF_ENET, uv_strerror(err));
  }
  return c;
}
