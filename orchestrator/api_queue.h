/* GET /v1/queue: what an operator sees of the queue, as JSON.
 *
 * Threads    the loop's
 * Ownership  none
 * Ordering   none
 * Limits     that of the buffer */
#ifndef PF_ORCHESTRATOR_API_QUEUE_H
#define PF_ORCHESTRATOR_API_QUEUE_H

#include "base/buf.h"
#include "orchestrator/queue.h"
#include "orchestrator/queue_db.h"

void api_queue_print(
    struct pf_buf *buf, const struct queue *queue, struct queue_db *db, int64_t now_us);

#define API_UNDELIVERED_MAX 1000 /* jobs listed; `total` counts all */
void api_undelivered_print(struct pf_buf *buf, const struct queue *queue, int64_t now_us);

#endif
