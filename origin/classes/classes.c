#include "origin/classes/classes.h"

const struct actor_class *const classes[] = {&class_proxy, &class_checkout, NULL};
