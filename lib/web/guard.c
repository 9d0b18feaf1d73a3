#include "web/guard.h"

#include <arpa/inet.h>
#include <string.h>

bool guard_content_length(struct pf_slice value, uint64_t *ret_length) {
  if (value.len == 0 || value.len > 10) return false;
  uint64_t length = 0;
  for (size_t i = 0; i < value.len; i++) {
    if (value.data[i] < '0' || value.data[i] > '9') return false;
    length = length * 10 + (uint64_t)(value.data[i] - '0');
  }
  *ret_length = length;
  return true;
}

static bool same_text(struct pf_slice a, const char *b) {
  return strlen(b) == a.len && strncasecmp(a.data, b, a.len) == 0;
}

static struct pf_slice trim(struct pf_slice s) {
  while (s.len && (s.data[0] == ' ' || s.data[0] == '\t'))
    s = pf_slice(s.data + 1, s.len - 1);
  while (s.len && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
    s.len--;
  return s;
}

bool guard_list_has(struct pf_slice list, const char *token) {
  while (list.len) {
    const char *comma = memchr(list.data, ',', list.len);
    size_t len = comma ? (size_t)(comma - list.data) : list.len;
    if (same_text(trim(pf_slice(list.data, len)), token)) return true;
    size_t used = comma ? len + 1 : len;
    list = pf_slice(list.data + used, list.len - used);
  }
  return false;
}

/* Cuts a port off and the brackets of an IPv6 address. */
static bool host_name(struct pf_slice host, struct pf_slice *ret_name) {
  struct pf_slice name = host, port = {0};
  if (host.len && host.data[0] == '[') {
    const char *end = memchr(host.data, ']', host.len);
    if (!end) return false;
    name = pf_slice(host.data + 1, (size_t)(end - host.data) - 1);
    port = pf_slice(end + 1, host.len - name.len - 2);
  } else {
    const char *colon = memchr(host.data, ':', host.len);
    if (colon) {
      name.len = (size_t)(colon - host.data);
      port = pf_slice(colon, host.len - name.len);
    }
  }
  if (port.len == 1 || port.len > 6 || (port.len && port.data[0] != ':')) return false;
  for (size_t i = 1; i < port.len; i++)
    if (port.data[i] < '0' || port.data[i] > '9') return false;
  *ret_name = name;
  return name.len > 0;
}

static bool is_address(struct pf_slice name) {
  char text[INET6_ADDRSTRLEN];
  unsigned char bytes[16];
  if (name.len >= sizeof(text)) return false;
  memcpy(text, name.data, name.len);
  text[name.len] = '\0';
  return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

bool guard_host_known(struct pf_slice host, const char *const *allowed) {
  struct pf_slice name;
  if (!host_name(host, &name)) return false;
  if (same_text(name, "localhost") || is_address(name)) return true;
  for (; allowed && *allowed; allowed++)
    if (same_text(name, *allowed) || same_text(host, *allowed)) return true;
  return false;
}

bool guard_origin_allowed(
    struct pf_slice origin, struct pf_slice host, const char *const *allowed) {
  static const char *const schemes[] = {"http://", "https://"};
  for (size_t i = 0; i < PF_COUNT(schemes); i++) {
    size_t len = strlen(schemes[i]);
    if (host.len > 0 && origin.len == len + host.len &&
        strncasecmp(origin.data, schemes[i], len) == 0 &&
        strncasecmp(origin.data + len, host.data, host.len) == 0)
      return true;
  }
  for (; allowed && *allowed; allowed++)
    if (strcmp(*allowed, "*") == 0 || same_text(origin, *allowed)) return true;
  return false;
}

bool guard_host_well_formed(const char *text) {
  return *text && !text[strcspn(text, "/?#@* \t")];
}

bool guard_origin_well_formed(const char *text) {
  if (strcmp(text, "*") == 0 || strcmp(text, "null") == 0) return true;
  const char *host = strstr(text, "://");
  return host && host != text && guard_host_well_formed(host + 3);
}

bool guard_type_is_json(struct pf_slice content_type) {
  if (content_type.len == 0) return false;
  const char *semicolon = memchr(content_type.data, ';', content_type.len);
  if (semicolon) content_type.len = (size_t)(semicolon - content_type.data);
  return same_text(trim(content_type), "application/json");
}

bool guard_ws_key(struct pf_slice key) {
  if (key.len != GUARD_WS_KEY_LEN || memcmp(key.data + 22, "==", 2) != 0) return false;
  for (size_t i = 0; i < 22; i++) {
    char c = key.data[i];
    bool alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    if (!alnum && c != '+' && c != '/') return false;
  }
  return true;
}

/* ---- a whole head ---- */

static const struct refusal nothing = {0};

/* What a page in a browser may not do. */
static struct refusal check_browser(
    const struct head *head, const struct web_listener_config *config) {
  struct pf_slice host, origin, type = {0};
  if (!head_field(head, "host", &host) || !guard_host_known(host, config->allowed_hosts))
    return (struct refusal){403, "host_refused", "this Host is not known here; see --allow-host"};
  bool reads = head->method == WEB_GET || head->method == WEB_HEAD || head->method == WEB_OPTIONS;
  if (reads && !guard_wants_websocket(head)) return nothing;
  if (head_field(head, "origin", &origin) &&
      !guard_origin_allowed(origin, host, config->allowed_origins))
    return (struct refusal){
        403, "origin_refused", "pages of this Origin may not do that; see --allow-origin"};
  if (head->method != WEB_POST && head->method != WEB_PUT) return nothing;
  (void)head_field(head, "content-type", &type);
  if (guard_type_is_json(type)) return nothing;
  return (struct refusal){415, "unsupported_media_type", "send Content-Type: application/json"};
}

/* Where the body ends. Two readings of that are a way to smuggle a second request. */
static struct refusal check_framing(const struct head *head, size_t body_max, size_t *ret_len) {
  struct pf_slice value;
  uint64_t length = 0;
  if (head_field(head, "transfer-encoding", &value))
    return (struct refusal){400, "bad_request", "send a Content-Length, not a Transfer-Encoding"};
  if (head_field(head, "content-length", &value)) {
    if (head_field_count(head, "content-length") != 1 || !guard_content_length(value, &length))
      return (struct refusal){400, "bad_request", "Content-Length must be one number"};
  } else if (head->method == WEB_POST || head->method == WEB_PUT) {
    return (struct refusal){411, "length_required", "a Content-Length is required"};
  }
  if (length > body_max)
    return (struct refusal){413, "too_large", "the body is larger than this server takes"};
  *ret_len = (size_t)length;
  return nothing;
}

struct refusal guard_head(
    const struct head *head, const struct web_listener_config *config, size_t *ret_body_len) {
  struct pf_slice host;
  size_t body_len;
  if (head_field_count(head, "host") != 1 || !head_field(head, "host", &host) || host.len == 0)
    return (struct refusal){400, "bad_request", "one Host header is required"};
  struct refusal no = check_framing(head, config->limits.body_max, &body_len);
  if (!no.status && config->browser_guard) no = check_browser(head, config);
  if (!no.status) *ret_body_len = body_len;
  return no;
}

struct refusal guard_upgrade(const struct head *head, size_t body_len, struct pf_slice *ret_key) {
  struct pf_slice version = {0}, connection = {0}, key, protocol;
  (void)head_field(head, "connection", &connection);
  (void)head_field(head, "sec-websocket-version", &version);
  if (!pf_slice_is(version, "13"))
    return (struct refusal){
        426, "bad_websocket_version", "only version 13 of WebSocket is spoken here"};
  bool well_formed = head->method == WEB_GET && !head->old && body_len == 0 &&
                     guard_list_has(connection, "upgrade") &&
                     head_field_count(head, "sec-websocket-key") == 1 &&
                     head_field(head, "sec-websocket-key", &key) && guard_ws_key(key);
  if (!well_formed) return (struct refusal){400, "bad_request", "this upgrade is malformed"};
  if (head_field(head, "sec-websocket-protocol", &protocol) &&
      !guard_list_has(protocol, WEB_SUBPROTOCOL))
    return (struct refusal){400, "bad_request", "the only subprotocol is " WEB_SUBPROTOCOL};
  *ret_key = key;
  return nothing;
}

struct refusal guard_refusal_of(int status) {
  switch (status) {
  case 404:
    return (struct refusal){404, "not_found", "there is no WebSocket under this path"};
  case 431:
    return (struct refusal){431, "head_too_large", "the head of the request is too large"};
  case 505:
    return (struct refusal){505, "bad_http_version", "HTTP/1.1 is spoken here"};
  case 503:
    return (struct refusal){503, "closing", "no more sockets now"};
  default:
    return (struct refusal){status, "bad_request", "the request is malformed"};
  }
}

bool guard_wants_websocket(const struct head *head) {
  struct pf_slice upgrade;
  return head_field(head, "upgrade", &upgrade) && guard_list_has(upgrade, "websocket");
}

bool guard_is_last(const struct head *head) {
  struct pf_slice connection = {0};
  (void)head_field(head, "connection", &connection);
  return head->old || guard_list_has(connection, "close");
}
