#include "http/peer.h"

#include <stdlib.h>
#include <string.h>

#include "wire/batch.h"

#define BATCH_BUFFER_KEPT_MAX ((size_t)4 << 20) /* what a rare huge item needed is given back */
#define BATCH_MAX (BATCH_HEAD_MAX * 2 + BATCH_BODY_MAX + PEER_BYTES_MAX)

/* One request. It outlives a peer that is freed meanwhile. */
struct flight {
  struct http_call call;
  struct http_peer *peer; /* NULL if the peer has gone */
  struct pf_list items;
  struct pf_buf body;
  char *url;
};

struct http_peer {
  struct http *http;
  struct http_peer_config config; /* its url is ours */
  struct pf_list waiting;
  size_t waiting_count;
  unsigned in_flight;
  struct flight *flights[PEER_IN_FLIGHT_MAX];
  struct http_soon send_soon;
  struct pf_buf scratch; /* head of the batch */
  bool delivering;
};

static struct http_item *item_of(struct pf_list *link) {
  return pf_container_of(link, struct http_item, link);
}

static size_t item_size(const struct http_item *item) {
  return item->head.len + item->body.len + BATCH_RECORD_OVERHEAD;
}

static void flight_free(struct flight *f) {
  pf_buf_done(&f->body);
  free(f->url);
  free(f);
}

/* ---- answers ---- */

/* The head of the answer, if it has exactly one record for each item. */
static int answer_check(struct pf_slice answer, unsigned items, struct pf_slice *ret_head) {
  struct batch_reader reader = batch_reader(answer);
  struct pf_slice head, body;
  if (batch_next(&reader, ret_head, &body)) return PF_EINVAL;
  int err;
  while ((err = batch_next(&reader, &head, &body)) == PF_OK && reader.records <= items + 1)
    ;
  return err == PF_ENOTFOUND && reader.records == items + 1 ? PF_OK : PF_EINVAL;
}

static unsigned list_count(const struct pf_list *list) {
  unsigned count = 0;
  for (const struct pf_list *link = list->next; link != list; link = link->next)
    count++;
  return count;
}

static void flight_deliver(struct flight *f) {
  struct http_peer *peer = f->peer;
  struct pf_slice answer = pf_buf_view(&f->call.response), head = {0}, body;
  int err = f->call.err;
  int status = err ? 0 : f->call.status;
  if (!err && status != 200) err = PF_EINVAL;
  if (!err) err = answer_check(answer, list_count(&f->items), &head);
  peer->delivering = true;
  if (peer->config.on_batch) peer->config.on_batch(peer->config.arg, err, status, head);

  struct batch_reader reader = batch_reader(answer);
  if (!err) err = batch_next(&reader, &head, &body);
  struct pf_list *link;
  while ((link = pf_list_pop(&f->items)) != NULL) {
    struct pf_slice one = {0};
    if (!err) err = batch_next(&reader, &one, &body);
    struct http_item *item = item_of(link);
    item->done(item, err, one, head); /* item may be gone, or waiting again */
  }
  peer->delivering = false;
}

static void flight_done(struct http_call *call) {
  struct flight *f = call->arg;
  struct http_peer *peer = f->peer;
  if (!peer) {
    flight_free(f);
    return;
  }
  flight_deliver(f);
  peer->in_flight--;
  if (!pf_list_empty(&peer->waiting)) http_soon(peer->http, &peer->send_soon);
}

/* ---- requests ---- */

static struct flight *flight_idle(struct http_peer *peer) {
  for (unsigned i = 0; i < PEER_IN_FLIGHT_MAX; i++)
    if (!peer->flights[i]->call.priv) return peer->flights[i];
  return NULL;
}

static void flight_fill(struct flight *f) {
  struct http_peer *peer = f->peer;
  if (f->body.cap > BATCH_BUFFER_KEPT_MAX) pf_buf_done(&f->body), pf_buf_init(&f->body, BATCH_MAX);
  pf_buf_clear(&f->body);
  pf_buf_clear(&peer->scratch);
  peer->config.batch_head(peer->config.arg, &peer->scratch);
  pf_buf_must(&peer->scratch);
  batch_append(&f->body, pf_buf_view(&peer->scratch), pf_slice(NULL, 0));
  for (unsigned items = 0; items < PEER_ITEMS_MAX && !pf_list_empty(&peer->waiting); items++) {
    struct http_item *item = item_of(peer->waiting.next);
    if (items > 0 && f->body.len + item_size(item) > PEER_BYTES_MAX) break;
    pf_list_del(&item->link);
    pf_list_push(&f->items, &item->link);
    peer->waiting_count--;
    batch_append(&f->body, item->head, item->body);
  }
  pf_buf_must(&f->body);
}

static void peer_send_batch(struct http_soon *soon) {
  struct http_peer *peer = pf_container_of(soon, struct http_peer, send_soon);
  struct flight *f;
  while (!pf_list_empty(&peer->waiting) && (f = flight_idle(peer)) != NULL) {
    flight_fill(f);
    free(f->url);
    f->url = pf_strdup(peer->config.url);
    f->call = (struct http_call){
        .method = "POST",
        .url = f->url,
        .content_type = HTTP_CONTENT_BATCH,
        .body = pf_buf_view(&f->body),
        .done = flight_done,
        .arg = f,
    };
    peer->in_flight++;
    http_start(peer->http, &f->call);
  }
}

void peer_send(struct http_peer *peer, struct http_item *item) {
  pf_list_push(&peer->waiting, &item->link);
  peer->waiting_count++;
  if (peer->in_flight < PEER_IN_FLIGHT_MAX) http_soon(peer->http, &peer->send_soon);
}

bool peer_unsend(struct http_peer *peer, struct http_item *item) {
  PF_LIST_EACH(link, &peer->waiting) {
    if (link != &item->link) continue;
    pf_list_del(link);
    peer->waiting_count--;
    return true;
  }
  return false;
}

/* ---- life ---- */

int peer_new(
    struct http_peer **ret_peer, struct http *http, const struct http_peer_config *config) {
  PF_ASSERT(config->url && config->batch_head);
  struct http_peer *peer = pf_alloc(sizeof(*peer));
  peer->http = http;
  peer->config = *config;
  peer->config.url = pf_strdup(config->url);
  pf_list_init(&peer->waiting);
  pf_list_init(&peer->send_soon.link);
  peer->send_soon.run = peer_send_batch;
  pf_buf_init(&peer->scratch, BATCH_HEAD_MAX);
  for (unsigned i = 0; i < PEER_IN_FLIGHT_MAX; i++) {
    struct flight *f = peer->flights[i] = pf_alloc(sizeof(*f));
    f->peer = peer;
    pf_list_init(&f->items);
    pf_buf_init(&f->body, BATCH_MAX);
  }
  *ret_peer = peer;
  return PF_OK;
}

void peer_set_url(struct http_peer *peer, const char *url) {
  free((char *)peer->config.url);
  peer->config.url = pf_strdup(url);
}

size_t peer_waiting(const struct http_peer *peer) {
  return peer->waiting_count;
}

void peer_free(struct http_peer *peer) {
  if (!peer) return;
  PF_ASSERT(!peer->delivering);
  struct pf_list all;
  pf_list_init(&all);
  http_soon_cancel(&peer->send_soon);
  for (unsigned i = 0; i < PEER_IN_FLIGHT_MAX; i++) {
    struct flight *f = peer->flights[i];
    pf_list_splice(&all, &f->items);
    f->peer = NULL;
    if (f->call.priv)
      http_cancel(peer->http, &f->call); /* flight_done frees it, later */
    else
      flight_free(f);
  }
  pf_list_splice(&all, &peer->waiting);
  pf_buf_done(&peer->scratch);
  free((char *)peer->config.url);
  free(peer);
  struct pf_list *link;
  while ((link = pf_list_pop(&all)) != NULL) {
    struct http_item *item = item_of(link);
    item->done(item, PF_ECANCEL, pf_slice(NULL, 0), pf_slice(NULL, 0));
  }
}
