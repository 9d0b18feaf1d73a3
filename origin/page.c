#include "origin/page.h"

#include <stdio.h>

#include "base/embedded.h"

/* The page may run its own scripts and talk to its own server, and be shown in no frame. */
#define PAGE_POLICY                                                                                \
  "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src "     \
  "'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"    \
  "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"

static const struct pf_embedded_file *page_find(struct pf_slice path) {
  for (size_t i = 0; i < pf_embedded_count; i++)
    if (pf_slice_is(path, pf_embedded_files[i].path)) return &pf_embedded_files[i];
  return NULL;
}

bool page_respond(struct web *web, const struct web_request *request) {
  const struct pf_embedded_file *file = page_find(request->path);
  if (!file) return false;
  if (request->method != WEB_GET && request->method != WEB_HEAD) {
    web_respond_error(web, request->id, 405, "method_not_allowed", "this path takes GET");
    return true;
  }
  /* Asked again each time and mostly answered 304: a new version of the program shows at once. */
  char headers[640];
  snprintf(
      headers, sizeof(headers), PAGE_POLICY "Cache-Control: no-cache\r\nETag: %s\r\n", file->etag);
  struct pf_slice known;
  bool same =
      web_request_header(request, "if-none-match", &known) && pf_slice_is(known, file->etag);
  web_respond(web, request->id,
      &(struct web_response){.status = same ? 304 : 200,
          .content_type = file->mime,
          .extra_headers = headers,
          .body = same ? (struct pf_slice){0} : pf_slice((const char *)file->bytes, file->len)});
  return true;
}
