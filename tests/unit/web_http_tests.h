/* unit.web_http: the groups of its tests, each a file of its own, and what they share. */
#ifndef PF_TESTS_WEB_HTTP_TESTS_H
#define PF_TESTS_WEB_HTTP_TESTS_H

#include "web_fixture.h"

#define HOST "Host: localhost\r\n"

void is_text(const struct pf_buf *buf, const char *text);

/* They return how many tests failed. */
int web_http_request_tests(void);
int web_http_limit_tests(void);

#endif
