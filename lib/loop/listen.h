/* Listening TCP sockets for the addresses of a --listen option.
 *
 * Threads    Call at start. No function keeps state.
 * Ownership  The caller owns the descriptors: close them with pf_listen_close, or hand them to
 *            uv_tcp_open (and set fds[i] to -1).
 * Ordering   none
 * Limits     PF_LISTEN_BACKLOG waiting connections for each socket (the kernel may allow less). */
#ifndef PF_LOOP_LISTEN_H
#define PF_LOOP_LISTEN_H

#include "base/addr.h"
#include "base/err.h"

#define PF_LISTEN_BACKLOG 4096
/* "http://127.0.0.1:8787 http://[::1]:8787" */
#define PF_LISTEN_URLS_TEXT (PF_ADDR_MAX * (PF_ADDR_TEXT + 8))

struct pf_listeners {
  int fds[PF_ADDR_MAX]; /* non-blocking, close-on-exec, already listening; bound.count of them */
  struct pf_listen_addr bound; /* what was really bound, with the real port */
};

/* Binds every address of addr and listens there. With port 0 the kernel chooses one free port, the
 * same for all addresses. Of "localhost" a family that this machine does not have is left out.
 * Errors: PF_EADDRINUSE, PF_EPERM, PF_ENET, with a text that names the address. */
PF_MUST_CHECK int pf_listen_open(
    const struct pf_listen_addr *addr, struct pf_listeners *ret_listeners, struct pf_error *reterr);
/* Closes the descriptors that are not -1. */
void pf_listen_close(struct pf_listeners *listeners);

void pf_listen_urls(char text[PF_LISTEN_URLS_TEXT], const struct pf_listen_addr *bound);
/* The line with which every program says on stdout that it serves: "PROGRAM listening on URL URL".
 */
void pf_listen_announce(const char *program, const struct pf_listen_addr *bound);

/* Raises this process's soft limit of open files to the hard one, but not above at_most. Returns
 * the limit in force, which may be lower than wanted. */
unsigned long pf_open_files_raise(unsigned long at_most);
/* The same for a process that has `wanted` of one kind (connections, transfers) and up to `others`
 * besides. Returns how many of the wanted there may be so that the others fit, too: fewer if the
 * limit is too low, and half of it if it is so low that the others alone would take it.
 * *ret_others: how many others there may be. */
size_t pf_open_files_share(size_t wanted, size_t others, size_t *ret_others);

#endif
