#include "base/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

void metrics_family(struct pf_buf *buf, const char *name, const char *type, const char *help) {
  pf_buf_printf(buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_counter(struct pf_buf *buf, const char *name, const char *help, uint64_t value) {
  metrics_family(buf, name, "counter", help);
  pf_buf_printf(buf, "%s %llu\n", name, (unsigned long long)value);
}

void metrics_gauge(struct pf_buf *buf, const char *name, const char *help, double value) {
  metrics_family(buf, name, "gauge", help);
  pf_buf_printf(buf, "%s %.15g\n", name, value);
}

void metrics_sample(struct pf_buf *buf, const char *name, const char *label,
    const char *label_value, double value) {
  pf_buf_printf(buf, "%s{%s=\"%s\"} %.15g\n", name, label, label_value, value);
}

static double resident_bytes(void) {
  FILE *file = fopen("/proc/self/statm", "re");
  unsigned long size, resident = 0;
  if (!file) return 0;
  if (fscanf(file, "%lu %lu", &size, &resident) != 2) resident = 0;
  fclose(file);
  return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double open_files(void) {
  DIR *dir = opendir("/proc/self/fd");
  double count = -3; /* ".", ".." and the descriptor of dir itself */
  if (!dir) return 0;
  while (readdir(dir))
    count++;
  closedir(dir);
  return count;
}

void metrics_process(struct pf_buf *buf) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  metrics_family(buf, "process_cpu_seconds_total", "counter", "User and system time.");
  pf_buf_printf(buf, "process_cpu_seconds_total %.6f\n", cpu);
  metrics_gauge(buf, "process_resident_memory_bytes", "Resident memory.", resident_bytes());
  metrics_gauge(buf, "process_open_fds", "Open file descriptors.", open_files());
}
