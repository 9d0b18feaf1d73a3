#include "store/wal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "store/file.h"

_Static_assert(STORE_WAL_PAGES <= WAL_SLOTS / 2, "short probes");

enum { WAL_HEADER_BYTES = 32, FRAME_HEADER_BYTES = 24 };
#define NS_PER_MS INT64_C(1000000)

static const char zeros[64 << 10];

/* Lets the kernel begin to write the log out, so that the sync of the next checkpoint finds little
 * left. Nobody waits here, and a failure is the sync's to find. */
static void wal_write_out(struct store_wal *wal) {
  int64_t bytes = store_wal_bytes(wal);
  if (wal->fd < 0 || bytes - wal->written_out < STORE_WAL_WRITE_OUT_BYTES) return;
  (void)sync_file_range(wal->fd, wal->written_out, bytes - wal->written_out, SYNC_FILE_RANGE_WRITE);
  wal->written_out = bytes;
}

/* SQLite calls this after each commit that wrote something, with the frames now in the log. */
static int wal_on_commit(void *arg, sqlite3 *db, const char *name, int frames) {
  struct store_wal *wal = arg;
  (void)name;
  PF_ASSERT(db == wal->db && frames >= 0);
  if ((uint32_t)frames < wal->tried) wal->tried = wal->counted = 0; /* begun anew */
  if ((uint32_t)frames < wal->frames) wal->written_out = 0;
  wal->frames = (uint32_t)frames;
  if (store_wal_bytes(wal) > wal->file_bytes) wal->file_bytes = store_wal_bytes(wal);
  wal->newest_ns = pf_clock_mono_ns();
  if (wal->oldest_ns == 0) wal->oldest_ns = wal->newest_ns;
  wal_write_out(wal);
  return SQLITE_OK;
}

static void wal_forget(struct store_wal *wal, uint32_t frames) {
  if (frames == 0) wal->written_out = 0;
  wal->frames = wal->tried = wal->counted = frames;
  wal->distinct = 0;
  wal->oldest_ns = wal->newest_ns = 0;
  memset(wal->pages, 0, sizeof(wal->pages));
}

/* The log's file, or NULL. */
static sqlite3_file *wal_file(const struct store_wal *wal) {
  sqlite3_file *log = NULL;
  int rc = sqlite3_file_control(wal->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
  return rc == SQLITE_OK && log && log->pMethods ? log : NULL;
}

void store_wal_init(struct store_wal *wal, sqlite3 *db, enum store_sync sync) {
  *wal =
      (struct store_wal){.db = db, .frame_bytes = STORE_PAGE_BYTES + FRAME_HEADER_BYTES, .fd = -1};
  wal->synced = sync == STORE_SYNC_FULL;
  wal->bytes_max = sync == STORE_SYNC_FULL ? STORE_WAL_BYTES : STORE_WAL_UNSYNCED_BYTES;
  wal->oldest_ns = wal->newest_ns = pf_clock_mono_ns(); /* there may be a log from before */
  (void)sqlite3_wal_hook(db, wal_on_commit, wal);       /* returns the previous argument */
  if (wal->synced) {
    sqlite3_file *log = wal_file(wal); /* what a crash has left may be long enough */
    sqlite3_int64 bytes = 0;
    if (log) (void)log->pMethods->xFileSize(log, &bytes); /* 0: it is taken for short */
    wal->file_bytes = bytes;
    return;
  }
  char path[STORE_PATH_MAX + 8];
  snprintf(path, sizeof(path), "%s-wal", sqlite3_db_filename(db, "main"));
  wal->fd = open(path, O_RDONLY | O_CLOEXEC); /* a file that only a VFS knows does without */
}

void store_wal_done(struct store_wal *wal) {
  if (wal->fd >= 0) close(wal->fd);
  wal->fd = -1;
}

int64_t store_wal_bytes(const struct store_wal *wal) {
  return wal->frames ? WAL_HEADER_BYTES + wal->frames * wal->frame_bytes : 0;
}

int64_t store_wal_due_ns(const struct store_wal *wal, bool busy) {
  if (wal->oldest_ns == 0) return INT64_MAX;
  int64_t age = wal->oldest_ns + STORE_WAL_AGE_MS * NS_PER_MS;
  int64_t idle = wal->newest_ns + STORE_WAL_IDLE_MS * NS_PER_MS;
  return busy || age < idle ? age : idle;
}

static void wal_count_page(struct store_wal *wal, uint32_t page) {
  uint32_t slot = page * 2654435769u >> (32 - WAL_SLOTS_BITS); /* Fibonacci hashing */
  while (wal->pages[slot] != 0 && wal->pages[slot] != page)
    slot = (slot + 1) % WAL_SLOTS;
  if (wal->pages[slot] == page) return;
  wal->pages[slot] = page;
  wal->distinct++;
}

/* The page number stands in the first four bytes of a frame. */
static uint32_t wal_read_page(const struct store_wal *wal, sqlite3_file *log, uint32_t frame) {
  unsigned char b[4];
  sqlite3_int64 at = WAL_HEADER_BYTES + frame * wal->frame_bytes;
  if (log->pMethods->xRead(log, b, sizeof(b), at) != SQLITE_OK) return 0;
  return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

bool store_wal_full(struct store_wal *wal) {
  /* The number of frames bounds that of pages, so a short log need not be read. */
  if (wal->frames - wal->tried < STORE_WAL_PAGES) return false;
  if (store_wal_bytes(wal) >= wal->bytes_max) return true;
  sqlite3_file *log = wal_file(wal);
  if (!log) return true;
  for (; wal->counted < wal->frames && wal->distinct < STORE_WAL_PAGES; wal->counted++) {
    uint32_t page = wal_read_page(wal, log, wal->counted);
    if (page == 0) return true; /* unreadable: the checkpoint will tell */
    wal_count_page(wal, page);
  }
  return wal->distinct >= STORE_WAL_PAGES;
}

int store_wal_checkpoint(struct store_wal *wal) {
  int frames = 0, copied = 0;
  int rc = sqlite3_wal_checkpoint_v2(wal->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &copied);
  switch (rc & 0xff) {
  case SQLITE_OK:
    break;
  case SQLITE_FULL: /* the commits are safe in the log; a later try may find space */
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    frames = (int)wal->frames;
    copied = -1;
    break;
  default:
    return rc;
  }
  wal->checkpoints++;
  /* After a complete one the next commit starts the log anew. */
  wal_forget(wal, copied == frames ? 0 : (uint32_t)frames);
  return SQLITE_OK;
}

bool store_wal_short(const struct store_wal *wal, bool busy) {
  if (!wal->synced) return false;
  int64_t ready = wal->file_bytes - store_wal_bytes(wal);
  if (busy) return ready < STORE_WAL_EXTEND_BYTES / 2 && wal->file_bytes < STORE_WAL_BYTES;
  return wal->file_bytes < STORE_WAL_READY_BYTES;
}

int store_wal_extend(struct store_wal *wal) {
  sqlite3_file *log = wal_file(wal);
  sqlite3_int64 bytes = 0;
  if (!log) return SQLITE_CANTOPEN;
  int rc = log->pMethods->xFileSize(log, &bytes);
  sqlite3_int64 end = (bytes / STORE_WAL_EXTEND_BYTES + 1) * STORE_WAL_EXTEND_BYTES;
  while (rc == SQLITE_OK && bytes < end) {
    sqlite3_int64 len = end - bytes;
    if (len > (sqlite3_int64)sizeof(zeros)) len = (sqlite3_int64)sizeof(zeros);
    rc = log->pMethods->xWrite(log, zeros, (int)len, bytes);
    bytes += len;
  }
  if (rc == SQLITE_OK) rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
  if (rc == SQLITE_OK) wal->file_bytes = bytes;
  return rc;
}
