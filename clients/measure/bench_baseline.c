#include "clients/measure/bench_baseline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "wire/json.h"

#define PATH_TEXT 4096
#define STATE_FOLDER "/proxyfetch/bench"

/* The file of a baseline, or with name NULL their folder. */
static int baseline_path(char path[PATH_TEXT], const char *name, struct pf_error *reterr) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
  bool own = state && *state;
  if (name && (!*name || *name == '.' || strlen(name) > 64 || name[strspn(name, allowed)]))
    return pf_error_set(
        reterr, PF_EINVAL, "'%s': letters, digits, '-', '_' and '.' make a name", name);
  if (!own && !home) return pf_error_set(reterr, PF_EINVAL, "HOME is not set");
  snprintf(path, PATH_TEXT, "%s%s" STATE_FOLDER "%s%s%s", own ? state : home,
      own ? "" : "/.local/state", name ? "/" : "", name ? name : "", name ? ".json" : "");
  return PF_OK;
}

static int make_folders(char *path, struct pf_error *reterr) {
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    bool failed = mkdir(path, 0777) != 0 && errno != EEXIST;
    if (failed) return pf_error_set(reterr, PF_EIO, "%s: %s", path, strerror(errno));
    *slash = '/';
  }
  return PF_OK;
}

int bench_baseline_save(
    const struct bench_result *result, const char *name, struct pf_error *reterr) {
  char path[PATH_TEXT];
  int err = baseline_path(path, name, reterr);
  if (!err) err = make_folders(path, reterr);
  if (err) return err;
  struct pf_buf text;
  pf_buf_init(&text, BENCH_BASELINE_MAX);
  bench_result_json(result, BENCH_FIGURES_ONLY, &text);
  FILE *out = fopen(path, "we");
  bool written = out && fwrite(text.data, 1, text.len, out) == text.len;
  if (out) written = fclose(out) == 0 && written;
  pf_buf_done(&text);
  return written ? PF_OK : pf_error_set(reterr, PF_EIO, "%s: %s", path, strerror(errno));
}

static int baseline_read(struct json **ret_root, const char *name, struct pf_error *reterr) {
  char path[PATH_TEXT];
  int err = baseline_path(path, name, reterr);
  if (err) return err;
  FILE *in = fopen(path, "re");
  if (!in)
    return pf_error_set(reterr, PF_EINVAL,
        "there is no baseline '%s' (%.300s: %s); --save-baseline keeps one", name, path,
        strerror(errno));
  char *text = pf_alloc(BENCH_BASELINE_MAX);
  size_t len = fread(text, 1, BENCH_BASELINE_MAX, in);
  fclose(in);
  err = json_parse(ret_root, pf_slice(text, len), reterr);
  free(text);
  return err;
}

int bench_baseline_check(const char *baseline, const char *save, struct pf_error *reterr) {
  char path[PATH_TEXT];
  struct json *root = NULL;
  int err = save ? baseline_path(path, save, reterr) : PF_OK;
  if (!err && baseline) err = baseline_read(&root, baseline, reterr);
  json_free(root);
  return err;
}

int bench_baseline_compare(const struct bench_result *r, const char *name, double threshold,
    bool *ret_worse, struct pf_error *reterr) {
  static const char *const shown[] = {"fetches_per_s", "p50_ms", "p90_ms", "p99_ms", "cpu_us"};
  struct json *root;
  int err = baseline_read(&root, name, reterr);
  if (err) return err;
  const struct json *figures = json_type(root) == JSON_OBJECT ? json_get(root, "figures") : NULL;
  bool worse = false;
  fprintf(stderr, "\nagainst %s:\n", name);
  for (size_t i = 0; i < PF_COUNT(shown); i++) {
    double old = 0, now = bench_result_figure(r, shown[i]);
    if (!figures || json_type(figures) != JSON_OBJECT ||
        !json_double(json_get(figures, shown[i]), &old) || old <= 0)
      continue;
    double change = now / old - 1;
    bool bad = (i == 0 && change < -threshold) || (i == 3 && change > threshold);
    worse |= bad;
    fprintf(stderr, "  %-14s %12.3f %12.3f  %+6.1f %%%s\n", shown[i], old, now, change * 100,
        bad ? "  worse" : "");
  }
  json_free(root);
  *ret_worse = worse;
  return PF_OK;
}
