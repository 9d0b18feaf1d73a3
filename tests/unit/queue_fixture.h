/* unit.queue: a world whose origin has been heard of, and what the groups of its tests share. Each
 * group is a file of its own.
 *
 * Threads    none
 * Ownership  setup makes the world, teardown frees it.
 * Ordering   none
 * Limits     those of the world */
#ifndef PF_TESTS_QUEUE_FIXTURE_H
#define PF_TESTS_QUEUE_FIXTURE_H

#include "queue_world.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define EXECUTOR 1u
#define INCARNATION 0x11u

int setup(void **state);
int teardown(void **state);

struct pf_fence fence_of(const struct world *w, uint64_t local);
int attempt_of(const struct world *w, uint64_t local);
struct hop_held held_of(const struct world *w, uint64_t local);
/* An executor with 10 slots that holds nothing. */
void join(struct world *w);
void put(struct world *w, const struct hop_job *job);
void take(struct world *w, uint64_t local);
/* Leased to the executor, which has it. */
void put_taken(struct world *w, const struct hop_job *job);
/* The same with jobs 1 to count as world_job() makes them. */
void put_many_taken(struct world *w, uint64_t count);
/* join, and the executor has taken job 1. */
struct hop_job join_and_take(struct world *w, bool repeatable);
void complete(struct world *w, uint64_t local);
void fail_attempt(struct world *w, uint64_t local, enum outcome outcome, enum certainty certainty);
/* The origin's answer to the question that is due. */
void answer_status(struct world *w, uint64_t local, int answer);
/* Silence long enough to end every lease. */
void lose_executor(struct world *w);
struct hop_result expect_delivery(struct world *w, uint64_t local);

/* The groups. They return how many tests failed. */
int queue_insert_tests(void);
int queue_lease_tests(void);
int queue_silent_tests(void);
int queue_lost_tests(void);
int queue_time_tests(void);
int queue_rules_tests(void);
int queue_call_rules_tests(void);

#endif
