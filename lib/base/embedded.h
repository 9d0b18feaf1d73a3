/* Files that are part of the program: pf_embed_files() of cmake/embed.cmake makes the table.
 *
 * Threads    any: all of it is constant
 * Ownership  static
 * Ordering   as given to pf_embed_files()
 * Limits     none */
#ifndef PF_BASE_EMBEDDED_H
#define PF_BASE_EMBEDDED_H

#include <stddef.h>

struct pf_embedded_file {
  const char *path; /* "/page.css"; index.html is "/" */
  const char *mime; /* with its charset */
  const char *etag; /* with its quotes; changes with the bytes */
  const unsigned char *bytes;
  size_t len;
};

extern const struct pf_embedded_file pf_embedded_files[];
extern const size_t pf_embedded_count;

#endif
