#include "clients/cli/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"

void child_path(char path[CHILD_PATH_MAX], const char *program) {
  ssize_t len = readlink("/proc/self/exe", path, CHILD_PATH_MAX - 1);
  PF_ASSERT(len > 0);
  path[len] = '\0';
  char *slash = strrchr(path, '/');
  PF_ASSERT(slash && (size_t)(slash + 1 - path) + strlen(program) < CHILD_PATH_MAX);
  memcpy(slash + 1, program, strlen(program) + 1);
}

int child_exec(int argc, char **argv) {
  if (argc < 3) return PF_EXIT_USAGE;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  /* The parent may have died before the line above: then nobody would ever end us. */
  if (getppid() != (pid_t)strtol(argv[1], NULL, 10)) return PF_EXIT_START;
  setpgid(0, 0);
  execv(argv[2], argv + 2);
  fprintf(stderr, "cannot run %s: %s\n", argv[2], strerror(errno));
  return PF_EXIT_START;
}

void child_init(struct child *child, uv_loop_t *loop, const struct pf_log *log, const char *name,
    const char *program, const struct child_handlers *handlers) {
  *child = (struct child){.program = program, .loop = loop, .log = log, .handlers = handlers};
  snprintf(child->name, sizeof(child->name), "%s", name);
  PF_ASSERT(uv_timer_init(loop, &child->timer) == 0);
  child->timer.data = child;
}

void child_arg(struct child *child, const char *arg) {
  PF_ASSERT(child->args_count < CHILD_ARGS_MAX);
  child->args[child->args_count++] = pf_strdup(arg);
}

void child_arg_pair(struct child *child, const char *option, const char *value) {
  child_arg(child, option);
  child_arg(child, value);
}

void child_arg_listen(struct child *child, const char *addr) {
  child_arg_pair(child, "--listen", addr);
  child->listen_at = child->args_count - 1;
}

/* ---- output ---- */

static void line_forward(const struct child *child, const char *line, size_t len) {
  char text[CHILD_LINE_MAX + CHILD_NAME_MAX + 8];
  int total = snprintf(text, sizeof(text), "%-14s | %.*s\n", child->name, (int)len, line);
  /* A terminal that has gone is no reason to stop the system. */
  ssize_t written = write(STDERR_FILENO, text, (size_t)total);
  (void)written;
}

/* Writes the real port over a 0, so that a restart listens where the others know it. */
static void listen_remember(struct child *child) {
  const char *port = strrchr(child->urls[0], ':');
  char **addr = &child->args[child->listen_at];
  const char *host_end = strrchr(*addr, ':');
  if (!port || !host_end) return;
  char text[PF_ADDR_TEXT * 2];
  snprintf(text, sizeof(text), "%.*s%s", (int)(host_end - *addr), *addr, port);
  free(*addr);
  *addr = pf_strdup(text);
}

/* "proxyfetch-origin listening on http://127.0.0.1:8787 http://[::1]:8787" */
static bool line_is_ready(struct child *child, const char *line) {
  size_t len = strlen(child->program);
  static const char verb[] = " listening on ";
  if (child->state != CHILD_STARTING || strncmp(line, child->program, len) != 0 ||
      strncmp(line + len, verb, sizeof(verb) - 1) != 0)
    return false;
  child->url_count = 0;
  const char *at = line + len + sizeof(verb) - 1;
  while (*at && child->url_count < CHILD_URLS_MAX) {
    size_t url_len = strcspn(at, " ");
    if (url_len && url_len < CHILD_URL_TEXT)
      snprintf(child->urls[child->url_count++], CHILD_URL_TEXT, "%.*s", (int)url_len, at);
    at += url_len + strspn(at + url_len, " ");
  }
  return child->url_count > 0;
}

static void stream_line(struct child *child, struct child_stream *stream) {
  size_t len = stream->len;
  stream->len = 0;
  stream->line[len] = '\0';
  if (stream == &child->out && line_is_ready(child, stream->line)) {
    child->state = CHILD_SERVING;
    supervise_on_ready(&child->supervise, pf_clock_mono_ms());
    listen_remember(child);
    child->handlers->ready(child->handlers->arg, child);
  } else {
    line_forward(child, stream->line, len);
  }
}

static void stream_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  (void)suggested;
  struct child *child = handle->data;
  struct child_stream *stream =
      handle == (uv_handle_t *)&child->out.pipe ? &child->out : &child->err;
  *buf = uv_buf_init(stream->line + stream->len, (unsigned)(CHILD_LINE_MAX - 1 - stream->len));
}

static void child_on_handle_closed(uv_handle_t *handle);

static void stream_on_read(uv_stream_t *pipe, ssize_t count, const uv_buf_t *buf) {
  (void)buf;
  struct child *child = pipe->data;
  struct child_stream *stream = pipe == (uv_stream_t *)&child->out.pipe ? &child->out : &child->err;
  if (count < 0) {
    if (stream->len) stream_line(child, stream);
    uv_close((uv_handle_t *)pipe, child_on_handle_closed);
    return;
  }
  size_t end = stream->len + (size_t)count, start = 0;
  char text[CHILD_LINE_MAX];
  memcpy(text, stream->line, end);
  for (size_t i = stream->len; i < end; i++) {
    if (text[i] != '\n') continue;
    memcpy(stream->line, text + start, i - start);
    stream->len = i - start;
    stream_line(child, stream);
    start = i + 1;
  }
  memcpy(stream->line, text + start, end - start);
  stream->len = end - start;
  if (stream->len == CHILD_LINE_MAX - 1) stream_line(child, stream);
}

/* ---- life ---- */

static void child_on_delay_over(uv_timer_t *timer) {
  child_start(timer->data);
}

/* The process has ended and all that it wrote has been forwarded. */
static void child_gone(struct child *child) {
  child->pid = 0;
  uv_timer_stop(&child->timer);
  if (child->stopping) {
    child->state = CHILD_IDLE;
    child->handlers->stopped(child->handlers->arg, child);
    return;
  }
  int64_t delay_ms = supervise_on_exited(&child->supervise, pf_clock_mono_ms());
  if (delay_ms < 0) {
    child->state = CHILD_IDLE;
    child->handlers->failed(child->handlers->arg, child);
    return;
  }
  pf_log(child->log, PF_LOG_WARN, "child_died", "name=%s exit_code=%d signal=%d restart_ms=%d",
      child->name, (int)child->exit_code, child->exit_signal, (int)delay_ms);
  child->state = CHILD_WAITING;
  PF_ASSERT(uv_timer_start(&child->timer, child_on_delay_over, (uint64_t)delay_ms, 0) == 0);
}

static void child_on_handle_closed(uv_handle_t *handle) {
  struct child *child = handle->data;
  PF_ASSERT(child->open_handles > 0);
  if (--child->open_handles == 0) child_gone(child);
}

static void child_on_exit(uv_process_t *process, int64_t code, int signum) {
  struct child *child = process->data;
  child->exit_code = code;
  child->exit_signal = signum;
  uv_close((uv_handle_t *)process, child_on_handle_closed);
}

static void stream_open(struct child *child, struct child_stream *stream) {
  PF_ASSERT(uv_pipe_init(child->loop, &stream->pipe, 0) == 0);
  stream->pipe.data = child;
  stream->len = 0;
  child->open_handles++;
}

void child_start(struct child *child) {
  PF_ASSERT(child->state == CHILD_IDLE || child->state == CHILD_WAITING);
  PF_ASSERT(child->open_handles == 0);
  child->state = CHILD_STARTING;
  supervise_on_started(&child->supervise);

  char self[CHILD_PATH_MAX], path[CHILD_PATH_MAX], parent[16];
  child_path(self, "proxyfetch");
  child_path(path, child->program);
  snprintf(parent, sizeof(parent), "%d", (int)getpid());
  char *argv[CHILD_ARGS_MAX + 5] = {self, CHILD_EXEC, parent, path};
  memcpy(argv + 4, child->args, child->args_count * sizeof(*argv));

  stream_open(child, &child->out);
  stream_open(child, &child->err);
  uv_stdio_container_t stdio[] = {
      {.flags = UV_IGNORE},
      {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->out.pipe},
      {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->err.pipe},
  };
  uv_process_options_t options = {
      .exit_cb = child_on_exit, .file = self, .args = argv, .stdio = stdio, .stdio_count = 3};
  child->process.data = child;
  child->open_handles++;
  int err = uv_spawn(child->loop, &child->process, &options);
  if (err) { /* no memory or no process slot left: like a child that died at once */
    child->exit_code = PF_EXIT_START;
    child->exit_signal = 0;
    pf_log(child->log, PF_LOG_ERROR, "spawn_failed", "name=%s reason=\"%s\"", child->name,
        uv_strerror(err));
    uv_close((uv_handle_t *)&child->process, child_on_handle_closed);
    uv_close((uv_handle_t *)&child->out.pipe, child_on_handle_closed);
    uv_close((uv_handle_t *)&child->err.pipe, child_on_handle_closed);
    return;
  }
  child->pid = uv_process_get_pid(&child->process);
  PF_ASSERT(uv_read_start((uv_stream_t *)&child->out.pipe, stream_on_alloc, stream_on_read) == 0);
  PF_ASSERT(uv_read_start((uv_stream_t *)&child->err.pipe, stream_on_alloc, stream_on_read) == 0);
}

static void child_on_grace_over(uv_timer_t *timer) {
  struct child *child = timer->data;
  pf_log(child->log, PF_LOG_WARN, "child_killed", "name=%s reason=\"did not stop in time\"",
      child->name);
  uv_process_kill(&child->process, SIGKILL);
}

void child_stop(struct child *child, int64_t grace_ms) {
  if (child->stopping) return;
  child->stopping = true;
  if (child->open_handles == 0) { /* not running */
    uv_timer_stop(&child->timer);
    child->state = CHILD_IDLE;
    child->handlers->stopped(child->handlers->arg, child);
    return;
  }
  uv_process_kill(&child->process, SIGTERM); /* ESRCH: it has just ended */
  PF_ASSERT(uv_timer_start(&child->timer, child_on_grace_over, (uint64_t)grace_ms, 0) == 0);
}

void child_close(struct child *child) {
  PF_ASSERT(child->state == CHILD_IDLE && child->open_handles == 0);
  for (size_t i = 0; i < child->args_count; i++)
    free(child->args[i]);
  child->args_count = 0;
  uv_close((uv_handle_t *)&child->timer, NULL);
}
