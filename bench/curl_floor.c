/* What libcurl alone can fetch, with so many transfers in flight on one thread and pooled handles:
 * the floor under every system that fetches with it. Prints JSON.
 *
 *   build/bin/curl_floor URL IN_FLIGHT FETCHES */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "clients/measure/stats.h"

#define IN_FLIGHT_MAX 20000
#define FETCHES_MAX 10000000
#define WAIT_MS 1000

struct slot {
  CURL *easy;
  int64_t begun_ns;
};

struct floor {
  CURLM *multi;
  struct slot *slots;
  long wanted, begun, ended, failed;
  double *samples_ms;
};

static size_t forget(char *data, size_t size, size_t count, void *arg) {
  (void)data, (void)arg;
  return size * count;
}

static void slot_begin(struct floor *f, struct slot *slot) {
  if (f->begun == f->wanted) return;
  f->begun++;
  slot->begun_ns = pf_clock_mono_ns();
  PF_ASSERT(curl_multi_add_handle(f->multi, slot->easy) == CURLM_OK);
}

static void slot_open(struct floor *f, struct slot *slot, const char *url) {
  slot->easy = curl_easy_init();
  PF_ASSERT(slot->easy);
  curl_easy_setopt(slot->easy, CURLOPT_URL, url);
  curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, forget);
  curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
  curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(slot->easy, CURLOPT_PROXY, "");
  slot_begin(f, slot);
}

static void collect(struct floor *f) {
  int left;
  for (CURLMsg *m; (m = curl_multi_info_read(f->multi, &left)) != NULL;) {
    struct slot *slot;
    long status = 0;
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&slot);
    curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
    f->failed += m->data.result != CURLE_OK || status != 200;
    f->samples_ms[f->ended++] = (double)(pf_clock_mono_ns() - slot->begun_ns) / 1e6;
    curl_multi_remove_handle(f->multi, slot->easy);
    slot_begin(f, slot);
  }
}

int main(int argc, char **argv) {
  long in_flight = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
  struct floor f = {.wanted = argc == 4 ? strtol(argv[3], NULL, 10) : 0};
  if (in_flight < 1 || in_flight > IN_FLIGHT_MAX || f.wanted < 1 || f.wanted > FETCHES_MAX) {
    fprintf(stderr, "usage: curl_floor URL IN_FLIGHT FETCHES\n");
    return PF_EXIT_USAGE;
  }
  PF_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
  f.multi = curl_multi_init();
  PF_ASSERT(f.multi);
  curl_multi_setopt(f.multi, CURLMOPT_MAXCONNECTS, in_flight);
  f.samples_ms = pf_alloc((size_t)f.wanted * sizeof(double));
  f.slots = pf_alloc((size_t)in_flight * sizeof(*f.slots));
  int64_t start_ns = pf_clock_mono_ns();
  for (long i = 0; i < in_flight; i++)
    slot_open(&f, &f.slots[i], argv[1]);
  while (f.ended < f.wanted) {
    int running;
    PF_ASSERT(curl_multi_perform(f.multi, &running) == CURLM_OK);
    collect(&f);
    if (f.ended < f.wanted && running)
      PF_ASSERT(curl_multi_poll(f.multi, NULL, 0, WAIT_MS, NULL) == CURLM_OK);
  }
  double seconds = (double)(pf_clock_mono_ns() - start_ns) / 1e9;
  struct stats s = stats_of(f.samples_ms, (size_t)f.ended);
  printf("{\"perSecond\":%.1f,\"p50\":%.3f,\"p99\":%.3f,\"samples\":%ld,\"failed\":%ld}\n",
      (double)f.ended / seconds, s.p50, s.p99, f.ended, f.failed);
  for (long i = 0; i < in_flight; i++)
    curl_easy_cleanup(f.slots[i].easy);
  curl_multi_cleanup(f.multi);
  curl_global_cleanup();
  free(f.slots);
  free(f.samples_ms);
  return f.failed ? PF_EXIT_FAILURE : PF_EXIT_OK;
}
