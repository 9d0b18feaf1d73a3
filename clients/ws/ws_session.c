#include "clients/ws/ws_session.h"

#include <stdio.h>

#include "base/clock.h"

static void connection_open(struct ws_session *s);

static void session_end(struct ws_session *s, const char *why) {
  if (s->closing) return;
  ws_session_close(s);
  s->config.closed(s->config.arg, why);
}

/* resume names the session; ack is about the one that the connection serves. */
static void send_offset(struct ws_session *s, const char *type) {
  char text[160];
  int len = snprintf(text, sizeof(text), "{\"type\":\"%s\",\"session\":\"%s\",\"offset\":%lld}",
      type, s->token, (long long)s->offset);
  ws_session_send(s, pf_slice(text, (size_t)len));
}

/* ---- resume ---- */

static void go_on_plain(struct ws_session *s) {
  s->asking = false;
  s->plain = true;
  uv_timer_stop(&s->timer);
  s->config.ready(s->config.arg);
}

static void on_resume_timer(uv_timer_t *timer) {
  struct ws_session *s = timer->data;
  if (s->token[0])
    session_end(s, "the server does not answer to resume");
  else
    go_on_plain(s);
}

static void on_opened(void *arg) {
  struct ws_session *s = arg;
  if (s->plain) {
    s->config.ready(s->config.arg);
    return;
  }
  s->asking = true;
  if (s->token[0])
    send_offset(s, "resume");
  else
    ws_session_send(s, pf_slice_str("{\"type\":\"resume\"}"));
  /* One that has given us a session may be busy with its start. */
  uint64_t ms = s->token[0] ? 10 * WS_SESSION_RESUME_MS : WS_SESSION_RESUME_MS;
  uv_timer_start(&s->timer, on_resume_timer, ms, 0);
}

/* What is confirmed is a job that is pending there, or an event that is still to come. An origin
 * that lost its last moments (a power cut) gives their offsets to other events, and nobody knows
 * what else it has lost. */
static int64_t session_owed(struct ws_session *s, const struct message *m) {
  if (m->offset < 0 || m->pending < 0) return INT64_MAX;
  if (m->offset >= s->offset) return m->pending + m->offset - s->offset;
  s->offset = s->acked = m->offset;
  return 0;
}

static void on_session(struct ws_session *s, const struct message *m) {
  if (!s->asking) return;
  s->asking = false;
  s->lost_ms = 0;
  uv_timer_stop(&s->timer);
  if (!s->token[0])
    snprintf(s->token, sizeof(s->token), "%.*s", (int)m->session.len, m->session.data);
  int64_t owed = session_owed(s, m);
  s->config.ready(s->config.arg);
  if (!s->closing) s->config.owed(s->config.arg, owed);
}

/* An error that names no fetch, while resume is unanswered, is the answer to it. */
static void on_refused(struct ws_session *s, const struct message *m) {
  char why[256];
  if (!s->token[0]) {
    go_on_plain(s);
    return;
  }
  snprintf(why, sizeof(why), "%.*s", (int)m->error.len, m->error.data);
  session_end(s, why);
}

bool ws_session_take(struct ws_session *s, const struct message *m) {
  if (m->type == MESSAGE_SESSION) {
    on_session(s, m);
    return true;
  }
  if (s->asking && m->type == MESSAGE_ERROR && !m->client_id.len && !m->batch_id.len) {
    on_refused(s, m);
    return true;
  }
  bool gap = s->token[0] && m->type == MESSAGE_GAP && m->to > s->offset;
  if (gap) s->offset = m->to;
  if (s->token[0] && m->offset > s->offset) s->offset = m->offset;
  if (s->offset - s->acked >= s->config.ack_every) {
    s->acked = s->offset;
    send_offset(s, "ack");
  }
  if (gap) s->config.owed(s->config.arg, 0);
  return m->type == MESSAGE_GAP;
}

/* ---- the connection ---- */

static void on_reconnect_timer(uv_timer_t *timer) {
  connection_open(timer->data);
}

static void on_closed(void *arg, int err, const char *why) {
  struct ws_session *s = arg;
  int64_t now_ms = pf_clock_mono_ms();
  (void)err;
  s->ws = NULL;
  s->asking = false;
  if (s->closing) return;
  bool first = s->lost_ms == 0;
  if (first) {
    s->lost_ms = now_ms;
    s->pause_ms = WS_SESSION_PAUSE_MIN_MS;
  }
  /* Without a session there is nothing to come back to. */
  if (!s->token[0] || now_ms - s->lost_ms >= s->config.reconnect_ms) {
    session_end(s, why);
    return;
  }
  uv_timer_start(&s->timer, on_reconnect_timer, (uint64_t)s->pause_ms, 0);
  s->pause_ms =
      s->pause_ms * 2 > WS_SESSION_PAUSE_MAX_MS ? WS_SESSION_PAUSE_MAX_MS : s->pause_ms * 2;
  if (first) s->config.lost(s->config.arg, why);
}

static void on_text(void *arg, struct pf_slice text) {
  struct ws_session *s = arg;
  if (!s->closing) s->config.text(s->config.arg, text);
}

static void on_pong(void *arg) {
  struct ws_session *s = arg;
  if (!s->closing && s->config.pong) s->config.pong(s->config.arg);
}

static void connection_open(struct ws_session *s) {
  struct ws_client_handlers handlers = {
      .arg = s, .opened = on_opened, .text = on_text, .pong = on_pong, .closed = on_closed};
  s->ws = ws_client_open(s->loop, s->config.url, &handlers);
}

/* ---- life ---- */

void ws_session_open(
    struct ws_session *s, uv_loop_t *loop, const struct ws_session_config *config) {
  *s = (struct ws_session){.config = *config, .loop = loop, .plain = config->plain};
  int err = uv_timer_init(loop, &s->timer);
  PF_ASSERT(err == 0);
  s->timer.data = s;
  connection_open(s);
}

void ws_session_send(struct ws_session *s, struct pf_slice text) {
  if (s->ws) ws_client_send(s->ws, text);
}

void ws_session_ping(struct ws_session *s) {
  if (s->ws) ws_client_ping(s->ws);
}

void ws_session_close(struct ws_session *s) {
  if (s->closing) return;
  s->closing = true;
  uv_close((uv_handle_t *)&s->timer, NULL);
  if (s->ws) ws_client_close(s->ws);
}
