/* The actor classes that are built in. A new class is one file here, named in CMakeLists.txt, below
 * and in classes.c. */
#ifndef ORIGIN_CLASSES_H
#define ORIGIN_CLASSES_H

#include "origin/actor.h"

extern const struct actor_class class_proxy; /* docs/protocol.md: start-fetch, start-batch-fetch */
extern const struct actor_class class_checkout; /* docs/writing-actors.md: a chain of fetches */

/* All of them, NULL-terminated. */
extern const struct actor_class *const classes[];

#endif
