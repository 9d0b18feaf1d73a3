#include "base/rand.h"

#include <sys/random.h>

#include "base/err.h"
#include "base/map.h"

void pf_rand_secret(void *data, size_t len) {
  char *at = data;
  while (len > 0) {
    ssize_t got = getrandom(at, len, 0);
    if (got < 0) continue; /* EINTR only */
    at += got;
    len -= (size_t)got;
  }
}

uint64_t pf_rand_secret_u64(void) {
  uint64_t value;
  do {
    pf_rand_secret(&value, sizeof(value));
  } while (value == 0);
  return value;
}

uint64_t pf_rand_u64(struct pf_rand *rand) {
  rand->state += 0x9e3779b97f4a7c15u;
  return pf_hash_u64(rand->state);
}

uint64_t pf_rand_below(struct pf_rand *rand, uint64_t bound) {
  if (bound == 0) return 0;
  return (uint64_t)(((unsigned __int128)pf_rand_u64(rand) * bound) >> 64);
}
