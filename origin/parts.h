/* What the files of the core share with each other and with nobody else. One block per file.
 *
 * Threads, ownership, ordering: as in origin/core.h. */
#ifndef ORIGIN_PARTS_H
#define ORIGIN_PARTS_H

#include "origin/core.h"

/* ---- core.c ---- */

/* Asks the database, behind all that was decided before: an answer never misses a write that was
 * made earlier, durable or not. */
void core_ask(struct core *core, struct lookup *lookup);
/* The job may be one of an earlier run whose row is still to be read. */
bool core_is_unread(const struct core *core, uint64_t local);
/* If so: true, and done gets {n = local, token} later, behind another page of rows. */
bool core_await_row(struct core *core, uint64_t local, uint64_t token,
    void (*done)(struct core *core, struct lookup *lookup));

/* ---- actors.c: who is in memory, and what waits until it is ---- */

enum event_kind { EVENT_CONNECT, EVENT_MESSAGE, EVENT_CLOSE, EVENT_CONTINUATION, EVENT_API_FETCH };

/* Something that makes a turn. */
struct event {
  struct pf_list link;
  enum event_kind kind;
  struct actor_client client;
  uint64_t id;     /* CONTINUATION: local job id; API_FETCH: request id */
  int64_t wait_ms; /* API_FETCH: Prefer: wait */
  int64_t received_ns;
  uint64_t
      submit_scope; /* MESSAGE, API_FETCH: set with the digest once the submitKey was looked up */
  bool submit_checked;
  struct pf_slice text; /* MESSAGE, API_FETCH; owned by the event while it is queued */
};

/* Finds the actor or starts to load it. NULL: no such class. */
struct actor *actors_get(struct core *core, struct pf_slice class_name, struct pf_slice name);
struct actor *actors_get_by_id(struct core *core, uint64_t id);
/* Runs the event's turn now, or when the actor is loaded (the event is copied then). */
void actors_deliver(struct actor *actor, const struct event *event);
void actors_flush_dirty(struct core *core, struct commit *commit);
void actors_mark_dirty(struct actor *actor);
void actors_evict_idle(struct core *core);
void actors_done(struct core *core);
/* Its row is written before anything that names its id. */
void actors_ensure_row(struct actor *actor);

/* ---- turn.c: one turn, and the functions of actor.h ---- */

struct turn {
  struct actor *actor;
  struct job *job;                   /* in a continuation */
  const struct actor_result *result; /* in a continuation */
  struct commit_mark mark;
  struct pf_list made; /* jobs made in this turn, by struct job.ready */
  struct pf_buf logs;  /* JSON array without the closing bracket */
  unsigned log_lines;
  struct pf_buf reply; /* the result message without offset, once there is one */
  bool replied;
  bool enqueued_told; /* of the job, as the turn found it */
  int64_t received_ns;
  uint64_t submit_scope;
  struct pf_job_id first_job;
  struct pf_error refused; /* the first fetch that was */
};

void turn_run(struct actor *actor, const struct event *event);
/* A frame that leaves with the open commit. */
void turn_output_frame(struct core *core, uint64_t ws, const struct pf_buf *frame);

/* ---- jobs.c: the table of jobs that are not done ---- */

struct job *jobs_find(const struct core *core, uint64_t local);
struct job_new { /* slices are copied */
  uint64_t actor;
  const struct actor_continuation *continuation;
  const struct client_fetch *fetch;
  struct pf_slice context, continuation_name;
  struct actor_client client;
  bool keep_result;
  int64_t received_ns;
  uint64_t submit_scope; /* 0 = no submitKey in force */
};
struct job *jobs_make(struct core *core, const struct job_new *spec); /* COMMITTING */
void jobs_write_row(struct core *core, struct job *job);
struct job *jobs_load_row(struct core *core, const struct lookup_row *row); /* NULL: unreadable */
void jobs_move(struct core *core, struct job *job, enum job_state to);
void jobs_forget(struct core *core, struct job *job);
struct pf_job_id jobs_id(const struct core *core, const struct job *job);
/* Another clientId for the same job, by a repeated submitKey. */
void jobs_set_client_id(struct job *job, struct pf_slice client_id);
/* Its bytes are in its row, too. */
void jobs_release_request(struct core *core, struct job *job);
void jobs_done(struct core *core);
/* Ends it from here (cancel, deadline, lost): its continuation runs with the typed error. */
void jobs_end(struct core *core, struct job *job, enum outcome outcome, struct pf_slice text);

/* ---- submits.c: submitKey ---- */

void submits_digest(uint64_t ret_digest[2], const struct client_fetch *fetch);
struct job *submits_find(const struct core *core, uint64_t scope, struct pf_slice key);
void submits_add(struct core *core, struct job *job);
void submits_remove(struct core *core, struct job *job);
/* Looks the key up and then delivers the event, or answers with the job that has it. */
void submits_check(struct core *core, struct actor *actor, const struct event *event,
    const struct client_fetch *fetch);

/* ---- announce.c: telling the queue ---- */

void announce_now(struct core *core, struct job *job);
void announce_pump(struct core *core);
void announce_tick(struct core *core);
/* Until the queue has confirmed it. */
void announce_end(struct core *core, uint64_t local);
void announce_done(struct core *core);
void announce_tell_enqueued(struct core *core, struct job *job);

/* ---- results.c: what executors and the queue deliver ---- */

/* job->received is filled: makes it safe if the continuation asks for that, and runs it. */
void results_accept(struct core *core, struct job *job);
void results_run(struct core *core, uint64_t local); /* its result is safe: run the continuation */
void results_finish(
    struct core *core, struct turn *turn); /* the continuation's turn has ended well */
void results_failed(struct core *core, struct job *job); /* … or not */
void results_answer(struct core *core, uint64_t request, unsigned index, int answer);
void results_park(struct core *core, struct job *job, const char *why);
/* Of a results row; -1 = not known. */
int64_t results_attempts(const struct lookup_row *row);
void results_done(struct core *core);
void job_received_free(struct job_received *received);

/* ---- sessions.c ---- */

struct session *sessions_find(const struct core *core, uint64_t id);
/* by: a job of it has come (1) or gone (-1). */
void sessions_count_job(struct core *core, uint64_t id, int by);
void sessions_resume(
    struct core *core, struct socket *socket, const struct client_message *message);
void sessions_ack(struct core *core, struct session *session, int64_t offset);
/* Numbers, stores and sends an event; encode writes the frame for the given offset. */
void sessions_add_event(struct core *core, struct session *session,
    void (*encode)(struct pf_buf *buf, void *arg, int64_t offset), void *arg);
/* The same for a result or late result; its offset is filled in. */
void sessions_add_result(struct core *core, struct session *session, struct client_result *result);
/* The turn that made this event is undone, and no later event exists yet. */
void sessions_take_back(struct core *core, const struct output *output);
void sessions_on_event_durable(struct core *core, const struct output *output);
void sessions_on_greeted(struct core *core, uint64_t ws);
void sessions_detach(struct core *core, struct socket *socket);
void sessions_flush_dirty(struct core *core, struct commit *commit);
void sessions_tick(struct core *core);
void sessions_done(struct core *core);

/* ---- clients.c: sockets ---- */

/* The socket that serves the client now, 0 = none: a session may have moved to another one. */
uint64_t clients_ws(const struct core *core, const struct actor_client *client);
struct socket *clients_find(const struct core *core, uint64_t ws);
/* True if the message belonged to the connection (resume, ack, cancel, ping) and is dealt with. */
bool clients_handle(struct core *core, struct socket *socket, const struct client_message *message);
void clients_send_error(struct core *core, uint64_t ws, const char *code, struct pf_slice text,
    struct pf_slice client_id, struct pf_slice batch_id);
void clients_done(struct core *core);

/* ---- queries.c: HTTP requests that wait for a job ---- */

struct waiter {
  struct pf_list of_job;
  struct pf_heap_node until; /* ns */
  uint64_t request;
  uint64_t local;
  bool submitted; /* by POST …/fetch: answered 202 on time-out, else with the state */
};
void queries_wait(
    struct core *core, struct job *job, uint64_t request, int64_t wait_ms, bool submitted);
/* The job has ended: its waiters get the result with the open commit. */
void queries_answer_waiters(struct core *core, struct job *job, struct pf_slice message);
/* The state of a job that is done, whose row the look-up has found, to the request that is its
 * token. */
void queries_respond_done(struct core *core, const struct lookup *lookup);
void queries_tick(struct core *core);
void queries_done(struct core *core);
void queries_error(
    struct core *core, uint64_t request, int status, const char *code, const char *text);

#endif
