/* What every process answers about itself.
 *
 * Threads, ownership, ordering: as in web/web.h. Limits: none */
#ifndef PF_WEB_HEALTH_H
#define PF_WEB_HEALTH_H

#include "base/buf.h"
#include "web/web.h"
#include "wire/health.h"

/* GET /health: {"status":"ok","role":…,"pid":…,"version":…}. Cheap, for load balancers. */
void web_respond_health(struct web *web, uint64_t request, const char *role);
/* GET /health/detailed: a report that has ended; 503 if it is failing. */
void web_respond_health_detailed(struct web *web, uint64_t request, const struct health *health);

/* For listeners that only processes and operators call. Each is true unless the request had to be
 * refused; it is then answered already. */

/* Not for web pages (403): a browser names the page's origin with everything that a page can make
 * it post. Nor for processes that speak another version of the hop (wire/hop.h) than we do (400).
 */
bool web_admits_process(struct web *web, const struct web_request *req);
/* The Content-Type has to be this one (415). */
bool web_type_fits(struct web *web, const struct web_request *req, const char *type);

/* Appends what the server itself counts, as pf_web_… metrics. */
void web_print_metrics(const struct web *web, struct pf_buf *buf);

#endif
