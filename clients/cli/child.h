/* One process that is started, watched and started again: its output is forwarded line by line, the
 * line that says where it listens is understood, and it dies with its parent, however that ends.
 *
 *              start            ready line             exit
 *   CHILD_IDLE ──────► STARTING ──────────► SERVING ──────────► WAITING ──┐
 *       ▲                 ▲ │ exit: failed()                              │ delay (supervise.h)
 *       └── exit when ────┘ └─────────────────────────────────────────────┘
 *           stopping
 *
 * Threads    Everything on the loop given to child_init.
 * Ownership  The caller owns struct child and keeps it until the loop has run after child_close.
 * Ordering   Lines are forwarded in the order of each stream; exit is handled after the last line.
 * Limits     CHILD_ARGS_MAX arguments; lines longer than CHILD_LINE_MAX are forwarded in pieces. */
#ifndef CLI_CHILD_H
#define CLI_CHILD_H

#include <stdbool.h>
#include <uv.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/log.h"
#include "clients/cli/supervise.h"

#define CHILD_ARGS_MAX 192
#define CHILD_LINE_MAX 4096
#define CHILD_URLS_MAX PF_ADDR_MAX
#define CHILD_URL_TEXT (PF_ADDR_TEXT + 8)
#define CHILD_NAME_MAX 32

enum child_state { CHILD_IDLE, CHILD_STARTING, CHILD_SERVING, CHILD_WAITING };

struct child;

struct child_handlers {
  void *arg;
  void (*ready)(void *arg, struct child *child); /* each time it serves */
  void (*failed)(
      void *arg, struct child *child); /* it never served, or cannot be run: not tried again */
  void (*stopped)(void *arg, struct child *child); /* after child_stop; state is CHILD_IDLE */
};

struct child_stream { /* private */
  uv_pipe_t pipe;
  char line[CHILD_LINE_MAX];
  size_t len;
};

struct child {
  char name[CHILD_NAME_MAX];  /* what its lines are prefixed with */
  const char *program;        /* "proxyfetch-origin", found beside this program */
  char *args[CHILD_ARGS_MAX]; /* owned; args_count of them */
  size_t args_count;
  size_t listen_at; /* index of the value of --listen: a port 0 there becomes the real one */

  enum child_state state;
  char urls[CHILD_URLS_MAX][CHILD_URL_TEXT]; /* where it listens */
  size_t url_count;
  int pid;

  /* private */
  const struct child_handlers *handlers;
  const struct pf_log *log;
  struct supervise supervise;
  uv_loop_t *loop;
  uv_timer_t timer;
  uv_process_t process;
  struct child_stream out, err;
  int open_handles; /* of the present run */
  int64_t exit_code;
  int exit_signal;
  bool stopping;
};

void child_init(struct child *child, uv_loop_t *loop, const struct pf_log *log, const char *name,
    const char *program, const struct child_handlers *handlers);
/* Appends a copy of one argument. */
void child_arg(struct child *child, const char *arg);
void child_arg_pair(struct child *child, const char *option, const char *value);
/* --listen addr, remembered for restarts. */
void child_arg_listen(struct child *child, const char *addr);
void child_start(struct child *child);
/* Sends SIGTERM, and SIGKILL after grace_ms; stopped is called, from the loop or at once. */
void child_stop(struct child *child, int64_t grace_ms);
/* Only in CHILD_IDLE. Frees the arguments and closes the timer. */
void child_close(struct child *child);

/* `proxyfetch CHILD_EXEC PARENT-PID PROGRAM ARG…` becomes PROGRAM, as a process that is killed with
 * its parent and does not get the terminal's Ctrl-C (the parent passes the end on in good order).
 */
#define CHILD_EXEC "exec-child"
int child_exec(int argc, char **argv);

/* The path of a program that is installed beside this one. */
#define CHILD_PATH_MAX 4096
void child_path(char path[CHILD_PATH_MAX], const char *program);

#endif
