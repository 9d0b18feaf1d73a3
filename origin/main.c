/* proxyfetch-origin: actors, their state and their clients. */
#include <stdio.h>
#include <stdlib.h>

#include "base/data_dir.h"
#include "base/options.h"
#include "loop/check.h"
#include "loop/listen.h"
#include "origin/edge.h"
#include "origin/origin_db.h"
#include "web/guard.h"
#include "wire/hop.h"

#define PROGRAM "proxyfetch-origin"
/* The internal listener's connections, and our own: half of them for each. */
#define FILES_BESIDES_CLIENTS 4096

struct config {
  struct pf_listen_addr listen, internal_listen;
  char *data, *orchestrator, *advertise;
  int sync, log_level;
  bool check;
  char *restore;
  struct pf_option_list allow_origin, allow_host;
  int64_t connections_max, outbox_bytes_max, unread_bytes_max, disk_reserve;
  struct core_limits limits;
};

#define DAY_MS 86400000
#define FIELD(name) offsetof(struct config, name)
static const struct pf_option options[] = {
    {"listen", 'l', PF_OPT_ADDR, FIELD(listen), "ADDR:PORT", "localhost:8787", 0, 0, NULL,
        "Where clients connect; port 0 takes a free one, localhost means 127.0.0.1 and ::1."},
    {"internal-listen", 0, PF_OPT_ADDR, FIELD(internal_listen), "ADDR:PORT", "localhost:8786", 0, 0,
        NULL, "Where executors and the orchestrator deliver results."},
    {"orchestrator", 0, PF_OPT_STRING, FIELD(orchestrator), "URL", "http://127.0.0.1:8788", 0, 0,
        NULL, "The orchestrator that queues the fetches."},
    {"advertise", 0, PF_OPT_STRING, FIELD(advertise), "URL", NULL, 0, 0, NULL,
        "How others reach the internal listener (default: its bound address)."},
    {"data", 'd', PF_OPT_STRING, FIELD(data), "DIR", NULL, 0, 0, NULL,
        "Where the database is (default: proxyfetch/origin in $XDG_STATE_HOME or ~/.local/state)."},
    {"sync", 0, PF_OPT_CHOICE, FIELD(sync), NULL, "full", 0, 0, store_sync_names,
        "full survives power loss; normal survives crashes of the process."},
    {"allow-origin", 0, PF_OPT_LIST, FIELD(allow_origin), "ORIGIN", NULL, 0, 0, NULL,
        "Web pages of this origin may connect, besides our own; may be repeated, * is any."},
    {"allow-host", 0, PF_OPT_LIST, FIELD(allow_host), "HOST", NULL, 0, 0, NULL,
        "A further Host under which clients reach us; may be repeated."},
    {"connections-max", 0, PF_OPT_INT, FIELD(connections_max), NULL, "20000", 1, 1000000, NULL,
        "Client connections at one time, also bounded by the limit of open files."},
    {"outbox-bytes-max", 0, PF_OPT_INT, FIELD(outbox_bytes_max), "bytes", "4m", 65536, 1 << 30,
        NULL, "What may wait for a client that reads slowly before it is closed (1013)."},
    {"unread-bytes-max", 0, PF_OPT_INT, FIELD(unread_bytes_max), "bytes", "1g", 65536,
        (int64_t)1 << 40, NULL,
        "What may wait for all clients; above it those go that have read nothing for longest."},
    {"pending-max", 0, PF_OPT_INT, FIELD(limits.pending_max), NULL, "250000", 1, 100000000, NULL,
        "Fetches that are not done; more are refused with busy."},
    {"pending-bytes-max", 0, PF_OPT_INT, FIELD(limits.pending_bytes_max), "bytes", "256m", 1,
        (int64_t)1 << 40, NULL,
        "Requests that wait in memory to be queued; more are refused with busy."},
    {"result-keep-ms", 0, PF_OPT_INT, FIELD(limits.result_keep_ms), "ms", "3600000", 0,
        (int64_t)365 * DAY_MS, NULL, "How long GET /v1/jobs/{id} finds a finished job."},
    {"result-count-max", 0, PF_OPT_INT, FIELD(limits.result_count_max), NULL, "100000", 0,
        1000000000, NULL, "Finished jobs that are kept at most; the oldest go first."},
    {"result-bytes-max", 0, PF_OPT_INT, FIELD(limits.result_bytes_max), "bytes", "1g", 0,
        (int64_t)1 << 50, NULL,
        "Bytes of finished jobs (messages and bodies) that are kept at most; the oldest go first."},
    {"session-keep-ms", 0, PF_OPT_INT, FIELD(limits.session_keep_ms), "ms", "604800000", 1000,
        (int64_t)365 * DAY_MS, NULL, "How long a session waits for its client to return."},
    {"sessions-max", 0, PF_OPT_INT, FIELD(limits.sessions_max), NULL, "100000", 1, 100000000, NULL,
        "Sessions kept; for a new one the oldest goes that nobody uses and that has nothing to "
        "tell."},
    {"session-events-max", 0, PF_OPT_INT, FIELD(limits.session_events_max), NULL, "10000", 1,
        10000000, NULL, "Events kept for a session; the oldest go first, and the client is told."},
    {"session-bytes-max", 0, PF_OPT_INT, FIELD(limits.session_bytes_max), "bytes", "16m", 4096,
        (int64_t)1 << 40, NULL, "Bytes of events kept for a session."},
    {"actor-idle-ms", 0, PF_OPT_INT, FIELD(limits.actor_idle_ms), "ms", "60000", 100, DAY_MS, NULL,
        "An actor without clients leaves memory after this."},
    {"submit-keep-ms", 0, PF_OPT_INT, FIELD(limits.submit_keep_ms), "ms", "604800000", 1000,
        (int64_t)365 * DAY_MS, NULL,
        "How long a submitKey is remembered after its job's deadline."},
    {"submit-count-max", 0, PF_OPT_INT, FIELD(limits.submit_count_max), NULL, "10000000", 0,
        1000000000, NULL, "submitKeys that are remembered; further ones are refused with busy."},
    {"reannounce-ms", 0, PF_OPT_INT, FIELD(limits.reannounce_ms), "ms", "60000", 100, DAY_MS, NULL,
        "How often a job that the queue has accepted is announced again."},
    {"disk-reserve", 0, PF_OPT_INT, FIELD(disk_reserve), "bytes", "64m", 0, (int64_t)1 << 50, NULL,
        "With less than this free on the disk, new fetches are refused."},
    {"check", 0, PF_OPT_FLAG, FIELD(check), NULL, NULL, 0, 0, NULL,
        "Read the whole database, say what is wrong with it, and exit."},
    {"restore", 0, PF_OPT_STRING, FIELD(restore), "FILE", NULL, 0, 0, NULL,
        "Put a backup in place of the database, which must not be there, and exit."},
    {"log-level", 0, PF_OPT_CHOICE, FIELD(log_level), NULL, "info", 0, 0, pf_log_level_names,
        "Least important lines to write."},
};

static const struct pf_option_table option_table = {
    .program = PROGRAM,
    .summary = "actors that hand their fetches to a queue, and their WebSocket clients",
    .env_prefix = "PROXYFETCH_ORIGIN_",
    .options = options,
    .count = PF_COUNT(options),
};

static void on_drain(void *arg) {
  struct origin *origin = arg;
  pf_log(origin->log, PF_LOG_INFO, "stopping", "pending=%zu", core_pending(&origin->core));
  origin_close(origin);
}

static int url_check(char *url, const char *option) {
  struct pf_error why = {0};
  int err = url ? hop_url_read(url, &why) : PF_OK;
  if (err) fprintf(stderr, PROGRAM ": --%s: %s\n", option, why.text);
  return err;
}

/* An entry that is not as browsers send it would match nothing, and say nothing either. */
static int list_check(const struct pf_option_list *list, const char *option,
    bool (*well_formed)(const char *text), const char *expected) {
  for (size_t i = 0; i < list->count; i++) {
    if (well_formed(list->items[i])) continue;
    fprintf(stderr, PROGRAM ": --%s: '%s' is not %s\n", option, list->items[i], expected);
    return PF_EINVAL;
  }
  return PF_OK;
}

static int config_check(const struct config *config) {
  int err = url_check(config->orchestrator, "orchestrator");
  if (!err) err = url_check(config->advertise, "advertise");
  if (!err)
    err = list_check(&config->allow_origin, "allow-origin", guard_origin_well_formed,
        "*, or an origin like https://example.org, which has no path");
  if (!err)
    err = list_check(&config->allow_host, "allow-host", guard_host_well_formed,
        "a host like proxy.example.org or proxy.example.org:8787");
  return err;
}

/* Clients must not take the descriptors that their fetches need. */
static void share_files(
    const struct config *config, struct origin_config *origin, const struct pf_log *log) {
  size_t others, clients = pf_open_files_share(
                     (size_t)config->connections_max, FILES_BESIDES_CLIENTS, &others);
  if (clients < (size_t)config->connections_max)
    pf_log(log, PF_LOG_WARN, "open_files_limit",
        "connections_max=%zu wanted=%lld open_files_needed=%lld", clients,
        (long long)config->connections_max,
        (long long)config->connections_max + FILES_BESIDES_CLIENTS);
  origin->web.connections_max = (unsigned)clients;
  origin->internal_connections_max = (unsigned)(others / 2);
}

static int serve(const struct config *config, const struct pf_log *log, struct pf_error *reterr) {
  char data[PF_DATA_DIR_MAX];
  int err = pf_data_dir(data, config->data, "origin", reterr);
  if (err) return PF_EXIT_START;
  struct web_limits web = web_limits_default;
  web.outbox_max = (size_t)config->outbox_bytes_max;
  web.unread_max = (size_t)config->unread_bytes_max;
  web.frame_max = WIRE_FRAME_MAX;
  web.body_max = 2 * WIRE_REQUEST_BODY_MAX; /* the request's body as base64, and the rest */
  struct origin_config origin_config = {.listen = config->listen,
      .internal_listen = config->internal_listen,
      .data = data,
      .orchestrator = config->orchestrator,
      .advertise = config->advertise,
      .sync = (enum store_sync)config->sync,
      .reserve_bytes = config->disk_reserve,
      .allowed_origins = (const char *const *)config->allow_origin.items,
      .allowed_hosts = (const char *const *)config->allow_host.items,
      .limits = config->limits,
      .web = web};
  share_files(config, &origin_config, log);
  pf_alloc_give_back();
  uv_loop_t loop;
  pf_loop_check(uv_loop_init(&loop));
  struct origin *origin = pf_alloc(sizeof(*origin));
  struct pf_signals signals;
  err = origin_open(origin, &loop, &origin_config, log, reterr);
  pf_signals_open(&signals, &loop, on_drain, origin);
  uv_run(&loop, UV_RUN_DEFAULT);
  pf_signals_close(&signals);
  uv_run(&loop, UV_RUN_DEFAULT);
  int code = err ? PF_EXIT_START : origin->exit_code;
  origin_done(origin);
  free(origin);
  PF_ASSERT(uv_loop_close(&loop) == 0);
  return code;
}

/* --check and --restore: what an operator does with the database of an origin that is not running.
 */
static int look_after_database(const struct config *config, struct pf_error *reterr) {
  char dir[PF_DATA_DIR_MAX], path[PF_DATA_DIR_MAX + 16];
  int err = pf_data_dir(dir, config->data, "origin", reterr);
  snprintf(path, sizeof(path), "%s/origin.db", dir);
  if (!err && config->restore) err = origin_db_restore(config->restore, path, reterr);
  if (!err) err = store_check_file(path, &origin_db_schema, reterr);
  if (!err) printf("%s: %s\n", path, config->restore ? "restored" : "ok");
  return pf_exit_of(err);
}

int main(int argc, char **argv) {
  struct config config = {0};
  pf_options_parse_or_exit(&option_table, &config, argc, argv);
  if (config_check(&config)) {
    pf_options_free(&option_table, &config);
    return PF_EXIT_USAGE;
  }
  struct pf_log log = {.role = "origin", .level = (enum pf_log_level)config.log_level, .fd = 2};
  struct pf_error why = {0};
  int code = config.check || config.restore ? look_after_database(&config, &why)
                                            : serve(&config, &log, &why);
  if (why.code) fprintf(stderr, "%s: %s\n", PROGRAM, why.text);
  pf_options_free(&option_table, &config);
  return code;
}
