/* Messages of many clients through an origin: a closed loop with so many in flight for each client,
 * or an open loop that offers so many a second, in steps. Each client has a connection and, unless
 * --shared, an actor of its own; it is there when its first message has been answered.
 *
 *   build/bin/message_bench --server ws://127.0.0.1:8787/ --clients 100 --duration-ms 5000
 *   build/bin/message_bench --kind fetch --url URL --rate 1000:5,50000:10,1000:20
 *   build/bin/message_bench --clients 5000 --hold       stays connected until SIGTERM
 *   build/bin/message_bench --clients 10000 --leave     each says one message and goes
 *
 * Prints one line of JSON. In an open loop latency counts from when a message was due. After
 * SAMPLES_MAX answers the quantiles of all stand still; those of each second go on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/options.h"
#include "clients/measure/proc.h"
#include "clients/measure/stats.h"
#include "clients/ws/ws_client.h"
#include "loop/signals.h"
#include "wire/json.h"

#define CLIENTS_MAX 100000
#define FLIGHTS ((size_t)1 << 20) /* in flight at most; a power of two */
#define SAMPLES_MAX ((size_t)16 << 20)
#define STEPS_MAX 16
#define WINDOW_MS 100
#define WINDOWS_MAX 36000 /* then only the seconds go on */
#define PAUSE_NS 100000   /* of an open loop, at least */
#define SECOND_NS 1000000000
#define SECONDS_MAX 200000

enum kind { KIND_PING, KIND_ECHO, KIND_PUT, KIND_FETCH };
static const char *const kind_names[] = {"ping", "echo", "put", "fetch", NULL};

struct config {
  char *server, *path, *url, *method, *rate, *pids;
  int64_t clients, opening, in_flight, count, bytes, duration_ms, warmup_ms, timeout_ms;
  int kind;
  bool shared, hold, leave, include_body;
};

#define FIELD(name) offsetof(struct config, name)
#define INT(name, field, unit, fallback, min, max, help)                                           \
  { name, 0, PF_OPT_INT, FIELD(field), unit, fallback, min, max, NULL, help }
#define TEXT(name, field, unit, fallback, help)                                                    \
  { name, 0, PF_OPT_STRING, FIELD(field), unit, fallback, 0, 0, NULL, help }
#define FLAG(name, field, help)                                                                    \
  { name, 0, PF_OPT_FLAG, FIELD(field), NULL, NULL, 0, 0, NULL, help }
static const struct pf_option option_list[] = {
    TEXT("server", server, "WS", "ws://127.0.0.1:8787/", "The origin."),
    TEXT("path", path, "PATH", "/actors/proxy/bench-", "The actor; a number follows."),
    {"kind", 0, PF_OPT_CHOICE, FIELD(kind), NULL, "ping", 0, 0, kind_names,
        "ping and fetch are for class proxy, echo and put for class note of bench_origin."},
    TEXT("url", url, "URL", "http://127.0.0.1:8790/uuid", "What is fetched."),
    TEXT("method", method, "METHOD", "GET", "The method of the fetches."),
    INT("clients", clients, NULL, "1", 1, CLIENTS_MAX, "Connections."),
    INT("opening", opening, NULL, "64", 1, 10000, "How many of them are being opened at a time."),
    INT("in-flight", in_flight, NULL, "1", 1, 100000, "Messages of a client on their way."),
    INT("count", count, NULL, "0", 0, 1000000000, "Messages in all; 0: as many as the time takes."),
    INT("bytes", bytes, "bytes", "0", 0, 1 << 20, "Size of a message; 0: as small as it can be."),
    INT("duration-ms", duration_ms, "ms", "5000", 1, 172800000, "How long to measure."),
    INT("warmup-ms", warmup_ms, "ms", "0", 0, 600000, "What is not measured before."),
    INT("timeout-ms", timeout_ms, "ms", "30000", 1, 600000, "Give up when nothing comes so long."),
    TEXT("rate", rate, "N:S,...", NULL, "Offer N messages a second for S seconds, then the next."),
    TEXT("pids", pids, "ROLE=PID,...", NULL, "The processes whose CPU time is counted."),
    FLAG("shared", shared, "All clients use the same actor."),
    FLAG("hold", hold, "Only stay connected, until SIGTERM."),
    FLAG("leave", leave, "Each client says one message and goes."),
    FLAG("include-body", include_body, "Fetches ask for the body."),
};
static const struct pf_option_table options = {.program = "message_bench",
    .summary = "messages of many clients through an origin",
    .env_prefix = "MESSAGE_BENCH_",
    .options = option_list,
    .count = PF_COUNT(option_list)};

struct step {
  double rate;
  int64_t end_ns; /* since the begin */
};

struct flight {
  uint64_t id;
  int64_t due_ns;
  size_t client;
  bool busy;
};

struct client {
  struct bench *bench;
  struct ws_client *ws;
  int64_t began_ns;
  bool greeted;
};

struct second {
  int64_t offered, ended;
  double p50, p99;
};

struct samples {
  double *ms;
  size_t count, room;
};

/*  OPENING ─► WARMING ─► MEASURING ─► DRAINING ─► CLOSING
 *     └─────────► HOLDING / leave ──────────────────┘      */
enum phase { OPENING, WARMING, MEASURING, DRAINING, HOLDING, CLOSING };

struct bench {
  struct config config;
  struct ws_url url;
  uv_loop_t loop;
  struct pf_signals signals;
  uv_timer_t tick;
  uv_poll_t due; /* a timerfd: uv's own timers know milliseconds only */
  int due_fd;
  enum phase phase;
  struct client *clients;
  size_t begun, ready, gone, broken, next_client;
  struct pf_buf frame;
  struct pf_buf suffix;
  size_t prefix_len;
  struct flight *flights;
  uint64_t next_id;
  size_t in_flight;
  struct step steps[STEPS_MAX];
  size_t step_count, step;
  int64_t next_due_ns;
  int64_t opening_ns, opened_ns, begin_ns, end_ns, progress_ns;
  int64_t sent, answered, refused; /* of the measurement */
  int64_t window_ns, second_ns;    /* ends of the present ones */
  int64_t in_window, offered_in_second;
  double *windows;
  size_t window_count;
  struct second *seconds;
  size_t second_count;
  struct samples greetings, all, now; /* now: of the present second */
  struct proc_set procs;
  int64_t cpu_ns[PROC_MAX];
  char problem[300];
};

static void sample_add(struct samples *samples, double ms) {
  if (samples->count == SAMPLES_MAX) return;
  if (samples->count == samples->room) {
    samples->room = samples->room ? samples->room * 2 : 4096;
    samples->ms = realloc(samples->ms, samples->room * sizeof(*samples->ms));
    PF_ASSERT(samples->ms);
  }
  samples->ms[samples->count++] = ms;
}

static void end(struct bench *b, const char *problem);

/* ---- messages ---- */

static void frame_prepare(struct bench *b) {
  const struct config *c = &b->config;
  static const char *const padded[] = {
      [KIND_PING] = ",\"pad\":\"", [KIND_ECHO] = ",\"pad\":\"", [KIND_PUT] = ",\"value\":\""};
  pf_buf_init(&b->frame, WS_CLIENT_MESSAGE_MAX);
  pf_buf_init(&b->suffix, WS_CLIENT_MESSAGE_MAX);
  struct pf_buf *padding = &b->suffix;
  if (c->kind == KIND_FETCH) {
    padding = &b->frame;
    pf_buf_printf(&b->frame, "{\"type\":\"start-fetch\",\"url\":\"%s\",\"method\":\"%s\"%s", c->url,
        c->method, c->include_body ? ",\"include\":[\"body\"]" : "");
    if (c->bytes) pf_buf_str(&b->frame, ",\"body\":\"");
    pf_buf_str(&b->suffix, "\"}");
  } else {
    pf_buf_printf(&b->frame, "{\"type\":\"%s\",\"id\":", kind_names[c->kind]);
    pf_buf_str(&b->suffix, c->bytes ? padded[c->kind] : "}");
  }
  if (c->bytes) {
    static const size_t others = 32; /* the number, and what closes the message */
    for (size_t len = b->frame.len + b->suffix.len + others; len < (size_t)c->bytes; len++)
      pf_buf_append(padding, "x", 1);
    pf_buf_str(padding, c->kind == KIND_FETCH ? "\"" : "\"}");
  }
  if (c->kind == KIND_FETCH) pf_buf_str(&b->frame, ",\"clientId\":\"");
  PF_ASSERT(b->frame.err == PF_OK && b->suffix.err == PF_OK);
  b->prefix_len = b->frame.len;
}

/* False if too many are on their way. */
static bool send_message(struct bench *b, size_t client, int64_t due_ns) {
  struct flight *flight = &b->flights[b->next_id % FLIGHTS];
  if (flight->busy) return false;
  *flight = (struct flight){.id = b->next_id, .due_ns = due_ns, .client = client, .busy = true};
  b->frame.len = b->prefix_len;
  pf_buf_printf(&b->frame, "%llu", (unsigned long long)b->next_id++);
  pf_buf_slice(&b->frame, pf_buf_view(&b->suffix));
  ws_client_send(b->clients[client].ws, pf_buf_view(&b->frame));
  b->in_flight++;
  if (b->phase == MEASURING) b->sent++, b->offered_in_second++;
  return true;
}

static bool begins(struct pf_slice text, const char *type) {
  static const size_t at = sizeof("{\"type\":\"") - 1;
  size_t len = strlen(type);
  return text.len > at + len && memcmp(text.data + at, type, len) == 0;
}

static bool number_after(struct pf_slice text, const char *name, uint64_t *ret) {
  const char *found = memmem(text.data, text.len, name, strlen(name));
  if (!found) return false;
  const char *at = found + strlen(name), *stop = text.data + text.len;
  uint64_t value = 0;
  const char *digits = at;
  for (; at < stop && *at >= '0' && *at <= '9'; at++)
    value = value * 10 + (uint64_t)(*at - '0');
  *ret = value;
  return at > digits;
}

/* The message that this answers, or NULL. */
static struct flight *answered_by(struct bench *b, struct pf_slice text) {
  uint64_t id;
  if (!number_after(text, b->config.kind == KIND_FETCH ? "\"clientId\":\"" : "\"id\":", &id))
    return NULL;
  struct flight *flight = &b->flights[id % FLIGHTS];
  return flight->busy && flight->id == id ? flight : NULL;
}

static void keep_problem(struct bench *b, struct pf_slice text) {
  if (!b->problem[0])
    snprintf(
        b->problem, sizeof(b->problem), "%.*s", (int)(text.len < 250 ? text.len : 250), text.data);
}

static void client_ready(struct client *client);

static void on_text(void *arg, struct pf_slice text) {
  struct client *client = arg;
  struct bench *b = client->bench;
  bool fetch = b->config.kind == KIND_FETCH;
  if (fetch && begins(text, "enqueued")) return;
  struct flight *flight = answered_by(b, text);
  bool good = !begins(text, "error");
  if (fetch) good = good && memmem(text.data, text.len, "\"success\":true", 14) != NULL;
  if (!good) keep_problem(b, text);
  if (!good && !flight && b->phase == OPENING) end(b, "the first message was refused:");
  if (!flight || b->phase == CLOSING) return;
  int64_t now_ns = pf_clock_mono_ns();
  flight->busy = false;
  b->in_flight--;
  b->progress_ns = now_ns;
  if (!client->greeted) {
    if (good)
      client_ready(client);
    else
      end(b, "the first message was refused:");
    return;
  }
  if (b->phase != WARMING && flight->due_ns >= b->begin_ns) {
    if (good) {
      b->answered++, b->in_window++;
      sample_add(&b->now, (double)(now_ns - flight->due_ns) / 1e6);
    } else {
      b->refused++;
    }
  }
  bool more = b->phase == WARMING || b->phase == MEASURING;
  if (more && !b->step_count && (!b->config.count || b->sent < b->config.count))
    (void)send_message(b, flight->client, now_ns);
}

/* ---- seconds and phases ---- */

static void second_close(struct bench *b) {
  struct stats s = stats_of(b->now.ms, b->now.count);
  for (size_t i = 0; i < b->now.count; i++)
    sample_add(&b->all, b->now.ms[i]);
  if (b->second_count < SECONDS_MAX)
    b->seconds[b->second_count++] =
        (struct second){b->offered_in_second, (int64_t)s.count, s.p50, s.p99};
  b->now.count = 0;
  b->offered_in_second = 0;
  b->second_ns += SECOND_NS;
}

static void measure_begin(struct bench *b, int64_t now_ns) {
  b->phase = MEASURING;
  b->begin_ns = b->next_due_ns = b->progress_ns = now_ns;
  b->window_ns = now_ns + (int64_t)WINDOW_MS * 1000000;
  b->second_ns = now_ns + SECOND_NS;
  proc_sample(&b->procs, b->cpu_ns);
}

static void measure_end(struct bench *b, int64_t now_ns) {
  b->phase = DRAINING;
  b->end_ns = now_ns;
  proc_sample(&b->procs, b->cpu_ns);
}

static void load_begin(struct bench *b) {
  int64_t now_ns = pf_clock_mono_ns();
  b->begin_ns = b->progress_ns = now_ns;
  b->phase = WARMING;
  if (b->step_count || b->config.count || b->config.warmup_ms == 0) measure_begin(b, now_ns);
  if (b->step_count) {
    struct itimerspec spec = {{0, PAUSE_NS}, {0, PAUSE_NS}};
    PF_ASSERT(timerfd_settime(b->due_fd, 0, &spec, NULL) == 0);
    return;
  }
  for (int64_t k = 0; k < b->config.in_flight; k++)
    for (size_t i = 0; i < (size_t)b->config.clients; i++)
      if (!b->config.count || b->sent < b->config.count) (void)send_message(b, i, now_ns);
}

/* Open loop: all that is due by now. */
static void on_due(uv_poll_t *poll, int status, int events) {
  (void)status, (void)events;
  struct bench *b = poll->data;
  uint64_t times;
  if (read(b->due_fd, &times, sizeof(times)) != sizeof(times) || b->phase != MEASURING) return;
  int64_t now_ns = pf_clock_mono_ns();
  while (b->next_due_ns <= now_ns) {
    while (b->step < b->step_count && b->next_due_ns - b->begin_ns >= b->steps[b->step].end_ns)
      b->step++;
    if (b->step == b->step_count) {
      measure_end(b, now_ns);
      return;
    }
    size_t client = b->next_client;
    if (!send_message(b, client, b->next_due_ns)) return;
    b->next_client = (client + 1) % (size_t)b->config.clients;
    b->next_due_ns += (int64_t)(1e9 / b->steps[b->step].rate);
  }
}

static void on_tick(uv_timer_t *timer) {
  struct bench *b = timer->data;
  int64_t now_ns = pf_clock_mono_ns();
  const struct config *c = &b->config;
  bool stuck = now_ns - b->progress_ns > c->timeout_ms * 1000000;
  if (b->phase == OPENING && stuck) end(b, "nothing comes back");
  if (b->phase == OPENING || b->phase == HOLDING || b->phase == CLOSING) return;
  if (b->phase == WARMING && now_ns - b->begin_ns >= c->warmup_ms * 1000000)
    measure_begin(b, now_ns);
  if (b->phase == WARMING) return;
  for (; b->window_ns <= now_ns && b->phase == MEASURING; b->window_ns += WINDOW_MS * 1000000) {
    if (b->window_count < WINDOWS_MAX) b->windows[b->window_count++] = (double)b->in_window;
    b->in_window = 0;
  }
  while (b->second_ns <= now_ns)
    second_close(b);
  bool timed = !b->step_count && !c->count;
  if (b->phase == MEASURING && timed && now_ns - b->begin_ns >= c->duration_ms * 1000000)
    measure_end(b, now_ns);
  if (b->phase == MEASURING && c->count && b->sent == c->count && b->in_flight == 0)
    measure_end(b, b->progress_ns);
  if (b->phase == DRAINING && (b->in_flight == 0 || stuck)) end(b, NULL);
  if (b->phase == MEASURING && stuck && b->in_flight > 0) measure_end(b, now_ns);
}

/* ---- connections ---- */

static void open_more(struct bench *b);

static void client_ready(struct client *client) {
  struct bench *b = client->bench;
  int64_t now_ns = pf_clock_mono_ns();
  client->greeted = true;
  b->ready++;
  sample_add(&b->greetings, (double)(now_ns - client->began_ns) / 1e6);
  if (b->config.leave) ws_client_close(client->ws);
  if (b->ready < (size_t)b->config.clients) {
    open_more(b);
    return;
  }
  b->opened_ns = now_ns;
  if (b->config.leave) {
    end(b, NULL);
  } else if (b->config.hold) {
    b->phase = HOLDING;
    printf("message_bench holds %lld connections\n", (long long)b->config.clients);
    fflush(stdout);
  } else {
    load_begin(b);
  }
}

static void on_opened(void *arg) {
  struct client *client = arg;
  struct bench *b = client->bench;
  (void)send_message(b, (size_t)(client - b->clients), client->began_ns);
}

static void on_pong(void *arg) {
  (void)arg;
}

static void on_closed(void *arg, int err, const char *why) {
  struct client *client = arg;
  struct bench *b = client->bench;
  client->ws = NULL;
  b->gone++;
  if (err && b->phase != CLOSING) {
    b->broken++;
    keep_problem(b, pf_slice_str(why));
    end(b, why);
  }
}

static void open_more(struct bench *b) {
  static const struct ws_client_handlers handlers = {
      .opened = on_opened, .text = on_text, .pong = on_pong, .closed = on_closed};
  size_t limit = b->ready + (size_t)b->config.opening;
  while (b->phase == OPENING && b->begun < (size_t)b->config.clients && b->begun < limit) {
    struct client *client = &b->clients[b->begun];
    struct ws_client_handlers mine = handlers;
    mine.arg = client;
    *client = (struct client){.bench = b, .began_ns = pf_clock_mono_ns()};
    snprintf(
        b->url.path, sizeof(b->url.path), "%s%zu", b->config.path, b->config.shared ? 0 : b->begun);
    b->begun++;
    client->ws = ws_client_open(&b->loop, &b->url, &mine);
  }
}

/* ---- the end ---- */

static void end(struct bench *b, const char *problem) {
  if (b->phase == CLOSING) return;
  if (b->phase == MEASURING) measure_end(b, pf_clock_mono_ns());
  if (b->now.count) second_close(b);
  b->phase = CLOSING;
  if (problem) {
    b->broken += b->broken == 0;
    fprintf(stderr, "message_bench: %s %s\n", problem, b->problem);
  }
  for (size_t i = 0; i < b->begun; i++)
    if (b->clients[i].ws) ws_client_close(b->clients[i].ws);
  uv_close((uv_handle_t *)&b->tick, NULL);
  uv_close((uv_handle_t *)&b->due, NULL);
}

static void on_drain(void *arg) {
  struct bench *b = arg;
  end(b, b->phase == HOLDING ? NULL : "interrupted");
}

static void put_samples(struct json_writer *w, const char *name, struct samples *samples) {
  struct stats s = stats_of(samples->ms, samples->count);
  json_begin_object(w, name);
  json_put_int(w, "samples", (int64_t)s.count);
  json_put_ms(w, "min", s.min);
  json_put_ms(w, "mean", s.mean);
  json_put_ms(w, "p50", s.p50);
  json_put_ms(w, "p75", s.p75);
  json_put_ms(w, "p90", s.p90);
  json_put_ms(w, "p95", s.p95);
  json_put_ms(w, "p99", s.p99);
  json_put_ms(w, "p99_5", s.p995);
  json_put_ms(w, "p99_9", s.p999);
  json_put_ms(w, "max", s.max);
  json_end_object(w);
}

static void put_courses(struct json_writer *w, const struct bench *b) {
  json_begin_array(w, "windows"); /* answers in each WINDOW_MS */
  for (size_t i = 0; i < b->window_count; i++)
    json_put_ms(w, NULL, b->windows[i]);
  json_end_array(w);
  json_begin_array(w, "timeline"); /* of seconds: [offered, answered, p50, p99] */
  for (size_t i = 0; i < b->second_count; i++) {
    const struct second *second = &b->seconds[i];
    json_begin_array(w, NULL);
    json_put_int(w, NULL, second->offered);
    json_put_int(w, NULL, second->ended);
    json_put_ms(w, NULL, second->p50);
    json_put_ms(w, NULL, second->p99);
    json_end_array(w);
  }
  json_end_array(w);
}

static void print(struct bench *b) {
  struct pf_buf text;
  pf_buf_init(&text, PF_BUF_MAX_DEFAULT);
  struct json_writer writer = json_writer(&text), *w = &writer;
  double seconds = (double)(b->end_ns - b->begin_ns) / 1e9;
  json_begin_object(w, NULL);
  json_put_int(w, "clients", b->config.clients);
  json_put_ms(w, "openedMs", (double)(b->opened_ns - b->opening_ns) / 1e6);
  put_samples(w, "firstMs", &b->greetings);
  json_put_ms(w, "seconds", seconds);
  json_put_int(w, "sent", b->sent);
  json_put_int(w, "answered", b->answered);
  json_put_int(w, "refused", b->refused);
  json_put_int(w, "lost", b->sent - b->answered - b->refused);
  put_samples(w, "ms", &b->all);
  json_begin_object(w, "cpuUs");
  for (size_t i = 0; i < b->procs.count && b->answered; i++)
    json_put_ms(w, b->procs.procs[i].role, (double)b->cpu_ns[i] / 1e3 / (double)b->answered);
  json_end_object(w);
  put_courses(w, b);
  if (b->problem[0]) json_put_text(w, "problem", b->problem);
  json_end_object(w);
  PF_ASSERT(text.err == PF_OK);
  printf("%.*s\n", (int)text.len, text.data);
  pf_buf_done(&text);
}

/* "1000:5,50000:10" */
static int steps_read(struct bench *b) {
  int64_t end_ns = 0;
  for (const char *at = b->config.rate; at && *at;) {
    double rate, seconds;
    int len = 0;
    if (b->step_count == STEPS_MAX || sscanf(at, "%lf:%lf%n", &rate, &seconds, &len) != 2 ||
        !(rate >= 0.001 && rate <= 1e8) || !(seconds > 0 && seconds <= 172800) ||
        (at[len] && at[len] != ','))
      return PF_EINVAL;
    end_ns += (int64_t)(seconds * 1e9);
    b->steps[b->step_count++] = (struct step){rate, end_ns};
    at += len + (at[len] == ',');
  }
  return PF_OK;
}

static void bench_go(struct bench *b) {
  PF_ASSERT(uv_loop_init(&b->loop) == 0);
  b->due_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
  PF_ASSERT(b->due_fd >= 0);
  PF_ASSERT(uv_timer_init(&b->loop, &b->tick) == 0);
  PF_ASSERT(uv_poll_init(&b->loop, &b->due, b->due_fd) == 0);
  b->tick.data = b->due.data = b;
  PF_ASSERT(uv_timer_start(&b->tick, on_tick, 5, 5) == 0);
  PF_ASSERT(uv_poll_start(&b->due, UV_READABLE, on_due) == 0);
  pf_signals_open(&b->signals, &b->loop, on_drain, b);
  b->opening_ns = b->progress_ns = pf_clock_mono_ns();
  open_more(b);
  uv_run(&b->loop, UV_RUN_DEFAULT);
  pf_signals_close(&b->signals);
  uv_run(&b->loop, UV_RUN_DEFAULT);
  PF_ASSERT(uv_loop_close(&b->loop) == 0);
  close(b->due_fd);
}

static void bench_free(struct bench *b) {
  pf_buf_done(&b->frame);
  pf_buf_done(&b->suffix);
  free(b->clients);
  free(b->flights);
  free(b->windows);
  free(b->seconds);
  free(b->greetings.ms);
  free(b->all.ms);
  free(b->now.ms);
  pf_options_free(&options, &b->config);
  free(b);
}

static int usage(struct bench *b, const char *why) {
  fprintf(stderr, "message_bench: %s\n", why);
  bench_free(b);
  return PF_EXIT_USAGE;
}

int main(int argc, char **argv) {
  struct bench *b = pf_alloc(sizeof(*b));
  struct pf_error why = {0};
  (void)pf_options_parse_or_exit(&options, &b->config, argc, argv);
  if (ws_url_parse(&b->url, b->config.server, &why)) return usage(b, why.text);
  if (steps_read(b)) return usage(b, "--rate takes N:SECONDS,...");
  if (b->config.pids && !proc_add_list(&b->procs, b->config.pids))
    return usage(b, "--pids takes ROLE=PID,... of processes that run");
  proc_add(&b->procs, "client", (int)getpid());
  b->clients = pf_alloc((size_t)b->config.clients * sizeof(*b->clients));
  b->flights = pf_alloc(FLIGHTS * sizeof(*b->flights));
  b->windows = pf_alloc(WINDOWS_MAX * sizeof(*b->windows));
  b->seconds = pf_alloc(SECONDS_MAX * sizeof(*b->seconds));
  frame_prepare(b);
  bench_go(b);
  bool failed = b->broken > 0;
  if (!failed && !b->config.hold) print(b);
  bench_free(b);
  return failed ? PF_EXIT_FAILURE : PF_EXIT_OK;
}
