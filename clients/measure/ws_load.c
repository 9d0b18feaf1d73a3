#include "clients/measure/ws_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/list.h"
#include "clients/ws/message.h"
#include "wire/json.h"

#define NO_SLOT SIZE_MAX

struct socket {
  struct ws_load *load;
  struct pf_list link;
  struct ws_client *client;
  size_t slot; /* of the one fetch that it is for; NO_SLOT: it is for all, or for none any more */
};

struct slot {
  uint32_t round; /* odd while a fetch is under way */
  size_t request;
};

struct ws_load {
  uv_loop_t *loop;
  struct ws_load_handlers handlers;
  struct ws_url server;
  bool fresh, closing, opened;
  struct pf_arena arena;   /* the frames */
  struct pf_slice *frames; /* of each request, up to the clientId */
  struct pf_list open;     /* struct socket */
  struct socket **clients; /* those that all fetches share */
  size_t client_count, standing, turn;
  struct slot *slots;
  size_t count;
  struct pf_buf frame;
  struct pf_arena parsed;
};

/* ---- frames ---- */

static void frame_print(
    struct pf_buf *out, const struct load_request *request, const char *include) {
  struct json_writer w = json_writer(out);
  pf_buf_clear(out);
  json_begin_object(&w, NULL);
  json_put_text(&w, "type", "start-fetch");
  json_put_string(&w, "url", request->url);
  json_put_string(&w, "method", request->method);
  if (request->body.len) json_put_string(&w, "body", request->body);
  if (include) json_begin_array(&w, "include");
  for (const char *at = include; at && *at;) {
    size_t len = strcspn(at, ",");
    json_put_string(&w, NULL, pf_slice(at, len));
    at += len + (at[len] == ',');
  }
  if (include) json_end_array(&w);
  pf_buf_str(out, ",\"clientId\":\"");
  PF_ASSERT(out->err == PF_OK);
}

static void frame_send(struct ws_load *load, struct ws_client *client, size_t slot) {
  const struct slot *s = &load->slots[slot];
  pf_buf_clear(&load->frame);
  pf_buf_slice(&load->frame, load->frames[s->request]);
  pf_buf_printf(&load->frame, "%zu-%u\"}", slot, s->round);
  ws_client_send(client, pf_buf_view(&load->frame));
}

/* "SLOT-ROUND"; false if that is not what is under way. */
static bool slot_of(const struct ws_load *load, struct pf_slice id, size_t *ret_slot) {
  char text[48];
  unsigned round;
  snprintf(text, sizeof(text), "%.*s", (int)(id.len < 47 ? id.len : 47), id.data ? id.data : "");
  return sscanf(text, "%zu-%u", ret_slot, &round) == 2 && *ret_slot < load->count &&
         load->slots[*ret_slot].round == round && round % 2;
}

static void slot_end(struct ws_load *load, size_t slot, int status, const char *why) {
  load->slots[slot].round++;
  load->handlers.done(load->handlers.arg, slot, status, why);
}

/* ---- sockets ---- */

static void socket_on_text(void *arg, struct pf_slice text) {
  struct socket *socket = arg;
  struct ws_load *load = socket->load;
  struct message m;
  struct pf_error why = {0};
  size_t slot;
  if (load->closing) return;
  pf_arena_clear(&load->parsed);
  /* What cannot be decoded does not end its slot: it shows. */
  if (message_decode(&m, text, &load->parsed, &why)) return;
  if ((m.type != MESSAGE_RESULT && m.type != MESSAGE_ERROR) || !slot_of(load, m.client_id, &slot))
    return;
  bool good = m.type == MESSAGE_RESULT && m.success;
  char words[200];
  snprintf(words, sizeof(words), "%.*s", (int)(m.error.len < 199 ? m.error.len : 199),
      m.error.data ? m.error.data : "");
  if (socket->slot != NO_SLOT) {
    socket->slot = NO_SLOT;
    ws_client_close(socket->client);
  }
  slot_end(load, slot, good ? (int)m.status : 0, words);
}

static void socket_on_pong(void *arg) {
  (void)arg;
}

static void socket_on_opened(void *arg) {
  struct socket *socket = arg;
  struct ws_load *load = socket->load;
  if (load->closing) {
    ws_client_close(socket->client);
  } else if (socket->slot != NO_SLOT) {
    frame_send(load, socket->client, socket->slot);
  } else if (++load->standing == load->client_count) {
    load->opened = true;
    if (load->fresh) ws_client_close(socket->client); /* it has shown that the server is there */
    load->handlers.opened(load->handlers.arg);
  }
}

static void socket_on_closed(void *arg, int err, const char *why) {
  struct socket *socket = arg;
  struct ws_load *load = socket->load;
  size_t slot = socket->slot;
  bool ours = load->closing || (load->fresh && load->opened && slot == NO_SLOT);
  pf_list_del(&socket->link);
  free(socket);
  if (ours) return;
  if (slot != NO_SLOT)
    slot_end(load, slot, 0, why);
  else
    load->handlers.lost(load->handlers.arg, err, why);
}

static struct socket *socket_open(struct ws_load *load, size_t slot) {
  struct socket *socket = pf_alloc(sizeof(*socket));
  struct ws_client_handlers handlers = {.arg = socket,
      .opened = socket_on_opened,
      .text = socket_on_text,
      .pong = socket_on_pong,
      .closed = socket_on_closed};
  socket->load = load;
  socket->slot = slot;
  pf_list_push(&load->open, &socket->link);
  socket->client = ws_client_open(load->loop, &load->server, &handlers);
  return socket;
}

/* ---- the load ---- */

void ws_load_send(struct ws_load *load, size_t slot, size_t request) {
  PF_ASSERT(slot < load->count && load->slots[slot].round % 2 == 0 && !load->closing);
  load->slots[slot].round++;
  load->slots[slot].request = request;
  if (load->fresh) {
    (void)socket_open(load, slot);
    return;
  }
  frame_send(load, load->clients[load->turn]->client, slot);
  load->turn = (load->turn + 1) % load->client_count;
}

struct ws_load *ws_load_open(
    uv_loop_t *loop, const struct ws_load_plan *plan, const struct ws_load_handlers *handlers) {
  size_t clients = plan->fresh ? 1 : plan->clients;
  PF_ASSERT(clients > 0 && clients <= WS_LOAD_CLIENTS_MAX && plan->request_count > 0);
  struct ws_load *load = pf_alloc(sizeof(*load));
  load->loop = loop;
  load->handlers = *handlers;
  load->server = plan->server;
  load->fresh = plan->fresh;
  load->count = plan->slots;
  load->slots = pf_alloc(plan->slots * sizeof(*load->slots));
  pf_list_init(&load->open);
  pf_buf_init(&load->frame, WS_CLIENT_MESSAGE_MAX);
  load->frames = pf_alloc(plan->request_count * sizeof(*load->frames));
  for (size_t i = 0; i < plan->request_count; i++) {
    frame_print(&load->frame, &plan->requests[i], plan->include);
    load->frames[i] = pf_arena_copy(&load->arena, pf_buf_view(&load->frame));
  }
  load->client_count = clients;
  load->clients = pf_alloc(clients * sizeof(struct socket *));
  for (size_t i = 0; i < clients; i++)
    load->clients[i] = socket_open(load, NO_SLOT);
  return load;
}

void ws_load_close(struct ws_load *load) {
  load->closing = true;
  for (struct pf_list *at = load->open.next, *next; at != &load->open; at = next) {
    next = at->next;
    ws_client_close(pf_container_of(at, struct socket, link)->client);
  }
}

void ws_load_free(struct ws_load *load) {
  if (!load) return;
  PF_ASSERT(pf_list_empty(&load->open));
  pf_arena_done(&load->arena);
  pf_arena_done(&load->parsed);
  pf_buf_done(&load->frame);
  free(load->frames);
  free(load->clients);
  free(load->slots);
  free(load);
}
