#include "base/data_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int make_with_parents(const char *path, struct pf_error *reterr) {
  char part[PF_DATA_DIR_MAX];
  snprintf(part, sizeof(part), "%s", path);
  for (char *slash = part + 1;; slash++) {
    slash += strcspn(slash, "/");
    char end = *slash;
    *slash = '\0';
    if (mkdir(part, 0700) && errno != EEXIST)
      return pf_error_set(reterr, errno == EACCES || errno == EPERM ? PF_EPERM : PF_EIO,
          "cannot create %s: %s; choose another directory with --data", part, strerror(errno));
    if (!end) return PF_OK;
    *slash = end;
  }
}

int pf_data_dir(
    char ret_path[PF_DATA_DIR_MAX], const char *given, const char *role, struct pf_error *reterr) {
  const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
  int len;
  if (given && *given)
    len = snprintf(ret_path, PF_DATA_DIR_MAX, "%s", given);
  else if (state && *state)
    len = snprintf(ret_path, PF_DATA_DIR_MAX, "%s/proxyfetch/%s", state, role);
  else if (home && *home)
    len = snprintf(ret_path, PF_DATA_DIR_MAX, "%s/.local/state/proxyfetch/%s", home, role);
  else
    return pf_error_set(reterr, PF_EINVAL,
        "no place for data: neither XDG_STATE_HOME nor HOME is set; give --data DIR");
  if (len >= PF_DATA_DIR_MAX)
    return pf_error_set(reterr, PF_EINVAL, "the data directory's path is longer than %d bytes",
        PF_DATA_DIR_MAX - 1);
  return make_with_parents(ret_path, reterr);
}
