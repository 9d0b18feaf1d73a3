#include "executor/redirect.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What a caller may tell any origin. All others (Authorization, Cookie, X-Api-Key, …) may be
 * secrets meant for the first one only. */
static const char *const harmless_headers[] = {"accept", "accept-encoding", "accept-language",
    "content-language", "content-type", "user-agent"};
/* Describe a body that is no longer sent. */
static const char *const body_headers[] = {
    "content-encoding", "content-language", "content-location", "content-type"};

static bool header_in(struct pf_slice name, const char *const *names, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (name.len == strlen(names[i]) && strncasecmp(name.data, names[i], name.len) == 0)
      return true;
  return false;
}

static bool host_is_localhost(const char *host) {
  size_t len = strlen(host);
  return strcmp(host, "localhost") == 0 || (len > 10 && strcmp(host + len - 10, ".localhost") == 0);
}

int target_parse(
    struct target *ret_target, const struct wire_request *request, struct pf_error *reterr) {
  struct target target = {0};
  int err = wire_request_check(request, target.host, reterr);
  if (err) return err;
  /* What has passed that check reads "host:port". */
  char *colon = strrchr(target.host, ':');
  target.port = (uint16_t)strtoul(colon + 1, NULL, 10);
  *colon = '\0';
  target.https = strncasecmp(request->url.data, "https:", 6) == 0;
  struct in_addr addr;
  target.needs_lookup = target.host[0] != '[' && inet_pton(AF_INET, target.host, &addr) != 1 &&
                        !host_is_localhost(target.host);
  *ret_target = target;
  return PF_OK;
}

bool redirect_status(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* The absolute URL that location means, seen from base. */
static int location_resolve(struct pf_slice base, struct pf_slice location, struct pf_arena *arena,
    struct pf_slice *ret_url, struct pf_error *reterr) {
  CURLU *url = curl_url();
  if (!url) pf_out_of_memory();
  char *full = NULL;
  /* The arena's copies end with a NUL. The flags are those with which libcurl follows redirects
   * itself: targets do send blanks. */
  CURLUcode rc = curl_url_set(url, CURLUPART_URL, pf_arena_copy(arena, base).data, 0);
  if (rc == CURLUE_OK)
    rc = curl_url_set(url, CURLUPART_URL, pf_arena_copy(arena, location).data,
        CURLU_URLENCODE | CURLU_ALLOW_SPACE);
  if (rc == CURLUE_OK) rc = curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0);
  if (rc == CURLUE_OK) rc = curl_url_get(url, CURLUPART_URL, &full, 0);
  if (rc == CURLUE_OK) *ret_url = pf_arena_copy(arena, pf_slice_str(full));
  if (rc == CURLUE_OUT_OF_MEMORY) pf_out_of_memory(); /* the target is not to blame */
  curl_free(full);
  curl_url_cleanup(url);
  if (rc == CURLUE_OK) return PF_OK;
  return pf_error_set(
      reterr, PF_EINVAL, "url: the redirect's Location cannot be read: %s", curl_url_strerror(rc));
}

static bool becomes_get(struct pf_slice method, int status) {
  if (status == 303) return !pf_slice_is(method, "GET") && !pf_slice_is(method, "HEAD");
  return (status == 301 || status == 302) && pf_slice_is(method, "POST");
}

int redirect_follow(struct wire_request *request, struct target *target, int status,
    struct pf_slice location, struct pf_arena *arena, struct pf_error *reterr) {
  PF_ASSERT(redirect_status(status));
  struct wire_request next = *request;
  struct target to;
  int err = location_resolve(request->url, location, arena, &next.url, reterr);
  if (err) return err;
  bool drop_body = becomes_get(request->method, status);
  if (drop_body) {
    next.method = pf_slice_str("GET");
    next.body = pf_slice(NULL, 0);
  }
  err = target_parse(&to, &next, reterr);
  if (err) return err;
  bool same_origin =
      to.https == target->https && to.port == target->port && strcmp(to.host, target->host) == 0;
  next.headers = pf_arena_alloc(arena, (request->header_count + 1) * sizeof(*next.headers));
  next.header_count = 0;
  for (size_t i = 0; i < request->header_count; i++) {
    struct pf_slice name = request->headers[i].name;
    if (!same_origin && !header_in(name, harmless_headers, PF_COUNT(harmless_headers))) continue;
    if (drop_body && header_in(name, body_headers, PF_COUNT(body_headers))) continue;
    next.headers[next.header_count++] = request->headers[i];
  }
  if (!same_origin) next.idempotency_key = pf_slice(NULL, 0);
  *request = next;
  *target = to;
  return PF_OK;
}
