#include "base/query.h"

#include <string.h>

#include "base/id.h"

void pf_percent_decode(struct pf_buf *out, struct pf_slice text, bool plus_is_blank) {
  for (size_t i = 0; i < text.len; i++) {
    char c = text.data[i];
    if (c == '+' && plus_is_blank) c = ' ';
    if (c == '%' && i + 2 < text.len) {
      int high = pf_hex_value(text.data[i + 1]), low = pf_hex_value(text.data[i + 2]);
      if (high >= 0 && low >= 0) {
        c = (char)(high << 4 | low);
        i += 2;
      }
    }
    pf_buf_append(out, &c, 1);
  }
}

bool pf_query_find(struct pf_slice query, const char *name, struct pf_slice *ret_value) {
  size_t name_len = strlen(name);
  while (query.len) {
    const char *amp = memchr(query.data, '&', query.len);
    size_t len = amp ? (size_t)(amp - query.data) : query.len;
    if (len >= name_len && memcmp(query.data, name, name_len) == 0 &&
        (len == name_len || query.data[name_len] == '=')) {
      size_t skip = len == name_len ? len : name_len + 1;
      *ret_value = pf_slice(query.data + skip, len - skip);
      return true;
    }
    len += amp ? 1 : 0;
    query = pf_slice(query.data + len, query.len - len);
  }
  return false;
}
