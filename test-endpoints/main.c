/* proxyfetch-test-endpoints: HTTP endpoints that answer, delay, fail, reset and dribble on request.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/options.h"
#include "loop/signals.h"
#include "server.h"

#define PROGRAM "proxyfetch-test-endpoints"
#define FILES_BESIDES_CONNECTIONS 64

struct config {
  struct pf_listen_addr listen;
  char *token;
  int log_level;
  int64_t connections_max, head_bytes_max, body_bytes_max, keys_max, idle_ms, drain_ms;
};

#define FIELD(name) offsetof(struct config, name)
static const struct pf_option options[] = {
    {"listen", 'l', PF_OPT_ADDR, FIELD(listen), "ADDR:PORT", "localhost:8790", 0, 0, NULL,
        "Where to serve; port 0 takes a free one, localhost means 127.0.0.1 and ::1."},
    {"token", 0, PF_OPT_STRING, FIELD(token), "TEXT", NULL, 0, 0, NULL,
        "Requests must carry this in X-Test-Token or ?token=."},
    {"log-level", 0, PF_OPT_CHOICE, FIELD(log_level), NULL, "info", 0, 0, pf_log_level_names,
        "Least important lines to write; debug shows each request."},
    {"connections-max", 0, PF_OPT_INT, FIELD(connections_max), NULL, "65536", 1, 1000000, NULL,
        "Connections at one time, also bounded by the limit of open files; more are reset."},
    {"head-bytes-max", 0, PF_OPT_INT, FIELD(head_bytes_max), "bytes", "64k", 1024, 1 << 20, NULL,
        "Request line and headers; more get 431."},
    {"body-bytes-max", 0, PF_OPT_INT, FIELD(body_bytes_max), "bytes", "16m", 0, 1 << 28, NULL,
        "Request body; more get 413."},
    {"keys-max", 0, PF_OPT_INT, FIELD(keys_max), NULL, "1000000", 1, 100000000, NULL,
        "Keys that are counted for /hits; a request with one more gets 503."},
    {"idle-ms", 0, PF_OPT_INT, FIELD(idle_ms), "ms", "300000", 10, 86400000, NULL,
        "Connections without a request, or that read no answer, are closed after this."},
    {"drain-ms", 0, PF_OPT_INT, FIELD(drain_ms), "ms", "1000", 0, 3600000, NULL,
        "After SIGTERM, answers under way may take this long."},
};

static const struct pf_option_table option_table = {
    .program = PROGRAM,
    .summary = "HTTP endpoints that answer, delay, fail, reset and dribble on request",
    .env_prefix = "PROXYFETCH_TEST_ENDPOINTS_",
    .epilog = "Try:  curl localhost:8790/       lists the endpoints\n"
              "      curl localhost:8790/uuid   one of them\n",
    .options = options,
    .count = PF_COUNT(options),
};

static void main_on_drain(void *arg) {
  struct server *server = arg;
  pf_log(server->log, PF_LOG_INFO, "draining", "connections=%zu", server->conn_count);
  server_drain(server);
}

static int serve(const struct config *config, const struct pf_log *log, struct pf_error *reterr) {
  struct pf_listeners listeners;
  int err = pf_listen_open(&config->listen, &listeners, reterr);
  if (err) return err;
  struct pf_listen_addr bound = listeners.bound;
  struct server_limits limits = {
      .connections_max = (size_t)config->connections_max,
      .head_bytes_max = (size_t)config->head_bytes_max,
      .body_bytes_max = (size_t)config->body_bytes_max,
      .keys_max = (size_t)config->keys_max,
      .idle_ms = config->idle_ms,
      .drain_ms = config->drain_ms,
  };
  size_t others,
      possible = pf_open_files_share(limits.connections_max, FILES_BESIDES_CONNECTIONS, &others);
  if (possible < limits.connections_max)
    pf_log(log, PF_LOG_DEBUG, "open_files_limit", "connections_max=%zu", possible);
  limits.connections_max = possible;

  uv_loop_t loop;
  PF_ASSERT(uv_loop_init(&loop) == 0);
  struct server *server = pf_alloc(sizeof(*server));
  err = server_open(server, &loop, log, &limits, config->token, &listeners, reterr);
  struct pf_signals signals;
  pf_signals_open(&signals, &loop, main_on_drain, server);
  if (!err) pf_listen_announce(PROGRAM, &bound);
  uv_run(&loop, UV_RUN_DEFAULT);
  pf_signals_close(&signals);
  uv_run(&loop, UV_RUN_DEFAULT);
  server_done(server);
  free(server);
  PF_ASSERT(uv_loop_close(&loop) == 0);
  return err;
}

int main(int argc, char **argv) {
  struct config config = {0};
  pf_options_parse_or_exit(&option_table, &config, argc, argv);
  struct pf_log log = {
      .role = "test-endpoints", .level = (enum pf_log_level)config.log_level, .fd = 2};
  struct pf_error why = {0};
  int err = serve(&config, &log, &why);
  if (err) fprintf(stderr, "%s: %s\n", PROGRAM, why.text);
  pf_options_free(&option_table, &config);
  return err ? PF_EXIT_START : PF_EXIT_OK;
}
