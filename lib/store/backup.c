#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/stmt.h"

/* Takes the name, so that two programs do not write the same copy, and gives the file its mode. */
static int part_create(struct store_backup *backup, struct pf_error *reterr) {
  if (access(backup->path, F_OK) == 0)
    return pf_error_set(reterr, PF_EEXIST, "%s exists: choose another name", backup->path);
  int fd = open(backup->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) return close(fd) == 0 ? PF_OK : PF_EIO;
  int native = errno;
  if (native == EEXIST)
    return pf_error_set(reterr, PF_EEXIST,
        "%s exists, from a backup that runs or was broken off: remove it", backup->part);
  return pf_error_set(reterr, native == EACCES || native == EROFS ? PF_EPERM : PF_EIO,
      "cannot create %s: %s", backup->part, strerror(native));
}

int store_backup_begin(struct store_backup *backup, sqlite3 *from, const char *path,
    const char *vfs, struct pf_error *reterr) {
  *backup = (struct store_backup){0};
  if (strlen(path) > STORE_PATH_MAX)
    return pf_error_set(
        reterr, PF_EINVAL, "the path of a backup has at most %d bytes", STORE_PATH_MAX);
  snprintf(backup->path, sizeof(backup->path), "%s", path);
  snprintf(backup->part, sizeof(backup->part), "%s.part", path);
  int err = part_create(backup, reterr);
  if (err != PF_OK) return err;
  int rc = sqlite3_open_v2(backup->part, &backup->db,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, vfs);
  if (rc == SQLITE_OK) backup->copy = sqlite3_backup_init(backup->db, "main", from, "main");
  if (backup->copy) return PF_OK;
  if (rc == SQLITE_OK) rc = sqlite3_extended_errcode(backup->db);
  err = store_error_set(reterr, backup->db, rc, "cannot begin the backup");
  PF_ASSERT(err != PF_OK);
  store_backup_cancel(backup);
  return err;
}

/* The last step was a commit of the copy's connection, and so is the change: the bytes are on disk;
 * the name is next. */
static int part_publish(struct store_backup *backup, struct pf_error *reterr) {
  int rc = sqlite3_backup_finish(backup->copy);
  backup->copy = NULL;
  if (rc != SQLITE_OK) return store_error_set(reterr, backup->db, rc, "cannot finish the backup");
  if (backup->change) {
    /* No log beside it, that the new name would leave behind. */
    int err = store_exec(backup->db, "PRAGMA journal_mode = DELETE", reterr);
    if (err == PF_OK) err = store_exec(backup->db, backup->change, reterr);
    if (err != PF_OK) return err;
  }
  rc = sqlite3_close(backup->db);
  PF_ASSERT(rc == SQLITE_OK);
  backup->db = NULL;
  if (rename(backup->part, backup->path) != 0)
    return pf_error_set(reterr, PF_EIO, "cannot rename %s: %s", backup->part, strerror(errno));
  return store_dir_sync(backup->path, reterr);
}

int store_backup_step(struct store_backup *backup, bool *ret_more, struct pf_error *reterr) {
  int rc = sqlite3_backup_step(backup->copy, STORE_BACKUP_PAGES);
  *ret_more = rc == SQLITE_OK;
  if (rc == SQLITE_OK) return PF_OK;
  int err = rc == SQLITE_DONE ? part_publish(backup, reterr)
                              : store_error_set(reterr, backup->db, rc, "cannot write the backup");
  if (err != PF_OK) store_backup_cancel(backup);
  return err;
}

void store_backup_cancel(struct store_backup *backup) {
  if (backup->copy) (void)sqlite3_backup_finish(backup->copy); /* repeats the last step's error */
  if (backup->db) (void)sqlite3_close(backup->db);             /* nothing is open on it */
  (void)unlink(backup->part);                                  /* gone already after the rename */
  *backup = (struct store_backup){0};
}

/* SQLite's own messages do not tell what is wrong with the name. */
static int source_check(const char *from, struct pf_error *reterr) {
  struct stat st;
  if (stat(from, &st) != 0 || access(from, R_OK) != 0)
    return pf_error_set(reterr, errno == EACCES ? PF_EPERM : PF_ENOTFOUND, "cannot read %s: %s",
        from, strerror(errno));
  if (!S_ISREG(st.st_mode))
    return pf_error_set(reterr, PF_EINVAL, "%s is not a regular file", from);
  return PF_OK;
}

int store_copy_file(const char *from, const char *path, const struct store_schema *schema,
    const char *change, struct pf_error *reterr) {
  struct store_backup backup;
  struct store_schema source = *schema;
  source.damaged = "choose another backup";
  sqlite3 *db = NULL;
  int version, err = source_check(from, reterr);
  if (err != PF_OK) return err;
  int rc = sqlite3_open_v2(from, &db, SQLITE_OPEN_READONLY, NULL);
  if (rc != SQLITE_OK) err = store_error_set(reterr, db, rc, from);
  if (err == PF_OK) err = store_schema_check(db, from, &source, &version, reterr);
  if (err == PF_OK && version == 0) /* like a new file, which would be taken for one of ours */
    err = pf_error_set(reterr, PF_ECORRUPT, "%s is empty: %s", from, source.damaged);
  if (err == PF_OK) err = store_backup_begin(&backup, db, path, NULL, reterr);
  if (err == PF_OK) backup.change = change;
  for (bool more = true; err == PF_OK && more;)
    err = store_backup_step(&backup, &more, reterr);
  (void)sqlite3_close(db); /* nothing is open on it */
  if (err != PF_OK) return err;
  err = store_check_file(path, schema, reterr);
  if (err != PF_OK) (void)unlink(path); /* a copy that is no good must not look like one */
  return err;
}
