#include "web_http_tests.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

void is_text(const struct pf_buf *buf, const char *text) {
  assert_int_equal(buf->len, strlen(text));
  assert_memory_equal(buf->data ? buf->data : "", text, buf->len);
}

int main(void) {
  return web_http_request_tests() + web_http_limit_tests();
}
