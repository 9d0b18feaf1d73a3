/* submitKey: the same key and request give the same job; the same key and another request, an
 * error.
 *
 * Keys of jobs that are pending are in memory; older ones are looked up in the database. A message
 * with a key waits for that before it makes its turn. */
#include <string.h>

#include "origin/parts.h"
#include "wire/client.h"

struct submit_id {
  uint64_t scope;
  struct pf_slice key;
};

static bool submit_eq(const struct pf_map_node *node, const void *arg) {
  const struct job *job = pf_container_of(node, struct job, submit_node);
  const struct submit_id *id = arg;
  return job->submit_scope == id->scope && pf_slice_eq(job->submit_key, id->key);
}

static uint64_t submit_hash(const struct core *core, const struct submit_id *id) {
  return pf_hash_bytes(core->hash_key, id->key.data, id->key.len) ^ pf_hash_u64(id->scope);
}

struct job *submits_find(const struct core *core, uint64_t scope, struct pf_slice key) {
  struct submit_id id = {scope, key};
  struct pf_map_node *node = pf_map_find(&core->submits, submit_hash(core, &id), submit_eq, &id);
  return node ? pf_container_of(node, struct job, submit_node) : NULL;
}

void submits_add(struct core *core, struct job *job) {
  struct submit_id id = {job->submit_scope, job->submit_key};
  pf_map_put(&core->submits, &job->submit_node, submit_hash(core, &id));
}

void submits_remove(struct core *core, struct job *job) {
  pf_map_del(&core->submits, &job->submit_node);
}

/* Tells requests apart that bear the same key. The key of the hash is fixed: digests are stored. */
void submits_digest(uint64_t ret_digest[2], const struct client_fetch *fetch) {
  static const uint64_t keys[2][2] = {{1, 2}, {3, 4}};
  struct pf_buf bytes;
  pf_buf_init(&bytes, PF_BUF_MAX_DEFAULT);
  wire_request_encode(&bytes, &fetch->request);
  pf_buf_slice(&bytes, fetch->continuation);
  pf_buf_append(&bytes, "", 1);
  pf_buf_slice(&bytes, fetch->context);
  for (int i = 0; i < 2; i++)
    ret_digest[i] = pf_hash_bytes(keys[i], bytes.data, bytes.len);
  pf_buf_done(&bytes);
}

/* ---- the check before the turn ---- */

struct submit_wait {
  struct event event; /* text is owned */
  uint64_t actor;
  uint64_t digest[2];
  struct pf_slice client_id; /* in the lookup's arena */
};

static void answer_conflict(
    struct core *core, const struct event *event, struct pf_slice client_id) {
  static const char text[] = "this submitKey was used before with another request";
  if (event->kind == EVENT_API_FETCH)
    queries_error(core, event->id, 409, "submit_key_conflict", text);
  else
    clients_send_error(core, event->client.ws, "submit_key_conflict", pf_slice_str(text), client_id,
        (struct pf_slice){0});
}

static void answer_pending(
    struct core *core, const struct event *event, struct job *job, struct pf_slice client_id) {
  if (event->kind == EVENT_API_FETCH) {
    queries_wait(core, job, event->id, event->wait_ms, true);
    return;
  }
  /* The result goes to the session; a plain socket takes the job over. */
  if (!job->client.session) job->client.ws = event->client.ws;
  job->enqueued_told = false;
  jobs_set_client_id(job, client_id); /* it is echoed as it came last */
  if (job->accepted) announce_tell_enqueued(core, job);
}

static void on_stored_result(struct core *core, struct lookup *lookup) {
  struct pf_job_id id = {core->origin_id, lookup->id};
  const struct lookup_row *row = lookup->rows;
  if (lookup->index) {
    if (row)
      queries_respond_done(core, lookup);
    else
      queries_error(core, lookup->token, 410, "result_expired",
          "the job is done and its result is no longer kept");
  } else {
    struct pf_buf frame;
    pf_buf_init(&frame, WIRE_FRAME_MAX);
    client_enqueued_encode(&frame, id, lookup->key, 0);
    turn_output_frame(core, lookup->token, &frame);
    pf_buf_clear(&frame);
    if (row)
      turn_output_frame(
          core, lookup->token, &(struct pf_buf){.data = (char *)row->a.data, .len = row->a.len});
    else
      clients_send_error(core, lookup->token, "result_expired",
          pf_slice_str("the job is done and its result is no longer kept"), lookup->key,
          (struct pf_slice){0});
    pf_buf_done(&frame);
  }
  lookup_free(lookup);
}

static void answer_done(
    struct core *core, const struct event *event, uint64_t local, struct pf_slice client_id) {
  bool api = event->kind == EVENT_API_FETCH;
  struct lookup *lookup = lookup_new(LOOKUP_RESULT, local, on_stored_result);
  if (client_id.data) lookup->key = pf_arena_copy(&lookup->arena, client_id);
  lookup->token = api ? event->id : event->client.ws;
  lookup->index = api;
  core_ask(core, lookup);
}

/* A job that is finishing takes nobody in any more: its result is asked for behind the commit that
 * writes it. */
static void answer_same(
    struct core *core, const struct event *event, struct job *job, struct pf_slice client_id) {
  if (job->state == JOB_FINISHING)
    answer_done(core, event, job->local, client_id);
  else
    answer_pending(core, event, job, client_id);
}

static void on_checked(struct core *core, struct lookup *lookup) {
  struct submit_wait *wait = lookup->arg;
  const struct lookup_row *row = lookup->rows;
  if (row && core_is_unread(core, row->other)) {
    lookup_rows_clear(lookup);
    core_ask(core, lookup); /* again, behind the next page of jobs */
    return;
  }
  /* Meanwhile another message may have made the job, or the one on disk is still pending. */
  struct job *job = submits_find(core, lookup->id, lookup->key);
  bool same = job   ? memcmp(job->digest, wait->digest, sizeof(wait->digest)) == 0
              : row ? row->b.len == sizeof(wait->digest) &&
                          memcmp(row->b.data, wait->digest, sizeof(wait->digest)) == 0
                    : true;
  if (!same) {
    answer_conflict(core, &wait->event, wait->client_id);
  } else if (job) {
    answer_same(core, &wait->event, job, wait->client_id);
  } else if (row) {
    answer_done(core, &wait->event, row->other, wait->client_id);
  } else {
    wait->event.submit_checked = true;
    wait->event.submit_scope = lookup->id;
    actors_deliver(actors_get_by_id(core, wait->actor), &wait->event);
  }
  lookup_free(lookup);
}

void submits_check(struct core *core, struct actor *actor, const struct event *event,
    const struct client_fetch *fetch) {
  /* Without a session the keys of one actor are one space; session ids and actor ids are told apart
   * by the top bit. */
  uint64_t scope = event->client.session ? event->client.session : actor->id | 1ull << 63;
  struct job *job = submits_find(core, scope, fetch->submit_key);
  uint64_t digest[2];
  submits_digest(digest, fetch);
  if (job && memcmp(job->digest, digest, sizeof(digest)) != 0) {
    answer_conflict(core, event, fetch->id);
    return;
  }
  if (job) {
    answer_same(core, event, job, fetch->id);
    return;
  }
  struct lookup *lookup = lookup_new(LOOKUP_SUBMIT, scope, on_checked);
  lookup->key = pf_arena_copy(&lookup->arena, fetch->submit_key);
  struct submit_wait *wait = pf_arena_alloc(&lookup->arena, sizeof(*wait));
  wait->event = *event;
  wait->event.text = pf_arena_copy(&lookup->arena, event->text);
  wait->actor = actor->id;
  memcpy(wait->digest, digest, sizeof(digest));
  if (fetch->id.data) wait->client_id = pf_arena_copy(&lookup->arena, fetch->id);
  lookup->arg = wait;
  core_ask(core, lookup);
}
