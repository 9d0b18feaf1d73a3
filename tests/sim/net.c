/* Calls between the nodes: lost, doubled, late, out of order, cut off. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "wire/batch.h"

#define ANSWER_BITS 8 /* of a request's id: which copy of it */

int64_t sim_delay_us(struct sim *sim) {
  int64_t us = sim_between(sim, 50, 2000);
  if (sim_chance(sim, sim->faults.slow)) us += sim_between(sim, 0, sim->faults.slow_ms) * SIM_MS;
  return us;
}

static bool net_lost(struct sim *sim, enum sim_node from, enum sim_node to) {
  return sim->cut_until_us[from][to] > sim->now_us || sim_chance(sim, sim->faults.lose);
}

static struct sim_call *call_find(struct sim *sim, uint64_t id) {
  PF_LIST_EACH(it, &sim->calls) {
    struct sim_call *call = pf_container_of(it, struct sim_call, link);
    if (call->id == id) return call;
  }
  return NULL;
}

static void call_finish(struct sim *sim, struct sim_call *call, struct pf_slice answer) {
  pf_list_del(&call->link);
  call->done(sim, call, answer);
  free(call);
}

static void call_timed_out(struct sim *sim, struct sim_event *event) {
  struct sim_call *call = call_find(sim, event->a);
  if (call) call_finish(sim, call, (struct pf_slice){0});
}

static void answer_arrives(struct sim *sim, struct sim_event *event) {
  struct sim_call *call = call_find(sim, event->a);
  if (call) call_finish(sim, call, pf_slice(event->bytes, event->len));
}

static void request_arrives(struct sim *sim, struct sim_event *event) {
  enum sim_path path = (enum sim_path)event->b;
  struct pf_slice batch = pf_slice(event->bytes, event->len);
  if (event->at == NODE_QUEUE)
    queue_serve(sim, path, event->a, batch);
  else if (event->at == NODE_ORIGIN)
    origin_serve(sim, path, event->a, batch);
  else
    executor_serve(sim, event->at, event->a, batch);
}

void sim_send(struct sim *sim, enum sim_node from, enum sim_node to, enum sim_path path,
    int64_t timeout_ms, const struct pf_buf *batch,
    void (*done)(struct sim *sim, struct sim_call *call, struct pf_slice answer), const void *what,
    size_t len) {
  PF_ASSERT(!batch->err);
  struct sim_call *call = pf_alloc(sizeof(*call) + len);
  call->id = ++sim->next_id;
  call->from = from;
  call->life = sim->nodes[from].life;
  call->path = path;
  call->done = done;
  call->len = len;
  if (len) memcpy(call->what, what, len);
  pf_list_push(&sim->calls, &call->link);
  unsigned copies = 1 + sim_chance(sim, sim->faults.twice);
  for (unsigned i = 0; i < copies; i++)
    if (!net_lost(sim, from, to))
      sim_after_bytes(sim, to, true, sim_delay_us(sim), request_arrives,
          call->id << ANSWER_BITS | i, (uint64_t)path, pf_buf_view(batch));
  sim_after(sim, from, timeout_ms * SIM_MS, call_timed_out, call->id, 0);
}

void sim_answer(struct sim *sim, enum sim_node at, uint64_t request, struct pf_slice answer) {
  struct sim_call *call = call_find(sim, request >> ANSWER_BITS);
  if (!call || net_lost(sim, at, call->from)) return;
  sim_after_bytes(sim, call->from, false, sim_delay_us(sim), answer_arrives, call->id, 0, answer);
}

void sim_forget_calls(struct sim *sim, enum sim_node from) {
  PF_LIST_EACH(it, &sim->calls) {
    struct sim_call *call = pf_container_of(it, struct sim_call, link);
    if (call->from != from) continue;
    pf_list_del(&call->link);
    free(call);
  }
}

void sim_batch(struct pf_buf *batch, const struct pf_buf *head, const struct pf_buf *item,
    struct pf_slice body) {
  batch_append(batch, pf_buf_view(head), (struct pf_slice){0});
  batch_append(batch, pf_buf_view(item), body);
}

bool sim_read(struct pf_slice answer, struct pf_slice *ret_head, struct pf_slice *ret_head_body,
    struct pf_slice *ret_item, struct pf_slice *ret_body) {
  if (!answer.data) return false;
  struct batch_reader reader = batch_reader(answer);
  return batch_next(&reader, ret_head, ret_head_body) == PF_OK &&
         batch_next(&reader, ret_item, ret_body) == PF_OK;
}
