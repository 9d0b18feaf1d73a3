/* How many rows a second does the store commit, at what latency and CPU time per row?
 *
 *   store_bench [DIR] [SECONDS]
 *
 * N clients each keep one request of a 400-byte row in flight, so a group has up to N rows. For
 * each sync mode and N: rows/s, us of wall and of CPU time per row (both threads), rows per group,
 * commit time, latency from submit to done, checkpoints. The queue stays at QUEUE_ROWS: each insert
 * deletes the oldest row. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/stmt.h"
#include "store/store.h"

enum { ROW_BYTES = 400, QUEUE_ROWS = 10000, CLIENTS_MAX = 1000, SAMPLES_MAX = 4000000 };

enum { SQL_PUT, SQL_DELETE, SQL_MAX };
static const char *const sql[SQL_MAX] = {
    [SQL_PUT] = "INSERT INTO job(id, body) VALUES(?1, ?2)",
    [SQL_DELETE] = "DELETE FROM job WHERE id = ?1",
};
static const char *const migrations[] = {"CREATE TABLE job(id INTEGER PRIMARY KEY, body BLOB)"};
static const struct store_schema schema = {
    .application_id = 0x50464245, .migrations = migrations, .version = 1, .damaged = "remove it"};

struct bench {
  uv_loop_t loop;
  struct store *store;
  int64_t end_ns;
  uint64_t next_id, rows;
  uint32_t *latency_us; /* of SAMPLES_MAX */
};

struct client {
  struct store_req req;
  struct bench *bench;
  uint64_t id;
  int64_t began_ns;
};

static int bench_prepare(sqlite3 *db, void *arg, void **ret_user, struct pf_error *reterr) {
  *ret_user = arg;
  return store_stmts_prepare(db, arg, sql, SQL_MAX, reterr);
}

static void bench_finish(void *user) {
  store_stmts_finalize(user, SQL_MAX);
}

static int client_apply(void *user, struct store_req *req) {
  sqlite3_stmt **stmt = user;
  const struct client *client = pf_container_of(req, struct client, req);
  char body[ROW_BYTES];
  memset(body, (int)client->id, sizeof(body));
  store_bind_u64(stmt[SQL_PUT], 1, client->id);
  store_bind_blob(stmt[SQL_PUT], 2, pf_slice(body, sizeof(body)));
  int err = store_run(stmt[SQL_PUT]);
  if (err != PF_OK) return err;
  store_bind_i64(stmt[SQL_DELETE], 1, (int64_t)client->id - QUEUE_ROWS);
  return store_run(stmt[SQL_DELETE]);
}

static void client_submit(struct client *client) {
  client->id = ++client->bench->next_id;
  client->began_ns = pf_clock_mono_ns();
  store_submit(client->bench->store, &client->req);
}

static void on_closed(void *arg) {
  (void)arg;
}

static void client_done(struct store_req *req, int err) {
  struct client *client = pf_container_of(req, struct client, req);
  struct bench *bench = client->bench;
  PF_ASSERT(err == PF_OK);
  int64_t now_ns = pf_clock_mono_ns();
  if (bench->rows < SAMPLES_MAX)
    bench->latency_us[bench->rows] = (uint32_t)((now_ns - client->began_ns) / 1000);
  bench->rows++;
  if (now_ns < bench->end_ns) client_submit(client);
}

static int compare_u32(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double cpu_us(void) {
  struct rusage use;
  int rc = getrusage(RUSAGE_SELF, &use);
  PF_ASSERT(rc == 0);
  return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e6 +
         (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void print_machine(const char *dir) {
  struct utsname name;
  char line[256], cpu[256] = "unknown";
  int rc = uname(&name);
  PF_ASSERT(rc == 0);
  FILE *file = fopen("/proc/cpuinfo", "r");
  while (file && fgets(line, sizeof(line), file)) {
    if (strncmp(line, "model name", 10) != 0 || !strchr(line, ':')) continue;
    snprintf(cpu, sizeof(cpu), "%s", strchr(line, ':') + 2);
    cpu[strcspn(cpu, "\n")] = '\0';
    break;
  }
  if (file) fclose(file);
  printf("machine: %s, %ld cores, %s %s; SQLite %s; files in %s\n", cpu,
      sysconf(_SC_NPROCESSORS_ONLN), name.sysname, name.release, sqlite3_libversion(), dir);
}

static void print_result(struct bench *bench, const char *mode, unsigned clients, double wall_us,
    double used_us, const struct store_stats *stats) {
  size_t samples = bench->rows < SAMPLES_MAX ? bench->rows : SAMPLES_MAX;
  qsort(bench->latency_us, samples, sizeof(bench->latency_us[0]), compare_u32);
  double rows = (double)bench->rows;
  printf("%-6s %7u %8.0f %8.2f %8.2f %8.1f %9.0f %8u %8u %8u %5llu\n", mode, clients,
      rows / wall_us * 1e6, wall_us / rows, used_us / rows, rows / (double)stats->groups,
      (double)stats->commit_ns_total / 1e3 / (double)stats->groups, bench->latency_us[samples / 2],
      bench->latency_us[samples - 1 - samples / 100], bench->latency_us[samples - 1],
      (unsigned long long)stats->checkpoints);
}

static void bench_run(const char *dir, enum store_sync sync, unsigned clients, int64_t seconds) {
  struct bench bench = {.latency_us = pf_alloc(SAMPLES_MAX * sizeof(uint32_t))};
  sqlite3_stmt *stmts[SQL_MAX];
  char path[400];
  snprintf(path, sizeof(path), "%s/bench.db", dir);
  struct store_config config = {.path = path,
      .sync = sync,
      .schema = &schema,
      .prepare = bench_prepare,
      .finish = bench_finish,
      .arg = stmts};
  struct pf_error why;
  int rc = uv_loop_init(&bench.loop);
  PF_ASSERT(rc == 0);
  if (store_open(&bench.store, &bench.loop, &config, &why) != PF_OK) {
    fprintf(stderr, "%s\n", why.text);
    exit(PF_EXIT_START);
  }
  struct client *all = pf_alloc(clients * sizeof(*all));
  double cpu_began_us = cpu_us();
  int64_t began_ns = pf_clock_mono_ns();
  bench.end_ns = began_ns + seconds * 1000000000;
  for (unsigned i = 0; i < clients; i++) {
    all[i] = (struct client){.req = {.apply = client_apply, .done = client_done}, .bench = &bench};
    client_submit(&all[i]);
  }
  struct store_stats stats;
  do {
    uv_run(&bench.loop, UV_RUN_ONCE);
    store_read_stats(bench.store, &stats);
  } while (stats.waiting > 0);
  print_result(&bench, sync == STORE_SYNC_FULL ? "full" : "normal", clients,
      (double)(pf_clock_mono_ns() - began_ns) / 1e3, cpu_us() - cpu_began_us, &stats);
  store_close(bench.store, on_closed, NULL);
  uv_run(&bench.loop, UV_RUN_DEFAULT);
  rc = uv_loop_close(&bench.loop);
  PF_ASSERT(rc == 0);
  free(all);
  free(bench.latency_us);
  rc = unlink(path);
  PF_ASSERT(rc == 0);
}

int main(int argc, char **argv) {
  static const unsigned clients[] = {1, 10, 100, CLIENTS_MAX};
  const char *base = argc > 1 ? argv[1] : "/tmp";
  int64_t seconds = argc > 2 ? strtol(argv[2], NULL, 10) : 2;
  char dir[300], lock[320];
  snprintf(dir, sizeof(dir), "%s/store_bench.XXXXXX", base);
  if (seconds < 1 || strlen(base) > 200 || !mkdtemp(dir)) {
    fprintf(stderr, "usage: store_bench [DIR] [SECONDS]\n");
    return PF_EXIT_USAGE;
  }
  print_machine(base);
  printf("sync   clients   rows/s  us/row cpu/row rows/group commit_us  p50_us   p99_us   max_us "
         "checkpoints\n");
  for (unsigned sync = 0; sync < 2; sync++)
    for (unsigned i = 0; i < PF_COUNT(clients); i++)
      bench_run(dir, sync == 0 ? STORE_SYNC_FULL : STORE_SYNC_NORMAL, clients[i], seconds);
  snprintf(lock, sizeof(lock), "%s/lock", dir);
  unlink(lock);
  rmdir(dir);
  return PF_EXIT_OK;
}
