#include "clients/measure/load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/json.h"

#define SUM_TOLERANCE_MS 0.05
#define TIMING_CONNECT 5
#define TIMING_TOTAL (MESSAGE_TIMINGS - 1)

/* FNV-1a (Fowler, Noll, Vo): enough to see that two ids differ, without keeping them. */
static uint64_t hash_id(struct pf_slice id) {
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < id.len; i++)
    hash = (hash ^ (unsigned char)id.data[i]) * 0x100000001b3;
  return hash;
}

static void fault(struct load *load, int64_t *counter, const char *what, struct pf_slice id,
    struct pf_slice detail) {
  ++*counter;
  if (load->faults.first[0]) return;
  int id_len = id.len < 64 ? (int)id.len : 64, len = detail.len < 300 ? (int)detail.len : 300;
  snprintf(load->faults.first, sizeof(load->faults.first), "%s%s%.*s%s%.*s", what,
      id_len ? ", clientId " : "", id_len, id_len ? id.data : "", len ? ": " : "", len,
      len ? detail.data : "");
}

static const struct pf_slice none = {"", 0};

static void fetch_fault(struct load *load, struct load_fetch *fetch, int64_t *counter,
    const char *what, const struct message *m) {
  if (fetch->bad) return;
  fetch->bad = true;
  fault(load, counter, what, m->client_id, m->error);
}

static void frame_prepare(struct load *load) {
  pf_buf_init(&load->frame, 1 << 20);
  struct json_writer w = json_writer(&load->frame);
  json_begin_object(&w, NULL);
  json_put_text(&w, "type", "start-fetch");
  json_put_text(&w, "url", load->plan.url);
  if (load->plan.timings) {
    json_begin_array(&w, "include");
    json_put_text(&w, NULL, "timings");
    json_end_array(&w);
  }
  pf_buf_printf(&load->frame, ",\"clientId\":\"%d-", load->plan.tag);
  PF_ASSERT(load->frame.err == PF_OK);
  load->frame_head = load->frame.len;
}

static void send_frame(struct load *load, int64_t index) {
  const char *key = load->plan.submit_key;
  load->frame.len = load->frame_head;
  if (key)
    pf_buf_printf(&load->frame, "%lld\",\"submitKey\":\"%s-%d-%lld\"}", (long long)index, key,
        load->plan.tag, (long long)index);
  else
    pf_buf_printf(&load->frame, "%lld\"}", (long long)index);
  load->plan.send(load->plan.arg, pf_buf_view(&load->frame));
}

static void send_one(struct load *load, int64_t now_ns) {
  int64_t index = load->sent++;
  load->fetches[index].state = LOAD_SENT;
  load->fetches[index].sent_ns = now_ns;
  send_frame(load, index);
}

static void send_again(struct load *load, enum load_state state) {
  PF_ASSERT(load->plan.submit_key);
  for (int64_t i = 0; i < load->sent; i++) {
    struct load_fetch *fetch = &load->fetches[i];
    if (fetch->state != state) continue;
    fetch->state = LOAD_SENT;
    fetch->enqueued_ns = 0;
    fetch->resent = true;
    send_frame(load, i);
  }
}

void load_resend(struct load *load) {
  load->broke_at = load->sent;
  send_again(load, LOAD_SENT);
}

void load_check_owed(struct load *load, int64_t most) {
  int64_t waited_for = 0;
  for (int64_t i = 0; i < load->sent; i++)
    waited_for += load->fetches[i].state == LOAD_ENQUEUED;
  if (waited_for > most) send_again(load, LOAD_ENQUEUED);
}

void load_begin(struct load *load, const struct load_plan *plan, int64_t now_ns) {
  PF_ASSERT(plan->iterations > 0 && plan->iterations <= LOAD_ITERATIONS_MAX);
  PF_ASSERT(plan->concurrency > 0 && plan->concurrency <= LOAD_CONCURRENCY_MAX);
  *load = (struct load){.plan = *plan, .begin_ns = now_ns, .progress_ns = now_ns};
  load->fetches = pf_alloc((size_t)plan->iterations * sizeof(*load->fetches));
  if (plan->timings)
    load->timings = pf_alloc((size_t)plan->iterations * MESSAGE_TIMINGS * sizeof(float));
  frame_prepare(load);
  while (load->sent < plan->concurrency && load->sent < plan->iterations)
    send_one(load, now_ns);
}

/* The fetch that a clientId "TAG-INDEX" names, or NULL. */
static struct load_fetch *fetch_of(struct load *load, struct pf_slice id) {
  int64_t tag = 0, index = 0;
  size_t i = 0;
  for (; i < id.len && i < 10 && id.data[i] >= '0' && id.data[i] <= '9'; i++)
    tag = tag * 10 + (id.data[i] - '0');
  if (i == 0 || i == id.len || id.data[i++] != '-' || tag != load->plan.tag) return NULL;
  if (i == id.len || id.len - i > 10) return NULL;
  for (; i < id.len; i++) {
    if (id.data[i] < '0' || id.data[i] > '9') return NULL;
    index = index * 10 + (id.data[i] - '0');
  }
  return index < load->sent ? &load->fetches[index] : NULL;
}

static void on_enqueued(
    struct load *load, struct load_fetch *fetch, const struct message *m, int64_t now_ns) {
  if (fetch->state == LOAD_SENT) {
    fetch->state = LOAD_ENQUEUED;
    fetch->enqueued_ns = now_ns;
    fetch->enqueue_ms = (float)m->enqueue_ms;
    fetch->req_hash = hash_id(m->req_id);
  } else if (!fetch->enqueued_ns) {
    return; /* the result that came too early has been counted */
  } else if (fetch->state == LOAD_DONE && !fetch->resent) {
    fetch_fault(load, fetch, &load->faults.repeated, "enqueued again after the result", m);
  } else if (!fetch->resent && fetch - load->fetches >= load->broke_at) {
    fetch_fault(load, fetch, &load->faults.repeated, "a second enqueued", m);
  } else if (fetch->req_hash != hash_id(m->req_id)) {
    fetch_fault(load, fetch, &load->faults.other_id, "enqueued again under another reqId", m);
  }
}

bool load_timings_add_up(const double timings[MESSAGE_TIMINGS]) {
  double sum = 0;
  for (int i = 0; i < TIMING_TOTAL; i++)
    if (timings[i] > 0) sum += timings[i];
  return fabs(sum - timings[TIMING_TOTAL]) <= SUM_TOLERANCE_MS;
}

static void keep_timings(struct load *load, const struct message *m) {
  if (!load->timings || !m->has_timings) return;
  float *to = load->timings + load->timings_count++ * MESSAGE_TIMINGS;
  for (int i = 0; i < MESSAGE_TIMINGS; i++)
    to[i] = (float)m->timings[i];
  load->sums_wrong += !load_timings_add_up(m->timings);
  load->reused += m->timings[TIMING_CONNECT] <= 0;
}

static void on_result(
    struct load *load, struct load_fetch *fetch, const struct message *m, int64_t now_ns) {
  if (fetch->state == LOAD_DONE) {
    if (!fetch->resent) fetch_fault(load, fetch, &load->faults.repeated, "a second result", m);
    return;
  }
  if (!m->success)
    fetch_fault(load, fetch, &load->faults.failed, "a failed fetch", m);
  else if (fetch->state == LOAD_SENT && !fetch->resent)
    fetch_fault(load, fetch, &load->faults.out_of_order, "a result before its enqueued", m);
  else if (fetch->state != LOAD_SENT && fetch->req_hash != hash_id(m->req_id))
    fetch_fault(load, fetch, &load->faults.other_id, "a result under another reqId", m);
  fetch->state = LOAD_DONE;
  fetch->result_ns = now_ns;
  fetch->duration_ms = (float)m->duration_ms;
  keep_timings(load, m);
  load->ended++;
  load->progress_ns = load->end_ns = now_ns;
  int64_t send_ns = load->plan.send_ms * 1000000;
  if (send_ns && now_ns - load->begin_ns > send_ns) load->plan.iterations = load->sent;
  if (load->sent < load->plan.iterations) send_one(load, now_ns);
}

void load_on_message(struct load *load, const struct message *m, int64_t now_ns) {
  if (m->type == MESSAGE_OTHER || m->type == MESSAGE_PONG || m->type == MESSAGE_SESSION) return;
  struct load_fetch *fetch = fetch_of(load, m->client_id);
  if (fetch && m->type == MESSAGE_ENQUEUED) {
    on_enqueued(load, fetch, m, now_ns);
  } else if (fetch && m->type == MESSAGE_RESULT) {
    on_result(load, fetch, m, now_ns);
  } else if (fetch && m->type == MESSAGE_ERROR && fetch->state != LOAD_DONE) {
    /* Refused: no result will follow. */
    struct message failed = *m;
    failed.success = false;
    on_result(load, fetch, &failed, now_ns);
  } else {
    fault(
        load, &load->faults.strange, "a message that belongs to no fetch", m->client_id, m->error);
  }
}

void load_on_garbage(struct load *load, const char *why) {
  fault(load, &load->faults.strange, why, none, none);
}

bool load_ended(const struct load *load) {
  return load->ended == load->plan.iterations;
}

void load_abandon(struct load *load, int64_t now_ns) {
  if (load_ended(load)) return;
  char what[64];
  int64_t missing = load->plan.iterations - load->ended;
  snprintf(what, sizeof(what), "%lld fetches without a result", (long long)missing);
  fault(load, &load->faults.missing, what, none, none);
  load->faults.missing = missing;
  load->ended = load->plan.iterations;
  load->end_ns = now_ns;
}

void load_done(struct load *load) {
  free(load->fetches);
  free(load->timings);
  load->fetches = NULL;
  load->timings = NULL;
  pf_buf_done(&load->frame);
}

int64_t load_faults_sum(const struct load_faults *f) {
  return f->failed + f->missing + f->out_of_order + f->repeated + f->other_id + f->strange;
}
