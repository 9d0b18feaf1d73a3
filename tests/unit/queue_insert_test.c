/* What comes in: announcements, ends, watermarks, and rows while they are loaded. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "queue_fixture.h"

static void test_insert_is_leased_in_one_write(void **state) {
  struct world *w = *state;
  join(w);
  size_t before = w->group_count;
  struct hop_job job = world_job(1);
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  world_turn(w);
  assert_int_equal(w->group_count, before + 1);
  const struct queue_group *group = &w->groups[before];
  assert_true(group->urgent);
  assert_int_equal(group->row_count, 1);
  assert_true(group->rows[0].insert);
  assert_int_equal(group->rows[0].state, QUEUE_ROW_LEASED);
  assert_int_equal(group->rows[0].incarnation, INCARNATION);
  assert_int_equal(group->rows[0].attempt, 1);
  world_expect_none(w); /* the dispatch waits for the lease */
  world_commit(w);
  struct queue_action action = world_expect(w, QUEUE_DISPATCH, 1);
  struct hop_execute item;
  struct queue_blob *blob;
  int64_t qid;
  assert_true(queue_view_execute(w->queue, &action, w->now_us, &item, &blob, &qid));
  assert_int_equal(item.attempt, 1);
  assert_false(item.last);
  assert_true(pf_slice_is(queue_blob_request(blob), "request"));
  assert_memory_equal(&item.capability, &job.capability, sizeof(item.capability));
  queue_blob_unref(blob);
}

static void test_first_lease_reserves_fences_in_the_same_group(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  put(w, &job);
  assert_int_equal(w->fence_next, 1 + QUEUE_FENCE_BLOCK);
  world_crash(w);
  world_beat(w, 2, 0x22, 10, NULL, 0);
  job = world_job(2);
  put(w, &job);
  assert_true(fence_of(w, 2).counter >= 1 + QUEUE_FENCE_BLOCK);
}

static void test_waits_without_executor(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  struct pf_buf head;
  pf_buf_init(&head, 4096);
  hop_job_encode(&head, &job);
  struct hop_job_reply reply =
      queue_put(w->queue, &job, pf_buf_view(&head), pf_slice_str("x"), false, w->now_us);
  pf_buf_done(&head);
  assert_int_equal(reply.answer, HOP_JOB_QUEUED);
  assert_true(reply.no_executor);
  world_pass(w, 0);
  assert_int_equal(world_row(w, 1)->state, QUEUE_ROW_QUEUED);
  world_expect_none(w);
  join(w);
  assert_int_equal(world_row(w, 1)->state, QUEUE_ROW_LEASED);
  take(w, 1);
}

static void test_repeated_insert_is_known_then_done(void **state) {
  struct world *w = *state;
  struct hop_job job = join_and_take(w, true);
  assert_int_equal(world_put(w, &job), HOP_JOB_KNOWN);
  complete(w, 1);
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_pass(w, 0);
  assert_null(world_row(w, 1));
  world_crash(w);
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
}

static void test_completion_is_lazy(void **state) {
  struct world *w = *state;
  join_and_take(w, true);
  complete(w, 1);
  size_t before = w->group_count;
  world_turn(w);
  assert_int_equal(w->group_count, before + 1);
  assert_false(w->groups[before].urgent);
  assert_int_equal(w->groups[before].delete_count, 1);
  assert_int_equal(w->groups[before].tomb_count, 1);
}

static void test_below_low_is_done_and_pages_are_forgotten(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(5);
  put_taken(w, &job);
  complete(w, 5);
  world_pass(w, 0);
  assert_int_equal(w->tomb_count, 1);
  world_origin(w, 1, 1024);
  world_pass(w, 0);
  assert_int_equal(w->tomb_count, 0);
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_crash(w);
  world_origin(w, 1, 2); /* a delayed copy of an earlier call */
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
}

static void test_full_at_the_limit(void **state) {
  struct world *w = *state;
  world_done(w);
  world_init(w, 1);
  queue_free(w->queue);
  w->config.jobs_max = 2;
  w->queue = queue_new(&w->config);
  queue_loaded(w->queue);
  for (uint64_t i = 1; i <= 2; i++) {
    struct hop_job job = world_job(i);
    assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  }
  struct hop_job job = world_job(3);
  assert_int_equal(world_put(w, &job), HOP_JOB_FULL);
  job = world_job(2);
  assert_int_equal(world_put(w, &job), HOP_JOB_KNOWN);
}

static void test_requests_over_the_budget_leave_memory(void **state) {
  struct world *w = *state;
  struct queue_stats stats;
  while (queue_has_room(w->queue, 0)) {
    struct hop_job job = world_job(++w->config.epoch);
    assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  }
  world_pass(w, 0);
  queue_read_stats(w->queue, w->now_us, &stats);
  assert_true(stats.request_bytes <= (uint64_t)w->config.request_bytes_max);
  join(w);
  struct queue_action action;
  unsigned missing = 0;
  while (world_act(w, &action)) {
    struct hop_execute item;
    struct queue_blob *blob;
    int64_t qid;
    assert_true(queue_view_execute(w->queue, &action, w->now_us, &item, &blob, &qid));
    if (!blob) missing++;
    assert_true(qid > 0);
    queue_blob_unref(blob);
  }
  assert_true(missing > 0);
}

static void test_other_epoch_may_have_sent_it(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  job.repeatable = false;
  job.first_epoch = w->config.epoch + 1;
  assert_int_equal(world_put(w, &job), HOP_JOB_LOST);
  job.first_epoch = w->config.epoch;
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  job = world_job(2);
  job.first_epoch = w->config.epoch + 1;
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED); /* may be repeated */
}

/* ---- end ---- */

static void test_end_of_a_leased_job_aborts_it(void **state) {
  struct world *w = *state;
  struct hop_job job = join_and_take(w, true);
  struct hop_held held = held_of(w, 1);
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 0);
  job.end = true;
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_turn(w);
  assert_true(w->groups[w->group_count - 1].urgent);
  world_commit(w);
  assert_null(world_row(w, 1));
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &held, 1), 1);
}

/* The `end` itself never came: the watermark says as much. */
static void test_watermark_ends_what_an_executor_holds(void **state) {
  struct world *w = *state;
  join(w);
  for (uint64_t i = 1; i <= 2; i++) {
    struct hop_job job = world_job(i);
    job.repeatable = false;
    put_taken(w, &job);
  }
  struct hop_held held[2] = {held_of(w, 1), held_of(w, 2)};
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, held, 2), 0);
  world_origin(w, 1, 2);
  assert_false(queue_start(w->queue, &held[0], w->now_us));
  assert_true(queue_start(w->queue, &held[1], w->now_us));
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, held, 2), 1);
  world_pass(w, 0);
  assert_int_equal(world_state(w, 1), JOB_STATE_COUNT);
  assert_int_equal(world_state(w, 2), JOB_LEASED);
  assert_null(world_row(w, 1));
}

static void test_end_overtakes_the_insert(void **state) {
  struct world *w = *state;
  join(w);
  struct hop_job job = world_job(1);
  job.end = true;
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_pass(w, 0);
  world_crash(w);
  job.end = false;
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
}

static void test_insert_and_end_in_one_turn_write_no_row(void **state) {
  struct world *w = *state;
  struct hop_job job = world_job(1);
  assert_int_equal(world_put(w, &job), HOP_JOB_QUEUED);
  job.end = true;
  assert_int_equal(world_put(w, &job), HOP_JOB_DONE);
  world_turn(w);
  assert_int_equal(w->groups[w->group_count - 1].row_count, 0);
  assert_int_equal(w->groups[w->group_count - 1].delete_count, 0);
}

static void test_while_loading_new_work_goes_first(void **state) {
  struct world *w = *state;
  struct hop_job old = world_job(10), newer = world_job(11), unknown = world_job(9);
  put(w, &old);
  queue_free(w->queue);
  w->queue = queue_new(&w->config);
  w->action_count = 0;
  queue_load_begin(w->queue, 1);
  queue_load_origin(w->queue, &w->origins[0]);
  assert_int_equal(world_put(w, &unknown), HOP_JOB_FULL); /* may be in a row: later */
  assert_int_equal(world_put(w, &newer), HOP_JOB_QUEUED);
  join(w);
  take(w, 11);
  struct hop_held foreign = {world_id(10), {w->config.epoch, 1}};
  assert_int_equal(world_beat(w, EXECUTOR, INCARNATION, 10, &foreign, 1), 0); /* not yet known */
  queue_load_row(w->queue, world_row(w, 10), &old, world_row(w, 10)->blob, w->now_us);
  queue_loaded(w->queue);
  assert_int_equal(world_put(w, &old), HOP_JOB_KNOWN);
  assert_int_equal(world_put(w, &unknown), HOP_JOB_QUEUED);
}

static void test_origins_max(void **state) {
  struct world *w = *state; /* it has one */
  struct hop_jobs_head head = {.origin = WORLD_ORIGIN + 1, .origin_epoch = 1, .low = 1};
  for (; head.origin < WORLD_ORIGIN + QUEUE_ORIGINS_MAX; head.origin++)
    assert_int_equal(queue_origin_seen(w->queue, &head, w->now_us), PF_OK);
  assert_int_equal(queue_origin_seen(w->queue, &head, w->now_us), PF_ELIMIT);
  world_origin(w, 1, 1); /* those that are known go on */
}

int queue_insert_tests(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_insert_is_leased_in_one_write),
      TEST(test_first_lease_reserves_fences_in_the_same_group),
      TEST(test_waits_without_executor),
      TEST(test_repeated_insert_is_known_then_done),
      TEST(test_completion_is_lazy),
      TEST(test_below_low_is_done_and_pages_are_forgotten),
      TEST(test_full_at_the_limit),
      TEST(test_requests_over_the_budget_leave_memory),
      TEST(test_other_epoch_may_have_sent_it),
      TEST(test_end_of_a_leased_job_aborts_it),
      TEST(test_watermark_ends_what_an_executor_holds),
      TEST(test_end_overtakes_the_insert),
      TEST(test_insert_and_end_in_one_turn_write_no_row),
      TEST(test_while_loading_new_work_goes_first),
      TEST(test_origins_max),
  };
  return cmocka_run_group_tests_name("queue_insert", tests, NULL, NULL);
}
