#include "executor/dns.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/map.h"
#include "base/rand.h"

#define LOOKUP_STACK_BYTES ((size_t)512 << 10)

/* What threads and loop share. It outlives struct dns while threads run. */
struct mailbox {
  pthread_mutex_t lock;
  uv_async_t *wake;     /* NULL once the loop has gone */
  struct pf_list ended; /* struct lookup */
  unsigned refs;        /* the loop and each running thread */
};

struct lookup {
  struct pf_list link; /* in mailbox.ended */
  struct mailbox *mailbox;
  int (*run)(const char *, struct sockaddr_storage *, unsigned *);
  struct name *name; /* touched by the loop only */
  int failed;
  unsigned count;
  struct sockaddr_storage addrs[DNS_ADDRESSES_MAX];
  char text[DNS_NAME_MAX + 1];
};

enum name_state { NAME_QUEUED, NAME_YOUNG, NAME_OLD, NAME_KNOWN };

struct name {
  struct pf_map_node node;
  struct pf_list link; /* in dns.queued, dns.young, dns.old or dns.known */
  struct pf_list waits;
  struct dns_answer *answer; /* NULL while it is looked up */
  int64_t since_ms;          /* of the state it is in */
  enum name_state state;
  char text[DNS_NAME_MAX + 1];
};

struct dns {
  struct dns_config config;
  uint64_t hash_key[2];
  struct pf_map names;
  /* A name is queued, looked up for less than DNS_YOUNG_MS, for longer, or known; oldest first. */
  struct pf_list queued, young, old, known;
  unsigned young_count, old_count, known_count, queued_count;
  uint64_t started, failed;
  struct mailbox *mailbox;
  uv_async_t wake;
  uv_timer_t timer; /* when the oldest young one gets old */
  unsigned closing_parts;
  void (*closed)(void *arg);
  void *closed_arg;
};

void dns_answer_ref(struct dns_answer *answer) {
  answer->refs++;
}

void dns_answer_unref(struct dns_answer *answer) {
  if (answer && --answer->refs == 0) free(answer);
}

/* ---- on the thread ---- */

int dns_lookup_system(
    const char *name, struct sockaddr_storage addrs[DNS_ADDRESSES_MAX], unsigned *ret_count) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list;
  int failed = getaddrinfo(name, NULL, &hints, &list);
  if (failed) return failed;
  unsigned count = 0;
  for (struct addrinfo *ai = list; ai && count < DNS_ADDRESSES_MAX; ai = ai->ai_next) {
    if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6) continue;
    memset(&addrs[count], 0, sizeof(addrs[count]));
    memcpy(&addrs[count++], ai->ai_addr, ai->ai_addrlen);
  }
  freeaddrinfo(list);
  *ret_count = count;
  return count ? 0 : EAI_NONAME;
}

/* Called with the lock held; releases it. */
static void mailbox_unref(struct mailbox *mailbox) {
  bool last = --mailbox->refs == 0;
  pthread_mutex_unlock(&mailbox->lock);
  if (!last) return;
  struct pf_list *link;
  while ((link = pf_list_pop(&mailbox->ended)) != NULL)
    free(pf_container_of(link, struct lookup, link));
  pthread_mutex_destroy(&mailbox->lock);
  free(mailbox);
}

static void *lookup_thread(void *arg) {
  struct lookup *l = arg;
  struct mailbox *mailbox = l->mailbox;
  l->failed = l->run(l->text, l->addrs, &l->count);
  pthread_mutex_lock(&mailbox->lock);
  pf_list_push(&mailbox->ended, &l->link);
  if (mailbox->wake) uv_async_send(mailbox->wake);
  mailbox_unref(mailbox);
  return NULL;
}

/* ---- names ---- */

static bool name_is(const struct pf_map_node *node, const void *key) {
  return strcmp(pf_container_of(node, struct name, node)->text, key) == 0;
}

static void name_move(struct dns *dns, struct name *name, enum name_state state) {
  struct pf_list *const lists[] = {&dns->queued, &dns->young, &dns->old, &dns->known};
  unsigned *const counts[] = {
      &dns->queued_count, &dns->young_count, &dns->old_count, &dns->known_count};
  --*counts[name->state];
  ++*counts[state];
  name->state = state;
  name->since_ms = pf_clock_mono_ms();
  pf_list_del(&name->link);
  pf_list_push(lists[state], &name->link);
}

static void name_forget(struct dns *dns, struct name *name) {
  PF_ASSERT(name->state == NAME_KNOWN || name->state == NAME_QUEUED);
  PF_ASSERT(pf_list_empty(&name->waits));
  --*(name->state == NAME_KNOWN ? &dns->known_count : &dns->queued_count);
  pf_map_del(&dns->names, &name->node);
  pf_list_del(&name->link);
  dns_answer_unref(name->answer);
  free(name);
}

/* Everybody who waits gets the answer; a good one is kept. */
static void name_answer(struct dns *dns, struct name *name, struct dns_answer *answer) {
  answer->refs = 1;
  name->answer = answer;
  name_move(dns, name, NAME_KNOWN);
  struct pf_list waits;
  pf_list_init(&waits);
  pf_list_splice(&waits, &name->waits);
  dns_answer_ref(answer);
  /* A failure is not kept: the retry of a job wants to see the name come back. */
  if (answer->failed || dns->known_count > DNS_NAMES_MAX)
    name_forget(dns, answer->failed ? name : pf_container_of(dns->known.next, struct name, link));
  struct pf_list *link;
  while ((link = pf_list_pop(&waits)) != NULL) {
    struct dns_wait *wait = pf_container_of(link, struct dns_wait, link);
    wait->done(wait, answer); /* wait may be gone */
  }
  dns_answer_unref(answer);
}

static struct dns_answer *answer_new(
    int failed, const struct sockaddr_storage *addrs, unsigned count) {
  struct dns_answer *answer = pf_alloc(sizeof(*answer) + count * sizeof(*addrs));
  answer->failed = failed;
  answer->count = count;
  if (count) memcpy(answer->addrs, addrs, count * sizeof(*addrs));
  return answer;
}

/* ---- look-ups ---- */

static bool lookup_start(struct dns *dns, struct name *name) {
  struct lookup *l = pf_alloc(sizeof(*l));
  l->mailbox = dns->mailbox;
  l->run = dns->config.lookup;
  l->name = name;
  memcpy(l->text, name->text, sizeof(l->text));
  pthread_attr_t attr;
  pthread_t thread;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attr, LOOKUP_STACK_BYTES);
  pthread_mutex_lock(&dns->mailbox->lock);
  int failed = pthread_create(&thread, &attr, lookup_thread, l);
  if (!failed) dns->mailbox->refs++;
  pthread_mutex_unlock(&dns->mailbox->lock);
  pthread_attr_destroy(&attr);
  if (failed) free(l);
  return !failed;
}

static void dns_pump(struct dns *dns);

static void dns_on_timer(uv_timer_t *timer) {
  dns_pump(timer->data);
}

/* Starts what may start, and looks again when a young look-up will have got old. */
static void dns_pump(struct dns *dns) {
  int64_t now_ms = pf_clock_mono_ms();
  PF_LIST_EACH(link, &dns->young) {
    struct name *name = pf_container_of(link, struct name, link);
    if (now_ms - name->since_ms < DNS_YOUNG_MS) break;
    name_move(dns, name, NAME_OLD);
  }
  while (!pf_list_empty(&dns->queued) && dns->young_count < DNS_YOUNG_MAX &&
         dns->young_count + dns->old_count < DNS_THREADS_MAX) {
    struct name *name = pf_container_of(dns->queued.next, struct name, link);
    if (pf_list_empty(&name->waits)) {
      name_forget(dns, name); /* all have given up meanwhile */
      continue;
    }
    if (!lookup_start(dns, name)) break; /* no thread now: with the next end of one, or time-out */
    dns->started++;
    name_move(dns, name, NAME_YOUNG);
  }
  if (!pf_list_empty(&dns->queued) && !pf_list_empty(&dns->young))
    uv_timer_start(&dns->timer, dns_on_timer, DNS_YOUNG_MS, 0);
}

static void dns_on_wake(uv_async_t *wake) {
  struct dns *dns = wake->data;
  struct pf_list ended;
  pf_list_init(&ended);
  pthread_mutex_lock(&dns->mailbox->lock);
  pf_list_splice(&ended, &dns->mailbox->ended);
  pthread_mutex_unlock(&dns->mailbox->lock);
  struct pf_list *link;
  while ((link = pf_list_pop(&ended)) != NULL) {
    struct lookup *l = pf_container_of(link, struct lookup, link);
    dns->failed += l->failed != 0;
    name_answer(dns, l->name, answer_new(l->failed, l->addrs, l->failed ? 0 : l->count));
    free(l);
  }
  dns_pump(dns);
}

struct dns_answer *dns_resolve(struct dns *dns, const char *text, struct dns_wait *wait) {
  PF_ASSERT(strlen(text) <= DNS_NAME_MAX);
  uint64_t hash = pf_hash_bytes(dns->hash_key, text, strlen(text));
  struct pf_map_node *node = pf_map_find(&dns->names, hash, name_is, text);
  struct name *name = node ? pf_container_of(node, struct name, node) : NULL;
  if (name && name->state == NAME_KNOWN) {
    if (pf_clock_mono_ms() - name->since_ms < DNS_KEEP_MS) return name->answer;
    name_forget(dns, name);
    name = NULL;
  }
  if (!name) {
    name = pf_alloc(sizeof(*name));
    memcpy(name->text, text, strlen(text));
    pf_list_init(&name->waits);
    pf_list_init(&name->link);
    pf_map_put(&dns->names, &name->node, hash);
    name->state = NAME_QUEUED;
    dns->queued_count++;
    name_move(dns, name, NAME_QUEUED);
  }
  pf_list_push(&name->waits, &wait->link);
  if (name->state == NAME_QUEUED) dns_pump(dns);
  return NULL;
}

void dns_cancel(struct dns *dns, struct dns_wait *wait) {
  (void)dns; /* a queued name without anybody waiting is dropped by dns_pump */
  if (wait->link.next) pf_list_del(&wait->link);
}

void dns_read_stats(const struct dns *dns, struct dns_stats *ret_stats) {
  *ret_stats = (struct dns_stats){.started = dns->started,
      .failed = dns->failed,
      .queued = dns->queued_count,
      .running = dns->young_count + dns->old_count};
}

/* ---- life ---- */

struct dns *dns_new(uv_loop_t *loop, const struct dns_config *config) {
  struct dns *dns = pf_alloc(sizeof(*dns));
  dns->config = *config;
  pf_rand_secret(dns->hash_key, sizeof(dns->hash_key));
  pf_map_init(&dns->names);
  pf_list_init(&dns->queued);
  pf_list_init(&dns->young);
  pf_list_init(&dns->old);
  pf_list_init(&dns->known);
  int err = uv_async_init(loop, &dns->wake, dns_on_wake);
  if (!err) err = uv_timer_init(loop, &dns->timer);
  PF_ASSERT(err == 0);
  dns->wake.data = dns->timer.data = dns;
  dns->mailbox = pf_alloc(sizeof(*dns->mailbox));
  pthread_mutex_init(&dns->mailbox->lock, NULL);
  pf_list_init(&dns->mailbox->ended);
  dns->mailbox->wake = &dns->wake;
  dns->mailbox->refs = 1;
  return dns;
}

static void dns_part_closed(uv_handle_t *handle) {
  struct dns *dns = handle->data;
  if (--dns->closing_parts > 0) return;
  void (*closed)(void *) = dns->closed;
  void *arg = dns->closed_arg;
  free(dns);
  closed(arg);
}

static void name_free(struct name *name) {
  PF_ASSERT(pf_list_empty(&name->waits));
  dns_answer_unref(name->answer);
  free(name);
}

void dns_close(struct dns *dns, void (*closed)(void *arg), void *arg) {
  pthread_mutex_lock(&dns->mailbox->lock);
  dns->mailbox->wake = NULL;
  mailbox_unref(dns->mailbox);
  PF_MAP_EACH(it, &dns->names)
    name_free(pf_container_of(it, struct name, node));
  pf_map_done(&dns->names);
  dns->closed = closed;
  dns->closed_arg = arg;
  dns->closing_parts = 2;
  uv_close((uv_handle_t *)&dns->wake, dns_part_closed);
  uv_close((uv_handle_t *)&dns->timer, dns_part_closed);
}
