#include "web/health.h"

#include <stdio.h>
#include <unistd.h>

#include "base/metrics.h"
#include "wire/hop.h"

void web_respond_health(struct web *web, uint64_t request, const char *role) {
  char body[256];
  int len = snprintf(body, sizeof(body),
      "{\"status\":\"ok\",\"role\":\"%s\",\"pid\":%d,\"version\":\"%s\"}", role, (int)getpid(),
      PF_VERSION);
  web_respond(web, request,
      &(struct web_response){
          .status = 200, .content_type = "application/json", .body = pf_slice(body, (size_t)len)});
}

void web_respond_health_detailed(struct web *web, uint64_t request, const struct health *health) {
  web_respond(web, request,
      &(struct web_response){.status = health->status == HEALTH_FAILING ? 503 : 200,
          .content_type = "application/json",
          .body = pf_buf_view(health->json.buf)});
}

bool web_admits_process(struct web *web, const struct web_request *req) {
  struct pf_slice origin, version;
  if (web_request_header(req, "origin", &origin)) {
    web_respond_error(web, req->id, 403, "origin_refused", "this address is not for web pages");
    return false;
  }
  if (!web_request_header(req, "x-pf-version", &version) || pf_slice_is(version, HOP_VERSION))
    return true;
  web_respond_error(web, req->id, 400, "bad_version", "this process speaks version " HOP_VERSION);
  return false;
}

bool web_type_fits(struct web *web, const struct web_request *req, const char *type) {
  struct pf_slice found;
  char text[128];
  if (web_request_header(req, "content-type", &found) && pf_slice_is(found, type)) return true;
  snprintf(text, sizeof(text), "send Content-Type: %s", type);
  web_respond_error(web, req->id, 415, "unsupported_media_type", text);
  return false;
}

void web_print_metrics(const struct web *web, struct pf_buf *buf) {
  struct web_stats stats;
  web_read_stats(web, &stats);
  metrics_counter(buf, "pf_web_requests_total", "HTTP requests.", stats.requests);
  metrics_counter(
      buf, "pf_web_refused_total", "Requests, upgrades and connections refused.", stats.refused);
  metrics_counter(buf, "pf_web_sockets_total", "WebSockets opened.", stats.sockets_opened);
  metrics_counter(buf, "pf_web_frames_in_total", "WebSocket messages received.", stats.frames_in);
  metrics_counter(buf, "pf_web_frames_out_total", "WebSocket messages sent.", stats.frames_out);
  metrics_counter(buf, "pf_web_slow_readers_total", "Clients given up because they did not read.",
      stats.slow_readers);
  metrics_gauge(buf, "pf_web_connections", "TCP connections.", (double)stats.connections);
  metrics_gauge(buf, "pf_web_sockets", "WebSockets.", (double)stats.sockets);
  metrics_gauge(buf, "pf_web_unread_bytes", "Bytes that wait for clients to read them.",
      (double)stats.unread);
}
