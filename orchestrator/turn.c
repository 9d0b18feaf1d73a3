#include "orchestrator/turn.h"

#include <stdlib.h>

#include "http/client.h"
#include "orchestrator/app.h"
#include "web/web.h"

/* One action or one answer. */
struct held {
  struct pf_list link;
  uint64_t gate; /* leaves when turn.durable has reached it */
  bool is_action;
  struct queue_action action;
  uint64_t request;
  struct pf_buf body;
};

static void held_free(struct held *held) {
  pf_buf_done(&held->body);
  free(held);
}

static void held_leave(struct app *app, struct held *held) {
  if (held->is_action && !app->dispatch) {
    /* not any more: the next start finds its row */
  } else if (held->is_action) {
    dispatch_act(app->dispatch, &held->action);
  } else {
    struct web_response response = {
        .status = 200, .content_type = HTTP_CONTENT_BATCH, .body = pf_buf_view(&held->body)};
    web_respond(app->web, held->request, &response);
  }
  held_free(held);
}

static void turn_release(struct app *app) {
  struct turn *turn = &app->turn;
  while (!pf_list_empty(&turn->held)) {
    struct held *held = pf_container_of(turn->held.next, struct held, link);
    if (held->gate > turn->durable) return;
    pf_list_del(&held->link);
    held_leave(app, held);
  }
}

/* tag: the number of the urgent group, or 0 for a lazy one. */
static void group_durable(void *arg, void *tag) {
  struct app *app = arg;
  uint64_t number = (uintptr_t)tag;
  if (number == 0) return;
  PF_ASSERT(number == app->turn.durable + 1);
  app->turn.durable = number;
  turn_release(app);
}

static void turn_write(struct app *app) {
  struct queue_group group;
  if (!queue_take_group(app->queue, &group)) return;
  uint64_t number = group.urgent ? ++app->turn.submitted : 0;
  queue_db_write(app->db, &group, group_durable, app, (void *)(uintptr_t)number);
}

static void turn_hold(struct turn *turn, struct held *held) {
  held->gate = turn->submitted;
  pf_list_push(&turn->held, &held->link);
}

static void turn_collect(struct app *app) {
  struct turn *turn = &app->turn;
  /* Dispatches first: an executor's work takes longer than an origin's note of it. */
  struct queue_action action;
  while (queue_take_action(app->queue, &action)) {
    struct held *held = pf_alloc(sizeof(*held));
    held->is_action = true;
    held->action = action;
    turn_hold(turn, held);
  }
  for (struct pf_list *it; (it = pf_list_pop(&turn->answers)) != NULL;)
    turn_hold(turn, pf_container_of(it, struct held, link));
}

static void turn_on_timer(uv_timer_t *timer) {
  (void)timer; /* it only ends the wait; turn_flush does the work */
}

static void turn_set_timer(struct app *app, int64_t now_us) {
  struct turn *turn = &app->turn;
  int64_t next_us = queue_next_us(app->queue);
  /* An action that nobody can be called for is answered while it is released. */
  if (queue_has_group(app->queue)) next_us = now_us;
  if (next_us == turn->next_us && uv_is_active((uv_handle_t *)&turn->timer)) return;
  turn->next_us = next_us;
  if (next_us == INT64_MAX) {
    uv_timer_stop(&turn->timer);
    return;
  }
  int64_t wait_ms = next_us > now_us ? (next_us - now_us + 999) / 1000 : 0;
  uv_update_time(app->loop); /* the turn may have taken a while */
  uv_timer_start(&turn->timer, turn_on_timer, (uint64_t)wait_ms, 0);
}

void turn_flush(struct app *app) {
  if (!app->queue || app->stopped) return;
  int64_t now_us = app_now_us();
  queue_settle(app->queue, now_us);
  turn_write(app);
  turn_collect(app);
  turn_release(app);
  turn_set_timer(app, now_us);
}

static void turn_on_prepare(uv_prepare_t *prepare) {
  turn_flush(prepare->data);
}

void turn_open(struct app *app) {
  struct turn *turn = &app->turn;
  pf_list_init(&turn->held);
  pf_list_init(&turn->answers);
  uv_prepare_init(app->loop, &turn->prepare);
  uv_timer_init(app->loop, &turn->timer);
  turn->prepare.data = turn->timer.data = app;
  uv_prepare_start(&turn->prepare, turn_on_prepare);
  turn->handles = 2;
}

void turn_answer(struct app *app, uint64_t request, struct pf_buf *body) {
  struct held *held = pf_alloc(sizeof(*held));
  held->request = request;
  held->body = *body;
  *body = (struct pf_buf){0};
  pf_list_push(&app->turn.answers, &held->link);
}

static void turn_handle_closed(uv_handle_t *handle) {
  struct app *app = handle->data;
  struct turn *turn = &app->turn;
  PF_ASSERT(turn->handles > 0);
  if (--turn->handles > 0) return;
  pf_list_splice(&turn->held, &turn->answers);
  for (struct pf_list *it; (it = pf_list_pop(&turn->held)) != NULL;)
    held_free(pf_container_of(it, struct held, link));
}

void turn_close(struct app *app) {
  uv_close((uv_handle_t *)&app->turn.prepare, turn_handle_closed);
  uv_close((uv_handle_t *)&app->turn.timer, turn_handle_closed);
}
