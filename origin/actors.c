/* Who is in memory, and what waits until it is. A pending fetch does not keep its actor here. */
#include <stdlib.h>
#include <string.h>

#include "origin/parts.h"

/* ---- the tables ---- */

struct name_key {
  const struct actor_class *class;
  struct pf_slice name;
};

static bool by_name_eq(const struct pf_map_node *node, const void *arg) {
  const struct actor *actor = pf_container_of(node, struct actor, by_name);
  const struct name_key *key = arg;
  return actor->class == key->class && pf_slice_is(key->name, actor->name);
}

static bool by_id_eq(const struct pf_map_node *node, const void *arg) {
  return pf_container_of(node, struct actor, by_id)->id == *(const uint64_t *)arg;
}

static uint64_t name_hash(const struct core *core, const struct name_key *key) {
  return pf_hash_bytes(core->hash_key, key->name.data, key->name.len) ^
         pf_hash_u64((uint64_t)(uintptr_t)key->class);
}

static struct actor *find_by_name(const struct core *core, const struct name_key *key) {
  struct pf_map_node *node =
      pf_map_find(&core->actors_by_name, name_hash(core, key), by_name_eq, key);
  return node ? pf_container_of(node, struct actor, by_name) : NULL;
}

static struct actor *find_by_id(const struct core *core, uint64_t id) {
  struct pf_map_node *node = pf_map_find(&core->actors_by_id, pf_hash_u64(id), by_id_eq, &id);
  return node ? pf_container_of(node, struct actor, by_id) : NULL;
}

static const struct actor_class *class_find(const struct core *core, struct pf_slice name) {
  for (const struct actor_class *const *class = core->classes; *class; class ++)
    if (pf_slice_is(name, (*class)->name)) return *class;
  return NULL;
}

static struct actor *actor_new(struct core *core) {
  struct actor *actor = pf_alloc(sizeof(*actor));
  actor->core = core;
  actor->loading = true;
  actor->used_ms = core->now_ns / 1000000;
  state_init(&actor->state);
  pf_list_init(&actor->inbox);
  pf_list_init(&actor->sockets);
  pf_list_init(&actor->dirty);
  pf_list_init(&actor->idle);
  return actor;
}

static void actor_set_name(struct actor *actor, const struct name_key *key) {
  actor->class = key->class;
  actor->name = pf_memdup(key->name.data, key->name.len);
  pf_map_put(&actor->core->actors_by_name, &actor->by_name, name_hash(actor->core, key));
}

static void actor_set_id(struct actor *actor, uint64_t id) {
  actor->id = id;
  pf_map_put(&actor->core->actors_by_id, &actor->by_id, pf_hash_u64(id));
}

static void actor_free(struct actor *actor) {
  while (!pf_list_empty(&actor->inbox)) {
    struct event *event = pf_container_of(pf_list_pop(&actor->inbox), struct event, link);
    free((char *)event->text.data);
    free(event);
  }
  if (actor->name) pf_map_del(&actor->core->actors_by_name, &actor->by_name);
  if (actor->id) pf_map_del(&actor->core->actors_by_id, &actor->by_id);
  pf_list_del(&actor->dirty);
  pf_list_del(&actor->idle);
  state_done(&actor->state);
  free(actor->name);
  free(actor);
}

/* ---- use ---- */

static void actor_touch(struct actor *actor) {
  actor->used_ms = actor->core->now_ns / 1000000;
  pf_list_del(&actor->idle);
  if (pf_list_empty(&actor->sockets)) pf_list_push(&actor->core->idle_actors, &actor->idle);
}

static void actor_run_inbox(struct actor *actor) {
  while (!pf_list_empty(&actor->inbox)) {
    struct event *event = pf_container_of(pf_list_pop(&actor->inbox), struct event, link);
    turn_run(actor, event);
    free((char *)event->text.data);
    free(event);
  }
  actor_touch(actor);
}

void actors_deliver(struct actor *actor, const struct event *event) {
  if (!actor->loading) {
    turn_run(actor, event);
    actor_touch(actor);
    return;
  }
  struct event *copy = pf_alloc(sizeof(*copy));
  *copy = *event;
  copy->text = pf_slice(pf_memdup(event->text.data, event->text.len), event->text.len);
  pf_list_push(&actor->inbox, &copy->link);
}

void actors_ensure_row(struct actor *actor) {
  if (actor->row_exists) return;
  actor->row_exists = true;
  struct commit *commit = actor->core->open;
  struct op *op = commit_op(commit, OP_ACTOR_PUT, actor->id);
  op->a = pf_slice_str(actor->class->name);
  op->b = commit_copy(commit, pf_slice_str(actor->name));
}

/* ---- loading ---- */

static void load_state(struct actor *actor, const struct lookup_row *rows) {
  for (const struct lookup_row *row = rows; row; row = row->next)
    state_load(&actor->state, row->a, row->b);
}

/* A job woke the actor by id while a client was loading it by name: they are the same. */
static void adopt_placeholder(struct actor *actor, uint64_t id) {
  struct actor *placeholder = find_by_id(actor->core, id);
  if (!placeholder) return;
  pf_list_splice(&actor->inbox, &placeholder->inbox);
  actor_free(placeholder);
}

static void on_loaded_by_name(struct core *core, struct lookup *lookup) {
  size_t class_len = strlen(lookup->key.data);
  struct name_key key = {class_find(core, pf_slice(lookup->key.data, class_len)),
      pf_slice(lookup->key.data + class_len + 1, lookup->key.len - class_len - 1)};
  struct actor *actor = find_by_name(core, &key);
  if (actor && actor->loading) {
    const struct lookup_row *row = lookup->rows;
    actor->row_exists = row != NULL;
    uint64_t id = row ? row->id : core->next_actor++;
    adopt_placeholder(actor, id);
    actor_set_id(actor, id);
    if (row) load_state(actor, row->next);
    actor->loading = false;
    actor_run_inbox(actor);
  }
  lookup_free(lookup);
}

static void on_loaded_by_id(struct core *core, struct lookup *lookup) {
  struct actor *actor = find_by_id(core, lookup->id);
  const struct lookup_row *row = lookup->rows;
  if (actor && actor->loading && !actor->name && row) {
    struct name_key key = {class_find(core, row->a), row->b};
    struct actor *named = key.class ? find_by_name(core, &key) : NULL;
    if (named) {
      /* Its own load is under way and will bring the state: leave it our events. */
      pf_list_splice(&named->inbox, &actor->inbox);
      actor_free(actor);
    } else if (key.class) {
      actor_set_name(actor, &key);
      actor->row_exists = true;
      load_state(actor, row->next);
      actor->loading = false;
      actor_run_inbox(actor);
    } else {
      pf_log(core->log, PF_LOG_ERROR, "actor_class_unknown", "actor=%llu class=%.*s",
          (unsigned long long)lookup->id, (int)row->a.len, row->a.data);
      while (!pf_list_empty(&actor->inbox)) {
        struct event *event = pf_container_of(pf_list_pop(&actor->inbox), struct event, link);
        struct job *job = event->kind == EVENT_CONTINUATION ? jobs_find(core, event->id) : NULL;
        if (job) results_park(core, job, "the actor's class is not known to this origin");
        free((char *)event->text.data);
        free(event);
      }
      actor_free(actor);
    }
  } else if (actor && actor->loading && !row) {
    pf_log(
        core->log, PF_LOG_ERROR, "actor_row_missing", "actor=%llu", (unsigned long long)lookup->id);
    core->stats.invariant_failures++;
    actor_free(actor);
  }
  lookup_free(lookup);
}

struct actor *actors_get(struct core *core, struct pf_slice class_name, struct pf_slice name) {
  struct name_key key = {class_find(core, class_name), name};
  if (!key.class) return NULL;
  struct actor *actor = find_by_name(core, &key);
  if (actor) return actor;
  actor = actor_new(core);
  actor_set_name(actor, &key);
  struct lookup *lookup = lookup_new(LOOKUP_ACTOR, 0, on_loaded_by_name);
  struct pf_buf text;
  pf_buf_init(&text, WIRE_NAME_MAX + WIRE_ACTOR_MAX + 2);
  pf_buf_append(&text, class_name.data, class_name.len);
  pf_buf_append(&text, "", 1);
  pf_buf_append(&text, name.data, name.len);
  lookup->key = pf_arena_copy(&lookup->arena, pf_buf_view(&text));
  pf_buf_done(&text);
  core_ask(core, lookup);
  return actor;
}

struct actor *actors_get_by_id(struct core *core, uint64_t id) {
  struct actor *actor = find_by_id(core, id);
  if (actor) return actor;
  actor = actor_new(core);
  actor_set_id(actor, id);
  core_ask(core, lookup_new(LOOKUP_ACTOR_ID, id, on_loaded_by_id));
  return actor;
}

/* ---- state that a commit takes along ---- */

void actors_mark_dirty(struct actor *actor) {
  if (state_dirty(&actor->state) && pf_list_empty(&actor->dirty))
    pf_list_push(&actor->core->dirty_actors, &actor->dirty);
}

static void flush_entry(struct pf_slice key, struct pf_slice value, void *arg) {
  struct actor *actor = arg;
  struct commit *commit = actor->core->open;
  struct op *op = commit_op(commit, value.data ? OP_STATE_PUT : OP_STATE_DELETE, actor->id);
  op->a = commit_copy(commit, key);
  op->b = commit_copy(commit, value);
}

void actors_flush_dirty(struct core *core, struct commit *commit) {
  PF_ASSERT(commit == core->open);
  for (struct pf_list *link; (link = pf_list_pop(&core->dirty_actors)) != NULL;) {
    struct actor *actor = pf_container_of(link, struct actor, dirty);
    actors_ensure_row(actor);
    state_flush(&actor->state, flush_entry, actor);
  }
}

/* ---- leaving memory ---- */

void actors_evict_idle(struct core *core) {
  int64_t before_ms = core->now_ns / 1000000 - core->limits->actor_idle_ms;
  PF_LIST_EACH(link, &core->idle_actors) {
    struct actor *actor = pf_container_of(link, struct actor, idle);
    if (actor->used_ms > before_ms) return; /* oldest use first */
    actor_free(actor);
  }
}

void actors_done(struct core *core) {
  PF_MAP_EACH(it, &core->actors_by_name)
    actor_free(pf_container_of(it, struct actor, by_name));
  PF_MAP_EACH(it, &core->actors_by_id) /* those without a name yet */
    actor_free(pf_container_of(it, struct actor, by_id));
  pf_map_done(&core->actors_by_name);
  pf_map_done(&core->actors_by_id);
}
