/* The classes of bench_origin: those of proxyfetch-origin, and `note`, whose messages do what those
 * of a small application do. The rest of the program is the same.
 *
 *   {"type":"echo","id":7}                 → {"type":"echoed","id":7}    a turn, nothing written
 *   {"type":"put","id":7,"value":"…"}      → {"type":"stored","id":7}    a turn that writes
 *
 * Messages write to ROWS rows by turns, so that those in one commit do not become one write. As
 * always the answer leaves when what the turn wrote is durable. */
#include <inttypes.h>
#include <stdio.h>

#include "origin/classes/classes.h"
#include "wire/json.h"

enum { ROWS = 1000 };

static int put_row(struct actor *actor, int64_t id, struct pf_slice value) {
  char key[32];
  int len = snprintf(key, sizeof(key), "row/%" PRId64, id % ROWS);
  return actor_put(actor, pf_slice(key, (size_t)len), value);
}

static int on_message(struct actor *actor, const struct actor_client *client,
    const struct client_message *message, struct pf_slice text) {
  bool put = pf_slice_is(message->type_name, "put");
  struct json *root;
  if (json_parse(&root, text, NULL)) return PF_EINVAL;
  int64_t id = 0;
  struct pf_slice value = {0};
  json_int(json_get(root, "id"), 0, ((int64_t)1 << 53) - 1, &id);
  if (put) json_string(json_get(root, "value"), &value);
  int err = put ? put_row(actor, id, value) : PF_OK;
  json_free(root);
  if (err) return err;
  char answer[64];
  int len = snprintf(answer, sizeof(answer), "{\"type\":\"%s\",\"id\":%" PRId64 "}",
      put ? "stored" : "echoed", id);
  actor_send(actor, client, pf_slice(answer, (size_t)len));
  return PF_OK;
}

static const struct actor_class class_note = {.name = "note", .on_message = on_message};

const struct actor_class *const classes[] = {&class_proxy, &class_checkout, &class_note, NULL};
