#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/options.h"

struct config {
  bool quiet;
  int64_t number, bytes;
  char *text;
  struct pf_listen_addr listen;
  int sync;
  struct pf_option_list hosts;
};

#define AT(field) offsetof(struct config, field)
static const char *const sync_names[] = {"full", "normal", NULL};
static const struct pf_option options[] = {
    {"quiet", 'q', PF_OPT_FLAG, AT(quiet), NULL, NULL, 0, 0, NULL, "a flag"},
    {"number-ms", 'n', PF_OPT_INT, AT(number), "ms", "5", -10, 1000, NULL, "a number"},
    {"bytes", 0, PF_OPT_INT, AT(bytes), "bytes", "1k", 1, (int64_t)4 << 30, NULL, "a size"},
    {"text", 't', PF_OPT_STRING, AT(text), NULL, "from default", 0, 0, NULL, "a text"},
    {"listen", 0, PF_OPT_ADDR, AT(listen), "ADDR:PORT", "localhost:1", 0, 0, NULL, "an address"},
    {"sync", 0, PF_OPT_CHOICE, AT(sync), NULL, "full", 0, 0, sync_names, "a choice"},
    {"host", 0, PF_OPT_LIST, AT(hosts), "HOST", "d1,d2", 0, 0, NULL, "a list"},
};
static const struct pf_option_table table = {.program = "options-test",
    .summary = "every type once",
    .env_prefix = "PF_OPTIONS_TEST_",
    .options = options,
    .count = PF_COUNT(options)};

/* One parse: the words of the command line, and what came of it. */
struct parsed {
  struct config config;
  struct pf_error why;
  int err, operand;
};

enum { WORDS_MAX = 200 };

static void parse_with(
    struct parsed *p, const struct pf_option_table *with, const char *const *words) {
  char *argv[WORDS_MAX + 2] = {(char *)"options-test"};
  int argc = 1;
  for (; words[argc - 1]; argc++)
    argv[argc] = (char *)words[argc - 1];
  *p = (struct parsed){.operand = -1};
  p->err = pf_options_parse(with, &p->config, argc, argv, &p->operand, &p->why);
}

#define PARSE(...) PARSE_WORDS(__VA_ARGS__, NULL)
#define PARSE_WORDS(p, ...) parse_with(p, &table, (const char *const[]){__VA_ARGS__})

static void done(struct parsed *p) {
  pf_options_free(&table, &p->config);
}

/* A config file with this content, open until file_close. */
struct file {
  int fd;
  char path[64];
};

static void file_open(struct file *file, const void *content, size_t len) {
  file->fd = memfd_create("config", MFD_CLOEXEC);
  assert_true(file->fd >= 0);
  assert_int_equal(write(file->fd, content, len), len);
  snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->fd);
}

static void file_close(struct file *file) {
  close(file->fd);
}

static int reset_environment(void **state) {
  (void)state;
  static const char *const names[] = {
      "QUIET", "NUMBER_MS", "BYTES", "TEXT", "LISTEN", "SYNC", "HOST"};
  for (size_t i = 0; i < PF_COUNT(names); i++) {
    char name[64];
    snprintf(name, sizeof(name), "PF_OPTIONS_TEST_%s", names[i]);
    unsetenv(name);
  }
  return 0;
}

static void assert_hosts(const struct config *config, const char *joined) {
  char found[256] = "";
  for (size_t i = 0; i < config->hosts.count; i++) {
    size_t len = strlen(found);
    snprintf(found + len, sizeof(found) - len, "%s%s", i ? "," : "", config->hosts.items[i]);
  }
  assert_string_equal(found, joined);
}

/* ---- values ---- */

static void test_defaults(void **state) {
  (void)state;
  struct parsed p;
  PARSE(&p);
  assert_int_equal(p.err, PF_OK);
  assert_int_equal(p.operand, 1);
  assert_true(!p.config.quiet && p.config.number == 5 && p.config.bytes == 1024);
  assert_string_equal(p.config.text, "from default");
  assert_true(p.config.listen.count == 2 && p.config.listen.port == 1 && p.config.sync == 0);
  assert_hosts(&p.config, "d1,d2");
  done(&p);
}

static void test_every_type_on_the_command_line(void **state) {
  (void)state;
  struct parsed p;
  PARSE(&p, "--quiet", "--number-ms=7", "--bytes", "3m", "-t", "x y", "--listen=[::1]:9", "--sync",
      "normal", "--host", "a,b", "--host=c");
  assert_int_equal(p.err, PF_OK);
  assert_true(p.config.quiet && p.config.number == 7 && p.config.bytes == 3 << 20);
  assert_string_equal(p.config.text, "x y");
  assert_true(p.config.listen.count == 1 && p.config.listen.port == 9 && p.config.sync == 1);
  assert_hosts(&p.config, "a,b,c"); /* on the command line a comma is part of the value */
  assert_int_equal(p.config.hosts.count, 2);
  done(&p);
  PARSE(&p, "-qn", "8", "--no-quiet", "--text=first", "--text=", "--number-ms", "-3");
  assert_int_equal(p.err, PF_OK);
  assert_true(!p.config.quiet && p.config.number == -3); /* the last one counts */
  assert_string_equal(p.config.text, "");
  done(&p);
}

static void test_words_of_flags(void **state) {
  (void)state;
  static const char *const yes[] = {"1", "true", "yes", "on"}, *const no[] = {
                                                                   "0", "false", "no", "off"};
  struct parsed p;
  for (size_t i = 0; i < PF_COUNT(yes); i++) {
    setenv("PF_OPTIONS_TEST_QUIET", yes[i], 1);
    PARSE(&p);
    assert_true(p.err == PF_OK && p.config.quiet);
    done(&p);
    setenv("PF_OPTIONS_TEST_QUIET", no[i], 1);
    PARSE(&p);
    assert_true(p.err == PF_OK && !p.config.quiet);
    done(&p);
  }
}

/* ---- which source wins ---- */

static void test_precedence(void **state) {
  (void)state;
  static const char text[] = "# a comment\n\n number-ms = 2 \ntext=from file\nquiet=yes\n"
                             "sync = normal\n\thost = f1,f2\r\nhost = f3";
  struct file file;
  struct parsed p;
  file_open(&file, text, sizeof(text) - 1);
  PARSE(&p, "--config", file.path);
  assert_int_equal(p.err, PF_OK);
  assert_true(p.config.number == 2 && p.config.quiet && p.config.sync == 1);
  assert_string_equal(p.config.text, "from file");
  assert_hosts(&p.config, "f1,f2,f3"); /* instead of the defaults */
  done(&p);

  setenv("PF_OPTIONS_TEST_NUMBER_MS", "3", 1);
  setenv("PF_OPTIONS_TEST_TEXT", "from environment", 1);
  setenv("PF_OPTIONS_TEST_HOST", "e1,,e2", 1);
  PARSE(&p, "--config", file.path);
  assert_int_equal(p.err, PF_OK);
  assert_true(p.config.number == 3 && p.config.quiet);
  assert_string_equal(p.config.text, "from environment");
  assert_hosts(&p.config, "e1,e2");
  done(&p);

  PARSE(&p, "--number-ms", "4", "--config", file.path, "--host", "c1", "--no-quiet");
  assert_int_equal(p.err, PF_OK);
  assert_true(p.config.number == 4 && !p.config.quiet && p.config.sync == 1);
  assert_string_equal(p.config.text, "from environment");
  assert_hosts(&p.config, "c1");
  done(&p);
  file_close(&file);
}

/* ---- what is refused, and how it says where ---- */

/* The text has each of the words. */
static void assert_refused(const struct parsed *p, const char *first, const char *second) {
  assert_int_equal(p->err, PF_EINVAL);
  if (!strstr(p->why.text, first) || !strstr(p->why.text, second))
    fail_msg("'%s' lacks '%s' or '%s'", p->why.text, first, second);
}

static void test_bad_values_name_option_and_source(void **state) {
  (void)state;
  static const char *const cases[][2] = {{"number-ms", "11x"}, {"number-ms", ""},
      {"number-ms", "1001"}, {"number-ms", "-11"}, {"number-ms", "1k"},
      {"number-ms", "99999999999999999999"}, {"bytes", "0"}, {"bytes", "1kb"}, {"bytes", "1t"},
      {"bytes", "5g"}, {"bytes", "-1k"}, {"bytes", "99999999999g"}, {"bytes", "k"},
      {"listen", "nowhere"}, {"listen", "example.com:80"}, {"sync", "fast"}, {"sync", ""}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    char option[64], variable[64], line[80];
    struct parsed p;
    snprintf(option, sizeof(option), "--%s=%s", cases[i][0], cases[i][1]);
    PARSE(&p, option);
    assert_refused(&p, "command line", cases[i][0]);
    done(&p);

    int len = snprintf(variable, sizeof(variable), "PF_OPTIONS_TEST_%s", cases[i][0]);
    for (int k = 0; k < len; k++)
      variable[k] =
          variable[k] == '-' ? '_' : (char)(variable[k] >= 'a' ? variable[k] - 32 : variable[k]);
    setenv(variable, cases[i][1], 1);
    PARSE(&p);
    assert_refused(&p, variable, cases[i][0]);
    done(&p);
    unsetenv(variable);

    struct file file;
    len = snprintf(line, sizeof(line), "\n%s = %s\n", cases[i][0], cases[i][1]);
    file_open(&file, line, (size_t)len);
    PARSE(&p, "--config", file.path);
    snprintf(line, sizeof(line), "%s:2", file.path);
    assert_refused(&p, line, cases[i][0]);
    done(&p);
    file_close(&file);
  }
  setenv("PF_OPTIONS_TEST_QUIET", "maybe", 1);
  struct parsed p;
  PARSE(&p);
  assert_refused(&p, "PF_OPTIONS_TEST_QUIET", "true or false");
  done(&p);
}

static void test_unknown_and_incomplete(void **state) {
  (void)state;
  struct parsed p;
  PARSE(&p, "--colour", "red");
  assert_refused(&p, "--colour", "--help");
  done(&p);
  PARSE(&p, "--number-ms");
  assert_refused(&p, "--number-ms", "needs a value");
  done(&p);
  PARSE(&p, "stray");
  assert_refused(&p, "stray", "unexpected");
  done(&p);
  PARSE(&p, "--config", "/proc/self/no-such-file");
  assert_refused(&p, "/proc/self/no-such-file", "cannot read");
  done(&p);
  static const char *const lines[][2] = {
      {"colour = red\n", "colour"}, {"just words\n", "name = value"}, {"= 5\n", "unknown key"}};
  for (size_t i = 0; i < PF_COUNT(lines); i++) {
    struct file file;
    file_open(&file, lines[i][0], strlen(lines[i][0]));
    PARSE(&p, "--config", file.path);
    assert_refused(&p, file.path, lines[i][1]);
    done(&p);
    file_close(&file);
  }
  struct file file;
  file_open(&file, "text = a\0b\n", 11); /* what is behind it would be lost in silence */
  PARSE(&p, "--config", file.path);
  assert_refused(&p, file.path, "NUL");
  done(&p);
  file_close(&file);
}

/* ---- limits ---- */

static void test_numbers_at_their_limits(void **state) {
  (void)state;
  static const struct {
    const char *word;
    int err;
  } cases[] = {{"--number-ms=-10", PF_OK}, {"--number-ms=-11", PF_EINVAL},
      {"--number-ms=1000", PF_OK}, {"--number-ms=1001", PF_EINVAL}, {"--bytes=1", PF_OK},
      {"--bytes=0", PF_EINVAL}, {"--bytes=4g", PF_OK}, {"--bytes=4194305k", PF_EINVAL},
      {"--bytes=4294967296", PF_OK}, {"--bytes=4294967297", PF_EINVAL}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct parsed p;
    PARSE(&p, cases[i].word);
    if (p.err != cases[i].err) fail_msg("%s", cases[i].word);
    done(&p);
  }
}

static void test_value_length_at_its_limit(void **state) {
  (void)state;
  char *word = malloc(sizeof("--text=") + PF_OPTION_VALUE_MAX + 1);
  assert_non_null(word);
  for (size_t len = PF_OPTION_VALUE_MAX; len <= PF_OPTION_VALUE_MAX + 1; len++) {
    memcpy(word, "--text=", 7);
    memset(word + 7, 'v', len);
    word[7 + len] = '\0';
    struct parsed p;
    PARSE(&p, word);
    if (len > PF_OPTION_VALUE_MAX)
      assert_refused(&p, "text", "longer");
    else
      assert_int_equal(strlen(p.config.text), len);
    done(&p);
  }
  free(word);
}

static void test_list_at_its_limit(void **state) {
  (void)state;
  const char *words[PF_OPTION_LIST_MAX + 2];
  for (size_t count = PF_OPTION_LIST_MAX; count <= PF_OPTION_LIST_MAX + 1; count++) {
    for (size_t i = 0; i < count; i++)
      words[i] = "--host=h";
    words[count] = NULL;
    struct parsed p;
    parse_with(&p, &table, words);
    if (count > PF_OPTION_LIST_MAX)
      assert_refused(&p, "host", "more than");
    else
      assert_int_equal(p.config.hosts.count, count);
    done(&p);
  }
}

static void test_file_size_at_its_limit(void **state) {
  (void)state;
  char *content = malloc(PF_CONFIG_FILE_MAX + 1);
  assert_non_null(content);
  memset(content, '#', PF_CONFIG_FILE_MAX + 1);
  memcpy(content, "text = t\n", 9);
  for (size_t len = PF_CONFIG_FILE_MAX; len <= PF_CONFIG_FILE_MAX + 1; len++) {
    struct file file;
    struct parsed p;
    file_open(&file, content, len);
    PARSE(&p, "--config", file.path);
    if (len > PF_CONFIG_FILE_MAX)
      assert_refused(&p, file.path, "larger");
    else
      assert_true(p.err == PF_OK && strcmp(p.config.text, "t") == 0);
    done(&p);
    file_close(&file);
  }
  free(content);
}

/* ---- operands ---- */

static void test_operands(void **state) {
  (void)state;
  struct pf_option_table with = table;
  struct parsed p;
  with.operands = "URL";
  static const char *const words[] = {"--quiet", "--number-ms", "9", "first", "second", NULL};
  parse_with(&p, &with, words);
  assert_true(p.err == PF_OK && p.config.quiet && p.config.number == 9);
  assert_int_equal(p.operand, 4);
  done(&p);
  static const char *const dashes[] = {"--", "--quiet", NULL};
  parse_with(&p, &with, dashes);
  assert_true(p.err == PF_OK && !p.config.quiet);
  assert_int_equal(p.operand, 2);
  done(&p);
}

/* ---- addresses ---- */

static void test_addresses(void **state) {
  (void)state;
  static const struct {
    const char *text, *printed, *second; /* printed NULL: refused */
  } cases[] = {{"127.0.0.1:80", "127.0.0.1:80", NULL}, {"0.0.0.0:0", "0.0.0.0:0", NULL},
      {"[::1]:65535", "[::1]:65535", NULL}, {"[::]:1", "[::]:1", NULL},
      {"localhost:8787", "127.0.0.1:8787", "[::1]:8787"}, {":5", "127.0.0.1:5", "[::1]:5"},
      {"", NULL, NULL}, {":", NULL, NULL}, {"127.0.0.1", NULL, NULL}, {"127.0.0.1:", NULL, NULL},
      {"127.0.0.1:65536", NULL, NULL}, {"127.0.0.1:-1", NULL, NULL}, {"127.0.0.1:+1", NULL, NULL},
      {"127.0.0.1: 1", NULL, NULL}, {"127.0.0.1:1x", NULL, NULL},
      {"127.0.0.1:99999999999999999999", NULL, NULL}, {"::1:80", NULL, NULL}, {"[::1]", NULL, NULL},
      {"[::1:80", NULL, NULL}, {"[]:80", NULL, NULL}, {"[127.0.0.1]:80", NULL, NULL},
      {"127.1:80", NULL, NULL}, {"256.0.0.1:80", NULL, NULL}, {"example.com:80", NULL, NULL},
      {"Localhost:80", NULL, NULL}, {"[fe80::1%lo]:80", NULL, NULL},
      {"1111:2222:3333:4444:5555:6666:7777:8888:9999:1", NULL, NULL}};
  for (size_t i = 0; i < PF_COUNT(cases); i++) {
    struct pf_listen_addr addr;
    struct pf_error why = {0};
    int err = pf_listen_addr_parse(&addr, cases[i].text, &why);
    if (err != (cases[i].printed ? PF_OK : PF_EINVAL)) fail_msg("%d for '%s'", err, cases[i].text);
    if (err) {
      assert_non_null(strstr(why.text, "ADDR:PORT"));
      continue;
    }
    const char *const expected[] = {cases[i].printed, cases[i].second};
    assert_int_equal(addr.count, cases[i].second ? 2 : 1);
    for (unsigned k = 0; k < addr.count; k++) {
      char text[PF_ADDR_TEXT];
      struct sockaddr *one = (struct sockaddr *)&addr.addr[k];
      pf_sockaddr_print(text, one);
      assert_string_equal(text, expected[k]);
      assert_int_equal(pf_sockaddr_port(one), addr.port);
      pf_sockaddr_set_port(one, 4711);
      assert_int_equal(pf_sockaddr_port(one), 4711);
      assert_int_equal(pf_sockaddr_len(one),
          one->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_defaults, reset_environment),
      cmocka_unit_test_setup(test_every_type_on_the_command_line, reset_environment),
      cmocka_unit_test_setup(test_words_of_flags, reset_environment),
      cmocka_unit_test_setup(test_precedence, reset_environment),
      cmocka_unit_test_setup(test_bad_values_name_option_and_source, reset_environment),
      cmocka_unit_test_setup(test_unknown_and_incomplete, reset_environment),
      cmocka_unit_test_setup(test_numbers_at_their_limits, reset_environment),
      cmocka_unit_test_setup(test_value_length_at_its_limit, reset_environment),
      cmocka_unit_test_setup(test_list_at_its_limit, reset_environment),
      cmocka_unit_test_setup(test_file_size_at_its_limit, reset_environment),
      cmocka_unit_test_setup(test_operands, reset_environment),
      cmocka_unit_test(test_addresses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
