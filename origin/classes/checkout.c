/* Class `checkout`: a chain of fetches, to show how continuations carry on from each other.
 *
 *   {"type":"checkout","clientId":"c1","base":"http://127.0.0.1:8790","items":3}
 *
 * fetches a token (base/uuid), with it the user (base/echo), then all items (base/uuid) at the same
 * time, and joins them: {"type":"checkout-complete","clientId":"c1","token":…,"items":[…]}. Between
 * any two steps the process may die; the chain goes on where it was. docs/writing-actors.md walks
 * through it. */
#include <inttypes.h>
#include <stdio.h>

#include "origin/classes/classes.h"
#include "wire/json.h"

enum { ITEMS_MAX = 100, BASE_MAX = 512 };

/* What every continuation of a chain carries with it. */
struct chain {
  char base[BASE_MAX + 1];
  char client_id[WIRE_KEY_MAX + 1];
  char token[64];
  int64_t items, item;
};

static void copy_text(char *to, size_t size, const struct json *node) {
  struct pf_slice text = {0};
  json_string(node, &text);
  snprintf(to, size, "%.*s", (int)text.len, text.data ? text.data : "");
}

static int chain_read(struct chain *ret, struct pf_slice text) {
  struct json *root;
  *ret = (struct chain){.items = 3};
  if (json_parse_own(&root, text)) return PF_EINVAL;
  copy_text(ret->base, sizeof(ret->base), json_get(root, "base"));
  copy_text(ret->client_id, sizeof(ret->client_id), json_get(root, "clientId"));
  copy_text(ret->token, sizeof(ret->token), json_get(root, "token"));
  json_int(json_get(root, "items"), 1, ITEMS_MAX, &ret->items);
  json_int(json_get(root, "item"), 0, ITEMS_MAX, &ret->item);
  json_free(root);
  return ret->base[0] ? PF_OK : PF_EINVAL;
}

static void chain_write(struct pf_buf *buf, const struct chain *chain) {
  struct json_writer w = json_writer(buf);
  json_begin_object(&w, NULL);
  json_put_text(&w, "base", chain->base);
  json_put_text(&w, "clientId", chain->client_id);
  json_put_text(&w, "token", chain->token);
  json_put_int(&w, "items", chain->items);
  json_put_int(&w, "item", chain->item);
  json_end_object(&w);
}

static int fetch_step(struct actor *actor, const struct actor_client *client,
    const struct chain *chain, const char *path, const char *continuation) {
  char url[BASE_MAX + 128];
  int len = snprintf(url, sizeof(url), "%s%s", chain->base, path);
  struct client_fetch fetch;
  struct pf_error why = {0};
  int err = actor_fetch_get(&fetch, pf_slice(url, (size_t)len), &why);
  struct pf_buf context;
  pf_buf_init(&context, WIRE_CONTEXT_MAX);
  chain_write(&context, chain);
  struct actor_fetch spec = {.fetch = &fetch,
      .continuation = continuation,
      .context = pf_buf_view(&context),
      .client = *client};
  struct pf_job_id job;
  if (!err) err = actor_fetch(actor, &spec, &job, &why);
  pf_buf_done(&context);
  if (err)
    actor_send_error(actor, client, "checkout_failed", pf_slice_str(why.text),
        pf_slice_str(chain->client_id), (struct pf_slice){0});
  return PF_OK;
}

static int chain_fail(
    struct actor *actor, const struct actor_result *result, const struct chain *chain) {
  actor_send_error(actor, &result->client, "checkout_failed",
      result->error.len ? result->error : pf_slice_str("a step of the chain failed"),
      pf_slice_str(chain->client_id), (struct pf_slice){0});
  return PF_OK;
}

/* The uuid of a test endpoint's answer; false if there is none. */
static bool read_uuid(const struct actor_result *result, char *ret, size_t size) {
  struct json *root;
  if (result->outcome != OUTCOME_OK || result->status != 200 || !result->has_body ||
      json_parse_own(&root, result->body))
    return false;
  copy_text(ret, size, json_get(root, "uuid"));
  json_free(root);
  return ret[0] != '\0';
}

static int on_token(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  struct chain chain;
  if (chain_read(&chain, context)) return PF_ECORRUPT;
  if (!read_uuid(result, chain.token, sizeof(chain.token)))
    return chain_fail(actor, result, &chain);
  char path[96];
  snprintf(path, sizeof(path), "/echo?token=%s", chain.token);
  return fetch_step(actor, &result->client, &chain, path, "user");
}

/* The items of one chain meet in the actor's state. */
static struct pf_slice join_key(char *text, size_t size, const char *token, int64_t item) {
  int len = item < 0 ? snprintf(text, size, "chain/%s/", token)
                     : snprintf(text, size, "chain/%s/%04" PRId64, token, item);
  return pf_slice(text, (size_t)len);
}

static int on_user(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  struct chain chain;
  if (chain_read(&chain, context)) return PF_ECORRUPT;
  if (result->outcome != OUTCOME_OK || result->status != 200)
    return chain_fail(actor, result, &chain);
  int err = PF_OK;
  for (chain.item = 0; !err && chain.item < chain.items; chain.item++)
    err = fetch_step(actor, &result->client, &chain, "/uuid", "item");
  return err;
}

struct join {
  struct json_writer w;
  int64_t count;
};

static bool join_one(struct pf_slice key, struct pf_slice value, void *arg) {
  (void)key;
  struct join *join = arg;
  json_put_string(&join->w, NULL, value);
  join->count++;
  return true;
}

static bool count_one(struct pf_slice key, struct pf_slice value, void *arg) {
  (void)key, (void)value;
  ++*(int64_t *)arg;
  return true;
}

static int chain_complete(
    struct actor *actor, const struct actor_result *result, const struct chain *chain) {
  char text[128];
  struct pf_buf message;
  pf_buf_init(&message, WIRE_FRAME_MAX);
  struct join join = {.w = json_writer(&message)};
  json_begin_object(&join.w, NULL);
  json_put_text(&join.w, "type", "checkout-complete");
  json_put_text(&join.w, "clientId", chain->client_id);
  json_put_text(&join.w, "token", chain->token);
  json_begin_array(&join.w, "items");
  actor_list(actor, join_key(text, sizeof(text), chain->token, -1), join_one, &join);
  json_end_array(&join.w);
  json_end_object(&join.w);
  int err = actor_send_event(actor, &result->client, pf_buf_view(&message));
  pf_buf_done(&message);
  for (int64_t i = 0; i < chain->items; i++)
    actor_delete(actor, join_key(text, sizeof(text), chain->token, i));
  actor_log(actor, "checkout of %" PRId64 " items complete", join.count);
  return err;
}

static int on_item(
    struct actor *actor, const struct actor_result *result, struct pf_slice context) {
  struct chain chain;
  if (chain_read(&chain, context)) return PF_ECORRUPT;
  char text[128], uuid[64] = "unavailable";
  read_uuid(result, uuid, sizeof(uuid)); /* an item that failed is shown as such */
  int err =
      actor_put(actor, join_key(text, sizeof(text), chain.token, chain.item), pf_slice_str(uuid));
  int64_t present = 0;
  actor_list(actor, join_key(text, sizeof(text), chain.token, -1), count_one, &present);
  if (err || present < chain.items) return err;
  return chain_complete(actor, result, &chain);
}

static int on_message(struct actor *actor, const struct actor_client *client,
    const struct client_message *message, struct pf_slice text) {
  struct chain chain;
  if (!pf_slice_is(message->type_name, "checkout")) {
    actor_send_error(actor, client, "unknown_type",
        pf_slice_str("this class knows one message: {\"type\":\"checkout\",\"base\":\"http://…\"}"),
        message->client_id, message->batch_id);
    return PF_OK;
  }
  if (chain_read(&chain, text)) {
    actor_send_error(actor, client, "bad_message",
        pf_slice_str("base must be the URL of the test endpoints"), message->client_id,
        message->batch_id);
    return PF_OK;
  }
  return fetch_step(actor, client, &chain, "/uuid", "token");
}

static const struct actor_continuation continuations[] = {
    {.name = "token", .needs = WIRE_INCLUDE_BODY, .run = on_token},
    {.name = "user", .run = on_user},
    {.name = "item", .needs = WIRE_INCLUDE_BODY, .run = on_item},
};

const struct actor_class class_checkout = {
    .name = "checkout",
    .on_message = on_message,
    .continuations = continuations,
    .continuation_count = PF_COUNT(continuations),
};
