/* The writer thread of a store and what it shares with the loop. Private to lib/store.
 *
 *   loop: store_submit ── fresh ── waiting ──► writer: one transaction
 *   loop: done ◄────────── finished, failed ── writer
 *
 * Threads    store_writer_main is the thread. struct store_writer belongs to whoever has set
 *            shared.taken: the thread, or the loop for one group (decision 0015). The rest of
 *            struct store says by whom it is used.
 * Ownership  Requests belong to their submitters; the lists only pass them on.
 * Ordering   Each list is first in, first out, and failed comes after finished: once one group has
 *            failed, every later one fails as well.
 * Limits     none */
#ifndef PF_STORE_WRITER_H
#define PF_STORE_WRITER_H

#include "store/backup.h"
#include "store/file.h"
#include "store/store.h"
#include "store/wal.h"

enum {
  STORE_SPACE_CHECK_MS = 1000,
  STORE_HAND_OVER_MAX = 64, /* requests of one turn: a long turn does not keep the writer waiting */
};

struct store_backup_req {
  struct pf_list link;
  char *path;
  void (*done)(void *arg, int err, const struct pf_error *why);
  void *arg;
  int err;
  struct pf_error why;
};

/* Under store.lock. */
struct store_shared {
  struct pf_list waiting;
  int64_t waiting_since_ns; /* when `waiting` got its first entry */
  bool urgent;              /* `waiting` has a request that is not lazy */
  bool closing, exited;
  bool taken;                      /* somebody uses struct store_writer */
  bool wanted;                     /* the thread waits for `taken` to end */
  int64_t sleeps_until_ns;         /* when the thread looks here by itself; 0: it is awake */
  int64_t group_ns;                /* how long the last group took */
  struct pf_list finished, failed; /* for the loop */
  bool broken;
  struct pf_error broken_why;
  bool space_low;
  struct store_stats stats;              /* all but `waiting` */
  struct pf_list backups, backups_ended; /* of store_backup_req */
};

/* Of whoever has set shared.taken. */
struct store_writer {
  struct store_file file;
  sqlite3_stmt *sql[6]; /* enum writer_sql */
  void *user;           /* from config.prepare */
  struct store_wal wal;
  struct store_backup backup;
  struct store_backup_req *backup_req; /* the one that runs, or NULL */
  bool backup_next; /* a group was just committed: the backup gets its step before the next one */
  bool broken;
  int64_t space_check_at_ns;
  bool space_low;
  int64_t group_ns;
  bool log_room; /* the log's file may be made longer without touching the reserve */
  struct store_stats stats;
};

struct store {
  struct store_config config; /* read-only after store_open; path and vfs are its own copies */
  uv_mutex_t lock;
  uv_cond_t wake;
  uv_async_t async;
  uv_thread_t thread;
  struct store_shared shared;
  struct store_writer writer;

  /* The loop's alone. */
  unsigned handles; /* not closed yet */
  uv_prepare_t turn_end;
  struct pf_list fresh; /* submitted in this turn */
  unsigned fresh_count;
  bool fresh_urgent; /* `fresh` has a request that is not lazy */
  bool closing, broken_told;
  struct pf_list refused; /* submitted after store_close() */
  uint64_t submitted, completed;
  bool space_low;
  struct store_stats stats; /* as of the last visit of the writer */
  unsigned backups;         /* whose done was not called yet */
  void (*closed)(void *arg);
  void *closed_arg;
};

/* Before the thread runs. */
PF_MUST_CHECK int store_writer_init(struct store *store, struct pf_error *reterr);
void store_writer_main(void *arg); /* struct store */
/* Commits what waits as one group. Whoever calls it has set shared.taken. True if the log asks for
 * the thread's attention. */
bool store_writer_group(struct store *store);
/* After it has ended, or if it never ran: finalizes, checkpoints, closes the file. */
void store_writer_done(struct store *store);

#endif
