/* Where a process keeps its files.
 *
 * Threads    Call at start.
 * Limits     PF_DATA_DIR_MAX bytes of path. */
#ifndef PF_BASE_DATA_DIR_H
#define PF_BASE_DATA_DIR_H

#include "base/err.h"

#define PF_DATA_DIR_MAX 1024

/* The directory given by the operator, or, with given NULL, proxyfetch/ROLE below $XDG_STATE_HOME
 * or
 * ~/.local/state; created with its parents, mode 0700. Errors: PF_EINVAL (too long, no home),
 * PF_EPERM, PF_EIO, with a text that names the path. */
PF_MUST_CHECK int pf_data_dir(
    char ret_path[PF_DATA_DIR_MAX], const char *given, const char *role, struct pf_error *reterr);

#endif
