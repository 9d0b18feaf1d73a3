/* unit.store: one store with one table in a temporary directory, and what the groups of its tests
 * share. Each group is a file of its own.
 *
 * Threads    one loop, turned by whoever waits, and the store's own
 * Ownership  setup makes the fixture, teardown frees it and fails if a handle is left. A test
 *            closes the store that it opened; for one that failed teardown does it, or ends the
 *            process if that is not safe.
 * Ordering   none
 * Limits     none */
#ifndef PF_TESTS_STORE_FIXTURE_H
#define PF_TESTS_STORE_FIXTURE_H

#include <sys/types.h>
#include <uv.h>

#include "store/stmt.h"
#include "store/store.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

enum { SQL_PUT, SQL_REPLACE, SQL_COUNT, SQL_MAX };

extern const struct store_schema schema_1, schema_2;

struct user {
  sqlite3_stmt *stmt[SQL_MAX];
};

struct fixture {
  char dir[64], path[128];
  uv_loop_t loop;
  struct store *store;
  struct store_config config;
  unsigned done, broken, backups, closed;
  int backup_err;
  uint64_t order[256]; /* ids in the order of their done */
  struct pf_error why;
};

int setup(void **state);
int teardown(void **state);
void open_ok(struct fixture *f);
void on_closed(void *arg);
void close_and_wait(struct fixture *f);
/* Until so many requests are done, since setup. */
void wait_done(struct fixture *f, unsigned count);

struct put {
  struct store_req req;
  struct fixture *f;
  uint64_t id;
  int result;       /* of done; 1 = not called yet */
  struct put *next; /* submitted from done */
};

int put_apply(void *arg, struct store_req *req);
void put_init(struct put *put, struct fixture *f, uint64_t id);
void put_and_wait(struct fixture *f, uint64_t id);

/* A request whose apply blocks, once entered, until leave is posted. */
struct held {
  struct put put;
  uv_sem_t entered, leave;
};

/* Returns when it has been entered. */
void held_submit(struct held *held, struct fixture *f, uint64_t id);

/* Rows as another connection sees them: what is committed. */
int64_t rows_of(const char *path);
void exec_on(const char *path, const char *text);
mode_t mode_of(const char *path);

/* The groups. They return how many tests failed. */
int store_commit_tests(void);
int store_file_tests(void);
int store_log_tests(void);

#endif
