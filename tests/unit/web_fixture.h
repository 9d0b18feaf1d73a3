/* A real server of lib/web on a free port and raw clients, in one thread: whoever waits for bytes
 * turns the loop meanwhile.
 *
 * Threads    one
 * Ownership  The fixture owns loop and server. fixture_done() closes both and fails if a handle is
 *            left.
 * Ordering   none
 * Limits     WAIT_MS for anything that is waited for; then the test fails. */
#ifndef PF_TESTS_WEB_FIXTURE_H
#define PF_TESTS_WEB_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "web/web.h"

enum { WAIT_MS = 20000, SEEN_MAX = 16 };

struct fixture {
  uv_loop_t loop;
  struct web *web;
  struct web_listener_config config;
  struct pf_listen_addr bound;
  bool closed;

  /* How the handlers behave */
  bool defer;             /* do not answer; the test does, with requests[] */
  bool mute;              /* do not echo messages */
  int ws_status;          /* of on_ws_open */
  const char *ws_hello;   /* sent from inside on_ws_open */
  struct pf_slice answer; /* instead of the request's body */

  /* What they saw */
  unsigned request_count, open_count, close_count, message_count;
  uint64_t requests[SEEN_MAX], sockets[SEEN_MAX], gone[SEEN_MAX]; /* the first ids */
  enum web_method method;
  struct pf_buf path, query, body, message, header, param;
  const char *ask_header, *ask_param;
  bool has_header, has_param;
};

/* Fills in defaults; the test may change config before fixture_listen(). */
void fixture_init(struct fixture *f);
void fixture_listen(struct fixture *f);
void fixture_open(struct fixture *f);  /* both, with the defaults */
void fixture_close(struct fixture *f); /* the server only */
void fixture_done(struct fixture *f);

/* Turns the loop until *what is at least count. */
void fixture_await(struct fixture *f, const unsigned *what, unsigned count);
/* Turns the loop once, and waits for its next event or timer, or for bytes at fd (-1: none). */
void fixture_turn(struct fixture *f, int fd);

int client_dial(struct fixture *f);
/* Sends all of it; false if the server has closed. */
bool client_send(struct fixture *f, int fd, const void *data, size_t len);
bool client_say(struct fixture *f, int fd, const char *text);
/* Reads exactly len bytes; false if the connection ended before. */
bool client_read(struct fixture *f, int fd, void *data, size_t len);
/* The server has closed, and sent nothing before. */
bool client_ended(struct fixture *f, int fd);

struct answer {
  int status; /* 0: the connection ended without one */
  size_t body_len;
  bool closes; /* Connection: close */
  char head[4096];
  char *body; /* NUL-terminated, to be freed */
};
/* Reads one HTTP answer. */
struct answer client_answer(struct fixture *f, int fd, bool has_body);
/* client_say and the status of the answer. */
int client_ask(struct fixture *f, int fd, const char *text);

/* Upgrades; extra are further header lines. Returns the status. */
int client_upgrade(struct fixture *f, int fd, const char *extra);
/* A masked frame. first is the first byte, as in 0x81. */
bool client_frame(struct fixture *f, int fd, unsigned char first, const void *data, size_t len);
struct frame {
  int first; /* -1: the connection ended */
  size_t len;
  char *data; /* NUL-terminated, to be freed */
};
struct frame client_read_frame(struct fixture *f, int fd);
/* Reads up to a close frame and returns its code; 0 if the connection ended without one. */
int client_close_code(struct fixture *f, int fd);

#endif
