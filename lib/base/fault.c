#include "base/fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef PF_FAULTS

enum { LABELS_MAX = 64, LABEL_TEXT = 64 };

/* The one exception to "no mutable file-scope state": it exists in fault builds only, and a crash
 * point must be reachable from anywhere without a handle. */
static struct {
  pthread_mutex_t lock;
  unsigned count;
  struct {
    char label[LABEL_TEXT];
    unsigned hits;
  } seen[LABELS_MAX];
} faults = {.lock = PTHREAD_MUTEX_INITIALIZER};

static unsigned fault_count(const char *label) {
  for (unsigned i = 0; i < faults.count; i++)
    if (strcmp(faults.seen[i].label, label) == 0) return ++faults.seen[i].hits;
  if (faults.count == LABELS_MAX) return 0;
  snprintf(faults.seen[faults.count].label, LABEL_TEXT, "%s", label);
  return faults.seen[faults.count++].hits = 1;
}

static void fault_record(const char *label, unsigned hit) {
  const char *path = getenv("PF_FAULT_LOG");
  if (!path || hit != 1) return;
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return;
  dprintf(fd, "%s\n", label);
  close(fd);
}

void pf_fault_hit(const char *label) {
  const char *plan = getenv("PF_CRASH");
  if (!plan && !getenv("PF_FAULT_LOG")) return;
  pthread_mutex_lock(&faults.lock);
  unsigned hit = fault_count(label);
  fault_record(label, hit);
  size_t len = strlen(label);
  if (plan && strncmp(plan, label, len) == 0 && plan[len] == ':') {
    char *end;
    unsigned long at = strtoul(plan + len + 1, &end, 10);
    if (hit == at) {
      if (strcmp(end, ":stop") == 0)
        raise(SIGSTOP);
      else
        _exit(137);
    }
  }
  pthread_mutex_unlock(&faults.lock);
}

bool pf_fault_breaks(const char *label) {
  const char *plan = getenv("PF_BREAK");
  return plan && strcmp(plan, label) == 0;
}

int64_t pf_fault_limit(const char *name, int64_t value) {
  const char *at = getenv("PF_LIMIT");
  size_t len = strlen(name);
  for (; at; at = strchr(at, ',')) {
    at += *at == ',';
    if (strncmp(at, name, len) == 0 && at[len] == ':') return strtoll(at + len + 1, NULL, 10);
  }
  return value;
}

#else

void pf_fault_hit(const char *label) {
  (void)label;
}

bool pf_fault_breaks(const char *label) {
  (void)label;
  return false;
}

int64_t pf_fault_limit(const char *name, int64_t value) {
  (void)name;
  return value;
}

#endif
