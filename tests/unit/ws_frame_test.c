/* WebSocket frames of clients/ws/ws_frame.h, and the URLs of ws_client.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ws/ws_client.h"
#include "clients/ws/ws_frame.h"

#define BYTES_MAX 70000

/* Undoes the mask and the direction, so that the decoder can read what the encoder wrote. */
static void unmask(struct pf_buf *buf) {
  unsigned char *p = (unsigned char *)buf->data;
  assert_true(p[1] & 0x80);
  p[1] &= 0x7f;
  size_t header = p[1] < 126 ? 2 : p[1] == 126 ? 4 : 10;
  unsigned char mask[4];
  memcpy(mask, p + header, 4);
  memmove(p + header, p + header + 4, buf->len - header - 4);
  buf->len -= 4;
  for (size_t i = header; i < buf->len; i++)
    p[i] ^= mask[(i - header) & 3];
}

static void what_is_encoded_is_decoded(void **state) {
  (void)state;
  static const size_t lengths[] = {0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, BYTES_MAX};
  char *text = pf_alloc(BYTES_MAX);
  for (size_t i = 0; i < BYTES_MAX; i++)
    text[i] = (char)(i * 7);
  for (size_t i = 0; i < PF_COUNT(lengths); i++) {
    struct pf_buf buf;
    struct ws_frame frame;
    pf_buf_init(&buf, PF_BUF_MAX_DEFAULT);
    ws_frame_encode(&buf, WS_TEXT, pf_slice(text, lengths[i]), 0xa1b2c3d4);
    unmask(&buf);
    for (size_t part = 0; part < buf.len && part < 12; part++)
      assert_int_equal(ws_frame_decode(&frame, pf_slice(buf.data, part), BYTES_MAX), 0);
    assert_int_equal(ws_frame_decode(&frame, pf_slice(buf.data, buf.len - 1), BYTES_MAX), 0);
    assert_int_equal(ws_frame_decode(&frame, pf_buf_view(&buf), BYTES_MAX), buf.len);
    assert_int_equal(frame.opcode, WS_TEXT);
    assert_true(frame.final);
    assert_int_equal(frame.payload.len, lengths[i]);
    assert_memory_equal(frame.payload.data, text, lengths[i]);
    pf_buf_done(&buf);
  }
  free(text);
}

static void the_mask_is_applied(void **state) {
  (void)state;
  struct pf_buf buf;
  pf_buf_init(&buf, 1000);
  ws_frame_encode(&buf, WS_TEXT, pf_slice_str("AAAAAAAAAAA"), 0x01010101);
  assert_int_equal(buf.len, 2 + 4 + 11);
  assert_memory_equal(buf.data + 6, "@@@@@@@@@@@", 11);
  pf_buf_done(&buf);
}

static int64_t decode(const char *bytes, size_t len, size_t max) {
  struct ws_frame frame;
  return ws_frame_decode(&frame, pf_slice(bytes, len), max);
}
#define DECODE(text, max) decode(text, sizeof(text) - 1, max)

static void what_a_server_must_not_send_is_refused(void **state) {
  (void)state;
  assert_int_equal(DECODE("\x81\x80", 10), PF_EINVAL);           /* masked */
  assert_int_equal(DECODE("\xc1\x00", 10), PF_EINVAL);           /* reserved bit: compression */
  assert_int_equal(DECODE("\x83\x00", 10), PF_EINVAL);           /* reserved data opcode */
  assert_int_equal(DECODE("\x8b\x00", 10), PF_EINVAL);           /* reserved control opcode */
  assert_int_equal(DECODE("\x09\x00", 10), PF_EINVAL);           /* fragmented ping */
  assert_int_equal(DECODE("\x89\x7e\x00\x7e", 1000), PF_EINVAL); /* long ping */
}

static void the_maximum_holds(void **state) {
  (void)state;
  assert_int_equal(DECODE("\x81\x03"
                          "abc",
                       3),
      5);
  assert_int_equal(DECODE("\x81\x04"
                          "abcd",
                       3),
      PF_ELIMIT);
  assert_int_equal(DECODE("\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 1000), PF_ELIMIT);
}

static void urls_are_taken_apart(void **state) {
  (void)state;
  static const struct {
    const char *text, *host, *port, *path;
  } good[] = {
      {"ws://localhost:8787/", "localhost", "8787", "/"},
      {"ws://localhost:8787", "localhost", "8787", "/"},
      {"http://127.0.0.1", "127.0.0.1", "80", "/"},
      {"ws://[::1]:9/actors/proxy/a?x=1", "::1", "9", "/actors/proxy/a?x=1"},
      {"ws://[::1]/", "::1", "80", "/"},
      {"ws://h:1?q", "h", "1", "/?q"},
  };
  for (size_t i = 0; i < PF_COUNT(good); i++) {
    struct ws_url url;
    assert_int_equal(ws_url_parse(&url, good[i].text, NULL), PF_OK);
    assert_string_equal(url.host, good[i].host);
    assert_string_equal(url.port, good[i].port);
    assert_string_equal(url.path, good[i].path);
  }
  static const char *const bad[] = {"", "localhost:8787", "wss://h/", "https://h/", "ws://",
      "ws://:80/", "ws://h:/", "ws://h:x/", "ws://h:123456789/", "ws://u@h/", "ws://h/ x",
      "ws://h/#f", "ws://[::1/", "ws://[::1]x/", "ws://h/\r\nX: y"};
  for (size_t i = 0; i < PF_COUNT(bad); i++) {
    struct ws_url url;
    assert_int_equal(ws_url_parse(&url, bad[i], NULL), PF_EINVAL);
  }
}

static void url_parts_are_bounded(void **state) {
  (void)state;
  char text[WS_CLIENT_HOST_MAX + WS_CLIENT_PATH_MAX + 64];
  struct ws_url url;
  for (int over = 0; over <= 1; over++) {
    int host_len = WS_CLIENT_HOST_MAX - 1 + over;
    snprintf(text, sizeof(text), "ws://%0*d/", host_len, 0);
    assert_int_equal(ws_url_parse(&url, text, NULL), over ? PF_EINVAL : PF_OK);
    int path_len = WS_CLIENT_PATH_MAX - 2 + over;
    snprintf(text, sizeof(text), "ws://h/%0*d", path_len - 1, 0);
    assert_int_equal(ws_url_parse(&url, text, NULL), over ? PF_EINVAL : PF_OK);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_encoded_is_decoded),
      cmocka_unit_test(the_mask_is_applied),
      cmocka_unit_test(what_a_server_must_not_send_is_refused),
      cmocka_unit_test(the_maximum_holds),
      cmocka_unit_test(urls_are_taken_apart),
      cmocka_unit_test(url_parts_are_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
