/* HTTP: what a handler may ask of the request that it handles. */
#include <string.h>

#include "web/conn.h"

bool web_request_header(
    const struct web_request *req, const char *name, struct pf_slice *ret_value) {
  const struct web *web = req->priv;
  return head_field(&web->head, name, ret_value);
}

static void percent_decode(struct pf_slice text, struct pf_buf *buf) {
  for (size_t i = 0; i < text.len; i++) {
    char byte = text.data[i] == '+' ? ' ' : text.data[i];
    int decoded = byte == '%' && i + 2 < text.len ? head_hex_byte(text.data + i + 1) : -1;
    if (decoded >= 0) {
      byte = (char)decoded;
      i += 2;
    }
    pf_buf_append(buf, &byte, 1);
  }
}

bool web_query_param(struct pf_slice query, const char *name, struct pf_buf *buf) {
  size_t name_len = strlen(name);
  while (query.len) {
    const char *end = memchr(query.data, '&', query.len);
    size_t len = end ? (size_t)(end - query.data) : query.len;
    if (len >= name_len && memcmp(query.data, name, name_len) == 0 &&
        (len == name_len || query.data[name_len] == '=')) {
      size_t skip = len == name_len ? len : name_len + 1;
      percent_decode(pf_slice(query.data + skip, len - skip), buf);
      return true;
    }
    size_t used = end ? len + 1 : len;
    query = pf_slice(query.data + used, query.len - used);
  }
  return false;
}
