#include "executor/results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/map.h"

#define PATH_MAX_BYTES 64
#define LOG_EVERY_MS 5000
#define GIVE_UP_BYTES ((size_t)16 << 20) /* of bodies, in one turn of the loop */

struct result_origin {
  struct pf_map_node node;
  struct results *results;
  uint64_t id;
  char base[HOP_URL_MAX]; /* empty = not known */
  struct http_peer *peer; /* NULL until base is known */
  size_t calls;           /* not done */
  struct pf_list parked;  /* struct result_call.item.link: wait for the address or for a while */
  struct timer retry;
  int64_t backoff_ms;
  struct http_call lookup;
  char lookup_url[HOP_URL_MAX + PATH_MAX_BYTES];
  bool looking;
  bool itself; /* the batch whose items are being reported was answered by this origin */
  struct pf_log_limit log_limit;
};

struct results {
  struct results_config config;
  struct pf_map origins;
  struct results_stats stats;
  bool closing;
};

static struct result_call *call_of(struct pf_list *link) {
  return pf_container_of(pf_container_of(link, struct http_item, link), struct result_call, item);
}

/* ---- the address ---- */

static void origin_send_parked(struct result_origin *o) {
  struct pf_list now;
  pf_list_init(&now);
  pf_list_splice(&now, &o->parked);
  struct pf_list *link;
  while ((link = pf_list_pop(&now)) != NULL) {
    o->results->stats.parked--;
    peer_send(o->peer, &call_of(link)->item);
  }
}

/* Waits, then asks for the address again, then sends what is parked. */
static void origin_retry_later(struct result_origin *o) {
  if (o->looking || pf_heap_has(&o->retry.node)) return;
  timer_set(o->results->config.timers, &o->retry, pf_clock_mono_ms() + o->backoff_ms);
  o->backoff_ms =
      o->backoff_ms * 2 > RESULTS_BACKOFF_MAX_MS ? RESULTS_BACKOFF_MAX_MS : o->backoff_ms * 2;
}

static void origin_park(struct result_origin *o, struct result_call *call) {
  pf_list_push(&o->parked, &call->item.link);
  o->results->stats.parked++;
  origin_retry_later(o);
}

static void origin_on_batch(void *arg, int err, int status, struct pf_slice answer_batch) {
  struct result_origin *o = arg;
  struct hop_results_reply_head head;
  o->itself = !err && !hop_results_reply_head_decode(&head, answer_batch) && head.origin == o->id;
  if (o->itself) {
    o->backoff_ms = RESULTS_BACKOFF_MIN_MS;
    return;
  }
  if (err == PF_ECANCEL || !pf_log_allow(&o->log_limit, pf_clock_mono_ms(), 1, LOG_EVERY_MS))
    return;
  pf_log(o->results->config.log, PF_LOG_WARN, "origin_unreachable",
      "origin=%016llx url=%s http=%d reason=\"%s\"", (unsigned long long)o->id, o->base, status,
      err ? pf_err_text(err) : "another origin answers there");
}

static void origin_batch_head(void *arg, struct pf_buf *buf) {
  struct result_origin *o = arg;
  struct hop_results_head head = {.to = o->id};
  hop_results_head_encode(buf, &head);
}

static void origin_set_base(struct result_origin *o, const char *base) {
  if (strcmp(o->base, base) == 0) return;
  char url[HOP_URL_MAX + PATH_MAX_BYTES];
  snprintf(o->base, sizeof(o->base), "%s", base);
  snprintf(url, sizeof(url), "%s/__receiveResult", o->base);
  if (o->peer) {
    peer_set_url(o->peer, url);
    return;
  }
  struct http_peer_config config = {
      .url = url, .batch_head = origin_batch_head, .on_batch = origin_on_batch, .arg = o};
  int err = peer_new(&o->peer, o->results->config.http, &config);
  PF_ASSERT(err == PF_OK);
}

static void call_end(struct result_call *call, enum hop_result_answer answer) {
  struct result_origin *o = call->origin;
  o->calls--;
  o->results->stats.held--;
  call->done(call, answer);
}

static bool call_is_over(const struct result_call *call) {
  return pf_clock_mono_ms() >= call->until_ms;
}

/* Nobody knows where the origin is. What becomes of their bodies takes its time (a digest), and
 * there may be a whole memory full of them: so the rest comes after the next look-up, which is
 * soon. */
static void origin_give_up_parked(struct result_origin *o) {
  size_t bytes = 0;
  PF_LIST_EACH(it, &o->parked) {
    struct result_call *call = call_of(it);
    if (!call_is_over(call)) continue;
    if (bytes >= GIVE_UP_BYTES) {
      o->backoff_ms = RESULTS_BACKOFF_MIN_MS;
      return;
    }
    bytes += call->item.body.len;
    pf_list_del(it);
    o->results->stats.parked--;
    call_end(call, HOP_RESULT_RETRY);
  }
}

static void origin_on_lookup(struct http_call *call) {
  struct result_origin *o = call->arg;
  o->looking = false;
  if (call->err == PF_ECANCEL) { /* results_free, which leaves the origin to us */
    free(o);
    return;
  }
  struct hop_jobs_head head;
  bool found = !call->err && call->status == 200 &&
               !hop_jobs_head_decode(&head, pf_buf_view(&call->response), NULL) &&
               head.origin == o->id;
  if (found) origin_set_base(o, head.url);
  if (o->peer) {
    origin_send_parked(o); /* also without an answer: the old address may be back */
    return;
  }
  origin_give_up_parked(o);
  if (!pf_list_empty(&o->parked)) origin_retry_later(o);
}

static void origin_on_retry(struct timer *timer) {
  struct result_origin *o = pf_container_of(timer, struct result_origin, retry);
  snprintf(o->lookup_url, sizeof(o->lookup_url), "%s/v1/origins/%016llx",
      o->results->config.orchestrator, (unsigned long long)o->id);
  o->lookup =
      (struct http_call){.method = "GET", .url = o->lookup_url, .done = origin_on_lookup, .arg = o};
  o->looking = true;
  http_start(o->results->config.http, &o->lookup);
}

/* ---- origins ---- */

static bool origin_is(const struct pf_map_node *node, const void *key) {
  return pf_container_of(node, struct result_origin, node)->id == *(const uint64_t *)key;
}

static void origin_free(struct result_origin *o) {
  struct results *r = o->results;
  pf_map_del(&r->origins, &o->node);
  timer_stop(r->config.timers, &o->retry);
  peer_free(o->peer);
  if (o->looking)
    http_cancel(r->config.http, &o->lookup); /* origin_on_lookup frees it */
  else
    free(o);
}

static void origins_free_idle(struct results *r) {
  PF_MAP_EACH(it, &r->origins) {
    struct result_origin *o = pf_container_of(it, struct result_origin, node);
    if (o->calls == 0) origin_free(o);
  }
}

static struct result_origin *origin_get(struct results *r, uint64_t id) {
  uint64_t hash = pf_hash_u64(id);
  struct pf_map_node *node = pf_map_find(&r->origins, hash, origin_is, &id);
  if (node) return pf_container_of(node, struct result_origin, node);
  if (r->origins.count >= RESULTS_ORIGINS_MAX) origins_free_idle(r);
  struct result_origin *o = pf_alloc(sizeof(*o));
  o->results = r;
  o->id = id;
  o->backoff_ms = RESULTS_BACKOFF_MIN_MS;
  o->retry.fire = origin_on_retry;
  pf_list_init(&o->parked);
  pf_map_put(&r->origins, &o->node, hash);
  return o;
}

void results_learn(struct results *r, uint64_t origin, const char *url) {
  origin_set_base(origin_get(r, origin), url);
}

/* ---- calls ---- */

static void call_on_answer(
    struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch) {
  struct result_call *call = pf_container_of(item, struct result_call, item);
  struct result_origin *o = call->origin;
  int decoded = HOP_RESULT_RETRY;
  (void)answer_batch;
  if (o->results->closing) return;
  if (!err) PF_FAULT("executor.after_callback");
  if (!err && o->itself && hop_answer_decode(&decoded, hop_result_answers, answer))
    decoded = HOP_RESULT_RETRY;
  o->results->stats.failures += decoded == HOP_RESULT_RETRY;
  if (decoded == HOP_RESULT_RETRY && !call_is_over(call))
    origin_park(o, call);
  else
    call_end(call, (enum hop_result_answer)decoded);
}

void results_send(struct results *r, uint64_t origin, struct result_call *call) {
  struct result_origin *o = origin_get(r, origin);
  call->origin = o;
  call->item.done = call_on_answer;
  o->calls++;
  r->stats.held++;
  /* While one is waiting for the address, sending more to the old one is of no use. */
  if (!o->peer || !pf_list_empty(&o->parked))
    origin_park(o, call);
  else
    peer_send(o->peer, &call->item);
}

void results_read_stats(const struct results *r, struct results_stats *ret_stats) {
  *ret_stats = r->stats;
}

/* ---- life ---- */

struct results *results_new(const struct results_config *config) {
  struct results *r = pf_alloc(sizeof(*r));
  r->config = *config;
  pf_map_init(&r->origins);
  return r;
}

void results_free(struct results *r) {
  if (!r) return;
  r->closing = true;
  PF_MAP_EACH(it, &r->origins)
    origin_free(pf_container_of(it, struct result_origin, node));
  pf_map_done(&r->origins);
  free(r);
}
