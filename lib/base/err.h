/* One error space for every layer, assertions, and the attributes that go with them.
 *
 * Threads    All functions are pure or touch only their arguments.
 * Ownership  none
 * Ordering   none
 * Limits     PF_ERROR_TEXT_MAX bytes of message. */
#ifndef PF_BASE_ERR_H
#define PF_BASE_ERR_H

#include <stddef.h>

#define PF_MUST_CHECK __attribute__((warn_unused_result))
#define PF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PF_BIT(n) (1u << (n))
#define PF_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define pf_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* 0 is success, failures are negative. The text is for people; code decides by the value. */
#define PF_ERR_MAP(X)                                                                              \
  X(PF_ENOMEM, -1, "out of memory")                                                                \
  X(PF_EINVAL, -2, "input rejected")                                                               \
  X(PF_ELIMIT, -3, "a configured limit was reached; retry later")                                  \
  X(PF_ECANCEL, -4, "owner is closing")                                                            \
  X(PF_EIO, -5, "storage failed; the shard must be reopened")                                      \
  X(PF_EFENCED, -6, "a newer owner exists; discard local state")                                   \
  X(PF_ENOTFOUND, -7, "no such entry")                                                             \
  X(PF_EEXIST, -8, "already there")                                                                \
  X(PF_ENET, -9, "the peer could not be reached or broke off")                                     \
  X(PF_ETIMEOUT, -10, "timed out")                                                                 \
  X(PF_EADDRINUSE, -11, "address already in use")                                                  \
  X(PF_EPERM, -12, "permission denied")                                                            \
  X(PF_ELOCKED, -13, "in use by another process")                                                  \
  X(PF_EVERSION, -14, "written by a newer or another program")                                     \
  X(PF_ECORRUPT, -15, "the file is damaged")                                                       \
  X(PF_ENOSPC, -16, "no space left")

enum pf_err {
  PF_OK = 0,
#define X(name, value, text) name = (value),
  PF_ERR_MAP(X)
#undef X
};

/* Process exit codes, the same for all programs (documented in docs/configuration.md). */
enum pf_exit {
  PF_EXIT_OK = 0,
  PF_EXIT_FAILURE = 1,       /* the work itself failed: a fetch, a check */
  PF_EXIT_USAGE = 2,         /* bad option, bad value, unknown key */
  PF_EXIT_START = 3,         /* could not start: port taken, directory locked, newer file */
  PF_EXIT_STORAGE = 70,      /* a commit or fsync failed; restart from what is durable */
  PF_EXIT_MEMORY = 71,       /* out of memory; restart from what is durable */
  PF_EXIT_INTERRUPTED = 130, /* a signal ended the work of a command before its time */
};

/* The exit code of a program that had one thing to do with a database, and got err from it. */
static inline int pf_exit_of(int err) {
  if (err == PF_OK) return PF_EXIT_OK;
  return err == PF_ELOCKED || err == PF_EVERSION ? PF_EXIT_START : PF_EXIT_FAILURE;
}

#define PF_ERROR_TEXT_MAX 512

/* An error with words. Functions take it last; NULL is allowed there. */
struct pf_error {
  int code;   /* enum pf_err */
  int native; /* the foreign library's code, 0 if none */
  char text[PF_ERROR_TEXT_MAX];
};

/* The text of PF_ERR_MAP, never NULL. */
const char *pf_err_text(int code);

/* Fills *reterr if it is not NULL. Returns code, so that `return pf_error_set(...)` reads well. */
int pf_error_set(struct pf_error *reterr, int code, const char *fmt, ...) PF_PRINTF(3, 4);

/* Assertions stay on in release builds: they guard what only our own bug can break. */
#define PF_ASSERT(cond) ((cond) ? (void)0 : pf_assert_failed(#cond, __FILE__, __LINE__, __func__))
__attribute__((noreturn)) void pf_assert_failed(
    const char *cond, const char *file, int line, const char *func);

/* Memory of a fixed, small size. Never returns NULL: a process that cannot get it ends with
 * PF_EXIT_MEMORY, which the protocol survives like any crash (docs/decisions/0002-memory.md).
 * What outsiders can size goes through pf_buf, which has a maximum and reports PF_ENOMEM. */
void *pf_alloc(size_t size);              /* zeroed */
void *pf_realloc(void *ptr, size_t size); /* new bytes are not zeroed */
char *pf_strdup(const char *text);
char *pf_memdup(const void *data, size_t len); /* adds a NUL behind the copy */
/* The same end where a library could not get its memory: a log line, and PF_EXIT_MEMORY. */
__attribute__((noreturn)) void pf_out_of_memory(void);
/* Once at the start of a process that lives long: large blocks go back to the system when they are
 * freed. glibc learns to keep them otherwise, and the more the larger they were. */
void pf_alloc_give_back(void);

#endif
