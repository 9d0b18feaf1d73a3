/* HTTP: what a request must be, the way to its handler, and what the handler may ask. */
#include <stdio.h>
#include <string.h>

#include "web/conn.h"
#include "web/guard.h"

enum {
  HOST_MAX = 256,       /* bytes of Host and Origin that are looked at; longer ones are refused */
  BODY_TRUST = 1 << 20, /* memory taken for a body on the word of its Content-Length */
};

/* ---- the checks ---- */

static struct pf_slice header_copy(
    struct lws *wsi, enum lws_token_indexes token, char *text, int max) {
  int len = lws_hdr_copy(wsi, text, max, token);
  return pf_slice(text, len > 0 ? (size_t)len : 0);
}

static bool header_present(struct lws *wsi, enum lws_token_indexes token) {
  return lws_hdr_total_length(wsi, token) > 0;
}

/* What a page in a browser may not do. Returns 0 or the status of a refusal, which has been sent.
 */
static int check_browser(struct conn *c, struct pf_slice host, bool upgrade) {
  const struct web_listener *l = c->listener;
  char text[HOST_MAX];
  if (!guard_host_known(host, l->config.allowed_hosts))
    return response_refuse(c, 403, "host_refused", "unknown Host; see --allow-host");
  bool reads = c->method == WEB_GET || c->method == WEB_HEAD || c->method == WEB_OPTIONS;
  if (reads && !upgrade) return 0;
  if (header_present(c->wsi, WSI_TOKEN_ORIGIN)) {
    struct pf_slice origin = header_copy(c->wsi, WSI_TOKEN_ORIGIN, text, sizeof(text));
    if (!guard_origin_allowed(origin, host, l->config.allowed_origins))
      return response_refuse(c, 403, "origin_refused", "this Origin may not; see --allow-origin");
  }
  if (c->method != WEB_POST && c->method != WEB_PUT) return 0;
  struct pf_slice type = header_copy(c->wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, text, sizeof(text));
  if (!guard_type_is_json(type))
    return response_refuse(
        c, 415, "unsupported_media_type", "Content-Type must be application/json");
  return 0;
}

/* Two readings of where a request ends are a way to smuggle another one. */
static int check_length(struct conn *c) {
  char text[32];
  c->body_length = 0;
  if (header_present(c->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING))
    return response_refuse(c, 400, "bad_request", "Transfer-Encoding is not accepted");
  if (!header_present(c->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH)) {
    if (c->method != WEB_POST && c->method != WEB_PUT && c->method != WEB_OTHER) return 0;
    return response_refuse(c, 411, "length_required", "Content-Length is missing");
  }
  /* Two of them are shown as one with a comma. */
  struct pf_slice value = header_copy(c->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, text, sizeof(text));
  if (!guard_content_length(value, &c->body_length))
    return response_refuse(c, 400, "bad_request", "Content-Length is not one number");
  if (c->body_length > c->listener->config.limits.body_max)
    return response_refuse(c, 413, "too_large", "the body is larger than this server takes");
  return 0;
}

static enum web_method method_of(int lws_method) {
  switch (lws_method) {
  case LWSHUMETH_GET:
    return WEB_GET;
  case LWSHUMETH_HEAD:
    return WEB_HEAD;
  case LWSHUMETH_POST:
    return WEB_POST;
  case LWSHUMETH_PUT:
    return WEB_PUT;
  case LWSHUMETH_DELETE:
    return WEB_DELETE;
  case LWSHUMETH_OPTIONS:
    return WEB_OPTIONS;
  default:
    return WEB_OTHER;
  }
}

static struct pf_slice request_path(struct conn *c) {
  char *uri = NULL;
  int len = 0;
  int method = lws_http_get_uri_and_method(c->wsi, &uri, &len);
  c->method = method_of(method);
  return pf_slice(uri, method < 0 || len < 0 ? 0 : (size_t)len);
}

static int check_headers(struct conn *c, bool upgrade) {
  char text[HOST_MAX];
  (void)request_path(c);
  struct pf_slice version = header_copy(c->wsi, WSI_TOKEN_HTTP, text, sizeof(text));
  c->last_request = !pf_slice_is(version, "HTTP/1.1");
  struct pf_slice connection = header_copy(c->wsi, WSI_TOKEN_CONNECTION, text, sizeof(text));
  if (guard_list_has(connection, "close")) c->last_request = true;
  struct pf_slice host = header_copy(c->wsi, WSI_TOKEN_HOST, text, sizeof(text));
  if (host.len == 0) return response_refuse(c, 400, "bad_request", "Host is missing");
  if (check_length(c)) return -1;
  return c->listener->config.browser_guard ? check_browser(c, host, upgrade) : 0;
}

int request_on_headers(struct conn *c) {
  return check_headers(c, false);
}

int request_on_upgrade(struct conn *c, struct pf_slice *ret_path) {
  if (check_headers(c, true)) return -1;
  *ret_path = request_path(c);
  return 0;
}

/* ---- the way to the handler ---- */

static bool query_byte_plain(unsigned char byte) {
  return byte > ' ' && byte < 0x7f && byte != '%' && byte != '&' && byte != '+' && byte != '#';
}

/* lws takes the query apart and decodes it; the contract is the raw form. */
static struct pf_slice request_query(struct conn *c) {
  static const char hex[] = "0123456789ABCDEF";
  int total = lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_URI_ARGS);
  if (total <= 0) return pf_slice(NULL, 0);
  char *part = pf_arena_alloc(&c->listener->web->arena, (size_t)total + 2);
  char *query = pf_arena_alloc(&c->listener->web->arena, (size_t)total * 4 + 2);
  size_t at = 0;
  for (int n = 0;; n++) {
    int len = lws_hdr_copy_fragment(c->wsi, part, total + 2, WSI_TOKEN_HTTP_URI_ARGS, n);
    if (len < 0) break;
    if (n) query[at++] = '&';
    for (int i = 0; i < len; i++) {
      unsigned char byte = (unsigned char)part[i];
      if (query_byte_plain(byte)) {
        query[at++] = part[i];
      } else {
        query[at++] = '%';
        query[at++] = hex[byte >> 4];
        query[at++] = hex[byte & 15];
      }
    }
  }
  return pf_slice(query, at);
}

static int request_dispatch(struct conn *c) {
  struct web *web = c->listener->web;
  const struct web_handlers *handlers = &c->listener->config.handlers;
  pf_arena_clear(&web->arena);
  web->stats.requests++;
  conn_name(c);
  conn_enter(c, CONN_WAIT);
  struct web_request request = {.id = c->id,
      .path = request_path(c),
      .query = request_query(c),
      .body = pf_buf_view(&c->in),
      .priv = c};
  request.method = c->method;
  handlers->on_request(handlers->arg, &request);
  if (c->in.cap > WEB_BODY_KEEP)
    pf_buf_done(&c->in);
  else
    pf_buf_clear(&c->in);
  return c->doomed ? -1 : 0;
}

int request_on_begin(struct conn *c) {
  lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* answers may take as long as they need */
  /* An empty POST is the one empty request that lws reports as completed later. */
  if (c->body_length == 0 && c->method != WEB_POST) return request_dispatch(c);
  conn_enter(c, CONN_BODY);
  if (c->body_length && header_present(c->wsi, WSI_TOKEN_HTTP_EXPECT)) {
    unsigned char text[LWS_PRE + 32] = {0};
    int len = snprintf((char *)text + LWS_PRE, 32, "HTTP/1.1 100 Continue\r\n\r\n");
    if (lws_write(c->wsi, text + LWS_PRE, (size_t)len, LWS_WRITE_HTTP) < len) return -1;
  }
  (void)pf_buf_reserve(&c->in, c->body_length < BODY_TRUST ? c->body_length : BODY_TRUST);
  return 0;
}

int request_on_body(struct conn *c, const char *data, size_t len) {
  if (c->doomed) return -1;
  if (len == 0) return 0;
  pf_buf_append(&c->in, data, len);
  if (c->in.err)
    return response_refuse(c, 413, "too_large", "the body is larger than this server takes");
  return 0;
}

int request_on_complete(struct conn *c) {
  if (c->phase != CONN_BODY) return c->doomed ? -1 : 0;
  return request_dispatch(c);
}

/* ---- for handlers ---- */

bool web_request_header(
    const struct web_request *req, const char *name, struct pf_slice *ret_value) {
  const struct conn *c = req->priv;
  struct pf_arena *arena = &c->listener->web->arena;
  char key[64];
  int key_len = snprintf(key, sizeof(key), "%s:", name);
  PF_ASSERT(key_len < (int)sizeof(key));
  const char *known;
  for (int i = 0; (known = (const char *)lws_token_to_string((enum lws_token_indexes)i)); i++) {
    if (strcmp(known, key) != 0) continue;
    int len = lws_hdr_total_length(c->wsi, (enum lws_token_indexes)i);
    if (len <= 0) return false;
    char *value = pf_arena_alloc(arena, (size_t)len + 2);
    len = lws_hdr_copy(c->wsi, value, len + 2, (enum lws_token_indexes)i);
    if (len < 0) return false;
    *ret_value = pf_slice(value, (size_t)len);
    return true;
  }
  int len = lws_hdr_custom_length(c->wsi, key, key_len);
  if (len < 0) return false;
  char *value = pf_arena_alloc(arena, (size_t)len + 2);
  if (lws_hdr_custom_copy(c->wsi, value, len + 2, key, key_len) < 0) return false;
  *ret_value = pf_slice(value, (size_t)len);
  return true;
}

static int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

static void percent_decode(struct pf_slice text, struct pf_buf *buf) {
  for (size_t i = 0; i < text.len; i++) {
    char byte = text.data[i] == '+' ? ' ' : text.data[i];
    if (byte == '%' && i + 2 < text.len && hex_value(text.data[i + 1]) >= 0 &&
        hex_value(text.data[i + 2]) >= 0) {
      byte = (char)(hex_value(text.data[i + 1]) << 4 | hex_value(text.data[i + 2]));
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
