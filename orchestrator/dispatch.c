/* Calls to executors and origins. Each peer has one batch under way; what is decided meanwhile goes
 * with the next. An item that gets no answer is reported to the queue, which decides whether and
 * when it goes again.
 *
 * Threads    the loop's
 * Ownership  A call owns its encoded head and a reference to the request's bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "http/peer.h"
#include "orchestrator/app.h"

#define HEAD_MAX 4096 /* of one item: ids, budgets, statuses */

struct dispatch {
  struct app *app;
  struct pf_list executors; /* of struct executor_peer */
  struct pf_map origins;    /* of struct origin_peer */
  struct pf_log_limit failures, deliveries;
};

/* Origins that the items under way name, so that the batch's head can say where they answer. */
struct origin_use {
  uint64_t origin;
  size_t calls;
};

struct executor_peer {
  struct pf_list link;
  struct dispatch *dispatch;
  uint64_t executor, incarnation;
  char url[HOP_URL_MAX];
  struct http_peer *peer;
  struct origin_use uses[HOP_ORIGINS_MAX]; /* without room an executor asks for the address */
  size_t use_count;
};

struct origin_peer {
  struct pf_map_node node;
  struct dispatch *dispatch;
  uint64_t origin;
  char url[HOP_URL_MAX];
  struct http_peer *status, *results;
  bool itself; /* the batch whose items are being reported was answered by this origin */
};

struct call {
  struct http_item item;
  struct dispatch *dispatch;
  struct queue_action action;
  struct executor_peer *executor; /* DISPATCH */
  struct origin_peer *origin;     /* ASK, DELIVER */
  struct pf_buf head;
  struct queue_blob *blob;
};

static struct call *call_new(struct dispatch *dispatch, const struct queue_action *action) {
  struct call *call = pf_alloc(sizeof(*call));
  call->dispatch = dispatch;
  call->action = *action;
  pf_buf_init(&call->head, HEAD_MAX);
  return call;
}

static void call_free(struct call *call) {
  pf_buf_done(&call->head);
  queue_blob_unref(call->blob);
  free(call);
}

static void peer_url(char *text, size_t size, const char *base, const char *path) {
  size_t len = strlen(base);
  while (len > 0 && base[len - 1] == '/')
    len--;
  PF_ASSERT(len + strlen(path) < size);
  memcpy(text, base, len);
  memcpy(text + len, path, strlen(path) + 1);
}

#define PEER_URL_MAX (HOP_URL_MAX + 32)

static void peer_failed(
    struct dispatch *dispatch, const char *path, const char *url, int err, int status) {
  struct app *app = dispatch->app;
  if (!err || err == PF_ECANCEL || !pf_log_allow(&dispatch->failures, pf_clock_mono_ms(), 5, 1000))
    return;
  pf_log(&app->log, PF_LOG_WARN, "call_failed", "call=%s url=%s http=%d reason=\"%s\"", path, url,
      status, pf_err_text(err));
}

/* ---- executors ---- */

static void use_add(struct executor_peer *peer, uint64_t origin, int by) {
  size_t i = 0;
  while (i < peer->use_count && peer->uses[i].origin != origin)
    i++;
  if (i == peer->use_count) {
    if (by < 0 || i == HOP_ORIGINS_MAX) return;
    peer->uses[peer->use_count++] = (struct origin_use){.origin = origin};
  }
  peer->uses[i].calls += (size_t)by;
  if (peer->uses[i].calls == 0) peer->uses[i] = peer->uses[--peer->use_count];
}

static void execute_head(void *arg, struct pf_buf *head) {
  struct executor_peer *peer = arg;
  struct queue *queue = peer->dispatch->app->queue;
  struct hop_origin *origins = pf_alloc(HOP_ORIGINS_MAX * sizeof(*origins));
  struct hop_execute_head batch = {
      .queue_epoch = queue_epoch(queue), .incarnation = peer->incarnation, .origins = origins};
  for (size_t i = 0; i < peer->use_count; i++) {
    struct hop_jobs_head known;
    if (!queue_view_origin(queue, peer->uses[i].origin, &known)) continue;
    struct hop_origin *origin = &origins[batch.origin_count++];
    *origin = (struct hop_origin){.origin = known.origin, .epoch = known.origin_epoch};
    memcpy(origin->url, known.url, sizeof(origin->url));
  }
  hop_execute_head_encode(head, &batch);
  free(origins);
}

static void execute_on_batch(void *arg, int err, int status, struct pf_slice answer) {
  struct executor_peer *peer = arg;
  (void)answer;
  peer_failed(peer->dispatch, "execute", peer->url, err, status);
}

static struct executor_peer *executor_peer_find(
    struct dispatch *dispatch, uint64_t executor, uint64_t incarnation) {
  PF_LIST_EACH(it, &dispatch->executors) {
    struct executor_peer *peer = pf_container_of(it, struct executor_peer, link);
    if (peer->executor == executor && peer->incarnation == incarnation) return peer;
  }
  return NULL;
}

/* NULL: the executor has gone, or memory has. */
static struct executor_peer *executor_peer_get(
    struct dispatch *dispatch, const struct queue_action *action) {
  char base[HOP_URL_MAX], url[PEER_URL_MAX];
  if (!queue_view_executor(dispatch->app->queue, action->executor, action->incarnation, base))
    return NULL;
  peer_url(url, sizeof(url), base, "/v1/execute");
  struct executor_peer *peer = executor_peer_find(dispatch, action->executor, action->incarnation);
  if (peer && strcmp(peer->url, base) != 0) peer_set_url(peer->peer, url);
  if (!peer) {
    peer = pf_alloc(sizeof(*peer));
    peer->dispatch = dispatch;
    peer->executor = action->executor;
    peer->incarnation = action->incarnation;
    struct http_peer_config config = {
        .url = url, .batch_head = execute_head, .on_batch = execute_on_batch, .arg = peer};
    if (peer_new(&peer->peer, dispatch->app->http, &config)) return free(peer), NULL;
    pf_list_push(&dispatch->executors, &peer->link);
  }
  memcpy(peer->url, base, sizeof(peer->url));
  return peer;
}

static void executor_peer_free(struct executor_peer *peer) {
  pf_list_del(&peer->link);
  peer_free(peer->peer);
  free(peer);
}

/* QUEUE_NO_ANSWER if none came, or one that is none of these. */
static int answer_read(bool came, const char *const names[], struct pf_slice answer) {
  int decoded;
  return came && hop_answer_decode(&decoded, names, answer) == PF_OK ? decoded : QUEUE_NO_ANSWER;
}

static void execute_done(
    struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch) {
  struct call *call = pf_container_of(item, struct call, item);
  (void)answer_batch;
  if (!err) PF_FAULT("orchestrator.dispatch.after_send");
  int decoded = answer_read(!err, hop_execute_answers, answer);
  use_add(call->executor, call->action.job.origin, -1);
  queue_on_dispatch(call->dispatch->app->queue, &call->action, decoded, app_now_us());
  call_free(call);
}

static void execute_send(struct call *call) {
  call->item.head = pf_buf_view(&call->head);
  call->item.body = queue_blob_request(call->blob);
  call->item.done = execute_done;
  use_add(call->executor, call->action.job.origin, 1);
  PF_FAULT("orchestrator.dispatch.before_send");
  peer_send(call->executor->peer, &call->item);
}

/* Encodes and sends, if the dispatch is still wanted; takes over blob. */
static void dispatch_send(struct dispatch *dispatch, const struct queue_action *action,
    const struct hop_execute *item, struct queue_blob *blob) {
  struct executor_peer *peer = executor_peer_get(dispatch, action);
  struct call *call = call_new(dispatch, action);
  call->blob = blob;
  call->executor = peer;
  if (peer) hop_execute_encode(&call->head, item);
  if (peer && !call->head.err) {
    execute_send(call);
    return;
  }
  queue_on_dispatch(dispatch->app->queue, action, QUEUE_NO_ANSWER, app_now_us());
  call_free(call);
}

static void dispatch_read_done(void *arg, void *tag, struct queue_blob *blob) {
  struct app *app = arg;
  struct queue_action *action = tag;
  struct hop_execute item;
  struct queue_blob *kept = NULL;
  int64_t qid;
  bool wanted =
      app->dispatch && queue_view_execute(app->queue, action, app_now_us(), &item, &kept, &qid);
  queue_blob_unref(kept);
  if (wanted && blob) {
    dispatch_send(app->dispatch, action, &item, blob);
  } else {
    queue_on_dispatch(app->queue, action, QUEUE_NO_ANSWER, app_now_us());
    queue_blob_unref(blob);
  }
  free(action);
}

static void act_dispatch(struct dispatch *dispatch, const struct queue_action *action) {
  struct app *app = dispatch->app;
  struct hop_execute item;
  struct queue_blob *blob;
  int64_t qid;
  if (!queue_view_execute(app->queue, action, app_now_us(), &item, &blob, &qid)) return;
  if (blob)
    dispatch_send(dispatch, action, &item, blob);
  else
    queue_db_read(app->db, qid, dispatch_read_done, app, pf_memdup(action, sizeof(*action)));
}

/* ---- origins ---- */

static bool origin_peer_eq(const struct pf_map_node *node, const void *key) {
  return pf_container_of(node, const struct origin_peer, node)->origin == *(const uint64_t *)key;
}

/* Whoever answers under the address must be the origin that is meant; else nobody has answered. */
static void origin_on_batch(
    struct origin_peer *peer, const char *path, int err, int status, struct pf_slice answer) {
  struct hop_results_reply_head head;
  peer->itself =
      !err && !hop_results_reply_head_decode(&head, answer) && head.origin == peer->origin;
  if (!err && !peer->itself) err = PF_EINVAL;
  peer_failed(peer->dispatch, path, peer->url, err, status);
}

static void status_on_batch(void *arg, int err, int status, struct pf_slice answer) {
  origin_on_batch(arg, "status", err, status, answer);
}

static void results_on_batch(void *arg, int err, int status, struct pf_slice answer) {
  origin_on_batch(arg, "receive_result", err, status, answer);
}

static void origin_head(void *arg, struct pf_buf *head) {
  struct origin_peer *peer = arg;
  struct hop_results_head batch = {.to = peer->origin};
  hop_results_head_encode(head, &batch);
}

static void origin_peer_free(struct dispatch *dispatch, struct origin_peer *peer) {
  pf_map_del(&dispatch->origins, &peer->node);
  if (peer->status) peer_free(peer->status);
  if (peer->results) peer_free(peer->results);
  free(peer);
}

/* Opens both connections, or points them to where the origin is now. */
static int origin_peer_aim(struct origin_peer *peer, const char *base) {
  if (strcmp(peer->url, base) == 0) return PF_OK;
  char status[PEER_URL_MAX], results[PEER_URL_MAX];
  peer_url(status, sizeof(status), base, "/__status");
  peer_url(results, sizeof(results), base, "/__receiveResult");
  memcpy(peer->url, base, sizeof(peer->url));
  if (peer->results) {
    peer_set_url(peer->status, status);
    peer_set_url(peer->results, results);
    return PF_OK;
  }
  struct http_peer_config config = {
      .url = status, .batch_head = origin_head, .on_batch = status_on_batch, .arg = peer};
  int err = peer_new(&peer->status, peer->dispatch->app->http, &config);
  if (err) return err;
  config.url = results;
  config.on_batch = results_on_batch;
  return peer_new(&peer->results, peer->dispatch->app->http, &config);
}

/* NULL: the origin has not been heard of since the start, or memory has run out. */
static struct origin_peer *origin_peer_get(struct dispatch *dispatch, uint64_t id) {
  struct hop_jobs_head known;
  if (!queue_view_origin(dispatch->app->queue, id, &known)) return NULL;
  struct pf_map_node *node = pf_map_find(&dispatch->origins, pf_hash_u64(id), origin_peer_eq, &id);
  struct origin_peer *peer = node ? pf_container_of(node, struct origin_peer, node) : NULL;
  if (!peer) {
    peer = pf_alloc(sizeof(*peer));
    peer->dispatch = dispatch;
    peer->origin = id;
    pf_map_put(&dispatch->origins, &peer->node, pf_hash_u64(id));
  }
  if (origin_peer_aim(peer, known.url) == PF_OK) return peer;
  origin_peer_free(dispatch, peer);
  return NULL;
}

static void status_done(
    struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch) {
  struct call *call = pf_container_of(item, struct call, item);
  (void)answer_batch;
  int decoded = answer_read(!err && call->origin->itself, hop_status_answers, answer);
  queue_on_status(call->dispatch->app->queue, &call->action, decoded, app_now_us());
  call_free(call);
}

static void result_done(
    struct http_item *item, int err, struct pf_slice answer, struct pf_slice answer_batch) {
  struct call *call = pf_container_of(item, struct call, item);
  (void)answer_batch;
  int decoded = answer_read(!err && call->origin->itself, hop_result_answers, answer);
  queue_on_delivery(call->dispatch->app->queue, &call->action, decoded, app_now_us());
  call_free(call);
}

static void act_ask(struct dispatch *dispatch, const struct queue_action *action) {
  struct queue *queue = dispatch->app->queue;
  if (!queue_view_ask(queue, action)) return;
  struct origin_peer *peer = origin_peer_get(dispatch, action->job.origin);
  if (!peer) {
    queue_on_status(queue, action, QUEUE_NO_ANSWER, app_now_us());
    return;
  }
  struct call *call = call_new(dispatch, action);
  call->origin = peer;
  hop_status_encode(&call->head, action->job);
  call->item.head = pf_buf_view(&call->head);
  call->item.done = status_done;
  peer_send(peer->status, &call->item);
}

static void deliver_log(struct dispatch *dispatch, const struct hop_result *result) {
  if (!pf_log_allow(&dispatch->deliveries, pf_clock_mono_ms(), 10, 1000)) return;
  char job[PF_ID_TEXT];
  pf_job_id_print(job, result->job);
  pf_log(&dispatch->app->log, PF_LOG_WARN, "job_failed", "job=%s code=%s certainty=%s attempts=%d",
      job, outcome_code(result->outcome), certainty_name(result->certainty), result->attempt);
}

static void act_deliver(struct dispatch *dispatch, const struct queue_action *action) {
  struct queue *queue = dispatch->app->queue;
  struct hop_result result;
  if (!queue_view_result(queue, action, &result)) return;
  struct origin_peer *peer = origin_peer_get(dispatch, action->job.origin);
  if (!peer) {
    queue_on_delivery(queue, action, QUEUE_NO_ANSWER, app_now_us());
    return;
  }
  deliver_log(dispatch, &result);
  struct call *call = call_new(dispatch, action);
  call->origin = peer;
  hop_result_encode(&call->head, &result);
  call->item.head = pf_buf_view(&call->head);
  call->item.done = result_done;
  peer_send(peer->results, &call->item);
}

/* ---- the module ---- */

struct dispatch *dispatch_new(struct app *app) {
  struct dispatch *dispatch = pf_alloc(sizeof(*dispatch));
  dispatch->app = app;
  pf_list_init(&dispatch->executors);
  pf_map_init(&dispatch->origins);
  return dispatch;
}

void dispatch_free(struct dispatch *dispatch) {
  if (!dispatch) return;
  PF_LIST_EACH(it, &dispatch->executors) {
    executor_peer_free(pf_container_of(it, struct executor_peer, link));
  }
  PF_MAP_EACH(it, &dispatch->origins)
    origin_peer_free(dispatch, pf_container_of(it, struct origin_peer, node));
  pf_map_done(&dispatch->origins);
  free(dispatch);
}

static void act_executor_gone(struct dispatch *dispatch, const struct queue_action *action) {
  struct executor_peer *peer = executor_peer_find(dispatch, action->executor, action->incarnation);
  pf_log(&dispatch->app->log, action->left ? PF_LOG_INFO : PF_LOG_WARN,
      action->left ? "executor_left" : "executor_gone", "executor=%016llx incarnation=%016llx",
      (unsigned long long)action->executor, (unsigned long long)action->incarnation);
  if (peer) executor_peer_free(peer);
}

void dispatch_act(struct dispatch *dispatch, const struct queue_action *action) {
  switch (action->kind) {
  case QUEUE_DISPATCH:
    act_dispatch(dispatch, action);
    break;
  case QUEUE_ASK:
    act_ask(dispatch, action);
    break;
  case QUEUE_DELIVER:
    act_deliver(dispatch, action);
    break;
  case QUEUE_EXECUTOR_GONE:
    act_executor_gone(dispatch, action);
    break;
  }
}
