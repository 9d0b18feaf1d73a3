#include "origin/commit.h"

#include <stdlib.h>

#include "base/err.h"

struct commit *commit_new(uint64_t seq, int64_t now_ns) {
  struct commit *commit = pf_alloc(sizeof(*commit));
  pf_arena_init(&commit->arena);
  commit->ops_end = &commit->ops;
  commit->outputs_end = &commit->outputs;
  commit->seq = seq;
  commit->opened_ns = now_ns;
  return commit;
}

void commit_free(struct commit *commit) {
  if (!commit) return;
  pf_arena_done(&commit->arena);
  free(commit);
}

struct op *commit_op(struct commit *commit, enum op_kind kind, uint64_t id) {
  struct op *op = pf_arena_alloc(&commit->arena, sizeof(*op));
  op->kind = kind;
  op->id = id;
  *commit->ops_end = op;
  commit->ops_end = &op->next;
  commit->op_count++;
  return op;
}

struct output *commit_output(struct commit *commit, enum output_kind kind, uint64_t id) {
  struct output *output = pf_arena_alloc(&commit->arena, sizeof(*output));
  output->kind = kind;
  output->id = id;
  *commit->outputs_end = output;
  commit->outputs_end = &output->next;
  return output;
}

struct pf_slice commit_copy(struct commit *commit, struct pf_slice bytes) {
  return bytes.len ? pf_arena_copy(&commit->arena, bytes) : (struct pf_slice){0};
}

struct pf_slice commit_copy_buf(struct commit *commit, const struct pf_buf *buf) {
  return commit_copy(commit, pf_buf_view(buf));
}

struct commit_mark commit_mark(const struct commit *commit) {
  return (struct commit_mark){commit->ops_end, commit->outputs_end, commit->op_count};
}

void commit_rewind(struct commit *commit, struct commit_mark mark) {
  commit->ops_end = mark.ops_end;
  *commit->ops_end = NULL;
  commit->outputs_end = mark.outputs_end;
  *commit->outputs_end = NULL;
  commit->op_count = mark.op_count;
}
