/* The server: its context and listeners, accepting, the timer, statistics and the way to close. */
#include <errno.h>
#include <libwebsockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "loop/listen.h"
#include "web/httpd.h"
#include "web/socket.h"

enum {
  UPGRADE_HEAD_MAX = 1024, /* socket_adopt writes it */
  TICK_MS = 250,
  ACCEPT_MAX = 64,          /* connections taken in one loop turn */
  OPEN_FILES_MAX = 1 << 20, /* lws takes 16 bytes for each possible one at start */
  CLOSE_GRACE_MS = 1000,    /* for closing handshakes and answers under way */
  CLOSE_TURNS = 3,          /* in which lws's handles report their end */
};

const struct web_limits web_limits_default = {.body_max = 1 << 20,
    .frame_max = 1 << 20,
    .outbox_max = 4 << 20,
    .unread_max = 1 << 30,
    .fragments_max = 1024,
    .connections_max = 20000,
    .ping_s = 30,
    .pong_s = 10,
    .stall_s = 60,
    .close_s = 5,
    .idle_s = 300,
    .header_s = 10,
    .body_bytes_per_s = 1024,
    .body_grace_s = 5};

/* lws's own pings stay off: its timers sleep when they are set outside of its callbacks. */
static const lws_retry_bo_t no_pings = {0};

/* ---- opening ---- */

static struct lws_context *context_new(struct web *web) {
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > OPEN_FILES_MAX) {
    files.rlim_cur = OPEN_FILES_MAX;
    (void)setrlimit(RLIMIT_NOFILE, &files); /* else lws takes memory for a billion of them */
  }
  lws_set_log_level(0, NULL);
  void *loops[] = {web->loop};
  struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN,
      .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                 LWS_SERVER_OPTION_VALIDATE_UTF8 | LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME,
      .foreign_loops = loops,
      .pt_serv_buf_size = WEB_IO_BYTES,
      .max_http_header_data = UPGRADE_HEAD_MAX,
      .max_http_header_pool2 = OPEN_FILES_MAX,
      .user = web,
      .retry_and_idle_policy = &no_pings};
  return lws_create_context(&info);
}

static void web_on_tick(uv_timer_t *timer);
static void web_finish(struct web *web);

int web_new(struct web **ret_web, uv_loop_t *loop, struct pf_error *reterr) {
  struct web *web = pf_alloc(sizeof(*web));
  web->loop = loop;
  web->context = context_new(web);
  if (!web->context) {
    free(web);
    return pf_error_set(
        reterr, PF_ENOMEM, "libwebsockets cannot start; is libwebsockets-evlib-uv installed?");
  }
  web->io = pf_alloc(WEB_IO_BYTES);
  pf_list_init(&web->listeners);
  pf_list_init(&web->ready);
  pf_map_init(&web->ids);
  pf_buf_init(&web->scratch, PF_BUF_MAX_DEFAULT);
  pf_arena_init(&web->arena);
  uv_timer_init(loop, &web->tick);
  uv_idle_init(loop, &web->soon);
  web->tick.data = web->soon.data = web;
  web->handles = 2;
  web->finish = web_finish;
  uv_timer_start(&web->tick, web_on_tick, TICK_MS, TICK_MS);
  *ret_web = web;
  return PF_OK;
}

static int vhost_new(struct web_listener *l, struct pf_error *reterr) {
  pf_sockaddr_print(l->name, (const struct sockaddr *)&l->bound.addr[0]);
  struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN,
      .vhost_name = l->name, /* not copied */
      .protocols = socket_protocols(),
      .retry_and_idle_policy = &no_pings};
  l->vhost = lws_create_vhost(l->web->context, &info);
  return l->vhost ? PF_OK : pf_error_set(reterr, PF_ENOMEM, "no memory for listener %s", l->name);
}

/* ---- accepting ---- */

static void listener_on_readable(uv_poll_t *poll, int status, int events) {
  struct web_listener *l = poll->data;
  (void)events;
  int fd = l->fds[poll - l->polls];
  for (int n = 0; status == 0 && n < ACCEPT_MAX; n++) {
    int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (peer < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        uv_poll_stop(poll); /* it would be reported again at once; the next tick tries again */
        l->paused = true;
      }
      return; /* otherwise all are taken, or one has gone before we took it */
    }
    if (l->connections < l->config.limits.connections_max) {
      /* A second small frame must not wait for the peer's delayed acknowledgement of the first. */
      int on = 1;
      (void)setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only slower without */
      httpd_open(l, peer);
    } else {
      l->web->stats.refused++;
      close(peer);
    }
  }
}

static void listener_resume(struct web_listener *l) {
  if (!l->paused) return;
  l->paused = false;
  for (unsigned i = 0; i < l->bound.count; i++)
    if (l->fds[i] >= 0) uv_poll_start(&l->polls[i], UV_READABLE, listener_on_readable);
}

/* Fault builds only: for tests that cannot wait so long. */
static void limits_of_test(struct web_limits *limits) {
  limits->header_s = (int)pf_fault_limit("web.header_s", limits->header_s);
  limits->body_grace_s = (int)pf_fault_limit("web.body_grace_s", limits->body_grace_s);
  limits->stall_s = (int)pf_fault_limit("web.stall_s", limits->stall_s);
  limits->close_s = (int)pf_fault_limit("web.close_s", limits->close_s);
  limits->idle_s = (int)pf_fault_limit("web.idle_s", limits->idle_s);
  limits->ping_s = (int)pf_fault_limit("web.ping_s", limits->ping_s);
  limits->pong_s = (int)pf_fault_limit("web.pong_s", limits->pong_s);
}

int web_listen(struct web *web, const struct web_listener_config *config,
    struct pf_listen_addr *ret_bound, struct pf_error *reterr) {
  struct pf_listeners sockets;
  int err = pf_listen_open(&config->listen, &sockets, reterr);
  if (err) return err;
  struct web_listener *l = pf_alloc(sizeof(*l));
  l->web = web;
  l->config = *config;
  limits_of_test(&l->config.limits);
  l->bound = sockets.bound;
  for (int i = 0; i < CONN_PHASES; i++)
    pf_list_init(&l->phases[i]);
  pf_list_init(&l->unread);
  err = vhost_new(l, reterr);
  if (err) {
    pf_listen_close(&sockets);
    free(l);
    return err;
  }
  pf_list_push(&web->listeners, &l->link);
  for (unsigned i = 0; i < l->bound.count; i++) {
    l->fds[i] = sockets.fds[i];
    int uv = uv_poll_init(web->loop, &l->polls[i], l->fds[i]);
    PF_ASSERT(uv == 0); /* a fresh listening socket that nobody else polls */
    l->polls[i].data = l;
    web->handles++;
    uv_poll_start(&l->polls[i], UV_READABLE, listener_on_readable);
  }
  *ret_bound = l->bound;
  return PF_OK;
}

/* ---- statistics ---- */

void web_read_stats(const struct web *web, struct web_stats *ret_stats) {
  *ret_stats = web->stats;
}

/* ---- closing ----
 *
 *   SERVING --web_close--> CLOSING: sockets say 1001, answers under way leave
 *           --no connection left, or out of patience--> DESTROYING: lws closes its own handles
 *           --some turns later--> lws frees its context, closed() */

static void web_finish(struct web *web) {
  void (*closed)(void *arg) = web->closed;
  void *arg = web->closed_arg;
  while (!pf_list_empty(&web->listeners))
    free(pf_container_of(pf_list_pop(&web->listeners), struct web_listener, link));
  pf_map_done(&web->ids);
  pf_buf_done(&web->scratch);
  pf_arena_done(&web->arena);
  free(web->io);
  free(web);
  closed(arg);
}

static void web_handle_closed(uv_handle_t *handle) {
  web_handle_gone(handle->data);
}

static void listener_handle_closed(uv_handle_t *handle) {
  struct web_listener *l = handle->data;
  web_handle_gone(l->web);
}

static void web_on_turn(uv_idle_t *idle) {
  struct web *web = idle->data;
  if (++web->turns < CLOSE_TURNS) return;
  lws_context_destroy(web->context);
  web->context = NULL;
  uv_close((uv_handle_t *)&web->soon, web_handle_closed);
  uv_close((uv_handle_t *)&web->tick, web_handle_closed);
}

static void web_destroy(struct web *web) {
  web->stage = WEB_DESTROYING;
  uv_timer_stop(&web->tick);
  lws_context_destroy(web->context);
  uv_idle_stop(&web->soon); /* no request is left that could run */
  uv_idle_start(&web->soon, web_on_turn);
}

static void stop_all(struct pf_list *phase) {
  PF_LIST_EACH(it, phase) {
    struct conn *c = pf_container_of(it, struct conn, link);
    c->kind->stop(c);
  }
}

/* Ends what is not in the middle of a goodbye. */
static void listener_wind_down(struct web_listener *l, bool patient) {
  static const enum conn_phase over[] = {
      CONN_HEADER, CONN_BODY, CONN_WAIT, CONN_IDLE, CONN_LINGER, CONN_OPEN, CONN_PINGED};
  for (size_t i = 0; i < PF_COUNT(over); i++)
    stop_all(&l->phases[over[i]]);
  if (!patient) stop_all(&l->phases[CONN_RESPOND]);
}

static void web_wind_down(struct web *web) {
  bool patient = uv_now(web->loop) - web->close_at_ms < CLOSE_GRACE_MS;
  PF_LIST_EACH(it, &web->listeners)
    listener_wind_down(pf_container_of(it, struct web_listener, link), patient);
  if (web->stats.connections == 0 || !patient) web_destroy(web);
}

static void web_on_tick(uv_timer_t *timer) {
  struct web *web = timer->data;
  if (web->stage == WEB_CLOSING) {
    web_wind_down(web);
    return;
  }
  PF_LIST_EACH(it, &web->listeners) {
    struct web_listener *l = pf_container_of(it, struct web_listener, link);
    conn_timers(l, uv_now(web->loop));
    httpd_timers(l, uv_now(web->loop));
    listener_resume(l);
  }
}

void web_stop_listening(struct web *web) {
  PF_LIST_EACH(it, &web->listeners) {
    struct web_listener *l = pf_container_of(it, struct web_listener, link);
    for (unsigned i = 0; i < l->bound.count; i++) {
      if (l->fds[i] < 0) continue;
      uv_close((uv_handle_t *)&l->polls[i], listener_handle_closed);
      close(l->fds[i]);
      l->fds[i] = -1;
    }
  }
}

void web_close(struct web *web, void (*closed)(void *arg), void *arg) {
  PF_ASSERT(web->stage == WEB_SERVING);
  web->stage = WEB_CLOSING;
  web->closed = closed;
  web->closed_arg = arg;
  web->close_at_ms = uv_now(web->loop);
  web_stop_listening(web);
  /* From the loop: this may be inside a callback of lws. */
  uv_timer_start(&web->tick, web_on_tick, 0, 10);
}
