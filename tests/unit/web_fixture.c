#include "web_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

/* ---- handlers ---- */

static void keep(struct pf_buf *buf, struct pf_slice slice) {
  pf_buf_clear(buf);
  pf_buf_slice(buf, slice);
}

static void on_request(void *arg, const struct web_request *req) {
  struct fixture *f = arg;
  if (f->request_count < SEEN_MAX) f->requests[f->request_count] = req->id;
  f->request_count++;
  f->method = req->method;
  keep(&f->path, req->path);
  keep(&f->query, req->query);
  keep(&f->body, req->body);
  struct pf_slice value = {0};
  f->has_header = f->ask_header && web_request_header(req, f->ask_header, &value);
  keep(&f->header, value);
  pf_buf_clear(&f->param);
  f->has_param = f->ask_param && web_query_param(req->query, f->ask_param, &f->param);
  if (f->defer) return;
  web_respond(f->web, req->id,
      &(struct web_response){.status = 200,
          .content_type = "text/plain",
          .extra_headers = "x-test: yes\r\n",
          .body = f->answer.data ? f->answer : req->body});
}

static int on_ws_open(void *arg, uint64_t ws, struct pf_slice path) {
  struct fixture *f = arg;
  if (f->open_count < SEEN_MAX) f->sockets[f->open_count] = ws;
  f->open_count++;
  keep(&f->path, path);
  if (f->ws_hello) web_ws_send(f->web, ws, pf_slice_str(f->ws_hello));
  return f->ws_status;
}

static void on_ws_message(void *arg, uint64_t ws, struct pf_slice text) {
  struct fixture *f = arg;
  f->message_count++;
  keep(&f->message, text);
  if (!f->mute) web_ws_send(f->web, ws, text);
}

static void on_ws_close(void *arg, uint64_t ws) {
  struct fixture *f = arg;
  if (f->close_count < SEEN_MAX) f->gone[f->close_count] = ws;
  f->close_count++;
}

static void on_closed(void *arg) {
  struct fixture *f = arg;
  f->closed = true;
}

/* ---- life ---- */

void fixture_init(struct fixture *f) {
  *f = (struct fixture){.config.limits = web_limits_default};
  struct pf_buf *bufs[] = {&f->path, &f->query, &f->body, &f->message, &f->header, &f->param};
  for (size_t i = 0; i < PF_COUNT(bufs); i++)
    pf_buf_init(bufs[i], PF_BUF_MAX_DEFAULT);
  f->config.handlers = (struct web_handlers){f, on_request, on_ws_open, on_ws_message, on_ws_close};
  assert_int_equal(pf_listen_addr_parse(&f->config.listen, "127.0.0.1:0", NULL), PF_OK);
  assert_int_equal(uv_loop_init(&f->loop), 0);
  assert_int_equal(web_new(&f->web, &f->loop, NULL), PF_OK);
}

void fixture_listen(struct fixture *f) {
  struct pf_error err = {0};
  if (web_listen(f->web, &f->config, &f->bound, &err)) fail_msg("%s", err.text);
}

void fixture_open(struct fixture *f) {
  fixture_init(f);
  fixture_listen(f);
}

void fixture_close(struct fixture *f) {
  web_close(f->web, on_closed, f);
  while (!f->closed)
    uv_run(&f->loop, UV_RUN_ONCE);
}

void fixture_done(struct fixture *f) {
  if (!f->closed) fixture_close(f);
  uv_run(&f->loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&f->loop), 0);
  struct pf_buf *bufs[] = {&f->path, &f->query, &f->body, &f->message, &f->header, &f->param};
  for (size_t i = 0; i < PF_COUNT(bufs); i++)
    pf_buf_done(bufs[i]);
}

void fixture_turn(struct fixture *f, int fd) {
  uv_run(&f->loop, UV_RUN_NOWAIT);
  struct pollfd fds[] = {
      {.fd = uv_backend_fd(&f->loop), .events = POLLIN}, {.fd = fd, .events = POLLIN}};
  poll(fds, 2, uv_backend_timeout(&f->loop));
}

static void deadline_check(int64_t begin_ms) {
  if (pf_clock_mono_ms() - begin_ms > WAIT_MS) fail_msg("waited in vain");
}

void fixture_await(struct fixture *f, const unsigned *what, unsigned count) {
  for (int64_t begin = pf_clock_mono_ms(); *what < count; deadline_check(begin))
    fixture_turn(f, -1);
}

/* ---- clients ---- */

int client_dial(struct fixture *f) {
  const struct sockaddr *addr = (const struct sockaddr *)&f->bound.addr[0];
  int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(connect(fd, addr, pf_sockaddr_len(addr)), 0); /* the backlog takes it */
  return fd;
}

bool client_send(struct fixture *f, int fd, const void *data, size_t len) {
  int64_t begin = pf_clock_mono_ms();
  for (const char *at = data; len; deadline_check(begin)) {
    ssize_t n = send(fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return false;
    if (n > 0) at += n, len -= (size_t)n;
    uv_run(&f->loop, UV_RUN_NOWAIT);
  }
  return true;
}

bool client_say(struct fixture *f, int fd, const char *text) {
  return client_send(f, fd, text, strlen(text));
}

bool client_read(struct fixture *f, int fd, void *data, size_t len) {
  int64_t begin = pf_clock_mono_ms();
  for (char *at = data; len; deadline_check(begin)) {
    ssize_t n = recv(fd, at, len, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) return false;
    if (n > 0)
      at += n, len -= (size_t)n;
    else
      fixture_turn(f, fd);
  }
  return true;
}

bool client_ended(struct fixture *f, int fd) {
  char byte;
  return !client_read(f, fd, &byte, 1);
}

struct answer client_answer(struct fixture *f, int fd, bool has_body) {
  struct answer a = {0};
  size_t len = 0;
  while (len < 4 || memcmp(a.head + len - 4, "\r\n\r\n", 4) != 0) {
    assert_true(len + 1 < sizeof(a.head));
    if (!client_read(f, fd, a.head + len, 1)) return (struct answer){0};
    len++;
  }
  assert_memory_equal(a.head, "HTTP/1.1 ", 9);
  a.status = (int)strtol(a.head + 9, NULL, 10);
  a.closes = strstr(a.head, "\r\nconnection: close\r\n") != NULL;
  const char *length = strstr(a.head, "\r\ncontent-length: ");
  a.body_len = length ? strtoul(length + 18, NULL, 10) : 0;
  if (!has_body) return a;
  a.body = calloc(1, a.body_len + 1);
  assert_non_null(a.body);
  assert_true(client_read(f, fd, a.body, a.body_len));
  return a;
}

int client_ask(struct fixture *f, int fd, const char *text) {
  if (!client_say(f, fd, text)) return 0;
  struct answer a = client_answer(f, fd, true);
  free(a.body);
  return a.status;
}

/* ---- WebSocket clients ---- */

int client_upgrade(struct fixture *f, int fd, const char *extra) {
  char text[4096];
  snprintf(text, sizeof(text),
      "GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
      extra ? extra : "");
  if (!client_say(f, fd, text)) return 0;
  struct answer a = client_answer(f, fd, true);
  free(a.body);
  if (a.status == 101)
    assert_non_null(strstr(a.head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")); /* of RFC 6455 1.3 */
  return a.status;
}

bool client_frame(struct fixture *f, int fd, unsigned char first, const void *data, size_t len) {
  static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
  unsigned char head[14] = {first};
  size_t head_len = 2;
  if (len < 126) {
    head[1] = (unsigned char)(0x80 | len);
  } else if (len <= 0xffff) {
    head[1] = 0x80 | 126;
    for (int shift = 8; shift >= 0; shift -= 8)
      head[head_len++] = (unsigned char)(len >> shift);
  } else {
    head[1] = 0x80 | 127;
    for (int shift = 56; shift >= 0; shift -= 8)
      head[head_len++] = (unsigned char)((uint64_t)len >> shift);
  }
  memcpy(head + head_len, mask, 4);
  head_len += 4;
  char *bytes = malloc(head_len + len);
  assert_non_null(bytes);
  memcpy(bytes, head, head_len);
  for (size_t i = 0; i < len; i++)
    bytes[head_len + i] = (char)(((const unsigned char *)data)[i] ^ mask[i % 4]);
  bool sent = client_send(f, fd, bytes, head_len + len);
  free(bytes);
  return sent;
}

struct frame client_read_frame(struct fixture *f, int fd) {
  struct frame none = {.first = -1}, frame = {0};
  unsigned char head[2], more[8];
  if (!client_read(f, fd, head, 2)) return none;
  frame.first = head[0];
  size_t more_len = head[1] == 126 ? 2 : head[1] == 127 ? 8 : 0;
  if (!client_read(f, fd, more, more_len)) return none;
  frame.len = more_len ? 0 : head[1]; /* a server's frame has no mask bit */
  for (size_t i = 0; i < more_len; i++)
    frame.len = frame.len << 8 | more[i];
  frame.data = calloc(1, frame.len + 1);
  assert_non_null(frame.data);
  if (client_read(f, fd, frame.data, frame.len)) return frame;
  free(frame.data);
  return none;
}

int client_close_code(struct fixture *f, int fd) {
  for (;;) {
    struct frame frame = client_read_frame(f, fd);
    if (frame.first < 0) return 0;
    int code =
        frame.len >= 2 ? (unsigned char)frame.data[0] << 8 | (unsigned char)frame.data[1] : 0;
    free(frame.data);
    if (frame.first == 0x88) return code;
  }
}
