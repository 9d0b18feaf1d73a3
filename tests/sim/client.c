/* Clients with sessions: they submit, cancel, hang up, come back and count what they are told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { GIVE_UP_MS = 4000 }; /* without a greeting a client dials again */

static void client_dial(struct sim *sim, int i);

static int client_index(const struct sim *sim, uint64_t conn) {
  for (int i = 0; conn && i < SIM_CLIENTS; i++)
    if (sim->clients[i].conn == conn) return i;
  return -1;
}

/* ---- saying ---- */

static int64_t up_us(struct sim *sim, struct sim_client *c) {
  int64_t at_us = sim->now_us + sim_delay_us(sim);
  if (at_us < c->up_us) at_us = c->up_us;
  c->up_us = at_us;
  return at_us - sim->now_us;
}

static void client_say(struct sim *sim, struct sim_client *c, const char *text) {
  sim_note(sim, "client %d says %s", (int)(c - sim->clients),
      c->session[0] && strstr(text, "resume") ? "resume" : text);
  sim_after_bytes(
      sim, NODE_ORIGIN, false, up_us(sim, c), origin_ws_message, c->conn, 0, pf_slice_str(text));
}

static void client_submit(struct sim *sim, int number) {
  struct sim_submit *s = &sim->submits[number];
  struct sim_client *c = &sim->clients[s->client];
  char text[512];
  size_t size = sizeof(text), len;
  if (!s->sent) s->conn = c->conn;
  s->sent = true;
  s->sends++;
  if (s->batch)
    len = (size_t)snprintf(text, size,
        "{\"type\":\"start-batch-fetch\",\"batchId\":\"b%d\",\"count\":%d", number, SIM_BATCH);
  else
    len = (size_t)snprintf(text, size, "{\"type\":\"start-fetch\",\"clientId\":\"c%d\"", number);
  len += (size_t)snprintf(text + len, size - len,
      ",\"url\":\"http://target.test/%d\",\"method\":\"%s\",\"timeoutMs\":2000", number,
      s->repeatable ? "GET" : "POST");
  if (s->deadline_ms)
    len +=
        (size_t)snprintf(text + len, size - len, ",\"deadlineMs\":%lld", (long long)s->deadline_ms);
  if (s->keyed && !s->batch)
    len += (size_t)snprintf(text + len, size - len, ",\"submitKey\":\"k%d\"", number);
  snprintf(text + len, size - len, "}");
  client_say(sim, c, text);
}

static void client_submit_due(struct sim *sim, struct sim_event *event) {
  struct sim_submit *s = &sim->submits[event->a];
  if (!s->sent && sim->clients[s->client].ready) client_submit(sim, (int)event->a);
}

static void client_cancel_due(struct sim *sim, struct sim_event *event) {
  struct sim_submit *s = &sim->submits[event->a];
  struct sim_client *c = &sim->clients[s->client];
  char text[128];
  if (!c->ready || s->results) return;
  s->cancelled = true;
  snprintf(text, sizeof(text), "{\"type\":\"cancel\",\"reqId\":\"%016llx%016llx\"}", 7ull,
      (unsigned long long)s->local);
  client_say(sim, c, text);
}

/* ---- hearing ---- */

static void on_greeting(struct sim *sim, int i, const char *frame) {
  struct sim_client *c = &sim->clients[i];
  c->ready = true;
  if (!frame_text(frame, "session", c->session, sizeof(c->session)))
    sim_fail(sim, "a greeting without a session");
  for (size_t n = 0; n < sim->submit_count; n++) {
    struct sim_submit *s = &sim->submits[n];
    if (s->client != i || s->over || s->results) continue;
    if (!s->sent) /* while there was no connection its time may have come */
      sim_after(sim, NODE_WORLD, sim_between(sim, 0, 2000) * SIM_MS, client_submit_due, n, 0);
    else if (s->keyed && !s->enqueued)
      client_submit(sim, (int)n);
  }
}

static struct sim_submit *submit_named(struct sim *sim, const char *frame) {
  char id[64];
  if (!frame_text(frame, "clientId", id, sizeof(id)) &&
      !frame_text(frame, "batchId", id, sizeof(id)))
    return NULL;
  return &sim->submits[strtol(id + 1, NULL, 10)];
}

static void on_enqueued(struct sim *sim, struct sim_client *c, const char *frame) {
  struct sim_submit *s = submit_named(sim, frame);
  char id[64];
  PF_ASSERT(s && frame_text(frame, "reqId", id, sizeof(id)) && strlen(id) == 32);
  uint64_t local = strtoull(id + 16, NULL, 16);
  if (s->local && s->local != local) sim_fail(sim, "one submit, two jobs");
  s->local = local;
  if (!oracle_find(sim, local)) sim_fail(sim, "enqueued before it was durable");
  (void)c;
  if (s->enqueued) return;
  s->enqueued = true;
  if (sim_between(sim, 0, 9) == 0)
    sim_after(sim, NODE_WORLD, sim_between(sim, 0, 3000) * SIM_MS, client_cancel_due,
        (uint64_t)(s - sim->submits), 0);
}

static void on_event(struct sim *sim, struct sim_client *c, const char *frame, int64_t offset) {
  if (offset <= c->offset) return; /* a repeat */
  if (offset != c->offset + 1)
    sim_fail(sim, "offset %lld after %lld", (long long)offset, (long long)c->offset);
  c->offset = offset;
  struct sim_submit *s = submit_named(sim, frame);
  if (strstr(frame, "\"type\":\"late-result\"")) return;
  if (!s) {
    sim_fail(sim, "an event that names nobody");
    return;
  }
  /* Who asks again after a batch that has ended is told again. */
  if (++s->results > (s->batch ? s->sends : 1))
    sim_fail(sim, "submit %d got its result twice", (int)(s - sim->submits));
  if (!s->batch && s->conn == c->conn && !s->enqueued)
    sim_fail(sim, "a result before its enqueued");
  if (sim_between(sim, 0, 2) != 0) return;
  char text[64];
  snprintf(text, sizeof(text), "{\"type\":\"ack\",\"offset\":%lld}", (long long)offset);
  client_say(sim, c, text);
}

void client_on_frame(struct sim *sim, uint64_t conn, struct pf_slice text) {
  int i = client_index(sim, conn);
  const char *frame = text.data; /* ends in a NUL */
  char type[32];
  if (i < 0) return;
  struct sim_client *c = &sim->clients[i];
  PF_ASSERT(frame_text(frame, "type", type, sizeof(type)));
  int64_t offset = frame_number(frame, "offset", -1);
  sim_note(sim, "client %d hears %s offset=%lld", i, type, (long long)offset);
  if (strcmp(type, "session") == 0) {
    on_greeting(sim, i, frame);
  } else if (strcmp(type, "enqueued") == 0) {
    on_enqueued(sim, c, frame);
  } else if (strcmp(type, "gap") == 0) {
    sim_fail(sim, "events were dropped");
  } else if (strcmp(type, "error") == 0) {
    char code[64] = "";
    frame_text(frame, "code", code, sizeof(code));
    if (!strcmp(code, "unknown_session")) sim_fail(sim, "a session was lost");
    struct sim_submit *s = submit_named(sim, frame);
    if (s) sim_fail(sim, "a submit was refused: %s", code);
  } else if (strcmp(type, "batch-started") == 0) {
    submit_named(sim, frame)->enqueued = true;
  } else if (offset >= 0) {
    on_event(sim, c, frame, offset);
  }
}

/* ---- connections ---- */

static void client_redial(struct sim *sim, struct sim_event *event) {
  if (sim->clients[event->a].conn == 0) client_dial(sim, (int)event->a);
}

static void client_lose(struct sim *sim, int i) {
  struct sim_client *c = &sim->clients[i];
  c->conn = 0;
  c->ready = false;
  for (size_t n = 0; n < sim->submit_count; n++) {
    struct sim_submit *s = &sim->submits[n];
    /* Without a key nobody can tell whether it was taken. */
    if (s->client == i && s->sent && !s->enqueued && !s->keyed) s->over = true;
  }
  sim_after(sim, NODE_WORLD, sim_between(sim, 10, 1500) * SIM_MS, client_redial, (uint64_t)i, 0);
}

static void client_impatient(struct sim *sim, struct sim_event *event) {
  struct sim_client *c = &sim->clients[event->a];
  if (c->conn == event->b && !c->ready) client_hang_up(sim, (int)event->a);
}

static void client_dial(struct sim *sim, int i) {
  struct sim_client *c = &sim->clients[i];
  char text[160];
  if (sim->nodes[NODE_ORIGIN].down) {
    sim_after(sim, NODE_WORLD, 200 * SIM_MS, client_redial, (uint64_t)i, 0);
    return;
  }
  c->conn = ++sim->next_id;
  c->up_us = c->down_us = 0;
  sim_after(sim, NODE_ORIGIN, up_us(sim, c), origin_ws_open, c->conn, 0);
  if (c->session[0])
    snprintf(text, sizeof(text), "{\"type\":\"resume\",\"session\":\"%s\",\"offset\":%lld}",
        c->session, (long long)c->offset);
  else
    snprintf(text, sizeof(text), "{\"type\":\"resume\"}");
  client_say(sim, c, text);
  sim_after(sim, NODE_WORLD, GIVE_UP_MS * SIM_MS, client_impatient, (uint64_t)i, c->conn);
}

void client_on_closed(struct sim *sim, uint64_t conn) {
  int i = client_index(sim, conn);
  if (i >= 0) client_lose(sim, i);
}

void client_hang_up(struct sim *sim, int i) {
  struct sim_client *c = &sim->clients[i];
  if (c->conn == 0) return;
  if (!sim->nodes[NODE_ORIGIN].down)
    sim_after(sim, NODE_ORIGIN, up_us(sim, c), origin_ws_close, c->conn, 0);
  client_lose(sim, i);
}

bool clients_finished(const struct sim *sim) {
  for (size_t i = 0; i < sim->submit_count; i++) {
    const struct sim_submit *s = &sim->submits[i];
    if (!s->sent || (!s->over && s->results == 0)) return false;
  }
  return true;
}

void clients_start(struct sim *sim) {
  sim->submit_count = (size_t)sim_between(sim, 4, 10);
  for (size_t i = 0; i < sim->submit_count; i++)
    sim->submits[i] = (struct sim_submit){.client = (int)sim_between(sim, 0, SIM_CLIENTS - 1),
        .batch = sim_between(sim, 0, 7) == 0,
        .repeatable = sim_between(sim, 0, 1),
        .keyed = sim_between(sim, 0, 1),
        .deadline_ms = sim_between(sim, 0, 9) == 0 ? sim_between(sim, 500, 8000) : 0};
  for (size_t i = 0; i < sim->submit_count; i++)
    if (sim->submits[i].batch) sim->submits[i].keyed = true; /* its batchId is its key */
  for (int i = 0; i < SIM_CLIENTS; i++)
    client_dial(sim, i);
}
