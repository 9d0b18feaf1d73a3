#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/stmt.h"

enum { BUSY_MS = 5000 };

static int err_from_errno(int native) {
  switch (native) {
  case EACCES:
  case EPERM:
  case EROFS:
    return PF_EPERM;
  case ENOSPC:
  case EDQUOT:
    return PF_ENOSPC;
  case ENOENT:
  case ENOTDIR:
    return PF_ENOTFOUND;
  case EISDIR:
    return PF_EINVAL;
  default:
    return PF_EIO;
  }
}

/* "what PATH: why; advice" with errno's words. Returns the code. */
static int path_failed(struct pf_error *reterr, const char *what, const char *path) {
  int native = errno, code = err_from_errno(native);
  const char *advice = "";
  if (code == PF_EPERM) advice = "; give this user write access or choose another directory";
  if (code == PF_ENOSPC) advice = "; free some space first";
  pf_error_set(reterr, code, "%s %s: %s%s", what, path, strerror(native), advice);
  if (reterr) reterr->native = native;
  return code;
}

/* The directory of path: "." if it names none. path is at most STORE_PATH_MAX bytes. */
static void dir_of(char dir[STORE_PATH_MAX + 1], const char *path) {
  snprintf(dir, STORE_PATH_MAX + 1, "%s", path);
  char *slash = strrchr(dir, '/');
  if (!slash)
    snprintf(dir, STORE_PATH_MAX + 1, ".");
  else
    slash[slash == dir] = '\0'; /* "/name" is in "/" */
}

static int path_check(const char *path, struct pf_error *reterr) {
  size_t len = strlen(path);
  if (len > 0 && len <= STORE_PATH_MAX && path[len - 1] != '/') return PF_OK;
  return pf_error_set(reterr, PF_EINVAL,
      "a database path has 1 to %d bytes and ends with a name: %s", STORE_PATH_MAX, path);
}

int store_dir_sync(const char *path, struct pf_error *reterr) {
  char dir[STORE_PATH_MAX + 1];
  dir_of(dir, path);
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return path_failed(reterr, "cannot open directory", dir);
  int err = fsync(fd) == 0 ? PF_OK : path_failed(reterr, "cannot sync directory", dir);
  close(fd);
  return err;
}

/* Creates what is missing of dir, each level for this user only. */
static int dir_make(const char *dir, struct pf_error *reterr) {
  char part[STORE_PATH_MAX + 1];
  for (size_t len = strspn(dir, "/"); dir[len];) {
    len += strcspn(dir + len, "/");
    memcpy(part, dir, len);
    part[len] = '\0';
    bool made = mkdir(part, 0700) == 0;
    if (!made && errno != EEXIST) return path_failed(reterr, "cannot create directory", part);
    int err = made ? store_dir_sync(part, reterr) : PF_OK;
    if (err != PF_OK) return err;
    len += strspn(dir + len, "/");
  }
  return PF_OK;
}

static int dir_lock(const char *dir, int *ret_fd, struct pf_error *reterr) {
  char path[STORE_PATH_MAX + 8], pid[32] = "";
  snprintf(path, sizeof(path), "%s/lock", dir);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return path_failed(reterr, "cannot open lock file", path);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    int err = errno == EWOULDBLOCK ? PF_ELOCKED : path_failed(reterr, "cannot lock", path);
    ssize_t len = pread(fd, pid, sizeof(pid) - 1, 0);
    pid[len > 0 ? strcspn(pid, "\n") : 0] = '\0';
    if (err == PF_ELOCKED)
      pf_error_set(reterr, PF_ELOCKED,
          "directory %s is in use by process %s: stop it or choose another directory", dir,
          pid[0] ? pid : "(unknown)");
    close(fd);
    return err;
  }
  /* The pid is for the message above only; what locks is the flock. So a failure is no matter. */
  int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)len, 0) != len) errno = 0;
  *ret_fd = fd;
  return PF_OK;
}

/* Creates the file, or checks that it is one that can be written. SQLite's own messages for these
 * cases do not tell one from the other. Closed again before SQLite has locks on the file, which a
 * close would drop. */
static int file_touch(const char *path, bool create, struct pf_error *reterr) {
  struct stat st;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  bool made = fd < 0 && errno == ENOENT && create;
  if (made) fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return path_failed(reterr, "cannot open database", path);
  int err = PF_OK;
  if (fstat(fd, &st) != 0)
    err = path_failed(reterr, "cannot read", path);
  else if (!S_ISREG(st.st_mode))
    err = pf_error_set(reterr, PF_EINVAL, "%s is not a regular file", path);
  close(fd);
  return err == PF_OK && made ? store_dir_sync(path, reterr) : err;
}

/* Words for what can be wrong with an existing file, with what to do about it. */
static int db_failed(struct pf_error *reterr, sqlite3 *db, int rc, const char *path,
    const struct store_schema *schema) {
  char what[STORE_PATH_MAX + 192];
  const char *fault, *advice = "";
  switch (pf_err_from_sqlite(rc)) {
  case PF_ECORRUPT:
    fault = " is damaged or no database: ";
    advice = schema->damaged;
    break;
  case PF_ELOCKED:
    fault = " is locked by another program: close it there";
    break;
  case PF_EPERM:
    fault = " may not be written by this user: change its permissions";
    break;
  case PF_ENOSPC:
    fault = " cannot grow: free some space";
    break;
  default:
    fault = " cannot be used";
    break;
  }
  snprintf(what, sizeof(what), "%s%s%s", path, fault, advice);
  return store_error_set(reterr, db, rc, what);
}

static int query_i64(sqlite3 *db, const char *sql, int64_t *ret_value) {
  sqlite3_stmt *stmt;
  int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
  if (rc == SQLITE_ROW) *ret_value = sqlite3_column_int64(stmt, 0);
  int end = sqlite3_finalize(stmt);
  if (rc == SQLITE_ROW) return end;
  return rc == SQLITE_DONE ? SQLITE_ERROR : rc;
}

int store_schema_check(sqlite3 *db, const char *path, const struct store_schema *schema,
    int *ret_version, struct pf_error *reterr) {
  int64_t id = 0, version = 0, objects = 0;
  int rc = query_i64(db, "SELECT count(*) FROM sqlite_master", &objects);
  if (rc == SQLITE_OK) rc = query_i64(db, "PRAGMA application_id", &id);
  if (rc == SQLITE_OK) rc = query_i64(db, "PRAGMA user_version", &version);
  if (rc != SQLITE_OK) return db_failed(reterr, db, rc, path, schema);
  bool empty = id == 0 && version == 0 && objects == 0;
  if (!empty && (uint32_t)id != schema->application_id)
    return pf_error_set(reterr, PF_EVERSION,
        "%s was written by another program (application id %08x, expected %08x): choose another "
        "path",
        path, (unsigned)(uint32_t)id, (unsigned)schema->application_id);
  if (version < 0 || version > schema->version)
    return pf_error_set(reterr, PF_EVERSION,
        "%s has schema version %lld and this program knows up to %d: use the newer program", path,
        (long long)version, schema->version);
  *ret_version = (int)version;
  return PF_OK;
}

/* No PRAGMA here fails silently in a way that matters but journal_mode, which tells what it did. */
static int db_configure(sqlite3 *db, const char *path, const struct store_schema *schema,
    enum store_sync sync, struct pf_error *reterr) {
  static const char pragmas[] =
      "PRAGMA page_size = 4096;"    /* takes effect in a new file only */
      "PRAGMA auto_vacuum = NONE;"  /* free pages are used again by the next rows */
      "PRAGMA secure_delete = OFF;" /* Debian's default overwrites deleted rows: 30 % dearer */
      "PRAGMA mmap_size = 0;"       /* an I/O error must be a code, not SIGBUS */
      "PRAGMA cache_size = -32768;" /* KiB */
      "PRAGMA temp_store = MEMORY;"
      "PRAGMA wal_autocheckpoint = 0;" /* wal.c decides */
      "PRAGMA journal_size_limit = 67108864;";
  sqlite3_stmt *stmt = NULL;
  int rc = sqlite3_exec(db, pragmas, NULL, NULL, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode = WAL", -1, &stmt, NULL);
  if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
    const char *mode = (const char *)sqlite3_column_text(stmt, 0);
    rc = mode && strcmp(mode, "wal") == 0 ? SQLITE_OK : SQLITE_CANTOPEN;
  }
  int end = sqlite3_finalize(stmt);
  if (rc == SQLITE_OK) rc = end;
  if (rc == SQLITE_OK)
    rc = sqlite3_exec(db,
        sync == STORE_SYNC_FULL ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL,
        NULL, NULL);
  /* A file that had another journal mode has no log before it is read; wal.c writes to it. */
  if (rc == SQLITE_OK) rc = sqlite3_exec(db, "PRAGMA schema_version", NULL, NULL, NULL);
  return rc == SQLITE_OK ? PF_OK : db_failed(reterr, db, rc, path, schema);
}

static int db_migrate(sqlite3 *db, const char *path, const struct store_schema *schema, int version,
    struct pf_error *reterr) {
  if (version == schema->version) return PF_OK;
  char mark[96];
  snprintf(mark, sizeof(mark), "PRAGMA application_id = %d; PRAGMA user_version = %d",
      (int)(int32_t)schema->application_id, schema->version);
  int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
  for (int i = version; rc == SQLITE_OK && i < schema->version; i++)
    rc = sqlite3_exec(db, schema->migrations[i], NULL, NULL, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_exec(db, mark, NULL, NULL, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
  if (rc == SQLITE_OK) return PF_OK;
  int err = db_failed(reterr, db, rc, path, schema);
  /* The connection is closed by the caller, which rolls back. */
  return err;
}

/* Whether commits wait in the log, so that closing would copy them into the file. */
static bool log_waits(const char *path) {
  char log[STORE_PATH_MAX + 8];
  struct stat st;
  snprintf(log, sizeof(log), "%s-wal", path);
  return stat(log, &st) == 0 && st.st_size > 0;
}

static int db_connect(sqlite3 **ret_db, const char *path, const struct store_schema *schema,
    const char *vfs, struct pf_error *reterr) {
  sqlite3 *db = NULL;
  /* NOMUTEX: one thread at a time uses the connection. */
  int rc = sqlite3_open_v2(
      path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, vfs);
  if (rc != SQLITE_OK) {
    int err = db_failed(reterr, db, rc, path, schema);
    (void)sqlite3_close(db); /* nothing is open on it */
    return err;
  }
  (void)sqlite3_busy_timeout(db, BUSY_MS); /* these five fail on misuse only */
  (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
  (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
  (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
  (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
  *ret_db = db;
  return PF_OK;
}

int store_file_open(
    struct store_file *ret_file, const struct store_config *config, struct pf_error *reterr) {
  PF_ASSERT(config->schema->version > 0 && sqlite3_threadsafe());
  char dir[STORE_PATH_MAX + 1];
  struct store_file file = {.lock_fd = -1};
  int version;
  int err = path_check(config->path, reterr);
  if (err != PF_OK) return err;
  bool keep_log = log_waits(config->path);
  dir_of(dir, config->path);
  err = dir_make(dir, reterr);
  if (err == PF_OK) err = dir_lock(dir, &file.lock_fd, reterr);
  if (err == PF_OK) err = file_touch(config->path, true, reterr);
  if (err == PF_OK) err = db_connect(&file.db, config->path, config->schema, config->vfs, reterr);
  if (err == PF_OK)
    err = store_schema_check(file.db, config->path, config->schema, &version, reterr);
  if (err == PF_OK) err = db_configure(file.db, config->path, config->schema, config->sync, reterr);
  if (err == PF_OK) err = db_migrate(file.db, config->path, config->schema, version, reterr);
  if (err == PF_OK)
    *ret_file = file;
  else
    store_file_close(&file, keep_log); /* what is refused stays as it was */
  return err;
}

void store_file_close(struct store_file *file, bool keep_log) {
  if (file->db) {
    (void)sqlite3_db_config(file->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)keep_log, NULL);
    int rc = sqlite3_close(file->db);
    PF_ASSERT(rc == SQLITE_OK); /* else a statement was not finalized */
  }
  if (file->lock_fd >= 0) close(file->lock_fd);
  *file = (struct store_file){.lock_fd = -1};
}

int64_t store_file_free_bytes(const struct store_file *file) {
  struct statvfs fs;
  if (fstatvfs(file->lock_fd, &fs) != 0) return -1;
  return (int64_t)(fs.f_bavail * fs.f_frsize);
}

/* The first line of integrity_check that is not "ok". */
static int db_integrity(
    sqlite3 *db, const char *path, const struct store_schema *schema, struct pf_error *reterr) {
  sqlite3_stmt *stmt;
  int rc = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &stmt, NULL);
  int err = PF_OK;
  if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
    const char *line = (const char *)sqlite3_column_text(stmt, 0);
    if (!line || strcmp(line, "ok") != 0)
      err = pf_error_set(reterr, PF_ECORRUPT, "%s is damaged: %s: %s", path, schema->damaged,
          line ? line : "integrity_check gave no text");
    rc = SQLITE_OK;
  }
  (void)sqlite3_finalize(stmt); /* repeats rc */
  return rc == SQLITE_OK ? err : db_failed(reterr, db, rc, path, schema);
}

int store_check_file(const char *path, const struct store_schema *schema, struct pf_error *reterr) {
  char dir[STORE_PATH_MAX + 1];
  struct store_file file = {.lock_fd = -1};
  int version;
  int err = path_check(path, reterr);
  if (err != PF_OK) return err;
  bool keep_log = log_waits(path);
  dir_of(dir, path);
  err = file_touch(path, false, reterr);
  if (err == PF_OK) err = dir_lock(dir, &file.lock_fd, reterr);
  if (err == PF_OK) err = db_connect(&file.db, path, schema, NULL, reterr);
  if (err == PF_OK) err = store_schema_check(file.db, path, schema, &version, reterr);
  if (err == PF_OK) err = db_integrity(file.db, path, schema, reterr);
  store_file_close(&file, keep_log); /* a check changes nothing */
  return err;
}
