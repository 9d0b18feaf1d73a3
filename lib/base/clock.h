/* The two clocks, and nothing else reads the time.
 *
 * Monotonic time (CLOCK_BOOTTIME: it goes on in suspend) drives every timer, lease and timing.
 * Wall time is stored and shown, and never subtracted.
 *
 * Threads    any. Pure decision code takes the time as an argument instead of calling these. */
#ifndef PF_BASE_CLOCK_H
#define PF_BASE_CLOCK_H

#include <stdint.h>

int64_t pf_clock_mono_ns(void);
int64_t pf_clock_mono_ms(void);
int64_t pf_clock_wall_ms(void); /* milliseconds since 1970 */

#endif
