#include "origin_fixture.h"

int main(void) {
  return origin_fetch_tests() + origin_end_tests() + origin_session_tests() +
         origin_submit_tests() + origin_stored_tests() + origin_actor_tests();
}
