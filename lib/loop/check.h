/* What libuv's calls of the start say: they fail for want of memory or of descriptors, or by our
 * own bug.
 *
 * Threads    any
 * Ownership  none
 * Ordering   none
 * Limits     none */
#ifndef PF_LOOP_CHECK_H
#define PF_LOOP_CHECK_H

/* Returns if status is not negative. Without memory the process ends with PF_EXIT_MEMORY, without
 * descriptors with PF_EXIT_START, in words; anything else is a failed assertion. */
void pf_loop_check(int status);

#endif
