/* HTTP: what a handler may ask of the request that it handles. */
#include <string.h>

#include "base/query.h"
#include "web/conn.h"

bool web_request_header(
    const struct web_request *req, const char *name, struct pf_slice *ret_value) {
  const struct web *web = req->priv;
  return head_field(&web->head, name, ret_value);
}

bool web_query_param(struct pf_slice query, const char *name, struct pf_buf *buf) {
  struct pf_slice value;
  if (!pf_query_find(query, name, &value)) return false;
  pf_percent_decode(buf, value, true);
  return true;
}
