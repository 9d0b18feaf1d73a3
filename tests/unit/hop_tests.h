/* unit.hop: the groups of its tests, each a file of its own. They return how many tests failed. */
#ifndef PF_TESTS_HOP_TESTS_H
#define PF_TESTS_HOP_TESTS_H

int hop_round_trip_tests(void);
int hop_refusal_tests(void);

#endif
