/* Listen addresses as people write them: "127.0.0.1:8787", "[::1]:8787", "localhost:0", ":8787".
 *
 * Threads    pure
 * Limits     PF_ADDR_MAX resolved socket addresses; host names other than localhost are refused,
 *            so that no start waits for a name server. */
#ifndef PF_BASE_ADDR_H
#define PF_BASE_ADDR_H

#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

#define PF_ADDR_MAX 2
#define PF_ADDR_TEXT 64

struct pf_listen_addr {
  struct sockaddr_storage addr[PF_ADDR_MAX]; /* "localhost" means both families */
  unsigned count;
  uint16_t port; /* 0 = any free one (the same one for both families) */
};

/* Errors: PF_EINVAL, with a text that says what was expected. */
PF_MUST_CHECK int pf_listen_addr_parse(
    struct pf_listen_addr *ret_addr, const char *text, struct pf_error *reterr);
/* "127.0.0.1:8787" or "[::1]:8787". */
void pf_sockaddr_print(char text[PF_ADDR_TEXT], const struct sockaddr *addr);
uint16_t pf_sockaddr_port(const struct sockaddr *addr);
void pf_sockaddr_set_port(struct sockaddr *addr, uint16_t port);
socklen_t pf_sockaddr_len(const struct sockaddr *addr);

#endif
