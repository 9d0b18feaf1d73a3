/* What this program was built from. Threads: any. */
#ifndef MEASURE_BUILD_INFO_H
#define MEASURE_BUILD_INFO_H

/* The short commit id, with "+" behind it if files had been changed; "unknown" without git. */
const char *build_commit(void);

#endif
