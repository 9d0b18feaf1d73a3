/* `proxyfetch fetch URL`: one fetch through the system, from the shell.
 *
 * The fetch belongs to a session of the origin, if that has such (`resume` of the protocol): then a
 * connection that breaks, even with the origin behind it, is made again, and the result comes on
 * the new one. What was sent before is sent again only if nobody has acknowledged it, under the
 * same submitKey, so that it is one job whatever happens. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/rand.h"
#include "clients/cli/command.h"
#include "clients/ws/message.h"
#include "clients/ws/ws_session.h"
#include "http/client.h"
#include "loop/signals.h"
#include "wire/client.h"
#include "wire/json.h"

#define CLIENT_ID "cli"

struct fetch_config {
  char *url, *method, *data, *include, *idempotency_key;
  struct pf_option_list headers;
  int64_t timeout_ms, deadline_ms, reconnect_ms;
  int redirect;
  bool json, wait, fail, session;
};

static const char *const redirect_names[] = {"follow", "manual", "error", NULL};

#define FIELD(name) offsetof(struct fetch_config, name)
static const struct pf_option fetch_option_list[] = {
    {.name = "method",
        .letter = 'X',
        .type = PF_OPT_STRING,
        .offset = FIELD(method),
        .unit = "METHOD",
        .help = "Request method; by default GET, or POST with --data."},
    {.name = "header",
        .letter = 'H',
        .type = PF_OPT_LIST,
        .offset = FIELD(headers),
        .unit = "'NAME: VALUE'",
        .help = "A request header; may be given many times."},
    {.name = "data",
        .letter = 'd',
        .type = PF_OPT_STRING,
        .offset = FIELD(data),
        .unit = "TEXT|@FILE",
        .help = "Request body; @FILE reads a file, @- standard input."},
    {.name = "include",
        .type = PF_OPT_STRING,
        .offset = FIELD(include),
        .unit = "LIST",
        .fallback = "body",
        .help = "What to show of the answer: headers, body, timings, logs, separated by commas."},
    {.name = "json",
        .type = PF_OPT_FLAG,
        .offset = FIELD(json),
        .help = "Print the result message as it came."},
    {.name = "url",
        .type = PF_OPT_STRING,
        .offset = FIELD(url),
        .unit = "WS",
        .fallback = COMMAND_ORIGIN_WS,
        .help = "The origin that is asked."},
    {.name = "timeout-ms",
        .type = PF_OPT_INT,
        .offset = FIELD(timeout_ms),
        .unit = "ms",
        .min = 0,
        .max = WIRE_ATTEMPT_MS_MAX,
        .help = "How long one attempt may take; 0: as the server likes."},
    {.name = "deadline-ms",
        .type = PF_OPT_INT,
        .offset = FIELD(deadline_ms),
        .unit = "ms",
        .min = 0,
        .max = WIRE_DEADLINE_MS_MAX,
        .help = "How long all attempts may take together; 0: as the server likes."},
    {.name = "redirect",
        .type = PF_OPT_CHOICE,
        .offset = FIELD(redirect),
        .fallback = "follow",
        .choices = redirect_names,
        .help = "What to do with a redirect."},
    {.name = "idempotency-key",
        .type = PF_OPT_STRING,
        .offset = FIELD(idempotency_key),
        .unit = "KEY",
        .help = "Sent to the target; makes any method repeatable."},
    {.name = "wait",
        .type = PF_OPT_FLAG,
        .offset = FIELD(wait),
        .fallback = "true",
        .help = "Wait for the result; --no-wait prints the job's id as soon as it is durable."},
    {.name = "session",
        .type = PF_OPT_FLAG,
        .offset = FIELD(session),
        .fallback = "true",
        .help = "Ask for a session, so that a broken connection loses nothing; --no-session does "
                "not."},
    {.name = "reconnect-ms",
        .type = PF_OPT_INT,
        .offset = FIELD(reconnect_ms),
        .unit = "ms",
        .fallback = "60000",
        .min = 0,
        .max = 86400000,
        .help = "How long to try to get a broken connection back."},
    {.name = "fail",
        .letter = 'f',
        .type = PF_OPT_FLAG,
        .offset = FIELD(fail),
        .help = "Exit with 1 also if the target answered with a status of 400 or more."},
};
const struct pf_option_table fetch_options = {
    .program = "proxyfetch fetch",
    .summary = "fetch a URL through the system, and print the body",
    .operands = "URL",
    .env_prefix = "PROXYFETCH_FETCH_",
    .epilog = "Exit code: 0 if the target answered, 1 if not (the reason is on stderr).\n",
    .options = fetch_option_list,
    .count = PF_COUNT(fetch_option_list),
};

struct fetch {
  struct fetch_config config;
  const char *target;
  uv_loop_t loop;
  struct pf_signals signals;
  struct ws_url url;
  struct ws_session ws;
  struct http *http; /* opened for a body that is too large for a frame */
  struct http_call call;
  struct pf_buf frame;
  bool keyed; /* the frame has its submitKey */
  char body_url[WS_CLIENT_HOST_MAX + 512];
  char job[64]; /* as soon as the origin has said it */
  bool ended;
  int exit_code;
};

/* ---- the end ---- */

static void fetch_end(struct fetch *f, int exit_code) {
  if (f->ended) return;
  f->ended = true;
  f->exit_code = exit_code;
  ws_session_close(&f->ws);
  if (f->http) http_close(f->http, NULL, NULL);
}

static void fetch_fail(struct fetch *f, const char *what, const char *why) {
  fprintf(stderr, "proxyfetch: %s: %s\n", what, why);
  if (f->job[0] && f->config.wait) {
    char base[WS_CLIENT_HOST_MAX + 32];
    ws_url_http(&f->url, "/v1/jobs/", base, sizeof(base));
    fprintf(stderr, "proxyfetch: the job goes on; its result will be at %s%s\n", base, f->job);
  }
  fetch_end(f, PF_EXIT_FAILURE);
}

static void fetch_on_signal(void *arg) {
  fetch_end(arg, PF_EXIT_INTERRUPTED);
}

/* ---- the request ---- */

/* The bytes of --data. */
static int data_read(const char *data, struct pf_buf *body) {
  if (data[0] != '@') {
    pf_buf_str(body, data);
    return body->err;
  }
  bool from_stdin = strcmp(data, "@-") == 0;
  FILE *in = from_stdin ? stdin : fopen(data + 1, "re");
  if (!in) {
    fprintf(stderr, "proxyfetch fetch: data: cannot read %s: %s\n", data + 1, strerror(errno));
    return PF_EINVAL;
  }
  for (size_t len = 1; len > 0;) {
    char *room = pf_buf_reserve(body, 4096);
    len = room ? fread(room, 1, 4096, in) : 0;
    body->len += len;
  }
  bool bad = ferror(in);
  if (!from_stdin) fclose(in);
  if (bad) {
    fprintf(stderr, "proxyfetch fetch: data: cannot read %s\n", data + 1);
    return PF_EINVAL;
  }
  return body->err;
}

static int put_headers(struct json_writer *w, const struct pf_option_list *headers) {
  json_begin_array(w, "headers");
  for (size_t i = 0; i < headers->count; i++) {
    const char *text = headers->items[i], *colon = strchr(text, ':');
    if (!colon) {
      fprintf(stderr, "proxyfetch fetch: header: '%s' is not of the form 'Name: value'\n", text);
      return PF_EINVAL;
    }
    json_begin_array(w, NULL);
    json_put_string(w, NULL, pf_slice(text, (size_t)(colon - text)));
    json_put_text(w, NULL, colon + 1 + strspn(colon + 1, " \t"));
    json_end_array(w);
  }
  json_end_array(w);
  return PF_OK;
}

static void put_include(struct json_writer *w, const char *list) {
  json_begin_array(w, "include");
  for (const char *at = list; *at;) {
    size_t len = strcspn(at, ",");
    if (len) json_put_string(w, NULL, pf_slice(at, len));
    at += len + (at[len] == ',');
  }
  json_end_array(w);
}

static void put_body(struct json_writer *w, struct pf_slice body) {
  if (utf8_is_text(body))
    json_put_string(w, "body", body);
  else
    json_put_base64(w, "bodyBase64", body);
}

/* Rows 1 and 8 of the protocol. */
static int request_write(struct fetch *f) {
  const struct fetch_config *c = &f->config;
  struct pf_buf body;
  pf_buf_init(&body, WIRE_REQUEST_BODY_MAX + 4096);
  int err = c->data ? data_read(c->data, &body) : PF_OK;
  if (err == PF_ELIMIT || body.len > WIRE_REQUEST_BODY_MAX) {
    fprintf(stderr, "proxyfetch fetch: data: more than %zu bytes\n", WIRE_REQUEST_BODY_MAX);
    err = PF_ELIMIT;
  }
  struct json_writer writer = json_writer(&f->frame), *w = &writer;
  json_begin_object(w, NULL);
  json_put_text(w, "type", "start-fetch");
  json_put_text(w, "clientId", CLIENT_ID);
  json_put_text(w, "url", f->target);
  json_put_text(w, "method", c->method ? c->method : c->data ? "POST" : "GET");
  if (!err && c->headers.count) err = put_headers(w, &c->headers);
  if (c->data) put_body(w, pf_buf_view(&body));
  put_include(w, c->include);
  if (c->timeout_ms) json_put_int(w, "timeoutMs", c->timeout_ms);
  if (c->deadline_ms) json_put_int(w, "deadlineMs", c->deadline_ms);
  if (c->redirect) json_put_text(w, "redirect", redirect_names[c->redirect]);
  if (c->idempotency_key) json_put_text(w, "idempotencyKey", c->idempotency_key);
  json_end_object(w);
  pf_buf_done(&body);
  return err ? err : f->frame.err;
}

/* ---- the result ---- */

static bool write_out(struct pf_slice bytes) {
  if (fwrite(bytes.data, 1, bytes.len, stdout) == bytes.len && fflush(stdout) == 0) return true;
  fprintf(stderr, "proxyfetch: cannot write the body: %s\n", strerror(errno));
  return false;
}

static void print_headers(const struct message *m) {
  struct json *headers;
  if (!m->headers.data || json_parse(&headers, m->headers, NULL)) return;
  printf("HTTP %d\n", (int)m->status);
  for (const struct json *pair = json_first(headers); pair; pair = json_next(pair)) {
    const struct json *first = json_first(pair);
    struct pf_slice name, value;
    if (first && json_string(first, &name) && json_string(json_next(first), &value))
      printf("%.*s: %.*s\n", (int)name.len, name.data, (int)value.len, value.data);
  }
  printf("\n");
  json_free(headers);
}

static void print_timings(const struct message *m) {
  for (int i = 0; m->has_timings && i < MESSAGE_TIMINGS; i++)
    if (m->timings[i] >= 0)
      fprintf(stderr, "%-14s%9.3f ms\n", client_timing_names[i], m->timings[i]);
}

static void print_logs(const struct message *m) {
  struct json *logs;
  struct pf_slice line;
  if (!m->logs.data || json_parse(&logs, m->logs, NULL)) return;
  for (const struct json *node = json_first(logs); node; node = json_next(node))
    if (json_string(node, &line)) fprintf(stderr, "log: %.*s\n", (int)line.len, line.data);
  json_free(logs);
}

static int result_code(const struct fetch *f, const struct message *m) {
  return m->success && !(f->config.fail && m->status >= 400) ? PF_EXIT_OK : PF_EXIT_FAILURE;
}

static void print_failure(const struct message *m) {
  fprintf(stderr, "proxyfetch: %.*s", (int)m->error.len, m->error.data);
  if (m->code.len)
    fprintf(stderr, " (code %.*s, owner %.*s, certainty %.*s, attempts %lld)", (int)m->code.len,
        m->code.data, (int)m->owner.len, m->owner.data, (int)m->certainty.len, m->certainty.data,
        (long long)m->attempts);
  fprintf(stderr, "\n");
}

static void body_done(struct http_call *call) {
  struct fetch *f = call->arg;
  if (f->ended) return;
  if (call->err || call->status != 200) {
    char why[160];
    snprintf(why, sizeof(why), "%s (status %d)", call->error, call->status);
    fetch_fail(f, "the body could not be read", why);
    return;
  }
  fetch_end(f, write_out(pf_buf_view(&call->response)) ? f->exit_code : PF_EXIT_FAILURE);
}

/* A body that is larger than a frame waits at the origin. */
static void body_get(struct fetch *f, struct pf_slice path) {
  char text[512];
  snprintf(text, sizeof(text), "%.*s", (int)path.len, path.data);
  ws_url_http(&f->url, text, f->body_url, sizeof(f->body_url));
  PF_ASSERT(http_new(&f->http, &f->loop) == PF_OK);
  f->call = (struct http_call){.method = "GET",
      .url = f->body_url,
      .timeout_ms = 60000,
      .response_max = (size_t)1 << 30,
      .done = body_done,
      .arg = f};
  http_start(f->http, &f->call);
}

static void result_show(struct fetch *f, const struct message *m) {
  struct pf_buf body;
  int code = result_code(f, m);
  print_headers(m);
  print_timings(m);
  print_logs(m);
  if (!m->success) print_failure(m);
  pf_buf_init(&body, WS_CLIENT_MESSAGE_MAX);
  if (m->body_url.data) {
    f->exit_code = code;
    body_get(f, m->body_url);
  } else if (m->body_base64.data) {
    if (base64_decode(&body, m->body_base64))
      fetch_fail(f, "the server sent a broken body", "bodyBase64");
    else
      fetch_end(f, write_out(pf_buf_view(&body)) ? code : PF_EXIT_FAILURE);
  } else if (m->body.data) {
    fetch_end(f, write_out(m->body) ? code : PF_EXIT_FAILURE);
  } else {
    fetch_end(f, code);
  }
  pf_buf_done(&body);
}

/* ---- the connection ---- */

static void on_enqueued(struct fetch *f, const struct message *m) {
  snprintf(f->job, sizeof(f->job), "%.*s", (int)m->req_id.len, m->req_id.data);
  if (f->config.wait) return;
  printf("%s\n", f->job);
  fetch_end(f, PF_EXIT_OK);
}

static void on_result(struct fetch *f, const struct message *m, struct pf_slice text) {
  if (!f->config.wait) {
    on_enqueued(f, m); /* it was done before we could hear that it is enqueued */
  } else if (f->config.json) {
    printf("%.*s\n", (int)text.len, text.data);
    fetch_end(f, result_code(f, m));
  } else {
    result_show(f, m);
  }
}

static void on_message(struct fetch *f, const struct message *m, struct pf_slice text) {
  if (ws_session_take(&f->ws, m) || f->http) return; /* the result is here, only its body is not */
  if (m->type == MESSAGE_ERROR) {
    struct pf_slice code = m->code.len ? m->code : pf_slice_str("error");
    char what[64];
    snprintf(what, sizeof(what), "%.*s", (int)code.len, code.data);
    char *why = pf_memdup(m->error.data, m->error.len);
    fetch_fail(f, what, why);
    free(why);
  } else if (!pf_slice_is(m->client_id, CLIENT_ID)) {
    return;
  } else if (m->type == MESSAGE_ENQUEUED) {
    on_enqueued(f, m);
  } else if (m->type == MESSAGE_RESULT) {
    on_result(f, m, text);
  }
}

static void ws_on_text(void *arg, struct pf_slice text) {
  struct fetch *f = arg;
  struct message message;
  struct pf_error why = {0};
  if (f->ended) return;
  struct pf_arena arena;
  pf_arena_init(&arena);
  if (message_decode(&message, text, &arena, &why))
    fetch_fail(f, "the server sent what is no message", why.text);
  else
    on_message(f, &message, text);
  pf_arena_done(&arena);
}

/* What has not been acknowledged is submitted, for the first time or again: in a session under the
 * same key, so that it is one job whatever has happened. */
static void ws_on_ready(void *arg) {
  struct fetch *f = arg;
  if (f->ws.token[0] && !f->keyed) {
    f->keyed = true;
    f->frame.len--; /* the brace at the end */
    pf_buf_printf(&f->frame, ",\"submitKey\":\"%016llx%016llx\"}",
        (unsigned long long)pf_rand_secret_u64(), (unsigned long long)pf_rand_secret_u64());
    PF_ASSERT(f->frame.err == PF_OK);
  }
  if (!f->job[0]) ws_session_send(&f->ws, pf_buf_view(&f->frame));
}

static void ws_on_owed(void *arg, int64_t most) {
  struct fetch *f = arg;
  if (!f->job[0] || most > 0) return;
  if (f->http) return; /* the result is here, and its body on the way */
  f->job[0] = '\0';
  ws_session_send(&f->ws, pf_buf_view(&f->frame));
}

static void ws_on_lost(void *arg, const char *why) {
  struct fetch *f = arg;
  fprintf(stderr, "proxyfetch: %s: %s; trying to get the connection back\n", f->config.url, why);
}

static void ws_on_closed(void *arg, const char *why) {
  struct fetch *f = arg;
  if (!f->ended && !f->http) fetch_fail(f, f->config.url, why);
}

static void fetch_go(struct fetch *f) {
  struct ws_session_config config = {.url = &f->url,
      .plain = !f->config.session,
      .reconnect_ms = f->config.reconnect_ms,
      .ack_every = 1,
      .arg = f,
      .ready = ws_on_ready,
      .text = ws_on_text,
      .owed = ws_on_owed,
      .lost = ws_on_lost,
      .closed = ws_on_closed};
  PF_ASSERT(uv_loop_init(&f->loop) == 0);
  pf_signals_open(&f->signals, &f->loop, fetch_on_signal, f);
  ws_session_open(&f->ws, &f->loop, &config);
  uv_run(&f->loop, UV_RUN_DEFAULT);
  pf_signals_close(&f->signals);
  uv_run(&f->loop, UV_RUN_DEFAULT);
  PF_ASSERT(uv_loop_close(&f->loop) == 0);
}

int fetch_run(int argc, char **argv) {
  struct fetch *f = pf_alloc(sizeof(*f));
  int operand = pf_options_parse_or_exit(&fetch_options, &f->config, argc, argv);
  struct pf_error why = {0};
  pf_buf_init(&f->frame, 4 * WIRE_FRAME_MAX);
  f->exit_code = PF_EXIT_USAGE;
  if (operand != argc - 1) {
    fprintf(stderr, "proxyfetch fetch: exactly one URL is needed; proxyfetch fetch --help\n");
  } else if (ws_url_parse(&f->url, f->config.url, &why)) {
    fprintf(stderr, "proxyfetch fetch: url: %s\n", why.text);
  } else {
    f->target = argv[operand];
    if (request_write(f) == PF_OK) fetch_go(f);
  }
  int code = f->exit_code;
  pf_buf_done(&f->frame);
  pf_options_free(&fetch_options, &f->config);
  free(f);
  return code;
}
