#include "powercut_vfs.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/rand.h"

enum { SECTOR_BYTES = 512 };

/* -- the model of the disk ----------------------------------------------------------------------
 */

/* A write, or with data NULL a truncation to `at` bytes. */
struct op {
  struct pf_list link;
  size_t at, len;
  char *data;
};

struct node {
  struct pf_list link;
  char *path;
  bool linked, linked_synced; /* there now; there after a cut for sure */
  struct pf_buf synced;
  struct pf_list ops; /* since the last sync */
};

struct powercut {
  sqlite3_vfs vfs;
  sqlite3_vfs *real;
  struct pf_rand rand;
  struct pf_list nodes;
  enum powercut_kind kind;
  uint64_t left; /* operations until the armed one */
  bool syncs_only, fired, off;
};

static void ops_drop(struct node *node) {
  for (struct pf_list *link; (link = pf_list_pop(&node->ops)) != NULL;) {
    struct op *op = pf_container_of(link, struct op, link);
    free(op->data);
    free(op);
  }
}

static void node_free(struct node *node) {
  ops_drop(node);
  pf_list_del(&node->link);
  pf_buf_done(&node->synced);
  free(node->path);
  free(node);
}

static struct node *node_find(struct powercut *pc, const char *path) {
  PF_LIST_EACH(link, &pc->nodes) {
    struct node *node = pf_container_of(link, struct node, link);
    if (strcmp(node->path, path) == 0) return node;
  }
  return NULL;
}

static struct node *node_new(struct powercut *pc, const char *path) {
  struct node *node = pf_alloc(sizeof(*node));
  node->path = pf_strdup(path);
  pf_buf_init(&node->synced, PF_BUF_MAX_DEFAULT);
  pf_list_init(&node->ops);
  pf_list_push(&pc->nodes, &node->link);
  return node;
}

static void buf_resize(struct pf_buf *buf, size_t len) {
  if (len > buf->len) {
    char *more = pf_buf_reserve(buf, len - buf->len);
    PF_ASSERT(more);
    memset(more, 0, len - buf->len);
  }
  buf->len = len;
}

static void buf_write(struct pf_buf *buf, size_t at, const char *data, size_t len) {
  if (buf->len < at + len) buf_resize(buf, at + len);
  memcpy(buf->data + at, data, len);
}

static void node_sync(struct node *node) {
  PF_LIST_EACH(link, &node->ops) {
    const struct op *op = pf_container_of(link, struct op, link);
    if (op->data)
      buf_write(&node->synced, op->at, op->data, op->len);
    else
      buf_resize(&node->synced, op->at);
  }
  ops_drop(node);
}

static void directory_sync(struct powercut *pc) {
  PF_LIST_EACH(link, &pc->nodes) {
    struct node *node = pf_container_of(link, struct node, link);
    node->linked_synced = node->linked;
  }
}

/* Lets a random part of the write persist: each sector with a chance of `percent`. */
static void write_torn(
    struct powercut *pc, struct pf_buf *synced, const struct op *op, unsigned percent) {
  for (size_t from = 0; from < op->len;) {
    size_t len = SECTOR_BYTES - (op->at + from) % SECTOR_BYTES;
    if (len > op->len - from) len = op->len - from;
    if (pf_rand_below(&pc->rand, 100) < percent)
      buf_write(synced, op->at + from, op->data + from, len);
    from += len;
  }
}

static void node_lose(struct powercut *pc, struct node *node) {
  static const unsigned chances[] = {0, 10, 50, 90, 100};
  unsigned percent = chances[pf_rand_below(&pc->rand, PF_COUNT(chances))];
  PF_LIST_EACH(link, &node->ops) {
    const struct op *op = pf_container_of(link, struct op, link);
    if (op->data)
      write_torn(pc, &node->synced, op, percent);
    else if (pf_rand_below(&pc->rand, 100) < percent)
      buf_resize(&node->synced, op->at);
  }
  ops_drop(node);
  if (node->linked != node->linked_synced) node->linked = pf_rand_below(&pc->rand, 2) == 0;
  unlink(node->path);
  if (!node->linked) return;
  int fd = open(node->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  PF_ASSERT(fd >= 0);
  for (size_t at = 0; at < node->synced.len;) {
    ssize_t n = write(fd, node->synced.data + at, node->synced.len - at);
    PF_ASSERT(n > 0);
    at += (size_t)n;
  }
  close(fd);
}

/* After a failed sync the kernel may count pages as clean that never reached the disk: no later
 * sync will write them. */
static void node_forget_some(struct powercut *pc, struct node *node) {
  PF_LIST_EACH(link, &node->ops) {
    struct op *op = pf_container_of(link, struct op, link);
    if (!op->data || pf_rand_below(&pc->rand, 2) == 0) continue;
    pf_list_del(&op->link);
    free(op->data);
    free(op);
  }
}

/* -- what happens to an operation ---------------------------------------------------------------
 */

/* Counts one operation; the result is not SQLITE_OK if it fails. */
static int op_fate(struct powercut *pc, bool sync) {
  bool hit = false;
  if (pc->left > 0 && (sync || !pc->syncs_only)) hit = --pc->left == 0;
  if (hit) pc->fired = true;
  if (hit && pc->kind == POWERCUT_CUT) pc->off = true;
  if (pc->off) return sync ? SQLITE_IOERR_FSYNC : SQLITE_IOERR_WRITE;
  bool fails = pc->fired && (pc->kind == POWERCUT_FULL || pc->kind == POWERCUT_EIO || hit);
  if (!fails || pc->kind == POWERCUT_CUT) return SQLITE_OK;
  if (sync) return SQLITE_IOERR_FSYNC;
  return pc->kind == POWERCUT_EIO || pc->kind == POWERCUT_EIO_ONCE ? SQLITE_IOERR_WRITE
                                                                   : SQLITE_FULL;
}

static void op_note(struct node *node, size_t at, const void *data, size_t len) {
  struct op *op = pf_alloc(sizeof(*op));
  op->at = at;
  op->len = len;
  op->data = data ? pf_memdup(data, len) : NULL;
  pf_list_push(&node->ops, &op->link);
}

/* -- files --------------------------------------------------------------------------------------
 */

struct file {
  sqlite3_file base;
  struct powercut *pc;
  struct node *node; /* NULL: a file that no cut can hurt */
  bool sync_directory;
  sqlite3_file *real; /* behind this struct */
};

static struct file *file_of(sqlite3_file *base) {
  return (struct file *)base;
}

static int file_close(sqlite3_file *base) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods ? real->pMethods->xClose(real) : SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *data, int len, sqlite3_int64 at) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xRead(real, data, len, at);
}

static int file_write(sqlite3_file *base, const void *data, int len, sqlite3_int64 at) {
  struct file *f = file_of(base);
  if (f->node) {
    bool was_off = f->pc->off;
    int rc = op_fate(f->pc, false);
    if (!was_off && (rc == SQLITE_OK || f->pc->off))
      op_note(f->node, (size_t)at, data, (size_t)len);
    if (rc != SQLITE_OK) return rc;
  }
  return f->real->pMethods->xWrite(f->real, data, len, at);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size) {
  struct file *f = file_of(base);
  if (f->node) {
    int rc = op_fate(f->pc, false);
    if (rc != SQLITE_OK) return rc == SQLITE_FULL ? SQLITE_IOERR_TRUNCATE : rc;
    op_note(f->node, (size_t)size, NULL, 0);
  }
  return f->real->pMethods->xTruncate(f->real, size);
}

static int file_sync(sqlite3_file *base, int flags) {
  struct file *f = file_of(base);
  (void)flags; /* the real one is left out: nobody pulls the plug of this machine */
  if (!f->node) return SQLITE_OK;
  int rc = op_fate(f->pc, true);
  if (rc != SQLITE_OK && !f->pc->off) node_forget_some(f->pc, f->node);
  if (rc != SQLITE_OK) return rc;
  node_sync(f->node);
  if (f->sync_directory) directory_sync(f->pc);
  f->sync_directory = false;
  return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret_size) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xFileSize(real, ret_size);
}

static int file_lock(sqlite3_file *base, int level) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xLock(real, level);
}

static int file_unlock(sqlite3_file *base, int level) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xUnlock(real, level);
}

static int file_check_lock(sqlite3_file *base, int *ret_locked) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xCheckReservedLock(real, ret_locked);
}

static int file_control(sqlite3_file *base, int op, void *arg) {
  /* Only hints and questions; preallocation and the like would go past the model. */
  (void)base;
  (void)op;
  (void)arg;
  return SQLITE_NOTFOUND;
}

static int file_sector_size(sqlite3_file *base) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xSectorSize(real);
}

static int file_characteristics(sqlite3_file *base) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xDeviceCharacteristics(real);
}

static int file_shm_map(sqlite3_file *base, int page, int size, int extend, void volatile **ret) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xShmMap(real, page, size, extend, ret);
}

static int file_shm_lock(sqlite3_file *base, int offset, int n, int flags) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xShmLock(real, offset, n, flags);
}

static void file_shm_barrier(sqlite3_file *base) {
  sqlite3_file *real = file_of(base)->real;
  real->pMethods->xShmBarrier(real);
}

static int file_shm_unmap(sqlite3_file *base, int remove) {
  sqlite3_file *real = file_of(base)->real;
  return real->pMethods->xShmUnmap(real, remove);
}

static const sqlite3_io_methods file_methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

/* -- names --------------------------------------------------------------------------------------
 */

/* What a file held before the model knew it counts as synced. */
static int node_load(struct node *node, sqlite3_file *real) {
  sqlite3_int64 size;
  int rc = real->pMethods->xFileSize(real, &size);
  if (rc != SQLITE_OK || size == 0) return rc;
  buf_resize(&node->synced, (size_t)size);
  return real->pMethods->xRead(real, node->synced.data, (int)size, 0);
}

static int vfs_open(
    sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *ret_flags) {
  struct powercut *pc = vfs->pAppData;
  struct file *f = file_of(base);
  *f = (struct file){.pc = pc, .real = (sqlite3_file *)(f + 1)};
  memset(f->real, 0, (size_t)pc->real->szOsFile);
  bool tracked =
      path && (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL));
  bool there = tracked && access(path, F_OK) == 0; /* xAccess tells no empty file from none */
  if (tracked && !there && pc->off) return SQLITE_CANTOPEN;
  int rc = pc->real->xOpen(pc->real, path, f->real, flags, ret_flags);
  if (rc != SQLITE_OK) return rc;
  f->base.pMethods = &file_methods;
  if (!tracked) return SQLITE_OK;
  f->sync_directory =
      (flags & SQLITE_OPEN_CREATE) && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL));
  f->node = node_find(pc, path);
  if (f->node && f->node->linked) return SQLITE_OK;
  if (f->node) node_free(f->node); /* deleted before: this is a new file under its name */
  f->node = node_new(pc, path);
  f->node->linked = true;
  f->node->linked_synced = there;
  return there ? node_load(f->node, f->real) : SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_directory) {
  struct powercut *pc = vfs->pAppData;
  struct node *node = node_find(pc, path);
  if (node) {
    if (op_fate(pc, false) != SQLITE_OK) return SQLITE_IOERR_DELETE;
    node->linked = false;
  }
  int rc = pc->real->xDelete(pc->real, path, 0);
  if (rc == SQLITE_OK && sync_directory) directory_sync(pc);
  return rc;
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret_there) {
  struct powercut *pc = vfs->pAppData;
  return pc->real->xAccess(pc->real, path, flags, ret_there);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int len, char *ret_path) {
  struct powercut *pc = vfs->pAppData;
  return pc->real->xFullPathname(pc->real, path, len, ret_path);
}

static int vfs_randomness(sqlite3_vfs *vfs, int len, char *ret_bytes) {
  struct powercut *pc = vfs->pAppData;
  return pc->real->xRandomness(pc->real, len, ret_bytes);
}

static int vfs_sleep(sqlite3_vfs *vfs, int us) {
  struct powercut *pc = vfs->pAppData;
  return pc->real->xSleep(pc->real, us);
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *ret_ms) {
  struct powercut *pc = vfs->pAppData;
  return pc->real->xCurrentTimeInt64(pc->real, ret_ms);
}

struct powercut *powercut_new(const char *name, uint64_t seed) {
  struct powercut *pc = pf_alloc(sizeof(*pc));
  pc->real = sqlite3_vfs_find(NULL);
  pc->rand.state = seed;
  pf_list_init(&pc->nodes);
  pc->vfs = (sqlite3_vfs){.iVersion = 2,
      .szOsFile = (int)sizeof(struct file) + pc->real->szOsFile,
      .mxPathname = pc->real->mxPathname,
      .zName = name,
      .pAppData = pc,
      .xOpen = vfs_open,
      .xDelete = vfs_delete,
      .xAccess = vfs_access,
      .xFullPathname = vfs_full_path,
      .xRandomness = vfs_randomness,
      .xSleep = vfs_sleep,
      .xCurrentTimeInt64 = vfs_time};
  int rc = sqlite3_vfs_register(&pc->vfs, 0);
  PF_ASSERT(rc == SQLITE_OK);
  return pc;
}

static void nodes_drop(struct powercut *pc) {
  PF_LIST_EACH(link, &pc->nodes)
    node_free(pf_container_of(link, struct node, link));
}

void powercut_free(struct powercut *pc) {
  (void)sqlite3_vfs_unregister(&pc->vfs); /* it is registered */
  nodes_drop(pc);
  free(pc);
}

void powercut_arm(struct powercut *pc, enum powercut_kind kind, uint64_t n, bool syncs) {
  pc->kind = kind;
  pc->left = n;
  pc->syncs_only = syncs;
  pc->fired = false;
}

bool powercut_fired(const struct powercut *pc) {
  return pc->fired;
}

void powercut_restore(struct powercut *pc, bool lose) {
  if (pc->off || lose) {
    PF_LIST_EACH(link, &pc->nodes) {
      struct node *node = pf_container_of(link, struct node, link);
      node_lose(pc, node);
      char shared[1024]; /* memory that a reboot empties */
      snprintf(shared, sizeof(shared), "%s-shm", node->path);
      unlink(shared);
    }
  }
  nodes_drop(pc); /* what is there now counts as synced */
  powercut_arm(pc, POWERCUT_CUT, 0, false);
  pc->off = false;
}
