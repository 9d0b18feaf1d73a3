/* Runs a fuzz target over the files given, or over the files of directories given: the corpus as an
 * ordinary test, without libFuzzer. Each file also goes in cut short, once per length. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { PATH_BYTES = 4096, CUTS_MAX = 1024 };

/* An input of its own allocation, so that a step beyond its end is seen. */
static void run(const struct pf_buf *content, size_t len) {
  uint8_t *exact = pf_realloc(NULL, len);
  if (len) memcpy(exact, content->data, len);
  LLVMFuzzerTestOneInput(exact, len);
  free(exact);
}

static int replay_file(const char *path) {
  FILE *file = fopen(path, "re");
  if (!file) return -1;
  struct pf_buf content;
  pf_buf_init(&content, PF_BUF_MAX_DEFAULT);
  char piece[4096];
  for (size_t n; (n = fread(piece, 1, sizeof(piece), file)) > 0;)
    pf_buf_append(&content, piece, n);
  int err = ferror(file) || content.err ? -1 : 0;
  fclose(file);
  for (size_t cut = 0; !err && cut < content.len && cut < CUTS_MAX; cut++)
    run(&content, cut);
  if (!err) run(&content, content.len);
  pf_buf_done(&content);
  return err;
}

static int replay_directory(const char *path, unsigned *files) {
  DIR *dir = opendir(path);
  if (!dir) return -1;
  int err = 0;
  for (struct dirent *entry; !err && (entry = readdir(dir)) != NULL;) {
    char name[PATH_BYTES];
    if (entry->d_name[0] == '.') continue;
    snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
    err = replay_file(name);
    ++*files;
  }
  closedir(dir);
  return err;
}

int main(int argc, char **argv) {
  unsigned files = 0;
  for (int i = 1; i < argc; i++) {
    struct stat info;
    int err = stat(argv[i], &info);
    if (!err)
      err = S_ISDIR(info.st_mode) ? replay_directory(argv[i], &files) : replay_file(argv[i]);
    if (!err && !S_ISDIR(info.st_mode)) files++;
    if (err) {
      fprintf(stderr, "cannot read %s\n", argv[i]);
      return 1;
    }
  }
  printf("%u inputs\n", files);
  return files > 0 ? 0 : 1; /* an empty corpus proves nothing */
}
