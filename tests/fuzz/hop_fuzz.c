/* A byte that chooses the decoder, then any bytes as its text. What is accepted, written and read
 * again, is written the same: nothing is lost on the way through a process. */
#include <stdint.h>

#include "wire/hop.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Decodes text and, if that succeeds, encodes what it was. */
typedef int pass_fn(struct pf_slice text, struct pf_buf *out, struct pf_arena *arena);

#define PASS(name, type, decode_call, encode_call)                                                 \
  static int pass_##name(struct pf_slice text, struct pf_buf *out, struct pf_arena *arena) {       \
    type value;                                                                                    \
    (void)arena;                                                                                   \
    int err = decode_call;                                                                         \
    if (!err) encode_call;                                                                         \
    return err;                                                                                    \
  }

PASS(jobs_head, struct hop_jobs_head, hop_jobs_head_decode(&value, text, NULL),
    hop_jobs_head_encode(out, &value))
PASS(job, struct hop_job, hop_job_decode(&value, text, NULL), hop_job_encode(out, &value))
PASS(job_reply, struct hop_job_reply, hop_job_reply_decode(&value, text),
    hop_job_reply_encode(out, &value))
PASS(jobs_reply_head, struct hop_jobs_reply_head, hop_jobs_reply_head_decode(&value, text),
    hop_jobs_reply_head_encode(out, &value))
PASS(execute_head, struct hop_execute_head, hop_execute_head_decode(&value, text, arena, NULL),
    hop_execute_head_encode(out, &value))
PASS(execute, struct hop_execute, hop_execute_decode(&value, text, NULL),
    hop_execute_encode(out, &value))
PASS(heartbeat, struct hop_heartbeat, hop_heartbeat_decode(&value, text, NULL),
    hop_heartbeat_encode(out, &value))
PASS(held, struct hop_held, hop_held_decode(&value, text, NULL), hop_held_encode(out, &value))
PASS(complete, struct hop_complete, hop_complete_decode(&value, text, NULL),
    hop_complete_encode(out, &value))
PASS(results_head, struct hop_results_head, hop_results_head_decode(&value, text),
    hop_results_head_encode(out, &value))
PASS(result, struct hop_result, hop_result_decode(&value, text, arena, NULL),
    hop_result_encode(out, &value))
PASS(results_reply_head, struct hop_results_reply_head, hop_results_reply_head_decode(&value, text),
    hop_results_reply_head_encode(out, &value))
PASS(status, struct pf_job_id, hop_status_decode(&value, text), hop_status_encode(out, value))
PASS(answer, int, hop_answer_decode(&value, hop_result_answers, text),
    hop_answer_encode(out, hop_result_answers, value))

static pass_fn *const passes[] = {pass_jobs_head, pass_job, pass_job_reply, pass_jobs_reply_head,
    pass_execute_head, pass_execute, pass_heartbeat, pass_held, pass_complete, pass_results_head,
    pass_result, pass_results_reply_head, pass_status, pass_answer};

static void held_check(struct pf_slice packed) {
  struct hop_held held;
  struct pf_buf again;
  pf_buf_init(&again, PF_BUF_MAX_DEFAULT);
  for (size_t i = 0; hop_held_read(packed, i, &held); i++)
    hop_held_append(&again, &held);
  PF_ASSERT(packed.len - again.len < HOP_HELD_BYTES);
  PF_ASSERT(pf_slice_eq(pf_buf_view(&again), pf_slice(packed.data, again.len)));
  pf_buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  unsigned choice = data[0] - 'A'; /* letters, so that seeds can be read */
  struct pf_slice text = pf_slice(data + 1, len - 1);
  if (choice >= PF_COUNT(passes)) {
    held_check(text);
    return 0;
  }
  struct pf_buf first, second;
  struct pf_arena arena;
  pf_buf_init(&first, PF_BUF_MAX_DEFAULT);
  pf_buf_init(&second, PF_BUF_MAX_DEFAULT);
  pf_arena_init(&arena);
  if (passes[choice](text, &first, &arena) == PF_OK) {
    PF_ASSERT(!first.err && json_check(pf_buf_view(&first), NULL) == PF_OK);
    int err = passes[choice](pf_buf_view(&first), &second, &arena);
    PF_ASSERT(err == PF_OK && pf_slice_eq(pf_buf_view(&first), pf_buf_view(&second)));
  }
  pf_buf_done(&first);
  pf_buf_done(&second);
  pf_arena_done(&arena);
  return 0;
}
