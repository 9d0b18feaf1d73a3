/* WebSocket clients: which socket belongs to which actor and session, and what they say. */
#include <stdlib.h>
#include <string.h>

#include "origin/parts.h"

static bool ws_eq(const struct pf_map_node *node, const void *arg) {
  return pf_container_of(node, struct socket, node)->ws == *(const uint64_t *)arg;
}

struct socket *clients_find(const struct core *core, uint64_t ws) {
  if (!ws) return NULL;
  struct pf_map_node *node = pf_map_find(&core->sockets, pf_hash_u64(ws), ws_eq, &ws);
  return node ? pf_container_of(node, struct socket, node) : NULL;
}

/* The socket that serves the client now: a session may have moved to another one. */
uint64_t clients_ws(const struct core *core, const struct actor_client *client) {
  if (!client->session) return client->ws;
  const struct session *session = sessions_find(core, client->session);
  return session ? session->ws : 0;
}

void clients_send_error(struct core *core, uint64_t ws, const char *code, struct pf_slice text,
    struct pf_slice client_id, struct pf_slice batch_id) {
  if (!ws) return;
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  client_error_encode(&frame, code, text, client_id, batch_id);
  turn_output_frame(core, ws, &frame);
  pf_buf_done(&frame);
}

/* "/" is actor `default` of class `proxy`; "/actors/{class}/{name}" any other. */
static bool path_split(
    struct pf_slice path, struct pf_slice *ret_class, struct pf_slice *ret_name) {
  static const char prefix[] = "/actors/";
  if (path.len == 0 || pf_slice_is(path, "/")) {
    *ret_class = pf_slice_str("proxy");
    *ret_name = pf_slice_str("default");
    return true;
  }
  size_t skip = sizeof(prefix) - 1;
  if (path.len <= skip || memcmp(path.data, prefix, skip) != 0) return false;
  const char *at = path.data + skip, *end = path.data + path.len;
  const char *slash = memchr(at, '/', (size_t)(end - at));
  if (!slash) return false;
  *ret_class = pf_slice(at, (size_t)(slash - at));
  *ret_name = pf_slice(slash + 1, (size_t)(end - slash - 1));
  return ret_class->len > 0 && ret_class->len <= WIRE_NAME_MAX && ret_name->len > 0 &&
         ret_name->len <= WIRE_ACTOR_MAX && !memchr(ret_name->data, '/', ret_name->len) &&
         !memchr(ret_name->data, '\0', ret_name->len);
}

int core_on_ws_open(struct core *core, uint64_t ws, struct pf_slice path) {
  struct pf_slice class_name, name;
  if (!path_split(path, &class_name, &name)) return 404;
  struct actor *actor = actors_get(core, class_name, name);
  if (!actor) return 404;
  struct socket *socket = pf_alloc(sizeof(*socket));
  socket->ws = ws;
  socket->actor = actor; /* an actor with sockets stays in memory */
  pf_list_push(&actor->sockets, &socket->of_actor);
  pf_list_del(&actor->idle);
  pf_map_put(&core->sockets, &socket->node, pf_hash_u64(ws));
  struct event event = {.kind = EVENT_CONNECT, .client = {ws, 0}, .received_ns = core->now_ns};
  actors_deliver(actor, &event);
  return 0;
}

void core_on_ws_close(struct core *core, uint64_t ws) {
  struct socket *socket = clients_find(core, ws);
  if (!socket) return;
  struct actor *actor = socket->actor;
  struct event event = {
      .kind = EVENT_CLOSE, .client = {ws, socket->session}, .received_ns = core->now_ns};
  sessions_detach(core, socket);
  pf_list_del(&socket->of_actor);
  pf_map_del(&core->sockets, &socket->node);
  free(socket);
  actors_deliver(actor, &event);
}

static void cancel(struct core *core, const struct socket *socket, struct pf_job_id id);

static void on_row_to_cancel(struct core *core, struct lookup *lookup) {
  const struct socket *socket = clients_find(core, lookup->token);
  struct pf_job_id id = {core->origin_id, (uint64_t)lookup->n};
  if (socket && !socket->taken_over) cancel(core, socket, id);
  lookup_free(lookup);
}

static void cancel(struct core *core, const struct socket *socket, struct pf_job_id id) {
  struct job *job = id.origin == core->origin_id ? jobs_find(core, id.local) : NULL;
  if (!job && id.origin == core->origin_id &&
      core_await_row(core, id.local, socket->ws, on_row_to_cancel))
    return;
  /* Only whoever started it may end it; to others it does not exist. */
  bool mine =
      job && job->actor == socket->actor->id &&
      (job->client.session ? job->client.session == socket->session : job->client.ws == socket->ws);
  if (!mine || job->state != JOB_PENDING) {
    clients_send_error(core, socket->ws, "not_pending",
        pf_slice_str("no pending fetch of this client has that reqId"), (struct pf_slice){0},
        (struct pf_slice){0});
    return;
  }
  jobs_end(core, job, OUTCOME_CANCELED, pf_slice_str(outcome_text(OUTCOME_CANCELED)));
}

static void on_ping(
    struct core *core, const struct socket *socket, const struct client_message *message) {
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  client_pong_encode(&frame, message->ping_id);
  turn_output_frame(core, socket->ws, &frame);
  pf_buf_done(&frame);
}

/* What belongs to the connection is answered here; everything else is the actor's turn. */
bool clients_handle(
    struct core *core, struct socket *socket, const struct client_message *message) {
  switch (message->type) {
  case CLIENT_RESUME:
    sessions_resume(core, socket, message);
    return true;
  case CLIENT_ACK: {
    struct session *session = sessions_find(core, socket->session);
    if (session) sessions_ack(core, session, message->offset);
    return true;
  }
  case CLIENT_CANCEL:
    cancel(core, socket, message->job);
    return true;
  case CLIENT_PING:
    on_ping(core, socket, message);
    return true;
  default:
    return false;
  }
}

/* Also what belongs to the connection goes through the actor's inbox: messages of one socket keep
 * their order while the actor is still loading. */
void core_on_ws_message(struct core *core, uint64_t ws, struct pf_slice text) {
  struct socket *socket = clients_find(core, ws);
  if (!socket) return;
  struct event event = {.kind = EVENT_MESSAGE,
      .client = {ws, socket->session},
      .received_ns = core->now_ns,
      .text = text};
  actors_deliver(socket->actor, &event);
}

void clients_done(struct core *core) {
  PF_MAP_EACH(it, &core->sockets)
    free(pf_container_of(it, struct socket, node));
  pf_map_done(&core->sockets);
}
