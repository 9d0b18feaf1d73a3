#include "loop/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Another process may take the port of the first address on the second one between our two binds.
 */
#define SHARED_PORT_TRIES 64

/* Returns the descriptor or -errno. */
static int socket_listen(const struct sockaddr *addr) {
  int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int on = 1;
  /* Restarting must not wait for connections of the former process in TIME_WAIT. */
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      /* Inherited by accepted connections. What we write is whole messages; without it the second
       * of two waits for the peer's delayed acknowledgement of the first, 40 ms. */
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
      bind(fd, addr, pf_sockaddr_len(addr)) == 0 && listen(fd, PF_LISTEN_BACKLOG) == 0)
    return fd;
  int err = -errno;
  close(fd);
  return err;
}

static uint16_t socket_port(int fd) {
  struct sockaddr_storage addr;
  socklen_t len = sizeof(addr);
  PF_ASSERT(getsockname(fd, (struct sockaddr *)&addr, &len) == 0);
  return pf_sockaddr_port((struct sockaddr *)&addr);
}

static bool family_missing(int err) {
  return err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL;
}

/* One try with one port. Returns 0, or -errno with the address that failed in *ret_failed. */
static int listen_all(const struct pf_listen_addr *addr, struct pf_listeners *ret_listeners,
    struct sockaddr_storage *ret_failed) {
  struct pf_listeners all = {.bound.port = addr->port};
  int err = 0;
  for (unsigned i = 0; i < addr->count; i++) {
    struct sockaddr_storage one = addr->addr[i];
    pf_sockaddr_set_port((struct sockaddr *)&one, all.bound.port);
    int fd = socket_listen((struct sockaddr *)&one);
    if (fd < 0) {
      *ret_failed = one;
      err = fd;
      if (family_missing(fd) && addr->count > 1) continue; /* the other one may do */
      break;
    }
    all.bound.port = socket_port(fd);
    pf_sockaddr_set_port((struct sockaddr *)&one, all.bound.port);
    all.bound.addr[all.bound.count] = one;
    all.fds[all.bound.count++] = fd;
  }
  if (all.bound.count > 0 && (err == 0 || family_missing(err))) {
    *ret_listeners = all;
    return 0;
  }
  pf_listen_close(&all);
  return err;
}

static const char *listen_advice(int err) {
  switch (err) {
  case -EADDRINUSE:
    return "; stop what serves there, or choose another port";
  case -EADDRNOTAVAIL:
    return "; this machine has no such address";
  case -EACCES:
    return "; choose a port from 1024 on";
  default:
    return "";
  }
}

int pf_listen_open(const struct pf_listen_addr *addr, struct pf_listeners *ret_listeners,
    struct pf_error *reterr) {
  PF_ASSERT(addr->count > 0);
  struct sockaddr_storage failed = {0};
  int err = -EADDRINUSE;
  for (int i = 0; err == -EADDRINUSE && i < (addr->port ? 1 : SHARED_PORT_TRIES); i++)
    err = listen_all(addr, ret_listeners, &failed);
  if (err == 0) return PF_OK;
  char text[PF_ADDR_TEXT];
  pf_sockaddr_print(text, (struct sockaddr *)&failed);
  int code = err == -EADDRINUSE ? PF_EADDRINUSE : err == -EACCES ? PF_EPERM : PF_ENET;
  pf_error_set(reterr, code, "cannot listen on %s: %s%s", text, strerror(-err), listen_advice(err));
  if (reterr) reterr->native = -err;
  return code;
}

void pf_listen_close(struct pf_listeners *listeners) {
  for (unsigned i = 0; i < listeners->bound.count; i++) {
    if (listeners->fds[i] >= 0) close(listeners->fds[i]);
    listeners->fds[i] = -1;
  }
}

void pf_listen_urls(char text[PF_LISTEN_URLS_TEXT], const struct pf_listen_addr *bound) {
  int len = 0;
  text[0] = '\0';
  for (unsigned i = 0; i < bound->count; i++) {
    char one[PF_ADDR_TEXT];
    pf_sockaddr_print(one, (const struct sockaddr *)&bound->addr[i]);
    len +=
        snprintf(text + len, PF_LISTEN_URLS_TEXT - (size_t)len, "%shttp://%s", i ? " " : "", one);
  }
}

void pf_listen_announce(const char *program, const struct pf_listen_addr *bound) {
  char urls[PF_LISTEN_URLS_TEXT];
  pf_listen_urls(urls, bound);
  printf("%s listening on %s\n", program, urls);
  fflush(stdout); /* whoever started us waits for this line, perhaps through a pipe */
}

unsigned long pf_open_files_raise(unsigned long at_most) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit)) return 0;
  rlim_t wanted = limit.rlim_max < at_most ? limit.rlim_max : at_most;
  if (limit.rlim_cur >= wanted) return limit.rlim_cur;
  struct rlimit raised = {.rlim_cur = wanted, .rlim_max = limit.rlim_max};
  return setrlimit(RLIMIT_NOFILE, &raised) ? limit.rlim_cur : wanted;
}

size_t pf_open_files_share(size_t wanted, size_t others, size_t *ret_others) {
  size_t files = pf_open_files_raise(wanted + others);
  size_t possible = files > 2 * others ? files - others : files / 2;
  if (files >= wanted + others || possible > wanted) possible = wanted;
  *ret_others = files - possible < others ? files - possible : others;
  return possible;
}
