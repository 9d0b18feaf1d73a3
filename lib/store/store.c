#include "store/store.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/writer.h"

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)

const char *const store_sync_names[] = {"full", "normal", NULL};

/* -- results ------------------------------------------------------------------------------------
 */

static void store_free(struct store *store) {
  uv_cond_destroy(&store->wake);
  uv_mutex_destroy(&store->lock);
  free((char *)store->config.path);
  free((char *)store->config.vfs);
  free(store);
}

static void store_on_handle_closed(uv_handle_t *handle) {
  struct store *store = handle->data;
  PF_ASSERT(store->handles > 0);
  if (--store->handles > 0) return;
  PF_ASSERT(pf_list_empty(&store->refused) && store->submitted == store->completed);
  void (*closed)(void *arg) = store->closed;
  void *arg = store->closed_arg;
  store_free(store);
  if (closed) closed(arg);
}

static void store_close_handles(struct store *store) {
  uv_close((uv_handle_t *)&store->turn_end, store_on_handle_closed);
  uv_close((uv_handle_t *)&store->async, store_on_handle_closed);
}

/* done may free or resubmit the request, and may call any function of the store. */
static void call_done(struct store *store, struct pf_list *list) {
  for (struct pf_list *link; (link = pf_list_pop(list)) != NULL;) {
    struct store_req *req = pf_container_of(link, struct store_req, link);
    store->completed++;
    req->done(req, req->err);
  }
}

static void call_backups_done(struct store *store, struct pf_list *list) {
  for (struct pf_list *link; (link = pf_list_pop(list)) != NULL;) {
    struct store_backup_req *req = pf_container_of(link, struct store_backup_req, link);
    PF_ASSERT(store->backups > 0);
    store->backups--;
    req->done(req->arg, req->err, req->err == PF_OK ? NULL : &req->why);
    free(req->path);
    free(req);
  }
}

/* The writer has ended: what came too late is refused, then nothing is left to wait for. */
static void store_after_exit(struct store *store) {
  struct pf_list refused;
  pf_list_init(&refused);
  pf_list_splice(&refused, &store->refused);
  call_done(store, &refused);
  if (!pf_list_empty(&store->refused) || store->backups > 0) {
    (void)uv_async_send(&store->async); /* fails on a wrong handle type only */
    return;
  }
  int rc = uv_thread_join(&store->thread);
  PF_ASSERT(rc == 0);
  store_close_handles(store);
}

/* The writer has been here since the last visit, once or more often. */
static void store_on_async(uv_async_t *async) {
  struct store *store = async->data;
  struct store_shared *shared = &store->shared;
  struct pf_list finished, failed, backups;
  pf_list_init(&finished);
  pf_list_init(&failed);
  pf_list_init(&backups);
  uv_mutex_lock(&store->lock);
  pf_list_splice(&finished, &shared->finished);
  pf_list_splice(&failed, &shared->failed);
  pf_list_splice(&backups, &shared->backups_ended);
  store->stats = shared->stats;
  store->space_low = shared->space_low;
  bool broken = shared->broken, exited = shared->exited;
  uv_mutex_unlock(&store->lock);

  call_done(store, &finished);
  if (broken && !store->broken_told) {
    store->broken_told = true; /* broken_why is written once, before `broken` */
    if (store->config.on_broken) store->config.on_broken(store->config.arg, &shared->broken_why);
  }
  call_done(store, &failed);
  call_backups_done(store, &backups);
  if (exited) store_after_exit(store);
}

/* -- hand-over ----------------------------------------------------------------------------------
 */

/* Whether the thread has to be woken for what was just handed over. */
static bool must_wake(const struct store_shared *shared, bool urgent) {
  if (shared->sleeps_until_ns == 0) return false; /* it will look before it sleeps */
  int64_t lazy_ns = shared->waiting_since_ns + STORE_LAZY_MS * NS_PER_MS;
  return urgent || shared->sleeps_until_ns > lazy_ns;
}

/* Under the lock. Returns whether something urgent waits. */
static bool hand_over_locked(struct store *store) {
  struct store_shared *shared = &store->shared;
  if (pf_list_empty(&shared->waiting)) shared->waiting_since_ns = pf_clock_mono_ns();
  pf_list_splice(&shared->waiting, &store->fresh);
  shared->urgent |= store->fresh_urgent;
  store->fresh_urgent = false;
  store->fresh_count = 0;
  return shared->urgent;
}

static void hand_over(struct store *store) {
  if (store->fresh_count == 0) return;
  uv_mutex_lock(&store->lock);
  bool wake = must_wake(&store->shared, hand_over_locked(store));
  uv_mutex_unlock(&store->lock);
  if (wake) uv_cond_signal(&store->wake);
}

/* No signal interrupts the I/O of a commit, whichever thread it is on: not every file system starts
 * an fsync again by itself, and one that failed breaks the store. Those that come meanwhile are
 * handled afterwards. Faults of the program itself are left alone. */
static void signals_block(sigset_t *ret_before) {
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
  sigset_t most;
  sigfillset(&most);
  for (size_t i = 0; i < PF_COUNT(faults); i++)
    sigdelset(&most, faults[i]);
  (void)pthread_sigmask(SIG_SETMASK, &most, ret_before); /* fails on a wrong first argument only */
}

static void signals_restore(const sigset_t *before) {
  (void)pthread_sigmask(SIG_SETMASK, before, NULL); /* the same */
}

/* A group that is done sooner than a thread wakes up is done here: two wake-ups less (decision
 * 0015). Not for the first one of a store that may be on a slow disk. */
static bool is_quick(const struct store_shared *shared) {
  return shared->urgent && !shared->taken && !shared->wanted && !shared->broken &&
         shared->group_ns > 0 && shared->group_ns < STORE_QUICK_US * NS_PER_US;
}

/* Just before the loop waits for events. What one turn submits is one group then, instead of a
 * group of one and another of the rest: in full mode that is half the latency and a third less CPU.
 */
static void store_on_turn_end(uv_prepare_t *prepare) {
  struct store *store = prepare->data;
  struct store_shared *shared = &store->shared;
  if (store->fresh_count == 0) return;
  uv_mutex_lock(&store->lock);
  bool wake = must_wake(shared, hand_over_locked(store));
  bool here = is_quick(shared);
  shared->taken |= here;
  uv_mutex_unlock(&store->lock);
  if (here) {
    sigset_t before;
    signals_block(&before);
    bool attention = store_writer_group(store);
    signals_restore(&before);
    uv_mutex_lock(&store->lock);
    shared->taken = false;
    shared->wanted |= attention; /* the thread's step comes before our next group */
    wake = shared->wanted;
    uv_mutex_unlock(&store->lock);
  }
  if (wake) uv_cond_signal(&store->wake);
}

/* -- open and close -----------------------------------------------------------------------------
 */

static struct store *store_new(const struct store_config *config) {
  struct store *store = pf_alloc(sizeof(*store));
  store->config = *config;
  store->config.path = pf_strdup(config->path);
  store->config.vfs = config->vfs ? pf_strdup(config->vfs) : NULL;
  int rc = uv_mutex_init(&store->lock);
  PF_ASSERT(rc == 0);
  rc = uv_cond_init(&store->wake);
  PF_ASSERT(rc == 0);
  pf_list_init(&store->shared.waiting);
  pf_list_init(&store->shared.finished);
  pf_list_init(&store->shared.failed);
  pf_list_init(&store->shared.backups);
  pf_list_init(&store->shared.backups_ended);
  pf_list_init(&store->fresh);
  pf_list_init(&store->refused);
  return store;
}

static int handles_open(struct store *store, uv_loop_t *loop) {
  int rc = uv_async_init(loop, &store->async, store_on_async);
  if (rc != 0) return rc;
  (void)uv_prepare_init(loop, &store->turn_end); /* these two always return 0 */
  (void)uv_prepare_start(&store->turn_end, store_on_turn_end);
  uv_unref((uv_handle_t *)&store->turn_end);
  store->async.data = store->turn_end.data = store;
  store->handles = 2;
  return 0;
}

static int thread_start(struct store *store) {
  sigset_t before;
  signals_block(&before);
  int rc = uv_thread_create(&store->thread, store_writer_main, store); /* inherits the mask */
  signals_restore(&before);
  return rc;
}

int store_open(struct store **ret_store, uv_loop_t *loop, const struct store_config *config,
    struct pf_error *reterr) {
  PF_ASSERT(config->path && config->schema);
  struct store *store = store_new(config);
  int err = store_writer_init(store, reterr);
  if (err != PF_OK) {
    store_free(store);
    return err;
  }
  store->space_low = store->writer.space_low;
  int rc = handles_open(store, loop);
  if (rc == 0 && (rc = thread_start(store)) == 0) {
    *ret_store = store;
    return PF_OK;
  }
  store_writer_done(store);
  if (store->handles > 0)
    store_close_handles(store); /* frees it, in the loop's next turn */
  else
    store_free(store);
  return pf_error_set(reterr, PF_EIO, "cannot start the writer thread: %s", uv_strerror(rc));
}

void store_close(struct store *store, void (*closed)(void *arg), void *arg) {
  PF_ASSERT(!store->closing && closed);
  store->closing = true;
  store->closed = closed;
  store->closed_arg = arg;
  hand_over(store);
  uv_mutex_lock(&store->lock);
  store->shared.closing = true;
  uv_cond_signal(&store->wake);
  uv_mutex_unlock(&store->lock);
}

/* -- requests -----------------------------------------------------------------------------------
 */

void store_submit(struct store *store, struct store_req *req) {
  PF_ASSERT(req->apply && req->done);
  store->submitted++;
  if (store->closing) {
    req->err = PF_EIO;
    pf_list_push(&store->refused, &req->link);
    (void)uv_async_send(&store->async); /* fails on a wrong handle type only */
    return;
  }
  pf_list_push(&store->fresh, &req->link);
  store->fresh_urgent |= !req->lazy;
  if (++store->fresh_count == STORE_HAND_OVER_MAX) hand_over(store);
}

void store_backup(struct store *store, const char *path,
    void (*done)(void *arg, int err, const struct pf_error *why), void *arg) {
  PF_ASSERT(path && done);
  struct store_backup_req *req = pf_alloc(sizeof(*req));
  req->path = pf_strdup(path);
  req->done = done;
  req->arg = arg;
  store->backups++;
  uv_mutex_lock(&store->lock);
  if (store->closing) {
    req->err = pf_error_set(&req->why, PF_ECANCEL, "the store was closed");
    pf_list_push(&store->shared.backups_ended, &req->link);
    (void)uv_async_send(&store->async); /* fails on a wrong handle type only */
  } else {
    pf_list_push(&store->shared.backups, &req->link);
    uv_cond_signal(&store->wake);
  }
  uv_mutex_unlock(&store->lock);
}

bool store_space_low(const struct store *store) {
  return store->space_low;
}

void store_read_stats(const struct store *store, struct store_stats *ret_stats) {
  *ret_stats = store->stats;
  ret_stats->waiting = store->submitted - store->completed;
}
