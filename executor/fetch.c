#include "executor/fetch.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/clock.h"
#include "executor/fetch_private.h"

#define HANDLES_KEPT 1024 /* each has a buffer of 16 KiB */

/* ---- handles ---- */

static struct handle *handle_take(struct fetch_engine *e) {
  struct pf_list *link = pf_list_pop(&e->idle);
  if (link) {
    e->idle_count--;
    return pf_container_of(link, struct handle, link);
  }
  struct handle *h = pf_alloc(sizeof(*h));
  h->easy = curl_easy_init();
  PF_ASSERT(h->easy);
  return h;
}

static void handle_free(struct handle *h) {
  curl_easy_cleanup(h->easy);
  free(h);
}

/* The first multi with room, so that few transfers share few multis and their connections. */
static struct shard *shard_take(struct fetch_engine *e) {
  struct shard *best = &e->shards[0];
  for (unsigned i = 0; i < e->shard_count && best->active >= FETCH_PER_MULTI; i++)
    if (e->shards[i].active < best->active) best = &e->shards[i];
  best->active++;
  return best;
}

/* The handle is in no multi any more. */
static void handle_return(struct fetch *f) {
  struct handle *h = f->handle;
  exchange_reset(f);
  h->shard->active--;
  h->shard = NULL;
  f->handle = NULL;
  if (f->engine->idle_count == HANDLES_KEPT) {
    handle_free(h);
    return;
  }
  f->engine->idle_count++;
  pf_list_push_front(&f->engine->idle, &h->link);
}

/* ---- the end of a fetch ---- */

static enum certainty fetch_certainty(const struct fetch *f, enum outcome outcome, bool sent) {
  if (outcome == OUTCOME_OK || (outcome == OUTCOME_REDIRECT_REFUSED && f->headers_complete))
    return CERTAINTY_ANSWERED;
  if (f->status) return CERTAINTY_ANSWERED_PARTIAL;
  return sent || f->sent_before ? CERTAINTY_SENT_UNKNOWN : CERTAINTY_NOT_SENT;
}

/* Not from inside a callback of libcurl; the handle is in no multi any more. */
static void fetch_end(struct fetch *f, enum outcome outcome, const char *detail) {
  bool sent = false;
  if (f->handle) {
    sent = exchange_sent(f);
    handle_return(f);
  }
  timer_stop(&f->engine->timers, &f->timer);
  f->state = FETCH_IDLE;
  f->outcome = outcome;
  f->certainty = fetch_certainty(f, outcome, sent);
  if (outcome != OUTCOME_OK && f->error[0] == '\0') {
    if (detail && detail[0])
      snprintf(f->error, sizeof(f->error), "%s: %.*s", outcome_text(outcome), 300, detail);
    else
      snprintf(f->error, sizeof(f->error), "%s", outcome_text(outcome));
  }
  f->done(f); /* f may be gone */
}

/* Says it in the words of a check that has already named the cause. */
static void fetch_refuse(struct fetch *f, enum outcome outcome, const char *text) {
  snprintf(f->error, sizeof(f->error), "%s", text);
  fetch_end(f, outcome, NULL);
}

/* ---- budgets ---- */

/* The timer is set once per hop and moved when it fires, not at each step of a transfer. */
static void fetch_on_deadline(struct timer *timer) {
  struct fetch *f = pf_container_of(timer, struct fetch, timer);
  const struct fetch_limits *limits = &f->engine->config.limits;
  int64_t now_ms = pf_clock_mono_ms(), next_ms = f->attempt_at_ms, stage_ms = f->stage_ns / 1000000;
  enum outcome outcome = f->status || f->state == FETCH_BODY ? OUTCOME_TIMEOUT_ATTEMPT
                         : f->state == FETCH_SENT            ? OUTCOME_TIMEOUT_FIRST_BYTE
                         : f->state == FETCH_DIALING         ? OUTCOME_CONNECT_TIMEOUT
                                                             : OUTCOME_DNS_TIMEOUT;
  int64_t step_ms = f->state == FETCH_RESOLVING ? stage_ms + limits->dns_ms
                    : f->state == FETCH_DIALING ? stage_ms + limits->connect_ms
                    : f->state == FETCH_BODY    ? f->active_at_ms + limits->idle_ms
                                                : INT64_MAX;
  if (step_ms < next_ms) {
    next_ms = step_ms;
    if (f->state == FETCH_BODY) outcome = OUTCOME_TIMEOUT_IDLE;
  }
  if (now_ms < next_ms) {
    timer_set(&f->engine->timers, &f->timer, next_ms);
    return;
  }
  if (f->handle) {
    http_multi_remove(&f->handle->shard->multi, f->handle->easy);
    exchange_measure(f);
  } else if (f->state == FETCH_RESOLVING) {
    dns_cancel(f->engine->dns, &f->dns_wait);
  }
  fetch_end(f, outcome, NULL);
}

static void stage_enter(struct fetch *f, enum fetch_state state, int64_t budget_ms) {
  f->state = state;
  f->stage_ns = pf_clock_mono_ns();
  int64_t at_ms = f->stage_ns / 1000000 + budget_ms;
  timer_set(&f->engine->timers, &f->timer, at_ms < f->attempt_at_ms ? at_ms : f->attempt_at_ms);
}

/* ---- one hop ---- */

/* True if libcurl has to be told the answer: its multi may not know it yet for this port. */
static bool answer_is_news(struct dns_answer *answer, const struct fetch *f) {
  uint64_t bit = (uint64_t)1 << f->handle->shard->index;
  if (answer->loaded_port == 0) answer->loaded_port = f->target.port;
  if (answer->loaded_port != f->target.port) return true;
  bool known = answer->loaded & bit;
  answer->loaded |= bit;
  return !known;
}

static void hop_dial(struct fetch *f, struct dns_answer *answer) {
  f->handle = handle_take(f->engine);
  f->handle->shard = shard_take(f->engine);
  exchange_prepare(f, answer && answer_is_news(answer, f) ? answer : NULL);
  stage_enter(f, FETCH_DIALING, f->engine->config.limits.connect_ms);
  http_multi_add(&f->handle->shard->multi, f->handle->easy);
}

/* Some networks mix real and private addresses of one name: dial the allowed ones, if any. */
static bool answer_allowed(struct fetch *f, const struct dns_answer *answer) {
  for (unsigned i = 0; i < answer->count; i++) {
    struct sockaddr_storage addr = answer->addrs[i];
    pf_sockaddr_set_port((struct sockaddr *)&addr, f->target.port);
    if (egress_check(f->engine->config.rules, (struct sockaddr *)&addr, f->reason)) return true;
  }
  return false;
}

static void hop_resolved(struct fetch *f, struct dns_answer *answer) {
  f->timings.dns += (double)(pf_clock_mono_ns() - f->stage_ns) / 1e6;
  if (answer->failed) {
    const char *why = answer->failed == EAI_SYSTEM ? "the system's resolver failed"
                                                   : gai_strerror(answer->failed);
    fetch_end(f, OUTCOME_DNS_FAILED, why);
  } else if (!answer_allowed(f, answer)) {
    fetch_refuse(f, OUTCOME_POLICY_REFUSED, f->reason);
  } else {
    hop_dial(f, answer);
  }
}

static void hop_on_resolved(struct dns_wait *wait, struct dns_answer *answer) {
  hop_resolved(pf_container_of(wait, struct fetch, dns_wait), answer);
}

static void hop_start(struct fetch *f) {
  f->sends = 0;
  f->status = 0;
  f->header_bytes = 0;
  f->header_count = 0;
  f->response_length = 0;
  f->headers_complete = f->encoded = f->dialed = f->follows = false;
  f->reason[0] = '\0';
  if (!f->target.needs_lookup) {
    hop_dial(f, NULL);
    return;
  }
  stage_enter(f, FETCH_RESOLVING, f->engine->config.limits.dns_ms);
  f->dns_wait.done = hop_on_resolved;
  struct dns_answer *answer = dns_resolve(f->engine->dns, f->target.host, &f->dns_wait);
  if (answer) hop_resolved(f, answer);
}

/* The answer is a redirect, complete, and to be followed. */
static void hop_redirect(struct fetch *f) {
  struct pf_error why = {0};
  int status = f->status;
  if (f->hops == REDIRECT_MAX) {
    fetch_end(f, OUTCOME_REDIRECT_LIMIT, "");
    return;
  }
  if (redirect_follow(&f->request, &f->target, status, f->location, f->arena, &why)) {
    fetch_refuse(f, OUTCOME_BAD_URL, why.text);
    return;
  }
  f->hops++;
  f->sent_before = true;
  handle_return(f);
  hop_start(f);
}

static void engine_on_done(void *arg, CURL *easy, CURLcode result) {
  (void)arg;
  char *priv;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &priv);
  struct fetch *f = (struct fetch *)(void *)priv;
  exchange_measure(f);
  enum outcome outcome = exchange_outcome(f, result);
  if (outcome == OUTCOME_OK && f->follows) {
    hop_redirect(f);
    return;
  }
  if (outcome == OUTCOME_OK && redirect_status(f->status) &&
      f->request.redirect == WIRE_REDIRECT_ERROR)
    outcome = OUTCOME_REDIRECT_REFUSED;
  if (outcome == OUTCOME_OK) {
    curl_off_t seconds = 0;
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds);
    /* The target may name any time; the queue takes one that a deadline can reach. */
    f->retry_after_ms = seconds < WIRE_DEADLINE_MS_MAX / 1000 ? (int64_t)seconds * 1000
                                                              : (int64_t)WIRE_DEADLINE_MS_MAX;
  }
  if (outcome == OUTCOME_POLICY_REFUSED)
    fetch_refuse(f, outcome, f->reason);
  else if (f->verdict != OUTCOME_OK)
    fetch_end(f, outcome, f->reason);
  else
    fetch_end(f, outcome, f->handle->error);
}

/* ---- the start ---- */

static void fetch_begin(struct fetch *f) {
  struct pf_error why = {0};
  f->timings.dispatch = (double)(pf_clock_mono_ns() - f->taken_ns) / 1e6;
  if (target_parse(&f->target, &f->request, &why)) {
    char host[WIRE_HOST_MAX];
    bool url = wire_url_check(f->request.url, host, NULL) != PF_OK;
    fetch_refuse(f, url ? OUTCOME_BAD_URL : OUTCOME_BAD_REQUEST, why.text);
    return;
  }
  hop_start(f);
}

static void engine_on_turn(uv_idle_t *starter) {
  struct fetch_engine *e = starter->data;
  struct pf_list *link;
  for (int i = 0; i < FETCH_STARTS_PER_TURN && (link = pf_list_pop(&e->queued)) != NULL; i++)
    fetch_begin(pf_container_of(link, struct fetch, link));
  if (pf_list_empty(&e->queued)) uv_idle_stop(starter);
}

void fetch_start(struct fetch_engine *e, struct fetch *f) {
  PF_ASSERT(f->state == FETCH_IDLE && f->done && f->arena);
  f->engine = e;
  f->state = FETCH_QUEUED;
  int64_t now_ns = pf_clock_mono_ns();
  if (f->taken_ns == 0) f->taken_ns = now_ns;
  f->attempt_at_ms = now_ns / 1000000 + f->attempt_ms;
  f->timer.fire = fetch_on_deadline;
  pf_buf_init(&f->body, e->config.limits.body_max);
  pf_list_push(&e->queued, &f->link);
  uv_idle_start(&e->starter, engine_on_turn);
}

void fetch_cancel(struct fetch *f) {
  if (f->state == FETCH_IDLE) return;
  if (f->state == FETCH_QUEUED) pf_list_del(&f->link);
  if (f->state == FETCH_RESOLVING) dns_cancel(f->engine->dns, &f->dns_wait);
  if (f->handle) {
    http_multi_remove(&f->handle->shard->multi, f->handle->easy);
    handle_return(f);
  }
  timer_stop(&f->engine->timers, &f->timer);
  f->state = FETCH_IDLE;
}

void fetch_release(struct fetch *f) {
  if (f->engine) f->engine->buffered -= f->body.len;
  pf_buf_done(&f->body);
}

size_t fetch_buffered(const struct fetch_engine *e) {
  return e->buffered;
}

void fetch_read_stats(const struct fetch_engine *e, struct fetch_stats *ret_stats) {
  *ret_stats = (struct fetch_stats){.reused = e->reused};
  for (unsigned i = 0; i < e->shard_count; i++) {
    ret_stats->opened += e->shards[i].multi.opened_total;
    ret_stats->sockets += e->shards[i].multi.open_sockets;
    ret_stats->transfers += e->shards[i].active;
  }
  dns_read_stats(e->dns, &ret_stats->dns);
}

/* ---- life of the engine ---- */

int fetch_engine_new(
    struct fetch_engine **ret_engine, uv_loop_t *loop, const struct fetch_config *config) {
  if (http_global_init()) return PF_ENOMEM;
  struct fetch_engine *e = pf_alloc(sizeof(*e));
  e->loop = loop;
  e->config = *config;
  size_t shards = (config->limits.transfers_max + FETCH_PER_MULTI - 1) / FETCH_PER_MULTI;
  e->shard_count = (unsigned)(shards < 1 ? 1 : shards > MULTIS_MAX ? MULTIS_MAX : shards);
  e->shards = pf_alloc(e->shard_count * sizeof(*e->shards));
  for (unsigned i = 0; i < e->shard_count; i++) {
    e->shards[i].engine = e;
    e->shards[i].index = i;
    int err = http_multi_open(&e->shards[i].multi, loop, FETCH_PER_MULTI, engine_on_done, e);
    if (err == PF_ENOMEM) pf_out_of_memory();
    PF_ASSERT(err == PF_OK); /* at start, with descriptors to spare */
  }
  pf_list_init(&e->queued);
  pf_list_init(&e->idle);
  int rc = uv_idle_init(loop, &e->starter);
  PF_ASSERT(rc == 0);
  e->starter.data = e;
  timers_open(&e->timers, loop);
  e->dns = dns_new(loop, &config->dns);
  *ret_engine = e;
  return PF_OK;
}

static void engine_part_closed(void *arg) {
  struct fetch_engine *e = arg;
  PF_ASSERT(e->closing_parts > 0);
  if (--e->closing_parts > 0) return;
  void (*closed)(void *) = e->closed;
  void *closed_arg = e->closed_arg;
  free(e->shards);
  free(e);
  curl_global_cleanup();
  closed(closed_arg);
}

static void engine_starter_closed(uv_handle_t *handle) {
  engine_part_closed(handle->data);
}

void fetch_engine_close(struct fetch_engine *e, void (*closed)(void *arg), void *arg) {
  PF_ASSERT(pf_list_empty(&e->queued));
  e->closed = closed;
  e->closed_arg = arg;
  e->closing_parts = e->shard_count + 3;
  struct pf_list *link;
  while ((link = pf_list_pop(&e->idle)) != NULL)
    handle_free(pf_container_of(link, struct handle, link));
  for (unsigned i = 0; i < e->shard_count; i++) {
    PF_ASSERT(e->shards[i].active == 0);
    http_multi_close(&e->shards[i].multi, engine_part_closed);
  }
  uv_close((uv_handle_t *)&e->starter, engine_starter_closed);
  timers_close(&e->timers, engine_part_closed, e);
  dns_close(e->dns, engine_part_closed, e);
}
