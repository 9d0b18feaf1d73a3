#include "clients/measure/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "clients/measure/build_info.h"

#define IDLE_CHECK_MS 200

void machine_read(struct machine *machine) {
  *machine = (struct machine){.cpu = "unknown processor",
      .cpus = sysconf(_SC_NPROCESSORS_ONLN),
      .memory_mib = (long)(sysconf(_SC_PHYS_PAGES) / 1024 * (sysconf(_SC_PAGESIZE) / 1024))};
  time_t now = (time_t)(pf_clock_wall_ms() / 1000);
  struct tm tm;
  gmtime_r(&now, &tm);
  strftime(machine->date, sizeof(machine->date), "%Y-%m-%dT%H:%M:%SZ", &tm);
  struct utsname name;
  if (uname(&name) == 0)
    snprintf(machine->kernel, sizeof(machine->kernel), "%s %s %s", name.sysname, name.release,
        name.machine);
  FILE *info = fopen("/proc/cpuinfo", "re");
  char line[256];
  while (info && fgets(line, sizeof(line), info)) {
    char *colon = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
    if (!colon) continue;
    snprintf(machine->cpu, sizeof(machine->cpu), "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    break;
  }
  if (info) fclose(info);
}

double machine_busy_share(void) {
  unsigned long long before[2] = {0}, after[2] = {0};
  for (int round = 0; round < 2; round++) {
    unsigned long long *at = round ? after : before, part[8] = {0};
    FILE *in = fopen("/proc/stat", "re");
    if (!in) return 0;
    int got = fscanf(in, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &part[0], &part[1],
        &part[2], &part[3], &part[4], &part[5], &part[6], &part[7]);
    fclose(in);
    if (got != 8) return 0;
    for (int i = 0; i < 8; i++)
      at[1] += part[i];
    at[0] = at[1] - part[3] - part[4]; /* idle, waiting for disks */
    struct timespec pause = {.tv_nsec = IDLE_CHECK_MS * 1000000};
    if (round == 0) nanosleep(&pause, NULL);
  }
  return after[1] > before[1] ? (double)(after[0] - before[0]) / (double)(after[1] - before[1]) : 0;
}

void machine_write(const struct machine *machine, struct json_writer *w) {
  json_put_text(w, "date", machine->date);
  json_put_text(w, "commit", build_commit());
  json_put_text(w, "version", PF_VERSION);
  json_begin_object(w, "machine");
  json_put_int(w, "cpus", machine->cpus);
  json_put_text(w, "cpu", machine->cpu);
  json_put_int(w, "memoryMiB", machine->memory_mib);
  json_put_text(w, "kernel", machine->kernel);
  json_end_object(w);
}
