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
