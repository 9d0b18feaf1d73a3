/* The head of a job's row, and behind a line feed that of its result, as a start of the origin
 * finds them in its file: what can be read is announced or run without harm, however it came there.
 */
#include <stdint.h>
#include <string.h>

#include "origin/classes/classes.h"
#include "origin/parts.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void edge_commit(void *arg, struct commit *commit) {
  (void)arg;
  commit_free(commit);
}

static void edge_lookup(void *arg, struct lookup *lookup) {
  (void)arg;
  lookup_free(lookup);
}

static void edge_announce(void *arg, uint64_t local, struct pf_slice head, struct pf_slice body) {
  (void)arg, (void)local, (void)body;
  PF_ASSERT(
      json_check(head, NULL) == PF_OK); /* the queue may refuse what it says, and the job ends */
}

static const struct origin_edge edge = {
    .commit = edge_commit, .lookup = edge_lookup, .announce = edge_announce};

static void job_go_on(struct core *core, struct job *job) {
  PF_ASSERT(job->retry.attempts >= 1 && job->retry.attempts <= WIRE_ATTEMPTS_MAX);
  if (job->state == JOB_PENDING) {
    pf_buf_str(&job->request, "request");
    core->request_bytes += job->request.len;
    core_on_queue_epoch(core, 1);
    announce_now(core, job);
    announce_pump(core);
    core_on_tick(core); /* it may be over */
  } else {
    results_run(core, job->local);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  static const struct core_limits limits = {.reannounce_ms = 1000, .actor_idle_ms = 1000};
  static const struct pf_log log = {.fd = -1, .level = PF_LOG_ERROR};
  static const struct core_start start = {.origin_id = 7, .start_number = 2, .next_actor = 2};
  const uint8_t *end = len ? memchr(data, '\n', len) : NULL;
  size_t head = end ? (size_t)(end - data) : len;
  struct lookup_row row = {.id = 1ull << PF_LOCAL_COUNT_BITS,
      .other = 1,
      .n = 1,
      .a = pf_slice(data, head),
      .d = pf_slice_str("proxy")};
  if (end) row.b = pf_slice(end + 1, len - head - 1);
  struct core core;
  core_init(&core, &edge, NULL, &limits, &log, classes, &start, 1);
  core_set_time(&core, 1000000000, 1700000000000);
  struct job *job = jobs_load_row(&core, &row);
  if (job) job_go_on(&core, job);
  core_done(&core);
  return 0;
}
