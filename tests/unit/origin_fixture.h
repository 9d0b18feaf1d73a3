/* unit.origin: a world with one client, number 7, and a queue that has been heard of; and what the
 * groups of its tests share. Each group is a file of its own.
 *
 * Threads    none
 * Ownership  setup makes the world, teardown frees it.
 * Ordering   none
 * Limits     those of the world */
#ifndef PF_TESTS_ORIGIN_FIXTURE_H
#define PF_TESTS_ORIGIN_FIXTURE_H

#include "support/origin_world.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define EPOCH 0xe1 /* of the queue */
#define FETCH(id)                                                                                  \
  "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/x\",\"clientId\":\"" id "\"}"
#define FETCH_POST                                                                                 \
  "{\"type\":\"start-fetch\",\"url\":\"http://127.0.0.1:1/"                                        \
  "\",\"clientId\":\"p\",\"method\":\"POST\"}"

/* classes: NULL = those of the origin */
struct world *world_with(const struct actor_class *const *classes);
int setup(void **state);
int teardown(void **state);

/* One fetch of the client, as it is announced. */
struct hop_job announce_fetch(struct world *world);
/* Delivers a result of the job and returns its answer, a HOP_RESULT_*, once it is durable. */
int deliver_result(struct world *world, const struct hop_job *job, int status);
void cancel_job(struct world *world, struct pf_job_id id);
/* Accepted by the queue, in batches. */
void make_jobs(struct world *world, int count);

/* For what is broken on purpose, and logged. */
int setup_rules(void **state);
/* One fetch of the client, as it is announced. */
struct hop_job start_fetch(struct world *world);
/* Opens a session on socket 7, has so many events made in it. */
void session_with_events(struct world *world, char token[33], int events);
void leave(struct world *world, uint64_t ws);
/* A new connection returns to the session; nothing is settled yet. */
void resume(struct world *world, uint64_t ws, const char *token, int64_t offset);

/* The groups. They return how many tests failed. */
int origin_fetch_tests(void);
int origin_end_tests(void);
int origin_session_tests(void);
int origin_submit_tests(void);
int origin_stored_tests(void);
int origin_actor_tests(void);
int origin_session_rules_tests(void);
int origin_announce_rules_tests(void);

#endif
