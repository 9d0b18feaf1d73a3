/* Class `proxy`: fetches on behalf of its clients, one by one or in batches.
 *
 * A batch is counted in the actor's state, under "batch/SESSION/BATCH_ID", so that its end is told
 * once whatever crashes in between. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "origin/classes/classes.h"
#include "wire/json.h"

enum {
  COMPLETE_KEPT_MAX = 100
}; /* finished batches remembered per session, so that a repeat is known */

/* ---- single fetches ---- */

static const char *refusal_code(int err) {
  return err == PF_ELIMIT ? "busy" : err == PF_ENOSPC ? "disk_full" : "bad_request";
}

/* The client may name another of our continuations; by default the result simply goes back. */
static int start_fetch(
    struct actor *actor, const struct actor_client *client, const struct client_message *message) {
  const struct client_fetch *fetch = &message->fetch;
  char continuation[WIRE_NAME_MAX + 1] = "result";
  if (fetch->continuation.len)
    snprintf(continuation, sizeof(continuation), "%.*s", (int)fetch->continuation.len,
        fetch->continuation.data);
  struct actor_fetch spec = {.fetch = fetch,
      .continuation = continuation,
      .context = fetch->context,
      .client = *client,
      .keep_result = true};
  struct pf_job_id job;
  struct pf_error why = {0};
  int err = actor_fetch(actor, &spec, &job, &why);
  if (err)
    actor_send_error(
        actor, client, refusal_code(err), pf_slice_str(why.text), fetch->id, (struct pf_slice){0});
  return 0;
}

static int on_result(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  (void)context;
  actor_reply(actor, result);
  return 0;
}

/* ---- batches ---- */

struct batch {
  int64_t count, done, success;
};

static int batch_read(struct pf_slice value, struct batch *ret) {
  char text[128];
  snprintf(text, sizeof(text), "%.*s", (int)value.len, value.data);
  return sscanf(text, "%" SCNd64 " %" SCNd64 " %" SCNd64, &ret->count, &ret->done, &ret->success) ==
                 3
             ? PF_OK
             : PF_ECORRUPT;
}

static int batch_write(struct actor *actor, struct pf_slice key, const struct batch *batch) {
  char text[128];
  int len = snprintf(text, sizeof(text), "%" PRId64 " %" PRId64 " %" PRId64, batch->count,
      batch->done, batch->success);
  return actor_put(actor, key, pf_slice(text, (size_t)len));
}

/* Sockets without a session have their own space of ids, which ends with the process. */
static struct pf_slice batch_prefix(char *text, size_t size, const struct actor_client *client) {
  int len = client->session ? snprintf(text, size, "batch/s%016" PRIx64 "/", client->session)
                            : snprintf(text, size, "batch/w%016" PRIx64 "/", client->ws);
  return pf_slice(text, (size_t)len);
}

static struct pf_slice batch_key(
    char *text, size_t size, const struct actor_client *client, struct pf_slice batch_id) {
  struct pf_slice prefix = batch_prefix(text, size, client);
  memcpy(text + prefix.len, batch_id.data, batch_id.len);
  return pf_slice(text, prefix.len + batch_id.len);
}

struct finished {
  char keys[COMPLETE_KEPT_MAX + 1][ACTOR_KEY_MAX];
  size_t lens[COMPLETE_KEPT_MAX + 1];
  size_t count;
};

static bool collect_finished(struct pf_slice key, struct pf_slice value, void *arg) {
  struct finished *finished = arg;
  struct batch batch;
  if (batch_read(value, &batch) || batch.done < batch.count) return true;
  memcpy(finished->keys[finished->count], key.data, key.len);
  finished->lens[finished->count++] = key.len;
  return finished->count < PF_COUNT(finished->keys);
}

/* Finished batches are remembered only so that a repeated batchId starts nothing. Forgets the first
 * ones below prefix if there are at least min. */
static void forget_finished(struct actor *actor, struct pf_slice prefix, size_t min) {
  struct finished finished;
  finished.count = 0;
  actor_list(actor, prefix, collect_finished, &finished);
  if (finished.count < min) return;
  for (size_t i = 0; i < finished.count; i++)
    actor_delete(actor, pf_slice(finished.keys[i], finished.lens[i]));
}

/* The session's surplus goes at each start. Those of sessions that never returned go when the state
 * is full: the ids of sessions ascend, so that the first are the oldest. */
static int batch_begin(struct actor *actor, const struct actor_client *client, struct pf_slice key,
    const struct batch *batch) {
  char text[64];
  forget_finished(actor, batch_prefix(text, sizeof(text), client), COMPLETE_KEPT_MAX + 1);
  int err = batch_write(actor, key, batch);
  if (err != PF_ELIMIT) return err;
  forget_finished(actor, pf_slice_str("batch/s"), 1);
  return batch_write(actor, key, batch);
}

/* The context of an item is all that its continuation needs to find the counter and the client. */
static void item_context(
    struct pf_buf *buf, const struct actor_client *client, struct pf_slice batch_id) {
  struct json_writer w = json_writer(buf);
  json_begin_object(&w, NULL);
  json_put_string(&w, "batchId", batch_id);
  json_put_hex64(&w, "session", client->session);
  json_put_hex64(&w, "ws", client->ws);
  json_end_object(&w);
}

static void send_batch_started(
    struct actor *actor, const struct actor_client *client, struct pf_slice id, int64_t count) {
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  client_batch_started_encode(&frame, id, count);
  actor_send(actor, client, pf_buf_view(&frame));
  pf_buf_done(&frame);
}

/* Its event was stored once, with its offset; a repeated start is answered outside of that order.
 */
static void send_batch_complete_again(struct actor *actor, const struct actor_client *client,
    struct pf_slice id, const struct batch *batch) {
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  client_batch_complete_encode(&frame, id, batch->count, batch->success, -1);
  actor_send(actor, client, pf_buf_view(&frame));
  pf_buf_done(&frame);
}

static int start_batch(
    struct actor *actor, const struct actor_client *client, const struct client_message *message) {
  const struct client_fetch *fetch = &message->fetch;
  char text[WIRE_KEY_MAX + 64];
  struct pf_slice key = batch_key(text, sizeof(text), client, fetch->id), value;
  struct batch batch = {.count = fetch->count};
  if (actor_get(actor, key, &value) && batch_read(value, &batch) == PF_OK) {
    send_batch_started(actor, client, fetch->id, batch.count); /* the same batch, started once */
    if (batch.done == batch.count) send_batch_complete_again(actor, client, fetch->id, &batch);
    return 0;
  }
  struct pf_buf context;
  pf_buf_init(&context, WIRE_CONTEXT_MAX);
  item_context(&context, client, fetch->id);
  struct pf_error why = {0};
  int err = batch_begin(actor, client, key, &batch);
  for (int64_t i = 0; !err && i < fetch->count; i++) {
    struct actor_fetch spec = {
        .fetch = fetch, .continuation = "batch-item", .context = pf_buf_view(&context)};
    struct pf_job_id job;
    err = actor_fetch(actor, &spec, &job, &why);
  }
  pf_buf_done(&context);
  if (err) {
    actor_undo(actor); /* all of it or nothing */
    actor_send_error(actor, client, refusal_code(err),
        pf_slice_str(why.text[0] ? why.text : pf_err_text(err)), (struct pf_slice){0}, fetch->id);
    return 0;
  }
  send_batch_started(actor, client, fetch->id, fetch->count);
  return 0;
}

static int on_batch_item(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  struct json *root;
  if (json_parse_own(&root, context)) return PF_ECORRUPT;
  struct actor_client client = {0};
  struct pf_slice batch_id = {0}, hex, value;
  if (json_string(json_get(root, "session"), &hex))
    (void)!pf_u64_parse(&client.session, hex.data, hex.len);
  if (json_string(json_get(root, "ws"), &hex)) (void)!pf_u64_parse(&client.ws, hex.data, hex.len);
  json_string(json_get(root, "batchId"), &batch_id);
  char text[WIRE_KEY_MAX + 64];
  struct pf_slice key = batch_key(text, sizeof(text), &client, batch_id);
  struct batch batch;
  int err = PF_ECORRUPT;
  if (actor_get(actor, key, &value) && batch_read(value, &batch) == PF_OK) {
    batch.done++;
    if (result->outcome == OUTCOME_OK) batch.success++;
    bool complete = batch.done == batch.count;
    if (complete) actor_send_batch_complete(actor, &client, batch_id, batch.count, batch.success);
    if (complete && !client.session) {
      actor_delete(actor, key);
      err = PF_OK;
    } else {
      err = batch_write(actor, key, &batch);
    }
  }
  json_free(root);
  return err;
}

/* ---- the class ---- */

static int on_message(struct actor *actor, const struct actor_client *client,
    const struct client_message *message, struct pf_slice text) {
  (void)text;
  switch (message->type) {
  case CLIENT_START_FETCH:
    return start_fetch(actor, client, message);
  case CLIENT_START_BATCH:
    return start_batch(actor, client, message);
  default: {
    char why[128];
    snprintf(why, sizeof(why), "unknown message type '%.*s'",
        (int)(message->type_name.len < 64 ? message->type_name.len : 64), message->type_name.data);
    actor_send_error(
        actor, client, "unknown_type", pf_slice_str(why), message->client_id, message->batch_id);
    return 0;
  }
  }
}

static const struct actor_continuation continuations[] = {
    {.name = "result", .cannot_crash = true, .run = on_result},
    {.name = "batch-item", .cannot_crash = true, .run = on_batch_item},
};

const struct actor_class class_proxy = {
    .name = "proxy",
    .on_message = on_message,
    .continuations = continuations,
    .continuation_count = PF_COUNT(continuations),
};
