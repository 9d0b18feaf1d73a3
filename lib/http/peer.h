/* Natural batching towards one peer: one request in flight, what arrives meanwhile goes with the
 * next. There is no batching timer, so an idle system adds no delay.
 *
 * A peer is one kind of call ("POST /v1/jobs") to one process. Items keep their encoded record
 * until it is answered. A batch that fails as a whole (connection error, time-out, status other
 * than 200, malformed answer) is reported to each of its items; whoever owns the item decides
 * whether, when and where to send it again, because every item is idempotent.
 *
 * Threads    Everything on the loop of the http given.
 * Ownership  The caller owns items, from peer_send() until done; done may free or send it again.
 * Ordering   Items leave in the order of peer_send.
 * Limits     PEER_ITEMS_MAX items or about PEER_BYTES_MAX bytes a batch (one item may be larger).
 */
#ifndef PF_HTTP_PEER_H
#define PF_HTTP_PEER_H

#include "base/buf.h"
#include "base/list.h"
#include "http/client.h"

#define PEER_ITEMS_MAX 256
#define PEER_BYTES_MAX ((size_t)1 << 20)
#define PEER_IN_FLIGHT_MAX 1

struct http_peer;

struct http_item {
  struct pf_list link;  /* private while sent */
  struct pf_slice head; /* JSON of the record; the owner keeps it until done */
  struct pf_slice body; /* raw bytes of the record; the owner keeps it until done */
  /* err PF_OK: answer is this item's entry, answer_batch the head of the whole answer; both are
   * valid during the call only. Otherwise PF_ENET, PF_ETIMEOUT, PF_EINVAL (the answer was
   * malformed, or a status other than 200), PF_ECANCEL. */
  void (*done)(
      struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch);
};

struct http_peer_config {
  const char *url; /* whole, e.g. "http://127.0.0.1:8788/v1/jobs"; copied */
  /* Writes the JSON head of the next batch into head. */
  void (*batch_head)(void *arg, struct pf_buf *head);
  /* Called once per finished batch before its items; may be NULL. status 0 = no answer. */
  void (*on_batch)(void *arg, int err, int status, struct pf_slice answer_batch);
  void *arg;
};

PF_MUST_CHECK int peer_new(
    struct http_peer **ret_peer, struct http *http, const struct http_peer_config *config);
/* item->link needs no initialisation. The batch leaves at the end of the present turn of the loop.
 */
void peer_send(struct http_peer *peer, struct http_item *item);
/* Takes a waiting item back; false if it is in flight (done will come). */
bool peer_unsend(struct http_peer *peer, struct http_item *item);
/* From the next batch on. */
void peer_set_url(struct http_peer *peer, const char *url);
size_t peer_waiting(const struct http_peer *peer); /* not in flight */
/* All items end with PF_ECANCEL, from inside this call; then peer is gone. Not from inside the done
 * of one of its items, nor from on_batch. */
void peer_free(struct http_peer *peer);

#endif
