#include "http/multi.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Events taken from the kernel at once; the rest comes in the next turn of the loop. */
#define EVENTS_PER_TURN 128

struct http_socket {
  uint32_t wanted;     /* EPOLL bits that libcurl waits for now */
  uint32_t registered; /* EPOLL bits in the epoll set; may be more than wanted */
  uint32_t generation; /* of this descriptor number: events of a former socket are dropped */
  bool owned;          /* opened through us, so we hear when it is closed */
};

static struct http_socket *socket_at(struct http_multi *multi, curl_socket_t fd) {
  PF_ASSERT(fd >= 0);
  size_t needed = (size_t)fd + 1;
  if (needed > multi->socket_cap) {
    size_t cap = multi->socket_cap ? multi->socket_cap : 64;
    while (cap < needed)
      cap *= 2;
    multi->sockets = pf_realloc(multi->sockets, cap * sizeof(*multi->sockets));
    memset(
        multi->sockets + multi->socket_cap, 0, (cap - multi->socket_cap) * sizeof(*multi->sockets));
    multi->socket_cap = cap;
  }
  return &multi->sockets[fd];
}

static void socket_register(
    struct http_multi *multi, curl_socket_t fd, struct http_socket *socket, uint32_t bits) {
  if (socket->registered == bits) return;
  int op = bits == 0 ? EPOLL_CTL_DEL : socket->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  struct epoll_event event = {
      .events = bits, .data.u64 = (uint64_t)socket->generation << 32 | (uint32_t)fd};
  int rc = epoll_ctl(multi->epoll_fd, op, fd, &event);
  /* Only a socket that libcurl has closed without telling can fail here, and that one is gone. */
  socket->registered = rc == 0 ? bits : 0;
}

void http_multi_socket_opened(struct http_multi *multi, curl_socket_t fd) {
  struct http_socket *socket = socket_at(multi, fd);
  *socket = (struct http_socket){.generation = socket->generation + 1, .owned = true};
  multi->open_sockets++;
  multi->opened_total++;
}

static curl_socket_t multi_open_socket(
    void *arg, curlsocktype purpose, struct curl_sockaddr *address) {
  (void)purpose;
  curl_socket_t fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd >= 0) http_multi_socket_opened(arg, fd);
  return fd; /* -1 is CURL_SOCKET_BAD */
}

static int multi_close_socket(void *arg, curl_socket_t fd) {
  struct http_multi *multi = arg;
  struct http_socket *socket = socket_at(multi, fd);
  if (socket->owned) multi->open_sockets--;
  socket->owned = false;
  socket->wanted = socket->registered = 0; /* closing it takes it out of the epoll set */
  socket->generation++;
  return close(fd);
}

/* libcurl says what it wants to hear about a socket. */
static int multi_want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused) {
  (void)easy;
  (void)unused;
  struct http_multi *multi = arg;
  struct http_socket *socket = socket_at(multi, fd);
  socket->wanted = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
                   (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);
  if (what == CURL_POLL_REMOVE) {
    socket->wanted = 0;
    /* An idle connection stays registered for its next transfer, unless we would not hear of its
     * end (the pipe of a name look-up) or it would wake us all the time (writable). */
    if (!socket->owned || socket->registered & EPOLLOUT) socket_register(multi, fd, socket, 0);
    return 0;
  }
  socket_register(multi, fd, socket, socket->wanted);
  return 0;
}

static void multi_collect(struct http_multi *multi) {
  CURLMsg *message;
  int left;
  while ((message = curl_multi_info_read(multi->curl, &left)) != NULL) {
    if (message->msg != CURLMSG_DONE) continue;
    CURL *easy = message->easy_handle;
    CURLcode result = message->data.result; /* message is gone after the removal */
    http_multi_remove(multi, easy);
    multi->done(multi->arg, easy, result);
  }
}

static void multi_action(struct http_multi *multi, curl_socket_t fd, int bits) {
  int running;
  CURLMcode rc = curl_multi_socket_action(multi->curl, fd, bits, &running);
  PF_ASSERT(rc == CURLM_OK);
}

static void multi_on_event(struct http_multi *multi, const struct epoll_event *event) {
  curl_socket_t fd = (curl_socket_t)(uint32_t)event->data.u64;
  struct http_socket *socket = socket_at(multi, fd);
  if (socket->generation != event->data.u64 >> 32) return;
  if (socket->wanted == 0) { /* the peer has closed an idle connection */
    socket_register(multi, fd, socket, 0);
    return;
  }
  int bits = (event->events & EPOLLIN ? CURL_CSELECT_IN : 0) |
             (event->events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
             (event->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
  multi_action(multi, fd, bits);
}

static void multi_on_poll(uv_poll_t *poll, int status, int events) {
  (void)status; /* an epoll descriptor has no errors of its own */
  (void)events;
  struct http_multi *multi = poll->data;
  struct epoll_event ready[EVENTS_PER_TURN];
  int count = epoll_wait(multi->epoll_fd, ready, EVENTS_PER_TURN, 0);
  for (int i = 0; i < count; i++)
    multi_on_event(multi, &ready[i]);
  multi_collect(multi);
}

static void multi_on_timer(uv_timer_t *timer) {
  struct http_multi *multi = timer->data;
  multi_action(multi, CURL_SOCKET_TIMEOUT, 0);
  multi_collect(multi); /* always: the last transfer may have just ended */
}

static int multi_want_timer(CURLM *curl, long timeout_ms, void *arg) {
  (void)curl;
  struct http_multi *multi = arg;
  if (timeout_ms < 0) return uv_timer_stop(&multi->timer);
  if (uv_is_closing((uv_handle_t *)&multi->timer)) return 0;
  return uv_timer_start(&multi->timer, multi_on_timer, (uint64_t)timeout_ms, 0); /* 0 stays 0 */
}

static void *curl_malloc(size_t size) {
  return pf_realloc(NULL, size);
}

static void *curl_calloc(size_t count, size_t size) {
  PF_ASSERT(size == 0 || count <= SIZE_MAX / size);
  return pf_alloc(count * size);
}

int http_global_init(void) {
  CURLcode rc = curl_global_init_mem(
      CURL_GLOBAL_DEFAULT, curl_malloc, free, pf_realloc, pf_strdup, curl_calloc);
  return rc == CURLE_OK ? PF_OK : PF_ENOMEM;
}

int http_multi_open(struct http_multi *multi, uv_loop_t *loop, long idle_max,
    void (*done)(void *arg, CURL *easy, CURLcode result), void *arg) {
  *multi = (struct http_multi){.done = done, .arg = arg, .handles = 2};
  multi->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (multi->epoll_fd < 0) return PF_ELIMIT;
  multi->curl = curl_multi_init();
  if (!multi->curl) {
    close(multi->epoll_fd);
    return PF_ENOMEM;
  }
  int err = uv_poll_init(loop, &multi->poll, multi->epoll_fd);
  if (!err) err = uv_timer_init(loop, &multi->timer);
  multi->poll.data = multi->timer.data = multi;
  if (!err) err = uv_poll_start(&multi->poll, UV_READABLE, multi_on_poll);
  PF_ASSERT(err == 0); /* they fail on bad arguments only */
  curl_multi_setopt(multi->curl, CURLMOPT_SOCKETFUNCTION, multi_want_socket);
  curl_multi_setopt(multi->curl, CURLMOPT_SOCKETDATA, multi);
  curl_multi_setopt(multi->curl, CURLMOPT_TIMERFUNCTION, multi_want_timer);
  curl_multi_setopt(multi->curl, CURLMOPT_TIMERDATA, multi);
  curl_multi_setopt(multi->curl, CURLMOPT_MAXCONNECTS, idle_max);
  curl_multi_setopt(multi->curl, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
  return PF_OK;
}

void http_multi_prepare(struct http_multi *multi, CURL *easy) {
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, multi_open_socket);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, multi);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, multi_close_socket);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, multi);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  /* Without it the end of a transfer waits for the thread that still looks its name up. */
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
}

void http_multi_add(struct http_multi *multi, CURL *easy) {
  CURLMcode rc = curl_multi_add_handle(multi->curl, easy);
  PF_ASSERT(rc == CURLM_OK);
}

void http_multi_remove(struct http_multi *multi, CURL *easy) {
  CURLMcode rc = curl_multi_remove_handle(multi->curl, easy);
  PF_ASSERT(rc == CURLM_OK);
}

static void multi_handle_closed(uv_handle_t *handle) {
  struct http_multi *multi = handle->data;
  PF_ASSERT(multi->handles > 0);
  if (--multi->handles > 0) return;
  close(multi->epoll_fd);
  free(multi->sockets);
  multi->closed(multi->arg); /* multi may be gone now */
}

void http_multi_close(struct http_multi *multi, void (*closed)(void *arg)) {
  multi->closed = closed;
  uv_close((uv_handle_t *)&multi->timer, multi_handle_closed);
  uv_close((uv_handle_t *)&multi->poll, multi_handle_closed);
  curl_multi_cleanup(multi->curl); /* closes the idle connections through multi_close_socket */
  multi->curl = NULL;
}
