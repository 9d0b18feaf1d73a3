/* What a request and a WebSocket message cost lib/web.
 *
 *   web_bench serve [ADDRESS]       an echo server, for wrk: POST /echo, and WebSocket on any path
 *   web_bench                       the same in a child process, with a client of its own that
 * sends batches of frames; reports CPU of the server for each message
 *
 * The client is raw sockets so that it costs little beside the server. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/listen.h"
#include "loop/signals.h"
#include "web/web.h"

enum { PAYLOAD = 128, HTTP_CONNECTIONS = 10 };

/* ---- server ---- */

struct server {
  struct web *web;
};

static void server_on_request(void *arg, const struct web_request *req) {
  struct server *s = arg;
  web_respond(s->web, req->id,
      &(struct web_response){
          .status = 200, .content_type = "application/octet-stream", .body = req->body});
}

static int server_on_ws_open(void *arg, uint64_t ws, struct pf_slice path) {
  (void)arg, (void)ws, (void)path;
  return 0;
}

static void server_on_ws_message(void *arg, uint64_t ws, struct pf_slice text) {
  struct server *s = arg;
  web_ws_send(s->web, ws, text);
}

static void server_on_ws_close(void *arg, uint64_t ws) {
  (void)arg, (void)ws;
}

static void server_closed(void *arg) {
  (void)arg;
}

static void server_drain(void *arg) {
  struct server *s = arg;
  web_close(s->web, server_closed, NULL);
}

static int serve(const char *address, int ready_fd) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  struct server s = {0};
  struct pf_error err = {0};
  struct pf_signals signals;
  struct web_listener_config config = {.limits = web_limits_default,
      .handlers = {
          &s, server_on_request, server_on_ws_open, server_on_ws_message, server_on_ws_close}};
  config.limits.body_max = 64 << 20;
  struct pf_listen_addr bound;
  if (pf_listen_addr_parse(&config.listen, address, &err) || web_new(&s.web, &loop, &err) ||
      web_listen(s.web, &config, &bound, &err)) {
    fprintf(stderr, "web_bench: %s\n", err.text);
    return PF_EXIT_START;
  }
  pf_signals_open(&signals, &loop, server_drain, &s);
  if (ready_fd < 0)
    pf_listen_announce("web_bench", &bound);
  else if (write(ready_fd, &bound.addr[0], sizeof(bound.addr[0])) < 0)
    return PF_EXIT_FAILURE;
  uv_run(&loop, UV_RUN_DEFAULT);
  pf_signals_close(&signals);
  uv_run(&loop, UV_RUN_DEFAULT);
  PF_ASSERT(uv_loop_close(&loop) == 0);
  return PF_EXIT_OK;
}

/* ---- client ---- */

static void fail(const char *what) {
  fprintf(stderr, "web_bench: %s: %s\n", what, strerror(errno));
  exit(PF_EXIT_FAILURE);
}

static int dial(const struct sockaddr_storage *addr) {
  int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 ||
      connect(fd, (const struct sockaddr *)addr, pf_sockaddr_len((const struct sockaddr *)addr)))
    fail("connect");
  return fd;
}

static void send_all(int fd, const void *data, size_t len) {
  for (const char *at = data; len;) {
    ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
    if (n <= 0) fail("send");
    at += n;
    len -= (size_t)n;
  }
}

/* Reads at least len bytes and returns how many. */
static size_t receive(int fd, char *buf, size_t max, size_t len) {
  size_t have = 0;
  while (have < len) {
    ssize_t n = recv(fd, buf + have, max - have, 0);
    if (n <= 0) fail("recv");
    have += (size_t)n;
  }
  return have;
}

static void upgrade(int fd) {
  static const char request[] =
      "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
  char answer[1024];
  send_all(fd, request, sizeof(request) - 1);
  size_t have = 0;
  while (have < 4 || memcmp(answer + have - 4, "\r\n\r\n", 4) != 0)
    have += receive(fd, answer + have, sizeof(answer) - have, 1);
  if (memcmp(answer, "HTTP/1.1 101", 12) != 0) fail("upgrade");
}

static double server_cpu_us(pid_t pid) {
  char path[64], line[512];
  snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid); /* nanoseconds of CPU come first */
  FILE *file = fopen(path, "r");
  if (!file || !fgets(line, sizeof(line), file)) fail(path);
  fclose(file);
  return (double)strtoull(line, NULL, 10) / 1000;
}

static void report(const char *what, unsigned long n, int64_t ns, double cpu_us) {
  printf("%-28s %8.0f/s  %6.2f us CPU each\n", what, (double)n / ((double)ns / 1e9),
      cpu_us / (double)n);
}

static void bench_ws(
    const struct sockaddr_storage *addr, pid_t pid, unsigned batch, unsigned rounds) {
  int fd = dial(addr);
  upgrade(fd);
  size_t in_size = PAYLOAD + 8, out_size = PAYLOAD + 4; /* masked frame, echoed frame */
  char *frames = calloc(batch, in_size), *echo = calloc(batch, out_size);
  if (!frames || !echo) fail("memory");
  for (unsigned i = 0; i < batch; i++) {
    char *frame = frames + i * in_size;
    memcpy(frame, "\x81\xfe\x00\x80\0\0\0\0", 8);
    memset(frame + 8, 'x', PAYLOAD);
  }
  double cpu = server_cpu_us(pid);
  int64_t start = pf_clock_mono_ns();
  for (unsigned i = 0; i < rounds; i++) {
    send_all(fd, frames, batch * in_size);
    receive(fd, echo, batch * out_size, batch * out_size);
  }
  char what[64];
  snprintf(what, sizeof(what), "WebSocket echo, batch %u", batch);
  report(what, (unsigned long)batch * rounds, pf_clock_mono_ns() - start, server_cpu_us(pid) - cpu);
  free(frames);
  free(echo);
  close(fd);
}

static size_t answer_size(int fd, size_t body) {
  char head[512];
  ssize_t n = recv(fd, head, sizeof(head) - 1, MSG_PEEK);
  if (n <= 0) fail("recv");
  head[n] = '\0';
  const char *end = strstr(head, "\r\n\r\n");
  if (!end || memcmp(head, "HTTP/1.1 200", 12) != 0) fail("answer");
  return (size_t)(end - head) + 4 + body;
}

static void bench_http(
    const struct sockaddr_storage *addr, pid_t pid, size_t body, unsigned requests) {
  char *request = calloc(1, body + 256), *answer = calloc(1, body + 1024);
  if (!request || !answer) fail("memory");
  int len = snprintf(request, 256,
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: %zu\r\n\r\n",
      body);
  memset(request + len, 'x', body);
  struct pollfd fds[HTTP_CONNECTIONS];
  size_t answer_len = 0; /* the same for all */
  for (int i = 0; i < HTTP_CONNECTIONS; i++)
    fds[i] = (struct pollfd){.fd = dial(addr), .events = POLLIN};
  double cpu = server_cpu_us(pid);
  int64_t start = pf_clock_mono_ns();
  for (int i = 0; i < HTTP_CONNECTIONS; i++)
    send_all(fds[i].fd, request, (size_t)len + body);
  for (unsigned done = 0; done < requests;) {
    if (poll(fds, HTTP_CONNECTIONS, -1) < 0) fail("poll");
    for (int i = 0; i < HTTP_CONNECTIONS; i++) {
      if (!(fds[i].revents & POLLIN)) continue;
      if (answer_len == 0) answer_len = answer_size(fds[i].fd, body);
      receive(fds[i].fd, answer, answer_len, answer_len);
      done++;
      send_all(fds[i].fd, request, (size_t)len + body);
    }
  }
  char what[64];
  snprintf(what, sizeof(what), "HTTP POST echo, %zu bytes", body);
  report(what, requests, pf_clock_mono_ns() - start, server_cpu_us(pid) - cpu);
  for (int i = 0; i < HTTP_CONNECTIONS; i++)
    close(fds[i].fd);
  free(request);
  free(answer);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "serve") == 0)
    return serve(argc > 2 ? argv[2] : "127.0.0.1:0", -1);
  if (argc > 1) {
    fprintf(stderr, "usage: web_bench [serve [ADDR:PORT]]\n");
    return PF_EXIT_USAGE;
  }
  int ready[2];
  if (pipe(ready)) fail("pipe");
  pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) _exit(serve("127.0.0.1:0", ready[1]));
  struct sockaddr_storage addr;
  close(ready[1]);
  if (read(ready[0], &addr, sizeof(addr)) != (ssize_t)sizeof(addr)) fail("server");
  bench_http(&addr, pid, 16, 50000);
  bench_http(&addr, pid, 32 << 10, 5000);
  bench_ws(&addr, pid, 1, 20000);
  bench_ws(&addr, pid, 64, 5000);
  bench_ws(&addr, pid, 256, 2000);
  kill(pid, SIGTERM);
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : PF_EXIT_FAILURE;
}
