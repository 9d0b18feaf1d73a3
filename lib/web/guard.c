/* Rules about header values, without any I/O. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "web/internal.h"

/* Exactly 1 to 10 digits: no sign, no list of two values, no junk behind (request smuggling). */
bool guard_content_length(const char *text, size_t len, size_t *ret_bytes) {
  if (len == 0 || len > 10) return false;
  size_t bytes = 0;
  for (size_t i = 0; i < len; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    bytes = bytes * 10 + (size_t)(text[i] - '0');
  }
  *ret_bytes = bytes;
  return true;
}

/* Host without its port, brackets kept off. */
static void host_name(const char *host, char *name, size_t size) {
  const char *end = host[0] == '[' ? strchr(host, ']') : strrchr(host, ':');
  if (host[0] == '[') host++;
  if (!end) end = host + strlen(host);
  size_t len = (size_t)(end - host) < size - 1 ? (size_t)(end - host) : size - 1;
  memcpy(name, host, len);
  name[len] = '\0';
}

/* A page of another site can make a browser send its own name here (DNS rebinding), never an
 * address that it does not own: literal addresses and localhost are safe, names must be allowed. */
bool guard_host(const char *host, const char *const *allowed) {
  char name[256];
  unsigned char address[16];
  host_name(host, name, sizeof(name));
  if (strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, address) == 1 ||
      inet_pton(AF_INET6, name, address) == 1)
    return true;
  for (; allowed && *allowed; allowed++)
    if (strcasecmp(*allowed, name) == 0 || strcasecmp(*allowed, host) == 0) return true;
  return false;
}

bool guard_origin(const char *origin, const char *host, const char *const *allowed) {
  static const char *const schemes[] = {"http://", "https://"};
  for (size_t i = 0; i < PF_COUNT(schemes); i++) {
    size_t len = strlen(schemes[i]);
    if (strncasecmp(origin, schemes[i], len) == 0 && strcasecmp(origin + len, host) == 0)
      return true;
  }
  for (; allowed && *allowed; allowed++)
    if (strcmp(*allowed, "*") == 0 || strcasecmp(*allowed, origin) == 0) return true;
  return false;
}

bool guard_is_json(const char *content_type) {
  static const char json[] = "application/json";
  size_t len = sizeof(json) - 1;
  return strncasecmp(content_type, json, len) == 0 &&
         (content_type[len] == '\0' || content_type[len] == ';' || content_type[len] == ' ');
}
