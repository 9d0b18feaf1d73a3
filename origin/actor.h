/* What an actor class is written against: the only header that a class includes.
 *
 * A class is a table of functions. Each call of one of them is a *turn*: it runs alone, sees the
 * actor's state as all earlier turns left it, and what it does - state changes, messages to
 * clients, fetches - becomes durable and visible together, or not at all. Nothing leaves the
 * process before the turn is on disk. A turn that returns a negative value is undone as a whole.
 *
 * A continuation is named, because it outlives the process that asked for the fetch. It runs
 * exactly once with effect; if the process dies in the middle it runs again from the start.
 *
 * Threads    One loop thread runs all turns; no function here blocks.
 * Ownership  Slices handed to a class are valid during the turn; slices handed in are copied.
 * Ordering   Turns of one actor run one at a time. Messages to one client keep their order.
 * Limits     ACTOR_KEY_MAX, ACTOR_VALUE_MAX, ACTOR_STATE_MAX per actor, ACTOR_LOG_LINES_MAX lines a
 * turn; requests as in wire/request.h. */
#ifndef ORIGIN_ACTOR_H
#define ORIGIN_ACTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "wire/client.h"

#define ACTOR_KEY_MAX 512
#define ACTOR_VALUE_MAX ((size_t)1 << 20)
#define ACTOR_STATE_MAX ((size_t)16 << 20) /* keys and values of one actor together */
#define ACTOR_LOG_LINES_MAX 100
#define ACTOR_LOG_LINE_MAX 1024

struct actor; /* the actor whose turn it is */

/* Whom to answer: a WebSocket client, a session, a waiting HTTP request, or nobody (all zero). It
 * may be kept inside a fetch; it is never kept in state, because sockets do not outlive the
 * process. */
struct actor_client {
  uint64_t ws;      /* socket, 0 = none */
  uint64_t session; /* durable session, 0 = none */
};

/* What a continuation is given: a response, or a typed error with its certainty. */
struct actor_result {
  struct pf_job_id job;
  enum outcome outcome; /* OUTCOME_OK, or why not */
  enum certainty certainty;
  int attempts;
  int status;
  struct pf_slice error; /* human text, empty if ok */
  const struct wire_header *headers;
  size_t header_count;
  bool has_body;
  struct pf_slice body;
  int64_t response_length;
  struct actor_client client; /* who asked */
};

struct actor_continuation {
  const char *name;
  /* Nothing this code does can take the process down, so result and effects may share one commit.
   * Leave it false for code that is not part of this program's tests. */
  bool cannot_crash;
  unsigned needs; /* enum wire_include bits that run() reads beyond what the client asked for */
  /* context: the JSON text given to actor_fetch, empty if none. */
  int (*run)(struct actor *actor, const struct actor_result *result, struct pf_slice context);
};

struct actor_class {
  const char *name;
  /* Each may be NULL. A negative result undoes the turn; the client gets an error. */
  int (*on_connect)(struct actor *actor, const struct actor_client *client);
  /* message is decoded and checked if its type is one of protocol.md's, else type CLIENT_UNKNOWN.
   */
  int (*on_message)(struct actor *actor, const struct actor_client *client,
      const struct client_message *message, struct pf_slice text);
  int (*on_close)(struct actor *actor, const struct actor_client *client);
  const struct actor_continuation *continuations;
  size_t continuation_count;
};

/* ---- state: durable, part of the turn ---- */

/* The value, valid until the key is next written; false if absent. */
bool actor_get(struct actor *actor, struct pf_slice key, struct pf_slice *ret_value);
/* PF_ELIMIT over a limit; nothing is changed then. */
PF_MUST_CHECK int actor_put(struct actor *actor, struct pf_slice key, struct pf_slice value);
void actor_delete(struct actor *actor, struct pf_slice key);
/* Calls each(key, value, arg) for the keys that begin with prefix, in byte order, until it returns
 * false. each must not write state. */
void actor_list(struct actor *actor, struct pf_slice prefix,
    bool (*each)(struct pf_slice key, struct pf_slice value, void *arg), void *arg);

/* ---- fetches ---- */

struct actor_fetch {
  const struct client_fetch *fetch; /* request, budgets, keys, include; see actor_fetch_get */
  const char *continuation;         /* of this class */
  struct pf_slice context;          /* JSON text, at most WIRE_CONTEXT_MAX */
  struct actor_client client;       /* whom the result is for, if anybody */
  bool keep_result;                 /* readable over GET /v1/jobs/{id} afterwards */
};
/* Fills fetch with a GET of url and the default budgets. Errors: PF_EINVAL with a text. */
PF_MUST_CHECK int actor_fetch_get(
    struct client_fetch *fetch, struct pf_slice url, struct pf_error *reterr);
/* Becomes durable with the turn; the continuation runs later. Errors: PF_EINVAL (unknown
 * continuation), PF_ELIMIT (too many pending jobs), PF_ENOSPC (the disk is nearly full); the turn
 * may go on. */
PF_MUST_CHECK int actor_fetch(struct actor *actor, const struct actor_fetch *fetch,
    struct pf_job_id *ret_job, struct pf_error *reterr);

/* ---- messages ---- */

/* One text frame to one client. To a session it is not stored; see actor_send_event. */
void actor_send(struct actor *actor, const struct actor_client *client, struct pf_slice text);
/* A message to one client, given as the text of a JSON object. To a session it is stored and
 * numbered (member `offset`) like a result, and replayed when the client returns. PF_EINVAL: not an
 * object. */
PF_MUST_CHECK int actor_send_event(
    struct actor *actor, const struct actor_client *client, struct pf_slice object);
/* To every socket of this actor. */
void actor_broadcast(struct actor *actor, struct pf_slice text);
/* The standard `result` message for the continuation's own job, as the client asked for it
 * (include); stored and numbered if the client has a session. Only inside a continuation. */
void actor_reply(struct actor *actor, const struct actor_result *result);
/* `batch-complete`, stored and numbered if the client has a session. */
void actor_send_batch_complete(struct actor *actor, const struct actor_client *client,
    struct pf_slice batch_id, int64_t count, int64_t success_count);
/* An `error` message. */
void actor_send_error(struct actor *actor, const struct actor_client *client, const char *code,
    struct pf_slice text, struct pf_slice client_id, struct pf_slice batch_id);

/* A line for the log and for include:["logs"]. Lines over the limits are cut or dropped. */
void actor_log(struct actor *actor, const char *fmt, ...) PF_PRINTF(2, 3);

/* Takes back all that this turn has done so far; the turn goes on. */
void actor_undo(struct actor *actor);

/* Who we are. */
struct pf_slice actor_name(const struct actor *actor);

#endif
