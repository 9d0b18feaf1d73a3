/* HTTP connections: reading requests, handing them over, answering. web.h says what is refused.
 *
 * Threads, ownership, ordering, limits: as in conn.h */
#ifndef PF_WEB_HTTPD_H
#define PF_WEB_HTTPD_H

#include "web/conn.h"

/* fd is a connected socket that does not block; it is owned here from now on. */
void httpd_open(struct web_listener *l, int fd);
/* Ends requests whose body comes too slowly; beside conn_timers(). */
void httpd_timers(struct web_listener *l, uint64_t now_ms);

#endif
