#include "loop/signals.h"

#include <signal.h>
#include <unistd.h>

#include "loop/check.h"

static void signals_on_signal(uv_signal_t *handle, int signum) {
  struct pf_signals *signals = handle->data;
  if (signals->draining) _exit(128 + signum); /* as a shell reports an end by signal */
  signals->draining = true;
  signals->drain(signals->arg);
}

static void signals_watch(
    struct pf_signals *signals, uv_loop_t *loop, uv_signal_t *handle, int signum) {
  int err = uv_signal_init(loop, handle);
  handle->data = signals;
  if (!err) err = uv_signal_start(handle, signals_on_signal, signum);
  pf_loop_check(err);
  uv_unref((uv_handle_t *)handle);
}

void pf_signals_open(
    struct pf_signals *signals, uv_loop_t *loop, void (*drain)(void *arg), void *arg) {
  *signals = (struct pf_signals){.drain = drain, .arg = arg};
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  signals_watch(signals, loop, &signals->term, SIGTERM);
  signals_watch(signals, loop, &signals->intr, SIGINT);
}

void pf_signals_close(struct pf_signals *signals) {
  uv_close((uv_handle_t *)&signals->term, NULL);
  uv_close((uv_handle_t *)&signals->intr, NULL);
}
