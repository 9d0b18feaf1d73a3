/* Any bytes as a config file: refused with a text, or every value within its limits. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct config {
  bool flag;
  int64_t number, bytes;
  char *text;
  struct pf_listen_addr listen;
  int sync;
  struct pf_option_list hosts;
};

static const char *const sync_choices[] = {"full", "normal", NULL};
static const struct pf_option options[] = {
    {"flag", 0, PF_OPT_FLAG, offsetof(struct config, flag), NULL, "true", 0, 0, NULL, "a flag"},
    {"number", 0, PF_OPT_INT, offsetof(struct config, number), "ms", "5", -10, 10, NULL,
        "a number"},
    {"bytes", 0, PF_OPT_INT, offsetof(struct config, bytes), "bytes", "1k", 1, 1 << 30, NULL,
        "a size"},
    {"text", 0, PF_OPT_STRING, offsetof(struct config, text), NULL, NULL, 0, 0, NULL, "a text"},
    {"listen", 0, PF_OPT_ADDR, offsetof(struct config, listen), NULL, ":0", 0, 0, NULL,
        "an address"},
    {"sync", 0, PF_OPT_CHOICE, offsetof(struct config, sync), NULL, "full", 0, 0, sync_choices,
        "a choice"},
    {"host", 0, PF_OPT_LIST, offsetof(struct config, hosts), NULL, "a,b", 0, 0, NULL, "a list"},
};
static const struct pf_option_table table = {.program = "fuzz",
    .summary = "a table with each type",
    .env_prefix = "PF_OPTIONS_FUZZ_",
    .options = options,
    .count = PF_COUNT(options)};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  int fd = memfd_create("config", MFD_CLOEXEC);
  PF_ASSERT(fd >= 0);
  for (size_t done = 0; done < len;) {
    ssize_t n = write(fd, data + done, len - done);
    PF_ASSERT(n > 0);
    done += (size_t)n;
  }
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  char program[] = "fuzz", option[] = "--config";
  char *argv[] = {program, option, path, NULL};
  struct config config = {0};
  struct pf_error why = {0};
  int operand;
  int err = pf_options_parse(&table, &config, 3, argv, &operand, &why);
  PF_ASSERT(err == PF_OK || (err == PF_EINVAL && strstr(why.text, path)));
  if (!err) {
    PF_ASSERT(config.number >= -10 && config.number <= 10);
    PF_ASSERT(
        config.bytes >= 1 && config.bytes <= 1 << 30 && (config.sync == 0 || config.sync == 1));
    PF_ASSERT(config.hosts.count <= PF_OPTION_LIST_MAX);
    PF_ASSERT(config.listen.count >= 1 && config.listen.count <= PF_ADDR_MAX);
  }
  pf_options_free(&table, &config);
  close(fd);
  return 0;
}
