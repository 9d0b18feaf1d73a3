#include "state.h"

#include <string.h>

#include "base/err.h"

/* ---- rows ---- */

void row_commit(struct job *job) {
  job->row_disk = job->row;
}

bool row_is_durable(const struct job *job) {
  return memcmp(&job->row, &job->row_disk, sizeof(job->row)) == 0;
}

bool row_settled(const struct row *row) {
  return row->state == ROW_RECEIVED || row->state == ROW_DONE || row->state == ROW_FORGOTTEN;
}

/* ---- messages ---- */

unsigned msg_sender(struct msg m) {
  switch ((enum msg_type)m.type) {
  case MSG_JOB:
  case MSG_END:
  case MSG_RESULT_ANSWER:
  case MSG_STATUS_ANSWER:
    return ORIGIN;
  case MSG_JOB_ANSWER:
  case MSG_EXECUTE:
  case MSG_START_ANSWER:
  case MSG_STATUS:
  case MSG_COMPLETE_ANSWER:
    return QUEUE;
  case MSG_START:
  case MSG_RESULT:
  case MSG_COMPLETE:
    break;
  }
  return m.exec == BY_QUEUE ? (unsigned)QUEUE : (unsigned)EXECUTOR_0 + m.exec;
}

unsigned msg_receiver(struct msg m) {
  switch ((enum msg_type)m.type) {
  case MSG_JOB_ANSWER:
  case MSG_RESULT:
  case MSG_STATUS:
    return ORIGIN;
  case MSG_JOB:
  case MSG_END:
  case MSG_START:
  case MSG_STATUS_ANSWER:
  case MSG_COMPLETE:
    return QUEUE;
  case MSG_EXECUTE:
  case MSG_START_ANSWER:
  case MSG_RESULT_ANSWER:
  case MSG_COMPLETE_ANSWER:
    break;
  }
  return m.exec == BY_QUEUE ? (unsigned)QUEUE : (unsigned)EXECUTOR_0 + m.exec;
}

bool msg_is_answer(struct msg m) {
  return m.type == MSG_JOB_ANSWER || m.type == MSG_START_ANSWER || m.type == MSG_RESULT_ANSWER ||
         m.type == MSG_STATUS_ANSWER || m.type == MSG_COMPLETE_ANSWER;
}

uint16_t msg_pack(struct msg m) {
  PF_ASSERT(m.type < 16 && m.job < 2 && m.exec < 4 && m.epoch < 4 && m.n < 8 && m.info < 16);
  return (uint16_t)(m.type << 12 | m.job << 11 | m.exec << 9 | m.epoch << 7 | m.n << 4 | m.info);
}

bool net_has(const struct state *s, struct msg msg) {
  uint16_t packed = msg_pack(msg);
  for (unsigned i = 0; i < s->net_count; i++)
    if (s->net[i] == packed) return true;
  return false;
}

void net_send(struct state *s, struct msg msg) {
  uint16_t packed = msg_pack(msg);
  unsigned at = 0;
  while (at < s->net_count && s->net[at] < packed)
    at++;
  if (at < s->net_count && s->net[at] == packed) return;
  PF_ASSERT(s->net_count < NET_MAX);
  memmove(&s->net[at + 1], &s->net[at], (s->net_count - at) * sizeof(s->net[0]));
  s->net[at] = packed;
  s->net_count++;
}

void net_remove(struct state *s, unsigned index) {
  PF_ASSERT(index < s->net_count);
  s->net_count--;
  memmove(&s->net[index], &s->net[index + 1], (s->net_count - index) * sizeof(s->net[0]));
}

static void fence_words(struct pf_buf *buf, struct msg m) {
  pf_buf_printf(buf, ", fence %c%d", 'A' + m.epoch, m.n);
}

void msg_words(struct pf_buf *buf, struct msg m) {
  static const char *const names[] = {"job", "end", "answer to job", "execute", "start",
      "answer to start", "result", "answer to result", "status", "answer to status", "complete",
      "answer to complete"};
  static const char *const job_answers[] = {"have it", "done", "lost"};
  static const char *const status_answers[] = {"pending", "settled", "unknown"};
  PF_ASSERT(m.type < PF_COUNT(names));
  pf_buf_printf(buf, "%s(job %d", names[m.type], m.job);
  if (m.type == MSG_JOB && m.info > 0) pf_buf_printf(buf, ", first epoch %c", 'A' + m.info - 1);
  if (m.type == MSG_JOB_ANSWER)
    pf_buf_printf(buf, ": %s, epoch %c", job_answers[m.info], 'A' + m.epoch);
  if (m.type >= MSG_EXECUTE && m.exec != BY_QUEUE) fence_words(buf, m);
  if (m.type == MSG_EXECUTE)
    pf_buf_printf(buf, ", executor %d%s%s", m.exec, m.info / 2 ? ", an earlier incarnation" : "",
        m.info % 2 ? ", last attempt" : "");
  else if (m.type >= MSG_START && m.type != MSG_STATUS && m.type != MSG_STATUS_ANSWER)
    pf_buf_printf(buf, m.exec == BY_QUEUE ? ", of the queue" : ", of executor %d", m.exec);
  if (m.type == MSG_START_ANSWER) pf_buf_str(buf, m.info ? ": go" : ": no");
  if (m.type == MSG_RESULT_ANSWER) pf_buf_str(buf, m.info ? ": final" : ": try again");
  if (m.type == MSG_STATUS_ANSWER) pf_buf_printf(buf, ": %s", status_answers[m.info]);
  if (m.type == MSG_COMPLETE)
    pf_buf_str(buf, m.info == COMPLETION_RETRY ? ": retry" : ": delivered");
  pf_buf_str(buf, ")");
}

/* ---- storage: count of messages, half bytes, messages ---- */

static size_t fields_len(unsigned jobs) {
  return offsetof(struct state, job) + jobs * sizeof(struct job);
}

static unsigned slots_rank(const struct state *s, unsigned e) {
  unsigned rank = 0;
  for (unsigned j = 0; j < JOBS_MAX; j++) {
    const struct job *job = &s->job[j];
    const struct slot *slot = &job->slot[e];
    bool leased = job->entry.state == ENTRY_LEASED && job->entry.exec == e;
    rank = rank << 12 | (unsigned)(slot->state << 8 | slot->epoch << 6 | slot->n << 2 |
                                   slot->last << 1 | leased);
  }
  return rank;
}

static void entry_swap_executor(struct entry *entry) {
  if (entry->state == ENTRY_LEASED) entry->exec ^= 1;
}

void state_order_executors(struct state *s) {
  if (slots_rank(s, 0) >= slots_rank(s, 1)) return;
  for (unsigned j = 0; j < JOBS_MAX; j++) {
    struct job *job = &s->job[j];
    struct slot slot = job->slot[0];
    job->slot[0] = job->slot[1];
    job->slot[1] = slot;
    for (unsigned epoch = 0; epoch < EPOCHS_MAX; epoch++) {
      uint8_t seen = job->seen[0][epoch];
      job->seen[0][epoch] = job->seen[1][epoch];
      job->seen[1][epoch] = seen;
    }
    entry_swap_executor(&job->entry);
    entry_swap_executor(&job->entry_disk);
  }
  uint16_t old[NET_MAX];
  unsigned count = s->net_count;
  memcpy(old, s->net, count * sizeof(old[0]));
  s->net_count = 0;
  for (unsigned i = 0; i < count; i++) {
    struct msg m = msg_unpack(old[i]);
    if (msg_sender(m) >= EXECUTOR_0 || msg_receiver(m) >= EXECUTOR_0) m.exec ^= 1;
    net_send(s, m);
  }
}

size_t state_pack(const struct state *s, unsigned jobs, uint8_t packed[STATE_PACKED_MAX]) {
  const uint8_t *fields = (const uint8_t *)s;
  size_t at = 0;
  packed[at++] = s->net_count;
  for (size_t i = 0; i < fields_len(jobs); i += 2) {
    PF_ASSERT((fields[i] | fields[i + 1]) < 16);
    packed[at++] = (uint8_t)(fields[i] << 4 | fields[i + 1]);
  }
  memcpy(packed + at, s->net, s->net_count * sizeof(s->net[0]));
  return at + s->net_count * sizeof(s->net[0]);
}

void state_unpack(struct state *s, unsigned jobs, const uint8_t *packed) {
  memset(s, 0, sizeof(*s));
  uint8_t *fields = (uint8_t *)s;
  s->net_count = *packed++;
  for (size_t i = 0; i < fields_len(jobs); i += 2, packed++) {
    fields[i] = *packed >> 4;
    fields[i + 1] = *packed & 15;
  }
  memcpy(s->net, packed, s->net_count * sizeof(s->net[0]));
}

size_t state_packed_len(unsigned jobs, const uint8_t *packed) {
  return 1 + fields_len(jobs) / 2 + packed[0] * sizeof(uint16_t);
}

_Static_assert(offsetof(struct state, job) % 2 == 0, "half bytes come in pairs");
_Static_assert(sizeof(struct job) % 2 == 0, "half bytes come in pairs");
