#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint16_t pf_sockaddr_port(const struct sockaddr *addr) {
  if (addr->sa_family == AF_INET6) return ntohs(((const struct sockaddr_in6 *)addr)->sin6_port);
  return ntohs(((const struct sockaddr_in *)addr)->sin_port);
}

void pf_sockaddr_set_port(struct sockaddr *addr, uint16_t port) {
  if (addr->sa_family == AF_INET6)
    ((struct sockaddr_in6 *)addr)->sin6_port = htons(port);
  else
    ((struct sockaddr_in *)addr)->sin_port = htons(port);
}

socklen_t pf_sockaddr_len(const struct sockaddr *addr) {
  return addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

void pf_sockaddr_print(char text[PF_ADDR_TEXT], const struct sockaddr *addr) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (addr->sa_family == AF_INET6) {
    inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)addr)->sin6_addr, host, sizeof(host));
    snprintf(text, PF_ADDR_TEXT, "[%s]:%u", host, pf_sockaddr_port(addr));
  } else {
    inet_ntop(AF_INET, &((const struct sockaddr_in *)addr)->sin_addr, host, sizeof(host));
    snprintf(text, PF_ADDR_TEXT, "%s:%u", host, pf_sockaddr_port(addr));
  }
}

static int addr_add(struct pf_listen_addr *list, int family, const char *host) {
  struct sockaddr_storage *to = &list->addr[list->count];
  void *field = family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)to)->sin6_addr
                                   : (void *)&((struct sockaddr_in *)to)->sin_addr;
  if (inet_pton(family, host, field) != 1) return PF_EINVAL;
  to->ss_family = (sa_family_t)family;
  pf_sockaddr_set_port((struct sockaddr *)to, list->port);
  list->count++;
  return PF_OK;
}

int pf_listen_addr_parse(
    struct pf_listen_addr *ret_addr, const char *text, struct pf_error *reterr) {
  struct pf_listen_addr list = {0};
  const char *colon = strrchr(text, ':');
  char host[INET6_ADDRSTRLEN + 2];
  if (!colon || (size_t)(colon - text) >= sizeof(host)) goto refused;
  memcpy(host, text, (size_t)(colon - text));
  host[colon - text] = '\0';

  char *end;
  errno = 0;
  unsigned long port = strtoul(colon + 1, &end, 10);
  if (colon[1] < '0' || colon[1] > '9' || *end || errno || port > 65535) goto refused;
  list.port = (uint16_t)port;

  size_t len = strlen(host);
  int err;
  if (len == 0 || strcmp(host, "localhost") == 0) {
    err = addr_add(&list, AF_INET, "127.0.0.1");
    if (!err) err = addr_add(&list, AF_INET6, "::1");
  } else if (host[0] == '[' && host[len - 1] == ']') {
    host[len - 1] = '\0';
    err = addr_add(&list, AF_INET6, host + 1);
  } else {
    err = addr_add(&list, AF_INET, host);
  }
  if (err) goto refused;
  *ret_addr = list;
  return PF_OK;

refused:
  return pf_error_set(reterr, PF_EINVAL,
      "'%s' is not ADDR:PORT (an IPv4 address, an IPv6 address in [brackets], or localhost; "
      "port 0 to 65535)",
      text);
}
