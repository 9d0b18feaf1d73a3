#include "ws_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "message.h"
#include "wire/json.h"

struct ws_load {
  struct ws_load_handlers handlers;
  struct ws_client *client;
  struct pf_buf frame;
  size_t frame_head; /* bytes of the frame that are the same for all */
  size_t count;
  uint32_t *rounds; /* of each slot; odd while a fetch is under way */
  struct pf_arena arena;
};

static void frame_prepare(struct ws_load *load, const struct ws_load_plan *plan) {
  pf_buf_init(&load->frame, WS_CLIENT_MESSAGE_MAX);
  struct json_writer w = json_writer(&load->frame);
  json_begin_object(&w, NULL);
  json_put_text(&w, "type", "start-fetch");
  json_put_text(&w, "url", plan->target);
  json_put_text(&w, "method", plan->method);
  if (plan->body.len) json_put_string(&w, "body", plan->body);
  if (plan->include) json_begin_array(&w, "include");
  for (const char *at = plan->include; at && *at;) {
    size_t len = strcspn(at, ",");
    json_put_string(&w, NULL, pf_slice(at, len));
    at += len + (at[len] == ',');
  }
  if (plan->include) json_end_array(&w);
  pf_buf_str(&load->frame, ",\"clientId\":\"");
  PF_ASSERT(load->frame.err == PF_OK);
  load->frame_head = load->frame.len;
}

void ws_load_send(struct ws_load *load, size_t slot) {
  PF_ASSERT(slot < load->count && load->rounds[slot] % 2 == 0);
  load->rounds[slot]++;
  load->frame.len = load->frame_head;
  pf_buf_printf(&load->frame, "%zu-%u\"}", slot, load->rounds[slot]);
  ws_client_send(load->client, pf_buf_view(&load->frame));
}

/* "SLOT-ROUND"; false if that is not what is under way. */
static bool slot_of(const struct ws_load *load, struct pf_slice id, size_t *ret_slot) {
  char text[48];
  unsigned round;
  snprintf(text, sizeof(text), "%.*s", (int)(id.len < 47 ? id.len : 47), id.data ? id.data : "");
  return sscanf(text, "%zu-%u", ret_slot, &round) == 2 && *ret_slot < load->count &&
         load->rounds[*ret_slot] == round && round % 2;
}

static void on_text(void *arg, struct pf_slice text) {
  struct ws_load *load = arg;
  struct message m;
  struct pf_error why = {0};
  size_t slot;
  pf_arena_clear(&load->arena);
  if (message_decode(&m, text, &load->arena, &why)) return; /* its slot will not end: it shows */
  if ((m.type != MESSAGE_RESULT && m.type != MESSAGE_ERROR) || !slot_of(load, m.client_id, &slot))
    return;
  bool good = m.type == MESSAGE_RESULT && m.success;
  char words[200];
  snprintf(words, sizeof(words), "%.*s", (int)(m.error.len < 199 ? m.error.len : 199),
      m.error.data ? m.error.data : "");
  load->rounds[slot]++;
  load->handlers.done(load->handlers.arg, slot, good ? (int)m.status : 0, words);
}

static void on_pong(void *arg) {
  (void)arg;
}

static void on_opened(void *arg) {
  struct ws_load *load = arg;
  load->handlers.opened(load->handlers.arg);
}

static void on_closed(void *arg, int err, const char *why) {
  struct ws_load *load = arg;
  load->client = NULL;
  load->handlers.closed(load->handlers.arg, err, why);
}

struct ws_load *ws_load_open(
    uv_loop_t *loop, const struct ws_load_plan *plan, const struct ws_load_handlers *handlers) {
  struct ws_load *load = pf_alloc(sizeof(*load));
  load->handlers = *handlers;
  load->count = plan->slots;
  load->rounds = pf_alloc(plan->slots * sizeof(*load->rounds));
  frame_prepare(load, plan);
  struct ws_client_handlers client = {
      .arg = load, .opened = on_opened, .text = on_text, .pong = on_pong, .closed = on_closed};
  load->client = ws_client_open(loop, &plan->server, &client);
  return load;
}

void ws_load_close(struct ws_load *load) {
  if (load->client) ws_client_close(load->client);
}

void ws_load_free(struct ws_load *load) {
  if (!load) return;
  PF_ASSERT(!load->client);
  pf_arena_done(&load->arena);
  pf_buf_done(&load->frame);
  free(load->rounds);
  free(load);
}
