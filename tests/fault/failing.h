/* Lets the n-th allocation or system call of a kind fail, once. As a library to preload it does so
 * in a process that knows nothing of it: the test decides through a file, PF_FAILING, that both
 * have mapped. It may read the counts, arm and disarm at any time, and what was written there
 * outlives the process. Linked into a test program it takes its orders from failing_use().
 *
 * The page, in native order: struct failing_plan, then two texts. At FAILING_FIRED_AT, who called
 * what failed, innermost first: "object+0xoffset object+0x…"; at FAILING_CRASHED_AT, "SIGNAL
 * object+0xoffset …" if the process then died of a signal.
 *
 * A call counts by what its descriptor is: an error that the kernel could never give there would
 * prove nothing. So EIO and ENOSPC are for regular files, ECONNRESET for sockets.
 *
 * Threads    any
 * Ownership  The page is the caller's.
 * Ordering   The count of a kind is the order in which its calls began.
 * Limits     16 frames; texts are cut to their place. Calls that libc makes inside itself (stdio)
 * pass unseen, apart from its allocations. */
#ifndef PF_TESTS_FAULT_FAILING_H
#define PF_TESTS_FAULT_FAILING_H

#include <stdint.h>

/* tests/fault/failing.mjs has the same list. */
enum failing_kind {
  FAILING_ALLOC,
  FAILING_OPEN,
  FAILING_FILE_READ,
  FAILING_FILE_WRITE,
  FAILING_SYNC,
  FAILING_TRUNCATE,
  FAILING_SOCKET,
  FAILING_ACCEPT,
  FAILING_SOCKET_READ,
  FAILING_SOCKET_WRITE,
  FAILING_MAX
};

/* As an action, for calls that can take long (sync): the call waits until it is disarmed, and
 * passes. */
enum { FAILING_HOLD = 9999 };

enum { FAILING_PAGE = 4096, FAILING_FIRED_AT = 512, FAILING_CRASHED_AT = 2048 };

struct failing_plan {
  uint64_t kind;
  uint64_t action; /* an errno, FAILING_HOLD, or 0: a short transfer */
  uint64_t at;     /* which call, from 1; 0: only count */
  uint64_t fired;  /* 0 or 1 */
  uint64_t count[FAILING_MAX];
};

/* page: FAILING_PAGE bytes; NULL lets everything pass. */
void failing_use(struct failing_plan *page);

#endif
