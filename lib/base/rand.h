/* Randomness: secrets from the kernel, jitter from a seeded generator.
 *
 * Threads    pf_rand_secret: any. A struct pf_rand belongs to one caller.
 * Limits     pf_rand is not for secrets. */
#ifndef PF_BASE_RAND_H
#define PF_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

/* Fills data from getrandom(2); it cannot fail on a booted system (asserted). */
void pf_rand_secret(void *data, size_t len);
uint64_t pf_rand_secret_u64(void); /* never 0 */

/* splitmix64 (Steele, Lea, Flood 2014): same seed, same sequence, so that a simulation replays. */
struct pf_rand {
  uint64_t state;
};
uint64_t pf_rand_u64(struct pf_rand *rand);
/* Uniform in [0, bound); 0 for bound 0. */
uint64_t pf_rand_below(struct pf_rand *rand, uint64_t bound);

#endif
