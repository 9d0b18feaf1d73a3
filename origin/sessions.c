/* Sessions: clients that return get everything they have not acknowledged, in order, without holes.
 *
 * An event gets its offset and its row in the same commit as the change that it reports. It is sent
 * to the attached socket when that commit is durable, unless the socket still replays older ones:
 * then the replay finds it in the database.
 *
 * After a power cut in normal mode, or from a backup, the origin may know less than a client has
 * seen, and gives offsets out again. So until a client returns, it can have seen no more than what
 * the start has found: a larger offset is one of those that were lost, and acknowledges nothing of
 * what has the same number now. */
#include <stdlib.h>
#include <string.h>

#include "origin/parts.h"

enum { EVICTED_AT_ONCE = 64 }; /* there are more than one only if the limit was lowered */

/* ---- the tables ---- */

static bool token_eq(const struct pf_map_node *node, const void *arg) {
  return memcmp(pf_container_of(node, struct session, by_token)->token, arg, 16) == 0;
}

static bool id_eq(const struct pf_map_node *node, const void *arg) {
  return pf_container_of(node, struct session, by_id)->id == *(const uint64_t *)arg;
}

static uint64_t token_hash(const unsigned char token[16]) {
  uint64_t hash; /* tokens are random */
  memcpy(&hash, token, sizeof(hash));
  return hash;
}

struct session *sessions_find(const struct core *core, uint64_t id) {
  if (!id) return NULL;
  struct pf_map_node *node = pf_map_find(&core->sessions_by_id, pf_hash_u64(id), id_eq, &id);
  return node ? pf_container_of(node, struct session, by_id) : NULL;
}

static struct session *find_by_token(const struct core *core, struct pf_slice text) {
  unsigned char token[16];
  if (pf_hex_parse(token, sizeof(token), text.data, text.len)) return NULL;
  struct pf_map_node *node =
      pf_map_find(&core->sessions_by_token, token_hash(token), token_eq, token);
  return node ? pf_container_of(node, struct session, by_token) : NULL;
}

/* Nobody is there, nothing is to come, and all that came was acknowledged: if it goes, nobody loses
 * anything. */
static void note_idle(struct core *core, struct session *session) {
  bool idle = !session->ws && session->pending == 0 && session->acked == session->next_offset - 1;
  if (idle)
    pf_heap_set(&core->idle_sessions, &session->idle, session->seen_ms);
  else
    pf_heap_del(&core->idle_sessions, &session->idle);
}

void sessions_count_job(struct core *core, uint64_t id, int by) {
  struct session *session = sessions_find(core, id);
  if (!session) return;
  session->pending += by;
  note_idle(core, session);
}

static void session_enter(struct core *core, struct session *session) {
  pf_list_init(&session->dirty);
  pf_map_put(&core->sessions_by_id, &session->by_id, pf_hash_u64(session->id));
  pf_map_put(&core->sessions_by_token, &session->by_token, token_hash(session->token));
  note_idle(core, session);
}

void core_add_session(struct core *core, const struct session *row) {
  struct session *session = pf_alloc(sizeof(*session));
  *session = *row;
  session->ws = 0;
  session->durable = session->next_offset - 1;
  if (session->claimable < 0) session->claimable = session->durable;
  session->pending = 0;
  session->replaying = false;
  session_enter(core, session);
}

static void session_free(struct core *core, struct session *session) {
  pf_map_del(&core->sessions_by_id, &session->by_id);
  pf_map_del(&core->sessions_by_token, &session->by_token);
  pf_list_del(&session->dirty);
  pf_heap_del(&core->idle_sessions, &session->idle);
  free(session);
}

static void session_delete(struct core *core, struct session *session) {
  commit_op(core->open, OP_SESSION_DELETE, session->id);
  session_free(core, session);
}

static void mark_dirty(struct core *core, struct session *session) {
  if (pf_list_empty(&session->dirty)) pf_list_push(&core->dirty_sessions, &session->dirty);
}

/* The oldest events go when a limit is passed; the client is told of the hole when it returns. */
static void enforce_limits(struct core *core, struct session *session, struct commit *commit) {
  int64_t before = session->acked;
  for (;;) {
    int64_t kept = session->next_offset - 1 - session->acked;
    bool many = kept > core->limits->session_events_max;
    bool large = session->bytes > core->limits->session_bytes_max && kept > 1;
    if (!many && !large) break;
    int64_t drop = many ? kept - core->limits->session_events_max : kept / 4 + 1;
    session->bytes -= session->bytes / kept * drop; /* an estimate; a restart counts again */
    session->acked += drop;
  }
  if (session->acked > before) commit_op(commit, OP_EVENTS_DELETE, session->id)->n = session->acked;
}

/* Limits are enforced here and not with each event: no turn can be undone any more. */
void sessions_flush_dirty(struct core *core, struct commit *commit) {
  for (struct pf_list *link; (link = pf_list_pop(&core->dirty_sessions)) != NULL;) {
    struct session *session = pf_container_of(link, struct session, dirty);
    enforce_limits(core, session, commit);
    struct op *op = commit_op(commit, OP_SESSION_PUT, session->id);
    op->other = session->actor;
    op->n = session->next_offset;
    op->m = session->acked;
    op->o = session->claimable;
    op->w = session->seen_ms;
    op->a = commit_copy(commit, pf_slice(session->token, sizeof(session->token)));
  }
}

/* ---- events ---- */

void sessions_add_event(struct core *core, struct session *session,
    void (*encode)(struct pf_buf *buf, void *arg, int64_t offset), void *arg) {
  int64_t offset = session->next_offset++;
  struct pf_buf frame;
  pf_buf_init(&frame, PF_BUF_MAX_DEFAULT);
  encode(&frame, arg, offset);
  struct pf_slice bytes = commit_copy_buf(core->open, &frame);
  pf_buf_done(&frame);
  struct op *op = commit_op(core->open, OP_EVENT_PUT, session->id);
  op->n = offset;
  op->w = core->kept_ms;
  op->a = bytes;
  struct output *output = commit_output(core->open, OUT_EVENT, session->id);
  output->n = offset;
  output->bytes = bytes;
  session->bytes += (int64_t)bytes.len;
  mark_dirty(core, session);
  note_idle(core, session);
}

static void encode_result(struct pf_buf *buf, void *arg, int64_t offset) {
  struct client_result *result = arg;
  result->offset = offset;
  client_result_encode(buf, result);
}

void sessions_add_result(struct core *core, struct session *session, struct client_result *result) {
  sessions_add_event(core, session, encode_result, result);
}

void sessions_take_back(struct core *core, const struct output *output) {
  struct session *session = sessions_find(core, output->id);
  if (!session) return;
  session->next_offset--;
  session->bytes -= (int64_t)output->bytes.len;
  note_idle(core, session);
}

void sessions_on_event_durable(struct core *core, const struct output *output) {
  struct session *session = sessions_find(core, output->id);
  if (!session) return;
  if (output->n != session->durable + 1) core->stats.invariant_failures++; /* offsets are dense */
  session->durable = output->n;
  if (!session->ws || session->replaying || session->sent + 1 != output->n) return;
  session->sent = output->n;
  core->edge.send(core->edge_arg, session->ws, output->bytes);
}

static void replay_page(struct core *core, struct session *session);

static void send_gap(struct core *core, struct session *session, int64_t to) {
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  client_gap_encode(&frame, session->sent + 1, to);
  core->edge.send(core->edge_arg, session->ws, pf_buf_view(&frame));
  pf_buf_done(&frame);
  session->sent = to;
}

static void on_replay_page(struct core *core, struct lookup *lookup) {
  struct session *session = sessions_find(core, lookup->id);
  if (session && session->ws == lookup->token) {
    for (const struct lookup_row *row = lookup->rows; row; row = row->next) {
      if (row->n > session->sent + 1)
        send_gap(core, session, row->n - 1); /* retention was faster */
      core->edge.send(core->edge_arg, session->ws, row->a);
      session->sent = row->n;
    }
    if (!lookup->rows && session->sent < session->durable)
      send_gap(core, session, session->durable);
    session->replaying = false;
    if (session->sent < session->durable && lookup->row_count > 0)
      replay_page(core, session);
    else
      session->sent = session->durable;
  }
  lookup_free(lookup);
}

static void replay_page(struct core *core, struct session *session) {
  session->replaying = true;
  struct lookup *lookup = lookup_new(LOOKUP_EVENTS, session->id, on_replay_page);
  lookup->n = session->sent;
  lookup->token = session->ws;
  core_ask(core, lookup);
}

void sessions_ack(struct core *core, struct session *session, int64_t offset) {
  if (offset >= session->next_offset) offset = session->next_offset - 1;
  if (offset <= session->acked) return;
  int64_t kept = session->next_offset - 1 - session->acked;
  session->bytes -= session->bytes / kept * (offset - session->acked);
  if (offset == session->next_offset - 1) session->bytes = 0;
  session->acked = offset;
  commit_op(core->open, OP_EVENTS_DELETE, session->id)->n = offset;
  mark_dirty(core, session);
}

/* ---- attaching ---- */

/* The one whose client has been away longest, of those that lose nothing. While jobs of earlier
 * runs are still being read, nobody knows which those are. */
static bool make_room(struct core *core) {
  for (int i = 0; i < EVICTED_AT_ONCE; i++) {
    if ((int64_t)core->sessions_by_id.count < core->limits->sessions_max) return true;
    struct pf_heap_node *oldest = pf_heap_first(&core->idle_sessions);
    if (!oldest || core->loading) return false;
    session_delete(core, pf_container_of(oldest, struct session, idle));
    core->stats.sessions_evicted++;
  }
  return (int64_t)core->sessions_by_id.count < core->limits->sessions_max;
}

static struct session *session_make(struct core *core, const struct socket *socket) {
  struct session *session = pf_alloc(sizeof(*session));
  session->id = core->next_session++;
  session->actor = socket->actor->id;
  pf_rand_secret(session->token, sizeof(session->token));
  session->next_offset = 1;
  session->claimable = -1;
  session->seen_ms = core->kept_ms;
  session_enter(core, session);
  actors_ensure_row(socket->actor);
  return session; /* attached next, which writes its row */
}

static void attach(struct core *core, struct session *session, struct socket *socket) {
  if (session->ws && session->ws != socket->ws) {
    struct socket *old = clients_find(core, session->ws);
    if (old) old->session = 0, old->taken_over = true;
    struct output *output = commit_output(core->open, OUT_CLOSE, session->ws);
    output->code = 4001;
    output->bytes = pf_slice_str("taken over by another connection");
  }
  socket->session = session->id;
  session->ws = socket->ws;
  session->claimable = -1;
  session->seen_ms = core->kept_ms;
  session->replaying = true; /* until the greeting has left */
  mark_dirty(core, session);
  note_idle(core, session);
}

/* newest: what it may take for the newest offset. */
static void greet(struct core *core, struct session *session, int64_t from, int64_t newest) {
  char token[WIRE_SESSION_HEX + 1];
  pf_hex_print(token, session->token, sizeof(session->token));
  struct pf_buf frame;
  pf_buf_init(&frame, WIRE_FRAME_MAX);
  client_session_encode(&frame, pf_slice_str(token), newest, session->acked + 1, session->pending);
  turn_output_frame(core, session->ws, &frame);
  if (from < session->acked) {
    pf_buf_clear(&frame);
    client_gap_encode(&frame, from + 1, session->acked);
    turn_output_frame(core, session->ws, &frame);
  }
  pf_buf_done(&frame);
  session->sent = session->acked; /* resume has acknowledged all up to `from` */
  commit_output(core->open, OUT_REPLAY, session->ws);
}

void sessions_on_greeted(struct core *core, uint64_t ws) {
  const struct socket *socket = clients_find(core, ws); /* it may be gone, or taken over */
  struct session *session = socket ? sessions_find(core, socket->session) : NULL;
  if (session) replay_page(core, session);
}

void sessions_resume(
    struct core *core, struct socket *socket, const struct client_message *message) {
  struct pf_slice none = {0};
  if (socket->spoke) {
    clients_send_error(core, socket->ws, "bad_message",
        pf_slice_str("resume must be the first message of a connection"), none, none);
    return;
  }
  if (!message->session.len && !make_room(core)) {
    clients_send_error(core, socket->ws, "sessions_full",
        pf_slice_str("this origin keeps as many sessions as it may, and each has a client or "
                     "something to tell; try again later, or go on without one"),
        none, none);
    return;
  }
  if (!message->session.len) {
    struct session *session = session_make(core, socket);
    attach(core, session, socket);
    greet(core, session, 0, 0);
    return;
  }
  struct session *session = find_by_token(core, message->session);
  if (!session || session->actor != socket->actor->id) {
    clients_send_error(core, socket->ws, "session_unknown",
        pf_slice_str(
            "no such session here, or it has expired; send {\"type\":\"resume\"} for a new one"),
        none, none);
    return;
  }
  int64_t from = message->offset < 0 ? session->acked : message->offset;
  int64_t newest = session->next_offset - 1;
  /* It counts from there, and takes what follows for new. */
  if (session->claimable >= 0 && from > session->claimable) newest = session->claimable;
  if (from > newest) from = newest;
  int64_t oldest_before = session->acked;
  attach(core, session, socket);
  sessions_ack(core, session, from);
  greet(core, session, from < oldest_before ? from : session->acked, newest);
}

void sessions_detach(struct core *core, struct socket *socket) {
  struct session *session = sessions_find(core, socket->session);
  if (!session || session->ws != socket->ws) return;
  session->ws = 0;
  session->seen_ms = core->kept_ms;
  mark_dirty(core, session);
  note_idle(core, session);
}

/* ---- retention ---- */

/* If the process dies, its row says since when the client may have been away; it is written seldom,
 * so that half the time to return is left at least. */
static void session_note_seen(struct core *core, struct session *session) {
  if (core->kept_ms - session->seen_ms < core->limits->session_keep_ms / 2) return;
  session->seen_ms = core->kept_ms;
  mark_dirty(core, session);
}

void sessions_tick(struct core *core) {
  if (core->loading) return; /* which of them have jobs is not known yet */
  if (core->now_ns / 1000000 - core->sessions_swept_ms < 60000) return;
  core->sessions_swept_ms = core->now_ns / 1000000;
  int64_t before_ms = core->kept_ms - core->limits->session_keep_ms;
  PF_MAP_EACH(it, &core->sessions_by_id) {
    struct session *session = pf_container_of(it, struct session, by_id);
    if (session->ws) {
      session_note_seen(core, session);
    } else if (!session->pending && session->seen_ms <= before_ms) {
      session_delete(core, session);
      core->stats.sessions_expired++;
    }
  }
}

void sessions_done(struct core *core) {
  PF_MAP_EACH(it, &core->sessions_by_id)
    free(pf_container_of(it, struct session, by_id));
  pf_map_done(&core->sessions_by_id);
  pf_map_done(&core->sessions_by_token);
  pf_heap_done(&core->idle_sessions);
}
