/* SIGTERM and SIGINT: the first asks the program to drain and end, the second ends it at once.
 * SIGPIPE and SIGXFSZ are ignored: a peer that left, or a file at its limit (RLIMIT_FSIZE), is an
 * error of one write, which whoever writes reports in its own words.
 *
 * Threads    The loop's.
 * Ownership  The caller owns struct pf_signals and keeps it until the loop has run after
 *            pf_signals_close.
 * Ordering   drain is called once, from the loop.
 * Limits     The handles do not keep the loop alive, so a program that has closed everything else
 *            leaves uv_run, and a second signal works until then:
 *
 *              uv_run(&loop, UV_RUN_DEFAULT);
 *              pf_signals_close(&signals);
 *              uv_run(&loop, UV_RUN_DEFAULT);
 *              PF_ASSERT(uv_loop_close(&loop) == 0); */
#ifndef PF_LOOP_SIGNALS_H
#define PF_LOOP_SIGNALS_H

#include <stdbool.h>
#include <uv.h>

struct pf_signals {
  uv_signal_t term, intr;
  bool draining;
  void (*drain)(void *arg);
  void *arg;
};

void pf_signals_open(
    struct pf_signals *signals, uv_loop_t *loop, void (*drain)(void *arg), void *arg);
void pf_signals_close(struct pf_signals *signals);

#endif
