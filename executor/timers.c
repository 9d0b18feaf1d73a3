#include "executor/timers.h"

#include "base/clock.h"
#include "base/err.h"

static void timers_arm(struct timers *timers);

static void timers_on_uv(uv_timer_t *uv) {
  struct timers *timers = uv->data;
  int64_t now_ms = pf_clock_mono_ms();
  struct pf_heap_node *node;
  while ((node = pf_heap_first(&timers->heap)) != NULL && node->key <= now_ms) {
    struct timer *timer = pf_container_of(node, struct timer, node);
    pf_heap_del(&timers->heap, node);
    timer->fire(timer); /* timer may be gone, or set again */
  }
  timers->armed_at_ms = INT64_MAX;
  timers_arm(timers);
}

/* Most timers are moved on before they fire, so uv is only told of a deadline that comes earlier;
 * if it fires too early, there is simply nothing to do yet. */
static void timers_arm(struct timers *timers) {
  struct pf_heap_node *first = pf_heap_first(&timers->heap);
  if (!first || first->key >= timers->armed_at_ms) return;
  int64_t wait_ms = first->key - pf_clock_mono_ms();
  timers->armed_at_ms = first->key;
  uv_update_time(timers->uv.loop);
  uv_timer_start(&timers->uv, timers_on_uv, wait_ms > 0 ? (uint64_t)wait_ms : 0, 0);
}

void timers_open(struct timers *timers, uv_loop_t *loop) {
  *timers = (struct timers){.armed_at_ms = INT64_MAX};
  pf_heap_init(&timers->heap);
  int err = uv_timer_init(loop, &timers->uv);
  PF_ASSERT(err == 0);
  timers->uv.data = timers;
  uv_unref((uv_handle_t *)&timers->uv); /* deadlines alone keep no process alive */
}

void timer_set(struct timers *timers, struct timer *timer, int64_t at_ms) {
  PF_ASSERT(timer->fire);
  pf_heap_set(&timers->heap, &timer->node, at_ms);
  timers_arm(timers);
}

void timer_stop(struct timers *timers, struct timer *timer) {
  pf_heap_del(&timers->heap, &timer->node);
}

static void timers_on_closed(uv_handle_t *handle) {
  struct timers *timers = handle->data;
  timers->closed(timers->arg);
}

void timers_close(struct timers *timers, void (*closed)(void *arg), void *arg) {
  PF_ASSERT(!pf_heap_first(&timers->heap));
  pf_heap_done(&timers->heap);
  timers->closed = closed;
  timers->arg = arg;
  uv_close((uv_handle_t *)&timers->uv, timers_on_closed);
}
