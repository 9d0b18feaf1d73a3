#include "clients/measure/proc.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "wire/json.h"

#define PROGRAM_PREFIX "proxyfetch-"
#define FOLDER_MAX 4096

int64_t proc_cpu_ns(int pid) {
  clockid_t clock;
  struct timespec used;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) return -1;
  return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

bool proc_add(struct proc_set *set, const char *role, int pid) {
  int64_t cpu_ns = proc_cpu_ns(pid);
  if (set->count == PROC_MAX || cpu_ns < 0) return false;
  for (size_t i = 0; i < set->count; i++)
    if (set->procs[i].pid == pid) return true;
  snprintf(set->procs[set->count].role, PROC_ROLE_MAX, "%s", role);
  set->procs[set->count].pid = pid;
  set->procs[set->count++].cpu_ns = cpu_ns;
  return true;
}

bool proc_add_list(struct proc_set *set, const char *list) {
  while (*list) {
    char role[PROC_ROLE_MAX];
    int pid, len = 0;
    if (sscanf(list, "%23[^=,]=%d%n", role, &pid, &len) != 2 || !proc_add(set, role, pid))
      return false;
    list += len;
    if (*list == ',')
      list++;
    else if (*list)
      return false;
  }
  return true;
}

/* The text of a small file of /proc. */
static bool proc_read(char *text, size_t size, int pid, const char *file) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
  FILE *in = fopen(path, "re");
  if (!in) return false;
  size_t len = fread(text, 1, size - 1, in);
  fclose(in);
  text[len] = '\0';
  return len > 0;
}

/* "origin" for a process that runs FOLDER/proxyfetch-origin. */
static bool role_of(int pid, char role[PROC_ROLE_MAX], char folder[FOLDER_MAX]) {
  char link[64];
  snprintf(link, sizeof(link), "/proc/%d/exe", pid);
  ssize_t len = readlink(link, folder, FOLDER_MAX - 1);
  if (len <= 0) return false;
  folder[len] = '\0';
  char *slash = strrchr(folder, '/');
  if (!slash || strncmp(slash + 1, PROGRAM_PREFIX, sizeof(PROGRAM_PREFIX) - 1) != 0) return false;
  snprintf(role, PROC_ROLE_MAX, "%s", slash + sizeof(PROGRAM_PREFIX));
  *slash = '\0';
  return true;
}

static int parent_of(int pid) {
  char stat[1024];
  int parent = 0;
  if (!proc_read(stat, sizeof(stat), pid, "stat")) return 0;
  const char *after_name = strrchr(stat, ')');
  return after_name && sscanf(after_name, ") %*c %d", &parent) == 1 ? parent : 0;
}

/* The pid of the `proxyfetch up` that started this process; 0 if it was started by hand. */
static int supervisor_of(int pid) {
  char name[64] = "";
  int parent = parent_of(pid);
  if (parent > 1) (void)proc_read(name, sizeof(name), parent, "comm");
  return strcmp(name, "proxyfetch\n") == 0 ? parent : 0;
}

void proc_add_family(struct proc_set *set, int pid) {
  struct proc_set family = *set;
  char own_role[PROC_ROLE_MAX], own_folder[FOLDER_MAX], role[PROC_ROLE_MAX], folder[FOLDER_MAX];
  if (!role_of(pid, own_role, own_folder)) return;
  int supervisor = supervisor_of(pid), same_role = 0;
  DIR *all = opendir("/proc");
  for (struct dirent *entry; all && (entry = readdir(all)) != NULL;) {
    int other = (int)strtol(entry->d_name, NULL, 10);
    if (other <= 0 || !role_of(other, role, folder) || strcmp(folder, own_folder) != 0 ||
        supervisor_of(other) != supervisor)
      continue;
    same_role += strcmp(role, own_role) == 0;
    (void)proc_add(&family, role, other);
  }
  if (all) closedir(all);
  if (same_role == 1 || supervisor)
    *set = family;
  else /* several systems were started by hand: whose is whose? */
    (void)proc_add(set, own_role, pid);
}

/* {"status":"ok","role":"origin","pid":123,...} */
void proc_add_answered(struct proc_set *set, struct pf_slice health) {
  struct json *root = NULL;
  int64_t pid;
  if (json_parse(&root, health, NULL) == PF_OK && json_type(root) == JSON_OBJECT &&
      json_int(json_get(root, "pid"), 1, INT32_MAX, &pid))
    proc_add_family(set, (int)pid);
  json_free(root);
}

void proc_sample(struct proc_set *set, int64_t ret_used_ns[PROC_MAX]) {
  for (size_t i = 0; i < set->count; i++) {
    int64_t now_ns = proc_cpu_ns(set->procs[i].pid);
    ret_used_ns[i] = now_ns < 0 ? 0 : now_ns - set->procs[i].cpu_ns;
    if (now_ns >= 0) set->procs[i].cpu_ns = now_ns;
  }
}
